"""Pictures of large workflows: they come in seconds, and say what they do not draw."""

import io
import random
import time
from textwrap import dedent
from xml.etree import ElementTree

import pytest
from shared.pictures import drawn

from stepfunction import StepExecutionError, StepFunction


def same(value):
    return value


def shown(svg):
    """Give all texts of a picture."""
    return [it.text for it in ElementTree.fromstring(svg).iter() if it.text]


def thousand(ways):
    """Steps in a chain, each with more ways to one of the thirty after it or so."""
    numbers = random.Random(ways)
    workflow = StepFunction("Long", on_failure="Sorry").set_start_step("S0")
    for i in range(1000):
        farther = [min(1000, i + numbers.randint(2, 30)) for _ in range(ways)]
        branch = {f"to {it}": f"S{it}" for it in (i + 1, *farther)}
        workflow.add_step(f"S{i}", same, branch=branch)
    return workflow.add_step("S1000", same).add_step("Sorry", same)


@pytest.mark.parametrize("ways", [1, 4])
def test_a_thousand_steps_with_branches_and_a_shared_failure_step_are_drawn(ways):
    began = time.monotonic()
    texts = shown(thousand(ways)._repr_svg_())
    assert time.monotonic() - began < 40  # under 10 s where nothing else runs
    assert {f"S{i}" for i in range(1001)} <= set(texts)
    assert "on failure of any step" in texts


def test_sixty_steps_that_all_lead_to_each_other_are_drawn():
    workflow = StepFunction("Dense").set_start_step("S0")
    for i in range(60):
        branch = {f"to {j}": f"S{j}" for j in range(i + 1, 60)}
        workflow.add_step(f"S{i}", same, branch=branch or None)
    assert {f"S{i}" for i in range(60)} <= set(shown(workflow._repr_svg_()))


def test_an_arrow_that_is_not_drawn_is_said():
    workflow = thousand(1)
    dot = workflow.to_dot()
    for step in workflow.compile().steps.values():
        for arrow in step.arrows():
            said = f"{arrow.label} → {arrow.target}" in dot
            drawn = f'label=" {arrow.label} "' in dot
            assert said or drawn or arrow.kind == "failure"
    assert "→ S" in dot


def test_many_arrows_that_are_not_drawn_are_counted():
    workflow = StepFunction("Wide").set_start_step("S0")
    far = {f"far {i}": f"S{200 + i}" for i in range(30)}
    for i in range(300):
        branch = {"on": f"S{i + 1}", **(far if i < 60 else {})}
        workflow.add_step(f"S{i}", same, branch=branch)
    dot = workflow.add_step("S300", same).to_dot()
    assert "far 0 → S200" in dot
    assert "and 19 more" in dot


def test_the_columns_of_a_chain_are_connected():
    workflow = StepFunction("Chain").set_start_step("S0")
    for i in range(200):
        workflow.add_step(f"S{i}", same, f"S{i + 1}")
    dot = workflow.add_step("S200", same).to_dot()
    assert dot.count("->") == 201  # with that from the start
    assert dot.count("constraint=false") == 8


def test_of_too_many_arrows_between_columns_those_that_were_followed_are_drawn():
    workflow = StepFunction("Long").set_start_step("S0")
    for i in range(200):
        branch = {"on": f"S{i + 1}"} | {f"by {j}": f"S{j}" for j in range(i + 26, 201)}
        workflow.add_step(f"S{i}", same, branch=branch)
    workflow.add_step("S200", same)
    assert workflow.to_dot().count("constraint=false") == 0
    assert workflow.execute("on").to_dot().count("constraint=false") == 8


def nested_twice(levels):
    """Give a small workflow that runs more steps than can be counted."""
    workflow = StepFunction("L0").add_pass_step("A").set_start_step("A")
    for level in range(1, levels + 1):
        outer = StepFunction(f"L{level}").add_sub_step_function("One", workflow, "Two")
        outer.add_sub_step_function("Two", workflow).set_start_step("One")
        workflow = outer
    return workflow


@pytest.mark.parametrize("draw", ["to_dot", "to_mermaid"])
def test_a_nested_workflow_is_drawn_once_and_named_after_that(draw):
    picture = getattr(nested_twice(40), draw)()
    assert len(picture) < 50_000
    for level in range(40):
        assert f"workflow L{level}, drawn once" in picture


def test_the_tree_of_a_nested_workflow_that_is_drawn_once_says_so():
    assert drawn(nested_twice(1)) == dedent("""\
        L1
        ├─ One  (workflow L0)
        │  └─ A  (end)
        └─ Two  (workflow L0, drawn once, end)
    """)


def test_what_an_execution_came_to_is_drawn_wherever_it_stands():
    inner = StepFunction("Inner").add_step("X", same).set_start_step("X")
    workflow = StepFunction("W").add_step("A", inner, "B").add_step("B", inner)
    dot = workflow.set_start_step("A").execute(1).to_dot()
    assert dot.count('label="X\\n✓') == 2


def test_workflows_nested_deep_and_wide_are_drawn_as_far_as_there_is_room():
    workflow = StepFunction("L").add_pass_step("A").set_start_step("A")
    for level in range(200):
        outer = StepFunction(f"L{level}").add_step("N", workflow)
        workflow = outer.set_start_step("N")
    assert "not drawn here" in workflow.to_dot()
    wide = StepFunction("Wide").set_start_step("S0")
    for i in range(50):
        inner = StepFunction(f"I{i}").set_start_step("X0")
        for j in range(50):
            inner.add_step(f"X{j}", same, f"X{j + 1}")
        wide.add_step(f"S{i}", inner.add_step("X50", same), f"S{i + 1}")
    dot = wide.add_step("S50", same).to_dot()
    assert "not drawn here" in dot
    assert dot.count("tooltip") < 1_200


def test_the_report_of_a_small_workflow_that_is_nested_twice_is_small():
    def fail(value):
        raise ValueError

    workflow = StepFunction("L0").add_step("A", fail).set_start_step("A")
    for level in range(1, 40):
        outer = StepFunction(f"L{level}").add_sub_step_function("One", workflow, "Two")
        outer.add_sub_step_function("Two", workflow).set_start_step("One")
        workflow = outer
    with pytest.raises(StepExecutionError) as caught:
        workflow.execute()
    page = io.StringIO()
    caught.value.execution.report(page)
    assert len(page.getvalue()) < 2_000_000
