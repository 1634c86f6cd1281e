from __future__ import annotations

import asyncio
import logging
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path

import pytest

from stepfunction import (
    DefinitionError,
    ExecutionTimeoutError,
    Outcome,
    ParallelStepExecutionError,
    ProcessLanes,
    RetryPolicy,
    Status,
    StepExecutionError,
    StepFunction,
    StepFunctionError,
    StepTimeoutError,
)

LIMIT = 0.05
LONG = 600  # no test waits for that
NOT_INLINE = (
    "timeout cannot be honoured in the calling thread, where nothing can stop a call; "
    "use executor='process', which is killed, or executor='thread', which is no longer "
    "waited for"
)
NOT_ENFORCED = (
    "timeouts are not enforced in this execution: a step runs in the thread "
    "that waits for it, as with executor='inline'"
)

released = threading.Event()  # never set in a worker process


@pytest.fixture(autouse=True)
def _release():
    released.clear()
    yield
    released.set()


@pytest.fixture(scope="module")
def lanes():
    with ProcessLanes(2) as lanes:
        yield lanes


def hang(value=None):
    released.wait(LONG)


def hang_at_first(value, context):
    if context.attempt == 1:
        hang()
    return context.attempt


def double(value):
    return value * 2


def fail(value):
    raise ValueError("told to fail")


def wait_for(path, seconds=20.0):
    end = time.monotonic() + seconds
    while not Path(path).exists():
        assert time.monotonic() < end, f"{path} never came"
        time.sleep(0.005)


def tell(path, text=""):
    part = Path(f"{path}.part")
    part.write_text(text)
    part.rename(path)


def hang_with_a_child(path):
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    tell(path, f"{os.getpid()} {child.pid}")
    hang()


def tell_pid_and_hang(path):
    tell(path, str(os.getpid()))
    hang()


def is_gone(process_id, seconds=2.0):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            stat = Path(f"/proc/{process_id}/stat").read_text()
        except (FileNotFoundError, ProcessLookupError):
            return True
        if stat.rpartition(")")[2].split()[0] == "Z":
            return True
        time.sleep(0.01)
    os.kill(process_id, signal.SIGKILL)
    return False


def pids_in(path):
    wait_for(path)
    return [int(number) for number in path.read_text().split()]


def one(func, timeout=LIMIT, **arguments):
    workflow = StepFunction("Shop").add_step("Ask", func, timeout=timeout, **arguments)
    return workflow.set_start_step("Ask")


def failure_of(workflow, initial_input=None, **arguments):
    with pytest.raises(StepExecutionError) as caught:
        workflow.execute(initial_input, **arguments)
    return caught.value


def overdue(workflow, initial_input=None, *, timeout=LIMIT, **arguments):
    with pytest.raises(ExecutionTimeoutError) as caught:
        workflow.execute(initial_input, timeout=timeout, **arguments)
    return caught.value.execution


def outcomes(attempts):
    return [attempt.outcome for attempt in attempts]


def tasks_of(execution):
    return {r.task: r for r in execution.history if r.task is not None}


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


# --- nested workflows ---------------------------------------------------------------


def nested_of(func, **arguments):
    """Give a workflow of a step, one that must not follow, and one that fails."""
    workflow = StepFunction("Inner").set_start_step("Inside")
    arguments.setdefault("executor", "thread")
    workflow.add_step("Inside", func, "Never", "Never", **arguments)
    return workflow.add_step("Never", reach)


def reach(value):
    reached.append(value)


reached = []


@pytest.fixture
def nothing_reached():
    reached.clear()
    yield
    assert reached == []


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


@pytest.mark.parametrize("inside", INSIDE)
@pytest.mark.parametrize("executor", [None, "thread"])
def test_the_timeout_of_a_nested_workflow_stops_what_it_does(
    inside, executor, nothing_reached
):
    nested = nested_of(**INSIDE[inside])
    failure = failure_of(one(nested, executor=executor))
    error = failure.__cause__
    assert type(error) is StepTimeoutError
    assert str(error) == "step 'Ask': attempt 1 took longer than 0.05 s"
    [record] = failure.execution.history
    expected = Outcome.TIMED_OUT if executor is None else Outcome.ABANDONED
    assert record.outcome is expected
    assert outcomes(record.attempts) == [expected]
    assert record.error is error


def test_a_nested_workflow_that_is_inline_by_name_has_its_timeout_too():
    nested = StepFunction("Inner").add_step("Inside", take_longer, "Never")
    nested.add_step("Never", double).set_start_step("Inside")
    failure = failure_of(one(nested, executor="inline"), 4)
    assert type(failure.__cause__) is StepTimeoutError
    assert list(failure.execution.children["Ask"].context) == ["Inside"]


