from __future__ import annotations

import re

import pytest

from stepfunction import StepFunction


def step(value=None):
    return value


def fail(value=None):
    raise LookupError("no")


def lines(chart: str) -> list[str]:
    return chart.split("---\n", 2)[2].splitlines()


def one_step(name: str) -> str:
    workflow = StepFunction("W").add_step(name, step).set_start_step(name)
    return workflow.to_mermaid()


def branching() -> StepFunction:
    workflow = StepFunction("W")
    workflow.add_step("A", step, branch={"x": "B"}, next_step="C", on_failure="D")
    return workflow.add_step("B", step).add_step("C", step).add_step("D", step)


def test_a_workflow_is_a_flowchart_of_its_steps_and_arrows():
    chart = branching().set_start_step("A").to_mermaid()
    assert chart.startswith('---\ntitle: "W"\n---\nflowchart TB\n')
    assert lines(chart)[1:] == [
        's0((" "))',
        's1("A")',
        's2[["B"]]',
        's3[["C"]]',
        's4{{"D"}}',
        's1 -->|"x"| s2',
        's1 -->|"otherwise"| s3',
        "s1 -.-> s4",
        "s0 --> s1",
    ]


@pytest.mark.parametrize(
    "name, shown",
    [
        ("Pay_Now", "Pay_Now"),
        ("<script>", "#60;script#62;"),
        ('say "x"', "say #34;x#34;"),
        ("a & b", "a #38; b"),
        ("#35;", "#35;35#59;"),
        ("a|b", "a#124;b"),
        ("`tick`", "#96;tick#96;"),
        ("*b*", "#42;b#42;"),
        ("back\\n", "back#92;n"),
        ("two\nlines", "two<br>lines"),
        ("1. one", "#49;#46; one"),
        ("- dash", "#45; dash"),
        ("e-mail 2.0", "e-mail 2.0"),
        ("fa:fa-car", "fa#58;fa-car"),
        ("🚗 漢字", "🚗 漢字"),
        ("bell\x07", "bell\ufffd"),
        ("turned \u202e round", "turned \ufffd round"),
        ("end", "end"),
    ],
)
def test_a_name_is_a_label_that_shows_just_that(name, shown):
    assert f's1[["{shown}"]]' in lines(one_step(name))


def test_a_title_cannot_leave_its_place():
    chart = StepFunction('a "b"\n---\n<i>').add_step("A", step).set_start_step("A")
    assert chart.to_mermaid().splitlines()[1] == 'title: "a \\"b\\" --- ‹i›"'


def test_a_nested_workflow_and_a_parallel_step_are_subgraphs():
    inner = StepFunction("Inner").add_step("X", step).set_start_step("X")
    workflow = StepFunction("W").add_step("All", {"a": step, "b": inner}, parallel=True)
    chart = workflow.set_start_step("All").to_mermaid()
    assert lines(chart)[1:] == [
        's0((" "))',
        'subgraph s1["All"]',
        's2["a"]',
        'subgraph s3["b#58; Inner"]',
        "direction TB",
        's4[["X"]]',
        "end",
        "end",
        's5(((" ")))',
        "s1 --> s5",
        "s0 --> s1",
    ]


def test_of_a_run_each_box_has_the_class_of_its_outcome():
    workflow = StepFunction("W").add_step("A", step, "B").add_step("B", fail, "C", "D")
    workflow.add_step("C", step).add_step("D", step).set_start_step("A")
    chart = workflow.execute().to_mermaid()
    found = re.findall(r'"(\w+)(?:<br>.*)?"[])}]+:::(\w+)', chart)
    assert found == [("A", "done"), ("B", "failed"), ("C", "unreached"), ("D", "done")]
    for name in ("done", "failed", "unreached"):
        assert chart.count(f"classDef {name} fill:") == 1


def test_of_a_run_arrows_that_were_followed_are_bold():
    execution = branching().set_start_step("A").execute("x")
    chart = lines(execution.to_mermaid())
    links = [line for line in chart if re.search("-.->|==>", line)]
    assert links == [
        's1 ==>|"x"| s2',
        "s1 -.-> s4",
        "s0 ==> s1",
    ]


def test_of_a_run_a_failure_arrow_that_was_followed_is_styled_by_its_number():
    workflow = StepFunction("W").add_step("A", step, "B").add_step("B", fail, "C", "C")
    workflow.add_step("C", step).set_start_step("A")
    chart = workflow.execute().to_mermaid()
    assert "linkStyle 2 stroke:#d64550,stroke-width:3px" in lines(chart)


def test_classes_of_subgraphs_follow_them():
    inner = StepFunction("I").add_step("X", step).set_start_step("X")
    workflow = StepFunction("W").add_step("N", inner).set_start_step("N")
    chart = lines(workflow.execute().to_mermaid())
    assert chart.index("class s1 doneBox") > chart.index("end")


def test_a_failure_step_that_many_share_has_one_arrow():
    workflow = StepFunction("W").set_start_step("A0")
    for number in range(9):
        workflow.add_step(f"A{number}", step, f"A{number + 1}", on_failure="Sorry")
    chart = workflow.add_step("A9", step).add_step("Sorry", step).to_mermaid()
    assert chart.count("-.->") == 1
    assert chart.count("<br>on failure → Sorry") == 8


def test_a_task_of_a_failure_step_looks_like_one():
    workflow = StepFunction("W").add_step("A", step, on_failure="B")
    workflow.add_step("B", {"x": step}, parallel=True).set_start_step("A")
    assert 's3{{"x"}}' in lines(workflow.to_mermaid())
