"""What a step of a chain costs, beside a loop that does the same.

    python benchmarks/chain.py

The loop keeps each result and two times, as anybody would write it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

from measuring import (
    Row,
    Times,
    bytes_kept,
    compared,
    counted,
    perf_counter,
    seconds_of,
    show,
    take_turns,
)

import stepfunction

Function = Callable[[Any], Any]

FEW, MANY = 1_000, 100_000


def distinct_functions(count: int, body: str = "return value") -> dict[str, Function]:
    """Make functions that share no code, as those of a real workflow do not."""
    namespace: dict[str, Any] = {}
    names = [f"f{number}" for number in range(count)]
    exec("\n".join(f"def {name}(value): {body}" for name in names), namespace)
    return {name: namespace[name] for name in names}


def followers(names: Mapping[str, Any]) -> Iterator[tuple[str, str | None]]:
    """Give each name with the one after it; the last with None."""
    ordered = list(names)
    return zip(ordered, [*ordered[1:], None])


def chain_of(functions: Mapping[str, Any], **arguments: Any) -> Any:
    """Give a workflow of steps that follow each other and are otherwise alike."""
    workflow = stepfunction.StepFunction("Chain").set_start_step(next(iter(functions)))
    for name, follower in followers(functions):
        workflow.add_step(name, functions[name], follower, **arguments)
    return workflow


def half_with_on_failure(functions: Mapping[str, Function]) -> Any:
    workflow = stepfunction.StepFunction("Chain").set_start_step(next(iter(functions)))
    for number, (name, follower) in enumerate(followers(functions)):
        on_failure = "Apologise" if number % 2 else None
        workflow.add_step(name, functions[name], follower, on_failure)
    return workflow.add_step("Apologise", str)


def loop(functions: Mapping[str, Function]) -> Any:
    value: Any = 0
    results, times = {}, {}
    for name, func in functions.items():
        t0 = perf_counter()
        value = func(value)
        results[name] = value
        times[name] = (t0, perf_counter())
    return results, times


def chains() -> Iterator[Row]:
    """Run chains of steps of which every other has an on_failure."""
    times = {}
    for count, rounds, repeats in ((FEW, 60, 10), (MANY, 25, 1)):
        functions = distinct_functions(count)
        run = partial(half_with_on_failure(functions).execute, 0)
        by_hand = partial(loop, functions)
        times[count] = take_turns(run, by_hand, rounds, count, repeats)
    case = f"step of a chain of {FEW:,}"
    yield compared(case, "loop", times[FEW], must=1.5, aim=1)
    case = f"step of a chain of {MANY:,}"
    yield compared(case, "loop", times[MANY], must=1.2, aim=0.8)
    ours, baseline = (bytes_kept(call) / MANY for call in (run, by_hand))
    yield counted("  memory for it", "loop", ours, baseline, "B", aim=200)


def readings() -> Iterator[Row]:
    """Read all of the history and the context of a chain."""
    functions = distinct_functions(MANY)
    workflow = half_with_on_failure(functions)
    times = Times([], [])
    for _ in range(15):
        times.baseline.append(seconds_of(partial(loop, functions), MANY))
        execution = workflow.execute(0)
        times.ours.append(seconds_of(partial(read, execution), MANY))
        del execution
    yield compared("  reading all of it once", "loop", times, must=3, aim=1.5)


def read(execution: Any) -> Any:
    return list(execution.history), dict(execution.context)


MEASURES = (chains, readings)

if __name__ == "__main__":
    show(*MEASURES)