def test_a_nested_workflow_that_took_too_long_is_among_the_children():
    execution = failure_of(one(nested_of(hang))).execution
    child = execution.children["Ask"]
    assert execution.history[0].child is child
    assert child.status is Status.TIMED_OUT
    with pytest.raises(ExecutionTimeoutError):
        child.raise_if_failed()


def test_a_nested_workflow_that_was_abandoned_shows_where_it_is():
    inner = StepFunction("Inner").add_step("Quick", str, next_step="Hang")
    inner.add_step("Hang", hang).set_start_step("Quick")
    workflow = StepFunction("Outer")
    workflow.add_step("Nested", {"t": inner}, parallel=True, timeout=LIMIT)

    execution = workflow.set_start_step("Nested").execute(1)

    child = execution.children["Nested", "t"]
    assert child.status is Status.RUNNING
    assert [record.step for record in child.history] == ["Quick"]


def test_a_nested_workflow_in_a_process_is_killed_with_what_it_runs(tmp_path):
    path = tmp_path / "pid"
    nested = StepFunction("Inner").set_start_step("Inside")
    nested.add_step("Inside", tell_pid_and_hang, executor="process")
    workflow = one(nested, timeout=1.5, executor="process")
    failure = failure_of(workflow, path)
    assert type(failure.__cause__) is StepTimeoutError
    assert failure.execution.history[0].outcome is Outcome.TIMED_OUT
    [worker] = pids_in(path)
    assert is_gone(worker)


def test_a_nested_workflow_kills_its_processes_when_its_time_is_over(tmp_path):
    path = tmp_path / "pid"
    nested = nested_of(tell_pid_and_hang, executor="process")
    workflow = one(nested, timeout=1, on_failure="Late")
    workflow.add_step("Late", lambda error: is_gone(pids_in(path)[0]))
    assert workflow.execute(path).output is True


def test_a_nested_task_has_a_timeout_too(nothing_reached):
    tasks = {"slow": nested_of(hang), "quick": double}
    output = one(tasks, timeout=0.2, parallel=True).execute(4).output
    assert output["quick"] == 8
    assert str(output["slow"]) == (
        "task 'slow' of step 'Ask': attempt 1 took longer than 0.2 s"
    )


def test_a_nested_workflow_is_tried_again_with_the_whole_time():
    calls = []

    def hang_once(value):
        calls.append(value)
        if len(calls) == 1:
            hang()
        return "answered"

    nested = StepFunction("Inner").set_start_step("Inside")
    nested.add_step("Inside", hang_once, executor="thread")
    retry = RetryPolicy(2, interval=0)
    workflow = one(nested, timeout=0.2, retry=retry, next_step="Next")
    workflow.add_step("Next", lambda value, context: (value, context.cancelled))
    execution = workflow.execute()
    assert execution.output == ("answered", False)
    assert outcomes(execution.history[0].attempts) == [
        Outcome.TIMED_OUT,
        Outcome.SUCCEEDED,
    ]
    assert execution.children["Ask"].status is Status.COMPLETED


def test_the_time_of_a_nested_workflow_may_be_shorter_than_that_of_the_outer():
    inner = one(hang, executor="thread", on_failure="Late")
    inner.add_step("Late", lambda error: "late", ends="completed")
    outer = StepFunction("Outer").add_step("Sub", inner, timeout=60)
    assert outer.set_start_step("Sub").execute().output == "late"


def test_the_timeout_of_add_sub_step_function():
    workflow = StepFunction("Shop").set_start_step("Sub")
    workflow.add_sub_step_function("Sub", nested_of(hang), timeout=LIMIT)
    assert type(failure_of(workflow).__cause__) is StepTimeoutError


# --- somebody else's executor -------------------------------------------------------


def test_a_task_on_somebody_elses_threads_is_abandoned():
    threads, told = [], threading.Event()

    def listen(value, context):
        threads.append(threading.current_thread())
        while not context.cancelled:
            released.wait(0.002)
        told.set()
        hang()

    with ThreadPoolExecutor(1) as pool:
        failure = failure_of(one(listen, executor=pool))
        assert type(failure.__cause__) is StepTimeoutError
        assert failure.execution.history[0].outcome is Outcome.ABANDONED
        assert told.wait(20)
        assert threads[0].is_alive()
        released.set()
        assert pool.submit(double, 4).result(20) == 8


