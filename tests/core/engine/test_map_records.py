from __future__ import annotations

import gc
import pickle
import threading
import time
import weakref

import pytest
from shared.calls import double
from shared.maps import (
    HERE,
    ONCE_MORE,
    SIZES,
    Live,
    fail,
    fail_at_threes,
    mapped,
    tasks_of,
)

from stepfunction import ExecutionCancelledError, RetryPolicy, Status


def fail_at_first(value, context):
    if context.attempt == 1:
        raise ConnectionError(context.item)
    return context.attempt


def test_of_many_items_the_first_and_the_notable_have_records():
    def work(item, context):
        if item == 1500 and context.attempt == 1:
            raise ConnectionError
        return fail(item) if item in (1200, 1800) else item

    policy = RetryPolicy(max_attempts=2, interval=0, retry_on=ConnectionError)
    execution = mapped(work, executor="inline", retry=policy).execute(range(2000))
    tasks = [record.item for record in tasks_of(execution)]
    assert tasks == [*range(1000), 1200, 1500, 1800]


def test_items_that_never_began_have_no_times():
    live = Live()

    def work(item):
        live.execution.cancel()
        return fail(item)

    with pytest.raises(ExecutionCancelledError) as caught:
        mapped(work, executor="inline").execute([0, 1], listeners=[live])
    (first,) = tasks_of(caught.value.execution)
    assert first.item == 0
    assert len(first.attempts) == 1


@pytest.mark.parametrize("batch_size", SIZES)
@pytest.mark.parametrize("sized", [True, False])
def test_progress_ends_with_all(batch_size, sized):
    live = Live()
    items = range(50) if sized else iter(range(50))
    workflow = mapped(lambda item: time.sleep(0.01), batch_size=batch_size)
    workflow.execute(items, listeners=[live], executor="inline")
    told = live.of_kind("step_progressed")
    assert {event.step for event in told} == {"Map"}
    assert 2 <= len(told) <= 7
    done = [event.done for event in told]
    assert done == sorted(done)
    assert (told[-1].done, told[-1].total) == (50, 50)
    assert told[0].total == (50 if sized else None)


def test_without_items_progress_is_told_once():
    live = Live()
    mapped(double).execute([], listeners=[live])
    (told,) = live.of_kind("step_progressed")
    assert (told.done, told.total) == (0, 0)


@pytest.mark.parametrize("executor", HERE)
@pytest.mark.parametrize("batch_size", SIZES)
def test_of_items_only_their_troubles_are_told(executor, batch_size):
    live = Live()

    def work(item, context):
        if item == 1:
            fail(item)
        return fail_at_first(item, context) if item == 2 else item

    workflow = mapped(work, executor=executor, batch_size=batch_size, retry=ONCE_MORE)
    workflow.execute(range(5), listeners=[live])
    told = [event for event in live.events if event.item is not None]
    assert sorted((event.kind, event.item) for event in told) == [
        ("task_failed", 1),
        ("task_retried", 1),
        ("task_retried", 2),
        ("task_started", 1),
        ("task_started", 2),
        ("task_succeeded", 2),
    ]
    (failed,) = live.of_kind("task_failed")
    assert str(failed.error) == "cannot take 1"
    assert [attempt.number for attempt in failed.attempts] == [1, 2]


def test_a_listener_may_cancel_as_soon_as_it_hears_of_progress():
    def listener(event):
        if event.kind == "step_progressed":
            event.execution.cancel()

    workflow = mapped(lambda item: time.sleep(0.005), max_workers=2)
    with pytest.raises(ExecutionCancelledError):
        workflow.execute(range(10_000), listeners=[listener])


def test_an_execution_with_a_map_survives_pickling():
    execution = mapped(fail_at_threes, batch_size=2).execute(range(5))
    again = pickle.loads(pickle.dumps(execution))
    assert again.status is Status.COMPLETED
    assert again.output[4] == 4
    assert sorted(again.output.failed) == [0, 3]
    assert [record.item for record in again.history] == [None, 0, 3]
    assert [record.input for record in again.history][1:] == [0, 3]


def test_an_execution_with_items_that_cannot_travel_survives_pickling():
    lock = threading.Lock()
    execution = mapped(lambda item: item).execute([1, lock])
    again = pickle.loads(pickle.dumps(execution))
    assert [record.output for record in again.history][1] == 1
    assert "lock" in again.history[2].input.text


class Thing:
    pass


@pytest.mark.parametrize("executor", HERE)
@pytest.mark.parametrize("batch_size", SIZES)
def test_items_are_let_go_with_the_execution(executor, batch_size):
    things = [Thing() for _ in range(5)]
    alive = weakref.ref(things[2])
    workflow = mapped(id, executor=executor, batch_size=batch_size)
    workflow.execute(things)
    del things
    workflow.execute([])  # it keeps a reference to the latest
    gc.collect()
    assert alive() is None
