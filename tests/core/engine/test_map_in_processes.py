from __future__ import annotations

import asyncio
import logging
import os
import pickle
import signal
import sys
import threading
import time
import tracemalloc
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pytest
from shared.calls import double
from shared.failures import failure_of
from shared.maps import nested, tolerant, who

from stepfunction import (
    DefinitionError,
    ExecutionCancelledError,
    ExecutionTimeoutError,
    Outcome,
    ParallelStepExecutionError,
    ProcessLanes,
    RetryPolicy,
    Status,
    StepFunction,
    StepTimeoutError,
    TransferError,
    WorkerCrashedError,
)

ONCE_MORE = RetryPolicy(max_attempts=2, interval=0)
SIZES = [1, 4]


@pytest.fixture(scope="module")
def lanes():
    with ProcessLanes(2) as executor:
        yield executor


def mapped(func, executor="process", **options):
    workflow = StepFunction("Work")
    workflow.add_map_step("Map", func, executor=executor, **tolerant(options))
    return workflow.set_start_step("Map")


def outcomes_of(execution):
    return {
        record.item: str(record.outcome)
        for record in execution.history
        if record.item is not None
    }


def others(output, *failed):
    return [result for at, result in enumerate(output) if at not in failed]


def fail_at_threes(value):
    if value % 3 == 0:
        raise ValueError(f"cannot take {value}")
    return value


async def wait_and_say_who(value, context):
    await asyncio.sleep(0)
    return context.item


def fail_at_first(value, context):
    if value == 2 and context.attempt == 1:
        raise ConnectionError(context.item)
    return context.item, context.attempt


def note(folder, item):
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT
    descriptor = os.open(Path(folder, "lines"), flags, 0o644)
    os.write(descriptor, f"{item}\n".encode())
    os.close(descriptor)


def noted(folder):
    path = Path(folder, "lines")
    return Counter(map(int, path.read_text().split())) if path.exists() else Counter()


def crash_slowly_at_five(item, folder):
    note(folder, item)
    time.sleep(0.002)
    if item == 5:
        os._exit(3)
    return item


def crash_at_five(item):
    if item == 5:
        os.kill(os.getpid(), signal.SIGKILL)
    return item


def crash_at_five_at_first(item, context):
    if item == 5 and context.attempt == 1:
        os._exit(3)
    return context.attempt


def hang_at_two(item, folder):
    note(folder, item)
    if item == 2:
        time.sleep(60)
    time.sleep(0.3 if item < 2 else 0)
    return item


def hang_at_two_at_first(item, context):
    if item == 2 and context.attempt == 1:
        time.sleep(60)
    return item


def fail_once_others_run(item, folder):
    note(folder, item)
    if item == 0:
        end = time.monotonic() + 20
        while not noted(folder)[10] and time.monotonic() < end:
            time.sleep(0.005)
        raise ValueError("enough")
    time.sleep(0.3 if item == 10 else 20)


def note_and_hang(item, folder):
    note(folder, item)
    time.sleep(60)


def give_a_lock_at_two(item):
    return threading.Lock() if item == 2 else item


class HoldsALock(Exception):
    def __init__(self, text):
        super().__init__(text)
        self.lock = threading.Lock()


def raise_a_lock_at_two(item):
    if item == 2:
        raise HoldsALock("mine")
    return item


class StaysHere:
    def __reduce__(self):
        raise TypeError("it stays here")


class OnlyThere:
    def __reduce__(self):
        return unpickle_there, (os.getpid(),)


def unpickle_there(process_id):
    if os.getpid() != process_id:
        raise RuntimeError("not here")


def give_what_stays_there_at_two(item):
    return OnlyThere() if item == 2 else item


def index_of_type(item):
    return item if isinstance(item, int) else -1


def leave_or_interrupt(item):
    if item == 1:
        sys.exit(3)
    if item == 2:
        raise KeyboardInterrupt
    if item == 3:
        raise StopIteration(item)
    return item


# --- results ----------------------------------------------------------------------


@pytest.mark.parametrize("batch_size", [1, 3, 100])
def test_results_come_in_the_order_of_the_items(lanes, batch_size):
    workflow = mapped(double, lanes, batch_size=batch_size)
    assert workflow.execute(iter(range(20))).output == [2 * i for i in range(20)]