def test_a_task_on_somebody_elses_processes_is_abandoned(tmp_path):
    path = tmp_path / "released"
    context = multiprocessing.get_context("forkserver")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        failure = failure_of(one(wait_for, executor=pool), path)
        assert type(failure.__cause__) is StepTimeoutError
        assert failure.execution.history[0].outcome is Outcome.ABANDONED
        path.touch()
        assert pool.submit(double, 4).result(20) == 8


def test_a_task_in_an_overriding_pool_has_its_timeout():
    with ThreadPoolExecutor(1) as pool:
        failure = failure_of(one(hang, executor="process"), executor=pool)
        assert type(failure.__cause__) is StepTimeoutError
        released.set()


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


def take_longer(value):
    time.sleep(2 * LIMIT)
    return value


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


# --- the time of a whole execution --------------------------------------------------


def test_an_execution_that_takes_too_long_raises():
    workflow = one(hang, timeout=None, executor="thread")
    with pytest.raises(ExecutionTimeoutError) as caught:
        workflow.execute(17, timeout=LIMIT)
    error = caught.value
    assert isinstance(error, TimeoutError)
    assert str(error) == "execution of 'Shop' took longer than 0.05 s"
    execution = error.execution
    assert execution.status is workflow.status is Status.TIMED_OUT
    assert execution.input == 17
    assert execution.output is None
    with pytest.raises(ExecutionTimeoutError) as again:
        execution.raise_if_failed()
    assert again.value.execution is execution


@pytest.mark.parametrize("inside", INSIDE)
def test_the_time_of_an_execution_stops_what_it_does(inside, nothing_reached):
    workflow = nested_of(**INSIDE[inside])
    assert overdue(workflow).status is Status.TIMED_OUT


@pytest.mark.parametrize("inside", INSIDE)
@pytest.mark.parametrize("executor", [None, "thread"])
def test_the_time_of_an_execution_holds_for_what_is_nested(
    inside, executor, nothing_reached
):
    outer = StepFunction("Outer").set_start_step("Sub")
    outer.add_step("Sub", nested_of(**INSIDE[inside]), "Never", executor=executor)
    outer.add_step("Never", reach)
    assert overdue(outer).status is Status.TIMED_OUT


@pytest.mark.parametrize("timeout", [None, 60])
def test_a_nested_thread_leaves_its_own_threads_too(timeout):
    threads = []

    def note(value):
        threads.append(threading.current_thread())

    inner = StepFunction("Inner").add_step("Note", note, "Hang")
    inner.add_step("Hang", hang, executor="thread").set_start_step("Note")
    overdue(one(inner, executor="thread", timeout=timeout))
    threads[0].join(3)
    assert not threads[0].is_alive()


def test_an_overdue_execution_is_not_routed_to_a_failure_step(nothing_reached):
    workflow = one(
        hang, None, executor="thread", on_failure={TimeoutError: "A", Exception: "A"}
    )
    overdue(workflow.add_step("A", reach))


def test_an_overdue_plain_last_step_is_waited_for():
    ended = []

    def stay(value, context):
        until_told(value, context)
        ended.append(value)
        return "output"

    execution = overdue(one(stay, timeout=None), 17)
    assert ended == [17]
    assert execution.context == {"Ask": "output"}


def test_what_was_done_in_time_is_kept():
    workflow = StepFunction("Shop").set_start_step("First")
    workflow.add_step("First", double, "Ask").add_step("Ask", hang, executor="thread")
    execution = overdue(workflow, 4)
    assert execution.context["First"] == 8
    assert [record.step for record in execution.history] == ["First", "Ask"]


def test_an_overdue_execution_abandons_threads():
    threads = []

    def note_and_hang(value):
        threads.append(threading.current_thread())
        hang()

    workflow = one({"a": note_and_hang, "b": hang}, timeout=None, parallel=True)
    records = tasks_of(overdue(workflow))
    assert threads[0].is_alive()
    assert {r.outcome for r in records.values()} == {Outcome.ABANDONED}


def test_an_overdue_execution_tells_the_threads_that_it_abandons():
    told = threading.Event()

    def listen(value, context):
        until_told(value, context)
        told.set()
        hang()

    overdue(one(listen, timeout=None, executor="thread"))
    assert told.wait(20)


def test_an_overdue_execution_kills_processes(tmp_path):
    path = tmp_path / "pids"
    workflow = one(hang_with_a_child, timeout=None, executor="process")
    execution = overdue(workflow, path, timeout=1.5)
    assert outcomes(execution.history[0].attempts) == [Outcome.KILLED]
    worker, child = pids_in(path)
    assert is_gone(worker)
    assert is_gone(child)


