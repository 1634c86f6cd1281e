"""Outline: graphs as a transcript has them, to look at and to draw, but not to run."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from math import inf, isfinite
from typing import Any, Literal, NoReturn, cast

from stepfunction.core.definition.actions import (
    Fail,
    FanOut,
    MapItems,
    Pass,
    Wait,
    seconds_problem,
    until_problem,
)
from stepfunction.core.definition.branch import Arrow, Branch
from stepfunction.core.definition.callables import name_of
from stepfunction.core.definition.calls import Call
from stepfunction.core.definition.graph import Graph, Step
from stepfunction.core.envelope.omitted import Omitted
from stepfunction.core.errors import StepFunctionError, TranscriptError
from stepfunction.core.transcript.parts import NUMBER, one_of, part, parts, pick

_KINDS = ("next", "branch", "failure")


class GraphWriter:
    """Writes graphs into a table, each once.

    Attributes:
        graphs: The table.
    """

    def __init__(self) -> None:
        self.graphs: list[dict[str, Any]] = []
        self._numbers: dict[int, int] = {}  # of graphs, by id

    def number(self, graph: Graph) -> int:
        """Give a graph's place in the table, behind those that are nested in it."""
        number = self._numbers.get(id(graph))
        if number is not None:
            return number
        written = {
            "name": graph.name,
            "start": graph.start,
            "max_steps": graph.max_steps,
            "failure_steps": sorted(graph.failure_steps),
            "keep_history": graph.keep_history,
            "steps": [self._step(step) for step in graph.table.values()],
        }
        number = self._numbers[id(graph)] = len(self.graphs)
        self.graphs.append(written)
        return number

    def _step(self, step: Step) -> dict[str, Any]:
        return {
            "name": step.name,
            "action": self._action(step.action),
            "arrows": [arrow._asdict() for arrow in step.arrows()],
            "branches": step.branch is not None,
            "conditions": step.branch is not None and bool(step.branch.conditions),
            "inputs": None if step.inputs is None else dict(step.inputs),
            "compensate": _written_undo(step),
            "executor": _as_text(step.executor, lambda it: type(it).__qualname__),
            "retry": _as_text(step.retry, repr),
            "timeout": step.timeout,
            "heartbeat": step.heartbeat,
            "ends": step.ends,
        }

    def _action(self, action: Any) -> dict[str, Any]:
        if isinstance(action, Graph):
            return {"kind": "workflow", "graph": self.number(action)}
        if isinstance(action, FanOut):
            return {
                "kind": "parallel",
                "tasks": {
                    name: self._action(task) for name, task in action.tasks.items()
                },
                "stop_on_failure": action.stop_on_failure,
                "tolerated": action.tolerated if isfinite(action.tolerated) else None,
                "max_workers": action.max_workers,
            }
        if isinstance(action, MapItems):
            return {
                "kind": "map",
                "call": self._action(action.call),
                "items": name_of(action.items) if callable(action.items) else (
                    action.items
                ),
                "picks": callable(action.items),
                "batch_size": action.batch_size,
                "stop_on_failure": action.stop_on_failure,
                "tolerated": None if action.tolerated == inf else action.tolerated,
                "max_workers": action.max_workers,
                "keep_results": action.keep_results,
            }
        if isinstance(action, Wait):
            return _wait(action)
        if isinstance(action, Pass):  # its constant is seen in its output
            return {"kind": "pass", "is_constant": action.is_constant}
        if isinstance(action, Fail):
            return {"kind": "fail", "error": action.error, "cause": action.cause}
        return {"kind": "call", "function": action.name}


def _wait(action: Wait) -> dict[str, Any]:
    seconds, until = action.seconds, action.until
    written: dict[str, Any] = {"kind": "wait", "seconds": None, "until": None}
    if callable(seconds):
        return {**written, "seconds": {"function": name_of(seconds)}}
    if callable(until):
        return {**written, "until": {"function": name_of(until)}}
    return {**written, "seconds": seconds, "until": until and until.isoformat()}


