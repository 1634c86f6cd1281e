"""Graphs: as a transcript has them, to look at and to draw, but not to run.

An action is written field by field, whatever kind it is of. Of a function there is the
name alone, and of what its author fixed (constants, ``params``) nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime
from math import inf
from numbers import Real
from typing import Any, NoReturn, cast

from stepfunction.core.definition.actions import Action, Callee
from stepfunction.core.definition.branch import Arrow, Branch
from stepfunction.core.definition.callables import name_of
from stepfunction.core.definition.calls import Call
from stepfunction.core.definition.graph import Graph, Step
from stepfunction.core.envelope.omitted import Omitted
from stepfunction.core.errors import StepFunctionError, TranscriptError
from stepfunction.core.transcript.parts import NUMBER, Part, data_of
from stepfunction.core.transcript.values import ValueWriter

# Those that are written field by field.
_KINDS: Mapping[str, Any] = {
    it.kind: it for it in Action.__subclasses__() if it is not Callee
}
_UNTOLD = "result"  # a constant is seen in its output
_ARROWS = ("next", "branch", "failure")


class GraphWriter:
    """Writes graphs into a table, each once.

    Args:
        values: What knows the texts that are not to be told.

    Attributes:
        table: The table.
    """

    def __init__(self, values: ValueWriter) -> None:
        self.table: list[dict[str, Any]] = []
        self._values = values
        self._numbers: dict[int, int] = {}  # of graphs, by id

    def number(self, graph: Graph) -> int:
        """Give a graph's place in the table, behind those that are nested in it."""
        if id(graph) not in self._numbers:
            for it in (*graph.all_nested(), graph):
                if id(it) not in self._numbers:
                    self._write(it)
        return self._numbers[id(graph)]

    def _write(self, graph: Graph) -> None:
        written = {
            "name": graph.name,
            "start": graph.start,
            "max_steps": graph.max_steps,
            "failure_steps": sorted(graph.failure_steps),
            "keep_history": graph.keep_history,
            "steps": [self._step(step) for step in graph.table.values()],
            **_said(graph.description),
        }
        self._numbers[id(graph)] = len(self.table)
        self.table.append(written)

    def _step(self, step: Step) -> dict[str, Any]:
        undo = {task: call.name for task, call in step.compensations()}
        action = self._action(step.action)
        if step.action.always_fails:  # what its error is to hide is hidden here too
            action |= self._seen(action["error"], action["cause"], step.name)
        return {
            "name": step.name,
            "action": action,
            "arrows": [
                {"kind": it.kind, "label": it.label, "target": it.target}
                for it in step.arrows()
            ],
            "branches": step.branch is not None,
            "conditions": step.branch is not None and bool(step.branch.conditions),
            "inputs": None if step.inputs is None else dict(step.inputs),
            "compensate": undo.get(None) or undo or None,
            "executor": _as_text(step.executor, lambda it: type(it).__qualname__),
            "retry": _as_text(step.retry, repr),
            "timeout": _number(step.timeout),
            "heartbeat": _number(step.heartbeat),
            "ends": step.ends,
            **_said(step.description),
        }

    def _action(self, action: Any) -> dict[str, Any]:
        if action.nested is action:
            return {"kind": action.kind, "graph": self.number(action)}
        if action.kind not in _KINDS:
            return {"kind": action.kind, "function": action.name}
        written = {"kind": action.kind}
        for name in action._fields:
            if name != _UNTOLD:
                written[name] = self._field(getattr(action, name))
        return written

    def _field(self, value: Any) -> Any:
        if isinstance(value, Action):
            return self._action(value)
        if isinstance(value, Mapping):
            return {task: self._action(it) for task, it in value.items()}
        if callable(value):
            return {"function": name_of(value)}
        return value.isoformat() if isinstance(value, datetime) else _number(value)

    def _seen(self, error: str, cause: str | None, step: str) -> dict[str, str | None]:
        said = error if cause is None else f"{error}: {cause}"
        text = str(self._values.redacted(said, (step, "error")))
        if text != said:
            error, cause = text, None
        return {"error": error, "cause": cause}


def _said(description: str | None) -> dict[str, str]:
    return {} if description is None else {"description": description}


def _number(value: Any) -> Any:
    """Give a number that JSON has; None for no limit, and anything else as it is."""
    if isinstance(value, int) or not isinstance(value, Real):
        return value
    return None if value == inf else float(value)


def _as_text(value: Any, text: Callable[[Any], str]) -> str | None:
    if value is None or isinstance(value, str):
        return value
    return value.text if isinstance(value, Omitted) else text(value)


