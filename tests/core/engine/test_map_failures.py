from __future__ import annotations

import pickle
import threading
import time

import pytest
import tenacity
from shared.calls import double
from shared.failures import failure_of
from shared.maps import (
    HERE,
    ONCE_MORE,
    SIZES,
    fail,
    fail_at_threes,
    mapped,
    tasks_of,
    threads_of,
)

from stepfunction import Outcome, ParallelStepExecutionError, RetryPolicy, Status

# --- failures -----------------------------------------------------------------------


@pytest.mark.parametrize("executor", HERE)
@pytest.mark.parametrize("batch_size", [1, 2, 4, 100])
def test_a_failed_item_leaves_its_exception_in_its_place(executor, batch_size):
    workflow = mapped(fail_at_threes, executor=executor, batch_size=batch_size)
    execution = workflow.execute(range(8))
    output = execution.output
    assert execution.status is Status.COMPLETED
    assert sorted(output.failed) == [0, 3, 6]
    assert [output[i] for i in (1, 2, 4, 5, 7)] == [1, 2, 4, 5, 7]
    assert all(output[i] is output.failed[i] for i in output.failed)
    assert str(output[3]) == "cannot take 3"
    with pytest.raises(ParallelStepExecutionError):
        output.raise_if_failed()


def test_failures_have_records_of_their_own():
    execution = mapped(fail_at_threes, batch_size=4).execute(range(8))
    records = tasks_of(execution)
    assert [record.item for record in records] == [0, 3, 6]
    assert [record.input for record in records] == [0, 3, 6]
    assert [str(record.error) for record in records][1] == "cannot take 3"
    assert all(len(record.attempts) == 1 for record in records)
    assert execution.failures == tuple(records)


@pytest.mark.parametrize("batch_size", SIZES)
def test_the_error_of_the_step_knows_all_items(batch_size):
    workflow = mapped(fail_at_threes, tolerated_failures=1, batch_size=batch_size)
    error = failure_of(workflow, range(5))
    assert isinstance(error, ParallelStepExecutionError)
    assert str(error) == (
        "2 of 5 items of step 'Map' failed: 0: ValueError: cannot take 0; "
        "3: ValueError: cannot take 3"
    )
    assert {at: str(outcome) for at, outcome in error.outcomes.items()} == {
        0: "FAILED",
        1: "SUCCEEDED",
        2: "SUCCEEDED",
        3: "FAILED",
        4: "SUCCEEDED",
    }
    assert dict(error.results) == {1: 1, 2: 2, 4: 4}
    assert sorted(error.errors) == [0, 3]
    assert error.__cause__ is error.errors[0]
    for mapping in (error.outcomes, error.results):
        with pytest.raises(KeyError):
            mapping[5]
    with pytest.raises(KeyError):
        error.results[3]


def test_the_error_of_the_step_names_no_more_than_a_few():
    error = failure_of(mapped(fail, tolerated_failures=0), range(20))
    assert str(error).endswith("; and 15 more")


def test_the_error_of_the_step_survives_pickling():
    error = failure_of(mapped(fail_at_threes, tolerated_failures=0), range(4))
    again = pickle.loads(pickle.dumps(error))
    assert str(again) == str(error)
    assert dict(again.outcomes) == dict(error.outcomes)
    assert dict(again.results) == {1: 1, 2: 2}
    assert [repr(it) for it in again.errors.values()] == [
        repr(it) for it in error.errors.values()
    ]


def test_results_survive_pickling():
    output = mapped(fail_at_threes).execute(range(4)).output
    again = pickle.loads(pickle.dumps(output))
    assert type(again) is type(output)
    assert again[1:3] == [1, 2]
    assert sorted(again.failed) == [0, 3]
    with pytest.raises(ParallelStepExecutionError):
        again.raise_if_failed()


def test_results_without_failures_give_themselves():
    output = mapped(double).execute([1]).output
    assert output.raise_if_failed() is output


def test_without_results_the_error_tells_only_of_failures_that_it_remembers():
    workflow = mapped(fail, tolerated_failures=0, keep_results=False)
    error = failure_of(workflow, range(300))
    assert str(error).startswith("300 of 300 items")
    assert set(error.outcomes.values()) == {Outcome.FAILED}
    assert error.outcomes.keys() == error.errors.keys()
    assert dict(error.results) == {}


@pytest.mark.parametrize("sized", [True, False])
@pytest.mark.parametrize("batch_size", SIZES)
@pytest.mark.parametrize(
    "tolerated, is_tolerated",
    [(0, False), (3, False), (4, True), ("39%", False), ("40%", True), ("100%", True)],
)
def test_a_step_tolerates_so_many_failures(tolerated, is_tolerated, batch_size, sized):
    workflow = mapped(
        fail_at_threes, tolerated_failures=tolerated, batch_size=batch_size
    )
    items = range(10) if sized else iter(range(10))  # of which four fail
    if is_tolerated:
        assert len(workflow.execute(items).output.failed) == 4
    else:
        assert len(failure_of(workflow, items).errors) == 4


@pytest.mark.parametrize("batch_size", [1, 2])
@pytest.mark.parametrize("items, failed", [([1, 2, 3], []), ([1, 0, 3, 0], [1, 3])])
def test_the_output_has_the_outcome_of_every_item(items, failed, batch_size):
    workflow = mapped(lambda item: 6 / item, batch_size=batch_size)
    outcomes = workflow.execute(items).output.outcomes
    assert list(outcomes) == list(range(len(items)))
    for index, outcome in outcomes.items():
        has_failed = index in failed
        assert outcome is (Outcome.FAILED if has_failed else Outcome.SUCCEEDED)


