from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone
from enum import StrEnum
from typing import Any

import pytest
from shared.documents import (
    FORMAT,
    REGISTRY,
    Till,
    again,
    charge,
    one,
    problems,
    refusals,
)

from stepfunction import FunctionRegistry, RetryPolicy, StepFunction, StepTimeoutError


def written(builder: StepFunction, name: str = "A") -> Any:
    return builder.to_dict(REGISTRY)["steps"][name]


# --- what is written ----------------------------------------------------------------


def test_a_document_says_the_least_that_there_is_to_say():
    nested = StepFunction("Prepare").add_step("Wash", charge).set_start_step("Wash")
    salad = StepFunction("Salad", max_steps=9)
    salad.add_step("Cut", charge, "Mix", on_failure="Sorry", params={})
    salad.add_parallel_step("Mix", {"a": charge, "b": nested}, next_step="Serve")
    salad.add_map_step("Serve", nested)
    salad.add_fail_step("Sorry", "NoSalad")
    salad.set_start_step("Cut")
    assert salad.to_dict(REGISTRY) == {
        "format": FORMAT,
        "name": "Salad",
        "start": "Cut",
        "max_steps": 9,
        "steps": {
            "Cut": {"func": "charge", "next_step": "Mix", "on_failure": "Sorry"},
            "Mix": {
                "type": "parallel",
                "func": {"a": "charge", "b": {"workflow": "Prepare"}},
                "next_step": "Serve",
            },
            "Serve": {"type": "map", "func": {"workflow": "Prepare"}},
            "Sorry": {"type": "fail", "error": "NoSalad"},
        },
        "workflows": {
            "Prepare": {"start": "Wash", "steps": {"Wash": {"func": "charge"}}}
        },
    }


def test_a_document_runs_when_it_has_been_read():
    text = json.dumps(one(func="scale", params={"factor": 3}))
    assert StepFunction.from_json(text, REGISTRY).execute(2).output == 6


def test_a_mapping_will_do_for_a_registry():
    document = one(func="triple")
    workflow = StepFunction.from_dict(document, {"triple": lambda n: 3 * n})
    assert workflow.execute(2).output == 6


def test_a_workflow_that_is_not_finished_survives():
    read = again(StepFunction("W").add_step("A", charge, "B"))
    assert read.to_dict(REGISTRY) == {
        "format": FORMAT,
        "name": "W",
        "steps": {"A": {"func": "charge", "next_step": "B"}},
    }


def test_listeners_are_not_part_of_a_document():
    heard: list[Any] = []
    workflow = StepFunction("W", listeners=[heard.append])
    workflow.add_step("A", charge).set_start_step("A")
    again(workflow).execute()
    assert heard == []


@pytest.mark.parametrize("share", ["10%", "33.3%", "0%", 0, 2])
@pytest.mark.parametrize("on_failure", [None, "A"])
def test_tolerated_failures_are_written_as_they_were_given(share, on_failure):
    builder = StepFunction("W", max_steps=3)
    tasks = {name: charge for name in "abcd"}
    kept = {"tolerated_failures": share, "on_failure": on_failure}
    builder.add_step("A", tasks, parallel=True, **kept)
    builder.add_map_step("B", charge, **kept)
    assert [
        again(builder).to_dict(REGISTRY)["steps"][name].get("tolerated_failures", 0)
        for name in "AB"
    ] == [share, share]


@pytest.mark.parametrize("key", [1, True, "1", 1.0, 1.5, None, False, 0, ""])
def test_the_result_of_a_branch_keeps_its_type(key):
    builder = StepFunction("W", max_steps=2).add_step("A", charge, branch={key: "A"})
    builder.set_start_step("A")
    ((result, target),) = again(builder).steps["A"].branch.table.values()
    assert (repr(result), target) == (repr(key), "A")


def test_a_branch_of_an_enum_of_texts_is_written_by_its_texts():
    class Size(StrEnum):
        LARGE = "large"

    builder = StepFunction("W").add_step("A", charge, branch={Size.LARGE: "B"})
    assert written(builder)["branch"] == {"large": "B"}


def test_the_order_of_failure_arrows_does_not_hang_on_that_of_keys():
    arrows = {ConnectionError: "B", LookupError: "C", Exception: "D"}
    builder = StepFunction("W").add_step("A", charge, on_failure=arrows)
    document = json.loads(json.dumps(builder.to_dict(REGISTRY), sort_keys=True))
    read = StepFunction.from_dict(document, REGISTRY)
    assert read.steps["A"].on_failure == tuple(arrows.items())


def test_failure_arrows_may_be_an_object_too():
    document = one(func="charge", on_failure={"StepTimeoutError": "B", "OSError": "C"})
    read = StepFunction.from_dict(document, REGISTRY)
    assert read.steps["A"].on_failure == ((StepTimeoutError, "B"), (OSError, "C"))


@pytest.mark.parametrize("name", ["FunctionRegistry", "ValueErrors", "len", "IOError"])
def test_what_is_no_class_of_errors_by_its_own_name_is_none(name):
    (problem,) = problems(one(func="charge", on_failure={name: "B"}))
    assert problem.startswith(f"steps.A.on_failure.{name}: unknown exception class")


