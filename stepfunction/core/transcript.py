"""Transcript: an execution as data that JSON can hold, and back.

What is written is the journal in the open: the steps in their order, each with what
came of it, its attempts, its tasks and the execution nested in it. A step's input is
what the step before gave, a task's that of its step, so neither is said again.
Exceptions and graphs, which are met in many places, stand in tables of their own.

JSON has no more than texts, numbers, lists and objects. What else Python has is an
object with one key that begins with ``$``::

    {"$repr": text}            any other value, as its repr; cut where it is long
    {"$error": number}         an exception, by its place in the table
    {"$float": "nan"}          also "inf" and "-inf"
    {"$tuple": [value, …]}
    {"$dict": [[key, value], …]}    other keys than text, or one that begins with $
    {"$results": [dict, error]}     the results of a parallel step

Reading makes plain data of it. Nothing that the text names is imported or called:
exceptions come back as ``RemoteError``, functions as names that refuse to be called.
"""

from __future__ import annotations

import json
import traceback
from collections.abc import Callable, Mapping
from math import inf, isfinite
from typing import Any, Literal, NoReturn, TypeAlias, cast

from stepfunction.core.calls import Call
from stepfunction.core.cancellation import Cancellation
from stepfunction.core.errors import (
    ParallelStepExecutionError,
    RemoteError,
    RemoteTraceback,
    StepExecutionError,
    StepFunctionError,
    StepLimitError,
    TranscriptError,
    error_text,
)
from stepfunction.core.execution import (
    Blame,
    Execution,
    Omitted,
    Outcome,
    Status,
    Visit,
    as_visit,
)
from stepfunction.core.graph import Arrow, Branch, FanOut, Graph, Step
from stepfunction.core.results import TaskResults

FORMAT = "stepfunction.execution"
VERSION = 1

# Where a value stands: the step (a task as "step.task"), "input", "output", "error" or
# "traceback", then the keys and positions that lead into it.
Where: TypeAlias = tuple[Any, ...]
Redact: TypeAlias = Callable[[Where, Any], Any]

_LONGEST_REPR = 10_000
_DEEPEST = 100  # containers in one another
_MOST_BITS = 10_000  # Python reads no number of more than 4,300 digits
# Errors that say which step failed, and so come back as what they were.
_OURS: dict[str, Any] = {
    f"{it.__module__}.{it.__qualname__}": it
    for it in (StepExecutionError, ParallelStepExecutionError, StepLimitError)
}


def to_document(execution: Execution, redact: Redact | None = None) -> dict[str, Any]:
    """Give an execution, and all that is nested in it, as data that JSON can hold.

    Args:
        execution: What happened; while it runs, what has happened so far.
        redact: Called with where a value stands and the value, outermost first, and
            gives what to write in its place. Of an exception it is given the texts.
    """
    writer = _Writer(redact)
    written = writer.execution(execution, None)
    writer.finish()
    return {
        "format": FORMAT,
        "version": VERSION,
        "execution": written,
        "graphs": writer.graphs,
        "errors": writer.errors,
    }


def from_text(text: str | bytes) -> Execution:
    """Give the execution that a JSON text describes.

    Raises:
        TranscriptError: If the text is none that ``to_json`` has written.
    """
    try:
        return from_document(json.loads(text, parse_constant=_refuse_constant))
    except RecursionError:
        raise TranscriptError("the transcript is nested too deeply") from None
    except ValueError as error:
        if isinstance(error, TranscriptError):
            raise
        raise TranscriptError(f"the transcript is no JSON: {error}") from error


def _refuse_constant(name: str) -> NoReturn:
    raise TranscriptError(f"the transcript is no JSON: it has a bare {name}")


def from_document(document: Any) -> Execution:
    """Give the execution that data as of ``to_document`` describes.

    Raises:
        TranscriptError: If it is no such data.
    """
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise TranscriptError(
            "this is no transcript of an execution, which Execution.to_json() writes: "
            f"its 'format' is not {FORMAT!r}"
        )
    version = document.get("version")
    if type(version) is not int or not 1 <= version <= VERSION:
        raise TranscriptError(
            f"the transcript has version {version!r} and this stepfunction reads "
            f"version {VERSION}; read it with the one that wrote it, or a newer one"
        )
    return _Reader(document).execution(document.get("execution"), "execution")