def test_with_a_failure_step_of_its_own_a_step_tolerates_nothing():
    workflow = mapped(fail_at_threes, on_failure="After").add_step("After", str)
    assert "2 of 5 items" in workflow.execute(range(5)).output


@pytest.mark.parametrize("executor", HERE)
@pytest.mark.parametrize("batch_size", SIZES)
def test_the_first_failure_stops_the_rest(executor, batch_size):
    seen = []

    def work(item):
        seen.append(item)
        return fail(item) if item == 4 else item

    workflow = mapped(
        work,
        executor=executor,
        batch_size=batch_size,
        stop_on_failure=True,
        max_workers=1,
    )
    error = failure_of(workflow, range(1000))
    assert [*error.errors] == [4]
    assert 4 in seen and len(seen) < 1000
    assert seen == sorted(seen)
    assert error.execution.history[0].outcome is Outcome.FAILED


def test_a_batch_stops_at_the_item_that_fails():
    seen = []

    def work(item):
        seen.append(item)
        return fail_at_threes(item)

    workflow = mapped(
        work, executor="inline", batch_size=10, stop_on_failure=True,
        tolerated_failures=1,
    )
    error = failure_of(workflow, range(10))
    assert seen == [0, 1, 2, 3]
    assert [*error.errors] == [0, 3]
    outcomes = [str(error.outcomes[at]) for at in range(10)]
    assert outcomes == ["FAILED", "SUCCEEDED", "SUCCEEDED", "FAILED"] + 6 * [
        "CANCELLED"
    ]


def test_batches_in_other_threads_stop_before_their_next_item():
    seen, began = [], threading.Event()

    def work(item, context):
        if item == 0:
            assert began.wait(20)
            fail(item)
        seen.append(item)
        began.set()
        while not context.cancelled:
            time.sleep(0.001)
        return item

    workflow = mapped(work, batch_size=10, max_workers=2, stop_on_failure=True)
    error = failure_of(workflow, [0, *range(100, 120)])
    assert len(seen) == 1
    assert [*error.errors] == [0]
    assert error.outcomes[10] is Outcome.SUCCEEDED
    assert error.outcomes[11] is Outcome.CANCELLED
    assert not threads_of("Map")


def test_a_share_of_items_that_nobody_can_count_stops_nothing():
    seen = []

    def work(item):
        seen.append(item)
        fail(item)

    workflow = mapped(
        work, executor="inline", stop_on_failure=True, tolerated_failures="10%"
    )
    failure_of(workflow, iter(range(50)))
    assert len(seen) == 50
    seen.clear()
    failure_of(workflow, range(50))
    assert len(seen) == 6


# --- retry --------------------------------------------------------------------------


@pytest.mark.parametrize("executor", HERE)
@pytest.mark.parametrize("batch_size", SIZES)
def test_an_item_is_tried_again_by_itself(executor, batch_size):
    calls = []

    def work(item, context):
        calls.append((item, context.attempt, context.item))
        if item % 3 == 0 and context.attempt < 3:
            raise ConnectionError
        return item

    policy = RetryPolicy(max_attempts=3, interval=0)
    workflow = mapped(work, executor=executor, batch_size=batch_size, retry=policy)
    execution = workflow.execute(range(7))
    assert execution.output == list(range(7))
    attempts = {i: (1,) if i % 3 else (1, 2, 3) for i in range(7)}
    assert sorted(calls) == [(i, n, i) for i in attempts for n in attempts[i]]
    records = {record.item: record for record in tasks_of(execution)}
    assert [str(it.outcome) for it in records[3].attempts] == [
        "FAILED",
        "FAILED",
        "SUCCEEDED",
    ]
    assert [it.number for it in records[3].attempts] == [1, 2, 3]
    assert records[3].outcome is Outcome.SUCCEEDED
    assert records[3].output == 3


@pytest.mark.parametrize("batch_size", SIZES)
def test_an_item_fails_when_its_attempts_are_used_up(batch_size):
    calls = []

    def work(item):
        calls.append(item)
        fail_at_threes(item)

    execution = mapped(work, batch_size=batch_size, retry=ONCE_MORE).execute(range(4))
    assert sorted(execution.output.failed) == [0, 3]
    assert sorted(calls) == [0, 0, 1, 2, 3, 3]
    assert all(len(record.attempts) == 2 for record in execution.failures)


def test_what_is_not_to_be_retried_is_not():
    calls = []

    def work(item):
        calls.append(item)
        fail(item)

    policy = RetryPolicy(max_attempts=5, interval=0, retry_on=OSError)
    mapped(work, batch_size=2, retry=policy).execute(range(4))
    assert sorted(calls) == [0, 1, 2, 3]


@pytest.mark.parametrize("executor", HERE)
def test_a_retrying_that_judges_results_is_shown_each(executor):
    calls = []

    def work(item):
        calls.append(item)
        return calls.count(item)

    retry = tenacity.Retrying(
        retry=tenacity.retry_if_result(lambda count: count < 2),
        stop=tenacity.stop_after_attempt(3),
    )
    workflow = mapped(work, executor=executor, batch_size=3, retry=retry)
    assert workflow.execute(range(4)).output == [2, 2, 2, 2]


def test_stopping_ends_the_pauses_of_others():
    paused = threading.Event()

    def listener(event):
        if event.kind == "task_retried":
            paused.set()

    def work(item):
        if item == 1:
            assert paused.wait(20)
            raise LookupError("enough")
        raise ConnectionError

    policy = RetryPolicy(2, interval=3600, jitter=None, retry_on=ConnectionError)
    workflow = mapped(work, retry=policy, stop_on_failure=True)
    error = failure_of(workflow, [0, 1], listeners=[listener])
    assert {at: type(it) for at, it in error.errors.items()} == {
        1: LookupError,
        0: ConnectionError,
    }
