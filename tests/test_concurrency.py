from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import Executor, ThreadPoolExecutor
from pathlib import Path

import pytest
from shared.calls import add_one, double
from shared.processes import is_gone, tell

from stepfunction import (
    ExecutionCancelledError,
    ProcessLanes,
    RetryPolicy,
    Status,
    StepFunction,
)

THREADS = 50
EXECUTIONS = 1000


def fail_on_multiples_of_seven(value, context):
    if value % 7 == 0:
        raise ValueError(value)
    return context.execution_id


def total(value, context):
    assert context["Tasks"] is value
    return context["Start"] + value["double"] + value["add"]


def of_failure(error, context):
    return -context.failure.input


WORKFLOW = (
    StepFunction("Shared")
    .add_step("Start", double, "Choose")
    .add_step(
        "Choose",
        add_one,
        branch=lambda value: "Tasks" if value % 3 else "Check",
        branch_targets=["Tasks", "Check"],
    )
    .add_step("Tasks", {"double": double, "add": add_one}, "Total", parallel=True)
    .add_step("Total", total)
    .add_step("Check", fail_on_multiples_of_seven, on_failure="Failed")
    .add_step("Failed", of_failure)
    .set_start_step("Start")
)


def expected_of(number):
    """Give the context that an execution with this input has in the end."""
    start = number * 2
    chosen = start + 1
    context = {"Start": start, "Choose": chosen}
    if chosen % 3:
        context["Tasks"] = {"double": chosen * 2, "add": chosen + 1}
        context["Total"] = start + chosen * 2 + chosen + 1
    elif chosen % 7 == 0:
        context["Check"] = ValueError(chosen)
        context["Failed"] = -chosen
    else:
        context["Check"] = "id"
    return context


def of(execution):
    context = dict(execution.context)
    if context.get("Check") == execution.id:
        context["Check"] = "id"
    return context


def test_one_workflow_serves_fifty_threads_at_once():
    meet = threading.Barrier(THREADS)

    def serve(first):
        meet.wait(20)
        numbers = range(first, EXECUTIONS, THREADS)
        return [(number, WORKFLOW.execute(number)) for number in numbers]

    with ThreadPoolExecutor(THREADS) as threads:
        pairs = [pair for pairs in threads.map(serve, range(THREADS)) for pair in pairs]
    assert len(pairs) == len({execution.id for _, execution in pairs}) == EXECUTIONS
    for number, execution in pairs:
        expected = expected_of(number)
        # repr, for an exception is equal to itself alone.
        assert repr(of(execution)) == repr(expected)
        assert execution.input == number
        assert execution.output == execution.last_result
        failed = "Failed" in expected
        assert execution.status is (Status.FAILED if failed else Status.COMPLETED)


def test_threads_that_compile_a_workflow_at_once_all_run_it():
    for _ in range(20):
        workflow = StepFunction("Fresh").add_step("A", double, "B")
        workflow.add_step("B", {"x": double, "y": add_one}, parallel=True)
        workflow.set_start_step("A")
        meet = threading.Barrier(8)

        def run(number, workflow=workflow, meet=meet):
            meet.wait(20)
            return workflow.execute(number).output

        with ThreadPoolExecutor(8) as threads:
            assert list(threads.map(run, range(8))) == [
                {"x": 4 * n, "y": 2 * n + 1} for n in range(8)
            ]


def nest(depth):
    """Give a workflow of fan-outs within fan-outs that counts its leaves."""
    workflow = StepFunction(f"Depth {depth}")
    leaf = add_one if depth == 1 else nest(depth - 1)
    workflow.add_step("Fan", {"left": leaf, "right": leaf}, "Sum", parallel=True)
    workflow.add_step("Sum", lambda value: value["left"] + value["right"])
    return workflow.set_start_step("Fan")


def test_fan_outs_nest_without_waiting_for_each_other():
    assert nest(4).execute(1).output == 32


def test_nested_fan_outs_serve_many_threads_at_once():
    workflow = nest(4)
    with ThreadPoolExecutor(10) as threads:
        outputs = list(threads.map(lambda n: workflow.execute(n).output, range(20)))
    assert outputs == [16 * (n + 1) for n in range(20)]


