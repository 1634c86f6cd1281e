from __future__ import annotations

import asyncio
import gc
import logging
import weakref

import pytest

from stepfunction import Outcome, RetryPolicy, Status, StepFunction
from stepfunction.contrib.django import (
    execution_ended,
    execution_started,
    step_ended,
)

SIGNALS = (execution_started, step_ended, execution_ended)


def fail(value):
    raise ValueError("no stock")


def workflow(name="Sale", function=str):
    return StepFunction(name).add_step("Reserve", function).set_start_step("Reserve")


@pytest.fixture
def heard():
    """Listen to all signals, and give what they told."""
    told = []

    def make(kind):
        def hear(sender, execution, event, signal):
            told.append((kind, sender, execution, event))

        return hear

    receivers = [make("started"), make("step"), make("ended")]
    for signal, receiver in zip(SIGNALS, receivers):
        signal.connect(receiver)
    yield told
    for signal, receiver in zip(SIGNALS, receivers):
        signal.disconnect(receiver)


def test_an_execution_is_told_of_from_its_start_to_its_end(heard):
    execution = workflow().execute(1)
    assert [kind for kind, *_ in heard] == ["started", "step", "ended"]
    assert all(it is execution for _, _, it, _ in heard)
    assert {sender for _, sender, _, _ in heard} == {"Sale"}


def test_the_end_tells_the_status_and_the_error(heard):
    with pytest.raises(Exception, match="no stock"):
        workflow(function=fail).execute(1)
    *_, (_, _, execution, event) = heard
    assert event.status is Status.FAILED
    assert str(event.error) == "no stock"


def test_a_step_tells_how_it_ended_once_whatever_was_tried(heard):
    sale = StepFunction("Sale")
    sale.add_step("Pay", fail, retry=RetryPolicy(3, interval=0), on_failure="Sorry")
    sale.add_step("Sorry", str).set_start_step("Pay").execute(1)
    steps = [event for kind, _, _, event in heard if kind == "step"]
    assert [(it.step, it.outcome) for it in steps] == [
        ("Pay", Outcome.FAILED),
        ("Sorry", Outcome.SUCCEEDED),
    ]
    assert len(steps[0].attempts) == 3


def test_steps_of_parallel_tasks_are_told_of_and_tasks_are_not(heard):
    sale = StepFunction("Sale").add_parallel_step("Both", {"a": str, "b": workflow()})
    sale.set_start_step("Both").execute(1)
    steps = [event.step for kind, _, _, event in heard if kind == "step"]
    assert steps == ["Reserve", "Both"]


def test_items_of_a_map_step_are_no_steps(heard):
    sale = StepFunction("Sale").add_map_step("Each", str).set_start_step("Each")
    sale.execute(list(range(100)))
    assert [kind for kind, *_ in heard] == ["started", "step", "ended"]


def test_nested_executions_are_told_of_as_their_own(heard):
    outer = StepFunction("Outer").add_step("In", workflow("Inner"))
    execution = outer.set_start_step("In").execute(1)
    ends = [(sender, it) for kind, sender, it, _ in heard if kind == "ended"]
    inner = [it for sender, it in ends if sender == "Inner"]
    assert inner == [execution.children["In"]]


def test_an_execution_in_another_process_is_told_of_without_itself(heard):
    outer = StepFunction("Outer")
    outer.add_step("In", workflow("Inner"), executor="process")
    outer.set_start_step("In").execute(1)
    inner = [(kind, it) for kind, sender, it, _ in heard if sender == "Inner"]
    assert inner == [("started", None), ("step", None), ("ended", None)]


def test_a_receiver_may_be_async(heard):
    told = []

    async def hear(sender, event, **kwargs):
        told.append(event.status)

    execution_ended.connect(hear)
    try:
        workflow().execute(1)
        asyncio.run(workflow().aexecute(1))
    finally:
        execution_ended.disconnect(hear)
    assert told == [Status.COMPLETED, Status.COMPLETED]


@pytest.mark.parametrize("by", ["name", "workflow"])
def test_a_receiver_may_listen_to_one_workflow(by):
    told = []
    sale = workflow("".join(["Sa", "le"]))

    def hear(sender, **kwargs):
        told.append(sender)

    execution_ended.connect(hear, sender="Sale" if by == "name" else sale)
    try:
        sale.execute(1)
        workflow("Quote").execute(1)
        assert execution_ended.disconnect(hear, sender="Sale")
        sale.execute(1)
    finally:
        execution_ended.disconnect(hear, sender="Sale")
    assert told == ["Sale"]


def test_what_a_receiver_raises_is_logged_and_changes_nothing(caplog, heard):
    def hear(**kwargs):
        raise OSError("no mail")

    step_ended.connect(hear)
    try:
        with caplog.at_level(logging.ERROR):
            assert workflow().execute(1).status is Status.COMPLETED
    finally:
        step_ended.disconnect(hear)
    assert "OSError: no mail" in caplog.text
    assert [kind for kind, *_ in heard] == ["started", "step", "ended"]


def test_executions_in_a_thread_of_their_own_are_told_of(heard):
    execution = workflow().start(1)
    execution.wait()
    assert [kind for kind, *_ in heard] == ["started", "step", "ended"]


def test_a_receiver_that_is_gone_leaves_nobody():
    def hear(**kwargs):
        raise AssertionError

    gone = weakref.ref(hear)
    execution_ended.connect(hear)
    del hear
    gc.collect()
    assert gone() is None
    assert workflow().execute(1).status is Status.COMPLETED


def test_names_that_nobody_listens_to_are_not_kept(heard):
    from stepfunction.contrib.django import signals

    before = len(signals._names)
    for number in range(100):
        workflow(f"Order {number}").execute(1)
    assert len(signals._names) == before
