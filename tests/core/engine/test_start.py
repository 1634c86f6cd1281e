from __future__ import annotations

import subprocess
import sys
import threading
from contextvars import ContextVar

import pytest
from shared.calls import double
from shared.processes import is_gone

from stepfunction import (
    DefinitionError,
    ExecutionCancelledError,
    ExecutionTimeoutError,
    Outcome,
    RetryPolicy,
    Status,
    StepExecutionError,
    StepFunction,
    StepFunctionError,
)

LONG = 600  # no test waits for that
SECONDS = 20

released = threading.Event()


@pytest.fixture(autouse=True)
def _release():
    released.clear()
    yield
    released.set()


def fail(value):
    raise ValueError(f"no {value}")


def until_released(value):
    released.wait(LONG)
    return value


def one(func, **arguments):
    workflow = StepFunction("Shop").add_step("Watch", func, **arguments)
    return workflow.set_start_step("Watch")


class Gate:
    """A step's function that says that it runs and goes on when told."""

    def __init__(self):
        self.reached, self.go_on = threading.Event(), threading.Event()
        self.thread = None

    def __call__(self, value):
        self.thread = threading.current_thread()
        self.reached.set()
        assert self.go_on.wait(SECONDS)
        return value


@pytest.fixture
def gate():
    gate = Gate()
    yield gate
    gate.go_on.set()


# --- a live execution ---------------------------------------------------------------


def test_start_returns_while_the_execution_runs(gate):
    execution = one(gate).start(17)
    assert gate.reached.wait(SECONDS)
    assert execution.status is Status.RUNNING
    assert execution.wait(0) is False
    assert gate.thread is not threading.current_thread()
    gate.go_on.set()
    assert execution.wait(SECONDS) is True
    assert execution.status is Status.COMPLETED
    assert execution.output == 17


def test_the_execution_shows_what_has_happened_so_far(gate):
    workflow = StepFunction("Shop").add_step("First", double, "Watch")
    workflow.add_step("Watch", gate, "Last").add_step("Last", double)
    execution = workflow.set_start_step("First").start(4)
    assert gate.reached.wait(SECONDS)
    first, watch = execution.history
    assert (first.step, first.output, first.next_step) == ("First", 8, "Watch")
    assert (watch.step, watch.outcome, watch.input) == ("Watch", None, 8)
    assert execution.context == {"First": 8}
    assert execution.last_result == 8
    assert execution.output is None
    earlier = execution.duration
    assert execution.duration > earlier > 0
    assert repr(execution).startswith("<Execution of 'Shop': RUNNING after 1 step in ")
    gate.go_on.set()
    assert execution.wait(SECONDS)
    assert [record.step for record in execution.history] == ["First", "Watch", "Last"]
    assert execution.duration == execution.duration


def test_an_execution_shows_the_failures_that_were_handled_so_far(gate):
    workflow = StepFunction("Shop").set_start_step("First")
    workflow.add_step("First", fail, on_failure="Watch").add_step("Watch", gate)
    execution = workflow.start(4)
    assert gate.reached.wait(SECONDS)
    [failure] = execution.failures
    assert str(failure.error) == "no 4"


def test_the_workflow_knows_its_latest_execution(gate):
    workflow = one(gate)
    execution = workflow.start(17)
    assert gate.reached.wait(SECONDS)
    assert workflow.status is Status.RUNNING
    gate.go_on.set()
    execution.wait(SECONDS)
    assert workflow.status is Status.COMPLETED
    assert workflow.last_result == 17


def test_waiting_gives_up_after_its_timeout(gate):
    execution = one(gate).start()
    assert execution.wait(timeout=0.05) is False
    gate.go_on.set()
    assert execution.wait() is True
    assert execution.wait() is True


def test_many_threads_may_wait(gate):
    execution = one(gate).start()
    waited = []
    threads = [
        threading.Thread(target=lambda: waited.append(execution.wait(SECONDS)))
        for _ in range(5)
    ]
    for thread in threads:
        thread.start()
    gate.go_on.set()
    for thread in threads:
        thread.join()
    assert waited == [True] * 5