def test_shared_lanes_serve_twenty_threads_at_once():
    with ProcessLanes(2) as lanes:
        workflow = StepFunction("W").add_step("One", double, "Fan", executor=lanes)
        nested = StepFunction("Nested").add_step("Add", add_one).set_start_step("Add")
        tasks = {"double": double, "add": add_one, "nested": nested}
        workflow.add_step("Fan", tasks, parallel=True, executor=lanes)
        workflow.set_start_step("One")
        with ThreadPoolExecutor(20) as threads:
            outputs = list(threads.map(lambda n: workflow.execute(n).output, range(60)))
    assert outputs == [
        {"double": 4 * n, "add": 2 * n + 1, "nested": 2 * n + 1} for n in range(60)
    ]


def test_thread_tasks_may_each_use_shared_lanes():
    with ProcessLanes(2) as lanes:
        nested = StepFunction("Nested").add_step("Add", add_one, executor=lanes)
        nested.set_start_step("Add")
        workflow = StepFunction("W")
        workflow.add_step("Fan", dict.fromkeys("abcdef", nested), parallel=True)
        workflow.set_start_step("Fan")
        with ThreadPoolExecutor(10) as threads:
            outputs = list(threads.map(lambda n: workflow.execute(n).output, range(10)))
    assert outputs == [dict.fromkeys("abcdef", n + 1) for n in range(10)]


# --- cancelling from another thread ---------------------------------------------


class Running:
    """An execution in a thread of its own, as another thread sees it."""

    def __init__(self, workflow, value=None, **arguments):
        self.workflow = workflow
        self.raised = None
        self.returned = None
        self.thread = threading.Thread(
            target=self.run, args=(value, arguments), daemon=True
        )
        self.thread.start()

    def run(self, value, arguments):
        try:
            self.returned = self.workflow.execute(value, **arguments)
        except BaseException as error:
            self.raised = error

    def cancel(self):
        self.workflow._latest.cancel()
        self.thread.join(20)
        assert not self.thread.is_alive()
        return self.raised


def assert_cancelled(running):
    error = running.raised
    assert type(error) is ExecutionCancelledError, (error, running.returned)
    assert str(error) == f"execution of {running.workflow.name!r} was cancelled"
    assert error.execution.status is Status.CANCELLED
    with pytest.raises(ExecutionCancelledError):
        error.execution.raise_if_failed()


def tell_pid_and_spin(folder, context):
    path = Path(folder, context.task or "pid")
    tell(path, str(os.getpid()))
    while True:
        pass


def spin_after(folder, context):
    if context.task == "quick":
        return 1
    return tell_pid_and_spin(folder, context)


def pid_in(path):
    end = time.monotonic() + 20
    while not path.exists():
        assert time.monotonic() < end, f"{path} never came"
        time.sleep(0.005)
    return int(path.read_text())


def test_cancelling_ends_the_execution_after_the_plain_step_that_runs():
    began, go_on = threading.Event(), threading.Event()
    reached = []

    def wait(value):
        began.set()
        assert go_on.wait(20)

    workflow = StepFunction("W").add_step("Wait", wait, "Never", on_failure="Failed")
    workflow.add_step("Never", reached.append).add_step("Failed", reached.append)
    running = Running(workflow.set_start_step("Wait"))
    assert began.wait(20)
    workflow._latest.cancel()
    go_on.set()
    running.thread.join(20)
    assert_cancelled(running)
    assert reached == []
    assert list(running.raised.execution.context) == ["Wait"]


@pytest.mark.parametrize("on_failure", [None, "Failed"])
@pytest.mark.parametrize("stop_on_failure", [False, True])
@pytest.mark.parametrize("gives_up", [False, True])
def test_cancelling_tells_thread_tasks_and_waits_for_them(
    on_failure, stop_on_failure, gives_up
):
    began = threading.Barrier(3)
    ended, never = [], []

    def listen(value, context):
        began.wait(20)
        while not context.cancelled:
            time.sleep(0.001)
        ended.append(context.task)
        if gives_up:
            raise InterruptedError("told to stop")

    workflow = StepFunction("W").add_step(
        "Fan",
        {"a": listen, "b": listen, "never": never.append},
        parallel=True,
        max_workers=2,
        on_failure=on_failure,
        stop_on_failure=stop_on_failure,
    )
    if on_failure:
        workflow.add_step("Failed", never.append)
    running = Running(workflow.set_start_step("Fan"))
    began.wait(20)
    running.cancel()
    assert_cancelled(running)
    assert sorted(ended) == ["a", "b"]
    assert never == []
    tasks = [r.task for r in running.raised.execution.history if r.task]
    assert tasks == ["a", "b", "never"]


