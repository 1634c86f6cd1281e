from __future__ import annotations

import pickle
import sys
import xml.etree.ElementTree as ElementTree

import pytest

from stepfunction import (
    DrawingError,
    Execution,
    RetryPolicy,
    StepExecutionError,
    StepFunction,
)

SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def step(value=None):
    return value


def fail(value=None):
    raise LookupError("no")


def texts(svg: str) -> list[str]:
    found = ElementTree.fromstring(svg).iter(f"{SVG}text")
    return ["".join(text.itertext()) for text in found]


def run(workflow: StepFunction, value=None):
    try:
        return workflow.execute(value)
    except StepExecutionError as error:
        return error.execution


def node(dot: str, name: str) -> str:
    """Give the statement of the node whose label begins with a name."""
    start = f'label="{name}'
    return next(it for it in dot.split(";\n") if start in it and "color" in it)


def handled() -> StepFunction:
    workflow = StepFunction("W").add_step("A", step, "B").add_step("B", fail, "C", "D")
    workflow.add_step("C", step).add_step("D", step)
    return workflow.set_start_step("A")


def nested() -> StepFunction:
    inner = StepFunction("Inner").add_step("X", fail).set_start_step("X")
    workflow = StepFunction("W")
    workflow.add_step("All", {"good": step, "bad": inner}, parallel=True)
    return workflow.set_start_step("All")


def fan(bad: int, count: int = 200) -> StepFunction:
    tasks = {f"t{i}": fail if i < bad else step for i in range(count)}
    workflow = StepFunction("W").add_step("Fan", tasks, parallel=True)
    return workflow.set_start_step("Fan")


def test_a_box_says_how_its_step_ended():
    shown = texts(handled().execute()._repr_svg_())
    assert any(text.startswith("✓ ") for text in shown)
    assert any(text.startswith("✗ failed · ") for text in shown)
    assert "LookupError" in shown
    assert any(text.startswith("✗ FAILED · ") for text in shown)


def test_a_box_says_how_many_attempts_it_took():
    workflow = StepFunction("W")
    workflow.add_step("A", fail, retry=RetryPolicy(3, interval=0)).set_start_step("A")
    assert "· 3 attempts" in run(workflow).to_dot()


def test_a_box_in_a_loop_says_how_many_visits_there_were():
    values = iter("wwd")
    workflow = StepFunction("W", max_steps=9)
    workflow.add_step("A", lambda: next(values), branch={"w": "A", "d": "B"})
    workflow.add_step("B", step).set_start_step("A")
    assert "· 3 visits" in workflow.execute().to_dot()


def test_arrows_that_were_followed_are_bold_and_no_others():
    dot = handled().execute().to_dot()
    edges = {line.split(" [")[0]: line for line in dot.split(";\n") if " -> " in line}
    bold = {ends.strip() for ends, line in edges.items() if "penwidth=3" in line}
    assert bold == {"s1 -> s2", "s2 -> s4", "s0 -> s1"}
    assert "penwidth=0.6" in edges["s2 -> s3"]


@pytest.mark.parametrize("value, label", [("x", "x"), ("y", "y"), ("z", "otherwise")])
def test_of_arrows_to_one_step_the_one_that_was_asked_for_is_bold(value, label):
    workflow = StepFunction("W")
    workflow.add_step("A", step, branch={"x": "B", "y": "B"}, next_step="B")
    workflow.add_step("B", step).set_start_step("A")
    dot = workflow.execute(value).to_dot()
    bold = [it for it in dot.split(";\n") if "s1 -> s2" in it and "penwidth=3" in it]
    assert len(bold) == 1 and f'label=" {label} "' in bold[0]


def test_a_failure_arrow_is_bold_for_the_class_that_matched():
    workflow = StepFunction("W")
    classes = {KeyError: "B", LookupError: "B", Exception: "B"}
    workflow.add_step("A", fail, on_failure=classes).add_step("B", step)
    dot = workflow.set_start_step("A").execute().to_dot()
    bold = [it for it in dot.split(";\n") if "s1 -> s2" in it and "penwidth=3" in it]
    assert len(bold) == 1 and '" LookupError "' in bold[0]


