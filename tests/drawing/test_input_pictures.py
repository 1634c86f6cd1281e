from __future__ import annotations

import json

from stepfunction import Execution, StepFunction
from stepfunction.core.engine.start import begin
from stepfunction.drawing.tree import to_tree


def same(value=None):
    return value


def price(order=None, rate=None):
    return order, rate


def priced():
    workflow = StepFunction("W").add_step("Parse", same, "Rate")
    workflow.add_step("Rate", same, "Price")
    inputs = {"order": "Parse", "rate": "Rate"}
    return workflow.add_step("Price", price, inputs=inputs).set_start_step("Parse")


def test_a_named_input_is_a_thin_arrow_that_moves_no_box():
    lines = [it for it in priced().to_dot().splitlines() if "dotted" in it]
    assert [line.split(" [")[0] for line in lines] == ["s1 -> s3", "s2 -> s3"]
    for line, name in zip(lines, ("order", "rate")):
        assert f'label=" {name} "' in line
        assert "constraint=false" in line


def test_two_inputs_from_one_step_are_one_arrow():
    workflow = StepFunction("W").add_step("Parse", same, "Price")
    workflow.add_step("Price", price, inputs={"order": "Parse", "rate": "Parse"})
    workflow.set_start_step("Parse")
    assert workflow.to_dot().count("dotted") == 1
    assert 'label=" order, rate "' in workflow.to_dot()


def test_a_named_input_is_no_arrow_of_a_failure_in_mermaid():
    chart = priced().to_mermaid().splitlines()
    assert 's1 -.-o|"order"| s3' in chart
    assert 's2 -.-o|"rate"| s3' in chart
    assert not any("-.->" in line for line in chart)
    links = [it for it in chart if "--> " in it or "-.-o" in it]
    grey = [number for number, line in enumerate(links) if "-.-o" in line]
    style = ",".join(map(str, grey))
    assert f"linkStyle {style} stroke:#7b8794,stroke-width:1px" in chart


def test_the_tree_says_where_named_inputs_come_from():
    assert "└─ Price  (end)\n   ├─ order ← Parse\n   └─ rate ← Rate\n" in to_tree(
        priced().compile()
    )


def test_in_a_picture_of_columns_the_box_says_where_an_input_comes_from():
    workflow = StepFunction("W").set_start_step("A0")
    for number in range(80):
        workflow.add_step(f"A{number}", same, f"A{number + 1}")
    inputs = {"order": "A0", "rate": "A79"}
    dot = workflow.add_step("A80", price, inputs=inputs).to_dot()
    assert "order ← A0" in dot
    assert dot.count("dotted") == 1


def test_named_inputs_come_back_from_a_transcript():
    graph = priced().compile()
    copy = Execution.from_json(begin(graph, 1, None, ()).to_json())
    assert copy.graph.steps["Price"].inputs == (("order", "Parse"), ("rate", "Rate"))
    assert copy.graph.steps["Parse"].inputs is None


def test_the_input_of_a_step_with_named_inputs_comes_back():
    execution = priced().execute(3)
    copy = Execution.from_json(execution.to_json())
    assert copy.history[-1].input == {"order": 3, "rate": 3}


def test_the_input_of_a_step_with_named_inputs_can_be_hidden():
    document = priced().execute("secret").to_dict(
        redact=lambda where, value: "…" if "secret" in str(value) else value
    )
    assert document["execution"]["steps"][2]["input"] == "…"
    assert "secret" not in json.dumps(document)


def test_the_report_says_where_named_inputs_come_from(tmp_path):
    page = tmp_path / "run.html"
    priced().execute(3).report(page)
    assert "order from Parse" in page.read_text()
