from __future__ import annotations

import logging
import multiprocessing
import os
import re
import sys
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

import pytest
from shared.calls import double, interrupt, same
from shared.parallel import (
    ALL_PLACES,
    ELSEWHERE,
    IN_LANES,
    IN_THREADS,
    ONCE_MORE,
    PLACES,
    at,
    fail,
    fan_out,
    negate,
    one_step,
    touch,
)

from stepfunction import (
    DefinitionError,
    Outcome,
    ParallelStepExecutionError,
    ProcessLanes,
    RetryPolicy,
    Status,
    StepExecutionError,
    StepFunction,
    WorkerCrashedError,
)

# After a pause: what is due at once goes before what waits.
IF_DISCONNECTED = RetryPolicy(2, interval=0.3, jitter=None, retry_on=ConnectionError)


def leave(value):
    sys.exit(3)


def crash(value):
    os._exit(3)


def fail_after_the_second(value, context):
    if context.task == "first":
        raise ConnectionError(context.task)  # which pauses, and so ends last
    raise ValueError(context.task)


def execute(workflow, value):
    try:
        return workflow.execute(value)
    except (SystemExit, KeyboardInterrupt) as error:  # which would end pytest
        pytest.fail(f"{error!r} came out of execute()")


def outcomes(execution):
    return {r.task: r.outcome for r in execution.history if r.task is not None}


@pytest.fixture
def executor(request, kept):
    return kept.get(request.param, request.param)


# --- tolerated failures -------------------------------------------------------------


@at(ALL_PLACES)
def test_a_step_that_says_nothing_more_tolerates_failures(executor):
    workflow = StepFunction("W")
    tasks = {"good": double, "bad": fail}
    workflow.add_step("Fan", tasks, parallel=True, executor=executor, next_step="Next")
    workflow.add_step("Next", same)
    execution = workflow.set_start_step("Fan").execute(4)
    output = execution.context["Fan"]
    assert execution.status is Status.COMPLETED
    assert execution.output is output
    assert output["good"] == 8
    assert repr(output["bad"]) == "ValueError('cannot take 4')"
    assert output.failed == {"bad": output["bad"]}
    assert [(r.step, r.task) for r in execution.failures] == [("Fan", "bad")]
    assert outcomes(execution) == {"good": Outcome.SUCCEEDED, "bad": Outcome.FAILED}


@at(PLACES)
def test_raise_if_failed_raises_what_was_tolerated(executor):
    workflow = fan_out({"good": double, "bad": fail}, executor=executor)
    output = workflow.execute(4).output
    with pytest.raises(ParallelStepExecutionError) as caught:
        output.raise_if_failed()
    error = caught.value
    assert str(error) == (
        "1 of 2 tasks of step 'Fan' failed: 'bad': ValueError: cannot take 4"
    )
    assert error.outcomes == {"good": "SUCCEEDED", "bad": "FAILED"}
    assert error.results == {"good": 8}
    assert error.errors == {"bad": output["bad"]}
    assert error.__cause__ is output["bad"]


def test_raise_if_failed_gives_the_output_where_nothing_failed():
    output = fan_out({"good": double}).execute(4).output
    assert output.raise_if_failed() is output
    assert output.failed == {}


@at(ELSEWHERE)
def test_raise_if_failed_names_the_first_failure_in_time_as_the_cause(executor):
    tasks = {"first": fail_after_the_second, "second": fail_after_the_second}
    workflow = fan_out(tasks, executor=executor, max_workers=1, retry=IF_DISCONNECTED)
    output = workflow.execute().output
    with pytest.raises(ParallelStepExecutionError) as caught:
        output.raise_if_failed()
    assert caught.value.__cause__ is output["second"]


def test_a_tolerated_failure_is_logged_as_an_error(caplog):
    fan_out({"good": double, "bad": fail}).execute(4)
    (record,) = caplog.records
    assert (record.levelno, record.name) == (logging.ERROR, "stepfunction")
    assert re.fullmatch(
        r"task 'bad' of step 'Fan' of 'W' failed in .+ [mµ]?s: "
        r"ValueError: cannot take 4",
        record.getMessage(),
    )
    assert record.exc_info[1].args == ("cannot take 4",)


