from __future__ import annotations

import threading
from collections import Counter

import pytest
from shared.events import (
    LIMIT,
    PLACES,
    Told,
    check_pairs,
    die,
    fail,
    fan_out,
    nested_of,
    one,
    tell,
    until_told,
    workflow_of,
)
from shared.processes import wait_for

from stepfunction import (
    HeartbeatTimeoutError,
    Outcome,
    ParallelStepExecutionError,
    RetryPolicy,
    Status,
    StepTimeoutError,
    WorkerCrashedError,
)

# --- what steps do ------------------------------------------------------------------


def fail_once(value, context):
    if context.attempt == 1:
        raise ValueError("no")
    return "again"


def hang(value, context):
    threading.Event().wait()


# --- tasks --------------------------------------------------------------------------


everywhere = pytest.mark.parametrize("executor", PLACES, indirect=True)


@everywhere
def test_a_parallel_step_tells_of_its_tasks(executor):
    told = Told()
    workflow = fan_out({"good": one, "bad": fail}, executor=executor)
    execution = workflow.execute(listeners=[told])

    assert told.of("step_started")[0].tasks == ("good", "bad")
    assert {event.task for event in told.of("task_started")} == {"good", "bad"}
    good, bad = told.only("task_succeeded"), told.only("task_failed")
    assert (good.step, good.task, good.outcome) == ("A", "good", Outcome.SUCCEEDED)
    assert (bad.step, bad.task, bad.outcome) == ("A", "bad", Outcome.FAILED)
    assert bad.error is execution.output["bad"]
    for event, record in zip((good, bad), execution.history[1:], strict=True):
        assert (event.attempts, event.duration) == (record.attempts, record.duration)
        assert (event.tasks, event.next_step) == ((), None)
    check_pairs(told)
    assert told.threads == {threading.get_ident()}


def test_a_task_has_the_times_of_its_attempts_however_late_they_are_told():
    told = Told()
    ended = threading.Event()

    def dawdle(event):
        if event.kind == "task_started" and event.task == "a":
            assert ended.wait(10)
            threading.Event().wait(0.05)

    tasks = {"a": one, "b": lambda: ended.set()}
    execution = fan_out(tasks).execute(listeners=[dawdle, told])

    for record in execution.history[1:]:
        start, end = (event for event in told if event.task == record.task)
        assert start.time == pytest.approx(record.started, abs=0.001)
        assert end.time == pytest.approx(record.started + record.duration, abs=0.001)


def test_an_inline_task_is_told_of_before_it_runs():
    told, seen = Told(), []
    tasks = {"a": lambda: seen.append(told.kinds[-1]), "b": nested_of()}

    fan_out(tasks, executor="inline").execute(listeners=[told])

    assert seen == ["task_started"]
    assert told.kinds.index("task_succeeded") > told.kinds.index("task_started")
    check_pairs(told)


@everywhere
def test_a_retried_task_starts_and_ends_once(executor):
    policy = RetryPolicy(2, interval=0.001, jitter=None)
    told = tell(fan_out({"T": fail_once}, executor=executor, retry=policy))

    assert [event.kind for event in told if event.task] == [
        "task_started",
        "task_retried",
        "task_succeeded",
    ]
    retried, end = told.only("task_retried"), told.only("task_succeeded")
    assert (retried.pause, retried.outcome) == (0.001, Outcome.FAILED)
    assert str(retried.error) == "no"
    assert [attempt.number for attempt in retried.attempts] == [1]
    assert retried.duration is None
    assert [attempt.number for attempt in end.attempts] == [1, 2]
    assert end.attempts[0].error is retried.error
    check_pairs(told)


@pytest.mark.parametrize("executor", [None, "inline", "thread", "process"])
def test_a_retried_step_starts_and_ends_once(executor):
    policy = RetryPolicy(2, interval=0.001, jitter=None)
    told = tell(workflow_of(fail_once, executor=executor, retry=policy))

    assert [event.kind for event in told if event.step] == [
        "step_started",
        "step_retried",
        "step_succeeded",
    ]
    retried = told.only("step_retried")
    assert (retried.pause, retried.outcome) == (0.001, Outcome.FAILED)
    assert str(retried.error) == "no" and len(retried.attempts) == 1
    assert len(told.only("step_succeeded").attempts) == 2


