"""What is paid once: the import, the definition of a workflow, and its drawing.

    python benchmarks/start_up.py

A definition is checked as a whole and never run, of functions not seen before.
"""

from __future__ import annotations

import gc
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

from chain import chain_of, distinct_functions
from measuring import (
    CHECKOUT,
    MICRO,
    MILLI,
    Row,
    Times,
    compared,
    quartiles,
    seconds_of,
    seconds_text,
    show,
    take_turns,
    timed,
)

FEW, MANY = 10_000, 40_000


def imports() -> Iterator[Row]:
    """Start Python anew, with and without the import."""
    times = take_turns(
        partial(run_python, "from stepfunction import StepFunction"),
        partial(run_python, "pass"),
        rounds=40,
    )
    ours, baseline = (seconds_text(quartiles(each)[1]) for each in times)
    more = [each / MILLI for each in times.differences()]
    case, against = "python with the import: how much more", "bare python"
    yield Row(case, against, ours, baseline, more, "ms", must=25, aim=18)


def run_python(code: str) -> None:
    environment = dict(os.environ)
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    command = [sys.executable, "-c", code]
    subprocess.run(command, check=True, cwd=CHECKOUT, env=environment)


def definitions() -> Iterator[Row]:
    """Define and check workflows."""
    for kind, make, must, aim in (
        ("distinct functions", distinct_functions, 30, 15),
        ("one function", one_function, 8, 4),
    ):
        case = f"defining a step of {FEW:,}, {kind}"
        yield timed(case, definition(make, FEW), MICRO, must=must, aim=aim)
        gc.disable()  # for it looks again and again at all that there is
        times = Times(definition(make, MANY), definition(make, FEW))
        gc.enable()
        case, against = f"  of {MANY:,}, uncollected", f"of {FEW:,}"
        yield compared(case, against, times, must=1.3)


def definition(make: Callable[[int], Mapping[str, Any]], count: int) -> list[float]:
    return [seconds_of(partial(define, make(count)), count) for _ in range(7)]


def one_function(count: int) -> dict[str, Any]:
    (function,) = distinct_functions(1).values()
    return {f"f{number}": function for number in range(count)}


def define(functions: Mapping[str, Any]) -> Any:
    workflow = chain_of(functions)
    workflow.validate()
    return workflow


def drawings() -> Iterator[Row]:
    """Draw a workflow."""
    count = 1_000
    draw = define(distinct_functions(count)).to_dot
    draw()  # so that the import of pydot does not count
    seconds = [seconds_of(draw, count) for _ in range(15)]
    yield timed(f"to_dot of a step of {count:,}", seconds, MICRO, must=30)


MEASURES = (imports, definitions, drawings)

if __name__ == "__main__":
    show(*MEASURES)
