"""Calls that hang, and what became of them."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time

from shared.processes import tell, wait_for

from stepfunction import RetryPolicy, StepFunction

LIMIT = 0.05
LONG = 600  # no test waits for that
released = threading.Event()  # never set in a worker process


def hang(value=None):
    released.wait(LONG)


def hang_with_a_child(path):
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    tell(path, f"{os.getpid()} {child.pid}")
    hang()


def pids_in(path):
    wait_for(path)
    return [int(number) for number in path.read_text().split()]


def one(func, timeout=LIMIT, **arguments):
    workflow = StepFunction("Shop").add_step("Ask", func, timeout=timeout, **arguments)
    return workflow.set_start_step("Ask")


def outcomes(attempts):
    return [attempt.outcome for attempt in attempts]


def tasks_of(execution):
    return {r.task: r for r in execution.history if r.task is not None}


def nested_of(func, **arguments):
    """Give a workflow of a step, one that must not follow, and one that fails."""
    workflow = StepFunction("Inner").set_start_step("Inside")
    arguments.setdefault("executor", "thread")
    workflow.add_step("Inside", func, "Never", "Never", **arguments)
    return workflow.add_step("Never", reach)


def reach(value):
    reached.append(value)


reached = []


def until_told(value, context):
    while not context.cancelled:
        released.wait(0.002)


def fail_again(value):
    raise ConnectionError("down")


FOR_EVER = RetryPolicy(2, interval=LONG, jitter=None)
INSIDE = {
    "plain": dict(func=until_told, executor=None),
    "thread": dict(func=hang),
    "tasks": dict(func={"a": hang, "b": hang}, parallel=True),
    "process": dict(func=hang, executor="process"),
    "pause": dict(func=fail_again, executor=None, retry=FOR_EVER),
    "pause of a thread": dict(func=fail_again, retry=FOR_EVER),
    "nested": dict(func=nested_of(hang), executor=None),
    "nested on a thread": dict(func=nested_of(hang)),
}


def take_longer(value):
    time.sleep(2 * LIMIT)
    return value
