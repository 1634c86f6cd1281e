"""Crowds: failure steps that many steps share, and tasks too many to draw each."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from typing import NamedTuple

from stepfunction.core.definition.branch import Arrow
from stepfunction.core.definition.graph import Graph
from stepfunction.core.definition.paths import reachable
from stepfunction.core.outcomes import Outcome
from stepfunction.drawing.signs import DULL, SIGNS, UNREACHED, Note, word

_MOST_FAILURES_DRAWN = 6
_MOST_TASKS = 24  # that are drawn each by itself


def crowded_targets(leaving: Mapping[str, Sequence[Arrow]]) -> dict[str, str]:
    """Give the failure steps that too many steps share, each with the last of these.

    Arrows from all of them would push the steps aside.

    Args:
        leaving: Step name to its arrows.
    """
    origins: dict[str, list[str]] = {}
    for name, arrows in leaving.items():
        for arrow in arrows:
            if arrow.kind == "failure":
                origins.setdefault(arrow.target, []).append(name)
    return {
        target: names[-1]
        for target, names in origins.items()
        if len(names) > _MOST_FAILURES_DRAWN
    }


def general_arrows(
    graph: Graph, leaving: Mapping[str, Sequence[Arrow]], crowded: Iterable[str]
) -> dict[Arrow, str]:
    """Give the arrows that take the failures of all steps without ones of their own.

    What a workflow's ``on_failure`` becomes need not be said in every box: the box of
    the failure step says it, in the words that go with the arrow.
    """
    if not crowded:
        return {}
    failing = {
        name: [arrow for arrow in arrows if arrow.kind == "failure"]
        for name, arrows in leaving.items()
        if not graph.table[name].action.always_fails
    }
    found = {}
    for target in crowded:
        after = reachable(target, leaving)
        for arrow in dict.fromkeys(chain.from_iterable(failing.values())):
            without = [name for name in failing if arrow not in failing[name]]
            has_own = [name for name in without if failing[name]]
            if arrow.target == target and after.issuperset(
                name for name in without if not failing[name]
            ):
                steps = "any other step" if has_own else "any step"
                found[arrow] = f"on {arrow.label or 'failure'} of {steps}"
    return found


class Group(NamedTuple):
    """Tasks that one box stands for, since they are too many.

    Attributes:
        text: What it says.
        note: How the tasks ended.
        names: The names of the tasks.
    """

    text: str
    note: Note
    names: list[str]


def grouped(
    names: list[str], outcomes: Mapping[str | int, Outcome | None]
) -> tuple[list[str], list[Group]]:
    """Say which tasks to draw by themselves, and which boxes stand for the rest.

    Where tasks are many, those are drawn that did not succeed.

    Args:
        names: The names of the tasks.
        outcomes: Of those that began, how they ended; None while they run.
    """
    if len(names) <= _MOST_TASKS:
        return names, []
    found: dict[Outcome | None, list[str]] = {}
    for name in names:
        if name in outcomes:
            found.setdefault(outcomes[name], []).append(name)
    drawn: list[str] = []
    groups = []
    for outcome in sorted(found, key=_URGENCY.index):
        room = 0 if outcome in DULL else _MOST_TASKS - len(drawn)
        drawn += found[outcome][:room]
        rest = found[outcome][room:]
        if rest:
            more = "more tasks" if room else "tasks"
            note = Note(SIGNS[outcome], word(outcome))
            groups.append(Group(f"{len(rest):,} {more}", note, rest))
    rest = [name for name in names if name not in outcomes]
    if rest:
        groups.append(Group(f"{len(rest):,} tasks", Note(UNREACHED), rest))
    return drawn, groups


_URGENCY = (
    Outcome.FAILED,
    Outcome.CRASHED,
    Outcome.TIMED_OUT,
    Outcome.ABANDONED,
    None,
    Outcome.KILLED,
    Outcome.CANCELLED,
    Outcome.SKIPPED,
    Outcome.SUCCEEDED,
)
