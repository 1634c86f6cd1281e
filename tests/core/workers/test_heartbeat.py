from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from shared.failures import failure_of
from shared.hanging import released

from stepfunction import (
    Context,
    DefinitionError,
    ExecutionCancelledError,
    HeartbeatTimeoutError,
    Outcome,
    ProcessLanes,
    RetryPolicy,
    StepFunction,
    StepTimeoutError,
)

SHORT = 0.1
BEAT = 0.5  # a busy machine may take a part of it between two
LONG = 600  # no test waits for that
ELSEWHERE = (
    "heartbeat goes with executor='thread' or executor='process', or with ProcessLanes"
)
NO_CONTEXT = (
    "heartbeat expects calls of context.heartbeat(), so every function of the step "
    "must take a parameter annotated Context, or named context"
)
NO_WORKFLOW = (
    "heartbeat expects calls of context.heartbeat(), which a workflow does not make; "
    "give it to steps of the workflow"
)
OUTCOMES = {"thread": Outcome.ABANDONED, "process": Outcome.TIMED_OUT}


@pytest.fixture(scope="module")
def lanes():
    with ProcessLanes(2) as lanes:
        lanes.submit(quick, None).result()
        yield lanes


@pytest.fixture(params=["thread", "process"])
def place(request):
    return request.param


def overriding(place, lanes):
    """Give what lets a step of this place run there, but in a warm worker."""
    return {"executor": lanes} if place == "process" else {}


def quick(value, context=None):
    return value


def hang(value, context):
    released.wait(LONG)


def beat_for_three_periods(value, context):
    end = time.monotonic() + 3 * BEAT
    while time.monotonic() < end:
        context.heartbeat()
        time.sleep(BEAT / 20)
    return "alive"


def beat_and_hang(value, context):
    end = time.monotonic() + BEAT
    while time.monotonic() < end:
        context.heartbeat()
        time.sleep(BEAT / 20)
    hang(value, context)


def beat_from_a_thread(value, context):
    stop = threading.Event()

    def beat():
        while not stop.wait(BEAT / 20):
            context.heartbeat()

    thread = threading.Thread(target=beat)
    thread.start()
    time.sleep(2 * BEAT)
    stop.set()
    thread.join()
    return "alive"


def beat_for_ever(value, context):
    while True:
        context.heartbeat()
        time.sleep(BEAT / 20)


def leave_a_beating_thread(value, context):
    thread = threading.Thread(
        target=beat_for_ever, args=(value, context), daemon=True
    )
    thread.start()


def hang_at_first(value, context):
    if context.attempt == 1:
        hang(value, context)
    return context.attempt


def beat_many_times(value, context):
    for _ in range(1000):
        context.heartbeat()
    return "done"


def one(func, heartbeat=BEAT, **arguments):
    workflow = StepFunction("Shop")
    workflow.add_step("Watch", func, heartbeat=heartbeat, **arguments)
    return workflow.set_start_step("Watch")


# --- silence ------------------------------------------------------------------------


def test_a_step_that_gives_no_heartbeat_fails(place, lanes):
    workflow = one(hang, SHORT, executor=place)
    failure = failure_of(workflow, **overriding(place, lanes))
    error = failure.__cause__
    assert type(error) is HeartbeatTimeoutError
    assert isinstance(error, StepTimeoutError)
    assert str(error) == "step 'Watch': attempt 1 gave no heartbeat for 0.1 s"
    assert error.timeout == SHORT
    [record] = failure.execution.history
    assert record.outcome is OUTCOMES[place]
    assert record.error is error
    assert record.duration >= SHORT


def test_a_task_that_gives_no_heartbeat_fails_alone(place, lanes):
    tasks = {"silent": hang, "quick": quick}
    # A new process imports this file first, for which "quick" needs time too.
    heartbeat = 2 if place == "process" else BEAT
    workflow = one(tasks, heartbeat, parallel=True, executor=place)
    output = workflow.execute(4, **overriding(place, lanes)).output
    assert output["quick"] == 4
    assert type(output["silent"]) is HeartbeatTimeoutError
    assert str(output["silent"]) == (
        "task 'silent' of step 'Watch': attempt 1 gave no heartbeat for "
        f"{heartbeat:g} s"
    )


