from __future__ import annotations

import sys
from typing import Any

import pytest
from shared.documents import DATA, charge, one, problems

from stepfunction import StepFunction


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
