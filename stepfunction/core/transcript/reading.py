"""Reading: an execution out of its transcript.

Nothing that the text names is imported or called: exceptions come back as
``RemoteError``, functions as names that refuse to be called.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import partial
from math import inf
from typing import Any, NoReturn, cast

from stepfunction.core.cancellation import Cancellation
from stepfunction.core.envelope.omitted import Omitted
from stepfunction.core.errors import (
    FailStepError,
    ParallelStepExecutionError,
    RemoteError,
    RemoteTraceback,
    StepExecutionError,
    TranscriptError,
)
from stepfunction.core.history.execution import Execution
from stepfunction.core.history.journal import Blame
from stepfunction.core.history.records import Visit
from stepfunction.core.history.results import MapResults, TaskResults
from stepfunction.core.outcomes import Outcome, Status
from stepfunction.core.transcript.graphs import read_graphs
from stepfunction.core.transcript.parts import NUMBER, member, part, parts, pick
from stepfunction.core.transcript.writing import FORMAT, OURS, VERSION


def from_text(text: str | bytes) -> Execution:
    """Give the execution that a JSON text describes.

    Raises:
        TranscriptError: If the text is none that ``to_json`` has written.
    """
    if not isinstance(text, str | bytes | bytearray):
        raise TranscriptError(
            f"a transcript is the text that to_json() wrote, not {text!r}; "
            "of a file give what is in it"
        )
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


class _Reader:
    def __init__(self, document: Mapping[str, Any]) -> None:
        self._errors: list[BaseException] = []
        self._graphs = read_graphs(part(document, "", "graphs", list))
        facts = part(document, "", "errors", list)
        for index, it in enumerate(facts):
            self._errors.append(_new_error(it, f"errors[{index}]"))
        for index, it in enumerate(facts):
            self._link(self._errors[index], it, f"errors[{index}]")
        _refuse_circles(facts)

    def execution(self, written: Any, at: str) -> Execution:
        """Read an execution."""
        execution = Execution.__new__(Execution)
        number = part(written, at, "graph", int | None)
        timeout = part(written, at, "timeout", NUMBER | None)
        error = self._error(written, at, "error")
        journal = self._journal(part(written, at, "steps", list), f"{at}.steps")
        forgotten = part(written, at, "forgotten", int, 0)
        if forgotten < 0:
            raise TranscriptError(f"{at}.forgotten of the transcript is no count")
        started = part(written, at, "started", NUMBER)
        if not 0 <= started < _LATEST:
            raise TranscriptError(f"{at}.started of the transcript is no date")
        execution.__dict__.update(
            workflow=part(written, at, "workflow", str),
            status=member(Status, part(written, at, "status", str), f"{at}.status"),
            input=self._value(part(written, at, "input", object), f"{at}.input"),
            output=self._value(part(written, at, "output", object), f"{at}.output"),
            _id=part(written, at, "id", str),
            _graph=None if number is None else pick(self._graphs, number, at, "graph"),
            _journal=journal,
            _forgotten=forgotten,
            _results={
                name: self._value(result, f"{at}.context[{name!r}]")
                for name, result in part(written, at, "context", dict, {}).items()
            },
            _results_end=0,
            _began=0.0,
            _ended=part(written, at, "duration", NUMBER),
            _epoch=started,
            _timeout=inf if timeout is None else timeout,
            _blame=self._blame(part(written, at, "blame", dict | None), f"{at}.blame"),
            _cancellation=Cancellation(),
            _audience=None,
            _is_live=False,
            _undone=tuple(
                self._undone(it, place)
                for place, it in parts(written, at, "compensations")
            ),
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
            journal += (visit, part(step, place, "ended", NUMBER), result)
        return journal

    def _visit(self, written: Any, at: str, subject: str) -> Visit:
        name = part(written, at, subject, str)
        outcome = part(written, at, "outcome", str)
        child = part(written, at, "child", dict, None)
        given = None
        if "input" in written:
            given = (self._value(written["input"], f"{at}.input"),)
        attempts = [
            (
                member(Outcome, part(it, place, "outcome", str), place),
                part(it, place, "began", NUMBER),
                part(it, place, "ended", NUMBER),
                self._error(it, place, "error"),
            )
            for place, it in parts(written, at, "attempts")
        ]
        tasks = [
            self._visit(it, place, "task") for place, it in parts(written, at, "tasks")
        ]
        return Visit(
            name,
            member(Outcome, outcome, f"{at}.outcome"),
            tuple(attempts),
            self._value(written.get("output"), f"{at}.output"),
            self._error(written, at, "error", None),
            tuple(tasks),
            None if child is None else self.execution(child, f"{at}.child"),
            given,
        )

    def _undone(self, written: Any, at: str) -> Visit:
        """Read what a compensation did, as it is noted: of a task inside its step's."""
        step = part(written, at, "step", str)
        task = part(written, at, "task", str | None)
        outcome = part(written, at, "outcome", str)
        error = self._error(written, at, "error")
        ended = (
            member(Outcome, outcome, f"{at}.outcome"),
            part(written, at, "began", NUMBER),
            part(written, at, "ended", NUMBER),
            error,
        )
        visit = Visit(
            step if task is None else task,
            ended[0],
            (ended,),
            self._value(part(written, at, "output", object), f"{at}.output"),
            error,
            given=(self._value(part(written, at, "input", object), f"{at}.input"),),
        )
        return visit if task is None else Visit(step, ended[0], tasks=(visit,))

    def _blame(self, written: Any, at: str) -> Blame | None:
        if written is None:
            return None
        error = self._error(written, at, "error")
        names_step = part(written, at, "names_step", bool)
        if error is None or (names_step and not isinstance(error, StepExecutionError)):
            raise TranscriptError(f"{at} of the transcript names no error of a step")
        return Blame(part(written, at, "step", str), error, names_step)

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
        if mark in _PLAIN_MARKS:
            value = _PLAIN_MARKS[mark](it)
            if value is not None:
                return value
        if mark == "$error" and type(it) is int:
            return pick(self._errors, it, at, "error")
        if mark == "$tuple" and isinstance(it, list):
            return tuple(self._value(it, at))
        if mark == "$dict" and isinstance(it, list):
            try:
                return {self._value(k, at): self._value(v, at) for k, v in it}
            except TypeError as error:
                raise TranscriptError(f"{at} of the transcript: {error}") from None
        if mark in ("$results", "$items") and isinstance(it, list) and len(it) == 2:
            results = self._value(it[0], at)
            failure = None if it[1] is None else self._marked("$error", it[1], at)
            if isinstance(failure, ParallelStepExecutionError | None):
                if mark == "$results" and isinstance(results, dict):
                    return TaskResults(results, failure)
                if mark == "$items" and isinstance(results, list):
                    return MapResults(results, failure)
        raise TranscriptError(
            f"{at} of the transcript is not a value that to_json() writes"
        )

    def _error(
        self, written: Any, at: str, key: str, default: Any = ...
    ) -> BaseException | None:
        number = part(written, at, key, int | None, default)
        if number is None:
            return None
        return cast(BaseException, pick(self._errors, number, at, key))

    def _link(self, error: BaseException, facts: Any, at: str) -> None:
        cause = self._error(facts, at, "cause")
        trace = part(facts, at, "traceback", str | None)
        if isinstance(error, StepExecutionError):
            # What it comes from is the step's own exception, and nothing before it.
            error.__dict__["_recorded_traceback"] = trace
        elif trace is not None:
            remote = RemoteTraceback(trace)
            remote.__cause__, cause = cause, remote
        error.__cause__ = cause
        if isinstance(error, ParallelStepExecutionError):
            are_items = part(facts, at, "are_items", bool, False)
            key = partial(_index, at=at) if are_items else str
            outcomes = {
                key(task): member(Outcome, it, f"{at}.outcomes.{task}")
                for task, it in part(facts, at, "outcomes", dict).items()
            }
            results = {
                key(task): self._value(it, f"{at}.results.{task}")
                for task, it in part(facts, at, "results", dict).items()
            }
            errors = part(facts, at, "errors", dict)
            failed = {
                key(task): cast(
                    BaseException, self._error(errors, f"{at}.errors", task)
                )
                for task in errors
            }
            error.outcomes, error.results, error.errors = outcomes, results, failed
            error.args = (*error.args[:2], outcomes, results, failed)


