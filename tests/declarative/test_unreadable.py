from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from shared.documents import CYCLE, DEEP, FORMAT, REGISTRY, one, problems

from stepfunction import DefinitionError, StepFunction

SCHEMA = jsonschema.Draft202012Validator(StepFunction.json_schema())
WRONG = [
    ({"func": "chargee"}, "func: unknown function 'chargee' (did you mean 'charge'?)"),
    ({"func": "shop.pay"}, "func: unknown function 'shop.pay'; an import string is 'p"),
    ({"func": 3}, "func: give the name of a function, not 3"),
    (
        {"func": {"a": "charge"}},
        "func: give the name of a function, not {'a': 'charge'}; give the step",
    ),
    ({}, "func: it is missing"),
    ({"type": "paralel"}, "type: 'paralel' is no type of step (did you mean 'parallel"),
    ({"type": []}, "type: [] is no type of step; give one of call, workflow, parallel"),
    ({"func": "charge", "next": "B"}, "next: this key is not known (did you mean 'nex"),
    (
        {"func": "charge", "batch_size": 3},
        'batch_size: this key is not known; it goes with "type": "map"',
    ),
    (
        {"func": "charge", "stop_on_failure": True},
        'stop_on_failure: this key is not known; it goes with "type": "parallel" or',
    ),
    ({"func": "charge", "parallel": True}, 'parallel: this key is not known; give the'),
    ({"func": "charge", "next_step": None}, "next_step: null is no value for it; leav"),
    ({"func": "charge", "next_step": 3}, "next_step: next_step is the name of a step"),
    ({"func": "charge", "timeout": "3"}, "timeout: timeout is seconds above 0, not '3"),
    ({"func": "charge", "executor": "gpu"}, "executor: executor is 'inline', 'thread'"),
    ({"func": "charge", "ends": "well"}, "ends: ends is 'completed' or 'failed', not"),
    ({"func": "charge", "params": [1]}, "params: give an object, not [1]"),
    (
        {"func": "charge", "params": {"x": 1}},
        "params: params has 'x', but charge has no parameter of that name",
    ),
    ({"func": "charge", "inputs": "A"}, "inputs: give an object of parameter to step"),
    ({"func": "charge", "inputs": {}}, "inputs: inputs is empty; leave it out, or say"),
    ({"func": "charge", "inputs": {"order": ""}}, "inputs: inputs['order'] is the nam"),
    ({"func": "charge", "inputs": {"a": 1}}, "inputs.a: give the name of a step, not"),
    ({"func": "charge", "compensate": "x"}, "compensate: unknown function 'x'"),
    ({"func": "charge", "compensate": {"a": "charge"}}, "compensate: compensate is a"),
    ({"func": "charge", "retry": 3}, "retry: give an object, not 3"),
    (
        {"func": "charge", "retry": {"interval": -1}},
        "retry.interval: interval is -1; give seconds from 0",
    ),
    (
        {"func": "charge", "retry": {"attempts": 3}},
        "retry.attempts: this key is not known (did you mean 'max_attempts'?)",
    ),
    (
        {"func": "charge", "retry": {"retry_on": "ConectionError"}},
        "retry.retry_on: unknown exception class 'ConectionError' (did you mean "
        "'ConnectionError'?)",
    ),
    (
        {"func": "charge", "retry": {"retry_on": ["OSError", 3]}},
        "retry.retry_on[1]: give the name of an exception class, not 3",
    ),
    (
        {"func": "charge", "retry": {"retry_on": "charge"}},
        "retry.retry_on: 'charge' is no exception class",
    ),
    ({"func": "charge", "retry": {"interval": None}}, "retry.interval: null is no val"),
    ({"func": "charge", "on_failure": 3}, "on_failure: on_failure is the name of a st"),
    ({"func": "charge", "on_failure": {}}, "on_failure: on_failure is empty; leave it"),
    (
        {"func": "charge", "on_failure": [{"error": "OSError", "step": "B"}] * 2},
        "on_failure[1].error: 'OSError' is there more than once",
    ),
    (
        {"func": "charge", "on_failure": [{"error": "OSError"}]},
        "on_failure[0].step: it is missing",
    ),
    ({"func": "charge", "branch": 3}, "branch: give an object, a list or a name, not"),
    ({"func": "charge", "branch": "charge"}, "branch: branch is a callable, so give b"),
    ({"func": "charge", "branch": []}, "branch: branch is empty; leave it out, or say"),
    ({"func": "charge", "branch": ["B"]}, "branch[0]: give an object of 'result', or"),
    (
        {"func": "charge", "branch": [{"result": 1, "step": "B", "if": "charge"}]},
        "branch[0].result: this key is not known",
    ),
    (
        {"func": "charge", "branch": [{"result": [1], "step": "B"}]},
        "branch[0].result: give a text, a number, true, false or null, not [1]",
    ),
    (
        {"func": "charge", "branch": [{"result": {1}, "step": "B"}]},
        "branch[0].result: give a text, a number, true, false or null, not {1}",
    ),
    (
        {
            "func": "charge",
            "branch": [{"result": 1, "step": "B"}, {"result": True, "step": "C"}],
        },
        "branch[1].result: True and 1 are one key in Python",
    ),
    ({"type": "workflow"}, "workflow: it is missing"),
    ({"type": "workflow", "workflow": "X"}, "workflow: 'workflows' has no 'X'"),
    ({"type": "workflow", "workflow": ["X"]}, "workflow: 'workflows' has no ['X']"),
    ({"type": "parallel", "func": "charge"}, "func: give an object of task to functio"),
    ({"type": "parallel", "func": {}}, "func: a parallel step needs one task at least"),
    (
        {"type": "parallel", "func": {"a": "charge", "b": "chargee"}},
        "func.b: unknown function 'chargee' (did you mean 'charge'?)",
    ),
    (
        {"type": "parallel", "func": {"a": "charge"}, "params": {"x": 1}},
        "func.a: task 'a': params has 'x', but charge has no parameter",
    ),
    (
        {"type": "parallel", "func": {"a": {"work": "X"}}},
        "func.a.workflow: it is missing",
    ),
    (
        {"type": "parallel", "func": {"a": "charge"}, "stop_on_failure": "no"},
        "stop_on_failure: give true or false, not 'no'",
    ),
    (
        {"type": "parallel", "func": {"a": "charge"}, "tolerated_failures": "ten"},
        "tolerated_failures: tolerated_failures is a count from 0, or a share",
    ),
    ({"type": "map", "func": "charge", "items": 1.5}, "items: items is a key of the"),
    (
        {"type": "map", "func": "charge", "items": {"func": "chargee"}},
        "items.func: unknown function 'chargee' (did you mean 'charge'?)",
    ),
    ({"type": "map", "func": "charge", "items": {}}, "items.func: it is missing"),
    ({"type": "map", "func": "charge", "keep_results": 0}, "keep_results: give true o"),
    ({"type": "map", "func": "charge", "batch_size": 0}, "batch_size: batch_size is a"),
    ({"type": "wait", "seconds": -1}, "seconds: seconds is a number from 0, not -1"),
    ({"type": "wait", "until": "2030-01-31"}, "until: '2030-01-31' is no moment; give"),
    ({"type": "wait", "until": "2030-13-31T00:00Z"}, "until: '2030-13-31T00:00Z' is n"),
    ({"type": "wait", "until": 3}, "until: 3 is no moment; give date, time and offset"),
    ({"type": "fail"}, "error: it is missing"),
    ({"type": "fail", "error": 3}, "error: error is the name of an error, not 3"),
    ({"type": "fail", "error": "E", "next_step": "B"}, "next_step: this key is not kn"),
]