def test_an_execution_that_has_returned_need_not_be_waited_for():
    assert one(double).execute(4).wait() is True


def test_a_definition_that_is_not_sound_is_refused_at_once():
    with pytest.raises(DefinitionError):
        StepFunction("Shop").add_step("Watch", double, "Nowhere").start()


def test_the_executor_of_a_start_overrides_those_of_the_steps():
    workflow = StepFunction("Shop").set_start_step("A")
    workflow.add_step("A", lambda value: threading.get_ident(), "B")
    workflow.add_step(
        "B", lambda value: value == threading.get_ident(), executor="thread"
    )
    execution = workflow.start(executor="inline")
    assert execution.wait(SECONDS)
    assert execution.output is True


def test_many_executions_run_at_once():
    meet = threading.Barrier(20)

    def meet_all(value):
        meet.wait(SECONDS)
        return value

    workflow = StepFunction("Shop").add_step("Meet", meet_all, "Double")
    workflow.add_step("Double", {"a": double, "b": double}, parallel=True)
    workflow.set_start_step("Meet")
    executions = [workflow.start(number) for number in range(20)]
    assert all(execution.wait(SECONDS) for execution in executions)
    assert [execution.output for execution in executions] == [
        {"a": 2 * number, "b": 2 * number} for number in range(20)
    ]
    assert len({execution.id for execution in executions}) == 20


def test_a_step_may_start_an_execution():
    inner = one(double)

    def start(value):
        execution = inner.start(value)
        assert execution.wait(SECONDS)
        return execution.output

    assert one(start).execute(4).output == 8


def test_an_async_step_runs_in_the_background_too():
    async def wait(value):
        return value + 1

    execution = one(wait).start(4)
    assert execution.wait(SECONDS)
    assert execution.output == 5


def test_the_context_variables_of_the_caller_reach_the_steps_and_stay_as_they_are():
    variable = ContextVar("variable", default="default")
    variable.set("callers")

    def change(value):
        seen = variable.get()
        variable.set("steps")
        return seen

    workflow = one(change, next_step="Next").add_step(
        "Next", lambda seen: (seen, variable.get())
    )
    execution = workflow.start()
    variable.set("changed")
    assert execution.wait(SECONDS)
    assert execution.output == ("callers", "steps")
    assert variable.get() == "changed"


# --- how it ends --------------------------------------------------------------------


def test_raise_if_failed_gives_an_execution_that_did_not_fail():
    execution = one(double).start(4)
    assert execution.wait(SECONDS)
    assert execution.raise_if_failed() is execution


def test_raise_if_failed_cannot_tell_while_the_execution_runs(gate):
    execution = one(gate).start(4)
    assert gate.reached.wait(SECONDS)
    with pytest.raises(StepFunctionError) as caught:
        execution.raise_if_failed()
    assert str(caught.value) == (
        "execution of 'Shop' is still running; wait() for it first"
    )


def test_raise_if_failed_cannot_tell_before_the_execution_runs():
    go_on = threading.Event()

    def hold(frame, event, argument):
        sys.setprofile(None)
        go_on.wait(SECONDS)

    threading.setprofile(hold)  # calls it in the new thread before all else
    execution = one(fail).start()
    threading.setprofile(None)
    try:
        assert execution.status is Status.INITIALIZED
        with pytest.raises(StepFunctionError, match="wait"):
            execution.raise_if_failed()
    finally:
        go_on.set()
    assert execution.wait(SECONDS)


def test_raise_if_failed_raises_the_failure_of_the_step():
    execution = one(fail).start(17)
    assert execution.wait(SECONDS)
    assert execution.status is Status.FAILED
    with pytest.raises(StepExecutionError) as caught:
        execution.raise_if_failed()
    error = caught.value
    assert str(error) == "step 'Watch' of 'Shop' failed: ValueError: no 17"
    assert error.__cause__ is execution.error
    assert str(error.__cause__) == "no 17"
    assert error.execution is execution


