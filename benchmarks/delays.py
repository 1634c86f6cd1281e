"""How soon tasks are stopped, given up, and their workers replaced.

    python benchmarks/delays.py

There is no baseline: nothing in Python does it. Delays are measured from outside, so
they are never shown shorter than they are.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

from measuring import MILLI, Row, perf_counter, show, timed
from tasks import fail_soon, hang
from threads import fan_out

import stepfunction

ROUNDS = 15
TIMEOUT = 0.1


def kills() -> Iterator[Row]:
    """Stop a running task because another has failed."""
    delays = []
    tasks = {"hangs": hang, "fails": fail_soon}
    with stepfunction.ProcessLanes(2) as lanes:
        workflow = fan_out(tasks, stop_on_failure=True, executor=lanes)
        for _ in range(ROUNDS):
            list(lanes.map(abs, range(20)))
            try:
                workflow.execute()
            except stepfunction.ParallelStepExecutionError as error:
                delays.append(perf_counter() - error.errors["fails"].args[0])
    yield timed("running sibling killed after a failure", delays, MILLI, must=50)


def timeouts() -> Iterator[Row]:
    """Let tasks take too long."""
    with stepfunction.ProcessLanes(1) as lanes:
        for name, executor in (("thread", "thread"), ("process", lanes)):
            workflow = fan_out({"hangs": hang}, executor=executor, timeout=TIMEOUT)
            delays = []
            for _ in range(ROUNDS):
                lanes.submit(abs, 1).result()  # so that its start does not count
                began = perf_counter()
                assert workflow.execute().output.failed
                delays.append(perf_counter() - began - TIMEOUT)
            case = f"timeout of a {name} is late by"
            yield timed(case, delays, MILLI, must=100)


def replacements() -> Iterator[Row]:
    """Call a lane whose worker has died."""
    delays = []
    with stepfunction.ProcessLanes(1) as lanes:
        for _ in range(ROUNDS):
            lanes.submit(os._exit, 1).exception()
            began = perf_counter()
            lanes.submit(abs, 1).result()
            delays.append(perf_counter() - began)
    yield timed("answer of a lane that is replaced", delays, MILLI, must=150)


MEASURES = (kills, timeouts, replacements)

if __name__ == "__main__":
    show(*MEASURES)
