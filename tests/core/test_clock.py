"""With the clock stopped, as people do in tests: by freezegun and by time-machine."""

from __future__ import annotations

import asyncio
import sqlite3
import subprocess
import sys
import time
from datetime import datetime, timezone

import pytest
import tenacity
import time_machine
from freezegun import freeze_time
from freezegun.config import settings
from shared.calls import double
from shared.stores import Death, DyingStore, MemoryStore

from stepfunction import (
    Execution,
    Outcome,
    ProcessLanes,
    RetryPolicy,
    Status,
    StepFunction,
    StepTimeoutError,
    StoreError,
)
from stepfunction.stores import SQLiteStore, link

MOMENT = datetime(2012, 1, 14, 3, 21, 34, tzinfo=timezone.utc)
SOON = RetryPolicy(3, interval=0.02)
LONG = 30  # seconds in which nothing here may end


def travel(moment):
    return time_machine.travel(moment, tick=False)


freezes = pytest.mark.parametrize("freeze", [freeze_time, travel])


@pytest.fixture(params=["freezegun", "time-machine"])
def stopped(request):
    assert not any(name.startswith("stepf") for name in settings.default_ignore_list)
    if request.param == "freezegun":
        with freeze_time(MOMENT) as clock:
            yield clock
    else:
        with time_machine.travel(MOMENT, tick=False) as clock:
            yield clock


def alone(function, **options):
    workflow = StepFunction("Alone").add_step("Only", function, **options)
    return workflow.set_start_step("Only")


def fan(function, **options):
    tasks = {"a": function, "b": function}
    workflow = StepFunction("Fan").add_parallel_step("All", tasks, **options)
    return workflow.set_start_step("All")


def each(function, **options):
    workflow = StepFunction("Each")
    workflow.add_map_step("Items", function, items=lambda n: [n, n], **options)
    return workflow.set_start_step("Items")


def pause(**options):
    workflow = StepFunction("Pause").add_wait_step("Wait", **options)
    return workflow.set_start_step("Wait")


def at_third(number, context):
    if context.attempt < 3:
        raise ConnectionError(f"attempt {context.attempt}")
    return 2 * number


def refuse(_):
    raise ConnectionError


def beat(number, context):
    context.heartbeat()
    return 2 * number


def until_cancelled(_, context):
    context.sleep(LONG)


calls = []


def at_second_call(number):
    calls.append(number)
    if len(calls) == 1:
        raise KeyboardInterrupt
    return number


async def nap(number):
    await asyncio.sleep(0.02)
    return 2 * number


async def nap_too_long(_):
    await asyncio.sleep(LONG)


QUICK = {
    "a call": lambda: alone(double),
    "a thread": lambda: alone(double, executor="thread", timeout=LONG),
    "a process": lambda: alone(double, executor="process", timeout=LONG),
    "a heartbeat": lambda: alone(beat, executor="process", heartbeat=LONG),
    "a coroutine": lambda: alone(nap, executor="thread", timeout=LONG),
    "a coroutine here": lambda: alone(nap),
    "a retry": lambda: alone(at_third, retry=SOON),
    "a retry in a process": lambda: alone(at_third, executor="process", retry=SOON),
    "tasks": lambda: fan(double, timeout=LONG),
    "tasks in processes": lambda: fan(double, executor="process", timeout=LONG),
    "tasks tried again": lambda: fan(at_third, retry=SOON),
    "items": lambda: each(double, timeout=LONG),
    "items in processes": lambda: each(double, executor="process", timeout=LONG),
    "items tried again": lambda: each(at_third, retry=SOON),
}


@pytest.mark.parametrize("what", QUICK)
def test_what_is_quick_goes_on_as_ever(stopped, what):
    execution = QUICK[what]().execute(1, timeout=LONG)
    assert execution.status is Status.COMPLETED
    assert execution.output in (2, [2, 2], {"a": 2, "b": 2})
    assert 0 <= execution.duration < LONG
    assert all(0 <= record.duration < LONG for record in execution.history)


def test_a_wait_step_waits(stopped):
    execution = pause(seconds=0.05).execute()
    assert execution.status is Status.COMPLETED
    assert execution.duration >= 0.05


def test_a_moment_that_has_come_by_the_stopped_clock_is_not_waited_for(stopped):
    assert pause(until=MOMENT).execute().duration < LONG


@pytest.mark.parametrize("executor", ["thread", "process"])
def test_a_timeout_is_reached(stopped, executor):
    workflow = alone(until_cancelled, executor=executor, timeout=0.2)
    execution = workflow.start(1)
    assert execution.wait(LONG)
    assert isinstance(execution.error, StepTimeoutError)
    assert 0.2 <= execution.duration < LONG


def test_the_timeout_of_a_coroutine_is_reached(stopped):
    execution = alone(nap_too_long, executor="thread", timeout=0.1).start(1)
    assert execution.wait(LONG)
    assert isinstance(execution.error, StepTimeoutError)


def test_a_heartbeat_is_missed(stopped):
    execution = alone(until_cancelled, executor="process", heartbeat=0.3).start(1)
    assert execution.wait(LONG)
    assert [it.outcome for it in execution.history] == [Outcome.TIMED_OUT]


