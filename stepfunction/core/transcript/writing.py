"""Transcript: an execution as data that JSON can hold; ``reading`` brings it back.

What is written is the journal in the open: the steps in their order, each with what
came of it, its attempts, its tasks and the execution nested in it. A step's input is
what the step before gave, a task's that of its step, so neither is said again; where it
is another, as that of an item of a map step, it is written too.
Exceptions and graphs, which are met in many places, stand in tables of their own.

JSON has no more than texts, numbers, lists and objects. What else Python has is an
object with one key that begins with ``$``::

    {"$repr": text}            any other value, as its repr; cut where it is long
    {"$error": number}         an exception, by its place in the table
    {"$float": "nan"}          also "inf" and "-inf"
    {"$tuple": [value, …]}
    {"$dict": [[key, value], …]}    other keys than text, or one that begins with $
    {"$results": [dict, error]}     the results of a parallel step
    {"$items": [list, error]}       the results of a map step
    {"$outcome": "SUCCEEDED"}       an ``Outcome``
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterable
from math import isfinite
from typing import Any, TypeAlias

from stepfunction.core.definition.actions import FanOut, MapItems
from stepfunction.core.definition.graph import Graph
from stepfunction.core.envelope.omitted import Omitted
from stepfunction.core.errors import (
    FailStepError,
    ParallelStepExecutionError,
    RemoteError,
    RemoteTraceback,
    StepExecutionError,
    StepLimitError,
    add_note,
)
from stepfunction.core.history.execution import Execution
from stepfunction.core.history.records import StepRecord, Visit, as_visit
from stepfunction.core.history.results import MapResults, TaskResults
from stepfunction.core.outcomes import Outcome
from stepfunction.core.transcript.graphs import GraphWriter
from stepfunction.core.wording import error_text

FORMAT = "stepfunction.execution"
VERSION = 1

# Where a value stands: the step (a task as "step.task"), "input", "output", "error" or
# "traceback", then the keys and positions that lead into it.
Where: TypeAlias = tuple[Any, ...]
Redact: TypeAlias = Callable[[Where, Any], Any]

_LONGEST_REPR = 10_000
_DEEPEST = 100  # containers in one another
_MOST_BITS = 10_000  # Python reads no number of more than 4,300 digits
# Errors that say which step failed, or how one ended it, and so come back as what they
# were.
OURS: dict[str, Any] = {
    f"{it.__module__}.{it.__qualname__}": it
    for it in (
        StepExecutionError,
        ParallelStepExecutionError,
        StepLimitError,
        FailStepError,
    )
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


class _Writer:
    def __init__(self, redact: Redact | None) -> None:
        self.errors: list[dict[str, Any]] = []
        self._graphs = GraphWriter()
        self._redact = redact
        self._found: list[tuple[BaseException, str]] = []  # and where it was met first
        self._numbers: dict[int, int] = {}  # of exceptions, by id
        self._open: set[int] = set()  # the containers around what is being written

    @property
    def graphs(self) -> list[dict[str, Any]]:
        return self._graphs.graphs

    def execution(self, it: Execution, graph: Graph | None) -> dict[str, Any]:
        """Write an execution.

        Args:
            it: The execution.
            graph: What ran, where the execution has come without it.
        """
        own: Graph | None = it.graph  # which a pickle leaves behind
        graph = graph if own is None else own
        journal, zero = it._kept(), it._began
        first = _name(journal[0]) if journal else ""
        last = _name(journal[-3]) if journal else ""
        written = {
            "workflow": it.workflow,
            "id": it.id,
            "status": it.status.value,
            "started": it.started,
            "duration": _seconds(it.duration),
            "timeout": it.journal.timeout if isfinite(it.journal.timeout) else None,
            "graph": None if graph is None else self._graphs.number(graph),
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
        if it.forgotten:
            kept = {_name(entry) for entry in journal[::3]}
            written["forgotten"] = it.forgotten
            written["context"] = {
                name: self._value((name, "output"), result)
                for name, result in it.context.items()
                if name not in kept
            }
        undone = it.compensations
        if undone:
            written["compensations"] = [self._undone(one, it) for one in undone]
        if it.blame is not None:
            step, error, names_step = it.blame
            written["blame"] = {
                "step": step,
                "error": self._error(step, error),
                "names_step": names_step and isinstance(error, StepExecutionError)
                and _is_ours(error),
            }
        return written

    def _undone(self, record: StepRecord, it: Execution) -> dict[str, Any]:
        """Write what a compensation did; the output that it was given is its input."""
        name = record.step if record.task is None else f"{record.step}.{record.task}"
        began = (record.started or it.started) - it.started
        return {
            "step": record.step,
            "task": record.task,
            "outcome": record.outcome.value,
            "input": self._value((name, "output"), record.input),
            "output": self._value((name, "compensation"), record.output),
            "error": self._error(name, record.error),
            "began": _seconds(began),
            "ended": _seconds(began + record.duration),
        }

    def _visit(
        self, visit: Visit, step: str | None, zero: float, graph: Graph | None
    ) -> dict[str, Any]:
        """Write what a step did or, where its step is named, a task."""
        name = visit.name if step is None else f"{step}.{visit.name}"
        written: dict[str, Any] = {"outcome": visit.outcome.value}
        if visit.given is not None:
            written["input"] = self._value((name, "input"), visit.given[0])
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
        return self._plain(where, self._redacted(where, value))

    def _redacted(self, where: Where, value: Any) -> Any:
        if self._redact is None:
            return value
        try:
            return self._redact(where, value)
        except Exception as error:
            add_note(error, f"raised by redact(where, value), where {where!r}")
            raise

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
        if kind is Outcome:
            return {"$outcome": value.value}
        if kind not in (dict, list, tuple, TaskResults, MapResults):
            if self._redact is None or not isinstance(value, dict | list | tuple):
                return {"$repr": _repr(value)}  # else its repr would tell it all
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
        if isinstance(value, MapResults):
            is_output = where[1:] == ("output",)
            results = [
                self._value(
                    (f"{where[0]}.{index}", "output") if is_output else (*where, index),
                    item,
                )
                for index, item in enumerate(value)
            ]
            return {"$items": [results, self._error(str(where[0]), value._failure)]}
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
            redacted = str(self._redacted((step, "error"), text))
            if trace is not None:
                # It ends with the text, which is not to slip through here.
                trace = trace.replace(text, redacted) if text else trace
                trace = str(self._redacted((step, "traceback"), trace))
            text = redacted
        facts: dict[str, Any] = {
            "type": type_name(error),
            "text": text,
            "traceback": trace,
            "cause": self._error(step, cause_of(error)),
        }
        if not _is_ours(error):
            return facts
        if isinstance(error, FailStepError):
            # What is hidden of the text is hidden of its parts.
            is_open = text == text_of(error)
            facts["error"] = error.error if is_open else text
            facts["reason"] = error.cause if is_open else None
            return facts
        assert isinstance(error, StepExecutionError)
        facts["step"] = error.step
        if isinstance(error, ParallelStepExecutionError):
            # Of a map step the keys are indexes, and JSON has no such keys.
            keys: Iterable[Any] = error.outcomes
            facts["are_items"] = any(type(key) is int for key in keys)
            facts["outcomes"] = {str(k): it.value for k, it in error.outcomes.items()}
            facts["results"] = {
                str(task): self._value((f"{error.step}.{task}", "output"), result)
                for task, result in error.results.items()
            }
            facts["errors"] = {
                str(task): self._error(f"{error.step}.{task}", failure)
                for task, failure in error.errors.items()
            }
        return facts


def _name(entry: Any) -> str:
    name: str = entry if type(entry) is str else entry[0]
    return name


def _seconds(seconds: float) -> float:
    return round(seconds, 9)


def _nested(graph: Graph | None, step: str, task: str | None) -> Graph | None:
    """Give the graph that a step, or a task of it, runs."""
    found = None if graph is None else graph.table.get(step)
    action: Any = None if found is None else found.action
    if isinstance(action, MapItems):
        action = action.call
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


def _is_ours(error: BaseException) -> bool:
    return type(error) in OURS.values()


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