# --- writing ----------------------------------------------------------------------


class _Writer:
    def __init__(self, redact: Redact | None) -> None:
        self.graphs: list[dict[str, Any]] = []
        self.errors: list[dict[str, Any]] = []
        self._redact = redact
        self._found: list[tuple[BaseException, str]] = []  # and where it was met first
        self._numbers: dict[int, int] = {}  # of exceptions and graphs, by id
        self._open: set[int] = set()  # the containers around what is being written

    def execution(self, it: Execution, graph: Graph | None) -> dict[str, Any]:
        """Write an execution.

        Args:
            it: The execution.
            graph: What ran, where the execution has come without it.
        """
        own: Graph | None = it._graph  # which a pickle leaves behind
        graph = graph if own is None else own
        journal, zero = it._journal[:], it._began
        first = _name(journal[0]) if journal else ""
        last = _name(journal[-3]) if journal else ""
        written = {
            "workflow": it.workflow,
            "id": it.id,
            "status": it.status.value,
            "started": it.started,
            "duration": _seconds(it.duration),
            "timeout": it._timeout if isfinite(it._timeout) else None,
            "graph": None if graph is None else self._graph(graph),
            "input": self._value((first, "input"), it.input),
            "steps": [
                {
                    "step": _name(entry),
                    "ended": _seconds(ended - zero),
                    **self._visit(as_visit(entry, result), None, zero, graph),
                }
                for entry, ended, result in zip(
                    journal[::3], journal[1::3], journal[2::3]
                )
            ],
            "output": self._value((last, "output"), it.output),
            "error": self._error(last, it.error),
            "blame": None,
        }
        if it._blame is not None:
            step, error, names_step = it._blame
            written["blame"] = {
                "step": step,
                "error": self._error(step, error),
                "names_step": names_step and _is_ours(error),
            }
        return written

    def _visit(
        self, visit: Visit, step: str | None, zero: float, graph: Graph | None
    ) -> dict[str, Any]:
        """Write what a step did or, where its step is named, a task."""
        name = visit.name if step is None else f"{step}.{visit.name}"
        written: dict[str, Any] = {"outcome": visit.outcome.value}
        if visit.error is None:
            written["output"] = self._value((name, "output"), visit.output)
        else:
            written["error"] = self._error(name, visit.error)
        if visit.attempts:
            written["attempts"] = [
                {
                    "outcome": outcome.value,
                    "began": _seconds(began - zero),
                    "ended": _seconds(ended - zero),
                    "error": self._error(name, error),
                }
                for outcome, began, ended, error in visit.attempts
            ]
        if visit.tasks:
            written["tasks"] = [
                {"task": task.name, **self._visit(task, visit.name, zero, graph)}
                for task in visit.tasks
            ]
        if visit.child is not None:
            nested = _nested(graph, step or visit.name, step and visit.name)
            written["child"] = self.execution(visit.child, nested)
        return written

    def _value(self, where: Where, value: Any) -> Any:
        if self._redact is not None:
            value = self._redact(where, value)
        return self._plain(where, value)

    def _plain(self, where: Where, value: Any) -> Any:
        kind = type(value)
        if value is None or kind is bool or kind is str:
            return value
        if kind is int and value.bit_length() <= _MOST_BITS:
            return value
        if kind is float:
            return value if isfinite(value) else {"$float": repr(value)}
        if isinstance(value, BaseException):
            return {"$error": self._error(str(where[0]), value)}
        if kind is Omitted:
            return {"$repr": value.text}
        if kind not in (dict, list, tuple, TaskResults):
            return {"$repr": _repr(value)}
        if id(value) in self._open or len(self._open) >= _DEEPEST:
            return {"$repr": "…"}
        self._open.add(id(value))
        try:
            return self._container(where, value)
        finally:
            self._open.discard(id(value))

    def _container(self, where: Where, value: Any) -> Any:
        if isinstance(value, TaskResults):
            if where[1:] == ("output",):  # so that a task is met at the same place
                pairs = {
                    key: self._value((f"{where[0]}.{key}", "output"), item)
                    for key, item in value.items()
                }
            else:
                pairs = {key: self._value((*where, key), value[key]) for key in value}
            failure = self._error(str(where[0]), value._failure)
            return {"$results": [self._mapping(where, pairs), failure]}
        if isinstance(value, dict):
            return self._mapping(
                where,
                {
                    key: self._value((*where, key), item)
                    for key, item in list(value.items())
                },
            )
        items = [
            self._value((*where, index), item) for index, item in enumerate(value)
        ]
        return items if isinstance(value, list) else {"$tuple": items}

    def _mapping(self, where: Where, written: dict[Any, Any]) -> dict[str, Any]:
        """Give a mapping whose values have been written already."""
        is_plain = all(type(key) is str for key in written)
        if is_plain and not (len(written) == 1 and next(iter(written))[:1] == "$"):
            return written
        return {"$dict": [[self._plain(where, key), written[key]] for key in written]}

    def _error(self, step: str, error: BaseException | None) -> int | None:
        """Give an exception's place in the table, where it is written in the end."""
        if error is None:
            return None
        number = self._numbers.setdefault(id(error), len(self._found))
        if number == len(self._found):
            self._found.append((error, step))
        return number

    def finish(self) -> None:
        """Write the exceptions, and those that are found with them."""
        for error, step in self._found:
            self.errors.append(self._facts(error, step))

    def _facts(self, error: BaseException, step: str) -> dict[str, Any]:
        text, trace = text_of(error), traceback_of(error)
        if self._redact is not None:
            redacted = str(self._redact((step, "error"), text))
            if trace is not None:
                # It ends with the text, which is not to slip through here.
                trace = trace.replace(text, redacted) if text else trace
                trace = str(self._redact((step, "traceback"), trace))
            text = redacted
        facts: dict[str, Any] = {
            "type": type_name(error),
            "text": text,
            "traceback": trace,
            "cause": self._error(step, cause_of(error)),
        }
        if not _is_ours(error):
            return facts
        assert isinstance(error, StepExecutionError)
        facts["step"] = error.step
        if isinstance(error, ParallelStepExecutionError):
            facts["outcomes"] = {k: it.value for k, it in error.outcomes.items()}
            facts["results"] = {
                task: self._value((f"{error.step}.{task}", "output"), result)
                for task, result in error.results.items()
            }
            facts["errors"] = {
                task: self._error(f"{error.step}.{task}", failure)
                for task, failure in error.errors.items()
            }
        return facts

    def _graph(self, graph: Graph) -> int:
        """Give a graph's place in the table, behind those that are nested in it."""
        number = self._numbers.get(id(graph))
        if number is not None:
            return number
        written = {
            "name": graph.name,
            "start": graph.start,
            "max_steps": graph.max_steps,
            "failure_steps": sorted(graph.failure_steps),
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
            "executor": _as_text(step.executor, lambda it: type(it).__qualname__),
            "retry": _as_text(step.retry, repr),
            "timeout": step.timeout,
            "heartbeat": step.heartbeat,
            "ends": step.ends,
        }

    def _action(self, action: Any) -> dict[str, Any]:
        if isinstance(action, Graph):
            return {"kind": "workflow", "graph": self._graph(action)}
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
        return {"kind": "call", "function": action.name}


