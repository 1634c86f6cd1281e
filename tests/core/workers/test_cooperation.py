from __future__ import annotations

import threading
import time

import pytest
from shared.failures import failure_of

from stepfunction import (
    ExecutionCancelledError,
    ExecutionTimeoutError,
    Outcome,
    ProcessLanes,
    RetryPolicy,
    Status,
    StepFunction,
    StepTimeoutError,
)

LONG = 600  # no test waits for that
SECONDS = 20


@pytest.fixture(scope="module")
def lanes():
    with ProcessLanes(max_workers=1) as lanes:
        yield lanes


def one(func, **arguments):
    workflow = StepFunction("Shop").add_step("Look", func, **arguments)
    return workflow.set_start_step("Look")


class Long:
    """A long piece of work, that stops as soon as it should."""

    def __init__(self):
        self.began = threading.Event()
        self.raised = None
        self.thread = None

    def __call__(self, value, context):
        self.thread = threading.current_thread()
        self.began.set()
        try:
            self.work(context)
        except BaseException as error:
            self.raised = error
            raise

    def work(self, context):
        raise NotImplementedError


class Checking(Long):
    def work(self, context):
        while True:
            context.check_cancelled()
            time.sleep(0.002)


class Sleeping(Long):
    def work(self, context):
        context.sleep(LONG)


@pytest.fixture(params=[Checking, Sleeping])
def long(request):
    return request.param()


def cancelled(workflow, began):
    execution = workflow.start()
    assert began.wait(SECONDS)
    execution.cancel()
    assert execution.wait(SECONDS)
    assert execution.status is Status.CANCELLED
    return execution


# --- while nobody asks to stop ------------------------------------------------------


def check_and_sleep(value, context):
    for _ in range(3):
        context.check_cancelled()
        context.sleep(0.001)
    return "done"


@pytest.mark.parametrize("executor", [None, "inline", "thread", "process"])
@pytest.mark.parametrize("is_parallel", [False, True])
def test_work_that_nobody_stops_goes_on(executor, is_parallel, lanes):
    workflow = one(
        {"a": check_and_sleep} if is_parallel else check_and_sleep,
        executor=lanes if executor == "process" else executor,
        parallel=is_parallel,
    )
    assert workflow.execute().output == ({"a": "done"} if is_parallel else "done")


def sleep_a_while(value, context):
    began = time.monotonic()
    result = context.sleep(value)
    return result, time.monotonic() - began


@pytest.mark.parametrize("executor", [None, "thread", "process"])
def test_sleeping_takes_its_time_and_gives_nothing(executor, lanes):
    executor = lanes if executor == "process" else executor
    result, seconds = one(sleep_a_while, executor=executor).execute(0.05).output
    assert result is None
    assert seconds >= 0.049  # clocks differ in their last digits


def test_sleeping_no_time_only_checks():
    assert one(sleep_a_while).execute(0).output[0] is None


# --- when the execution is cancelled ------------------------------------------------


@pytest.mark.parametrize("executor", [None, "thread"])
def test_a_step_gives_up_when_its_execution_is_cancelled(long, executor):
    cancelled(one(long, executor=executor), long.began)
    assert type(long.raised) is ExecutionCancelledError
    assert str(long.raised) == "step 'Look' was told to stop"


@pytest.mark.parametrize("executor", [None, "thread"])
@pytest.mark.parametrize("retry", [None, RetryPolicy(3, interval=0)])
def test_a_step_that_gave_up_is_cancelled_and_has_not_failed(long, executor, retry):
    workflow = one(long, executor=executor, retry=retry, on_failure="Never")
    execution = cancelled(workflow.add_step("Never", str), long.began)
    [record] = execution.history
    assert record.outcome is Outcome.CANCELLED
    assert [attempt.outcome for attempt in record.attempts] == [Outcome.CANCELLED]
    assert execution.failures == ()


def test_a_task_gives_up_when_its_execution_is_cancelled(long):
    workflow = one({"long": long}, parallel=True)
    execution = cancelled(workflow, long.began)
    assert str(long.raised) == "task 'long' of step 'Look' was told to stop"
    record = execution.history[-1]
    assert (record.task, record.outcome) == ("long", Outcome.CANCELLED)
    assert execution.failures == ()


@pytest.mark.parametrize("executor", [None, "thread"])
def test_a_nested_step_gives_up_when_the_execution_is_cancelled(long, executor):
    nested = StepFunction("Nested").add_step("Inside", long).set_start_step("Inside")
    execution = cancelled(one(nested, executor=executor), long.began)
    assert str(long.raised) == "step 'Inside' was told to stop"
    assert execution.history[0].outcome is Outcome.CANCELLED
    assert execution.failures == ()