def read_graphs(table: Iterable[Part]) -> list[Graph]:
    """Give the graphs that were written, each behind those that are nested in it.

    Raises:
        TranscriptError: If they are none.
    """
    reader = _GraphReader()
    for it in table:
        reader.graphs.append(reader.graph(it))
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

    def __reduce__(self) -> Any:
        return _ReadStep, self._values, self.__dict__

    def arrows(self) -> list[Arrow]:
        return list(self.__dict__["led"])


class _GraphReader:
    def __init__(self) -> None:
        self.graphs: list[Graph] = []

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
            frozenset(map(str, it.get("failure_steps", list))),
            it.get("max_steps", int | None),
            keep_history=keeps.value,
            has_compensations=any(step.may_be_undone for step in table.values()),
            description=it.get("description", str | None, None),
        )

    def _step(self, it: Part) -> Step:
        arrows = tuple(map(_arrow, it.each("arrows")))
        follower = [arrow.target for arrow in arrows if arrow.kind == "next"]
        retry = it.get("retry", str | None)
        inputs = it.part("inputs", dict | None, None)
        step = _ReadStep(
            it.get("name", str),
            self.action(it.part("action", dict)),
            next_step=follower[0] if follower else None,
            branch=_branch(it, arrows),
            retry=cast(Any, None if retry is None else Omitted(retry)),
            executor=cast(Any, it.get("executor", str | None)),
            timeout=it.get("timeout", NUMBER | None),
            heartbeat=it.get("heartbeat", NUMBER | None),
            ends=it.get("ends", str | None),
            inputs=None if inputs.value is None else _pairs(inputs),
            compensate=_undo(it.part("compensate", str | dict | None, None)),
            description=it.get("description", str | None, None),
        )
        step.__dict__["led"] = arrows
        return step

    def action(self, it: Part) -> Any:
        kind = it.part("kind").one_of(("call", "workflow", *_KINDS))
        if kind == "call":
            return Call(_function(it))
        if kind == "workflow":
            return it.part("graph", int).picked(self.graphs)
        fields = {
            name: self._field(it, name)
            for name in _KINDS[kind]._fields
            if name != _UNTOLD
        }
        if it.get("picks", bool, False):  # of version 1
            fields["items"] = _Unperformed(str(fields["items"]))
        problems: list[str] = []
        action = _KINDS[kind](**fields).checked(problems)
        for problem in problems:
            it.refuse(f"is not sound: {problem}")
        return action

    def _field(self, it: Part, name: str) -> Any:
        kinds, read = _FIELDS.get(name, (object, _GraphReader.named))
        # Version 1 has no share.
        return read(self, it.part(name, kinds, None if name == "share" else ...))

    def named(self, it: Part) -> Any:
        return _function(it) if isinstance(it.value, dict) else it.value

    def tasks(self, it: Part) -> dict[str, Any]:
        if not it.value:
            it.refuse("is empty")
        return {task.path[-1]: self.action(task) for task in it.parts()}

    def moment(self, it: Part) -> Any:
        try:
            if isinstance(it.value, str):
                return datetime.fromisoformat(it.value)
        except ValueError:
            it.refuse(f"cannot be {it.value!r:.60}")
        return self.named(it)

    def limit(self, it: Part) -> Any:
        return inf if it.value is None else it.value


# What a field may be, where the action itself does not check it, and what reads it.
_FIELDS: Mapping[str, tuple[Any, Callable[[_GraphReader, Part], Any]]] = {
    "call": (dict, _GraphReader.action),
    "is_constant": (bool, _GraphReader.named),
    "keep_results": (bool, _GraphReader.named),
    "max_workers": (int | None, _GraphReader.named),
    "share": (str | None, _GraphReader.named),
    "stop_on_failure": (bool, _GraphReader.named),
    "tasks": (dict, _GraphReader.tasks),
    "tolerated": (NUMBER | str | None, _GraphReader.limit),
    "until": (object, _GraphReader.moment),
}


def _function(it: Part) -> _Unperformed:
    return _Unperformed(it.get("function", str))


def _arrow(it: Part) -> Arrow:
    kind: Any = it.part("kind").one_of(_ARROWS)
    return Arrow(kind, it.get("label", str), it.get("target", str))


def _branch(it: Part, arrows: tuple[Arrow, ...]) -> Branch | None:
    if not it.get("branches", bool):
        return None
    if not it.get("conditions", bool, False):
        return Branch(chooser=_Unperformed("a branch"))
    led_to = [arrow for arrow in arrows if arrow.kind == "branch"]
    return Branch(
        conditions=tuple((_Unperformed(it.label), it.target) for it in led_to)
    )


def _undo(it: Part) -> Any:
    if isinstance(it.value, dict):
        return tuple((task, Call(_Unperformed(name))) for task, name in _pairs(it))
    return None if it.value is None else Call(_Unperformed(it.value))


