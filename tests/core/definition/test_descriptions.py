from __future__ import annotations

import copy
import json
import pickle
import re

import jsonschema
import pytest
from shared.documents import REGISTRY, charge

from stepfunction import DefinitionError, Execution, ResumeError, StepFunction
from stepfunction.cli import main
from stepfunction.stores import SQLiteStore

HOSTILE = 'say "hi"\\n\\l & <b onclick=x>\n\x1b[31m</title>]]>\r\ud800\0 ${x} \\'


def flow(said="charges the card", about="sells a book"):
    workflow = StepFunction("Sale", description=about)
    workflow.add_step("Pay", charge, next_step="Ship", description=said)
    return workflow.add_step("Ship", charge).set_start_step("Pay")


def every_kind(said):
    nested = flow()
    workflow = StepFunction("All", description=said).set_start_step("a")
    workflow.add_step("a", charge, "b", description=said)
    workflow.add_step("b", {"t": charge}, "c", parallel=True, description=said)
    workflow.add_parallel_step("c", {"t": nested}, next_step="d", description=said)
    workflow.add_map_step("d", charge, next_step="e", description=said)
    workflow.add_sub_step_function("e", nested, "f", description=said)
    workflow.add_wait_step("f", seconds=0, next_step="g", description=said)
    workflow.add_pass_step("g", next_step="h", description=said)
    return workflow.add_fail_step("h", "Oops", description=said)


def test_every_kind_of_step_may_be_described():
    workflow = every_kind("what it is for")
    assert workflow.description == "what it is for"
    assert {it.description for it in workflow.steps.values()} == {"what it is for"}
    graph = workflow.compile()
    assert graph.description == "what it is for"
    assert {it.description for it in graph.steps.values()} == {"what it is for"}


def test_without_one_there_is_none():
    workflow = StepFunction("W").add_step("A", charge)
    assert workflow.description is workflow.steps["A"].description is None


@pytest.mark.parametrize("given", [3, b"it", ["it"], True])
def test_what_is_no_text_is_refused(given):
    for define in (
        lambda: StepFunction("W", description=given),
        lambda: StepFunction("W").add_step("A", charge, description=given),
        lambda: StepFunction("W").add_fail_step("A", "Oops", description=given),
    ):
        with pytest.raises(DefinitionError) as caught:
            define()
        (problem,) = caught.value.problems
        assert problem == f"description is a text, not {given!r}"
        assert problem.argument == "description"


def test_copies_keep_it():
    workflow = flow()
    for other in (
        workflow.copy(),
        copy.deepcopy(workflow),
        pickle.loads(pickle.dumps(workflow)),
        workflow.copy().replace_step("Pay", str),
    ):
        assert other.description == "sells a book"
        assert other.steps["Pay"].description == "charges the card"
    assert pickle.loads(pickle.dumps(workflow.compile())) == workflow.compile()


@pytest.mark.parametrize("said", ["what it is for", "", "two\nlines", "no"])
def test_documents_have_it(said):
    workflow = every_kind(said)
    for read in (
        StepFunction.from_json(workflow.to_json(REGISTRY), REGISTRY),
        StepFunction.from_yaml(workflow.to_yaml(REGISTRY), REGISTRY),
    ):
        assert read.compile() == workflow.compile()
        assert read.description == read.steps["h"].description == said
    schema = jsonschema.Draft202012Validator(StepFunction.json_schema())
    schema.validate(json.loads(workflow.to_json(REGISTRY)))


def test_a_document_whose_description_is_no_text_is_refused():
    text = flow().to_json(REGISTRY).replace('"charges the card"', "3")
    with pytest.raises(DefinitionError) as caught:
        StepFunction.from_json(text, REGISTRY)
    assert caught.value.problems == (
        "steps.Pay.description: description is a text, not 3",
    )


def test_pictures_show_it_where_one_points():
    assert 'tooltip="Pay\\ncharges the card"' in flow().to_dot()
    assert 'tooltip="Sale\\nsells a book"' in flow().to_dot()
    outer = StepFunction("O").add_step("S", flow()).set_start_step("S")
    assert 'tooltip="S: Sale\\nsells a book"' in outer.to_dot()


def test_pictures_of_executions_show_it_too():
    assert "charges the card" in flow().execute(1).to_dot()


def test_reports_show_it_also_of_a_transcript(tmp_path):
    execution = flow("charges\nthe <card>").execute(1)
    for it in (execution, Execution.from_json(execution.to_json())):
        page = (tmp_path / "it.html")
        it.report(page)
        assert '<p class="sf-said">charges<br>the &lt;card&gt;</p>' in page.read_text()
        assert '<p class="sf-said">sells a book</p>' in page.read_text()


def test_hostile_descriptions_are_escaped(tmp_path):
    execution = flow(HOSTILE, HOSTILE).execute(1)
    execution = Execution.from_json(execution.to_json())
    execution.report(tmp_path / "it.html")
    page = (tmp_path / "it.html").read_text()
    assert "<b onclick" not in page
    assert "</title>]]>" not in page


def test_the_command_line_shows_the_first_line(tmp_path, monkeypatch, capsys):
    text = flow("charges\nthe card", HOSTILE).to_json(REGISTRY)
    (tmp_path / "flow.json").write_text(text)
    (tmp_path / "names_of_it.py").write_text("names = {'charge': str}")
    monkeypatch.chdir(tmp_path)
    names = ("--registry", "names_of_it:names")
    assert main(["list", "flow.json", *names]) == 0
    listed = capsys.readouterr().out
    assert re.fullmatch(r"flow.json  Sale  2 steps  – .*\n", listed)
    assert main(["graph", "flow.json", *names]) == 0
    drawn = capsys.readouterr().out
    assert "├─ Pay  – charges\n" in drawn
    assert "\x1b" not in listed + drawn


def test_another_description_is_no_other_shape(tmp_path):
    def declined(value):
        raise ValueError("declined")

    def built(pay, said):
        workflow = StepFunction("Sale", description=said)
        return workflow.add_step("Pay", pay, description=said).set_start_step("Pay")

    with SQLiteStore(tmp_path / "runs.db") as store:
        for number, said in enumerate([None, "before"]):
            id = f"order-{number}"
            with pytest.raises(Exception, match="declined"):
                built(declined, said).execute(1, store=store, execution_id=id)
            again = built(charge, f"{said} and after")
            assert again.resume(id, store=store).output == 1
            assert again.execute(1, store=store, execution_id=id).output == 1
        other = built(charge, "x").add_step("More", charge)
        with pytest.raises((ResumeError, DefinitionError)):
            other.resume("order-0", store=store)


def test_a_stored_execution_is_shown_with_what_was_said_then(tmp_path):
    with SQLiteStore(tmp_path / "runs.db") as store:
        flow().execute(1, store=store, execution_id="it")
        assert store.load("it").graph.steps["Pay"].description == "charges the card"
