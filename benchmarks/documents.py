"""What it costs to define a large workflow, check it, write it as JSON and read it.

    python benchmarks/documents.py
"""

from __future__ import annotations

import gc
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

from chain import chain_of, distinct_functions
from measuring import MICRO, MILLI, Row, Times, compared, seconds_of, show, timed

import stepfunction

FEW, MANY = 10_000, 40_000


def writing() -> Iterator[Row]:
    """Define, check and write."""
    whole = written(FEW, units=1)
    case = f"defining, checking and to_json of {FEW:,} steps"
    yield timed(case, whole, MILLI, must=1_000, aim=250)
    gc.disable()  # for it looks again and again at all that there is
    times = Times(written(MANY, MANY), written(FEW, FEW))
    gc.enable()
    case, against = f"  a step of {MANY:,}, uncollected", f"of {FEW:,}"
    yield compared(case, against, times, must=1.3)


def written(count: int, units: int) -> list[float]:
    functions = distinct_functions(count)
    registry = stepfunction.FunctionRegistry(functions)
    return [seconds_of(partial(write, functions, registry), units) for _ in range(7)]


def write(functions: Mapping[str, Any], registry: stepfunction.FunctionRegistry) -> str:
    workflow = chain_of(functions)
    workflow.validate()
    return workflow.to_json(registry)


def reading() -> Iterator[Row]:
    """Read what was written, without checking it as a whole."""
    functions = distinct_functions(FEW)
    text = write(functions, stepfunction.FunctionRegistry(functions))
    read = partial(stepfunction.StepFunction.from_json, text, functions)
    seconds = [seconds_of(read, FEW) for _ in range(7)]
    yield timed(f"from_json, a step of {FEW:,}", seconds, MICRO, must=60, aim=30)


MEASURES = (writing, reading)

if __name__ == "__main__":
    show(*MEASURES)
