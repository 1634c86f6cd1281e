from __future__ import annotations

import re
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from shared import reference
from shared.random_workflows import KEYS, ONE_IN, Scripted, examples

from stepfunction import DefinitionError, StepFunction

pytestmark = pytest.mark.usefixtures("quiet")


NAMES = ["alpha", "bravo", "charlie", "delta", "echo", "foxtrot"]
UNKNOWN = ["?", "!!", "%%%"]  # these resemble no name


@st.composite
def definitions(draw: Any) -> Any:
    names = draw(st.permutations(NAMES))[: draw(st.integers(1, 6))]
    targets = st.sampled_from([*names * 3, *UNKNOWN])
    steps = {}
    for name in names:
        branch = draw(st.lists(st.tuples(KEYS, targets), max_size=2))
        steps[name] = {
            "next": draw(st.none() | targets),
            "branch": dict(branch),
            "on_failure": {"Exception": draw(targets)} if draw(ONE_IN[3]) else {},
        }
    return {"start": draw(st.sampled_from([*names * 3, None, "?"])), "steps": steps}


def defined(definition: Any, **options: Any) -> StepFunction:
    builder = StepFunction("w", **options)
    if definition["start"] is not None:
        builder.set_start_step(definition["start"])
    for name, step in definition["steps"].items():
        failure_step = step["on_failure"].get("Exception")
        branch = step["branch"] or None
        builder.add_step(name, Scripted([]), step["next"], failure_step, branch)
    return builder


def problems_of(builder: StepFunction) -> tuple[str, ...]:
    try:
        builder.compile()
    except DefinitionError as error:
        return error.problems
    return ()


def arrows_of(definition: Any) -> list[tuple[str, str]]:
    return [
        (name, target)
        for name, step in definition["steps"].items()
        for targets in reference.arrows(step).values()
        for target in targets
    ]


def led_to(arrows: list[tuple[str, str]], starts: set[str]) -> set[str]:
    """Give what one or more arrows lead to from any of the starts."""
    found: set[str] = set()
    for _ in range(len(NAMES) + 1):
        found |= {target for name, target in arrows if name in starts | found}
    return found


@examples(150)
@given(definitions())
def test_compile_names_every_arrow_that_leads_to_no_step(definition):
    pattern = r"step '(\w+)': .* leads to '(\S+)',"
    found = [re.match(pattern, text) for text in problems_of(defined(definition))]
    steps = definition["steps"]
    assert sorted(match.groups() for match in found if match) == sorted(
        (name, target) for name, target in arrows_of(definition) if target not in steps
    )


@examples(150)
@given(definitions())
def test_compile_names_every_step_that_cannot_be_reached(definition):
    pattern = r"step '(\w+)' cannot be reached from '(\w+)'"
    found = [re.match(pattern, text) for text in problems_of(defined(definition))]
    start, unreached = definition["start"], set()
    if start in definition["steps"]:
        unreached = definition["steps"].keys() - {start}
        unreached -= led_to(arrows_of(definition), {start})
    assert sorted(match.groups() for match in found if match) == sorted(
        (name, start) for name in unreached
    )


@examples(150)
@given(definitions())
def test_compile_names_a_circle_exactly_where_there_is_one(definition):
    arrows = arrows_of(definition)
    in_circles = {
        name for name in definition["steps"] if name in led_to(arrows, {name})
    }
    pattern = r"steps run in a circle: ([^;]*)"
    found = [re.match(pattern, text) for text in problems_of(defined(definition))]
    circles = [
        [name.strip("'") for name in match[1].split(" → ")] for match in found if match
    ]
    assert bool(circles) == bool(in_circles)
    for circle in circles:
        assert circle[0] == circle[-1]
        assert set(pairwise(circle)) <= set(arrows)


@examples(150)
@given(definitions())
def test_compile_finds_nothing_else(definition):
    others = ("leads to", "cannot be reached", "run in a circle")
    rest = [
        text
        for text in problems_of(defined(definition))
        if not any(other in text for other in others)
    ]
    assert len(rest) == (definition["start"] not in definition["steps"])


@examples(50)
@given(definitions())
def test_compile_lets_circles_be_where_max_steps_bounds_a_run(definition):
    without = problems_of(defined(definition, max_steps=9))
    assert list(without) == [
        text for text in problems_of(defined(definition)) if "circle" not in text
    ]