def test_a_step_that_falls_silent_fails(place, lanes):
    workflow = one(beat_and_hang, executor=place)
    failure = failure_of(workflow, **overriding(place, lanes))
    assert type(failure.__cause__) is HeartbeatTimeoutError
    assert failure.execution.history[0].duration >= 1.5 * BEAT


def test_silence_is_tried_again(place, lanes):
    retry = RetryPolicy(2, interval=0, retry_on=HeartbeatTimeoutError)
    # A process must be started for it.
    heartbeat = 1 if place == "process" else SHORT
    workflow = one(hang_at_first, heartbeat, executor=place, retry=retry)
    execution = workflow.execute(**overriding(place, lanes))
    assert execution.output == 2
    attempts = execution.history[0].attempts
    assert [a.outcome for a in attempts] == [OUTCOMES[place], Outcome.SUCCEEDED]


def test_a_failure_step_takes_silence():
    workflow = one(
        hang, 0.05, executor="thread", on_failure={HeartbeatTimeoutError: "Late"}
    )
    workflow.add_step("Late", lambda error: "late")
    assert workflow.execute().output == "late"


def test_waiting_for_a_thread_is_no_silence():
    tasks = {"first": hang, "second": hang, "third": quick}
    workflow = one(tasks, 0.2, parallel=True, max_workers=1)
    output = workflow.execute(4).output
    assert output["third"] == 4
    assert list(output.failed) == ["first", "second"]


def test_the_silent_thread_is_told():
    told = []

    def listen(value, context):
        while not context.cancelled:
            released.wait(0.002)
        try:
            context.heartbeat()
        except ExecutionCancelledError as error:
            told.append(error)
        released.set()

    failure_of(one(listen, 0.05, executor="thread"))
    assert released.wait(20)
    assert [str(error) for error in told] == ["step 'Watch' was told to stop"]


# --- signs of life ------------------------------------------------------------------


@pytest.mark.parametrize("func", [beat_for_three_periods, beat_from_a_thread])
def test_a_heartbeat_in_time_keeps_a_step_alive(func, place, lanes):
    workflow = one(func, executor=place)
    execution = workflow.execute(**overriding(place, lanes))
    assert execution.output == "alive"
    assert execution.duration > 2 * BEAT


def test_a_short_step_needs_no_heartbeat(place, lanes):
    workflow = one(quick, executor=place)
    assert workflow.execute(4, **overriding(place, lanes)).output == 4


def test_heartbeats_do_not_extend_the_timeout(place, lanes):
    workflow = one(beat_for_ever, timeout=BEAT, executor=place)
    error = failure_of(workflow, **overriding(place, lanes)).__cause__
    assert type(error) is StepTimeoutError
    assert str(error) == "step 'Watch': attempt 1 took longer than 0.5 s"


def test_silence_ends_an_attempt_before_its_timeout():
    workflow = one(hang, 0.05, timeout=60, executor="thread")
    assert type(failure_of(workflow).__cause__) is HeartbeatTimeoutError


def test_a_task_is_not_kept_alive_by_the_heartbeats_of_another(place):
    tasks = {"beats": beat_from_a_thread, "silent": hang}
    workflow = one(tasks, parallel=True, executor=place)
    output = workflow.execute().output
    assert output["beats"] == "alive"
    assert type(output["silent"]) is HeartbeatTimeoutError


def test_a_step_is_not_kept_alive_by_what_an_earlier_one_left_in_its_process():
    with ProcessLanes(1) as lanes:
        workflow = StepFunction("Shop").set_start_step("Leave")
        workflow.add_step(
            "Leave",
            leave_a_beating_thread,
            "Watch",
            executor="process",
            heartbeat=BEAT,
        )
        workflow.add_step("Watch", hang, executor="process", heartbeat=BEAT)
        execution = workflow.start(executor=lanes)
        ended = execution.wait(5 * BEAT)
        execution.cancel()
        assert execution.wait(20)
    assert ended
    assert type(execution.error) is HeartbeatTimeoutError


def test_many_heartbeats_are_only_heard(place, lanes):
    workflow = one(beat_many_times, 60, executor=place)
    assert workflow.execute(**overriding(place, lanes)).output == "done"


