"""Parallel steps, what their tasks do, and the places where they run."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from shared.calls import same

from stepfunction import RetryPolicy, StepFunction

ONCE_MORE = RetryPolicy(max_attempts=2, interval=0)


def negate(value):
    return -value


def fail(value):
    raise ValueError(f"cannot take {value}")


def touch(folder, context):
    Path(folder, context.task).touch()


def leave_a_line(folder):
    descriptor = os.open(
        Path(folder, "lines"), os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644
    )
    os.write(descriptor, b"line\n")
    os.close(descriptor)


def fan_out(tasks, **arguments):
    workflow = StepFunction("W").add_step("Fan", tasks, parallel=True, **arguments)
    if arguments.get("on_failure"):
        workflow.add_step("Caught", same)
    return workflow.set_start_step("Fan")


def one_step(func, **arguments):
    return StepFunction("W").add_step("Step", func, **arguments).set_start_step("Step")


# "process" is ProcessLanes of one execution, and dear to start: a few tests have it.
IN_THREADS = ["thread", "ThreadPoolExecutor"]
IN_PROCESSES = ["ProcessLanes", "ProcessPoolExecutor"]
IN_LANES = ["process", "ProcessLanes"]
ELSEWHERE = [*IN_THREADS, *IN_PROCESSES]
PLACES = ["inline", *ELSEWHERE]
ALL_PLACES = ["process", *PLACES]


def at(places):
    return pytest.mark.parametrize("executor", places, indirect=True)