@at(PLACES)
def test_a_step_with_a_failure_step_fails_when_all_have_ended(executor, tmp_path):
    tasks = {"bad": fail, "good": touch, "better": touch}
    workflow = fan_out(tasks, executor=executor, on_failure="Caught")
    execution = workflow.execute(tmp_path)
    error = execution.context["Fan"]
    assert execution.status is Status.FAILED
    assert type(error) is ParallelStepExecutionError
    assert error.outcomes == {
        "bad": Outcome.FAILED,
        "good": Outcome.SUCCEEDED,
        "better": Outcome.SUCCEEDED,
    }
    assert sorted(path.name for path in tmp_path.iterdir()) == ["better", "good"]


@pytest.mark.parametrize(
    "tolerated, count, failing, is_failure",
    [
        (0, 3, 0, False),
        (0, 3, 1, True),
        (1, 3, 1, False),
        (1, 3, 2, True),
        ("10%", 10, 1, False),
        ("10%", 10, 2, True),
        ("10%", 9, 1, True),
        ("10%", 30, 3, False),
        ("12.5%", 8, 1, False),
        ("100%", 2, 2, False),
        ("0%", 2, 1, True),
    ],
)
@pytest.mark.parametrize("on_failure", [None, "Caught"])
@pytest.mark.parametrize("stop_on_failure", [False, True])
def test_tolerated_failures_move_the_threshold(
    tolerated, count, failing, is_failure, on_failure, stop_on_failure
):
    tasks = {str(n): fail if n < failing else double for n in range(count)}
    workflow = fan_out(
        tasks,
        tolerated_failures=tolerated,
        on_failure=on_failure,
        stop_on_failure=stop_on_failure,
    )
    if is_failure and on_failure is None:
        with pytest.raises(ParallelStepExecutionError):
            workflow.execute(1)
    else:
        assert ("Caught" in workflow.execute(1).context) is is_failure


@pytest.mark.parametrize(
    "tolerated", [-1, 1.5, True, "10", "101%", "-1%", "x%", "%", "\N{THAI DIGIT ONE}%"]
)
def test_what_is_no_count_and_no_share_is_refused(tolerated):
    with pytest.raises(DefinitionError) as caught:
        fan_out({"a": double}, tolerated_failures=tolerated)
    assert str(caught.value) == (
        "step 'Fan': tolerated_failures is a count from 0, or a share of the tasks "
        f"such as '10%', not {tolerated!r}"
    )


@pytest.mark.parametrize("executor", ["inline", "thread"])
def test_an_error_that_cannot_be_printed_is_tolerated_like_any(executor):
    class Unprintable(Exception):
        def __str__(self):
            raise RuntimeError("no text")

    def bad(value):
        raise Unprintable

    output = fan_out({"bad": bad, "good": double}, executor=executor).execute(1).output
    assert type(output["bad"]) is Unprintable
    assert output["good"] == 2


# --- a parallel step that fails -----------------------------------------------------


@at(ALL_PLACES)
def test_an_unhandled_failure_is_what_execute_raises(executor):
    tasks = {"good": double, "bad": fail}
    workflow = fan_out(tasks, executor=executor, tolerated_failures=0)
    with pytest.raises(ParallelStepExecutionError) as caught:
        workflow.execute(4)
    error = caught.value
    assert isinstance(error, StepExecutionError)
    assert error.step == "Fan"
    assert error.outcomes == {"good": Outcome.SUCCEEDED, "bad": Outcome.FAILED}
    assert error.results == {"good": 8}
    assert repr(error.errors) == "{'bad': ValueError('cannot take 4')}"
    assert error.__cause__ is error.errors["bad"]
    assert error.execution.status is Status.FAILED


@at(ELSEWHERE)
def test_the_first_failure_in_time_is_the_cause(executor):
    tasks = {"first": fail_after_the_second, "second": fail_after_the_second}
    workflow = fan_out(
        tasks,
        executor=executor,
        max_workers=1,
        retry=IF_DISCONNECTED,
        on_failure="Caught",
    )
    error = workflow.execute().output
    assert error.__cause__ is error.errors["second"]
    assert set(error.errors) == {"first", "second"}


