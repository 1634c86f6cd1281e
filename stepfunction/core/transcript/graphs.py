"""Outline: graphs as a transcript has them, to look at and to draw, but not to run."""

from __future__ import annotations

from collections.abc import Callable, Iterable
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
from stepfunction.core.errors import StepFunctionError
from stepfunction.core.transcript.parts import NUMBER, Part
from stepfunction.core.transcript.values import ValueWriter

_KINDS = ("next", "branch", "failure")


class GraphWriter:
    """Writes graphs into a table, each once.

    Args:
        values: What writes values, and redacts texts.

    Attributes:
        table: The table.
    """

    def __init__(self, values: ValueWriter) -> None:
        self.table: list[dict[str, Any]] = []
        self._values = values
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
        number = self._numbers[id(graph)] = len(self.table)
        self.table.append(written)
        return number

    def _step(self, step: Step) -> dict[str, Any]:
        return {
            "name": step.name,
            "action": self._action(step.action, step.name),
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

    def _action(self, action: Any, name: str = "") -> dict[str, Any]:
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
            return self._fail(action, name)
        return {"kind": "call", "function": action.name}

    def _fail(self, action: Fail, step: str) -> dict[str, Any]:
        """Write a fail step, of which nothing is told that its error has hidden."""
        error, cause = action.error, action.cause
        said = error if cause is None else f"{error}: {cause}"
        text = str(self._values.redacted(said, (step, "error")))
        if text != said:
            error, cause = text, None
        return {"kind": "fail", "error": error, "cause": cause}


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


def read_graphs(table: Iterable[Part]) -> list[Graph]:
    """Give the graphs that were written, each behind those that are nested in it.

    Raises:
        TranscriptError: If they are none.
    """
    graphs: list[Graph] = []
    for it in table:
        graphs.append(_GraphReader(graphs).graph(it))
    return graphs


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

    def __reduce__(self) -> Any:
        return _ReadStep, self._values, self.__dict__

    def arrows(self) -> list[Arrow]:
        return list(self.__dict__["led"])


class _GraphReader:
    def __init__(self, graphs: list[Graph]) -> None:
        self._graphs = graphs  # that may be nested in it

    def graph(self, it: Part) -> Graph:
        table = {step.name: step for step in map(self._step, it.each("steps"))}
        for step in table.values():
            named = [arrow.target for arrow in step.arrows()]
            for name in [*named, *(origin for _, origin in step.inputs or ())]:
                if name not in table:
                    it.refuse(f"has an arrow to {name!r}, which is no step of it")
        start = it.get("start", str)
        if start not in table:
            it.part("start").refuse("is no step of it")
        keeps = it.part("keep_history", int | None, None)
        if keeps.value is not None and keeps.value < 1:
            keeps.refuse("is no count of steps")
        return Graph(
            it.get("name", str),
            start,
            table,
            (start, {}, 0),  # nothing here can be run
            frozenset(map(str, it.get("failure_steps", list))),
            it.get("max_steps", int | None),
            keep_history=keeps.value,
        )

    def _step(self, it: Part) -> Step:
        arrows = tuple(map(_arrow, it.each("arrows")))
        follower = [arrow.target for arrow in arrows if arrow.kind == "next"]
        retry = it.get("retry", str | None)
        ends = it.get("ends", str | None)
        inputs = it.part("inputs", dict | None, None)
        step = _ReadStep(
            it.get("name", str),
            self._action(it.part("action", dict)),
            next_step=follower[0] if follower else None,
            branch=_branch(it, arrows),
            retry=cast(Any, None if retry is None else Omitted(retry)),
            executor=cast(Any, it.get("executor", str | None)),
            timeout=it.get("timeout", NUMBER | None),
            heartbeat=it.get("heartbeat", NUMBER | None),
            ends=cast(Literal["completed", "failed"] | None, ends),
            inputs=None if inputs.value is None else _pairs(inputs),
            compensate=_read_undo(it.part("compensate", str | dict | None, None)),
        )
        step.__dict__["led"] = arrows
        return step

    def _action(self, it: Part) -> Any:
        kind = it.part("kind").one_of((*_ACTIONS, "map", "parallel", "workflow"))
        if kind in _ACTIONS:
            return _ACTIONS[kind](it)
        if kind == "workflow":
            return it.part("graph", int).picked(self._graphs)
        if kind == "map":
            return self._map(it)
        tolerated = it.get("tolerated", NUMBER | None)
        tasks = it.part("tasks", dict)
        if not tasks.value:
            tasks.refuse("is empty")
        return FanOut(
            {task.path[-1]: self._action(task) for task in tasks.parts()},
            it.get("stop_on_failure", bool),
            inf if tolerated is None else tolerated,
            it.get("max_workers", int | None),
        )

    def _map(self, it: Part) -> MapItems:
        items: Any = it.get("items", str | int | None)
        tolerated = it.get("tolerated", NUMBER | str | None)
        if it.get("picks", bool):
            items = _Unperformed(str(items))
        return MapItems(
            self._action(it.part("call", dict)),
            items,
            it.get("batch_size", int),
            it.get("stop_on_failure", bool),
            inf if tolerated is None else tolerated,
            it.get("max_workers", int | None),
            it.get("keep_results", bool),
        )


def _arrow(it: Part) -> Arrow:
    kind: Any = it.part("kind").one_of(_KINDS)
    return Arrow(kind, it.get("label", str), it.get("target", str))


def _read_call(it: Part) -> Call:
    return Call(_Unperformed(it.get("function", str)))


def _read_wait(it: Part) -> Wait:
    seconds = it.part("seconds", NUMBER | dict | None)
    until = it.part("until", str | dict | None)
    if (seconds.value is None) is (until.value is None):
        it.refuse("has not one of its two times")
    if until.value is None:
        if not isinstance(seconds.value, dict) and seconds_problem(seconds.value):
            seconds.refuse(f"cannot be {seconds.value!r}")
        return Wait(_named(seconds), None)
    if isinstance(until.value, dict):
        return Wait(None, _named(until))
    return Wait(None, _moment(until))


def _named(it: Part) -> Any:
    """Give what stands for a callable, which is an object that has its name."""
    if not isinstance(it.value, dict):
        return it.value
    return _Unperformed(it.get("function", str))


def _moment(it: Part) -> datetime:
    try:
        moment = datetime.fromisoformat(it.value)
    except ValueError:
        it.refuse(f"cannot be {it.value!r:.60}")
    if until_problem(moment):
        it.refuse("has no time zone")
    return moment


def _read_pass(it: Part) -> Pass:
    return Pass(it.get("is_constant", bool), Omitted("the constant"))


def _read_fail(it: Part) -> Fail:
    return Fail(it.get("error", str), it.get("cause", str | None))


_ACTIONS: dict[str, Callable[[Part], Any]] = {
    "call": _read_call,
    "wait": _read_wait,
    "pass": _read_pass,
    "fail": _read_fail,
}


def _branch(it: Part, arrows: tuple[Arrow, ...]) -> Branch | None:
    if not it.get("branches", bool):
        return None
    if not it.get("conditions", bool, False):
        return Branch(chooser=_Unperformed("a branch"))
    led_to = [arrow for arrow in arrows if arrow.kind == "branch"]
    return Branch(
        conditions=tuple((_Unperformed(it.label), it.target) for it in led_to)
    )


def _read_undo(it: Part) -> Any:
    if isinstance(it.value, dict):
        return tuple((task, Call(_Unperformed(name))) for task, name in _pairs(it))
    return None if it.value is None else Call(_Unperformed(it.value))


def _pairs(it: Part) -> tuple[tuple[str, str], ...]:
    return tuple((name, it.get(name, str)) for name in it.value)