def test_who_looks_in_a_tight_loop_is_cancelled_and_has_not_failed():
    began = threading.Barrier(4)

    def spin(value, context):
        began.wait(SECONDS)
        while True:
            context.check_cancelled()

    tasks = {"a": spin, "b": spin, "c": spin}
    for _ in range(20):
        execution = one(tasks, parallel=True).start()
        began.wait(SECONDS)
        execution.cancel()
        assert execution.wait(SECONDS)
        outcomes = [record.outcome for record in execution.history if record.task]
        assert outcomes == [Outcome.CANCELLED] * 3


# --- when a sibling has failed ------------------------------------------------------


@pytest.mark.parametrize("timeout", [None, 60])
def test_a_task_gives_up_when_its_step_is_stopped(long, timeout):
    def fail(value):
        assert long.began.wait(SECONDS)
        raise ValueError("told to fail")

    tasks = {"long": long, "fails": fail}
    workflow = one(tasks, parallel=True, stop_on_failure=True, timeout=timeout)
    error = failure_of(workflow)
    assert error.outcomes == {"long": Outcome.CANCELLED, "fails": Outcome.FAILED}
    assert list(error.errors) == ["fails"]
    assert str(long.raised) == "task 'long' of step 'Look' was told to stop"
    assert [r.task for r in error.execution.failures] == [None, "fails"]


def test_the_steps_after_a_stopped_one_may_sleep():
    def fail(value):
        raise ValueError("told to fail")

    workflow = one(
        {"fails": fail}, parallel=True, stop_on_failure=True, on_failure="Next"
    )
    workflow.add_step("Next", check_and_sleep)
    assert workflow.execute().output == "done"


# --- when time is over --------------------------------------------------------------


def test_an_abandoned_thread_gives_up(long):
    error = failure_of(one(long, executor="thread", timeout=0.05))
    assert type(error.__cause__) is StepTimeoutError
    long.thread.join(SECONDS)
    assert not long.thread.is_alive()
    assert type(long.raised) is ExecutionCancelledError
    assert error.execution.history[0].outcome is Outcome.ABANDONED


def test_the_attempt_after_an_abandoned_one_may_sleep():
    def sleep_long_at_first(value, context):
        context.sleep(LONG if context.attempt == 1 else 0)
        return context.attempt

    retry = RetryPolicy(2, interval=0)
    workflow = one(sleep_long_at_first, executor="thread", timeout=0.2, retry=retry)
    assert workflow.execute().output == 2


@pytest.mark.parametrize("executor", [None, "thread"])
def test_a_step_gives_up_when_the_time_of_its_execution_is_over(long, executor):
    timeout = 0.1 if executor is None else 0.5  # by then the thread has begun
    with pytest.raises(ExecutionTimeoutError) as caught:
        one(long, executor=executor).execute(timeout=timeout)
    assert caught.value.execution.status is Status.TIMED_OUT
    if executor is not None:  # it was left behind, and may still be at it
        long.thread.join(SECONDS)
    assert str(long.raised) == "step 'Look' was told to stop"


def test_a_nested_step_gives_up_when_the_time_of_its_workflow_is_over(long):
    nested = StepFunction("Nested").add_step("Inside", long).set_start_step("Inside")
    error = failure_of(one(nested, timeout=0.1))
    assert type(error.__cause__) is StepTimeoutError
    child = error.execution.children["Look"]
    assert child.status is Status.TIMED_OUT
    assert child.history[0].outcome is Outcome.CANCELLED
    assert str(long.raised) == "step 'Inside' was told to stop"


# --- what the work makes of it ------------------------------------------------------


def test_work_may_clean_up_before_it_gives_up(long):
    cleaned = []

    def clean_up(value, context):
        try:
            long(value, context)
        finally:
            cleaned.append(context.cancelled)

    execution = cancelled(one({"a": clean_up}, parallel=True), long.began)
    assert cleaned == [True]
    assert execution.history[-1].outcome is Outcome.CANCELLED


def test_work_that_was_told_to_stop_can_sleep_no_more():
    began, seconds = threading.Event(), []

    def ask_again(value, context):
        began.set()
        for _ in range(3):
            before = time.monotonic()
            with pytest.raises(ExecutionCancelledError):
                context.sleep(LONG)
            seconds.append(time.monotonic() - before)

    cancelled(one(ask_again), began)
    assert len(seconds) == 3


def test_work_may_sleep_in_threads_of_its_own():
    began = threading.Barrier(4)
    raised = []

    def sleep_in_threads(value, context):
        def sleep():
            began.wait(SECONDS)
            try:
                context.sleep(LONG)
            except ExecutionCancelledError as error:
                raised.append(error)

        threads = [threading.Thread(target=sleep) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    execution = one(sleep_in_threads, executor="thread").start()
    began.wait(SECONDS)
    execution.cancel()
    assert execution.wait(SECONDS)
    assert len(raised) == 3


def test_a_cancellation_that_nobody_asked_for_is_a_failure():
    def give_up(value):
        raise ExecutionCancelledError("of its own")

    error = failure_of(one(give_up, executor="thread"))
    assert error.execution.status is Status.FAILED
    assert error.execution.history[0].outcome is Outcome.FAILED
