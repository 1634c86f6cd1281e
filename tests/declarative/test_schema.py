from __future__ import annotations

import inspect
from enum import IntEnum, StrEnum

import jsonschema
import pytest
from shared.documents import again, charge, scale

from stepfunction import Status, StepFunction
from stepfunction.core.definition.graph import Step
from stepfunction.declarative.document import _FIELDS
from stepfunction.declarative.kinds import KINDS


def test_the_schema_is_a_schema():
    jsonschema.Draft202012Validator.check_schema(StepFunction.json_schema())


def test_the_schema_is_nobodys_to_change():
    StepFunction.json_schema().clear()
    assert StepFunction.json_schema()


@pytest.mark.parametrize("name", KINDS)
def test_a_step_has_the_keys_that_its_method_has_arguments(name):
    kind = KINDS[name]
    signature = inspect.signature(getattr(StepFunction, kind.method))
    arguments = {*signature.parameters} - {"self", "name", "parallel"}
    if name == "call":  # which a parallel step has for itself
        arguments -= {"stop_on_failure", "max_workers", "tolerated_failures"}
    if kind.argument is not None:
        arguments = arguments - {kind.argument} | {kind.required[0]}
    assert {*kind.required, *kind.keys} == arguments


@pytest.mark.parametrize("name", KINDS)
def test_the_schema_knows_the_keys_of_every_type_of_step(name):
    kind, part = KINDS[name], StepFunction.json_schema()["$defs"][name]
    assert {*part["properties"]} == {"type", *kind.required, *kind.keys}
    assert {*part["required"]} - {"type"} == {*kind.required}


def test_every_field_of_a_step_is_written():
    assert {*_FIELDS} == {*Step._fields} - {"name", "action"}


def test_every_argument_of_a_workflow_is_written_but_what_is_code():
    signature = inspect.signature(StepFunction)
    known = {*StepFunction.json_schema()["properties"]}
    assert {*signature.parameters} - known == {"listeners", "surroundings", "store"}


def test_a_read_workflow_takes_failures_as_the_written_one():
    builder = StepFunction("W", on_failure="Sorry").set_start_step("A")
    builder.add_step("A", scale, params={"factor": None}).add_step("Sorry", charge)
    assert again(builder).execute(2).status is Status.FAILED


class Word(StrEnum):
    NAME = "charge"
    SHARE = "10%"


def test_members_of_enums_are_written_as_what_they_are_members_of():
    two = IntEnum("Number", {"TWO": 2}).TWO
    builder = StepFunction("W")
    builder.add_step(
        "A",
        {Word.NAME: abs},
        parallel=True,
        compensate={Word.NAME: abs},
        tolerated_failures=Word.SHARE,
        max_workers=two,
    )
    builder.add_map_step("B", abs, batch_size=two, tolerated_failures=two)
    builder.add_fail_step("C", Word.NAME, Word.SHARE)
    document = builder.to_dict({"abs": abs})
    read = StepFunction.from_dict(document, {"abs": abs})
    assert read.steps == builder.steps