@pytest.mark.parametrize("on_failure", [None, "Failed"])
@pytest.mark.parametrize("quick", [False, True])
def test_cancelling_kills_process_tasks(tmp_path, on_failure, quick):
    tasks = {"a": spin_after, "b": spin_after, "c": spin_after}
    if quick:
        tasks = {"quick": spin_after, **tasks}
    workflow = StepFunction("W").add_step(
        "Fan",
        tasks,
        parallel=True,
        executor="process",
        max_workers=2,
        on_failure=on_failure,
    )
    if on_failure:
        workflow.add_step("Failed", double)
    running = Running(workflow.set_start_step("Fan"), tmp_path)
    workers = [pid_in(tmp_path / task) for task in "ab"]
    running.cancel()
    assert_cancelled(running)
    assert [is_gone(worker, 0.5) for worker in workers] == [True, True]
    outcomes = {r.task: str(r.outcome) for r in running.raised.execution.history}
    assert outcomes["a"] == outcomes["b"] == "KILLED"
    assert outcomes["c"] == "CANCELLED"


def test_cancelling_kills_a_plain_step_in_a_process(tmp_path):
    workflow = StepFunction("W").add_step("Spin", tell_pid_and_spin, executor="process")
    running = Running(workflow.set_start_step("Spin"), tmp_path)
    worker = pid_in(tmp_path / "pid")
    running.cancel()
    assert_cancelled(running)
    assert is_gone(worker, 0.5)


def test_cancelling_stops_only_its_own_calls_on_shared_lanes(tmp_path):
    with ProcessLanes(2) as lanes:
        workflow = StepFunction("W").add_step("Spin", tell_pid_and_spin, executor=lanes)
        running = Running(workflow.set_start_step("Spin"), tmp_path)
        worker = pid_in(tmp_path / "pid")
        other = lanes.submit(os.getpid).result()
        running.cancel()
        assert_cancelled(running)
        assert is_gone(worker, 0.5)
        assert lanes.submit(double, 4).result() == 8
        assert other != worker


@pytest.mark.parametrize("is_parallel", [False, True])
@pytest.mark.parametrize("executor", [None, "thread"])
def test_cancelling_ends_the_pause_before_a_retry(is_parallel, executor):
    failed = threading.Event()

    def fail(value):
        failed.set()
        raise ConnectionError("down")

    workflow = StepFunction("W").add_step(
        "Try",
        {"a": fail} if is_parallel else fail,
        parallel=is_parallel,
        executor=executor,
        retry=RetryPolicy(max_attempts=3, interval=600, jitter=None),
        on_failure="Failed",
    )
    workflow.add_step("Failed", double)
    running = Running(workflow.set_start_step("Try"))
    assert failed.wait(20)
    running.cancel()
    assert_cancelled(running)
    assert list(running.raised.execution.context) == ["Try"]


@pytest.mark.parametrize("executor", [None, "thread"])
def test_cancelling_reaches_nested_workflows(executor):
    began, go_on = threading.Event(), threading.Event()
    reached = []

    def wait(value, context):
        began.set()
        while not (context.cancelled or go_on.is_set()):
            time.sleep(0.001)

    inner = StepFunction("Inner").add_step("Wait", wait, "Never")
    inner.add_step("Never", reached.append).set_start_step("Wait")
    middle = StepFunction("Middle")
    middle.add_step("Fan", {"inner": inner}, "Never", parallel=True)
    middle.add_step("Never", reached.append).set_start_step("Fan")
    outer = StepFunction("Outer").add_step("Middle", middle, executor=executor)
    running = Running(outer.set_start_step("Middle"))
    assert began.wait(20)
    running.cancel()
    go_on.set()
    assert_cancelled(running)
    assert reached == []


def test_cancelling_an_execution_that_has_ended_changes_nothing():
    execution = WORKFLOW.execute(1)
    execution.cancel()
    assert execution.status is Status.COMPLETED
    assert execution.raise_if_failed() is execution


