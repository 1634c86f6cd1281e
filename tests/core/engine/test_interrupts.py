"""Interrupts, and handlers that cancel, at any opcode of the thread that executes."""

from __future__ import annotations

import gc
import logging
import random
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from time import monotonic, sleep

import pytest
from shared.interrupts import Interrupt, raise_interrupt

from stepfunction import (
    ProcessLanes,
    RetryPolicy,
    Status,
    StepFunction,
    StepFunctionError,
)

# As of a coroutine that was made, and then the interrupt came; or of an interrupt that
# came in a finalizer.
pytestmark = pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnraisableExceptionWarning", "ignore:coroutine:RuntimeWarning"
)
SOON = 0.001
MOMENTS = 25  # of each kind of step; a thousand have been tried by hand


def same(value):
    return value


def nap(value):
    sleep(SOON)
    return value


def doze(value, context):
    context.sleep(SOON)
    return value


def fail(value):
    raise ValueError(value)


async def nap_there(value):
    import asyncio

    await asyncio.sleep(SOON)


def several(value):
    return [1, 2, 3]


RETRY = RetryPolicy(3, interval=SOON, jitter=None)
TASKS = {"nap": nap, "same": same, "fail": fail}


def nested():
    inner = StepFunction("In").add_step("X", same, "Y").add_step("Y", doze)
    return inner.set_start_step("X")


def plainly(workflow, executor):
    workflow.add_step("A", same, "B", compensate=same)
    workflow.add_step("B", fail)


def on(workflow, executor):
    workflow.add_step("A", TASKS, parallel=True, executor=executor)


def in_threads(workflow, executor):
    workflow.add_step("A", TASKS, parallel=True, stop_on_failure=True, on_failure="B")
    workflow.add_step("B", same)


def in_time(workflow, executor):
    workflow.add_step("A", doze, executor="thread", timeout=20)


def items(workflow, executor):
    workflow.add_map_step("A", nap, items=several, max_workers=2)


def batches(workflow, executor):
    workflow.add_map_step("A", nap, items=several, batch_size=2)


def waiting(workflow, executor):
    workflow.add_wait_step("A", seconds=SOON)


def retrying(workflow, executor):
    workflow.add_step("A", fail, retry=RETRY)


def retrying_tasks(workflow, executor):
    workflow.add_step("A", {"fail": fail}, parallel=True, retry=RETRY)


def nesting(workflow, executor):
    workflow.add_step("A", {"nested": nested(), "same": same}, parallel=True)


def nesting_in_time(workflow, executor):
    workflow.add_sub_step_function("A", nested(), timeout=20)


def awaiting(workflow, executor):
    workflow.add_step("A", nap_there)


KINDS = {
    plainly: None,
    in_threads: None,
    in_time: None,
    items: None,
    batches: None,
    waiting: None,
    retrying: None,
    retrying_tasks: None,
    nesting: None,
    nesting_in_time: None,
    awaiting: None,
}
EVERY = pytest.mark.parametrize(
    ("add", "kind"),
    [*KINDS.items(), (on, ThreadPoolExecutor), (on, ProcessLanes)],
    ids=lambda it: getattr(it, "__name__", ""),
)


def executed(workflow):
    """Execute it, and give what it raised and its execution."""
    try:
        return None, workflow.execute(1, timeout=30)
    except StepFunctionError as error:
        return error, error.execution


def moments(workflow, how_many):
    """Give opcodes of an execution to come at, and how it ends else."""
    for _ in range(2):  # what is imported or begun once, is
        executed(workflow)
    with Interrupt(10**9, raise_interrupt) as none:
        _, execution = executed(workflow)
    chosen = random.Random(13).sample(range(1, none.count), how_many)
    return chosen, execution.status


def threads_left():
    """Give the threads of executions that have not ended, after a while."""
    end = monotonic() + 10
    while True:
        names = [it.name for it in threading.enumerate() if it.ident is not None]
        left = [it for it in names if it.startswith(("A-", "stepfunction-limit"))]
        if not left or monotonic() > end:
            return left
        sleep(SOON)


@pytest.fixture(autouse=True)
def silence():
    """Log nothing: of logging itself an interrupt may leave a lock held."""
    logger = logging.getLogger("stepfunction")
    logger.setLevel(logging.CRITICAL + 1)
    yield
    logger.setLevel(logging.NOTSET)
    gc.collect()  # of what was interrupted, while no more is said of it


@EVERY
def test_an_interrupt_leaves_nothing_behind_whenever_it_comes(add, kind):
    with ExitStack() as stack:
        executor = stack.enter_context(kind(2)) if kind else None
        workflow = StepFunction("W")
        add(workflow, executor)
        workflow.set_start_step("A")
        how_many = MOMENTS // 3 if kind is ProcessLanes else MOMENTS
        chosen, natural = moments(workflow, how_many)
        for number in chosen:
            workflow._latest = None
            with Interrupt(number, raise_interrupt) as interrupt:
                try:
                    workflow.execute(1, timeout=30)
                except (KeyboardInterrupt, StepFunctionError):
                    pass
            latest = workflow._latest
            if latest is not None and latest.status is not Status.INITIALIZED:
                assert latest.status in (Status.CANCELLED, natural), number
                assert latest.wait(5), number
            assert threads_left() == [], number
            if executor is not None and "submit" not in interrupt.chain:
                # One whose own submit() is interrupted may be of no more use.
                tasks = [executor.submit(same, it) for it in range(4)]
                assert [task.result(10) for task in tasks] == [0, 1, 2, 3], number
            elif kind is ThreadPoolExecutor:
                break


@EVERY
def test_a_handler_may_cancel_whatever_it_interrupts(add, kind):
    with ExitStack() as stack:
        executor = stack.enter_context(kind(2)) if kind else None
        workflow = StepFunction("W")
        add(workflow, executor)
        workflow.set_start_step("A")
        how_many = MOMENTS // 3 if kind is ProcessLanes else MOMENTS
        chosen, natural = moments(workflow, how_many)

        def cancel():
            if workflow._latest is not None:
                workflow._latest.cancel()

        for number in chosen:
            workflow._latest = None
            with Interrupt(number, cancel):
                _, execution = executed(workflow)
            assert execution.status in (Status.CANCELLED, natural), number
            assert threads_left() == [], number


@pytest.mark.parametrize("number", range(100, 1500, 100))
def test_what_an_interrupted_start_began_ends(number):
    workflow = StepFunction("W").add_wait_step("A", seconds=600).set_start_step("A")
    workflow.start(1).cancel()
    with Interrupt(number, raise_interrupt) as interrupt:
        try:
            workflow.start(1)
        except KeyboardInterrupt:
            pass
    latest = workflow._latest
    if "start" not in interrupt.chain:  # it was too late
        latest.cancel()
    if latest.status is not Status.INITIALIZED:
        assert latest.wait(10)
        assert latest.status is Status.CANCELLED