def test_a_step_that_was_not_reached_is_faded():
    assert "dashed" in node(handled().execute().to_dot(), "C")


def test_a_parallel_step_names_the_tasks_that_failed():
    dot = run(nested()).to_dot()
    assert "1 of 2 failed: bad (LookupError)" in dot


def test_a_nested_workflow_has_the_outcomes_of_its_own_execution():
    dot = run(nested()).to_dot()
    assert "✗ failed" in node(dot, "X")


def test_many_tasks_are_summed_up_and_the_failed_ones_named():
    shown = texts(fan(2).execute()._repr_svg_())
    assert {"t0", "t1", "198 tasks", "✓ succeeded"} <= set(shown)
    assert "t2" not in shown


def test_too_many_failed_tasks_are_counted():
    assert "176 more tasks" in texts(fan(200).execute()._repr_svg_())


def test_a_workflow_draws_an_execution_of_it():
    workflow = handled()
    execution = workflow.execute()
    assert workflow.to_dot(execution=execution) == execution.to_dot()
    assert workflow.to_mermaid(execution=execution) == execution.to_mermaid()


def test_an_execution_of_another_workflow_is_refused():
    with pytest.raises(DrawingError, match="execution of 'W', which cannot be drawn"):
        other = StepFunction("V").add_step("A", step).set_start_step("A")
        other.to_dot(handled().execute())


def test_an_execution_with_steps_that_the_workflow_lacks_is_refused():
    workflow = StepFunction("W").add_step("A", step).set_start_step("A")
    with pytest.raises(DrawingError, match="came to step 'B', which is no step"):
        workflow.to_dot(handled().execute())


def test_what_is_no_execution_is_refused():
    with pytest.raises(DrawingError, match="not 'COMPLETED'"):
        handled().to_dot("COMPLETED")


@pytest.mark.parametrize("method", ["to_dot", "to_mermaid", "visualize"])
def test_an_execution_from_a_pickle_says_how_to_draw_it(method):
    twin = pickle.loads(pickle.dumps(handled().execute()))
    with pytest.raises(DrawingError, match=r"workflow.visualize\(execution="):
        getattr(twin, method)()


def test_an_execution_from_a_pickle_is_drawn_with_its_workflow():
    workflow = handled()
    execution = workflow.execute()
    twin = pickle.loads(pickle.dumps(execution))
    assert workflow.to_dot(twin) == execution.to_dot()


@pytest.mark.parametrize("kind", ["svg", "png", "dot"])
def test_an_execution_is_drawn_into_a_file(kind, tmp_path):
    path = handled().execute().visualize(format=kind)
    assert path == f"W.{kind}" and (tmp_path / path).stat().st_size > 1_000


def test_the_svg_has_no_inline_styles_and_no_scripts():
    workflow = StepFunction("<script>").add_step('<b> & "x"', fail, "next\nline")
    workflow.add_step("next\nline", step).set_start_step('<b> & "x"')
    svg = run(workflow)._repr_svg_()
    for element in ElementTree.fromstring(svg).iter():
        assert "style" not in element.attrib
        assert not element.tag.endswith(("}style", "}script"))
    assert {'<b> & "x"', "next line", "<script>"} <= set(texts(svg))


def test_a_backslash_in_the_name_of_a_box_is_shown_as_it_is():
    workflow = StepFunction("W").add_step("a\\nb", {"x": step}, parallel=True)
    assert "a\\nb" in texts(workflow.set_start_step("a\\nb").execute()._repr_svg_())


def test_a_long_name_is_shortened():
    workflow = StepFunction("W").add_step("begin " + "x" * 500 + " end", step)
    (workflow_step,) = workflow.steps
    shown = texts(workflow.set_start_step(workflow_step).execute()._repr_svg_())
    (found,) = [text for text in shown if text.startswith("begin")]
    assert found.endswith(" end") and len(found) < 60


def test_a_notebook_shows_an_svg_element():
    assert handled()._repr_svg_().startswith("<svg")
    assert handled().execute()._repr_svg_().startswith("<svg")