def _written_undo(step: Step) -> str | dict[str, str] | None:
    if step.compensate is None:
        return None
    by_task = {task: undo.name for task, undo in step.compensations()}
    return by_task.get(None) or cast(dict[str, str], by_task)


def _as_text(value: Any, text: Callable[[Any], str]) -> str | None:
    if value is None or isinstance(value, str):
        return value
    return value.text if isinstance(value, Omitted) else text(value)


def read_graphs(written: list[Any]) -> list[Graph]:
    """Give the graphs that were written, each behind those that are nested in it.

    Raises:
        TranscriptError: If they are none.
    """
    reader = _GraphReader()
    for index, it in enumerate(written):
        reader.graphs.append(reader.graph(it, f"graphs[{index}]"))
    return reader.graphs


class _Unperformed:
    """Stands for a function of which nothing but the name was written."""

    def __init__(self, name: str) -> None:
        self.__qualname__ = name

    def __repr__(self) -> str:
        return f"<{self.__qualname__}, of which a transcript has the name alone>"

    def __call__(self, *args: Any, **keywords: Any) -> NoReturn:
        raise StepFunctionError(
            f"{self.__qualname__} cannot be called: it was read from a transcript, "
            "which has no more of it than the name"
        )


class _ReadStep(Step):
    """A step that was read: it keeps its arrows, and not what they ask for."""

    _arrows: tuple[Arrow, ...] = ()

    def arrows(self) -> list[Arrow]:
        return list(self._arrows)


class _GraphReader:
    def __init__(self) -> None:
        self.graphs: list[Graph] = []

    def graph(self, written: Any, at: str) -> Graph:
        start = part(written, at, "start", str)
        steps = [self._step(it, place) for place, it in parts(written, at, "steps")]
        table = {step.name: step for step in steps}
        for step in steps:
            named = [arrow.target for arrow in step.arrows()]
            for name in [*named, *(origin for _, origin in step.inputs or ())]:
                if name not in table:
                    raise TranscriptError(
                        f"{at} of the transcript has an arrow to {name!r}, "
                        "which is no step of it"
                    )
        if start not in table:
            raise TranscriptError(f"{at}.start of the transcript is no step of it")
        return Graph(
            part(written, at, "name", str),
            start,
            table,
            (start, {}, 0),  # nothing here can be run
            frozenset(map(str, part(written, at, "failure_steps", list))),
            part(written, at, "max_steps", int | None),
            keep_history=part(written, at, "keep_history", int | None, None),
        )

    def _step(self, written: Any, at: str) -> Step:
        arrows = tuple(
            Arrow(
                cast(Any, one_of(part(it, place, "kind", str), _KINDS, place)),
                part(it, place, "label", str),
                part(it, place, "target", str),
            )
            for place, it in parts(written, at, "arrows")
        )
        follower = [arrow.target for arrow in arrows if arrow.kind == "next"]
        inputs = part(written, at, "inputs", dict | None, None)
        retry = part(written, at, "retry", str | None)
        ends = part(written, at, "ends", str | None)
        step = _ReadStep(
            part(written, at, "name", str),
            self._action(part(written, at, "action", dict), f"{at}.action"),
            next_step=follower[0] if follower else None,
            branch=_branch(written, at, arrows),
            retry=cast(Any, None if retry is None else Omitted(retry)),
            executor=cast(Any, part(written, at, "executor", str | None)),
            timeout=part(written, at, "timeout", NUMBER | None),
            heartbeat=part(written, at, "heartbeat", NUMBER | None),
            ends=cast(Literal["completed", "failed"] | None, ends),
            inputs=None if inputs is None else _pairs(inputs, f"{at}.inputs"),
            compensate=_read_undo(written, at),
        )
        step._arrows = arrows
        return step

    def _action(self, written: Any, at: str) -> Any:
        kind = part(written, at, "kind", str)
        one_of(kind, (*_ACTIONS, "map", "parallel", "workflow"), f"{at}.kind")
        if kind in _ACTIONS:
            return _ACTIONS[kind](written, at)
        if kind == "workflow":
            return pick(self.graphs, part(written, at, "graph", int), at, "graph")
        if kind == "map":
            return self._map(written, at)
        tolerated = part(written, at, "tolerated", NUMBER | None)
        tasks = part(written, at, "tasks", dict)
        if not tasks:
            raise TranscriptError(f"{at}.tasks of the transcript is empty")
        return FanOut(
            {
                name: self._action(task, f"{at}.tasks.{name}")
                for name, task in tasks.items()
            },
            part(written, at, "stop_on_failure", bool),
            inf if tolerated is None else tolerated,
            part(written, at, "max_workers", int | None),
        )

    def _map(self, written: Any, at: str) -> MapItems:
        items = part(written, at, "items", str | int | None)
        tolerated = part(written, at, "tolerated", NUMBER | str | None)
        if part(written, at, "picks", bool):
            items = _Unperformed(str(items))
        return MapItems(
            self._action(part(written, at, "call", dict), f"{at}.call"),
            items,
            part(written, at, "batch_size", int),
            part(written, at, "stop_on_failure", bool),
            inf if tolerated is None else tolerated,
            part(written, at, "max_workers", int | None),
            part(written, at, "keep_results", bool),
        )


