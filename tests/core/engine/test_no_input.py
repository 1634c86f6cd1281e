"""An execution that is given no input leaves a default of its first step alone."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any

import pytest

from stepfunction import Context, Event, RetryPolicy, StepFunction
from stepfunction.stores import SQLiteStore


def load(path: str | None = "data.csv") -> Any:
    return path


def take(value: Any) -> Any:
    return value


def take_all(*values: Any) -> Any:
    return values


def load_with_context(context: Context, path: str = "data.csv") -> Any:
    return path


async def load_soon(path: str = "data.csv") -> Any:
    return path


class Loader:
    def __call__(self, path: str = "data.csv") -> Any:
        return path


class Loaded:
    def __init__(self, path: str = "data.csv") -> None:
        self.path = path

    def __eq__(self, other: object) -> bool:
        return other == self.path

    def load(self, path: str = "data.csv") -> Any:
        return path


def rows(names: tuple[str, ...] = ("a", "b")) -> tuple[str, ...]:
    return names


def one(function: Any, **options: Any) -> StepFunction:
    workflow = StepFunction("W").add_step("Load", function, **options)
    return workflow.set_start_step("Load")


@pytest.mark.parametrize(
    "function",
    [
        load,
        load_with_context,
        load_soon,
        Loader(),
        Loaded,
        Loaded().load,
        partial(load),
        lambda path="data.csv", *others: path,
    ],
)
def test_a_default_stays_where_nothing_is_given(function: Any) -> None:
    assert one(function).execute().output == "data.csv"


def test_an_input_of_none_is_given() -> None:
    assert one(load).execute(None).output is None


def test_what_requires_an_input_is_given_none() -> None:
    assert one(take).execute().output is None
    assert one(take_all).execute().output == (None,)


def test_the_input_of_the_execution_and_of_the_step_is_none() -> None:
    execution = one(load).execute()
    assert execution.input is None
    assert execution.history[0].input is None


def test_what_follows_is_given_what_came_before() -> None:
    workflow = one(lambda: None, next_step="Next")
    workflow.add_step("Next", load)
    assert workflow.execute().output is None


def test_the_first_step_is_given_what_leads_back_to_it() -> None:
    seen: list[Any] = []

    def count(number: int = 7) -> int:
        seen.append(number)
        return number + 1

    workflow = StepFunction("W", max_steps=9)
    branch = [(lambda number: number > 9, "End"), (lambda _: True, "Count")]
    workflow.add_step("Count", count, branch=branch).add_step("End", take)
    assert workflow.set_start_step("Count").execute().output == 10
    assert seen == [7, 8, 9]


def test_params_are_given_besides() -> None:
    def join(path: str = "data", ending: str = "") -> str:
        return path + ending

    assert one(join, params={"ending": ".csv"}).execute().output == "data.csv"


def test_every_attempt_leaves_it_alone() -> None:
    seen: list[str] = []

    def fail_once(path: str = "data.csv") -> str:
        seen.append(path)
        if len(seen) < 2:
            raise ConnectionError
        return path

    retry = RetryPolicy(max_attempts=2, interval=0)
    assert one(fail_once, retry=retry).execute().output == "data.csv"
    assert seen == ["data.csv", "data.csv"]


@pytest.mark.parametrize("executor", ["thread", "process", "inline"])
def test_a_first_step_elsewhere_leaves_it_alone(executor: str) -> None:
    assert one(load, executor=executor).execute().output == "data.csv"


@pytest.mark.parametrize("executor", ["thread", "process", "inline"])
def test_parallel_tasks_leave_it_alone(executor: str) -> None:
    tasks = {"load": load, "take": take, "nested": one(load)}
    output = one(tasks, parallel=True, executor=executor).execute().output
    assert dict(output) == {"load": "data.csv", "take": None, "nested": "data.csv"}


def test_what_gives_the_items_of_a_map_step_leaves_it_alone() -> None:
    workflow = StepFunction("W").add_map_step("Each", take, items=rows)
    workflow.set_start_step("Each")
    assert list(workflow.execute().output) == ["a", "b"]


def test_an_item_is_given_to_a_nested_workflow() -> None:
    workflow = StepFunction("W").add_map_step("Each", one(load), items=lambda _: [None])
    assert list(workflow.set_start_step("Each").execute().output) == [None]


@pytest.mark.parametrize("options", [{}, {"timeout": 30}, {"executor": "process"}])
def test_the_first_step_of_a_nested_workflow_leaves_it_alone(options: Any) -> None:
    for inner in (one(load), one(one(load))):
        assert one(inner, **options).execute().output == "data.csv"
        assert one(inner, **options).execute(None).output is None


def test_a_nested_workflow_that_follows_is_given_what_came_before() -> None:
    workflow = one(lambda: None, next_step="Inner")
    workflow.add_step("Inner", one(load))
    assert workflow.execute().output is None


@pytest.mark.parametrize("workflow", [one(load), one(one(load))])
def test_it_is_so_where_somebody_listens(workflow: StepFunction) -> None:
    told: list[Event] = []
    assert workflow.execute(listeners=[told.append]).output == "data.csv"
    assert told


def test_it_is_so_in_a_thread_of_its_own() -> None:
    assert one(load).start().result() == "data.csv"


def test_it_is_so_beside_an_event_loop() -> None:
    assert asyncio.run(one(load).aexecute()).output == "data.csv"


@pytest.mark.parametrize("workflow", [one(load), one(one(load))])
def test_it_is_so_where_it_is_stored(workflow: StepFunction, tmp_path: Any) -> None:
    with SQLiteStore(tmp_path / "runs.db") as store:
        for _ in range(2):  # the same line again gives the same execution
            execution = workflow.execute(store=store, execution_id="one")
            assert execution.output == "data.csv"
            assert execution.input is None


@pytest.mark.parametrize("is_nested", [False, True])
def test_it_is_so_after_a_resumption(is_nested: bool, tmp_path: Any) -> None:
    seen: list[Any] = []

    def fail_once(path: str | None = "data.csv") -> Any:
        seen.append(path)
        if len(seen) < 2:
            raise ConnectionError
        return path

    workflow = one(one(fail_once)) if is_nested else one(fail_once)
    with SQLiteStore(tmp_path / "runs.db") as store:
        with pytest.raises(Exception, match="failed"):
            workflow.execute(store=store, execution_id="one")
        assert workflow.resume("one", store=store).output == "data.csv"
