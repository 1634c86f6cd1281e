from __future__ import annotations

import asyncio
import logging
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from shared.calls import double
from shared.failures import failure_of
from shared.hanging import (
    LIMIT,
    LONG,
    hang,
    hang_with_a_child,
    nested_of,
    one,
    outcomes,
    pids_in,
    released,
    take_longer,
    tasks_of,
)
from shared.processes import is_gone, tell, wait_for

from stepfunction import (
    DefinitionError,
    Outcome,
    ParallelStepExecutionError,
    ProcessLanes,
    RetryPolicy,
    Status,
    StepFunction,
    StepFunctionError,
    StepTimeoutError,
)

NOT_INLINE = (
    "timeout cannot be honoured in the calling thread, where nothing can stop a call; "
    "use executor='process', which is killed, or executor='thread', which is no longer "
    "waited for"
)
NOT_ENFORCED = (
    "timeouts are not enforced in this execution: a step runs in the thread "
    "that waits for it, as with executor='inline'"
)


def hang_at_first(value, context):
    if context.attempt == 1:
        hang()
    return context.attempt


# --- steps --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "executor, outcome",
    [("thread", Outcome.ABANDONED), ("process", Outcome.TIMED_OUT)],
)
def test_a_step_that_takes_too_long_fails(executor, outcome):
    failure = failure_of(one(hang, executor=executor))
    error = failure.__cause__
    assert type(error) is StepTimeoutError
    assert str(error) == "step 'Ask': attempt 1 took longer than 0.05 s"
    assert error.timeout == LIMIT
    [record] = failure.execution.history
    assert record.outcome is outcome
    assert record.error is error
    assert outcomes(record.attempts) == [outcome]
    assert record.attempts[0].error is error
    assert record.duration >= LIMIT


def test_the_error_of_a_timeout_is_a_timeout_error_of_python():
    error = failure_of(one(hang, executor="thread")).__cause__
    assert isinstance(error, TimeoutError)
    assert isinstance(error, StepFunctionError)


@pytest.mark.parametrize("executor", ["thread", "process"])
@pytest.mark.parametrize("is_parallel", [False, True])
def test_a_step_that_ends_in_time_is_left_alone(executor, is_parallel, lanes):
    func = {"a": double} if is_parallel else double
    executor = lanes if executor == "process" else executor
    workflow = one(func, timeout=60, executor=executor, parallel=is_parallel)
    assert workflow.execute(4).output == ({"a": 8} if is_parallel else 8)


@pytest.mark.parametrize("timeout", [float("inf"), 1e12])
def test_a_timeout_may_be_longer_than_anybody_lives(timeout):
    workflow = one(double, timeout=timeout, executor="thread")
    assert workflow.execute(4).output == 8
    nested = StepFunction("Outer").add_step("Sub", workflow, timeout=timeout)
    assert nested.set_start_step("Sub").execute(4).output == 8


def test_an_async_step_on_a_thread_has_a_timeout_too():
    cancelled = threading.Event()

    async def wait(value):
        try:
            await asyncio.sleep(LONG)
        except asyncio.CancelledError:
            cancelled.set()
            raise

    error = failure_of(one(wait, executor="thread")).__cause__
    assert type(error) is StepTimeoutError
    assert cancelled.wait(20)


def test_a_process_is_killed_with_its_children(tmp_path, lanes):
    path = tmp_path / "pids"
    failure_of(one(hang_with_a_child, timeout=1, executor=lanes), path)
    worker, child = pids_in(path)
    assert is_gone(worker)
    assert is_gone(child)


def test_lanes_go_on_after_a_timeout(lanes):
    failure_of(one(hang, executor=lanes))
    assert one(double, timeout=60, executor=lanes).execute(4).output == 8


# --- tasks --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "executor, outcome, timeout",
    [
        ("thread", Outcome.ABANDONED, 0.3),
        ("process", Outcome.TIMED_OUT, 1),  # a fresh worker imports this module too
    ],
)
def test_a_task_that_takes_too_long_fails_alone(executor, outcome, timeout, lanes):
    workflow = one(
        {"slow": hang, "quick": double},
        timeout=timeout,
        parallel=True,
        executor=lanes if executor == "process" else executor,
    )
    execution = workflow.execute(4)
    assert execution.status is Status.COMPLETED
    assert execution.output["quick"] == 8
    error = execution.output["slow"]
    assert type(error) is StepTimeoutError
    assert str(error) == (
        f"task 'slow' of step 'Ask': attempt 1 took longer than {timeout} s"
    )
    assert list(execution.output.failed) == ["slow"]
    assert tasks_of(execution)["slow"].outcome is outcome
    assert tasks_of(execution)["quick"].outcome is Outcome.SUCCEEDED


