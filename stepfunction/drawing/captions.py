"""Captions: what a picture says of a step besides its name.

Only what the workflow's author named is said, and never a value: a picture stands in
reports whose values somebody has redacted.
"""

from __future__ import annotations

from datetime import datetime

from stepfunction.core.definition.actions import Fail, MapItems, Pass, Wait
from stepfunction.core.definition.callables import name_of
from stepfunction.core.definition.calls import Call
from stepfunction.core.definition.graph import Step
from stepfunction.core.wording import duration_text
from stepfunction.drawing.signs import shortened


def captions(step: Step) -> list[str]:
    """Give what is special about a step's action, and what undoes it."""
    action, lines = step.action, list[str]()
    if isinstance(action, MapItems):
        lines.append("for each item")
    elif isinstance(action, Wait):
        lines.append(_wait_text(action))
    elif isinstance(action, Pass) and action.is_constant:
        lines.append("a constant")
    elif isinstance(action, Fail):
        lines.append(f"fails: {shortened(action.error)}")
    return lines + task_captions(step, None)


def task_captions(step: Step, task: str | None) -> list[str]:
    """Give what undoes a task of a parallel step; without a task, the step."""
    return [_undo_text(undo) for name, undo in step.compensations() if name == task]


def inputs_of(step: Step) -> dict[str, str]:
    """Give the steps whose outputs a step is given, and as which parameters."""
    found: dict[str, list[str]] = {}
    for parameter, origin in step.inputs or ():
        found.setdefault(origin, []).append(parameter)
    return {origin: ", ".join(parameters) for origin, parameters in found.items()}


def is_choice(step: Step) -> bool:
    """Tell a pass step that is there to branch, as AWS Step Functions' Choice."""
    return isinstance(step.action, Pass) and step.branch is not None


def _wait_text(action: Wait) -> str:
    if action.until is None:
        if not callable(action.seconds):
            return f"wait {duration_text(action.seconds or 0)}"
        return f"wait as {_sayer(action.seconds)} says"
    if isinstance(action.until, datetime):
        moment = action.until.isoformat(" ", "seconds").removesuffix("+00:00")
        moment = moment.removesuffix(":00") if not action.until.utcoffset() else moment
        zone = "" if action.until.utcoffset() else " UTC"
        return f"until {moment}{zone}"
    return f"until when {_sayer(action.until)} says"


def _sayer(function: object) -> str:
    name = name_of(function)
    return "its input" if name.endswith("<lambda>") else shortened(name)


def _undo_text(undo: Call) -> str:
    name = undo.name
    return "can be undone" if name.endswith("<lambda>") else f"undo: {shortened(name)}"