def test_raise_if_failed_raises_also_where_a_failure_step_took_the_failure():
    workflow = one(fail, on_failure="Tell").add_step("Tell", str)
    execution = workflow.start(17)
    assert execution.wait(SECONDS)
    assert execution.output == "no 17"
    with pytest.raises(StepExecutionError, match="no 17"):
        execution.raise_if_failed()


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt])
def test_what_leaves_a_plain_step_cancels_the_execution(kind, capsys):
    reached = []

    def leave(value):
        raise kind("out")

    workflow = one(leave, next_step="Never", on_failure="Never")
    execution = workflow.add_step("Never", reached.append).start()
    assert execution.wait(SECONDS)
    assert execution.status is Status.CANCELLED
    assert reached == []
    assert str(execution.error) == "out"
    assert type(execution.error) is kind
    with pytest.raises(ExecutionCancelledError) as caught:
        execution.raise_if_failed()
    assert caught.value.execution is execution
    assert capsys.readouterr() == ("", "")


def test_what_leaves_a_task_is_its_failure():
    def leave(value):
        raise SystemExit("out")

    execution = one(leave, executor="thread").start()
    assert execution.wait(SECONDS)
    assert execution.status is Status.FAILED
    assert type(execution.error) is SystemExit


def test_nothing_is_printed_of_an_execution_that_failed(capsys):
    execution = one(fail).start()
    assert execution.wait(SECONDS)
    assert capsys.readouterr() == ("", "")


def test_no_thread_is_left_when_an_execution_has_ended():
    execution = StepFunction("A name of its own").add_step("A", double)
    execution = execution.set_start_step("A").start(4)
    assert execution.wait(SECONDS)
    for thread in threading.enumerate():
        if thread.name == "A name of its own":
            thread.join(SECONDS)
            assert not thread.is_alive()


# --- cancelling ---------------------------------------------------------------------


def sleep(value, context):
    context.sleep(LONG)


def fail_again(value):
    raise ConnectionError("down")


FOR_EVER = RetryPolicy(2, interval=LONG, jitter=None)
NESTED = StepFunction("Nested").add_step("A", sleep).set_start_step("A")


@pytest.mark.parametrize(
    "arguments",
    [
        dict(func=sleep),
        dict(func=sleep, executor="thread"),
        dict(func=until_released, executor="process"),
        dict(func={"a": sleep, "b": sleep}, parallel=True),
        dict(func=fail_again, retry=FOR_EVER),
        dict(func=NESTED),
        dict(func={"a": NESTED, "b": sleep}, parallel=True),
    ],
    ids=["plain", "thread", "process", "tasks", "pause", "nested", "nested tasks"],
)
def test_an_execution_can_be_cancelled(arguments):
    began, reached = threading.Event(), []
    workflow = StepFunction("Shop").set_start_step("Begin")
    workflow.add_step("Begin", lambda value: began.set(), "Watch")
    workflow.add_step("Watch", next_step="Never", on_failure="Never", **arguments)
    workflow.add_step("Never", reached.append)
    execution = workflow.start()
    assert began.wait(SECONDS)
    execution.cancel()
    assert execution.wait(SECONDS)
    assert execution.status is Status.CANCELLED
    assert reached == []
    with pytest.raises(ExecutionCancelledError) as caught:
        execution.raise_if_failed()
    assert str(caught.value) == "execution of 'Shop' was cancelled"
    assert caught.value.execution is execution


def test_an_execution_that_is_cancelled_at_once_ends():
    for _ in range(50):
        execution = one(sleep).start()
        execution.cancel()
        assert execution.wait(SECONDS)
        assert execution.status is Status.CANCELLED


def test_cancelling_one_execution_leaves_the_others_alone(gate):
    workflow = one({"a": gate}, parallel=True)
    other = workflow.start(17)
    assert gate.reached.wait(SECONDS)
    one(sleep).start().cancel()
    execution = workflow.start(18)
    execution.cancel()
    gate.go_on.set()
    assert execution.wait(SECONDS) and other.wait(SECONDS)
    assert execution.status is Status.CANCELLED
    assert other.raise_if_failed().output == {"a": 17}