def _name(entry: Any) -> str:
    name: str = entry if type(entry) is str else entry[0]
    return name


def _seconds(seconds: float) -> float:
    return round(seconds, 9)


def _nested(graph: Graph | None, step: str, task: str | None) -> Graph | None:
    """Give the graph that a step, or a task of it, runs."""
    action: Any = None if graph is None else graph.table[step].action
    if task is not None and isinstance(action, FanOut):
        action = action.tasks.get(task)
    return action if isinstance(action, Graph) else None


def _repr(value: Any) -> str:
    if isinstance(value, bytes | bytearray) and len(value) > _LONGEST_REPR:
        text = f"{bytes(value[:_LONGEST_REPR])!r}"[:_LONGEST_REPR]
        return f"{text}… ({len(value)} bytes in all)"
    try:
        text = repr(value)
    except Exception as error:  # any class may do anything here
        return f"<{type(value).__qualname__}, whose repr failed: {error_text(error)}>"
    if len(text) <= _LONGEST_REPR:
        return text
    return f"{text[:_LONGEST_REPR]}… ({len(text)} characters in all)"


def _as_text(value: Any, text: Callable[[Any], str]) -> str | None:
    if value is None or isinstance(value, str):
        return value
    return value.text if isinstance(value, Omitted) else text(value)


def _is_ours(error: BaseException) -> bool:
    return type(error) in _OURS.values()


