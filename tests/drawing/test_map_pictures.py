from __future__ import annotations

import json
import re

import pytest
from shared.calls import same
from shared.maps import tolerant
from shared.pictures import node, read_back

from stepfunction import (
    MapResults,
    Outcome,
    ParallelStepExecutionError,
    StepExecutionError,
    StepFunction,
)
from stepfunction.drawing.tree import to_tree


def refuse_odd(number):
    if number % 2:
        raise ValueError(f"{number} is odd")
    return number


def refuse_three(number):
    if number == 3:
        raise LookupError("three is gone")
    return number


def is_odd(number):
    return number % 2


def each(func=same, **options):
    workflow = StepFunction("W").add_map_step("Each", func, **tolerant(options))
    return workflow.set_start_step("Each")


def nested():
    inner = StepFunction("Check")
    inner.add_pass_step("Ask", branch=[(is_odd, "Odd")], next_step="Even")
    inner.add_fail_step("Odd", "OddNumber").add_step("Even", same)
    return each(inner.set_start_step("Ask"))


def ended(workflow, value):
    try:
        return workflow.execute(value)
    except StepExecutionError as error:
        return error.execution


@pytest.fixture
def page(tmp_path):
    def write(execution, **options):
        path = tmp_path / "run.html"
        execution.report(path, **options)
        return path.read_text()

    return write


# --- without a run ------------------------------------------------------------------


def test_a_map_step_is_a_stack_with_an_end_beside_it():
    dot = each().to_dot()
    assert "peripheries=3" in node(dot, "Each\\nfor each item")
    assert dot.count("doublecircle") == 1


def test_a_map_step_of_a_workflow_has_it_inside():
    dot = nested().to_dot()
    assert 'label="Each: Check\\lfor each item\\l"' in dot
    assert 'label="Odd\\nfails: OddNumber"' in dot


def test_a_map_step_is_written_as_mermaid():
    assert '["Each<br>for each item"]' in each().to_mermaid()
    assert 'subgraph s1["Each#58; Check · for each item"]' in nested().to_mermaid()


@pytest.mark.parametrize(
    ("options", "facts"),
    [
        ({}, "for each item, end"),
        ({"executor": "process"}, "for each item, in processes, end"),
    ],
)
def test_a_map_step_is_a_line_of_the_tree(options, facts):
    assert f"Each  ({facts})\n" in to_tree(each(**options).compile())


def test_a_map_step_of_a_workflow_has_it_below_in_the_tree():
    tree = to_tree(nested().compile())
    assert "└─ Each  (workflow Check, for each item, end)\n" in tree
    assert "   └─ Even  (end)\n" in tree


# --- of a run -----------------------------------------------------------------------


def test_a_map_step_says_how_many_items_there_were():
    execution = each().execute(range(2_000))
    assert "2,000 items" in node(execution.to_dot(), "Each")


def test_a_map_step_says_how_many_items_failed_and_which_first():
    shown = node(each(refuse_three).execute(range(10)).to_dot(), "Each")
    assert "9 of 10 items\\n1 failed: item 3 (LookupError)" in shown


def test_a_map_step_that_keeps_no_results_says_how_many_failed():
    execution = each(refuse_odd, keep_results=False).execute(range(10))
    assert "5 of 10 items\\n5 failed: item" in node(execution.to_dot(), "Each")


def test_a_map_step_that_failed_says_how_many_items_did():
    execution = ended(each(refuse_three, tolerated_failures=0), range(10))
    shown = node(execution.to_dot(), "Each")
    assert "✗ failed" in shown
    assert "9 of 10 items\\n1 failed: item 3 (LookupError)" in shown


def test_the_step_after_a_map_step_counts_no_items():
    workflow = each(next_step="After").add_step("After", same)
    assert "items" not in node(workflow.execute([1, 2]).to_dot(), "After")


