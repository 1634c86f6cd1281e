from __future__ import annotations

import asyncio
import logging
import os
import threading

import pytest
from shared.failures import failure_of
from shared.retried import AT_ONCE, Flaky, always, workflow_of

from stepfunction import (
    Outcome,
    ParallelStepExecutionError,
    RetryPolicy,
    Status,
    StepFunction,
    WorkerCrashedError,
)

# --- tasks --------------------------------------------------------------------------


@pytest.mark.parametrize("executor", ["inline", "thread"])
def test_each_task_is_retried_by_itself(executor):
    steady, slow, hopeless = Flaky(), Flaky(ValueError("no")), always(ValueError("no"))

    execution = workflow_of(
        {"Steady": steady, "Slow": slow, "Hopeless": hopeless},
        parallel=True,
        executor=executor,
    ).execute()

    assert (steady.calls, slow.calls, hopeless.calls) == (1, 2, 3)
    assert list(execution.output.failed) == ["Hopeless"]
    attempts = {r.task: [a.outcome for a in r.attempts] for r in execution.history[1:]}
    assert attempts == {
        "Steady": [Outcome.SUCCEEDED],
        "Slow": [Outcome.FAILED, Outcome.SUCCEEDED],
        "Hopeless": [Outcome.FAILED] * 3,
    }


def count_call(folder, name):
    calls = len(list(folder.glob(f"{name}-*")))
    folder.joinpath(f"{name}-{calls}").touch()
    return calls


def fails_twice(folder):
    calls = count_call(folder, "fails_twice")
    if calls < 2:
        raise ValueError("no")
    return calls


def crashes_once(folder):
    calls = count_call(folder, "crashes_once")
    if calls < 1:
        os._exit(3)
    return calls


def always_fails(folder, context):
    count_call(folder, "always_fails")
    raise ValueError(f"no {context.attempt}")


def test_each_task_in_a_process_is_retried_by_itself(tmp_path):
    execution = workflow_of(
        {"Twice": fails_twice, "Crash": crashes_once, "Always": always_fails},
        parallel=True,
        executor="process",
        max_workers=2,
    ).execute(tmp_path)

    assert execution.output["Twice"] == 2
    assert execution.output["Crash"] == 1
    assert str(execution.output["Always"]) == "no 3"
    attempts = {r.task: [a.outcome for a in r.attempts] for r in execution.history[1:]}
    assert attempts == {
        "Twice": [Outcome.FAILED, Outcome.FAILED, Outcome.SUCCEEDED],
        "Crash": [Outcome.CRASHED, Outcome.SUCCEEDED],
        "Always": [Outcome.FAILED] * 3,
    }
    crash = next(r for r in execution.history if r.task == "Crash").attempts[0]
    assert type(crash.error) is WorkerCrashedError


@pytest.mark.parametrize("executor", ["inline", "thread", "process"])
def test_a_step_with_an_executor_is_retried_there(executor, tmp_path):
    execution = workflow_of(fails_twice, executor=executor).execute(tmp_path)

    assert execution.output == 2
    assert len(execution.history[0].attempts) == 3


def test_tasks_that_used_up_their_attempts_fail_the_step():
    with pytest.raises(ParallelStepExecutionError) as raised:
        workflow_of(
            {"Slow": Flaky(ValueError("no")), "Hopeless": always(KeyError("no"))},
            parallel=True,
            stop_on_failure=True,
        ).execute()

    assert list(raised.value.errors) == ["Hopeless"]
    assert raised.value.outcomes["Hopeless"] is Outcome.FAILED


def test_an_attempt_that_fails_and_is_retried_does_not_stop_the_other_tasks():
    other_runs = threading.Event()
    retried = threading.Event()

    def slow(value, context):
        assert other_runs.wait(10)
        if context.attempt == 1:
            raise ValueError("no")
        retried.set()
        return "slow"

    def other(value, context):
        other_runs.set()
        assert retried.wait(10)
        return context.cancelled

    execution = workflow_of(
        {"Slow": slow, "Other": other}, parallel=True, stop_on_failure=True
    ).execute()

    assert execution.output == {"Slow": "slow", "Other": False}


class Signal(logging.Handler):
    def __init__(self, call):
        super().__init__()
        self.call = call

    def emit(self, record):
        if "is followed by another" in record.getMessage():
            self.call()


@pytest.fixture
def when_pausing():
    logger, handlers = logging.getLogger("stepfunction"), []

    def add(call):
        handlers.append(Signal(call))
        logger.addHandler(handlers[-1])

    yield add
    for handler in handlers:
        logger.removeHandler(handler)


def test_a_pausing_task_does_not_hold_up_a_step_that_stops(when_pausing):
    is_pausing = threading.Event()
    when_pausing(is_pausing.set)
    pausing = always(ValueError("no"))

    def fails(value):
        assert is_pausing.wait(10)
        raise KeyError("enough")

    workflow = workflow_of(
        {"Pausing": pausing, "Failing": fails},
        RetryPolicy(3, interval=600, jitter=None, retry_on=ValueError),
        parallel=True,
        stop_on_failure=True,
    )

    failure = failure_of(workflow)

    assert pausing.calls == 1
    assert type(failure.__cause__) is KeyError
    assert failure.outcomes["Failing"] is Outcome.FAILED