@pytest.mark.parametrize("executor", [None, "inline", "thread", "process", "pool"])
def test_a_heartbeat_that_nobody_asked_for_is_harmless(executor, lanes):
    with ThreadPoolExecutor(1) as pool:
        where = {"process": lanes, "pool": pool}.get(executor, executor)
        workflow = one(beat_many_times, None, executor=where)
        assert workflow.execute().output == "done"


# --- where it goes ------------------------------------------------------------------


def test_lanes_of_the_callers_own_take_a_heartbeat(lanes):
    failure = failure_of(one(hang, SHORT, executor=lanes))
    assert type(failure.__cause__) is HeartbeatTimeoutError


@pytest.mark.parametrize("arguments", [{}, {"executor": "inline"}])
def test_a_heartbeat_in_the_calling_thread_is_refused(arguments):
    with pytest.raises(DefinitionError) as caught:
        one(hang, **arguments)
    assert str(caught.value) == f"step 'Watch': {ELSEWHERE}"


@pytest.mark.parametrize("is_parallel", [False, True])
def test_a_heartbeat_on_somebody_elses_executor_is_refused(is_parallel):
    func = {"a": hang} if is_parallel else hang
    with ThreadPoolExecutor(1) as pool, pytest.raises(DefinitionError) as caught:
        one(func, executor=pool, parallel=is_parallel)
    assert str(caught.value) == f"step 'Watch': {ELSEWHERE}"


def without_context(value):
    return value


NESTED = StepFunction("Nested").add_step("A", without_context).set_start_step("A")


@pytest.mark.parametrize(
    "func, is_parallel, problem",
    [
        (without_context, False, NO_CONTEXT),
        (NESTED, False, NO_WORKFLOW),
        ({"good": hang, "bad": without_context}, True, NO_CONTEXT),
        ({"good": hang, "bad": NESTED}, True, NO_WORKFLOW),
    ],
)
def test_what_could_give_no_heartbeat_is_refused(func, is_parallel, problem):
    with pytest.raises(DefinitionError) as caught:
        one(func, executor="thread", parallel=is_parallel)
    assert str(caught.value) == f"step 'Watch': {problem}"


@pytest.mark.parametrize("by_annotation", [False, True])
def test_a_function_that_takes_the_context_is_taken(by_annotation):
    def annotated(value, told: Context):
        told.heartbeat()
        return value

    workflow = one(annotated if by_annotation else quick, 60, executor="thread")
    assert workflow.execute(4).output == 4


@pytest.mark.parametrize("heartbeat", [0, -1, True, "1", float("nan")])
def test_what_is_no_duration_is_refused(heartbeat):
    with pytest.raises(DefinitionError) as caught:
        one(hang, heartbeat, executor="thread")
    assert str(caught.value) == (
        f"step 'Watch': heartbeat is seconds above 0, not {heartbeat!r}"
    )


def test_all_that_is_wrong_with_a_heartbeat_is_said_at_once():
    with pytest.raises(DefinitionError) as caught:
        one(without_context, 0)
    assert caught.value.problems == (
        "heartbeat is seconds above 0, not 0",
        ELSEWHERE,
        NO_CONTEXT,
    )


def test_an_overriding_pool_ignores_heartbeats_and_says_so(caplog):
    def be_silent(value, context):
        released.wait(0.3)
        return "not heard of"

    with ThreadPoolExecutor(1) as pool:
        workflow = one(be_silent, 0.05, executor="thread")
        assert workflow.execute(executor=pool).output == "not heard of"
    (record,) = caplog.records
    assert record.getMessage().endswith(
        "heartbeat is not watched in this execution, for ThreadPoolExecutor cannot "
        "pass on signs of life"
    )


def test_an_overriding_pool_still_has_the_timeout():
    with ThreadPoolExecutor(1) as pool:
        workflow = one(hang, 0.05, timeout=0.2, executor="thread")
        error = failure_of(workflow, executor=pool).__cause__
        assert type(error) is StepTimeoutError
        released.set()


def test_an_inline_override_ignores_heartbeats(caplog):
    def be_silent(value, context):
        released.wait(0.2)
        return "not heard of"

    workflow = one(be_silent, 0.05, executor="thread")
    assert workflow.execute(executor="inline").output == "not heard of"
    assert [record.getMessage() for record in caplog.records] == [
        "timeouts are not enforced in this execution: a step runs in the thread "
        "that waits for it, as with executor='inline'"
    ]
