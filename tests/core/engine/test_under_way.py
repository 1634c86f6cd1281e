"""What another thread sees of the tasks of a step while they run."""

from __future__ import annotations

import threading
from time import monotonic, sleep

import pytest
from shared.pictures import read_back

from stepfunction import Outcome, RetryPolicy, StepFunction

LONG = 20.0


class Gates:
    """Calls that wait until they are let go, and say that they have begun."""

    def __init__(self) -> None:
        self.begun = threading.Semaphore(0)
        self.open = threading.Event()

    def wait(self, value):
        self.begun.release()
        assert self.open.wait(LONG)
        return value

    def await_begun(self, count):
        for _ in range(count):
            assert self.begun.acquire(timeout=LONG)


@pytest.fixture
def gates():
    found = Gates()
    yield found
    found.open.set()


def fail(value):
    raise ValueError(value)


def records_of(execution):
    return {it.part: it for it in execution.history if it.part is not None}


def run_out(execution, gates):
    gates.open.set()
    assert execution.wait(LONG)


def test_tasks_that_run_are_in_the_history_and_those_that_wait_are_not(gates):
    tasks = {"first": gates.wait, "second": gates.wait, "third": gates.wait}
    workflow = StepFunction("W").add_step("All", tasks, parallel=True, max_workers=2)
    execution = workflow.set_start_step("All").start(1)
    gates.await_begun(2)
    step = execution.history[0]
    assert (step.step, step.task, step.outcome) == ("All", None, None)
    records = records_of(execution)
    assert list(records) == ["first", "second"]
    for record in records.values():
        assert record.outcome is record.output is record.error is None
        assert record.started >= execution.started and record.duration > 0
        assert record.attempts == () and record.input == 1
    run_out(execution, gates)
    assert len(records_of(execution)) == 3


def test_a_task_that_has_ended_is_seen_beside_one_that_runs(gates):
    workflow = StepFunction("W")
    workflow.add_step("Both", {"bad": fail, "held": gates.wait}, parallel=True)
    ended = threading.Event()
    execution = workflow.set_start_step("Both").start(
        1, listeners=[lambda event: event.task == "bad" and event.error and ended.set()]
    )
    gates.await_begun(1)
    assert ended.wait(LONG)
    records = records_of(execution)
    assert records["bad"].outcome is Outcome.FAILED
    assert isinstance(records["bad"].error, ValueError)
    assert records["held"].outcome is None
    run_out(execution, gates)


def test_the_attempts_of_a_step_that_is_tried_again_are_seen(gates):
    calls = []

    def unsteady(value):
        calls.append(value)
        return fail(value) if len(calls) == 1 else gates.wait(value)

    workflow = StepFunction("W").add_step(
        "Try", unsteady, retry=RetryPolicy(max_attempts=2, interval=0)
    )
    execution = workflow.set_start_step("Try").start(1)
    gates.await_begun(1)
    (record,) = execution.history
    assert record.outcome is None
    assert [attempt.outcome for attempt in record.attempts] == [Outcome.FAILED]
    run_out(execution, gates)
    (record,) = execution.history
    assert record.outcome is Outcome.SUCCEEDED and len(record.attempts) == 2


def test_a_workflow_that_is_nested_in_a_task_is_among_the_children(gates):
    inner = StepFunction("Inner").add_step("Wait", gates.wait).set_start_step("Wait")
    workflow = StepFunction("W").add_step("All", {"one": inner}, parallel=True)
    execution = workflow.set_start_step("All").start(1)
    gates.await_begun(1)
    child = execution.children["All", "one"]
    assert child.status == "RUNNING"
    assert [record.step for record in child.history] == ["Wait"]
    run_out(execution, gates)
    assert execution.children["All", "one"] is child and child.status == "COMPLETED"


def test_items_that_run_are_seen_beside_those_that_have_ended(gates):
    def each(item):
        return gates.wait(item) if item >= 2 else item

    workflow = StepFunction("W").add_map_step("Each", each, max_workers=2)
    execution = workflow.set_start_step("Each").start(range(6))
    gates.await_begun(2)
    deadline = monotonic() + LONG
    expected = {0: Outcome.SUCCEEDED, 1: Outcome.SUCCEEDED, 2: None, 3: None}
    while True:  # the ends of the first are heard of a moment later
        found = {at: it.outcome for at, it in records_of(execution).items()}
        if found == expected or monotonic() > deadline:
            break
        sleep(0.01)
    assert found == expected
    run_out(execution, gates)
    assert len(records_of(execution)) == 6


def test_a_step_on_an_executor_is_seen_with_its_beginning(gates):
    workflow = StepFunction("W").add_step("Away", gates.wait, executor="thread")
    execution = workflow.set_start_step("Away").start(1)
    gates.await_begun(1)
    (record,) = execution.history
    assert (record.step, record.outcome) == ("Away", None)
    assert record.started >= execution.started
    run_out(execution, gates)


def test_a_step_that_runs_has_the_inputs_that_it_names(gates):
    workflow = StepFunction("W").add_step("One", lambda: 1, next_step="Two")
    workflow.add_step("Two", lambda: 2, next_step="Sum")
    workflow.add_step(
        "Sum",
        {"held": lambda first, second: gates.wait(first + second)},
        parallel=True,
        inputs={"first": "One", "second": "Two"},
    )
    execution = workflow.set_start_step("One").start()
    gates.await_begun(1)
    *_, step, task = execution.history
    assert step.input == task.input == {"first": 1, "second": 2}
    run_out(execution, gates)


def test_a_transcript_says_since_when_a_task_has_been_running(gates):
    tasks = {"first": gates.wait, "second": gates.wait}
    workflow = StepFunction("W").add_parallel_step("All", tasks).set_start_step("All")
    execution = workflow.start(1)
    gates.await_begun(2)
    copies = records_of(read_back(execution))
    for name, record in records_of(execution).items():
        assert copies[name].started == pytest.approx(record.started, abs=1e-3)
        assert copies[name].duration > 0.0
    run_out(execution, gates)