def test_a_pausing_task_leaves_its_worker_to_the_others():
    turns = []

    def first(value, context):
        turns.append(("First", context.attempt))
        if context.attempt == 1:
            raise ValueError("no")

    def second(value):
        turns.append(("Second", 1))

    workflow_of(
        {"First": first, "Second": second},
        RetryPolicy(2, interval=0.01, jitter=None),
        parallel=True,
        max_workers=1,
    ).execute()

    assert turns == [("First", 1), ("Second", 1), ("First", 2)]


# --- nested workflows ---------------------------------------------------------------


def nested_of(first, second):
    inner = StepFunction("Inner").add_step("X", first, next_step="Y")
    return inner.add_step("Y", second).set_start_step("X")


@pytest.mark.parametrize("is_parallel", [False, True])
@pytest.mark.parametrize("executor", ["inline", "thread"])
def test_a_nested_workflow_is_retried_whole(is_parallel, executor):
    first, second = Flaky(output="first"), Flaky(ValueError("no"), output="second")
    inner = nested_of(first, second)

    execution = workflow_of(
        {"T": inner} if is_parallel else inner, parallel=is_parallel, executor=executor
    ).execute()

    assert (first.calls, second.calls) == (2, 2)
    assert execution.output == ({"T": "second"} if is_parallel else "second")
    record = execution.history[-1]
    assert [attempt.outcome for attempt in record.attempts] == [
        Outcome.FAILED,
        Outcome.SUCCEEDED,
    ]


def test_each_attempt_of_a_nested_workflow_is_an_execution_of_its_own():
    inner = nested_of(Flaky(output="first"), Flaky(ValueError("no"), output="second"))

    execution = workflow_of(inner).execute()

    failed = execution.history[0].attempts[0].error.execution
    child = execution.children["A"]
    assert (failed.status, child.status) == (Status.FAILED, Status.COMPLETED)
    assert failed.id != child.id
    assert dict(child.context) == {"X": "first", "Y": "second"}


def test_the_retries_inside_a_nested_workflow_begin_afresh_with_each_of_its_own():
    function = always(ValueError("no"))
    inner = workflow_of(function, RetryPolicy(2, interval=0))

    failure_of(workflow_of(inner, RetryPolicy(3, interval=0)))

    assert function.calls == 6


def test_add_sub_step_function_takes_a_policy():
    first, second = Flaky(), Flaky(ValueError("no"), output="second")
    workflow = StepFunction("Orders").set_start_step("A")
    workflow.add_sub_step_function("A", nested_of(first, second), retry=AT_ONCE)

    assert workflow.execute().output == "second"
    assert first.calls == 2


def test_a_nested_workflow_in_a_process_is_retried_whole(tmp_path):
    inner = StepFunction("Inner").add_step("X", fails_twice).set_start_step("X")

    execution = workflow_of(inner, executor="process").execute(tmp_path)

    assert execution.output == 2
    assert len(execution.history[0].attempts) == 3
    assert execution.children["A"].status is Status.COMPLETED


# --- cancelling ---------------------------------------------------------------------


@pytest.mark.parametrize("place", ["step", "thread", "task", "nested", "nested task"])
def test_a_pause_ends_when_the_execution_is_cancelled(place, when_pausing):
    function = always(ValueError("no"))
    policy = RetryPolicy(3, interval=600, jitter=None)
    workflow = {
        "step": lambda: workflow_of(function, policy),
        "thread": lambda: workflow_of(function, policy, executor="thread"),
        "task": lambda: workflow_of({"T": function}, policy, parallel=True),
        "nested": lambda: workflow_of(workflow_of(function, policy), None),
        "nested task": lambda: workflow_of(
            {"T": workflow_of(function, policy)}, None, parallel=True
        ),
    }[place]()

    async def main():
        loop, is_pausing = asyncio.get_running_loop(), asyncio.Event()
        when_pausing(lambda: loop.call_soon_threadsafe(is_pausing.set))
        running = asyncio.create_task(workflow.aexecute())
        await is_pausing.wait()
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running

    asyncio.run(main())

    assert workflow.status is Status.CANCELLED
    assert function.calls == 1


def test_a_cancelled_pause_is_not_taken_by_a_failure_step(when_pausing):
    apologise = Flaky()
    workflow = workflow_of(
        always(ValueError("no")),
        RetryPolicy(3, interval=600, jitter=None),
        on_failure="B",
    ).add_step("B", apologise)

    async def main():
        loop, is_pausing = asyncio.get_running_loop(), asyncio.Event()
        when_pausing(lambda: loop.call_soon_threadsafe(is_pausing.set))
        running = asyncio.create_task(workflow.aexecute())
        await is_pausing.wait()
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running

    asyncio.run(main())

    assert workflow.status is Status.CANCELLED
    assert apologise.calls == 0