@pytest.mark.parametrize(
    "executor, outcome", [("thread", Outcome.ABANDONED), ("process", Outcome.KILLED)]
)
def test_the_record_of_an_overdue_step_says_what_became_of_it(executor, outcome, lanes):
    executor = lanes if executor == "process" else executor
    [record] = overdue(one(hang, timeout=None, executor=executor)).history
    assert record.outcome is outcome


def test_what_waits_never_begins_in_an_overdue_execution(nothing_reached):
    tasks = {"runs": hang, "waits": reach}
    workflow = one(tasks, timeout=None, parallel=True, max_workers=1)
    records = tasks_of(overdue(workflow))
    assert records["runs"].outcome is Outcome.ABANDONED
    assert records["waits"].outcome is Outcome.CANCELLED
    assert records["waits"].attempts == ()


def test_an_overdue_execution_leaves_tasks_in_somebody_elses_pool():
    with ThreadPoolExecutor(1) as pool:
        tasks = {"runs": hang, "waits": double}
        workflow = one(tasks, timeout=None, parallel=True, executor=pool)
        records = tasks_of(overdue(workflow, 4))
        assert records["runs"].outcome is Outcome.ABANDONED
        assert records["waits"].outcome is Outcome.CANCELLED
        released.set()
        assert pool.submit(double, 4).result(20) == 8


def test_the_time_is_over_also_while_stopped_tasks_are_waited_for():
    workflow = one(
        {"deaf": hang, "fails": fail}, timeout=None, parallel=True, stop_on_failure=True
    )
    execution = workflow.start(timeout=LIMIT)
    assert execution.wait(3)
    assert execution.status is Status.TIMED_OUT


def test_the_time_is_over_also_while_a_cancelled_execution_waits():
    began = threading.Event()

    def deaf(value):
        began.set()
        hang()

    execution = one(deaf, timeout=None, executor="thread").start(timeout=0.3)
    assert began.wait(20)
    execution.cancel()
    assert execution.wait(3)


def test_the_timeout_of_a_step_is_no_timeout_of_the_execution():
    failure = failure_of(one(hang, executor="thread"), timeout=60)
    assert failure.execution.status is Status.FAILED
    assert type(failure.__cause__) is StepTimeoutError


def test_an_execution_in_time_leaves_no_timer_behind():
    execution = one(double, timeout=None).execute(4, timeout=LONG)
    assert not any(isinstance(t, threading.Timer) for t in threading.enumerate())
    assert execution.status is Status.COMPLETED


@pytest.mark.parametrize("timeout", [float("inf"), 1e12])
def test_an_execution_may_have_more_time_than_anybody_lives(timeout):
    assert one(double, timeout=None).execute(4, timeout=timeout).output == 8


def test_an_execution_that_is_awaited_has_its_time_too():
    workflow = one(hang, timeout=None, executor="thread")
    with pytest.raises(ExecutionTimeoutError) as caught:
        asyncio.run(workflow.aexecute(timeout=LIMIT))
    assert caught.value.execution.status is Status.TIMED_OUT


# --- the end of the interpreter -----------------------------------------------------

PROGRAM = """\
import asyncio, logging, sys, threading, time
from stepfunction import StepFunction

def sleep(value):
    time.sleep(600)

def spin(value):
    while True:
        pass

async def wait(value):
    time.sleep(600)

nested = StepFunction("N").add_step("A", sleep, executor="thread").set_start_step("A")
func = {"sleep": sleep, "spin": spin, "wait": wait, "nested": nested}[sys.argv[1]]
limit = {sys.argv[2]: 0.1}
workflow = StepFunction("W").set_start_step("Ask")
workflow.add_step("Ask", func, executor="thread", timeout=limit.get("step"))
try:
    workflow.execute(timeout=limit.get("execution"))
except Exception as error:
    print(type(error.__cause__ or error).__name__, flush=True)
"""


@pytest.mark.parametrize(
    "func, limit, error",
    [
        ("sleep", "step", "StepTimeoutError"),
        ("spin", "step", "StepTimeoutError"),
        ("wait", "step", "StepTimeoutError"),
        ("nested", "step", "StepTimeoutError"),
        ("sleep", "execution", "ExecutionTimeoutError"),
        ("nested", "execution", "ExecutionTimeoutError"),
    ],
)
def test_an_abandoned_thread_does_not_keep_the_interpreter(func, limit, error):
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM, func, limit],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as program:
        try:
            assert program.stdout.readline() == f"{error}\n"
            _, err = program.communicate(timeout=4)  # 2 s, and slack
        finally:
            program.kill()
    assert program.returncode == 0
    assert err == ""
