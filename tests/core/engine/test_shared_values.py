"""What several calls are given: iterators, named inputs and params."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from stepfunction import RetryPolicy, StepExecutionError, StepFunction
from stepfunction.stores import SQLiteStore

TWICE = RetryPolicy(max_attempts=2, interval=0)


def fan_out(give: Any, tasks: Any, **options: Any) -> StepFunction:
    workflow = StepFunction("W").add_step("Give", give, "Both")
    workflow.add_step("Both", tasks, parallel=True, **options)
    return workflow.set_start_step("Give")


def numbers() -> Any:
    yield from (1, 2, 3)


async def numbers_later() -> Any:
    yield 1


@pytest.mark.parametrize(
    "give",
    [
        numbers,
        lambda: map(str, [1, 2]),
        lambda: iter([1, 2]),
        lambda: zip([1], [2]),
        numbers_later,
    ],
)
def test_an_iterator_for_several_tasks_fails_their_step(give: Any) -> None:
    called: list[Any] = []
    tasks = {"a": called.append, "b": called.append}
    workflow = fan_out(lambda: give(), tasks)
    with pytest.raises(StepExecutionError, match="an iterator, which the first of 2"):
        workflow.execute()
    assert called == []


def test_a_failure_step_takes_it_like_any_other_failure() -> None:
    workflow = fan_out(numbers, {"a": sum, "b": list}, on_failure="Tell")
    workflow.add_step("Tell", lambda error: type(error))
    assert workflow.execute().output is TypeError


def test_an_iterator_that_one_task_reads_is_given_to_it() -> None:
    output = fan_out(numbers, {"a": sum}).execute().output
    assert dict(output) == {"a": 6}
    output = fan_out(numbers, {"a": sum, "b": lambda: "b"}).execute().output
    assert dict(output) == {"a": 6, "b": "b"}


def test_an_iterator_among_named_inputs_is_for_one_task() -> None:
    def total(it: Any) -> Any:
        return sum(it)

    def first(it: Any, other: Any = None) -> Any:
        return next(it)

    inputs = {"it": "Give"}
    workflow = fan_out(numbers, {"a": total, "b": first}, inputs=inputs)
    with pytest.raises(StepExecutionError, match="input 'it' of step 'Both'"):
        workflow.execute()
    workflow = fan_out(numbers, {"a": total, "b": lambda: "b"}, inputs=inputs)
    assert workflow.execute().output["a"] == 6


def test_what_can_be_read_again_is_given_to_all() -> None:
    for items in ([1, 2, 3], range(1, 4), {1: 1, 2: 2, 3: 3}.keys()):
        output = fan_out(lambda: items, {"a": sum, "b": list}).execute().output
        assert dict(output) == {"a": 6, "b": [1, 2, 3]}


def changing(seen: list[Any], failures: int) -> StepFunction:
    lock = threading.Lock()

    def change(inputs: dict[str, Any]) -> Any:
        with lock:
            seen.append(dict(inputs))
            inputs["added"] = True
            if len(seen) <= failures:
                raise ConnectionError
        return "done"

    return StepFunction("Inner").add_step("Change", change).set_start_step("Change")


@pytest.mark.parametrize("executor", [None, "thread", "inline"])
def test_each_attempt_at_a_nested_workflow_has_its_own_inputs(executor: Any) -> None:
    seen: list[Any] = []
    workflow = StepFunction("W").add_step("Order", lambda: 17, "Sub")
    inner, inputs = changing(seen, failures=1), {"order": "Order"}
    options = {"inputs": inputs, "retry": TWICE, "executor": executor}
    workflow.add_step("Sub", inner, **options)  # type: ignore[arg-type]
    execution = workflow.set_start_step("Order").execute()
    assert seen == [{"order": 17}, {"order": 17}]
    assert execution.history[1].input == {"order": 17}


def test_each_nested_workflow_of_a_parallel_step_has_its_own_inputs() -> None:
    seen: list[Any] = []
    inner = changing(seen, failures=0)
    tasks = {"a": inner, "b": inner}
    workflow = fan_out(lambda: 17, tasks, inputs={"order": "Give"}, max_workers=1)
    workflow.execute()
    assert seen == [{"order": 17}, {"order": 17}]


def taken_apart() -> StepFunction:
    workflow = StepFunction("W").add_step("A", lambda: 1, "B")
    workflow.add_step("B", lambda: 2, "Both")
    inner = StepFunction("Inner").add_step("It", lambda it: it).set_start_step("It")
    tasks: dict[str, Any] = {
        "one": lambda a: a,
        "both": lambda a, b: (a, b),
        "none": lambda: None,
        "inner": inner,
    }
    inputs = {"a": "A", "b": "B"}
    workflow.add_step("Both", tasks, parallel=True, inputs=inputs)
    return workflow.set_start_step("A")


TAKEN = {
    "one": {"a": 1},
    "both": {"a": 1, "b": 2},
    "none": {},
    "inner": {"a": 1, "b": 2},
}


def inputs_of(execution: Any) -> dict[Any, Any]:
    return {it.task: it.input for it in execution.history if it.task is not None}


def test_the_record_of_a_task_has_the_inputs_that_it_was_given() -> None:
    execution = taken_apart().execute()
    assert inputs_of(execution) == TAKEN
    assert execution.history[2].input == {"a": 1, "b": 2}


def test_so_it_has_where_it_is_stored(tmp_path: Any) -> None:
    with SQLiteStore(tmp_path / "runs.db") as store:
        taken_apart().execute(store=store, execution_id="one")
        assert inputs_of(store.load("one")) == TAKEN


def test_params_are_not_shared_between_calls() -> None:
    def add(value: Any, tags: list[Any], more: dict[str, Any], deep: Any) -> Any:
        tags.append(value)
        more["seen"].add(value)
        deep[0].append(value)
        return tags, more, deep

    params = {"tags": [], "more": {"seen": set()}, "deep": ([],)}
    workflow = StepFunction("W").add_step("Add", add, params=params)
    workflow.set_start_step("Add")
    for value in (1, 2):
        expected = ([value], {"seen": {value}}, ([value],))
        assert workflow.execute(value).output == expected
    assert params == {"tags": [], "more": {"seen": set()}, "deep": ([],)}


def test_params_that_are_no_plain_values_are_shared() -> None:
    client = threading.Lock()
    workflow = StepFunction("W").add_step(
        "Use", lambda _, clients: clients[0], params={"clients": [client]}
    )
    assert workflow.set_start_step("Use").execute().output is client


def test_params_may_be_in_a_circle() -> None:
    ring: list[Any] = []
    ring.append((ring,))
    workflow = StepFunction("W").add_step(
        "Use", lambda _, ring: ring, params={"ring": ring}
    )
    found = workflow.set_start_step("Use").execute().output
    assert found is not ring
    assert found[0][0] is found
