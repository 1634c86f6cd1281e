"""Named inputs of map steps, and signs of life of their items."""

from __future__ import annotations

import time

import pytest

from stepfunction import (
    DefinitionError,
    HeartbeatTimeoutError,
    StepExecutionError,
    StepFunction,
)


def double(value):
    return value * 2


def loads(items, **options):
    workflow = StepFunction("W").set_start_step("Load")
    workflow.add_step("Load", lambda n: [*range(n)], "Rate")
    workflow.add_step("Rate", lambda items: 10, "Each")
    inputs = {"numbers": "Load", "rate": "Rate"}
    return workflow.add_map_step("Each", double, items, inputs=inputs, **options)


def test_the_items_are_one_of_the_named_inputs():
    execution = loads("numbers").execute(3)
    assert execution.output == [0, 2, 4]
    assert execution.history[2].input == {"numbers": [0, 1, 2], "rate": 10}


def test_a_callable_is_given_all_named_inputs():
    found = loads(lambda given: [given["rate"], *given["numbers"]]).execute(2)
    assert found.output == [20, 0, 2]


@pytest.mark.parametrize(
    ("items", "text"),
    [
        (None, "the items are in none of the inputs; say in which, as in items='numbe"),
        ("number", "items is 'number', which is none of the inputs .did you mean 'num"),
    ],
)
def test_items_that_are_no_named_input_are_refused(items, text):
    with pytest.raises(DefinitionError, match=text):
        loads(items)


def test_a_path_that_lacks_a_named_input_is_refused():
    workflow = StepFunction("W").set_start_step("Each")
    workflow.add_map_step("Each", double, "a", inputs={"a": "Other"}, next_step="Other")
    workflow.add_step("Other", double)
    with pytest.raises(DefinitionError, match="'Other'"):
        workflow.validate()


def lives(item, context):
    for _ in range(item):
        time.sleep(0.05)
        context.heartbeat()
    if item == 0:
        time.sleep(30)
    return item


@pytest.mark.parametrize("batch_size", [1, 3])
@pytest.mark.parametrize("executor", ["thread", "process"])
def test_an_item_without_a_sign_of_life_fails_alone(executor, batch_size):
    workflow = StepFunction("W").set_start_step("Each")
    workflow.add_map_step(
        "Each",
        lives,
        executor=executor,
        heartbeat=1.5,
        max_workers=2,
        batch_size=batch_size,
        tolerated_failures=1,
    )
    output = workflow.execute([2, 0, 3, 4]).output
    assert [*output.failed] == [1]
    assert isinstance(output.failed[1], HeartbeatTimeoutError)
    assert [output[0], *output[2:]] == [2, 3, 4]


def test_a_heartbeat_of_a_workflow_is_refused_with_the_reason():
    nested = StepFunction("N").add_step("A", double).set_start_step("A")
    for add in (
        lambda it: it.add_step("B", nested, heartbeat=1, executor="thread"),
        lambda it: it.add_map_step("B", nested, heartbeat=1),
        lambda it: it.add_parallel_step("B", {"x": nested}, heartbeat=1),
    ):
        with pytest.raises(DefinitionError, match="which a workflow does not make"):
            add(StepFunction("W"))


def test_items_that_are_missing_fail_the_step():
    workflow = StepFunction("W").set_start_step("Load")
    workflow.add_step("Load", double, "Each")
    workflow.add_map_step("Each", double, "n", inputs={"n": "Load"})
    with pytest.raises(StepExecutionError, match="the input's 'n' is to be items"):
        workflow.execute(2)