def type_name(error: BaseException) -> str:
    """Give the qualified name of an exception's class, of one that was read too."""
    if isinstance(error, RemoteError):
        return error.type_name
    return f"{type(error).__module__}.{type(error).__qualname__}"


def text_of(error: BaseException) -> str:
    """Give what an exception says, of one that was read too."""
    if isinstance(error, RemoteError):
        return error.text
    return error_text(error).removeprefix(type(error).__name__).removeprefix(": ")


def traceback_of(error: BaseException) -> str | None:
    """Give the traceback of an exception alone, without those that it comes from."""
    if isinstance(error.__cause__, RemoteTraceback):
        return str(error.__cause__.args[0]) if error.__cause__.args else None
    recorded: str | None = getattr(error, "_recorded_traceback", None)
    if recorded is not None or error.__traceback__ is None:
        return recorded
    return "".join(traceback.format_exception(error, chain=False))


def cause_of(error: BaseException) -> BaseException | None:
    """Give what an exception comes from, where that is not the exception itself."""
    cause = _next_cause(error)
    seen = {id(error)}
    later = cause
    while later is not None and id(later) not in seen:
        seen.add(id(later))
        later = _next_cause(later)
    return cause if later is None else None


def _next_cause(error: BaseException) -> BaseException | None:
    cause = error.__cause__
    if isinstance(cause, RemoteTraceback):
        return cause.__cause__
    if cause is None and not error.__suppress_context__:
        return error.__context__
    return cause


# --- reading ----------------------------------------------------------------------


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