def test_a_step_is_retried_before_the_next_attempt_begins():
    told, seen = Told(), []

    def act(value, context):
        seen.append(told.kinds[-1])
        if context.attempt < 3:
            raise ValueError("no")

    workflow_of(act, retry=RetryPolicy(3, 0)).execute(listeners=[told])

    assert seen == ["step_started", "step_retried", "step_retried"]
    assert [len(event.attempts) for event in told.of("step_retried")] == [1, 2]


@pytest.mark.parametrize("subject", ["step", "task"])
@pytest.mark.parametrize(
    "place, action, option, outcome, error",
    [
        ("thread", until_told, "timeout", "ABANDONED", StepTimeoutError),
        ("thread", until_told, "heartbeat", "ABANDONED", HeartbeatTimeoutError),
        ("process", hang, "timeout", "TIMED_OUT", StepTimeoutError),
        ("process", hang, "heartbeat", "TIMED_OUT", HeartbeatTimeoutError),
        ("process", die, None, "CRASHED", WorkerCrashedError),
    ],
)
def test_the_kind_says_how_it_ended(
    subject, place, action, option, outcome, error, lanes
):
    action = action if subject == "step" else {"T": action}
    workflow = workflow_of(
        action,
        parallel=subject == "task",
        executor=lanes if place == "process" else place,
        **{option: LIMIT} if option else {},
    )
    told = tell(workflow)

    end = told.only(f"{subject}_{outcome.lower()}")
    assert (end.outcome, type(end.error)) == (Outcome[outcome], error)
    check_pairs(told)


def test_tasks_that_never_begin_are_cancelled_without_a_start():
    tasks = {"bad": fail, "never": one}
    told = tell(fan_out(tasks, executor="inline", stop_on_failure=True))

    cancelled = told.only("task_cancelled")
    assert (cancelled.task, cancelled.attempts) == ("never", ())
    assert (cancelled.outcome, cancelled.error) == (Outcome.CANCELLED, None)
    assert [event.task for event in told.of("task_started")] == ["bad"]
    assert type(told.only("step_failed").error) is ParallelStepExecutionError
    check_pairs(told)


def test_a_task_that_gives_up_when_told_is_cancelled():
    waiting = threading.Event()

    def wait(value, context):
        waiting.set()
        context.sleep(30)

    def fails(value):
        assert waiting.wait(10)
        raise ValueError("no")

    told = tell(fan_out({"wait": wait, "fails": fails}, stop_on_failure=True))

    assert told.only("task_cancelled").task == "wait"
    assert told.only("task_failed").task == "fails"
    assert told.kinds[-4:-2] == ["task_failed", "task_cancelled"]
    check_pairs(told)


def touch_and_hang(path):
    (path / "begun").touch()
    threading.Event().wait()


def fail_when_begun(path):
    wait_for(path / "begun")
    raise ValueError("no")


def test_a_process_task_that_is_stopped_is_killed(lanes, tmp_path):
    tasks = {"hangs": touch_and_hang, "fails": fail_when_begun}
    told = tell(fan_out(tasks, executor=lanes, stop_on_failure=True), tmp_path)

    killed = told.only("task_killed")
    assert (killed.task, killed.error) == ("hangs", None)
    check_pairs(told)


def test_a_tolerated_failure_is_told_of():
    told = tell(fan_out({"bad": fail, "good": one}))

    assert told.only("task_failed").task == "bad"
    assert told.only("step_succeeded").error is None
    assert told[-1].status is Status.COMPLETED


def test_ten_thousand_tasks_are_told_of_once_each():
    told = tell(fan_out({str(number): one for number in range(10_000)}))

    counts = Counter(told.kinds)
    assert counts["task_started"] == counts["task_succeeded"] == 10_000
    assert len({event.task for event in told.of("task_succeeded")}) == 10_000
