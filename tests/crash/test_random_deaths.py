"""Workflows made at random, killed after each row that was kept, and gone on with."""

from __future__ import annotations

from itertools import count
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from shared.random_workflows import VALUES, built, examples, executed, workflows
from shared.stores import Death, DyingStore, MemoryStore
from shared.told import (
    check_order,
    comparable,
    outcome,
    told,
    without_undoing,
)

from stepfunction import Execution, StoreError

pytestmark = pytest.mark.usefixtures("quiet")

STEADY = {"steady": True, "depth": 2}


class Case:
    """A workflow, and what it comes to where nothing disturbs it."""

    def __init__(self, workflow: Any, value: Any, races: bool, **options: Any) -> None:
        self.workflow = workflow
        self.value = value
        self.races = races
        self.options = options
        self.keeps = None
        self.expected = comparable(outcome(workflow, value), workflow, races)

    def run(self, store: Any, **building: Any) -> tuple[Execution, Any]:
        """Give the execution and what was raised, or what it died of."""
        return executed(
            built(self.workflow, **building),
            self.value,
            store=store,
            execution_id="it",
            **self.options,
        )

    def dies(self, store: Any, commits: int, error: Any = None) -> bool:
        """Tell whether it died after so many commits, or else came to its end."""
        try:
            self.check(*self.run(DyingStore(store, commits, error)))
        except Death:
            return True
        except StoreError as raised:
            assert raised is error
            return True
        return False

    def check(self, execution: Execution, raised: Any) -> None:
        actual = told(execution, raised is not None)
        assert comparable(actual, self.workflow, self.races) == self.expected
        check_order(execution, self.workflow)


def goes_on_from_everywhere(case: Case) -> None:
    for commits in count(1):
        store = MemoryStore()
        if not case.dies(store, commits):
            return
        case.check(*case.run(store))
        case.check(*case.run(store))  # which runs nothing


@examples(25)
@given(workflows(races=False, **STEADY), VALUES)
def test_a_run_goes_on_from_wherever_it_died(workflow, value):
    goes_on_from_everywhere(Case(workflow, value, False, executor="inline"))


@examples(15)
@given(workflows(races=True, **STEADY), VALUES)
def test_a_run_on_threads_goes_on_from_wherever_it_died(workflow, value):
    goes_on_from_everywhere(Case(workflow, value, True, executor="thread"))


@examples(25)
@given(workflows(races=False, **STEADY), VALUES, st.integers(3, 6))
def test_a_run_that_dies_again_and_again_comes_to_its_end(workflow, value, commits):
    case, store = Case(workflow, value, False, executor="inline"), MemoryStore()
    for _ in range(500):
        if not case.dies(store, commits):
            return
    raise AssertionError("it never ended")


@examples(25)
@given(workflows(races=False, **STEADY), VALUES)
def test_a_run_goes_on_from_wherever_its_store_failed(workflow, value):
    case = Case(workflow, value, False, executor="inline")
    for commits in count(0):
        store = MemoryStore()
        if not case.dies(store, commits, StoreError("the disk is full")):
            return
        case.check(*case.run(store))


@examples(25)
@given(workflows(races=False, **STEADY), VALUES, st.integers(1, 3))
def test_a_run_that_forgets_goes_on_from_wherever_it_died(workflow, value, keeps):
    case = Case(without_undoing(workflow), value, False, executor="inline")
    for commits in count(1):
        store = MemoryStore()
        try:
            case.run(DyingStore(store, commits), keep_history=keeps)
            return
        except Death:
            execution, raised = case.run(store, keep_history=keeps)
        actual = told(execution, raised is not None)
        actual = comparable(actual, case.workflow, False)
        path = case.expected["path"]
        assert execution.forgotten == max(0, len(path) - keeps)
        assert actual["path"] == path[-keeps:]
        for key in ("status", "output", "error", "raised_if_failed", "context"):
            assert actual[key] == case.expected[key]
