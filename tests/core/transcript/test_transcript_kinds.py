from __future__ import annotations

import json
import re
import subprocess
import sys
from datetime import datetime, timezone
from fractions import Fraction

import pytest
from shared.calls import same
from shared.pictures import giving, read_back

from stepfunction import (
    Execution,
    FailStepError,
    MapResults,
    Outcome,
    ParallelStepExecutionError,
    RemoteError,
    StepFunction,
    StepFunctionError,
    TranscriptError,
)
from stepfunction.core.engine.start import begin

NEW_YEAR = datetime(2020, 1, 1, tzinfo=timezone.utc)
SECRET = "4111 1111"


def is_big(value):
    return value > 10


def soon(value):
    return 0


def new_year(value):
    return NEW_YEAR


def order():
    workflow = StepFunction("Order", on_failure="Sorry", max_steps=50)
    workflow.add_pass_step("Choose", branch=[(is_big, "Late")], next_step="Early")
    workflow.add_wait_step("Early", until=NEW_YEAR, next_step="Soon")
    workflow.add_wait_step("Soon", seconds=soon, next_step="New_Year")
    workflow.add_wait_step("New_Year", until=new_year, next_step="Late")
    workflow.add_wait_step("Late", seconds=0, next_step="Five")
    workflow.add_pass_step("Five", {"five": 5}, next_step="Work")
    tasks = {"a": same, "b": same}
    undo = {"a": same}
    workflow.add_step("Work", tasks, "Undo", parallel=True, compensate=undo)
    workflow.add_step("Undo", same, "Refuse", compensate=same)
    workflow.add_step("Sorry", same)
    workflow.add_fail_step("Refuse", "Refused", "too late")
    return workflow.set_start_step("Choose")


def mapping(**options):
    inner = StepFunction("Inner").add_step("Look", same).set_start_step("Look")
    workflow = StepFunction("Map").add_step("Give", same, "Each", "Late")
    workflow.add_step("Late", same)
    workflow.add_map_step("Each", inner, "rows", tolerated_failures="10%", **options)
    return workflow.set_start_step("Give")


def step_of(execution, name):
    steps = execution.to_dict()["graphs"][-1]["steps"]
    return next(step for step in steps if step["name"] == name)


def in_part():
    errors = {1: ValueError("odd")}
    outcomes = {0: Outcome.SUCCEEDED, 1: Outcome.FAILED}
    text = "1 of 2 items of step 'Each' failed"
    failure = ParallelStepExecutionError(text, "Each", outcomes, {0: "even"}, errors)
    failure.__cause__ = errors[1]
    return MapResults(["even", errors[1]], failure)


@pytest.fixture(scope="module")
def execution():
    return order().execute(1)


@pytest.mark.parametrize("workflow", [order(), mapping()])
def test_a_graph_that_was_read_is_written_the_same(workflow):
    execution = begin(workflow.compile(), 1, None, ())
    assert read_back(execution).to_dict()["graphs"] == execution.to_dict()["graphs"]


def test_a_run_that_was_read_is_written_the_same(execution):
    assert read_back(execution).to_dict() == execution.to_dict()


def test_a_fail_step_comes_back_as_the_error_that_it_was(execution):
    error = read_back(execution).error
    assert type(error) is FailStepError
    assert (error.error, error.cause) == ("Refused", "too late")
    assert str(error) == "Refused: too late"


def test_a_fail_step_that_was_read_is_still_raised(execution):
    with pytest.raises(StepFunctionError, match="Refused: too late") as caught:
        read_back(execution).raise_if_failed()
    assert type(caught.value.__cause__) is FailStepError