def test_an_execution_may_be_cancelled_many_times_at_once():
    began = threading.Event()

    def wait(value, context):
        began.set()
        while not context.cancelled:
            time.sleep(0.001)

    workflow = StepFunction("W").add_step("Fan", {"a": wait, "b": wait}, parallel=True)
    running = Running(workflow.set_start_step("Fan"))
    assert began.wait(20)
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda _: workflow._latest.cancel(), range(50)))
    running.thread.join(20)
    assert_cancelled(running)


# --- interrupting the calling thread --------------------------------------------


class Interrupted(Executor):
    def submit(self, fn, /, *args):
        raise KeyboardInterrupt


@pytest.mark.parametrize("on_failure", [None, "Failed"])
@pytest.mark.parametrize("is_parallel", [False, True])
def test_an_interrupt_while_tasks_are_handed_out_comes_out(on_failure, is_parallel):
    workflow = StepFunction("W").add_step(
        "Fan",
        {"a": double, "b": double} if is_parallel else double,
        parallel=is_parallel,
        executor=Interrupted(),
        on_failure=on_failure,
    )
    if on_failure:
        workflow.add_step("Failed", double)
    with pytest.raises(KeyboardInterrupt):
        workflow.set_start_step("Fan").execute(1)
    assert workflow.status is Status.CANCELLED


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("retry", [None, RetryPolicy(interval=0)])
def test_an_interrupt_in_a_plain_step_comes_out(kind, retry):
    reached = []

    def leave(value):
        raise kind

    workflow = StepFunction("W").add_step(
        "Leave", leave, on_failure="Failed", retry=retry
    )
    workflow.add_step("Failed", reached.append).set_start_step("Leave")
    with pytest.raises(kind):
        workflow.execute()
    assert workflow.status is Status.CANCELLED
    assert reached == []


PROGRAM = """\
import os, sys, time, threading
from stepfunction import ProcessLanes, RetryPolicy, StepFunction

def tell(value=None):
    os.write(1, b"%d\\n" % os.getpid())  # whole, whoever else writes

def spin(value, context):
    tell()
    while not context.cancelled:
        pass

def fail(value):
    tell()
    raise ConnectionError("down")

def sleep(value):
    tell()
    time.sleep(60)

def never(value):
    print("went on", flush=True)

STEPS = {
    "plain": dict(func=sleep),
    "threads": dict(
        func={"a": spin, "b": spin, "c": spin}, parallel=True, max_workers=2
    ),
    "deaf threads": dict(func={"a": sleep, "b": sleep}, parallel=True),
    "processes": dict(
        func={"a": spin, "b": spin, "c": spin},
        parallel=True,
        executor="process",
        max_workers=2,
    ),
    "one process": dict(func=sleep, executor="process"),
    "retry": dict(func=fail, retry=RetryPolicy(interval=600, jitter=None)),
    "task retry": dict(
        func={"a": fail}, parallel=True, retry=RetryPolicy(interval=600, jitter=None)
    ),
}
nested = StepFunction("Nested").add_step("Spin", spin).set_start_step("Spin")
STEPS["nested"] = dict(func={"a": nested, "b": nested}, parallel=True)

if __name__ == "__main__":
    workflow = StepFunction("W")
    arguments = STEPS[sys.argv[1]]
    workflow.add_step("Step", next_step="Never", on_failure="Never", **arguments)
    workflow.add_step("Never", never).set_start_step("Step")
    workflow.execute()
"""


@pytest.mark.parametrize(
    "kind, lines",
    [
        ("plain", 1),
        ("threads", 2),
        ("deaf threads", 2),
        ("processes", 2),
        ("one process", 1),
        ("retry", 1),
        ("task retry", 1),
        ("nested", 2),
    ],
)
def test_control_c_leaves_nothing_running_and_one_traceback(tmp_path, kind, lines):
    script = tmp_path / "program.py"
    script.write_text(PROGRAM)
    program = subprocess.Popen(
        [sys.executable, script, kind],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        pids = {int(program.stdout.readline()) for _ in range(lines)}
        os.killpg(program.pid, signal.SIGINT)  # as a terminal does
        out, err = program.communicate(timeout=30)
    finally:
        program.kill()
    assert program.returncode == -signal.SIGINT
    assert out == ""
    assert err.count("Traceback (most recent call last)") == 1
    assert err.endswith("KeyboardInterrupt\n")
    assert [is_gone(process_id) for process_id in pids] == [True] * len(pids)