def test_cancelling_an_execution_that_has_ended_changes_nothing():
    execution = one(double).start(4)
    assert execution.wait(SECONDS)
    execution.cancel()
    assert execution.status is Status.COMPLETED
    assert execution.raise_if_failed().output == 8


def test_a_step_may_cancel_its_own_execution():
    handed = threading.Event()
    reached = []

    def cancel(value):
        assert handed.wait(SECONDS)
        execution.cancel()

    workflow = one(cancel, next_step="Never").add_step("Never", reached.append)
    execution = workflow.start()
    handed.set()
    assert execution.wait(SECONDS)
    assert execution.status is Status.CANCELLED
    assert reached == []


# --- with a timeout -----------------------------------------------------------------


def test_a_started_execution_may_have_a_timeout():
    execution = one(until_released, executor="thread").start(timeout=0.05)
    assert execution.wait(SECONDS)
    assert execution.status is Status.TIMED_OUT
    assert execution.history[0].attempts[0].outcome is Outcome.ABANDONED
    with pytest.raises(ExecutionTimeoutError) as caught:
        execution.raise_if_failed()
    assert str(caught.value) == "execution of 'Shop' took longer than 0.05 s"
    assert caught.value.execution is execution


def test_a_started_execution_that_is_in_time_is_left_alone():
    execution = one(double).start(4, timeout=60)
    assert execution.wait(SECONDS)
    assert execution.raise_if_failed().output == 8


# --- when the main thread ends ------------------------------------------------------

PROGRAM = """\
import os, sys, threading, time
from concurrent.futures import ThreadPoolExecutor
from stepfunction import RetryPolicy, StepFunction

def tell():
    os.write(1, b"%d\\n" % os.getpid())

def until_told(value, context):
    tell()
    while not context.cancelled:
        time.sleep(0.002)

def sleep(value, context):
    tell()
    context.sleep(600)

def be_deaf(value):
    tell()
    time.sleep(600)

def fail(value):
    tell()
    raise ValueError

def never(value):
    os.write(1, b"went on\\n")

if __name__ == "__main__":
    nested = StepFunction("N").add_step("A", sleep).set_start_step("A")
    pool = ThreadPoolExecutor(1)
    arguments = {
        "plain": dict(func=sleep),
        "deaf": dict(func=be_deaf),
        "thread": dict(func=until_told, executor="thread"),
        "deaf thread": dict(func=be_deaf, executor="thread"),
        "process": dict(func=be_deaf, executor="process"),
        "pause": dict(func=fail, retry=RetryPolicy(2, interval=600, jitter=None)),
        "nested": dict(func={"a": nested}, parallel=True),
        "pool": dict(func=until_told, executor=pool),
        "waiting thread": dict(func=sleep),
    }[sys.argv[1]]
    workflow = StepFunction("W").set_start_step("A")
    workflow.add_step("A", next_step="Never", on_failure="Never", **arguments)
    execution = workflow.add_step("Never", never).start()
    if sys.argv[1] == "waiting thread":
        threading.Thread(target=execution.wait).start()
    sys.stdin.readline()
"""


@pytest.mark.parametrize(
    "kind",
    [
        "plain",
        "deaf",
        "thread",
        "deaf thread",
        "process",
        "pause",
        "nested",
        "pool",
        "waiting thread",
    ],
)
def test_an_execution_does_not_outlive_the_main_thread(kind, tmp_path):
    script = tmp_path / "program.py"
    script.write_text(PROGRAM)
    with subprocess.Popen(
        [sys.executable, script, kind],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as program:
        try:
            worker = int(program.stdout.readline())
            out, err = program.communicate("end\n", timeout=4)  # 2 s, and slack
        finally:
            program.kill()
    assert program.returncode == 0
    assert (out, err) == ("", "")
    assert is_gone(worker)