class _Reader:
    def __init__(self, document: Mapping[str, Any]) -> None:
        self._graphs: list[Graph] = []
        self._errors: list[BaseException] = []
        for index, it in enumerate(_get(document, "", "graphs", list)):
            self._graphs.append(self._graph(it, f"graphs[{index}]"))
        facts = _get(document, "", "errors", list)
        for index, it in enumerate(facts):
            self._errors.append(_new_error(it, f"errors[{index}]"))
        for index, it in enumerate(facts):
            self._link(self._errors[index], it, f"errors[{index}]")
        for index in range(len(facts)):
            _refuse_circle(index, facts)

    def execution(self, written: Any, at: str) -> Execution:
        """Read an execution."""
        execution = Execution.__new__(Execution)
        number = _get(written, at, "graph", int | None)
        timeout = _get(written, at, "timeout", _NUMBER | None)
        error = self._error(written, at, "error")
        execution.__dict__.update(
            workflow=_get(written, at, "workflow", str),
            status=_member(Status, _get(written, at, "status", str), f"{at}.status"),
            input=self._value(_get(written, at, "input", object), f"{at}.input"),
            output=self._value(_get(written, at, "output", object), f"{at}.output"),
            _id=_get(written, at, "id", str),
            _graph=None if number is None else _pick(self._graphs, number, at, "graph"),
            _journal=self._journal(_get(written, at, "steps", list), f"{at}.steps"),
            _first_failure=None,
            _began=0.0,
            _ended=_get(written, at, "duration", _NUMBER),
            _epoch=_get(written, at, "started", _NUMBER),
            _timeout=inf if timeout is None else timeout,
            _blame=self._blame(_get(written, at, "blame", dict | None), f"{at}.blame"),
            _cancellation=Cancellation(),
            _audience=None,
            _is_live=False,
        )
        if error is not None:
            execution.error = error
        return execution

    def _journal(self, steps: list[Any], at: str) -> list[Any]:
        journal: list[Any] = []
        for index, step in enumerate(steps):
            place = f"{at}[{index}]"
            visit = self._visit(step, place, "step")
            result = visit.output if visit.error is None else visit.error
            journal += (visit, _get(step, place, "ended", _NUMBER), result)
        return journal

    def _visit(self, written: Any, at: str, subject: str) -> Visit:
        name = _get(written, at, subject, str)
        outcome = _get(written, at, "outcome", str)
        child = _get(written, at, "child", dict, None)
        attempts = [
            (
                _member(Outcome, _get(it, place, "outcome", str), place),
                _get(it, place, "began", _NUMBER),
                _get(it, place, "ended", _NUMBER),
                self._error(it, place, "error"),
            )
            for place, it in _each(written, at, "attempts")
        ]
        tasks = [
            self._visit(it, place, "task") for place, it in _each(written, at, "tasks")
        ]
        return Visit(
            name,
            _member(Outcome, outcome, f"{at}.outcome"),
            tuple(attempts),
            self._value(written.get("output"), f"{at}.output"),
            self._error(written, at, "error", None),
            tuple(tasks),
            None if child is None else self.execution(child, f"{at}.child"),
        )

    def _blame(self, written: Any, at: str) -> Blame | None:
        if written is None:
            return None
        error = self._error(written, at, "error")
        names_step = _get(written, at, "names_step", bool)
        if error is None or (names_step and not isinstance(error, StepExecutionError)):
            raise TranscriptError(f"{at} of the transcript names no error of a step")
        return Blame(_get(written, at, "step", str), error, names_step)

    def _value(self, written: Any, at: str) -> Any:
        if isinstance(written, list):
            return [self._value(it, f"{at}[{i}]") for i, it in enumerate(written)]
        if not isinstance(written, dict):
            return written
        key = next(iter(written), "")
        if len(written) == 1 and key.startswith("$"):
            return self._marked(key, written[key], f"{at}.{key}")
        return {key: self._value(it, f"{at}.{key}") for key, it in written.items()}

    def _marked(self, mark: str, it: Any, at: str) -> Any:
        if mark == "$repr" and isinstance(it, str):
            return Omitted(it)
        if mark == "$error" and type(it) is int:
            return _pick(self._errors, it, at, "error")
        if mark == "$float" and it in ("nan", "inf", "-inf"):
            return float(it)
        if mark == "$tuple" and isinstance(it, list):
            return tuple(self._value(it, at))
        if mark == "$dict" and isinstance(it, list):
            try:
                return {self._value(k, at): self._value(v, at) for k, v in it}
            except TypeError as error:
                raise TranscriptError(f"{at} of the transcript: {error}") from None
        if mark == "$results" and isinstance(it, list) and len(it) == 2:
            results = self._value(it[0], at)
            failure = None if it[1] is None else self._marked("$error", it[1], at)
            if isinstance(results, dict):
                if isinstance(failure, ParallelStepExecutionError | None):
                    return TaskResults(results, failure)
        raise TranscriptError(
            f"{at} of the transcript is not a value that to_json() writes"
        )

    def _error(
        self, written: Any, at: str, key: str, default: Any = ...
    ) -> BaseException | None:
        number = _get(written, at, key, int | None, default)
        if number is None:
            return None
        return cast(BaseException, _pick(self._errors, number, at, key))

    def _link(self, error: BaseException, facts: Any, at: str) -> None:
        cause = self._error(facts, at, "cause")
        trace = _get(facts, at, "traceback", str | None)
        if isinstance(error, StepExecutionError):
            # What it comes from is the step's own exception, and nothing before it.
            error.__dict__["_recorded_traceback"] = trace
        elif trace is not None:
            remote = RemoteTraceback(trace)
            remote.__cause__, cause = cause, remote
        error.__cause__ = cause
        if isinstance(error, ParallelStepExecutionError):
            outcomes = {
                task: _member(Outcome, it, f"{at}.outcomes.{task}")
                for task, it in _get(facts, at, "outcomes", dict).items()
            }
            results = {
                task: self._value(it, f"{at}.results.{task}")
                for task, it in _get(facts, at, "results", dict).items()
            }
            errors = _get(facts, at, "errors", dict)
            failed = {
                task: cast(BaseException, self._error(errors, f"{at}.errors", task))
                for task in errors
            }
            error.outcomes, error.results, error.errors = outcomes, results, failed
            error.args = (*error.args[:2], outcomes, results, failed)

    def _graph(self, written: Any, at: str) -> Graph:
        start = _get(written, at, "start", str)
        steps = [self._step(it, place) for place, it in _each(written, at, "steps")]
        table = {step.name: step for step in steps}
        for step in steps:
            for arrow in step.arrows():
                if arrow.target not in table:
                    raise TranscriptError(
                        f"{at} of the transcript has an arrow to {arrow.target!r}, "
                        "which is no step of it"
                    )
        if start not in table:
            raise TranscriptError(f"{at}.start of the transcript is no step of it")
        return Graph(
            _get(written, at, "name", str),
            start,
            table,
            (start, {}, 0),  # nothing here can be run
            frozenset(map(str, _get(written, at, "failure_steps", list))),
            _get(written, at, "max_steps", int | None),
        )

    def _step(self, written: Any, at: str) -> Step:
        arrows = tuple(
            Arrow(
                cast(Any, _one_of(_get(it, place, "kind", str), _KINDS, place)),
                _get(it, place, "label", str),
                _get(it, place, "target", str),
            )
            for place, it in _each(written, at, "arrows")
        )
        follower = [arrow.target for arrow in arrows if arrow.kind == "next"]
        branches = _get(written, at, "branches", bool)
        retry = _get(written, at, "retry", str | None)
        ends = _get(written, at, "ends", str | None)
        step = _ReadStep(
            _get(written, at, "name", str),
            self._action(_get(written, at, "action", dict), f"{at}.action"),
            next_step=follower[0] if follower else None,
            branch=Branch(chooser=_Unperformed("a branch")) if branches else None,
            retry=cast(Any, None if retry is None else Omitted(retry)),
            executor=cast(Any, _get(written, at, "executor", str | None)),
            timeout=_get(written, at, "timeout", _NUMBER | None),
            heartbeat=_get(written, at, "heartbeat", _NUMBER | None),
            ends=cast(Literal["completed", "failed"] | None, ends),
        )
        step._arrows = arrows
        return step

    def _action(self, written: Any, at: str) -> Any:
        kind = _get(written, at, "kind", str)
        _one_of(kind, ("call", "parallel", "workflow"), f"{at}.kind")
        if kind == "call":
            return Call(_Unperformed(_get(written, at, "function", str)))
        if kind == "workflow":
            return _pick(self._graphs, _get(written, at, "graph", int), at, "graph")
        tolerated = _get(written, at, "tolerated", _NUMBER | None)
        return FanOut(
            {
                name: self._action(it, f"{at}.tasks.{name}")
                for name, it in _get(written, at, "tasks", dict).items()
            },
            _get(written, at, "stop_on_failure", bool),
            inf if tolerated is None else tolerated,
            _get(written, at, "max_workers", int | None),
        )


