from __future__ import annotations

import multiprocessing
import os
import threading
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

import pytest
from shared.calls import double
from shared.failures import failure_of
from shared.hanging import (
    INSIDE,
    LIMIT,
    hang,
    nested_of,
    one,
    outcomes,
    pids_in,
    released,
    take_longer,
)
from shared.processes import is_gone, tell, wait_for

from stepfunction import (
    ExecutionTimeoutError,
    Outcome,
    RetryPolicy,
    Status,
    StepFunction,
    StepTimeoutError,
)


def tell_pid_and_hang(path):
    tell(path, str(os.getpid()))
    hang()


# --- nested workflows ---------------------------------------------------------------


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
    ended = [(record.step, record.outcome) for record in child.history]
    assert ended == [("Quick", Outcome.SUCCEEDED), ("Hang", None)]


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
    workflow = one(nested, timeout=3, on_failure="Late")
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
