"""Workflows made at random that fail, are mended, and go on from where they failed."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest
from hypothesis import assume, given
from shared.random_workflows import VALUES, built, examples, executed, workflows
from shared.stores import Death, DyingStore, MemoryStore
from shared.told import check_order, comparable, outcome, told, without_undoing

from stepfunction import StepExecutionError
from stepfunction.core.history.execution import journal_of

pytestmark = pytest.mark.usefixtures("quiet")

MOST_FIXES = 6


def has_loops(workflow: Any) -> bool:
    """Tell whether a step may be visited twice: then a fix would change the past."""
    steps = workflow["steps"].values()
    inner = [do for step in steps for do in doings(step) if isinstance(do, dict)]
    return workflow["max_steps"] is not None or any(map(has_loops, inner))


def doings(step: Any) -> list[Any]:
    return [*step["tasks"].values()] if "tasks" in step else [step["do"]]


def mend(workflow: Any, execution: Any) -> bool:
    """Let what failed give something; tell whether there was anything to mend."""
    name = journal_of(execution).blame.step
    step = workflow["steps"][name]
    records = [record for record in execution.history if record.step == name]
    failed = [it for it in records if it.error is not None]
    found = False
    for record in failed:
        do = step.get("do") if record.task is None else step["tasks"][record.task]
        if isinstance(do, list) and step["kind"] != "fail" and do[0][0] != "give":
            do[0] = ("give", 1)
            found = True
        elif isinstance(do, dict) and record.child is not None:
            failed = journal_of(record.child).blame is not None
            found |= failed and mend(do, record.child)
    return found


def resumed(workflow: Any, store: Any) -> Any:
    try:
        return built(workflow).resume("it", store=store, executor="inline"), None
    except StepExecutionError as error:
        return error.execution, error


@examples(60)
@given(workflows(races=False, steady=True, depth=2), VALUES)
def test_a_run_that_is_mended_comes_to_what_it_would_have(workflow, value):
    workflow = deepcopy(without_undoing(workflow))
    assume(not has_loops(workflow))
    store = MemoryStore()
    execution, raised = executed(
        built(workflow), value, store=store, execution_id="it", executor="inline"
    )
    assume(execution.status == "FAILED")
    for _ in range(MOST_FIXES):
        has_mended = mend(workflow, execution)
        execution, raised = resumed(workflow, store)
        expected = comparable(outcome(workflow, value), workflow, False)
        actual = told(execution, raised is not None)
        assert comparable(actual, workflow, False) == expected
        check_order(execution, workflow)
        if execution.status != "FAILED" or not has_mended:
            return


@examples(25)
@given(workflows(races=False, steady=True, depth=2), VALUES)
def test_a_redrive_goes_on_from_wherever_it_died(workflow, value):
    workflow = deepcopy(without_undoing(workflow))
    assume(not has_loops(workflow))
    broken = deepcopy(workflow)
    execution, _ = executed(
        built(workflow), value, store=MemoryStore(), execution_id="it",
        executor="inline",
    )
    assume(execution.status == "FAILED" and mend(workflow, execution))
    expected = comparable(outcome(workflow, value), workflow, False)
    commits = 0
    is_dead = True
    while is_dead:
        commits += 1
        store = MemoryStore()
        executed(
            built(broken), value, store=store, execution_id="it", executor="inline"
        )
        try:
            execution, raised = resumed(workflow, DyingStore(store, commits))
            is_dead = False
        except Death:
            execution, raised = executed(
                built(workflow), value, store=store, execution_id="it",
                executor="inline",
            )
        actual = told(execution, raised is not None)
        assert comparable(actual, workflow, False) == expected
