from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from shared.calls import double
from shared.failures import failure_of
from shared.hanging import (
    INSIDE,
    LIMIT,
    LONG,
    hang,
    hang_with_a_child,
    nested_of,
    one,
    outcomes,
    pids_in,
    reach,
    released,
    tasks_of,
    until_told,
)
from shared.processes import is_gone

from stepfunction import (
    ExecutionTimeoutError,
    Outcome,
    Status,
    StepFunction,
    StepTimeoutError,
)


def fail(value):
    raise ValueError("told to fail")


def overdue(workflow, initial_input=None, *, timeout=LIMIT, **arguments):
    with pytest.raises(ExecutionTimeoutError) as caught:
        workflow.execute(initial_input, timeout=timeout, **arguments)
    return caught.value.execution


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
    before = threading.enumerate()
    execution = one(double, timeout=None).execute(4, timeout=LONG)
    left = [it.name for it in threading.enumerate() if it not in before]
    assert "stepfunction-limit" not in left
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
