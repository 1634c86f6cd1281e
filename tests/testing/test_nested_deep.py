"""Workflows that are nested in one another very often."""

import pytest

from stepfunction import DefinitionError, StepFunction
from stepfunction.testing import dry_run, mock_steps


def same(value):
    return value


def nested_twice(levels):
    workflow = StepFunction("L0").add_step("A", same).set_start_step("A")
    for level in range(1, levels + 1):
        outer = StepFunction(f"L{level}").add_sub_step_function("One", workflow, "Two")
        outer.add_sub_step_function("Two", workflow).set_start_step("One")
        workflow = outer
    return workflow


@pytest.mark.parametrize("way", ["/".join, tuple], ids=["text", "tuple"])
def test_a_step_at_the_bottom_of_very_many_is_mocked(way):
    inner = way(["One"] * 37 + ["Two"] * 3 + ["A"])
    workflow = nested_twice(40)
    with mock_steps(workflow, {inner: 1, "Two": 2}):
        workflow.compile()


def test_a_dry_run_of_very_many_steps_walks_what_has_no_result():
    execution = dry_run(nested_twice(40), {"One": 1, "Two": 2})
    assert execution.output == 2


def test_the_repr_of_very_many_steps_is_short():
    graph = nested_twice(40).compile()
    assert repr(graph) == "<Graph 'L40': 2 steps>"
    assert len(repr(graph.steps["One"])) < 1_000


def test_three_thousand_workflows_in_one_another_are_refused():
    workflow = StepFunction("L0").add_step("A", same).set_start_step("A")
    for level in range(3_000):
        outer = StepFunction(f"L{level}").add_sub_step_function("N", workflow)
        workflow = outer.set_start_step("N")
    for use in (workflow.compile, workflow.execute, workflow.to_dot):
        with pytest.raises(DefinitionError, match="3,001 workflows are nested too dee"):
            use()


def test_a_workflow_inside_itself_is_refused_however_it_came_there():
    one, two, three = (StepFunction(name) for name in ("One", "Two", "Three"))
    one.add_sub_step_function("In", two)
    two.add_sub_step_function("In", three)
    for inside in (one, two, three):
        with pytest.raises(DefinitionError, match="inside itself"):
            three.add_sub_step_function("Out", inside)
    copy = one.copy()
    copy.add_sub_step_function("Original", one)
