"""What a step costs that branches, fails, may be retried or is a workflow itself.

    python benchmarks/steps.py

The baseline is the loop of ``chain.py`` with a dict lookup, or with ``try``; or a step
without the feature. Where nobody hears, as here, a failure is not logged.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

from chain import FEW, chain_of, distinct_functions, followers
from measuring import Row, compared, perf_counter, show, take_turns

import stepfunction


def branches() -> Iterator[Row]:
    """Run a chain in which every result decides which step is next."""
    functions = distinct_functions(FEW, "return 'valid'")
    workflow = stepfunction.StepFunction("Branches").set_start_step("f0")
    steps = {}
    for name, follower in followers(functions):
        branch = {"valid": follower or "Last", "invalid": "Last"}
        workflow.add_step(name, functions[name], branch=branch)
        steps[name] = (functions[name], {"valid": follower, "invalid": None})
    workflow.add_step("Last", str)

    def loop() -> Any:
        value: Any = 0
        name: str | None = "f0"
        results, times = {}, {}
        while name is not None:
            func, branch = steps[name]
            t0 = perf_counter()
            value = func(value)
            results[name] = value
            times[name] = (t0, perf_counter())
            name = branch[value]
        return results, times

    times = take_turns(partial(workflow.execute, 0), loop, 60, FEW, repeats=10)
    yield compared("step with a branch", "loop with dict", times, must=1.5, aim=1.2)


def failures() -> Iterator[Row]:
    """Run a chain in which every step fails and its failure step leads on."""
    functions = distinct_functions(FEW, "raise ValueError(value)")
    failure_steps = distinct_functions(FEW, "return 0")
    workflow = stepfunction.StepFunction("Failures").set_start_step("f0")
    steps = []
    for name, follower in followers(functions):
        failure_step = f"{name} failed"
        handle = failure_steps[name]
        workflow.add_step(name, functions[name], follower, on_failure=failure_step)
        workflow.add_step(failure_step, handle, follower)
        steps.append((name, functions[name], failure_step, handle))

    def loop() -> Any:
        value: Any = 0
        results: dict[str, Any] = {}
        times = {}
        for name, func, failure_step, handle in steps:
            t0 = perf_counter()
            try:
                value = func(value)
            except Exception as error:
                results[name] = error
                times[name] = (t0, perf_counter())
                name, t0 = failure_step, perf_counter()
                value = handle(error)
            results[name] = value
            times[name] = (t0, perf_counter())
        return results, times

    times = take_turns(partial(workflow.execute, 0), loop, 60, FEW)
    yield compared("handled failure", "loop with try", times, must=2.5, aim=1.5)


def retries() -> Iterator[Row]:
    """Run steps with a retry policy that they do not need."""
    functions = distinct_functions(FEW)
    policy = stepfunction.RetryPolicy(3)
    times = take_turns(
        partial(chain_of(functions, retry=policy).execute, 0),
        partial(chain_of(functions).execute, 0),
        rounds=60,
        units=FEW,
        repeats=10,
    )
    yield compared("step with RetryPolicy(3)", "plain step", times, must=1.5, aim=1.2)


def nesting() -> Iterator[Row]:
    """Run steps that are workflows of one step."""
    functions = distinct_functions(FEW)
    nested = {name: chain_of({name: func}) for name, func in functions.items()}
    times = take_turns(
        partial(chain_of(nested).execute, 0),
        partial(chain_of(functions).execute, 0),
        rounds=60,
        units=FEW,
        repeats=3,
    )
    yield compared("nested workflow of a step", "plain step", times, must=6, aim=3)


MEASURES = (branches, failures, retries, nesting)

if __name__ == "__main__":
    show(*MEASURES)