@pytest.mark.parametrize("batch_size", SIZES)
def test_without_results_only_counts_come_back(lanes, batch_size):
    workflow = mapped(
        fail_at_threes, lanes, batch_size=batch_size, keep_results=False
    )
    execution = workflow.execute(range(10))
    assert execution.output == {Outcome.SUCCEEDED: 6, Outcome.FAILED: 4}
    assert sorted(record.item for record in execution.failures) == [0, 3, 6, 9]


@pytest.mark.parametrize("batch_size", SIZES)
@pytest.mark.parametrize("timeout", [None, 30])
def test_the_task_of_the_context_is_the_index(lanes, batch_size, timeout):
    workflow = mapped(who, lanes, batch_size=batch_size, timeout=timeout)
    output = workflow.execute(list("abcdef")).output
    assert output == [("Map", index, 1) for index in range(6)]


@pytest.mark.parametrize("batch_size", SIZES)
def test_coroutine_functions_run_to_their_end(lanes, batch_size):
    workflow = mapped(wait_and_say_who, lanes, batch_size=batch_size)
    assert workflow.execute(range(6)).output == list(range(6))


def test_each_item_may_be_the_input_of_a_workflow(lanes):
    events = []
    workflow = mapped(nested(fail_at_threes), lanes)
    execution = workflow.execute(range(4), listeners=[events.append])
    assert execution.output[1:3] == [2, 4]
    assert sorted(execution.output.failed) == [0, 3]
    assert [*execution.children] == [("Map", index) for index in range(4)]
    assert execution.children["Map", 2].context["Check"] == 2
    told = {(e.path, e.step) for e in events if e.kind == "step_succeeded" and e.path}
    assert told == {((("Map", at),), it) for at in (1, 2) for it in ("Check", "Done")}


def test_items_are_not_kept_until_the_step_has_ended(lanes):
    workflow = mapped(len, lanes, batch_size=2, keep_results=False)
    tracemalloc.start()
    try:
        workflow.execute(bytes(500_000) for _ in range(200))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 30_000_000  # of 100 MB


# --- failures ---------------------------------------------------------------------


@pytest.mark.parametrize("batch_size", SIZES)
@pytest.mark.parametrize("timeout", [None, 30])
def test_whatever_an_item_raises_is_its_own_failure(lanes, batch_size, timeout):
    workflow = mapped(leave_or_interrupt, lanes, batch_size=batch_size, timeout=timeout)
    output = workflow.execute(range(6)).output
    assert {at: type(error) for at, error in output.failed.items()} == {
        1: SystemExit,
        2: KeyboardInterrupt,
        3: StopIteration,
    }
    assert others(output, 1, 2, 3) == [0, 4, 5]


@pytest.mark.parametrize("batch_size", SIZES)
def test_an_item_that_failed_in_a_batch_is_tried_again_by_itself(lanes, batch_size):
    workflow = mapped(fail_at_first, lanes, batch_size=batch_size, retry=ONCE_MORE)
    execution = workflow.execute(range(4))
    assert execution.output == [(0, 1), (1, 1), (2, 2), (3, 1)]
    (record,) = [it for it in execution.history if it.item == 2]
    assert [str(it.outcome) for it in record.attempts] == ["FAILED", "SUCCEEDED"]


@pytest.mark.parametrize("batch_size", [1, 2, 4, 10])
@pytest.mark.parametrize("timeout", [None, 30])
@pytest.mark.parametrize("at", [0, 3, 5])
def test_only_the_item_fails_that_cannot_be_sent(lanes, batch_size, timeout, at):
    items = list(range(6))
    items[at] = StaysHere()
    workflow = mapped(index_of_type, lanes, batch_size=batch_size, timeout=timeout)
    output = workflow.execute(items).output
    assert [*output.failed] == [at]
    assert isinstance(output[at], TransferError)
    assert f"the input of item {at} of step 'Map'" in str(output[at])
    assert others(output, at) == others(range(6), at)


