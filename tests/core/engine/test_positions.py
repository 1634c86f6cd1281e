"""Where a run stands: all that it takes to go on with it, in another run."""

from __future__ import annotations

import threading

import pytest

from stepfunction import (
    Execution,
    ExecutionCancelledError,
    Status,
    StepFunction,
    StepLimitError,
)
from stepfunction.core.cancellation import Cancellation
from stepfunction.core.engine.run import Run
from stepfunction.core.engine.walk import run_to_end, walk
from stepfunction.core.history.execution import journal_of
from stepfunction.core.workers.workshop import Workshop


def cancelled(workflow, value, **options):
    """Run a workflow of which a step cancels the execution."""
    with pytest.raises(ExecutionCancelledError) as caught:
        workflow.execute(value, **options)
    return caught.value.execution


def go_on(execution: Execution):
    """Go on with an execution where it stands, and give where that leads."""
    run = Run(run_to_end, Workshop(), Cancellation())
    journal = journal_of(execution)
    return walk(journal, run, journal.graph, journal.position)


def stopping(step, calls, watched):
    """Give a workflow whose named step asks for the end, and what it notes."""
    running = []
    workflow = StepFunction("W", listeners=[lambda it: running.append(it.execution)])

    def call(name):
        def note(value):
            calls.append(name)
            if name == step and not watched.done:
                watched.done = True
                running[0].cancel()
            if name == "Fail":
                raise ValueError(value)
            return value

        return note

    def choose(value):
        calls.append("choose")
        return "Fail"

    targets = {"branch": choose, "branch_targets": ["Fail"]}
    workflow.add_step("Ask", call("Ask"), **targets)
    workflow.add_step("Fail", call("Fail"), on_failure="Sorry")
    workflow.add_step("Sorry", call("Sorry"), next_step="After")
    workflow.add_step("After", lambda value, context: context.failure.error)
    return workflow.set_start_step("Ask")


class Once:
    done = False


def test_a_branch_is_not_asked_again_when_a_run_goes_on():
    calls = []
    execution = cancelled(stopping("Ask", calls, Once()), 1)
    assert calls == ["Ask", "choose"]
    step, value, failing = journal_of(execution).position
    assert (step, value, failing) == ("Fail", 1, None)
    go_on(execution)
    assert calls == ["Ask", "choose", "Fail", "Sorry"]
    assert [it.step for it in execution.history] == ["Ask", "Fail", "Sorry", "After"]


def test_a_run_that_goes_on_knows_what_had_failed():
    calls = []
    execution = cancelled(stopping("Sorry", calls, Once()), 1)
    step, _, failing = journal_of(execution).position
    assert step == "After"
    first, last = failing
    assert first is last and isinstance(first[-1], ValueError)
    go_on(execution)
    assert calls == ["Ask", "choose", "Fail", "Sorry"]
    assert execution.last_result is first[-1]  # as context.failure said


def test_a_step_that_gave_up_when_told_is_where_a_run_stands():
    calls = []
    execution = cancelled(stopping("Fail", calls, Once()), 1)
    step, value, failing = journal_of(execution).position
    assert (step, value, failing) == ("Fail", 1, None)


def test_a_run_that_reached_its_limit_stands_before_the_step_that_would_follow():
    workflow = StepFunction("Loop", max_steps=3).add_step("Again", str, "Again")
    with pytest.raises(StepLimitError) as caught:
        workflow.set_start_step("Again").execute(1)
    assert journal_of(caught.value.execution).position == ("Again", "1", None)
    assert caught.value.execution.status is Status.FAILED


def test_a_run_that_nobody_watches_stands_where_it_was_stopped():
    running, begun = [], threading.Event()

    def stop(value):
        assert begun.wait(20)
        running[0].cancel()
        return value + 1

    workflow = StepFunction("W").add_step("First", stop, "Second")
    workflow.add_step("Second", lambda value: value * 10).set_start_step("First")
    running.append(workflow.start(1))
    begun.set()
    execution = running[0]
    assert execution.wait(20)
    assert execution.status is Status.CANCELLED
    assert journal_of(execution).position == ("Second", 2, None)
    assert go_on(execution) == (None, 20, None)
