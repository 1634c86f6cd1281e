"""Ways: how the steps and tasks of a workflow, and of those nested in it, are named.

``"Pay"`` is a step, ``"Update.payment"`` a task of a parallel step, and
``"Payment/Charge"`` a step of the workflow that the step ``Payment`` runs. What undoes
a step or task is ``"Pay.compensate"``. Names may themselves hold a dot or a slash; a
tuple of them is never ambiguous.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple, TypeAlias

from stepfunction.core.definition.actions import Action
from stepfunction.core.definition.graph import Step
from stepfunction.core.step_function import StepFunction
from stepfunction.core.wording import did_you_mean

Key: TypeAlias = str | tuple[str, ...]
Way: TypeAlias = tuple[str, ...]


# The last name of the way to what undoes a step or task.
COMPENSATE = ".compensate"


class Spot(NamedTuple):
    """A step or task, or what undoes it, and where it is.

    Attributes:
        way: The names that lead to it.
        text: How it is written as one text.
        step: The step; of a task the one that it belongs to.
        action: What it does.
    """

    way: Way
    text: str
    step: Step
    action: Action

    @property
    def what(self) -> str:
        """What messages call it."""
        if self.undoes:
            return f"compensation {self.text!r}"
        kind = "step" if self.action is self.step.action else "task"
        return f"{kind} {self.text!r}"

    @property
    def undoes(self) -> bool:
        """Whether it is a compensation."""
        return self.way[-1] == COMPENSATE


def spots(workflow: StepFunction, keys: Iterable[Any] = ()) -> Iterator[Spot]:
    """Give the steps and tasks of a workflow, and of those nested in it.

    Of many nested workflows not all are gone through, but those that keys lead to: a
    small workflow that is nested twice in one that is nested twice, and so on, has
    more steps than can be counted.
    """
    texts = [key for key in keys if isinstance(key, str)]
    ways = [key for key in keys if isinstance(key, tuple)]
    count = 0
    waiting = [iter(_spots_of(workflow, None))]
    while waiting:
        found = next(waiting[-1], None)
        if found is None:
            waiting.pop()
            continue
        spot, nested = found
        if nested is None:
            count += 1
            yield spot
        elif (count < _MOST_SPOTS and len(waiting) < _DEEPEST) or (
            any(text.startswith(f"{spot.text}/") for text in texts)
            or any(way[: len(spot.way)] == spot.way for way in ways)
        ):
            waiting.append(iter(_spots_of(nested, spot)))


_MOST_SPOTS, _DEEPEST = 10_000, 100


def _spots_of(
    workflow: StepFunction, around: Spot | None
) -> Iterator[tuple[Spot, StepFunction | None]]:
    """Give the steps and tasks of a workflow, and with those again what they run."""
    before = () if around is None else around.way
    said = "" if around is None else f"{around.text}/"
    for step in workflow.steps.values():
        whole = Spot((*before, step.name), said + step.name, step, step.action)
        yield whole, None
        for task, undo in step.compensations():
            way, text = _place(step.name, task)
            way = (*before, *way, COMPENSATE)
            yield Spot(way, said + text + COMPENSATE, step, undo), None
        for task, callee in step.action.callees():
            spot = whole
            if task is not None:
                way, text = _place(step.name, task)
                spot = Spot((*before, *way), said + text, step, callee)
                yield spot, None
            if callee.nested is not None:
                yield spot, callee.nested


def _place(step: str, task: str | None) -> tuple[Way, str]:
    """Give the way to a step or task, and how it is written as one text."""
    return ((step,), step) if task is None else ((step, task), f"{step}.{task}")


def find_spots(
    workflow: StepFunction, keys: Iterable[Any], problems: list[str]
) -> dict[Any, Spot]:
    """Give what keys stand for, and say what is wrong with the others."""
    by_way: dict[Way, Spot] = {}
    by_text: dict[str, list[Spot]] = {}
    keys = list(keys)
    for spot in spots(workflow, keys):
        by_way[spot.way] = spot
        by_text.setdefault(spot.text, []).append(spot)
    found: dict[Any, Spot] = {}
    for key in keys:
        if isinstance(key, tuple):
            meant = [by_way[key]] if key in by_way else []
        else:
            meant = by_text.get(key, []) if isinstance(key, str) else []
        if len(meant) == 1:
            found[key] = meant[0]
        elif meant:
            ways = " or ".join(repr(spot.way) for spot in meant)
            problems.append(f"{key!r} may be several; say which with {ways}")
        else:
            problems.append(_unknown(key, by_way, by_text))
    problems += _overlaps(found)
    return found


def _unknown(
    key: Any, by_way: Mapping[Way, Spot], by_text: Mapping[str, list[Spot]]
) -> str:
    if isinstance(key, tuple) and all(isinstance(name, str) for name in key):
        lengths = range(len(key), 0, -1)
        spot = next((by_way[key[:n]] for n in lengths if key[:n] in by_way), None)
        text, rest = "/".join(key), key[len(spot.way) :] if spot else ()
    elif isinstance(key, str):
        ends = [n for n, sign in enumerate(key) if sign in "./" and key[:n] in by_text]
        spot = by_text[key[: ends[-1]]][0] if ends else None
        text, rest = key, (key[ends[-1] + 1 :],) if ends else ()
    else:
        return f"{key!r} is no name of a step"
    hint = did_you_mean(text, by_text)
    if spot is None or not rest:
        return f"{key!r} is no step{hint}"
    if rest[0] in (COMPENSATE, COMPENSATE[1:]):
        return f"{spot.what} has no compensate=, so nothing undoes it{hint}"
    tasks, nested = spot.action.tasks, spot.action.nested
    known: Iterable[str] = tasks if nested is None else nested.steps
    if rest[0] in known:  # it is there, and is written with another sign
        return f"{key!r} is no step{hint}"
    hint = did_you_mean(rest[0], known)
    if tasks:
        return f"{spot.what} has no task {rest[0]!r}{hint}"
    if nested is not None:
        return f"{spot.what} runs {nested.name!r}, which has no step {rest[0]!r}{hint}"
    return (
        f"{key!r}: {spot.what} is not parallel and runs no workflow, so there is "
        f"nothing in it; give {spot.text!r} itself"
    )


def _overlaps(found: Mapping[Any, Spot]) -> Iterator[str]:
    by_way: dict[Way, Any] = {}
    for key, spot in found.items():
        if spot.way in by_way:
            yield f"{key!r} and {by_way[spot.way]!r} are the same {spot.what}"
        by_way[spot.way] = key
    for key, spot in found.items():
        for length in range(1, len(spot.way)):
            outer = by_way.get(spot.way[:length])
            if outer is not None and not spot.undoes:
                yield f"{key!r} is a part of {outer!r}; give one or the other"
