from __future__ import annotations

import inspect
import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta, timezone
from enum import Enum, IntEnum, StrEnum
from functools import partial
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import tenacity

from stepfunction import (
    DefinitionError,
    FunctionRegistry,
    RetryPolicy,
    Status,
    StepFunction,
    StepTimeoutError,
)
from stepfunction.core.definition.graph import Step
from stepfunction.declarative.document import _FIELDS
from stepfunction.declarative.kinds import KINDS

DATA = str(Path(__file__).parents[1] / "data")
FORMAT = "stepfunction/1"
SCHEMA = jsonschema.Draft202012Validator(StepFunction.json_schema())


@pytest.fixture
def shop(monkeypatch):
    monkeypatch.syspath_prepend(DATA)
    import shop_functions

    yield shop_functions
    del sys.modules["shop_functions"]


def charge(order: Any) -> Any:
    return order


def scale(value: Any, factor: Any = 1) -> Any:
    return value * factor


class Till:
    def open(self, order: Any) -> Any:
        return order

    def __call__(self, order: Any) -> Any:
        return order


REGISTRY = FunctionRegistry({"charge": charge, "scale": scale})


def one(**step: Any) -> dict[str, Any]:
    """Give a document of one step."""
    return {"format": FORMAT, "name": "W", "start": "A", "steps": {"A": step}}


def written(builder: StepFunction, name: str = "A") -> Any:
    return builder.to_dict(REGISTRY)["steps"][name]


def problems(document: Any, **options: Any) -> tuple[str, ...]:
    with pytest.raises(DefinitionError) as caught:
        StepFunction.from_dict(document, **{"registry": REGISTRY, **options})
    return caught.value.problems


def refusals(builder: StepFunction, registry: Any = REGISTRY) -> tuple[str, ...]:
    with pytest.raises(DefinitionError) as caught:
        builder.to_dict(registry)
    return caught.value.problems


def again(builder: StepFunction, registry: Any = REGISTRY) -> StepFunction:
    return StepFunction.from_json(builder.to_json(registry), registry)


# --- what is written --------------------------------------------------------------


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
    assert read.steps["A"].action is read.steps["B"].action.tasks["t"]


def test_workflows_of_one_name_stay_apart():
    builder = StepFunction("W")
    for name in "ABC":
        nested = StepFunction("Same").add_step(name, charge)
        builder.add_sub_step_function(name, nested)
    document = builder.to_dict(REGISTRY)
    assert list(document["workflows"]) == ["Same", "Same 2", "Same 3"]
    read = again(builder)
    assert [read.steps[name].action.name for name in "ABC"] == ["Same"] * 3
    assert ["".join(read.steps[name].action.steps) for name in "ABC"] == [*"ABC"]


def test_workflows_may_be_nested_however_deep():
    builder = StepFunction("0").add_step("A", charge).set_start_step("A")
    for depth in range(1, 500):
        builder = StepFunction(str(depth)).add_sub_step_function("A", builder)
    assert len(again(builder).with_all_nested()) == 500