def test_what_is_hidden_of_a_fail_step_s_text_is_hidden_of_its_cause():
    def refuse(_):
        raise FailStepError(f"Declined: {SECRET}", "Declined", SECRET)

    workflow = StepFunction("Pay").add_step("Pay", refuse, on_failure="Sorry")
    execution = workflow.add_step("Sorry", str).set_start_step("Pay").execute(1)

    def hide(where, value):
        return value.replace(SECRET, "…") if isinstance(value, str) else value

    text = execution.to_json(redact=hide)
    assert SECRET not in text
    assert Execution.from_json(text).error.cause is None


def test_an_older_transcript_is_read(execution):
    document = giving(1).execute().to_dict()
    del document["graphs"][0]["keep_history"]
    for key in ("conditions", "inputs", "compensate"):
        del document["graphs"][0]["steps"][0][key]
    assert Execution.from_json(json.dumps(document)).output == 1


def test_the_actions_come_back_with_what_pictures_tell_of_them(execution):
    copy = read_back(execution)
    took = re.compile(r"[\d.e-]+ [mµ]?s\b")  # of which the last digit may be rounded
    assert took.sub("", copy.to_dot()) == took.sub("", execution.to_dot())


def test_how_much_a_history_keeps_comes_back():
    workflow = StepFunction("Long", max_steps=50, keep_history=2)
    workflow.add_step("Count", lambda n: n + 1, branch=[(is_big, "End")])
    workflow.add_step("Count_On", same, "Count").add_step("End", same)
    workflow.add_pass_step("Start", next_step="Count_On").set_start_step("Start")
    execution = workflow.execute(10)
    copy = read_back(execution)
    assert copy.graph.keep_history == 2
    assert [it.step for it in copy.history] == [it.step for it in execution.history]
    assert [it.input for it in copy.history] == [it.input for it in execution.history]


def test_what_a_fail_step_s_error_hides_is_hidden_of_the_step():
    workflow = StepFunction("Pay").add_fail_step("Refuse", "Refused", SECRET)
    execution = workflow.set_start_step("Refuse").execute()

    def hide(where, value):
        return "…" if where == ("Refuse", "error") else value

    text = execution.to_json(redact=hide)
    assert SECRET not in text
    assert Execution.from_json(text).status == "FAILED"


def test_a_pause_of_any_number_is_written_as_a_number_of_json():
    workflow = StepFunction("Wait").add_wait_step("Wait", seconds=Fraction(1, 8))
    execution = begin(workflow.set_start_step("Wait").compile(), 1, None, ())
    assert read_back(execution).graph.steps["Wait"].action.seconds == 0.125


def test_a_condition_that_was_read_refuses_to_be_called(execution):
    branch = read_back(execution).graph.steps["Choose"].branch
    with pytest.raises(StepFunctionError, match="is_big cannot be called"):
        branch.choose(1)


def test_a_constant_is_not_written_with_its_step(execution):
    assert step_of(execution, "Five")["action"] == {"kind": "pass", "is_constant": True}


def test_the_results_of_a_map_step_come_back():
    results = read_back(giving(in_part()).execute()).output
    assert isinstance(results, MapResults)
    assert results[0] == "even"
    assert isinstance(results[1], RemoteError)
    assert results.failed == {1: results[1]}
    with pytest.raises(ParallelStepExecutionError, match="1 of 2 items") as caught:
        results.raise_if_failed()
    assert caught.value.outcomes == {0: Outcome.SUCCEEDED, 1: Outcome.FAILED}
    assert caught.value.results == {0: "even"}
    assert list(caught.value.errors) == [1]


def test_counts_of_outcomes_come_back():
    output = read_back(giving({Outcome.SUCCEEDED: 3, Outcome.FAILED: 1}).execute())
    assert output.output == {Outcome.SUCCEEDED: 3, Outcome.FAILED: 1}
    assert all(type(key) is Outcome for key in output.output)


def test_each_result_of_a_map_step_is_asked_for_as_that_of_its_item():
    asked = []
    workflow = StepFunction("Map").add_step("Each", lambda: MapResults(["a", "b"]))
    workflow.set_start_step("Each").execute().to_dict(
        redact=lambda where, value: asked.append(where) or value
    )
    assert ("Each.0", "output") in asked
    assert ("Each.1", "output") in asked