def test_the_error_of_a_parallel_step_tells_who_took_too_long():
    tasks = {"slow": hang, "quick": double}
    workflow = one(tasks, timeout=0.3, parallel=True, tolerated_failures=0)
    error = failure_of(workflow, 4)
    assert type(error) is ParallelStepExecutionError
    assert error.outcomes == {"slow": Outcome.ABANDONED, "quick": Outcome.SUCCEEDED}
    assert error.results == {"quick": 8}
    assert error.errors == {"slow": error.__cause__}
    assert type(error.__cause__) is StepTimeoutError


@pytest.mark.parametrize("executor", ["thread", "process"])
@pytest.mark.parametrize("is_parallel", [False, True])
def test_what_took_too_long_is_among_the_failures(executor, is_parallel, lanes):
    workflow = one(
        {"slow": hang} if is_parallel else hang,
        parallel=is_parallel,
        executor=lanes if executor == "process" else executor,
        on_failure="Late",
        tolerated_failures="100%" if is_parallel else None,
    )
    workflow.add_step("Late", double_text)
    [failure] = workflow.execute().failures
    assert (failure.step, failure.task) == ("Ask", "slow" if is_parallel else None)
    assert type(failure.error) is StepTimeoutError


def double_text(value):
    return str(value) * 2


@pytest.mark.parametrize("stop_on_failure", [False, True])
def test_a_task_that_takes_too_long_counts_as_failed(stop_on_failure):
    told = threading.Event()

    def listen(value, context):
        while not context.cancelled:
            released.wait(0.002)
        told.set()

    tasks = {"slow": hang, "listens": listen} if stop_on_failure else {"slow": hang}
    workflow = one(
        tasks, parallel=True, stop_on_failure=stop_on_failure, on_failure="Late"
    )
    workflow.add_step("Late", lambda error: type(error.__cause__))
    assert workflow.execute().output is StepTimeoutError
    assert not stop_on_failure or told.wait(20)


def test_a_task_that_was_told_to_stop_still_has_its_timeout():
    began = threading.Event()

    def deaf(value):
        began.set()
        hang()

    def fail_then(value):
        began.wait(20)
        raise ValueError

    tasks = {"deaf": deaf, "fails": fail_then}
    error = failure_of(one(tasks, timeout=0.3, parallel=True, stop_on_failure=True))
    assert error.outcomes == {"deaf": Outcome.ABANDONED, "fails": Outcome.FAILED}
    assert type(error.__cause__) is ValueError


def test_tasks_that_wait_run_although_every_thread_was_abandoned():
    tasks = {"a": hang, "b": hang, "c": double, "d": double}
    workflow = one(tasks, timeout=0.2, parallel=True, max_workers=2)
    execution = workflow.execute(4)
    assert [execution.output[name] for name in "cd"] == [8, 8]
    assert list(execution.output.failed) == ["a", "b"]


# --- from when it is counted --------------------------------------------------------


@pytest.mark.parametrize("stop_on_failure", [False, True])
def test_waiting_for_a_thread_does_not_count(stop_on_failure):
    tasks = {"first": hang, "second": hang, "third": double}
    workflow = one(
        tasks,
        timeout=0.2,
        parallel=True,
        max_workers=1,
        stop_on_failure=stop_on_failure,
        tolerated_failures=2,
    )
    records = tasks_of(workflow.execute(4))
    assert records["third"].output == 8
    assert records["third"].started >= records["first"].started + 0.4


def queued_behind(executor, block, unblock):
    """Execute a step whose executor is busy for longer than the step may take."""
    queueing = threading.Event()

    def pass_on(value):
        queueing.set()
        return value

    workflow = StepFunction("Shop").add_step("Queue", pass_on, "Ask")
    workflow.add_step("Ask", double, executor=executor, timeout=0.3)
    workflow.set_start_step("Queue")
    block()
    execution = workflow.start(4)
    assert queueing.wait(20)
    time.sleep(0.45)
    unblock()
    assert execution.wait(20)
    return execution


def test_waiting_for_a_lane_does_not_count(tmp_path):
    began, go_on = tmp_path / "began", tmp_path / "go on"
    with ProcessLanes(1) as lanes:

        def block():
            lanes.submit(tell_and_wait, began, go_on)
            wait_for(began)

        execution = queued_behind(lanes, block, go_on.touch)
    assert execution.raise_if_failed().output == 8