@pytest.mark.parametrize(
    "step, text", WRONG, ids=[text.partition(":")[0] for _, text in WRONG]
)
def test_a_step_that_is_wrong_is_refused_with_its_place(step, text):
    found = problems(one(**step))
    assert any(problem.startswith(f"steps.A.{text}") for problem in found), found


# What names stand for, and what a function takes, is nothing that a schema can know.
BEYOND_SCHEMAS = (
    "unknown",
    "charge has no",
    "is no exception class",
    "is a mapping of task",
    "is a callable",
    "is there more than once",
    "are one key",
    "'workflows' has no 'X'",
    "2030-13-31",
)


@pytest.mark.parametrize(
    "step",
    [step for step, text in WRONG if not any(it in text for it in BEYOND_SCHEMAS)],
)
def test_a_step_of_a_wrong_shape_is_refused_by_the_schema_too(step):
    assert not SCHEMA.is_valid(one(**step))


def test_all_problems_of_a_document_are_told_at_once():
    document = one(func="chargee", retry={"interval": -1, "jitter": "half"})
    document["steps"]["a.b"] = {"type": "wait", "seconds": -1, "until": "soon"}
    document["steps"]["C"] = 3
    document |= {"start": 3, "max_steps": 0, "nmae": "x", "keep_history": None}
    document["workflows"] = {"X": {"steps": {"A": {"func": "x"}}}, "Y": [], "Z": {}}
    assert problems(document) == (
        "nmae: this key is not known (did you mean 'name'?)",
        "keep_history: null is no value for it; leave it out",
        "max_steps: max_steps is a whole number from 1, not 0",
        "workflows.Y: a workflow is an object, not []",
        "workflows.Z.steps: it is missing",
        "start: the start step is the name of a step, not 3",
        "steps.A.func: unknown function 'chargee' (did you mean 'charge'?)",
        "steps.A.retry.interval: interval is -1; give seconds from 0",
        "steps.A.retry.jitter: jitter is 'half'; give 'full' or None",
        "steps['a.b'].until: 'soon' is no moment; give date, time and offset, as in "
        "'2030-01-31T08:00:00+01:00'",
        "steps['a.b']: give seconds, or until; one of the two",
        "steps['a.b'].seconds: seconds is a number from 0, not -1",
        "steps.C: a step is an object, not 3",
        "workflows.X.steps.A.func: unknown function 'x'; the registry has no such name",
    )