def _pairs(it: Part) -> tuple[tuple[str, str], ...]:
    return tuple((name, it.get(name, str)) for name in it.value)


def text_of_graph(graph: Graph) -> tuple[str, str]:
    """Give a graph as a text that ``read_graph`` reads, and the digest of that."""
    if graph.written is None:
        from hashlib import blake2b
        from json import dumps

        writer = GraphWriter(ValueWriter())
        writer.number(graph)
        text = dumps(writer.table, separators=(",", ":"))
        digest = blake2b(text.encode(), digest_size=16).hexdigest()
        graph.written = (text, digest)
    return graph.written


def read_graph(text: str) -> Graph:
    """Give the graph that a text is of, with all that is nested in it.

    Raises:
        TranscriptError: If it is of none.
    """
    table = data_of(text, "the graph")
    if not isinstance(table, list) or not table:
        raise TranscriptError("the graph is no list of graphs")
    return read_graphs(Part(table).parts())[-1]


def differences(text: str, graph: Graph) -> tuple[str, ...]:
    """Say in what the shape of a graph differs from one that was written.

    That is in its names, kinds, arrows, tasks, nested workflows and named inputs.
    Functions, retries, limits and executors may be others.

    Args:
        text: What was written.
        graph: The graph as it is now.
    """
    now = data_of(text_of_graph(graph)[0], "the graph")
    return tuple(_differences(data_of(text, "the graph"), now))


def _differences(old: Any, new: Any) -> Iterator[str]:
    waiting = [(-1, -1, "")]
    seen = {(-1, -1)}  # for a workflow may be nested in many places
    while waiting:
        at, now, where = waiting.pop()
        yield from _graph_differences(old[at], new[now], where)
        for step, other in _common_steps(old[at], new[now]):
            yield from _step_differences(step, other, where)
            for inside, before, after in _callees(step, other, where):
                if before["kind"] == after["kind"] == "workflow":
                    pair = before["graph"], after["graph"]
                    if pair not in seen:
                        seen.add(pair)
                        waiting.append((*pair, f"{inside}: "))


def _graph_differences(was: Any, now: Any, where: str) -> Iterator[str]:
    if was["name"] != now["name"]:
        yield f"{where}the workflow was {was['name']!r} and is {now['name']!r}"
    if was["start"] != now["start"]:
        starts = f"{was['start']!r} and begins with {now['start']!r}"
        yield f"{where}it began with {starts}"
    before = [step["name"] for step in was["steps"]]
    after = [step["name"] for step in now["steps"]]
    yield from (f"{where}step {it!r} is gone" for it in before if it not in after)
    yield from (f"{where}step {it!r} is new" for it in after if it not in before)


def _common_steps(was: Any, now: Any) -> Iterator[tuple[Any, Any]]:
    after = {step["name"]: step for step in now["steps"]}
    for step in was["steps"]:
        if step["name"] in after:
            yield step, after[step["name"]]


def _step_differences(was: Any, now: Any, where: str) -> Iterator[str]:
    name = f"{where}step {was['name']!r}"
    action, other = was["action"], now["action"]
    if action["kind"] != other["kind"]:
        yield f"{name} was a {action['kind']} step and is a {other['kind']} step"
        return
    pairs_of = (("arrows", "arrows"), ("inputs", "named inputs"), ("ends", "end"))
    for key, what in pairs_of:
        if was[key] != now[key]:
            yield f"{name} has other {what}: {_told(was[key])}, now {_told(now[key])}"
    if action["kind"] == "parallel":
        tasks, others = action["tasks"], other["tasks"]
        if list(tasks) != list(others):
            yield f"{name} has other tasks: {list(tasks)}, now {list(others)}"
    for inside, before, after in _callees(was, now, where):
        if before["kind"] != after["kind"]:
            yield f"{inside} called a {before['kind']} and calls a {after['kind']}"


def _callees(was: Any, now: Any, where: str) -> Iterator[tuple[str, Any, Any]]:
    """Give what a step called and calls, by where it stands."""
    name = f"{where}step {was['name']!r}"
    action, other = was["action"], now["action"]
    if action["kind"] != other["kind"]:
        return
    if action["kind"] != "parallel":
        yield name, action.get("call", action), other.get("call", other)
        return
    for task, before in action["tasks"].items():
        if task in other["tasks"]:
            yield f"{name}, task {task!r}", before, other["tasks"][task]


def _told(value: Any) -> str:
    if isinstance(value, list):
        arrows = (f"{it['kind']} {it['label']!r} to {it['target']!r}" for it in value)
        return "; ".join(arrows) or "none"
    return "none" if value is None else repr(value)
