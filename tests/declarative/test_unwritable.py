from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from enum import Enum, StrEnum
from functools import partial
from typing import Any

import pytest
import tenacity
from shared.documents import CYCLE, DEEP, Till, charge, refusals, scale

from stepfunction import StepFunction


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
