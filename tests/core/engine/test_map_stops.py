from __future__ import annotations

import signal
import threading
import time

import pytest
from shared.maps import HERE, SIZES, Live, mapped, tasks_of, threads_of

from stepfunction import (
    ExecutionCancelledError,
    ExecutionTimeoutError,
    Outcome,
    RetryPolicy,
    Status,
    StepTimeoutError,
)


def outcomes_of(execution):
    return {record.item: str(record.outcome) for record in tasks_of(execution)}


# --- timeout ------------------------------------------------------------------------


@pytest.mark.parametrize("batch_size", SIZES)
def test_an_item_that_takes_too_long_in_a_thread_is_abandoned(batch_size):
    never = threading.Event()

    def work(item):
        if item == 2:
            never.wait(20)
        return item

    workflow = mapped(work, timeout=0.2, batch_size=batch_size, max_workers=1)
    try:
        execution = workflow.execute(range(5))
    finally:
        never.set()
    assert [*execution.output.failed] == [2]
    assert isinstance(execution.output[2], StepTimeoutError)
    assert "item 2 of step 'Map': attempt 1 took longer" in str(execution.output[2])
    assert outcomes_of(execution)[2] == "ABANDONED"
    assert [*execution.output[:2], *execution.output[3:]] == [0, 1, 3, 4]


def test_the_time_of_an_item_does_not_count_while_it_waits_for_a_thread():
    def work(item):
        time.sleep(0.03)
        return item

    workflow = mapped(work, timeout=0.25, max_workers=1, batch_size=20)
    assert workflow.execute(range(20)).output == list(range(20))


def test_inline_a_limit_is_measured_only(caplog):
    workflow = mapped(lambda item: time.sleep(0.01), timeout=0.001, batch_size=2)
    assert workflow.execute(range(3), executor="inline").output == [None] * 3
    assert "timeouts are not enforced" in caplog.text


# --- cancelling ---------------------------------------------------------------------


@pytest.mark.parametrize("executor", HERE)
@pytest.mark.parametrize("batch_size", [1, 100])
@pytest.mark.parametrize("sized", [True, False])
def test_cancelling_begins_no_other_item(executor, batch_size, sized):
    live, seen = Live(), []

    def work(item):
        seen.append(item)
        if item == 3:
            live.execution.cancel()
        return item

    workflow = mapped(work, executor=executor, batch_size=batch_size, max_workers=1)
    items = list(range(500))
    with pytest.raises(ExecutionCancelledError) as caught:
        workflow.execute(items if sized else iter(items), listeners=[live])
    execution = caught.value.execution
    assert execution.status is Status.CANCELLED
    assert seen == [0, 1, 2, 3]
    assert execution.history[0].outcome is Outcome.CANCELLED
    assert execution.history[0].output is None
    assert not threads_of("Map")


@pytest.mark.parametrize("batch_size", [1, 100])
def test_cancelling_is_told_to_threads(batch_size):
    live, began = Live(), threading.Event()

    def work(item, context):
        began.set()
        live.execution.cancel()
        context.sleep(60)

    workflow = mapped(work, batch_size=batch_size)
    with pytest.raises(ExecutionCancelledError):
        workflow.execute(range(500), listeners=[live])
    assert not threads_of("Map")


@pytest.mark.parametrize("batch_size", [1, 500])
def test_the_time_of_the_execution_ends_an_inline_map(batch_size):
    seen = []

    def work(item):
        seen.append(item)
        time.sleep(0.005)

    workflow = mapped(work, executor="inline", batch_size=batch_size)
    with pytest.raises(ExecutionTimeoutError) as caught:
        workflow.execute(range(500), timeout=0.05)
    assert len(seen) < 400
    assert caught.value.execution.status is Status.TIMED_OUT


@pytest.mark.parametrize("batch_size", [1, 100])
def test_the_time_of_the_execution_ends_a_map_on_threads(batch_size):
    never, seen = threading.Event(), []

    def work(item):
        seen.append(item)
        never.wait(20)

    workflow = mapped(work, batch_size=batch_size, max_workers=2)
    try:
        with pytest.raises(ExecutionTimeoutError) as caught:
            workflow.execute(range(500), timeout=0.1)
    finally:
        never.set()
    execution = caught.value.execution
    assert execution.status is Status.TIMED_OUT
    assert "ABANDONED" in outcomes_of(execution).values()
    for thread in threads_of("Map"):
        thread.join(20)
    assert len(seen) == 2


@pytest.mark.parametrize("executor", HERE)
@pytest.mark.parametrize("batch_size", [1, 100])
def test_an_interrupt_of_the_calling_thread_is_raised_there(executor, batch_size):
    seen, may_end = [], threading.Event()
    main = threading.main_thread().ident

    def work(item):
        seen.append(item)
        if item == 3:
            signal.pthread_kill(main, signal.SIGINT)
            if executor == "thread":
                may_end.wait(20)
        return item

    live = Live()
    workflow = mapped(work, executor=executor, batch_size=batch_size, max_workers=1)
    try:
        with pytest.raises(KeyboardInterrupt):
            workflow.execute(iter(range(500)), listeners=[live])
    finally:
        may_end.set()
    assert live.execution.status is Status.CANCELLED
    for thread in threads_of("Map"):
        thread.join(20)
    assert seen == [0, 1, 2, 3]


@pytest.mark.parametrize("batch_size", [1, 5])
def test_items_that_give_up_are_cancelled_and_what_had_ended_is_kept(batch_size):
    live, began = Live(), threading.Semaphore(0)

    def work(item, context):
        if item % 5 == 0:
            return item
        began.release()
        if item == 6:
            assert began.acquire(timeout=20) and began.acquire(timeout=20)
            live.execution.cancel()
        context.sleep(60)

    workflow = mapped(
        work, batch_size=batch_size, max_workers=2, retry=RetryPolicy(3, interval=0)
    )
    with pytest.raises(ExecutionCancelledError) as caught:
        workflow.execute([0, 1, 0, 0, 0, 5, 6, *[0] * 100], listeners=[live])
    execution = caught.value.execution
    outcomes = outcomes_of(execution)
    assert outcomes.pop(0) == outcomes.pop(5) == "SUCCEEDED"
    assert outcomes.pop(1) == outcomes.pop(6) == "CANCELLED"
    assert set(outcomes.values()) <= {"SUCCEEDED", "CANCELLED"}
    records = {record.item: record for record in tasks_of(execution)}
    assert (records[0].output, records[5].output) == (0, 5)
    assert records[1].error is records[6].error is None