def test_without_graphviz_a_notebook_shows_the_text(monkeypatch):
    monkeypatch.setenv("PATH", "")
    monkeypatch.setitem(sys.modules, "pygraphviz", None)
    assert handled()._repr_svg_() is handled().execute()._repr_svg_() is None


def test_an_unfinished_workflow_and_a_pickled_execution_show_their_text():
    assert StepFunction("W")._repr_svg_() is None
    assert pickle.loads(pickle.dumps(handled().execute()))._repr_svg_() is None


def test_a_mistake_in_drawing_is_not_hidden_from_a_notebook(monkeypatch):
    monkeypatch.setattr("pydot.Node", None)
    with pytest.raises(TypeError):
        handled()._repr_svg_()


def test_five_hundred_steps_stand_in_columns():
    workflow = StepFunction("Long")
    for i in range(500):
        follower = f"S{i + 1}" if i < 499 else None
        workflow.add_step(f"S{i}", step, follower, "Sorry")
    workflow.add_step("Sorry", step).set_start_step("S0")
    svg = workflow.execute()._repr_svg_()
    root = ElementTree.fromstring(svg)
    assert int(root.get("height")[:-2]) < 5_000
    assert "on failure → Sorry" in texts(svg)


@pytest.mark.parametrize("picture", ["to_dot", "to_mermaid"])
def test_what_ran_nested_in_a_process_has_its_outcomes_too(picture):
    inner = StepFunction("Inner").add_step("X", fail).set_start_step("X")
    workflow = StepFunction("W").add_step("N", inner, executor="process")
    drawing = getattr(run(workflow.set_start_step("N")), picture)()
    assert drawing.count("✗ failed") == 2  # of N and of X


def test_of_a_large_workflow_the_insides_of_steps_are_only_counted():
    inner = StepFunction("Inner").add_step("A", str).set_start_step("A")
    workflow = StepFunction("Large").set_start_step("s0")
    for number in range(100):
        follower = f"s{number + 1}" if number < 99 else None
        if number % 20 == 0:
            tasks = {"fine": str, "bad": len, "good": str}
            workflow.add_step(f"s{number}", tasks, follower, parallel=True)
        elif number % 20 == 10:
            workflow.add_step(f"s{number}", inner, follower)
        else:
            workflow.add_step(f"s{number}", str, follower)
    dot = workflow.execute(1).to_dot()
    assert "subgraph" not in dot
    assert "s0 (3 tasks)" in dot
    assert "1 of 3 failed: bad (TypeError)" in dot
    assert "s10 (workflow Inner)" in dot


def test_a_picture_of_what_was_read_names_the_error_as_it_was():
    workflow = StepFunction("Read").add_step("Fail", bad).set_start_step("Fail")
    with pytest.raises(StepExecutionError) as caught:
        workflow.execute(1)
    again = Execution.from_json(caught.value.execution.to_json())
    assert "ValueError" in again.to_dot()
    assert "ValueError" in again.to_mermaid()


@pytest.mark.parametrize("is_read", [False, True])
def test_no_arrow_leads_on_from_a_parallel_step_whose_failure_no_step_took(is_read):
    tasks = {"a": fail, "b": step}
    workflow = StepFunction("W")
    workflow.add_step("All", tasks, parallel=True, stop_on_failure=True)
    execution = run(workflow.set_start_step("All"))
    if is_read:
        execution = Execution.from_json(execution.to_json())
    assert execution.to_mermaid().count("==>") == 1  # from the start


def bad(value):
    raise ValueError(value)


def test_a_failure_step_that_many_share_has_one_arrow():
    workflow = StepFunction("Shared").set_start_step("s0")
    for number in range(19):
        workflow.add_step(f"s{number}", str, f"s{number + 1}", on_failure="Sorry")
    workflow.add_step("s20", str)
    workflow.add_step("s19", str, "s20", on_failure="Sorry")
    dot = workflow.add_step("Sorry", str).to_dot()
    assert dot.count("on failure → Sorry") == 19
    assert dot.count("dashed") == 1