def test_a_workflow_inside_itself_is_refused_with_its_place():
    document = one(type="workflow", workflow="X")
    document["workflows"] = {
        "X": {"steps": {"A": {"type": "workflow", "workflow": "Y"}}},
        "Y": {"steps": {"A": {"type": "workflow", "workflow": "X"}}},
    }
    assert problems(document) == (
        "workflows.Y.steps.A: workflow 'Y' would run inside itself",
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
    assert type(read) is type(read.steps["A"].action) is Mine


# --- what cannot be written ---------------------------------------------------------


def test_all_that_cannot_be_written_is_named_with_its_place():
    def inner(value: Any) -> Any:
        return value

    nested = StepFunction("In Between").add_step("a.b", Till())
    builder = StepFunction("W", on_failure={type("Odd", (Exception,), {}): "A"})
    builder.add_step(
        "A",
        lambda order: order,
        branch=[(inner, "B")],
        retry=tenacity.Retrying(),
        compensate=partial(charge),
    )
    tasks = {"x": Till().open, "y": nested}
    builder.add_step("B", tasks, parallel=True, executor=ThreadPoolExecutor())
    builder.add_map_step("C", charge, items=lambda order: order, timeout=float("inf"))
    builder.add_wait_step("D", seconds=lambda order: 3)
    way_out = "; register it: registry.register('name', function)"
    name = test_all_that_cannot_be_written_is_named_with_its_place.__name__
    found = refusals(builder)
    assert found[0].startswith("on_failure[0].error: ")
    assert found[1:5] == (
        f"steps.A.func: a lambda has no name{way_out}",
        f"steps.A.branch[0].if: {name}.inner is defined inside a function, so it has "
        f"no name{way_out}",
        "steps.A.retry: a tenacity.Retrying cannot be written; give a RetryPolicy",
        f"steps.A.compensate: a functools.partial has no name{way_out}",
    )
    assert found[5] == (
        "steps.B.func.x: Till.open is a method of a Till, so it has no name" + way_out
    )
    assert found[6].startswith("steps.B.executor: <concurrent.futures.")
    assert found[7:] == (
        f"steps.C.items.func: a lambda has no name{way_out}",
        "steps.C.timeout: JSON cannot hold inf; leave it out for no limit",
        f"steps.D.seconds.func: a lambda has no name{way_out}",
        f"workflows['In Between'].steps['a.b'].func: a Till has no name{way_out}",
    )


def test_a_function_of_the_script_that_runs_is_refused():
    code = """\
from stepfunction import DefinitionError, StepFunction
def charge(order): ...
try:
    StepFunction("W").add_step("A", charge).to_json()
except DefinitionError as error:
    print(error.problems[0])
"""
    run = [sys.executable, "-c", code]
    assert subprocess.run(run, capture_output=True, text=True).stdout == (
        "steps.A.func: charge is defined in the script that runs, and no import finds "
        "it there; register it: registry.register('name', function)\n"
    )


def test_a_function_that_another_has_taken_the_place_of_is_refused(shop):
    old = shop.charge
    shop.charge = shop.scale
    (problem,) = refusals(StepFunction("W").add_step("A", old))
    assert "shop_functions:charge is not what is used here" in problem


def test_a_name_that_would_be_read_as_another_function_is_refused(shop):
    registry = {"shop_functions:charge": scale}
    builder = StepFunction("W").add_step("A", shop.charge)
    assert "registered as" in refusals(builder, registry)[0]


class Grade(Enum):
    A = 1


class Level(StrEnum):
    HIGH = "high"


CYCLE: list[Any] = []
CYCLE.append({"again": CYCLE})
DEEP: list[Any] = []
for _ in range(150):  # which a copy can be made of
    DEEP = [DEEP]


@pytest.mark.parametrize(
    "value, place, text",
    [
        ((1, 2), "", "JSON has no tuples; (1, 2) would come back as a list, give one"),
        ({"a": [1, {2}]}, ".a[1]", "JSON cannot hold {2}, of type 'set', as what it"),
        ({1: 2}, "", "the key 1 is no text"),
        (float("nan"), "", "JSON cannot hold nan"),
        ([float("-inf")], "[0]", "JSON cannot hold -inf"),
        (10**5_000, "", "JSON cannot hold so large a number"),
        (Level.HIGH, "", "JSON cannot hold <Level.HIGH: 'high'>, of type 'Level', as"),
        (b"x", "", "JSON cannot hold b'x', of type 'bytes', as what it is"),
        (datetime(2030, 1, 1), "", "JSON has no datetimes; give the text '2030-01-01"),
        (CYCLE, "[0].again", "it contains itself"),
        (DEEP, "[0]" * 100, "it is nested more than 100 deep"),
    ],
    ids=range(11),
)
def test_a_value_that_json_cannot_hold_is_refused(value, place, text):
    builder = StepFunction("W").add_pass_step("A", value)
    builder.add_step("B", scale, params={"factor": value})
    first, second = refusals(builder)
    assert first.startswith(f"steps.A.result{place}: {text}")
    assert second.startswith(f"steps.B.params.factor{place}: {text}")


@pytest.mark.parametrize("key", [Grade.A, (1, 2), b"x", float("nan")])
def test_a_branch_by_what_json_cannot_hold_is_refused(key):
    builder = StepFunction("W").add_step("A", charge, branch={"x": "B", key: "B"})
    (problem,) = refusals(builder)
    assert problem.startswith("steps.A.branch[1].result: JSON ")


# --- import strings ---------------------------------------------------------------


def test_what_can_be_imported_is_written_as_import_string(shop):
    builder = StepFunction("W", on_failure={shop.Declined: "C"})
    builder.add_step("A", shop.charge, "B").set_start_step("A")
    builder.add_step("B", shop.Till.open, "C").add_step("C", shop.Till.close)
    document = builder.to_dict()
    assert [step["func"] for step in document["steps"].values()] == [
        "shop_functions:charge",
        "shop_functions:Till.open",
        "shop_functions:Till.close",
    ]
    assert document["on_failure"][0]["error"] == "shop_functions:Declined"
    read = StepFunction.from_dict(document, allow_imports=["shop_functions"])
    assert read.compile() == builder.compile()


IMPORTS = {
    "os:system": "'os:system' is not imported, since allow_imports does not name 'os'",
    "shop_functions_too:f": "'shop_functions_too:f' is not imported, since",
    "shop_functions:os.system": "shop_functions only imports 'os'; before the colon",
    "shop_functions:system": "is not defined there but in ",
    "shop_functions:join": "is not defined there but in 'posixpath', which",
    "shop_functions:home": "is not defined there but in 'pathlib",
    "shop_functions:triple": "is not defined there but in 'functools', which",
    "shop_functions:RATE": "is an int, which cannot be called",
    "shop_functions:chargee": "has no 'chargee' (did you mean 'charge'?)",
    "shop_functions:Till.drawer": "is a property, which cannot be called",
    "shop_functions:till.count": "a Till has no parts that can be named",
    "shop_functions:charge.__globals__": "a function has no parts that can be named",
    "shop_functions:Till.__subclasses__": "Till has no '__subclasses__'",
    "shop_functions:Till.__init__.__globals__": "has no parts that can be named",
    "shop_functions:Alarm.ring": "Alarm has no 'ring'",
    "shop_functions:": "is no import string: 'package.module:function'",
    "shop_functions:charge()": "is no import string: 'package.module:function'",
    "lambda x: x": "is no import string: 'package.module:function'; give code a name",
    ":charge": "is no import string: 'package.module:function'",
    ".shop_functions:charge": "is no import string: 'package.module:function'",
    "shop_functions.gone:f": "cannot be imported: ModuleNotFoundError: No module",
}


@pytest.mark.parametrize("name", IMPORTS)
def test_an_import_string_that_leads_elsewhere_is_refused(shop, name):
    (problem,) = problems(one(func=name), allow_imports=["shop_functions"])
    assert problem.startswith("steps.A.func: ")
    assert IMPORTS[name] in problem


def test_an_instance_of_what_is_defined_in_an_allowed_module_may_be_named(shop):
    document = one(func="shop_functions:silent")
    read = StepFunction.from_dict(document, allow_imports=["shop_functions"])
    assert read.steps["A"].action.function is shop.silent


def test_nothing_is_imported_without_being_allowed(monkeypatch):
    monkeypatch.syspath_prepend(DATA)
    for allowed in ([], ["shop"], ["shop_functions.inner"]):
        (problem,) = problems(one(func="shop_functions:charge"), allow_imports=allowed)
        assert "is not imported, since allow_imports does not name" in problem
    assert "shop_functions" not in sys.modules


def test_a_registered_import_string_needs_no_import():
    document = one(func="shop_functions:charge")
    read = StepFunction.from_dict(document, {"shop_functions:charge": charge})
    assert read.steps["A"].action.function is charge
    assert "shop_functions" not in sys.modules


def test_a_module_that_fails_is_a_problem_of_each_place_and_runs_once(
    tmp_path, monkeypatch, capsys
):
    (tmp_path / "module_that_fails.py").write_text("print('ran')\nraise SystemExit(3)")
    monkeypatch.syspath_prepend(str(tmp_path))
    document = one(func="module_that_fails:f", compensate="module_that_fails:f")
    text = "'module_that_fails' cannot be imported: SystemExit: 3"
    assert problems(document, allow_imports=["module_that_fails"]) == (
        f"steps.A.func: {text}",
        f"steps.A.compensate: {text}",
    )
    assert capsys.readouterr().out == "ran\n"


@pytest.mark.parametrize(
    "allowed, text",
    [
        ("shop", "allow_imports is a list of names of packages, not 'shop'"),
        (["shop", "*"], "allow_imports has '*', which is no name of a package"),
        ([""], "allow_imports has '', which is no name of a package or module"),
        (None, "allow_imports is a list of names of packages, not None"),
    ],
)
def test_what_cannot_be_allowed_is_refused(allowed, text):
    (problem,) = problems(one(func="charge"), allow_imports=allowed)
    assert problem.startswith(text)


def test_reading_calls_nothing():
    def boom(*_: Any, **__: Any) -> Any:
        raise AssertionError("it was called")

    document = one(
        func="boom",
        branch=[{"if": "boom", "step": "B"}],
        compensate="boom",
    )
    document["steps"]["B"] = {"type": "wait", "seconds": {"func": "boom"}}
    StepFunction.from_dict(document, {"boom": boom}).validate()


# --- what cannot be read ------------------------------------------------------------

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


# --- the schema -------------------------------------------------------------------


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
    assert {*_FIELDS} == {*Step._fields} - {"name", "action", "plain"}


def test_every_argument_of_a_workflow_is_written_but_its_listeners():
    signature = inspect.signature(StepFunction)
    known = {*StepFunction.json_schema()["properties"]}
    assert {*signature.parameters} - known == {"listeners"}


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