@pytest.mark.parametrize("batch_size", SIZES)
@pytest.mark.parametrize("timeout", [None, 30])
def test_only_the_item_fails_that_cannot_be_read_there(lanes, batch_size, timeout):
    items = [0, 1, OnlyThere(), 3, 4, 5]
    workflow = mapped(index_of_type, lanes, batch_size=batch_size, timeout=timeout)
    output = workflow.execute(items).output
    assert [*output.failed] == [2]
    assert "the input cannot be unpickled in its process" in str(output[2])
    assert others(output, 2) == [0, 1, 3, 4, 5]


@pytest.mark.parametrize("batch_size", SIZES)
@pytest.mark.parametrize("timeout", [None, 30])
def test_only_the_item_fails_whose_result_cannot_be_sent(lanes, batch_size, timeout):
    workflow = mapped(give_a_lock_at_two, lanes, batch_size=batch_size, timeout=timeout)
    output = workflow.execute(range(6)).output
    assert [*output.failed] == [2]
    assert "the result, a lock, cannot be sent back" in str(output[2])
    assert others(output, 2) == [0, 1, 3, 4, 5]


@pytest.mark.parametrize("batch_size", SIZES)
def test_an_exception_comes_back_without_what_cannot_be_sent(lanes, batch_size):
    workflow = mapped(raise_a_lock_at_two, lanes, batch_size=batch_size)
    output = workflow.execute(range(6)).output
    assert [*output.failed] == [2]
    assert str(output[2]) == "mine"
    assert others(output, 2) == [0, 1, 3, 4, 5]


@pytest.mark.parametrize("batch_size", [1, 2, 6])
def test_only_the_item_fails_whose_result_cannot_be_read_here(lanes, batch_size):
    workflow = mapped(give_what_stays_there_at_two, lanes, batch_size=batch_size)
    output = workflow.execute(range(6)).output
    assert [*output.failed] == [2]
    assert isinstance(output[2], TransferError)
    assert "cannot be unpickled here: RuntimeError: not here" in str(output[2])
    assert others(output, 2) == [0, 1, 3, 4, 5]


def test_results_and_the_error_of_the_step_survive_pickling(lanes):
    workflow = mapped(fail_at_threes, lanes, batch_size=2)
    execution = pickle.loads(pickle.dumps(workflow.execute(range(5))))
    with pytest.raises(ParallelStepExecutionError) as caught:
        execution.output.raise_if_failed()
    assert sorted(caught.value.errors) == [0, 3]
    assert dict(caught.value.results) == {1: 1, 2: 2, 4: 4}


# --- crashes ----------------------------------------------------------------------


def test_a_crash_in_a_batch_blames_its_item_and_runs_no_other_twice(lanes, tmp_path):
    workflow = mapped(
        crash_slowly_at_five, lanes, batch_size=10, params={"folder": str(tmp_path)}
    )
    execution = workflow.execute(range(20))
    assert [*execution.output.failed] == [5]
    assert isinstance(execution.output[5], WorkerCrashedError)
    assert "the worker process of item 5 of step 'Map'" in str(execution.output[5])
    assert execution.output[5].exitcode == 3
    assert outcomes_of(execution)[5] == "CRASHED"
    assert others(execution.output, 5) == others(range(20), 5)
    calls = noted(tmp_path)
    assert calls.pop(5) == 1
    assert calls == Counter(others(range(20), 5))


@pytest.mark.parametrize("batch_size", [1, 6, 20])
def test_a_crash_among_short_items_blames_its_item(lanes, batch_size):
    workflow = mapped(crash_at_five, lanes, batch_size=batch_size)
    output = workflow.execute(range(20)).output
    assert [*output.failed] == [5]
    assert "item 5 of step 'Map'" in str(output[5])
    assert others(output, 5) == others(range(20), 5)


@pytest.mark.parametrize("place", [0, 2500])
def test_what_a_crash_leaves_of_a_long_batch_has_its_results(lanes, place):
    items = [*range(100, 3100)]
    items[place] = 5
    workflow = mapped(crash_at_five, lanes, batch_size=len(items))
    output = workflow.execute(items).output
    assert list(output.failed) == [place]
    assert isinstance(output.failed[place], WorkerCrashedError)
    others = [*output[:place], *output[place + 1 :]]
    assert others == [*map(crash_at_five, [*items[:place], *items[place + 1 :]])]


