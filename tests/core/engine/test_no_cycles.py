"""An execution in which nothing failed is in no cycle: it goes with its last user."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator
from typing import Any

import pytest

from stepfunction import StepFunction


class Thing:
    pass


def make(value: Any) -> Thing:
    return Thing()


def inner() -> StepFunction:
    return StepFunction("Inner").add_step("Make", make).set_start_step("Make")


def one() -> StepFunction:
    return inner()


def nested() -> StepFunction:
    return StepFunction("W").add_step("Inner", inner()).set_start_step("Inner")


def parallel() -> StepFunction:
    tasks = {"call": make, "nested": inner()}
    workflow = StepFunction("W").add_step("Both", tasks, parallel=True)
    return workflow.set_start_step("Both")


def in_a_thread() -> StepFunction:
    workflow = StepFunction("W").add_step("Make", make, executor="thread")
    return workflow.set_start_step("Make")


@pytest.fixture
def no_collection() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.parametrize("build", [one, nested, parallel, in_a_thread])
def test_what_it_holds_goes_with_it(build: Any, no_collection: None) -> None:
    workflow = build()

    def run() -> weakref.ref[Thing]:
        output = workflow.execute(1).output
        return weakref.ref(output if type(output) is Thing else output["call"])

    past = run()
    run()  # for the workflow keeps its latest
    assert past() is None
