from __future__ import annotations

import pickle
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from shared.random_workflows import VALUES, built, examples, executed, plain, workflows
from shared.told import (
    check_order,
    comparable,
    is_behind,
    outcome,
    told,
    without_undoing,
)

from stepfunction import Execution, StepLimitError

pytestmark = pytest.mark.usefixtures("quiet")


def check(workflow: Any, value: Any, races: bool, **options: Any) -> Execution:
    expected = outcome(workflow, value)
    execution, raised = executed(built(workflow), value, **options)
    actual = told(execution, raised is not None)
    assert comparable(actual, workflow, races) == comparable(expected, workflow, races)
    if raised is not None:
        assert plain(raised, races) == plain(expected["raised_if_failed"], races)
        assert type(raised) is StepLimitError or is_behind(raised, execution.error)
    check_order(execution, workflow)
    again = told(execution, raised is not None)
    assert comparable(again, workflow, races) == comparable(actual, workflow, races)
    return execution


# --- executions ---------------------------------------------------------------------


@examples(120)
@given(workflows(races=False), VALUES)
def test_an_inline_execution_comes_to_what_the_reference_says(workflow, value):
    check(workflow, value, races=False, executor="inline")


@examples(70)
@given(workflows(races=True), VALUES)
def test_an_execution_on_threads_comes_to_what_the_reference_says(workflow, value):
    check(workflow, value, races=True, executor="thread")


@examples(60)
@given(workflows(races=True), VALUES)
def test_steps_come_to_the_same_wherever_they_say_they_run(workflow, value):
    check(workflow, value, races=True)


@examples(50)
@given(workflow=workflows(races=True, steady=True, depth=2), value=VALUES)
def test_an_execution_in_processes_comes_to_what_the_reference_says(
    lanes, workflow, value
):
    check(workflow, value, races=True, executor=lanes)


@examples(4)
@given(workflow=workflows(races=True, steady=True, depth=2), value=VALUES)
def test_an_execution_with_processes_of_its_own_comes_to_the_same(workflow, value):
    check(workflow, value, races=True, executor="process")


@examples(50)
@given(workflows(races=False), VALUES, st.integers(1, 4))
def test_an_execution_that_forgets_comes_to_the_same(workflow, value, keeps):
    workflow = without_undoing(workflow)  # which cannot forget
    whole = comparable(outcome(workflow, value), workflow, False)
    execution, raised = executed(
        built(workflow, keep_history=keeps), value, executor="inline"
    )
    kept = comparable(told(execution, raised is not None), workflow, False)
    steps = [n for n, each in enumerate(whole["records"]) if each["task"] == "None"]
    assert execution.forgotten == max(0, len(steps) - keeps)
    records = whole["records"][([0] * keeps + steps)[-keeps] :]
    assert kept["records"] == records
    assert kept["path"] == whole["path"][-keeps:]
    for key in ("status", "output", "error", "raised_if_failed", "context"):
        assert kept[key] == whole[key]


@examples(30)
@given(workflows(races=False), VALUES)
def test_an_execution_tells_the_same_after_pickling(workflow, value):
    execution = check(workflow, value, races=False, executor="inline")
    copy = pickle.loads(pickle.dumps(execution))
    before = comparable(told(execution, False), workflow, False)
    assert comparable(told(copy, False), workflow, False) == before