_LATEST = 253_402_300_800  # the end of the year 9999, beyond which there are no dates


# What stands for itself, without anything inside; None where it is no such thing.
_PLAIN_MARKS: dict[str, Callable[[Any], Any]] = {
    "$repr": lambda it: Omitted(it) if isinstance(it, str) else None,
    "$float": lambda it: float(it) if it in ("nan", "inf", "-inf") else None,
    "$outcome": lambda it: Outcome(it) if it in tuple(Outcome) else None,
}


def _index(task: str, at: str) -> Any:
    """Give the index of an item, which is the key of it where it failed."""
    if not task.isdecimal():
        raise TranscriptError(f"{at} of the transcript has an item {task!r:.60}")
    return int(task)


def _new_error(facts: Any, at: str) -> BaseException:
    name, text = part(facts, at, "type", str), part(facts, at, "text", str)
    if OURS.get(name) is FailStepError and "reason" in facts:
        error = part(facts, at, "error", str)
        return FailStepError(text, error, part(facts, at, "reason", str | None))
    if name not in OURS or "step" not in facts:  # which one from afar has lost
        return RemoteError(f"{name}: {text}" if text else name, name, text)
    step = part(facts, at, "step", str)
    if OURS[name] is ParallelStepExecutionError:
        return ParallelStepExecutionError(text, step, {}, {}, {})
    ours: StepExecutionError = OURS[name](text, step)
    return ours


def _refuse_circles(facts: list[Any]) -> None:
    ended: set[int] = set()  # from where a chain has been followed to its end
    for index in range(len(facts)):
        chain: set[int] = set()
        number: int | None = index
        while number is not None and number not in ended:
            if number in chain:
                text = f"errors[{index}] of the transcript causes itself"
                raise TranscriptError(text)
            chain.add(number)
            number = facts[number]["cause"]
        ended |= chain