@pytest.mark.parametrize(
    "document, text",
    [
        (3, "a workflow is an object, not 3"),
        ([], "a workflow is an object, not []"),
        (None, "a workflow is an object, not None"),
        ({}, "format: it is missing; give 'stepfunction/1'"),
        ({"format": "stepfunction/2"}, "format: 'stepfunction/2' is not what this ste"),
        ({"format": FORMAT, "steps": {}}, "name: it is missing"),
        ({"format": FORMAT, "name": "", "steps": {}}, "name: the name of a workflow i"),
        ({"format": FORMAT, "name": "W"}, "steps: it is missing"),
        ({"format": FORMAT, "name": "W", "steps": []}, "steps: an object of name to s"),
        (one(func="charge") | {"workflows": 3}, "workflows: it is an object of key to"),
        (one(func="charge") | {"x": CYCLE}, "x[0].again: it contains itself"),
        (one(func="charge") | {"x": 10**5_000}, "x: JSON cannot hold so large a numbe"),
        (one(**{"type": "pass", "result": DEEP}), "steps.A.result[0][0]"),
        (one(func="charge", timeout=float("nan")), "steps.A.timeout: JSON cannot hold"),
        (one(func="charge", branch={1: "B"}), "steps.A.branch: the key 1 is no text"),
    ],
    ids=range(15),
)
def test_what_is_no_document_is_refused(document, text):
    (problem,) = problems(document)
    assert problem.startswith(text)


def test_a_document_may_name_its_schema():
    document = {"$schema": "workflow.schema.json", **one(func="charge")}
    SCHEMA.validate(document)
    assert StepFunction.from_dict(document, REGISTRY).execute(3).output == 3
    (problem,) = problems({**document, "$schema": 3})
    assert problem == "$schema: it is the address of a JSON Schema, a text"


def test_a_name_is_told_of_as_what_it_should_have_been():
    assert problems(one(func="Oops", on_failure={"Oops": "B"})) == (
        "steps.A.func: unknown function 'Oops'; the registry has no such name",
        "steps.A.on_failure.Oops: unknown exception class 'Oops'",
    )


def test_data_that_is_shared_over_and_over_is_looked_at_once():
    many: Any = [1]
    for _ in range(90):
        many = [many, many]
    document = one(**{"type": "pass", "result": many})
    assert StepFunction.from_dict(document).steps["A"].action.is_constant


@pytest.mark.parametrize(
    "text, message",
    [
        ("", "it is no JSON: Expecting value: line 1 column 1 (char 0)"),
        ("{'a': 1}", "it is no JSON: Expecting property name enclosed"),
        (
            "shop.json",
            "it is no JSON: Expecting value: line 1 column 1 (char 0); of a file give",
        ),
        (b"\xff\xfe\xff", "it is no JSON: "),
        ("[" * 100_000, "it is nested too deeply"),
        (json.dumps(one(func="charge", timeout=float("nan"))), "steps.A.timeout: JSON"),
        (Path("x.json"), "give the JSON text itself, not PosixPath('x.json'); of a"),
        (one(func="charge"), "give the JSON text itself, not {'format': 'stepfunction"),
        ('{"format": ' + "1" * 5_000 + "}", "it is no JSON: Exceeds the limit"),
    ],
    ids=range(9),
)
def test_a_text_that_is_no_document_is_refused(text, message):
    with pytest.raises(DefinitionError) as caught:
        StepFunction.from_json(text, REGISTRY)
    (problem,) = caught.value.problems
    assert problem.startswith(message)


def test_a_key_that_a_text_has_twice_is_refused_with_its_place():
    text = json.dumps(one(func="charge"))
    text = text.replace('"A": {', '"A": 3, "A": {"func": "x", ')
    with pytest.raises(DefinitionError) as caught:
        StepFunction.from_json(text, REGISTRY)
    assert caught.value.problems == (
        "steps.A: the key 'func' is there more than once",
        "steps: the key 'A' is there more than once",
    )


def test_reading_does_not_check_the_whole():
    document = one(func="charge", next_step="Nowhere")
    read = StepFunction.from_dict(document, REGISTRY)
    with pytest.raises(DefinitionError, match="next_step leads to 'Nowhere', which is"):
        read.validate()
