from __future__ import annotations

import signal
import threading

import pytest
from shared.calls import interrupt
from shared.events import (
    LIMIT,
    Told,
    check_pairs,
    fan_out,
    nested_of,
    one,
    until_told,
    workflow_of,
)

from stepfunction import ExecutionCancelledError, ExecutionTimeoutError, Status


def test_a_cancelled_execution_tells_of_its_end():
    waiting = threading.Event()

    def wait(value, context):
        waiting.set()
        context.sleep(30)

    told = Told()
    workflow = fan_out({"a": wait, "b": wait}, max_workers=1, next_step="B")
    execution = workflow.add_step("B", one).start(listeners=[told])
    assert waiting.wait(10)
    execution.cancel()
    assert execution.wait(10)

    assert told.kinds[-4:] == [
        *("task_cancelled", "task_cancelled", "step_cancelled", "execution_ended"),
    ]
    assert type(told.only("step_cancelled").error) is ExecutionCancelledError
    assert told[-1].status is Status.CANCELLED
    check_pairs(told)


def test_an_execution_that_takes_too_long_tells_of_its_end():
    told = Told()
    with pytest.raises(ExecutionTimeoutError):
        fan_out({"a": until_told}).execute(timeout=LIMIT, listeners=[told])

    assert told[-1].status is Status.TIMED_OUT
    check_pairs(told)


@pytest.mark.parametrize("is_nested", [False, True])
def test_an_interrupted_execution_tells_of_its_end(is_nested):
    told = Told()
    action = nested_of(interrupt) if is_nested else interrupt
    with pytest.raises(KeyboardInterrupt):
        workflow_of(action).execute(listeners=[told])

    ends = ["step_cancelled", "execution_ended"]
    assert told.kinds[-2:] == ends
    assert type(told[-2].error) is type(told[-1].error) is KeyboardInterrupt
    assert told[-1].status is Status.CANCELLED
    check_pairs(told)


def test_ctrl_c_while_tasks_run_tells_of_their_ends():
    told = Told()

    def wait(value, context):
        signal.raise_signal(signal.SIGINT)
        context.sleep(30)

    with pytest.raises(KeyboardInterrupt):
        fan_out({"a": wait, "b": until_told}).execute(listeners=[told])

    ends = [event.task for event in told if event.task and event.outcome]
    assert sorted(ends) == ["a", "b"]
    assert told.kinds[-2:] == ["step_cancelled", "execution_ended"]


def test_a_task_that_is_interrupted_before_its_start_is_heard_of_has_started():
    told = Told()
    with pytest.raises(KeyboardInterrupt):
        fan_out({"a": interrupt}, executor="inline").execute(listeners=[told])

    assert [event.kind for event in told if event.task] == [
        "task_started",
        "task_cancelled",
    ]
    check_pairs(told)