def tell_and_wait(told, awaited):
    tell(told)
    wait_for(awaited)


def test_waiting_for_a_thread_of_somebody_elses_pool_does_not_count():
    with ThreadPoolExecutor(1) as pool:
        execution = queued_behind(pool, lambda: pool.submit(hang), released.set)
    assert execution.raise_if_failed().output == 8


def test_pauses_between_attempts_do_not_count():
    def succeed_at_the_third(value, context):
        if context.attempt < 3:
            raise ValueError
        return context.attempt

    retry = RetryPolicy(3, interval=0.4, backoff_rate=1, jitter=None)
    workflow = one(succeed_at_the_third, timeout=0.6, executor="thread", retry=retry)
    execution = workflow.execute()
    assert execution.output == 3
    assert execution.history[0].duration > 0.6


# --- abandoned threads --------------------------------------------------------------


def test_nobody_waits_for_an_abandoned_thread():
    threads = []

    def note_and_hang(value):
        threads.append(threading.current_thread())
        hang()

    failure_of(one(note_and_hang, executor="thread"))
    assert threads[0].is_alive()
    released.set()
    threads[0].join(20)
    assert not threads[0].is_alive()


@pytest.mark.parametrize("is_parallel", [False, True])
def test_an_abandoned_thread_is_told(is_parallel):
    told = threading.Event()

    def listen(value, context):
        while not context.cancelled:
            released.wait(0.002)
        told.set()

    func = {"a": listen} if is_parallel else listen
    workflow = one(func, parallel=is_parallel, executor="thread", on_failure="Late")
    workflow.add_step("Late", double_text).execute()
    assert told.wait(20)


def test_nothing_but_the_abandoned_attempt_is_told():
    def ask(value, context):
        if (context.task, context.attempt) == ("slow", 1):
            hang()
        return context.cancelled

    workflow = one(
        {"slow": ask, "waits": ask},
        timeout=0.2,
        parallel=True,
        max_workers=1,
        retry=RetryPolicy(2, interval=0),
        next_step="Next",
    )
    workflow.add_step("Next", lambda results, context: (results, context.cancelled))
    output = workflow.execute().output
    assert output == ({"slow": False, "waits": False}, False)


@pytest.mark.parametrize("is_late_failure", [False, True])
def test_the_late_end_of_an_abandoned_attempt_changes_nothing(is_late_failure):
    threads = []

    def be_late(value, context):
        threads.append(threading.current_thread())
        if context.attempt == 1:
            hang()
            if is_late_failure:
                raise ValueError("late")
            return "late"
        released.set()
        threads[0].join(20)
        assert not threads[0].is_alive()
        return "in time"

    retry = RetryPolicy(2, interval=0)
    execution = one(be_late, timeout=0.4, executor="thread", retry=retry).execute()
    assert execution.output == "in time"
    [record] = execution.history
    assert outcomes(record.attempts) == [Outcome.ABANDONED, Outcome.SUCCEEDED]
    assert type(record.attempts[0].error) is StepTimeoutError


def test_what_comes_after_the_execution_changes_nothing():
    threads = []

    def be_late(value):
        threads.append(threading.current_thread())
        hang()
        return "late"

    execution = one({"late": be_late}, parallel=True).execute()
    before, shown = execution.history, repr(execution.history)
    released.set()
    threads[0].join(20)
    assert not threads[0].is_alive()
    assert execution.history == before
    assert repr(execution.history) == shown
    assert execution.output.failed.keys() == {"late"}


# --- retries ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "executor, outcome",
    [("thread", Outcome.ABANDONED), ("process", Outcome.TIMED_OUT)],
)
@pytest.mark.parametrize("is_parallel", [False, True])
def test_what_took_too_long_is_tried_again(executor, outcome, is_parallel, lanes):
    workflow = one(
        {"a": hang_at_first} if is_parallel else hang_at_first,
        timeout=0.2 if executor == "thread" else 1,
        executor=lanes if executor == "process" else executor,
        parallel=is_parallel,
        retry=RetryPolicy(2, interval=0, retry_on=TimeoutError),
    )
    execution = workflow.execute()
    assert execution.output == ({"a": 2} if is_parallel else 2)
    record = execution.history[-1]
    assert record.outcome is Outcome.SUCCEEDED
    assert outcomes(record.attempts) == [outcome, Outcome.SUCCEEDED]


