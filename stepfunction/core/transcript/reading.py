"""Reading: an execution out of its transcript.

Nothing that the text names is imported or called: exceptions come back as
``RemoteError``, functions as names that refuse to be called.
"""

from __future__ import annotations

from math import inf
from typing import Any, NoReturn

from stepfunction.core.errors import (
    FailStepError,
    StepExecutionError,
    StepLimitError,
    TranscriptError,
)
from stepfunction.core.history.execution import Execution, journal_of
from stepfunction.core.history.journal import Journal
from stepfunction.core.history.position import Blame
from stepfunction.core.history.records import Visit
from stepfunction.core.outcomes import Outcome, Status
from stepfunction.core.transcript.exceptions import read_exceptions
from stepfunction.core.transcript.graphs import read_graphs
from stepfunction.core.transcript.parts import NUMBER, Part, as_data, data_of
from stepfunction.core.transcript.values import ValueReader
from stepfunction.core.transcript.writing import FORMAT, VERSION
from stepfunction.core.wording import TOO_DEEP

_KEY = str | int  # of a task, or of an item
_LATEST = 253_402_300_800  # the end of the year 9999, beyond which there are no dates


def from_text(text: str | bytes) -> Execution:
    """Give the execution that a JSON text describes.

    Raises:
        TranscriptError: If the text is none that ``to_json`` has written.
    """
    if not isinstance(text, str | bytes | bytearray):
        raise TranscriptError(
            "a transcript is the text that to_json() wrote, not "
            f"{type(text).__name__}; {_way(text)}"
        )
    try:
        document = data_of(text, "the transcript", parse_constant=_refuse_constant)
    except ValueError as error:
        raise TranscriptError(str(error)) from error.__cause__
    return from_document(document)


def from_data(document: Any) -> Execution:
    """Give the execution that data as of ``to_dict`` describes, whoever made it.

    Raises:
        TranscriptError: If it is no such data.
    """
    if not issubclass(type(document), dict):
        return from_document(document)  # which says what it is
    try:
        return from_document(as_data(document))
    except RecursionError:
        raise TranscriptError(f"the transcript has what is {TOO_DEEP}") from None


def _way(text: object) -> str:
    if isinstance(text, dict):
        return "from_dict() takes the dict that to_dict() gave"
    return "of a file give what is in it"


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"it has a bare {name}")


def from_document(document: Any) -> Execution:
    """Give the execution that data as of ``to_document`` describes, and no other.

    Raises:
        TranscriptError: If it is no such data.
    """
    if isinstance(document, str | bytes | bytearray):
        raise TranscriptError(
            "this is no transcript but a text; from_json() takes what to_json() wrote"
        )
    kind = document.get("format") if type(document) is dict else None
    if not isinstance(kind, str) or kind != FORMAT:
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
    whole = Part(document)
    try:
        return _Reader(whole).execution(whole.part("execution"))
    except RecursionError:
        raise TranscriptError(f"the transcript has what is {TOO_DEEP}") from None


def _end_of(visits: list[tuple[Visit, float]], blame: Blame | None) -> str | None:
    """Give the step after which an execution ended, which version 1 does not say.

    It came to no end if nothing took its last failure.
    """
    is_past_limit = blame is not None and isinstance(blame.error, StepLimitError)
    if not visits or is_past_limit:
        return None
    last, _ = visits[-1]
    is_taken = last.error is None or isinstance(last.error, FailStepError)
    return last.name if is_taken else None


class _Reader:
    def __init__(self, document: Part) -> None:
        self._graphs = read_graphs(document.part("graphs", list).parts())
        self._values = ValueReader([])
        errors = document.part("errors", list).parts()
        read_exceptions(list(errors), self._values)

    def execution(self, it: Part) -> Execution:
        """Read an execution."""
        timeout = it.get("timeout", NUMBER | None)
        forgotten = it.part("forgotten", int, 0)
        if forgotten.value < 0:
            forgotten.refuse("is no count")
        started = it.part("started", NUMBER)
        if not 0 <= started.value < _LATEST:
            started.refuse("is no date")
        blame = self._blame(it.part("blame", dict | None))
        visits = [
            (self._step(step), step.get("ended", NUMBER))
            for step in it.part("steps", list).parts()
        ]
        present = it.part("present", dict, None)
        return Journal.of(
            workflow=it.get("workflow", str),
            id=it.get("id", str),
            graph=it.pick("graph", self._graphs),
            started=started.value,
            duration=it.get("duration", NUMBER),
            timeout=inf if timeout is None else timeout,
            status=it.part("status").member(Status),
            input=self._value(it, "input"),
            output=self._value(it, "output"),
            error=self._error(it, "error"),
            blame=blame,
            visits=visits,
            present=None if present.value is None else self._step(present),
            forgotten=forgotten.value,
            results={
                one.path[-1]: self._values.read(one)
                for one in it.part("context", dict, {}).parts()
            },
            undone=tuple(map(self._undone, it.each("compensations"))),
            ended_at=it.get("ended_at", str | None, _end_of(visits, blame)),
        ).execution

    def _step(self, it: Part) -> Visit:
        return self._visit(it, it.get("step", str))

    def _visit(self, it: Part, name: Any) -> Visit:
        child, outcome = it.part("child", dict, None), it.part("outcome")
        return Visit(
            name,
            None if outcome.value is None else outcome.member(Outcome),
            tuple(self._ended(attempt) for attempt in it.each("attempts")),
            self._value(it, "output", None),
            self._error(it, "error", None),
            tuple(self._visit(one, one.get("task", _KEY)) for one in it.each("tasks")),
            None if child.value is None else journal_of(self.execution(child)),
            (self._value(it, "input"),) if "input" in it.value else None,
            it.get("began", NUMBER | None, None),
        )

    def _ended(self, it: Part) -> Any:
        outcome, error = it.part("outcome").member(Outcome), self._error(it, "error")
        return outcome, it.get("began", NUMBER), it.get("ended", NUMBER), error

    def _undone(self, it: Part) -> Visit:
        """Read what a compensation did, as it is noted: of a task inside its step's."""
        step, task = it.get("step", str), it.get("task", _KEY | None)
        ended = self._ended(it)
        outcome, *_, error = ended
        facts = ((ended,), self._value(it, "output"), error)
        given = (self._value(it, "input"),)
        visit = Visit(step if task is None else task, outcome, *facts, given=given)
        return visit if task is None else Visit(step, outcome, tasks=(visit,))

    def _blame(self, it: Part) -> Blame | None:
        if it.value is None:
            return None
        error, names_step = self._error(it, "error"), it.get("names_step", bool)
        if error is None or (names_step and not isinstance(error, StepExecutionError)):
            it.refuse("names no error of a step")
        return Blame(it.get("step", str), error, names_step)

    def _value(self, it: Part, key: str, default: Any = ...) -> Any:
        return self._values.read(it.part(key, object, default))

    def _error(self, it: Part, key: str, default: Any = ...) -> BaseException | None:
        error: BaseException | None = it.pick(key, self._values.errors, default)
        return error
