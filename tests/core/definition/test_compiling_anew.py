"""What is compiled is the same until a builder is edited, here or nested."""

from __future__ import annotations

import pickle

import pytest

from stepfunction import DefinitionError, StepFunction
from stepfunction.core.definition.compiling import definition_of
from stepfunction.testing import mock_steps


def same(value):
    return value


def more(value):
    return value + 1


def nest(depth, inner):
    for number in range(depth):
        outer = StepFunction(f"Outer {number}").set_start_step("Sub")
        inner = outer.add_step("Sub", inner)
    return inner


def inner():
    return StepFunction("Inner").set_start_step("A").add_step("A", same)


def test_the_graph_is_the_same_until_something_is_edited():
    workflow = nest(2, inner())
    assert workflow.compile() is workflow.compile()


@pytest.mark.parametrize("depth", [0, 1, 3])
def test_an_edit_however_deep_is_seen(depth):
    edited = StepFunction("Inner").set_start_step("A").add_step("A", same)
    workflow = nest(depth, edited)
    before = workflow.compile()
    edited.add_step("B", more).set_start_step("B")
    with pytest.raises(DefinitionError, match="'A' cannot be reached"):
        workflow.compile()
    edited.add_step("C", same)
    assert before.start in ("A", "Sub")


def test_what_another_builder_nests_too_is_seen_by_both():
    shared = StepFunction("Inner").set_start_step("B").add_step("A", same)
    one, other = nest(1, shared), nest(2, shared)
    for workflow in (one, other):
        with pytest.raises(DefinitionError):
            workflow.compile()
    shared.add_step("B", more, "A")
    assert one.execute(1).output == other.execute(1).output == 2


def test_an_edit_while_steps_are_mocked_is_seen():
    edited = inner()
    workflow = nest(2, edited)
    with mock_steps(workflow, {"Sub/Sub/A": 10}) as mocked:
        assert workflow.execute(1).output == 10
        edited.add_step("B", more, "A").set_start_step("B")
        assert workflow.execute(1).output == 10
        assert mocked["Sub/Sub/A"].calls == [1, 2]
    assert workflow.execute(1).output == 2


def test_a_builder_out_of_a_pickle_sees_its_edits():
    read = pickle.loads(pickle.dumps(inner()))
    for number in range(100):
        graph = read.compile()
        read.add_step(f"Next {number}", same)
        read.set_start_step(f"Next {number}")
        with pytest.raises(DefinitionError):
            read.compile()
        assert graph.start == "A"
        read = pickle.loads(pickle.dumps(inner()))


def test_a_definition_is_what_has_been_defined_so_far():
    workflow = StepFunction("W", max_steps=3, keep_history=2, on_failure="Sorry")
    found = definition_of(workflow.set_start_step("A").add_step("A", same, "B"))
    workflow.add_step("B", same)
    assert (found.name, found.start, found.on_failure) == ("W", "A", "Sorry")
    assert (found.max_steps, found.keep_history) == (3, 2)
    assert [*found.steps] == ["A"]
    with pytest.raises(TypeError):
        found.steps["B"] = None


class Mine(StepFunction):
    pass


@pytest.mark.parametrize("outer", [StepFunction, Mine])
@pytest.mark.parametrize("nested", [StepFunction, Mine])
def test_a_subclass_nests_a_plain_workflow_and_the_other_way_round(outer, nested):
    part = nested("Part").set_start_step("A").add_step("A", more)
    workflow = outer("Whole").set_start_step("Sub")
    workflow.add_sub_step_function("Sub", part, "Fan")
    workflow.add_parallel_step("Fan", {"x": part}, next_step="Each")
    workflow.add_map_step("Each", part, lambda results: results.values())
    assert workflow.execute(1).output == [4]