def test_the_limit_of_an_execution_is_reached(stopped):
    execution = pause(seconds=LONG).start(timeout=0.1)
    assert execution.wait(LONG)
    assert execution.status is Status.TIMED_OUT
    assert 0.1 <= execution.duration < LONG


def test_the_limit_of_a_stored_execution_is_reached(stopped):
    execution = pause(seconds=LONG).start(timeout=0.1, store=MemoryStore())
    assert execution.wait(LONG)
    assert execution.status is Status.TIMED_OUT


def test_waiting_for_an_execution_ends(stopped):
    execution = pause(seconds=LONG).start()
    assert not execution.wait(0.05)
    execution.cancel()
    assert execution.wait(LONG)


def test_results_of_lanes_are_not_waited_for_longer_than_was_said(stopped):
    with ProcessLanes(1) as lanes, pytest.raises(TimeoutError):
        list(lanes.map(time.sleep, [0.15] * 4, timeout=0.2))


@pytest.mark.parametrize("workflow", [alone(double), pause(seconds=0.02)])
def test_an_awaited_execution_ends(stopped, workflow):
    execution = asyncio.run(workflow.aexecute(1, timeout=LONG))
    assert execution.status is Status.COMPLETED


@pytest.mark.parametrize("store", [None, MemoryStore()])
def test_it_started_when_the_stopped_clock_says(stopped, store):
    execution = alone(double).execute(1, store=store)
    assert datetime.fromtimestamp(execution.started, timezone.utc) == MOMENT


def test_when_a_step_started_is_counted_from_there(stopped):
    record = alone(double).execute(1).history[0]
    assert 0 <= record.started - MOMENT.timestamp() < LONG


def test_it_started_when_the_clock_said_that_was_moved_on(stopped):
    workflow = alone(double)
    workflow.execute(1)
    stopped.move_to("2013-05-01T00:00:00+00:00")
    started = datetime.fromtimestamp(workflow.execute(1).started, timezone.utc)
    assert started == datetime(2013, 5, 1, tzinfo=timezone.utc)


def test_nothing_lasts_less_than_no_time_where_the_clock_was_set_back():
    store, workflow = MemoryStore(), StepFunction("Twice")
    workflow.add_step("One", double, "Two").add_step("Two", at_second_call)
    workflow.set_start_step("One")
    calls.clear()
    with pytest.raises(KeyboardInterrupt):
        workflow.execute(1, store=store, execution_id="one")
    with freeze_time(MOMENT):
        execution = workflow.resume("one", store=store)
    assert execution.status is Status.COMPLETED
    assert execution.duration >= 0
    assert all(record.duration >= 0 for record in execution.history)


@freezes
def test_a_pause_that_was_stored_ends(freeze):
    store, workflow = MemoryStore(), pause(seconds=0.05)
    dying = DyingStore(store, 2)
    with pytest.raises(Death), freeze(MOMENT):
        workflow.execute(store=dying, execution_id="one")
    with freeze(MOMENT):
        execution = workflow.resume("one", store=store)
    assert execution.status is Status.COMPLETED


def test_a_file_that_others_keep_busy_is_given_up(stopped, tmp_path, monkeypatch):
    path = tmp_path / "runs.db"
    store = SQLiteStore(path)
    alone(double).execute(1, store=store)
    monkeypatch.setattr(link, "PATIENCE", 0.05)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("begin immediate")
    with pytest.raises(StoreError):
        alone(double).execute(1, store=store)
    other.close()


IMPORTED_MEANWHILE = """\
from freezegun import freeze_time
with freeze_time("2012-01-14", tick=False):
    from stepfunction import RetryPolicy, StepFunction
    def fail(_, context):
        if context.attempt < 3:
            raise ConnectionError
    workflow = StepFunction("Flow")
    retry = RetryPolicy(3, interval=0.02)
    workflow.add_step("S", fail, retry=retry, executor="thread", timeout=30)
    workflow.set_start_step("S")
    print(workflow.execute().started // 1 == 1326499200)
with freeze_time("2013-01-14", tick=False):
    print(workflow.execute().started // 1 == 1358121600)
print(workflow.execute().started > 1358121600 + 1)
"""


def test_it_may_be_imported_while_the_clock_stands():
    done = subprocess.run(
        [sys.executable, "-c", IMPORTED_MEANWHILE],
        capture_output=True,
        text=True,
        timeout=50,
    )
    assert (done.stdout.split(), done.stderr) == (["True"] * 3, "")


def test_transcripts_of_values_of_the_stopped_clock_can_be_read():
    with freeze_time(MOMENT):
        text = alone(lambda _: datetime.now(timezone.utc)).execute().to_json()
    assert Execution.from_json(text).output == MOMENT


def test_a_retrying_that_stops_after_some_seconds_stops(stopped):
    soon = tenacity.wait_fixed(0.05)
    retry = tenacity.Retrying(stop=tenacity.stop_after_delay(0.2), wait=soon)
    execution = alone(refuse, retry=retry).start(1)
    assert execution.wait(LONG)
    assert execution.status is Status.FAILED
    assert 0.2 <= execution.duration < LONG