def test_with_a_timeout_the_culprit_of_a_crash_is_known_at_once(lanes, tmp_path):
    workflow = mapped(
        crash_slowly_at_five,
        lanes,
        batch_size=10,
        params={"folder": str(tmp_path)},
        timeout=30,
    )
    output = workflow.execute(range(20)).output
    assert [*output.failed] == [5]
    assert noted(tmp_path) == Counter(range(20))


@pytest.mark.parametrize("timeout", [None, 30])
def test_a_crashed_item_is_tried_again(lanes, timeout):
    workflow = mapped(
        crash_at_five_at_first, lanes, batch_size=10, retry=ONCE_MORE, timeout=timeout
    )
    execution = workflow.execute(range(10))
    assert execution.output == [1, 1, 1, 1, 1, 2, 1, 1, 1, 1]
    (record,) = [it for it in execution.history if it.item == 5]
    assert [str(it.outcome) for it in record.attempts] == ["CRASHED", "SUCCEEDED"]


def test_a_crash_stops_the_rest_where_it_is_to(lanes, tmp_path):
    workflow = mapped(
        crash_slowly_at_five,
        lanes,
        batch_size=10,
        max_workers=1,
        params={"folder": str(tmp_path)},
        stop_on_failure=True,
    )
    error = failure_of(workflow, range(200))
    assert [*error.errors] == [5]
    assert max(noted(tmp_path)) < 10
    assert error.outcomes[4] is Outcome.SUCCEEDED
    assert error.outcomes[5] is Outcome.CRASHED


# --- limits -----------------------------------------------------------------------


def test_an_item_of_a_batch_that_takes_too_long_is_killed(lanes, tmp_path):
    workflow = mapped(
        hang_at_two,
        lanes,
        batch_size=10,
        timeout=0.5,
        params={"folder": str(tmp_path)},
    )
    execution = workflow.execute(range(9))  # which take longer together
    assert [*execution.output.failed] == [2]
    assert isinstance(execution.output[2], StepTimeoutError)
    assert str(execution.output[2]) == (
        "item 2 of step 'Map': attempt 1 took longer than 0.5 s"
    )
    (record,) = [it for it in execution.history if it.item is not None]
    assert (record.item, record.outcome) == (2, Outcome.TIMED_OUT)
    assert 0.4 < record.duration < 1  # without what was done before it
    assert others(execution.output, 2) == others(range(9), 2)
    assert noted(tmp_path) == Counter(range(9))


def test_an_item_that_took_too_long_is_tried_again(lanes):
    workflow = mapped(
        hang_at_two_at_first, lanes, batch_size=4, timeout=0.3, retry=ONCE_MORE
    )
    execution = workflow.execute(range(6))
    assert execution.output == list(range(6))
    (record,) = [it for it in execution.history if it.item == 2]
    assert [str(it.outcome) for it in record.attempts] == ["TIMED_OUT", "SUCCEEDED"]


# --- stopping ---------------------------------------------------------------------


def test_the_first_failure_kills_what_others_do(lanes, tmp_path):
    workflow = mapped(
        fail_once_others_run,
        lanes,
        batch_size=10,
        max_workers=2,
        params={"folder": str(tmp_path)},
        stop_on_failure=True,
    )
    error = failure_of(workflow, range(40))
    assert [*error.errors] == [0]
    outcomes = [str(error.outcomes[at]) for at in range(len(error.outcomes))]
    assert outcomes[0] == "FAILED"
    assert set(outcomes[1:10]) == {"CANCELLED"}
    assert "KILLED" in outcomes[10:12]
    assert set(outcomes[12:]) <= {"CANCELLED"}
    assert noted(tmp_path).keys() <= {0, 10, 11}


@pytest.mark.parametrize("batch_size", SIZES)
def test_cancelling_kills_what_runs(tmp_path, batch_size):
    workflow = mapped(
        note_and_hang, batch_size=batch_size, params={"folder": str(tmp_path)}
    )
    execution = workflow.start(iter(range(1000)))
    end = time.monotonic() + 20
    while not noted(tmp_path):
        assert time.monotonic() < end
        time.sleep(0.005)
    execution.cancel()
    assert execution.wait(20)
    assert execution.status is Status.CANCELLED
    assert "KILLED" in outcomes_of(execution).values()
    with pytest.raises(ExecutionCancelledError):
        execution.raise_if_failed()