def test_inside_a_map_step_is_the_first_item_that_failed():
    dot = nested().execute([2, 4, 5, 7]).to_dot()
    assert "below: item 2" in node(dot, "Each: Check")
    assert "✗ failed" in node(dot, "Odd")
    assert "✓" not in node(dot, "Even")


def test_inside_a_map_step_is_the_first_item_where_none_failed():
    execution = nested().execute([2, 4])
    assert "below: item 0" in node(execution.to_dot(), "Each: Check")
    assert "✓" in node(execution.to_dot(), "Even")
    assert " · for each item · 2 items · below#58; item 0" in execution.to_mermaid()


def test_what_was_read_is_drawn_the_same():
    execution = nested().execute([2, 4, 5, 7])
    took = re.compile(r"[\d.e-]+ [mµ]?s\b")
    assert took.sub("", read_back(execution).to_dot()) == took.sub(
        "", execution.to_dot()
    )


# --- in a transcript ----------------------------------------------------------------


def test_a_run_of_a_map_step_that_was_read_is_written_the_same():
    execution = nested().execute([2, 4, 5, 7])
    assert read_back(execution).to_dict() == execution.to_dict()


def test_the_items_come_back_with_their_inputs():
    execution = each(items="rows").execute({"rows": ["a", "b"]})
    copy = read_back(execution)
    assert [(it.item, it.input, it.output) for it in copy.history[1:]] == [
        (0, "a", "a"),
        (1, "b", "b"),
    ]


def test_the_results_come_back():
    output = read_back(each(refuse_three).execute(range(5))).output
    assert isinstance(output, MapResults)
    assert list(output.failed) == [3]
    assert output[:3] == [0, 1, 2]


def test_counts_come_back():
    execution = each(refuse_odd, keep_results=False).execute(range(10))
    assert read_back(execution).output == execution.output
    assert read_back(execution).output[Outcome.FAILED] == 5


def test_the_error_of_a_map_step_comes_back_with_its_items():
    execution = ended(each(refuse_three, tolerated_failures=0), range(5))
    with pytest.raises(ParallelStepExecutionError) as caught:
        read_back(execution).raise_if_failed()
    assert caught.value.outcomes[3] is Outcome.FAILED
    assert caught.value.results[2] == 2
    assert list(caught.value.errors) == [3]


def test_items_are_asked_for_by_their_index():
    asked = {}
    each().execute(["a", "b"]).to_dict(
        redact=lambda where, value: asked.setdefault(where, value)
    )
    assert asked["Each.1", "input"] == "b"
    assert asked["Each.1", "output"] == "b"


def test_what_is_hidden_of_items_is_nowhere(page):
    def hide(where, value):
        return "…" if "secret" in str(value) else value

    execution = each().execute(["secret 1", "secret 2"])
    assert "secret" not in json.dumps(execution.to_dict(redact=hide))
    assert "secret" not in page(execution, redact=hide)


# --- in a report --------------------------------------------------------------------


def test_the_report_has_a_row_of_each_item_that_has_a_record(page):
    names = re.findall('data-name="(.*?)"', page(each().execute(["a", "b"])))
    assert names == ["each", "each / item 0", "each / item 1"]


def test_the_report_counts_the_items(page):
    text = page(each(refuse_odd).execute(range(10)))
    assert "<dd>1 step, 10 items</dd>" in text
    assert '<span class="sf-facts">5 of 10 items</span>' in text
    assert "10 items: 5 succeeded, 5 failed" in text


def test_the_report_says_how_many_items_have_rows_where_not_all_do(page):
    text = page(each().execute(range(2_000)))
    assert "2,000 items: 2,000 succeeded, 1,000 have rows of their own" in text


def test_the_report_leads_to_the_item_that_failed(page):
    execution = ended(each(refuse_three, tolerated_failures=0), range(5))
    assert re.search(
        r'Failed at <a href="#r0">Each</a> → <a href="#r4">item 3</a>', page(execution)
    )