_NUMBER = int | float
_KINDS = ("next", "branch", "failure")


def _get(written: Any, at: str, key: str, kind: Any, default: Any = ...) -> Any:
    """Give a part of what was written, if it is of its kind."""
    place = f"{at}.{key}" if at else key
    if not isinstance(written, dict):
        raise TranscriptError(f"{at} of the transcript is {written!r:.60}, no object")
    value = written.get(key, default)
    if value is ...:
        raise TranscriptError(f"the transcript lacks {place}")
    if value is default:
        return value
    if not isinstance(value, kind) or (isinstance(value, bool) and kind not in _ANY):
        raise TranscriptError(f"{place} of the transcript cannot be {value!r:.60}")
    return value


_ANY = (bool, object)


def _each(written: Any, at: str, key: str) -> list[tuple[str, Any]]:
    items = _get(written, at, key, list, [])
    return [(f"{at}.{key}[{index}]", item) for index, item in enumerate(items)]


def _pick(table: list[Any], number: int, at: str, key: str) -> Any:
    if not 0 <= number < len(table):
        raise TranscriptError(f"{at}.{key} of the transcript: there is no {number}")
    return table[number]


def _member(kinds: Any, name: Any, at: str) -> Any:
    return kinds(_one_of(name, tuple(kinds), at))


def _one_of(value: Any, known: tuple[str, ...], at: str) -> Any:
    if value not in known:
        listed = ", ".join(known)
        raise TranscriptError(
            f"{at} of the transcript is {value!r:.60}, and none of {listed}"
        )
    return value


def _new_error(facts: Any, at: str) -> BaseException:
    name, text = _get(facts, at, "type", str), _get(facts, at, "text", str)
    if name not in _OURS or "step" not in facts:  # which one from afar has lost
        return RemoteError(f"{name}: {text}" if text else name, name, text)
    step = _get(facts, at, "step", str)
    if _OURS[name] is ParallelStepExecutionError:
        return ParallelStepExecutionError(text, step, {}, {}, {})
    ours: StepExecutionError = _OURS[name](text, step)
    return ours


def _refuse_circle(index: int, facts: list[Any]) -> None:
    seen = set()
    number: int | None = index
    while number is not None:
        if number in seen:
            raise TranscriptError(f"errors[{index}] of the transcript causes itself")
        seen.add(number)
        number = facts[number]["cause"]