def test_the_time_of_the_execution_ends_a_map(lanes, tmp_path):
    workflow = mapped(
        note_and_hang, lanes, batch_size=4, params={"folder": str(tmp_path)}
    )
    with pytest.raises(ExecutionTimeoutError) as caught:
        workflow.execute(range(1000), timeout=0.5)
    assert caught.value.execution.status is Status.TIMED_OUT
    assert len(noted(tmp_path)) <= 2


def test_an_interrupt_of_the_calling_thread_is_raised_there(lanes, tmp_path):
    main = threading.main_thread().ident

    def interrupt():
        while not noted(tmp_path):
            time.sleep(0.005)
        signal.pthread_kill(main, signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    workflow = mapped(
        note_and_hang, lanes, batch_size=4, params={"folder": str(tmp_path)}
    )
    with pytest.raises(KeyboardInterrupt):
        workflow.execute(range(1000))
    thread.join(20)
    assert lanes.submit(double, 2).result(20) == 4


# --- executors --------------------------------------------------------------------


def test_two_executions_share_lanes(lanes):
    workflow = mapped(crash_at_five, lanes, batch_size=7)
    runs = [workflow.start(range(50)) for _ in range(2)]
    for run in runs:
        assert run.wait(30)
        assert others(run.output, 5) == others(range(50), 5)
        assert isinstance(run.output[5], WorkerCrashedError)


@pytest.mark.parametrize("batch_size", SIZES)
def test_a_pool_of_somebody_else_serves_two_executions(batch_size):
    with ProcessPoolExecutor(2, mp_context=get_context("forkserver")) as pool:
        workflow = mapped(fail_at_threes, pool, batch_size=batch_size)
        runs = [workflow.start(range(30)) for _ in range(2)]
        for run in runs:
            assert run.wait(30)
            assert sorted(run.output.failed) == list(range(0, 30, 3))
        assert pool.submit(double, 2).result() == 4
        workflow = mapped(give_a_lock_at_two, pool, batch_size=batch_size)
        output = workflow.execute(range(6)).output
        assert others(output, 2) == [0, 1, 3, 4, 5]
        items = [0, 1, StaysHere(), 3, 4, 5]
        workflow = mapped(index_of_type, pool, batch_size=batch_size)
        output = workflow.execute(items).output
        assert [*output.failed] == [2]
        assert others(output, 2) == [0, 1, 3, 4, 5]


def test_a_function_that_cannot_be_sent_is_refused():
    workflow = mapped(lambda item: item, batch_size=2)
    with pytest.raises(DefinitionError, match="step 'Map': .* cannot be sent"):
        workflow.execute(range(4))


def test_a_map_in_a_process_may_map_on_processes(lanes):
    inner = mapped(double, "process", batch_size=2, max_workers=1)
    assert mapped(inner, lanes).execute([range(3), range(4)]).output == [
        [0, 2, 4],
        [0, 2, 4, 6],
    ]


def log_then_hang_once(item):
    name, is_there = item
    if name == "logs":
        logging.getLogger("stepfunction.test").warning("done in time")
    elif not is_there.exists():
        is_there.touch()
        threading.Event().wait(60)
    return name


def test_an_item_is_not_blamed_for_one_whose_end_was_heard_of_late(lanes, tmp_path):
    is_there = tmp_path / "is_there"

    class Slow(logging.Handler):
        def emit(self, record):
            while not is_there.exists():
                time.sleep(0.001)
            time.sleep(1.5)

    workflow = mapped(log_then_hang_once, lanes, batch_size=2, timeout=0.5)
    logger, handler = logging.getLogger("stepfunction.test"), Slow()
    logger.addHandler(handler)
    try:
        output = workflow.execute([("logs", is_there), ("hangs", is_there)]).output
    finally:
        logger.removeHandler(handler)
    assert output == ["logs", "hangs"]