def test_a_failure_step_is_found_by_the_cause():
    workflow = StepFunction("W").add_step(
        "Fan",
        {"bad": fail, "good": double},
        parallel=True,
        on_failure={KeyError: "Key", ValueError: "Value"},
    )
    workflow.add_step("Key", same).add_step("Value", same).set_start_step("Fan")
    assert list(workflow.execute(1).context) == ["Fan", "Value"]


@at(ELSEWHERE)
@pytest.mark.parametrize(
    "task, kind", [(leave, SystemExit), (interrupt, KeyboardInterrupt)]
)
@pytest.mark.parametrize("retry", [None, ONCE_MORE])
def test_what_would_end_the_program_is_the_failure_of_its_task(
    executor, task, kind, retry
):
    workflow = fan_out({"bad": task, "good": double}, executor=executor, retry=retry)
    execution = execute(workflow, 4)
    assert type(execution.output["bad"]) is kind
    assert execution.output["good"] == 8
    assert outcomes(execution) == {"bad": Outcome.FAILED, "good": Outcome.SUCCEEDED}


@at(ELSEWHERE)
@pytest.mark.parametrize("retry", [None, ONCE_MORE])
def test_what_would_end_the_program_fails_a_step_that_runs_elsewhere(executor, retry):
    workflow = one_step(leave, executor=executor, on_failure="Caught", retry=retry)
    execution = execute(workflow.add_step("Caught", same), 1)
    assert type(execution.context["Step"]) is SystemExit
    assert execution.status is Status.FAILED


@at(IN_THREADS)
def test_a_workflow_that_would_end_the_program_leaves_its_siblings_alone(executor):
    nested = StepFunction("Nested").add_step("Leave", leave).set_start_step("Leave")

    tasks = {"nested": nested, "late": double, "later": double}
    execution = execute(fan_out(tasks, executor=executor, max_workers=1), 1)
    assert execution.output["late"] == execution.output["later"] == 2
    assert set(execution.output.failed) == {"nested"}


@at(IN_LANES)
def test_a_crash_is_the_failure_of_its_task_alone(executor):
    tasks = {"bad": crash, "good": double, "better": negate}
    execution = fan_out(tasks, executor=executor).execute(4)
    error = execution.output["bad"]
    assert type(error) is WorkerCrashedError
    assert str(error) == (
        f"the worker process of task 'bad' of step 'Fan' (pid {error.pid}) ended with "
        "exit code 3"
    )
    assert outcomes(execution) == {
        "bad": Outcome.CRASHED,
        "good": Outcome.SUCCEEDED,
        "better": Outcome.SUCCEEDED,
    }
    assert [r.task for r in execution.failures] == ["bad"]


def test_a_pool_that_breaks_fails_the_step_with_its_own_error():
    forkserver = multiprocessing.get_context("forkserver")
    with ProcessPoolExecutor(1, mp_context=forkserver) as pool:
        tasks = {"bad": crash, "good": double}
        output = fan_out(tasks, executor=pool, max_workers=1).execute(4).output
        assert {type(e).__name__ for e in output.values()} == {"BrokenProcessPool"}


@pytest.mark.parametrize("make", [ProcessLanes, ThreadPoolExecutor])
def test_an_executor_that_was_shut_down_fails_the_step(make):
    pool = make(1)
    pool.shutdown()
    workflow = fan_out({"a": double, "b": double}, executor=pool, on_failure="Caught")
    error = workflow.execute(4).output
    assert type(error) is RuntimeError
    assert "after shutdown" in str(error)


@pytest.mark.parametrize("make", [ProcessLanes, ThreadPoolExecutor])
def test_no_step_tolerates_an_executor_that_was_shut_down(make):
    pool = make(1)
    pool.shutdown()
    with pytest.raises(StepExecutionError, match="after shutdown"):
        fan_out({"a": double, "b": double}, executor=pool).execute(4)