def test_a_map_step_comes_back():
    execution = begin(mapping(batch_size=1, max_workers=3).compile(), 1, None, ())
    action = read_back(execution).graph.steps["Each"].action
    assert action.items == "rows"
    assert (action.tolerated, action.max_workers) == ("10%", 3)
    assert action.call.name == "Inner"


@pytest.mark.parametrize(
    ("step", "way", "value", "message"),
    [
        ("Early", ("action", "until"), "2020-01-01", "until is .* has no time zone"),
        ("Early", ("action", "until"), "soon", "until .* cannot be 'soon'"),
        ("Early", ("action", "until"), None, "give seconds, or until; one"),
        ("Late", ("action", "seconds"), -1, "action .* seconds is .* not -1"),
        ("Soon", ("action", "seconds"), {}, "lacks .*seconds.function"),
        ("Refuse", ("action", "error"), 1, "action .* error is .* not 1"),
        ("Refuse", ("action", "kind"), "stop", "kind .* is 'stop', and none of call"),
        ("Five", ("action", "is_constant"), 1, "is_constant .* cannot be 1"),
        ("Choose", ("conditions",), "yes", "conditions .* cannot be 'yes'"),
        ("Undo", ("compensate",), 1, "compensate .* cannot be 1"),
        ("Work", ("compensate",), {"a": 1}, "compensate.a .* cannot be 1"),
        ("Undo", ("inputs",), {"a": "Nowhere"}, "an arrow to 'Nowhere'"),
        ("Undo", ("inputs",), ["a"], "inputs .* cannot be"),
    ],
)
def test_a_step_that_was_tampered_with_is_refused_by_place(
    execution, step, way, value, message
):
    document = execution.to_dict()
    part = next(it for it in document["graphs"][0]["steps"] if it["name"] == step)
    for key in way[:-1]:
        part = part[key]
    part[way[-1]] = value
    with pytest.raises(TranscriptError, match=message):
        Execution.from_json(json.dumps(document))


@pytest.mark.parametrize(
    "value",
    [
        {"$outcome": "GREAT"},
        {"$items": [1]},
        {"$items": [{}, None]},
        {"$items": [[], 99]},
    ],
)
def test_a_value_that_was_tampered_with_is_refused_by_place(value):
    document = giving(1).execute().to_dict()
    document["execution"]["output"] = value
    with pytest.raises(TranscriptError, match="execution.output"):
        Execution.from_json(json.dumps(document))


def test_an_index_that_is_none_is_refused_by_place():
    document = giving(in_part()).execute().to_dict()
    error = next(it for it in document["errors"] if "outcomes" in it)
    error["outcomes"]["first"] = "FAILED"
    with pytest.raises(TranscriptError, match="an item 'first'"):
        Execution.from_json(json.dumps(document))


def test_a_value_is_written_while_another_thread_imports_its_module(tmp_path):
    (tmp_path / "zoneinfo.py").write_text(
        "import __main__\n"
        "__main__.begun.set()\n"
        "__main__.go.wait()\n"
        "class ZoneInfo: ...\n"
    )
    program = """
import sys, threading
sys.path.insert(0, sys.argv[1])
begun, go = threading.Event(), threading.Event()
from stepfunction import StepFunction
class Own: ...
thread = threading.Thread(target=__import__, args=("zoneinfo",))
thread.start()
begun.wait()
threading.Timer(0.2, go.set).start()
flow = StepFunction("W").add_step("A", lambda it: Own()).set_start_step("A")
print(flow.execute().to_json().count("Own") > 0)
thread.join()
"""
    command = [sys.executable, "-c", program, str(tmp_path)]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=60)

    assert ran.stdout == "True\n", ran.stderr
