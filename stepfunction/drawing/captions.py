"""Captions: what a picture says of a step besides its name, by what kind it is.

Only what the workflow's author named is said, and never a value: a picture stands in
reports whose values somebody has redacted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any

from stepfunction.core.definition.callables import name_of
from stepfunction.core.definition.calls import Call
from stepfunction.core.definition.graph import Step
from stepfunction.core.wording import duration_text
from stepfunction.core.workers.executors import is_object
from stepfunction.drawing.signs import shortened


def captions(step: Step) -> list[str]:
    """Give what is special about a step's action, and what undoes it."""
    say = _SAYINGS.get(step.action.kind)
    lines = [] if say is None else say(step.action)
    if step.compensate is not None:
        lines += task_captions(step, None)
    return lines


def task_captions(step: Step, task: str | None) -> list[str]:
    """Give what undoes a task of a parallel step; for None, a step as a whole."""
    return [_undo_text(undo) for name, undo in step.compensations() if name == task]


def inputs_of(step: Step) -> dict[str, str]:
    """Give the steps whose outputs a step is given, and as which parameters."""
    found: dict[str, list[str]] = {}
    for parameter, origin in step.inputs or ():
        found.setdefault(origin, []).append(parameter)
    return {origin: ", ".join(parameters) for origin, parameters in found.items()}


def shape_of(step: Step) -> str:
    """Give the shape of a step on the main path, as ``Box`` has it."""
    kind = step.action.kind
    if kind == "pass" and step.branch is not None:  # as AWS Step Functions' Choice
        return "choice"
    return "fail" if kind == "fail" else "step"


def conditions(step: Step) -> Iterator[str]:
    """Say where a step runs, and what its calls are held to."""
    has_tasks = step.action.has_tasks
    if is_object(step.executor):
        yield f"on {type(step.executor).__name__}"
    elif step.executor == "process":
        yield "in processes" if has_tasks else "in a process"
    elif step.executor == "thread" and not has_tasks:
        yield "in a thread"
    if step.retry is not None:
        yield "with retries"
    if step.timeout is not None:
        yield f"at most {step.timeout:g} s"


def _wait_text(action: Any) -> list[str]:
    if action.until is None:
        if not callable(action.seconds):
            return [f"wait {duration_text(action.seconds or 0)}"]
        return [f"wait as {_sayer(action.seconds)} says"]
    if isinstance(action.until, datetime):
        moment = action.until.isoformat(" ", "seconds").removesuffix("+00:00")
        moment = moment.removesuffix(":00") if not action.until.utcoffset() else moment
        zone = "" if action.until.utcoffset() else " UTC"
        return [f"until {moment}{zone}"]
    return [f"until when {_sayer(action.until)} says"]


# What is to be said of a kind of action, where there is anything.
_SAYINGS: dict[str, Callable[[Any], list[str]]] = {
    "map": lambda action: ["for each item"],
    "wait": _wait_text,
    "pass": lambda action: ["a constant"] if action.is_constant else [],
    "fail": lambda action: [f"fails: {shortened(action.error)}"],
}


def _sayer(function: object) -> str:
    name = name_of(function)
    return "its input" if name.endswith("<lambda>") else shortened(name)


def _undo_text(undo: Call) -> str:
    name = undo.name
    return "can be undone" if name.endswith("<lambda>") else f"undo: {shortened(name)}"
