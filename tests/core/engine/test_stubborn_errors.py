"""Exceptions that refuse what one does to exceptions are failures like any other."""

from __future__ import annotations

import logging
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from shared.stubborn_errors import STUBBORN, stubborn

from stepfunction import ProcessLanes, RetryPolicy, StepFunction, StepFunctionError

EVERY = pytest.mark.parametrize("how", STUBBORN)


def fail(how):
    raise stubborn(how)


async def fail_later(how):
    raise stubborn(how)


def same(value):
    return value


def one_and_failing(how):
    yield 1
    fail(how)


def handled(error):
    return "handled"


def nested():
    return StepFunction("In").add_step("X", fail).set_start_step("X")


RETRY = RetryPolicy(2, interval=0)
# Steps that fail, which the workflow takes.
FAILING = {
    "a call": lambda flow: flow.add_step("A", fail),
    "a thread": lambda flow: flow.add_step("A", fail, executor="thread", timeout=20),
    "a retry": lambda flow: flow.add_step("A", fail, retry=RETRY),
    "a coroutine": lambda flow: flow.add_step("A", fail_later),
    "a nested workflow": lambda flow: flow.add_step("A", nested()),
    "tasks": lambda flow: flow.add_step(
        "A", {"fail": fail, "same": same}, parallel=True, stop_on_failure=True
    ),
    "items": lambda flow: flow.add_map_step("A", fail, items=lambda how: [how] * 3),
    "a batch": lambda flow: flow.add_map_step(
        "A", fail, items=lambda how: [how] * 3, batch_size=2
    ),
    "items=": lambda flow: flow.add_map_step("A", same, items=fail),
    "an iterator": lambda flow: flow.add_map_step("A", same, items=one_and_failing),
    "a branch": lambda flow: flow.add_step(
        "A", same, branch=fail, branch_targets=["Caught"]
    ),
    "a condition": lambda flow: flow.add_step("A", same, branch=[(fail, "Caught")]),
    "seconds=": lambda flow: flow.add_wait_step("A", seconds=fail),
    "a compensation": lambda flow: flow.add_step(
        "A", same, branch=fail, branch_targets=["Caught"], compensate=fail
    ),
}


def ended(flow, how):
    """Execute in the background, for it might hang; give the execution."""
    execution = flow.set_start_step("A").start(how)
    assert execution.wait(20)
    return execution


def assert_shown(execution):
    """What happened can be read, written and drawn."""
    assert "A" in repr(execution.history) and repr(execution)
    assert execution.to_json()
    assert execution.to_dot()
    assert execution.context["A"] is not None
    try:
        execution.raise_if_failed()
    except StepFunctionError as error:
        assert str(error)


@EVERY
@pytest.mark.parametrize("where", FAILING)
def test_it_is_a_failure_wherever_it_is_raised(where, how, monkeypatch):
    died = []
    monkeypatch.setattr(threading, "excepthook", died.append)
    flow = StepFunction("W", on_failure="Caught").add_step("Caught", handled)
    FAILING[where](flow)
    execution = ended(flow, how)
    assert execution.output == "handled"
    assert execution.failures[0].step == "A"
    assert died == []
    assert_shown(execution)


@EVERY
@pytest.mark.parametrize("make", [None, ThreadPoolExecutor], ids=["", "pool"])
def test_it_is_tolerated_as_any_other(make, how):
    pool = make and make(2)
    tasks = {"fail": fail, "same": same}
    flow = StepFunction("W")
    flow.add_step("A", tasks, parallel=True, executor=pool or "thread")
    execution = ended(flow, how)
    assert execution.output["same"] == how
    assert issubclass(type(execution.output["fail"]), Exception)
    assert_shown(execution)
    if pool is not None:
        assert pool.submit(same, 1).result(20) == 1
        pool.shutdown()


@pytest.fixture(scope="module")
def lanes():
    with ProcessLanes(1) as lanes:
        yield lanes


@EVERY
def test_it_comes_back_from_a_process(lanes, how):
    flow = StepFunction("W")
    flow.add_step("A", {"fail": fail}, parallel=True, executor=lanes)
    execution = ended(flow, how)
    assert issubclass(type(execution.output["fail"]), Exception)
    assert_shown(execution)


@EVERY
def test_it_is_logged(how, caplog, monkeypatch):
    monkeypatch.setattr(logging, "raiseExceptions", False)  # of its traceback
    caplog.set_level("DEBUG", "stepfunction")
    flow = StepFunction("W", on_failure="Caught").add_step("Caught", handled)
    execution = ended(flow.add_step("A", fail), how)
    assert execution.output == "handled"
