"""The table of the parameters of `add_step` has them all, and says who takes which."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest

from stepfunction import StepFunction

PAGE = Path(__file__).parents[2] / "docs" / "guides" / "steps.md"
TEXT = PAGE.read_text(encoding="utf-8")
_, _, SECTION = TEXT.partition("\n## All parameters of `add_step`\n")
ROWS = [
    [cell.strip() for cell in line.strip("| ").split(" | ")]
    for line in SECTION.replace("| |", "|  |").splitlines()
    if line.startswith("| `")
]
# Those that only one of them has, which the text below the table names.
OWN = {"add_map_step": {"items", "batch_size", "keep_results"}}


def taken_by(method: str) -> set[str]:
    names = inspect.signature(getattr(StepFunction, method)).parameters
    return set(names) - {"self"}


def said(column: int, first: dict[str, str]) -> set[str]:
    """Give the parameters that a column of the table has, by their names there."""
    names = set()
    for row in ROWS:
        cells = [*row, "", "", ""]
        name = row[0].strip("`")
        if name in first:
            names.add(first[name])
        elif cells[column].startswith("✓"):
            names.add(name)
    return names


def test_the_table_has_every_parameter_of_add_step() -> None:
    assert {row[0].strip("`") for row in ROWS} == taken_by("add_step"), PAGE


@pytest.mark.parametrize(
    ("method", "column", "first"),
    [
        ("add_parallel_step", 2, {"func": "tasks"}),
        ("add_map_step", 3, {}),
        ("add_sub_step_function", 4, {"func": "sub_step_function"}),
    ],
)
def test_the_table_says_which_other_steps_take_a_parameter(
    method: str, column: int, first: dict[str, str]
) -> None:
    own = OWN.get(method, set())
    assert all(f"`{name}`" in SECTION for name in own)
    assert said(column, first) | own == taken_by(method), PAGE


def test_the_parameters_of_a_workflow_are_named_below() -> None:
    _, _, text = SECTION.partition("`StepFunction(name, …)` itself takes")
    assert taken_by("__init__") - {"name"} <= set(re.findall(r"`(\w+)`", text)), PAGE