def _read_call(written: Any, at: str) -> Call:
    return Call(_Unperformed(part(written, at, "function", str)))


def _read_wait(written: Any, at: str) -> Wait:
    seconds = part(written, at, "seconds", NUMBER | dict | None)
    until: Any = part(written, at, "until", str | dict | None)
    if isinstance(seconds, dict):
        seconds = _Unperformed(part(seconds, f"{at}.seconds", "function", str))
    elif seconds is not None and seconds_problem(seconds):
        raise TranscriptError(f"{at}.seconds of the transcript cannot be {seconds!r}")
    if isinstance(until, dict):
        until = _Unperformed(part(until, f"{at}.until", "function", str))
    elif until is not None:
        until = _moment(until, f"{at}.until")
    if (seconds is None) is (until is None):
        raise TranscriptError(f"{at} of the transcript has not one of its two times")
    return Wait(seconds, until)


def _moment(text: str, at: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        problem = f"{at} of the transcript cannot be {text!r:.60}"
        raise TranscriptError(problem) from None
    if until_problem(moment):
        raise TranscriptError(f"{at} of the transcript has no time zone")
    return moment


def _read_pass(written: Any, at: str) -> Pass:
    return Pass(part(written, at, "is_constant", bool), Omitted("the constant"))


def _read_fail(written: Any, at: str) -> Fail:
    return Fail(part(written, at, "error", str), part(written, at, "cause", str | None))


_ACTIONS: dict[str, Callable[[Any, str], Any]] = {
    "call": _read_call,
    "wait": _read_wait,
    "pass": _read_pass,
    "fail": _read_fail,
}


def _branch(written: Any, at: str, arrows: tuple[Arrow, ...]) -> Branch | None:
    if not part(written, at, "branches", bool):
        return None
    if not part(written, at, "conditions", bool, False):
        return Branch(chooser=_Unperformed("a branch"))
    led_to = [arrow for arrow in arrows if arrow.kind == "branch"]
    return Branch(
        conditions=tuple((_Unperformed(it.label), it.target) for it in led_to)
    )


def _read_undo(written: Any, at: str) -> Any:
    undo = part(written, at, "compensate", str | dict | None, None)
    if isinstance(undo, dict):
        pairs = _pairs(undo, f"{at}.compensate")
        return tuple((task, Call(_Unperformed(name))) for task, name in pairs)
    return None if undo is None else Call(_Unperformed(undo))


def _pairs(written: dict[str, Any], at: str) -> tuple[tuple[str, str], ...]:
    return tuple((key, part(written, at, key, str)) for key in written)