def test_every_attempt_has_the_whole_time():
    retry = RetryPolicy(3, interval=0)
    failure = failure_of(one(hang, executor="thread", retry=retry))
    [record] = failure.execution.history
    assert outcomes(record.attempts) == [Outcome.ABANDONED] * 3
    assert [str(attempt.error) for attempt in record.attempts] == [
        f"step 'Ask': attempt {number} took longer than 0.05 s" for number in (1, 2, 3)
    ]
    assert all(attempt.duration >= LIMIT for attempt in record.attempts)
    assert failure.__cause__ is record.attempts[2].error


def test_a_timeout_that_the_policy_does_not_name_is_not_tried_again():
    retry = RetryPolicy(3, interval=0, retry_on=ConnectionError)
    failure = failure_of(one(hang, executor="thread", retry=retry))
    assert len(failure.execution.history[0].attempts) == 1


# --- failure steps ------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["step", "tasks", "nested"])
def test_a_timeout_goes_where_timeout_errors_go(kind):
    funcs = {"step": hang, "tasks": {"a": hang}, "nested": nested_of(hang)}
    workflow = StepFunction("Shop").add_step(
        "Ask",
        funcs[kind],
        parallel=kind == "tasks",
        executor=None if kind == "nested" else "thread",
        timeout=LIMIT,
        on_failure={ValueError: "Wrong", TimeoutError: "Late"},
    )
    workflow.add_step("Late", lambda error: "late").add_step("Wrong", double_text)
    execution = workflow.set_start_step("Ask").execute()
    assert execution.output == "late"
    assert execution.status is Status.FAILED


def test_the_failure_step_is_told_of_the_timeout():
    workflow = one(hang, executor="thread", on_failure="Late")
    workflow.add_step("Late", lambda error, context: (error, context.failure))
    execution = workflow.execute(17)
    error, failure = execution.output
    assert type(error) is StepTimeoutError
    assert (failure.step, failure.input, failure.error) == ("Ask", 17, error)
    assert failure.outcome is Outcome.ABANDONED
    assert execution.error is error


# --- refused, or only measured, in the calling thread -------------------------------


@pytest.mark.parametrize(
    "func, arguments",
    [
        (double, {}),
        (double, {"executor": "inline"}),
        ({"a": double}, {"parallel": True, "executor": "inline"}),
        ({"a": nested_of(hang)}, {"parallel": True, "executor": "inline"}),
    ],
)
def test_a_timeout_in_the_calling_thread_is_refused(func, arguments):
    with pytest.raises(DefinitionError) as caught:
        one(func, **arguments)
    assert str(caught.value) == f"step 'Ask': {NOT_INLINE}"


@pytest.mark.parametrize("timeout", [0, -1, True, "1", float("nan")])
def test_what_is_no_duration_is_refused(timeout):
    problem = f"timeout is seconds above 0, not {timeout!r}"
    with pytest.raises(DefinitionError) as caught:
        one(double, timeout=timeout, executor="thread")
    assert str(caught.value) == f"step 'Ask': {problem}"
    workflow = one(double, timeout=None)
    for run in (workflow.execute, workflow.start):
        with pytest.raises(DefinitionError) as caught:
            run(timeout=timeout)
        assert caught.value.problems == (problem,)


def warnings_of(caplog):
    return [
        record.getMessage()
        for record in caplog.records
        if record.levelno == logging.WARNING
    ]


@pytest.mark.parametrize("is_parallel", [False, True])
def test_an_inline_override_measures_but_does_not_enforce(is_parallel, caplog):
    func = {"a": take_longer} if is_parallel else take_longer
    workflow = one(func, executor="thread", parallel=is_parallel)
    execution = workflow.execute(4, executor="inline")
    assert execution.output == ({"a": 4} if is_parallel else 4)
    record = execution.history[-1]
    assert outcomes(record.attempts) == [Outcome.SUCCEEDED]
    assert record.attempts[0].duration >= 2 * LIMIT
    assert warnings_of(caplog) == [NOT_ENFORCED]


def test_an_execution_warns_once_of_limits_that_it_does_not_enforce(caplog):
    nested = one(double, executor="thread")
    workflow = StepFunction("Shop").set_start_step("A")
    workflow.add_step("A", double, "B", executor="thread", timeout=60)
    workflow.add_step("B", double, "C", executor="process", timeout=60)
    workflow.add_step("C", nested)
    workflow.execute(1, executor="inline")
    assert warnings_of(caplog) == [NOT_ENFORCED]
    workflow.execute(1, executor="inline")
    assert warnings_of(caplog) == [NOT_ENFORCED] * 2


def test_an_inline_override_without_limits_warns_of_nothing(caplog):
    one(double, timeout=None, executor="thread").execute(4, executor="inline")
    assert warnings_of(caplog) == []
