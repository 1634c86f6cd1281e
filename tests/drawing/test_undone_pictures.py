from __future__ import annotations

import re

import pytest
from shared.calls import same
from shared.pictures import read_back

from stepfunction import StepExecutionError, StepFunction, StepFunctionError


def fail(value):
    raise LookupError("no")


def refuse(value):
    raise OSError("the bank is closed")


def node(dot, name):
    start = f'label="{name}'
    return next(it for it in dot.split(";\n") if start in it and "->" not in it)


def ended(undo=same, tasks=False, value=1):
    workflow = StepFunction("W")
    if tasks:
        both = {"card": same, "points": same}
        workflow.add_step("Pay", both, "Send", parallel=True, compensate={"card": undo})
    else:
        workflow.add_step("Pay", same, "Send", compensate=undo)
    workflow.add_step("Send", fail)
    try:
        return workflow.set_start_step("Pay").execute(value)
    except (StepExecutionError, StepFunctionError, ExceptionGroup) as error:
        return error.execution


@pytest.mark.parametrize("is_read", [False, True])
def test_a_step_that_was_undone_says_so(is_read):
    execution = read_back(ended()) if is_read else ended()
    assert "↺ undone" in node(execution.to_dot(), "Pay")
    assert "↺ undone" in execution.to_mermaid()


def test_a_step_whose_undoing_failed_says_so():
    assert "✗ not undone: OSError" in node(ended(refuse).to_dot(), "Pay")


def test_a_task_that_was_undone_says_so():
    dot = ended(tasks=True).to_dot()
    assert "↺ undone" in node(dot, "card")
    assert "undone" not in node(dot, "points")


@pytest.mark.parametrize("undo", [same, refuse])
@pytest.mark.parametrize("tasks", [False, True])
def test_compensations_come_back_from_a_transcript(undo, tasks):
    execution = ended(undo, tasks)
    (original,) = execution.compensations
    (record,) = read_back(execution).compensations
    for name in ("step", "task", "outcome", "input", "output"):
        assert getattr(record, name) == getattr(original, name)
    assert (record.error is None) is (original.error is None)
    assert record.started == pytest.approx(original.started, abs=1e-6)
    assert read_back(execution).to_dict() == execution.to_dict()


def test_what_is_undone_can_be_hidden():
    execution = ended(tasks=True, value="secret")
    document = execution.to_dict(
        redact=lambda where, value: "…" if "secret" in str(value) else value
    )
    assert document["execution"]["compensations"][0]["input"] == "…"
    assert "secret" not in str(document)


def test_the_report_has_a_row_of_each_compensation(tmp_path):
    page = tmp_path / "run.html"
    ended(refuse, tasks=True).report(page)
    text = page.read_text()
    names = re.findall('data-name="(.*?)"', text)
    assert names[-1] == "undo pay / card"
    assert "<dt>Undone</dt><dd>0, 1 not</dd>" in text
    assert "the bank is closed" in text
    assert "Output that is undone" in text