def test_a_class_of_errors_may_be_registered():
    class Declined(Exception):
        pass

    registry = FunctionRegistry({"charge": charge, "Declined": Declined})
    builder = StepFunction("W").add_step("A", charge, on_failure={Declined: "B"})
    builder.add_step("B", charge, retry=RetryPolicy(retry_on=(Declined, OSError)))
    assert again(builder, registry).steps["A"].on_failure == ((Declined, "B"),)
    assert again(builder, registry).steps["B"].retry.retry_on == (Declined, OSError)


def test_a_registered_name_comes_before_that_of_python():
    class MyError(Exception):
        pass

    registry = FunctionRegistry({"charge": charge, "OSError": MyError})
    builder = StepFunction("W").add_step("A", charge, on_failure={MyError: "B"})
    assert again(builder, registry).steps["A"].on_failure == ((MyError, "B"),)
    builder.add_step("B", charge, retry=RetryPolicy(retry_on=OSError))
    assert refusals(builder, registry) == (
        "steps.B.retry.retry_on: 'OSError' is what something else is registered as",
    )


def test_a_moment_keeps_its_offset():
    zone = timezone(timedelta(hours=5, minutes=30))
    builder = StepFunction("W")
    builder.add_wait_step("A", until=datetime(2030, 1, 31, 8, tzinfo=zone))
    assert written(builder)["until"] == "2030-01-31T08:00:00+05:30"
    until = again(builder).steps["A"].action.until
    assert until == datetime(2030, 1, 31, 8, tzinfo=zone)
    assert until.utcoffset() == timedelta(hours=5, minutes=30)


def test_inputs_survive():
    builder = StepFunction("W").add_step("Parse", charge, "A").set_start_step("Parse")
    builder.add_step("A", charge, inputs={"order": "Parse"})
    assert written(builder)["inputs"] == {"order": "Parse"}
    assert again(builder).compile() == builder.compile()


@pytest.mark.parametrize("result", [None, False, 0, "", [], {"a": [1.0, None]}])
def test_a_constant_survives_as_what_it_is(result):
    builder = StepFunction("W").add_pass_step("A", result).set_start_step("A")
    assert repr(again(builder).execute("x").output) == repr(result)


def test_a_step_that_passes_its_input_has_no_result():
    builder = StepFunction("W").add_pass_step("A").set_start_step("A")
    assert again(builder).execute("x").output == "x"


def test_a_document_shares_nothing_with_the_workflow():
    result = {"list": [1]}
    builder = StepFunction("W").add_pass_step("A", result).set_start_step("A")
    document = builder.to_dict()
    read = StepFunction.from_dict(document)
    document["steps"]["A"]["result"]["list"].append(2)
    assert result == {"list": [1]}
    assert read.execute().output == {"list": [1]}


def test_a_method_of_an_instance_may_be_registered():
    till = Till()
    builder = StepFunction("W").add_step("A", till.open)
    assert builder.to_dict({"open": till.open})["steps"]["A"] == {"func": "open"}


def test_the_first_name_of_a_function_is_written():
    registry = FunctionRegistry({"new": charge, "old": charge})
    builder = StepFunction("W").add_step("A", charge)
    assert builder.to_dict(registry)["steps"]["A"] == {"func": "new"}
    assert StepFunction.from_dict(one(func="old"), registry).steps == builder.steps


# --- nested workflows ---------------------------------------------------------------


def test_a_workflow_that_is_used_twice_is_one_again():
    nested = StepFunction("Nested").add_step("X", charge)
    builder = StepFunction("W").add_sub_step_function("A", nested, "B")
    builder.add_step("B", {"t": nested}, parallel=True)
    read = again(builder)
    assert read.steps["A"].action.nested is read.steps["B"].action.tasks["t"].nested


def test_workflows_of_one_name_stay_apart():
    builder = StepFunction("W")
    for name in "ABC":
        nested = StepFunction("Same").add_step(name, charge)
        builder.add_sub_step_function(name, nested)
    document = builder.to_dict(REGISTRY)
    assert list(document["workflows"]) == ["Same", "Same 2", "Same 3"]
    read = again(builder)
    assert [read.steps[name].action.name for name in "ABC"] == ["Same"] * 3
    assert ["".join(read.steps[name].action.nested.steps) for name in "ABC"] == [*"ABC"]


def test_workflows_may_be_nested_however_deep():
    builder = StepFunction("0").add_step("A", charge).set_start_step("A")
    for depth in range(1, 500):
        builder = StepFunction(str(depth)).add_sub_step_function("A", builder)
    assert len(again(builder)._with_all_nested()) == 500


def test_a_workflow_inside_itself_is_refused_with_its_place():
    document = one(type="workflow", workflow="X")
    document["workflows"] = {
        "X": {"steps": {"A": {"type": "workflow", "workflow": "Y"}}},
        "Y": {"steps": {"A": {"type": "workflow", "workflow": "X"}}},
    }
    assert problems(document) == (
        "workflows.Y.steps.A.workflow: workflow 'Y' would run inside itself",
    )


def test_a_workflow_that_no_step_runs_is_refused():
    document = one(func="charge")
    document["workflows"] = {"Old": {"steps": {}}}
    assert problems(document) == ("workflows.Old: no step runs it; leave it out",)


def test_a_subclass_reads_workflows_of_its_own():
    class Mine(StepFunction):
        pass

    nested = StepFunction("Nested").add_step("X", charge)
    builder = StepFunction("W").add_sub_step_function("A", nested)
    read = Mine.from_json(builder.to_json(REGISTRY), REGISTRY)
    assert type(read) is type(read.steps["A"].action.nested) is Mine
