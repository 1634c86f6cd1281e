"""Exceptions: as a transcript has them, in a table, for one is met in many places.

An exception comes back as a ``RemoteError``; those of ours that say which step failed,
or how one ended it, come back as what they were.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from stepfunction.core import raised
from stepfunction.core.errors import (
    FailStepError,
    ParallelStepExecutionError,
    RemoteError,
    RemoteTraceback,
    StepExecutionError,
    StepLimitError,
)
from stepfunction.core.outcomes import Outcome
from stepfunction.core.raised import is_a
from stepfunction.core.transcript.kinds import name_of
from stepfunction.core.transcript.parts import Part
from stepfunction.core.transcript.shortening import ShorteningWriter
from stepfunction.core.transcript.values import Redact, ValueReader, ValueWriter
from stepfunction.core.wording import error_text, traceback_text

_OURS: dict[str, Any] = {
    f"{it.__module__}.{it.__qualname__}": it
    for it in (
        StepExecutionError,
        ParallelStepExecutionError,
        StepLimitError,
        FailStepError,
    )
}


class ExceptionWriter:
    """Writes exceptions into a table, and the values in which they are met.

    Args:
        redact: Gives what to write in the place of each value and text.
        most: How many characters of a value to write, or about so many; None for all.

    Attributes:
        values: What writes the values.
    """

    def __init__(self, redact: Redact | None, most: int | None = None) -> None:
        if most is None:
            self.values = ValueWriter(redact, self._number)
        else:
            self.values = ShorteningWriter(redact, self._number, most)
        self._found: list[tuple[BaseException, str]] = []  # and where it was met first
        self._numbers: dict[int, int] = {}  # by id

    def number(self, error: BaseException | None, step: str) -> int | None:
        """Give the place of an exception that was met in a step; None for None."""
        return None if error is None else self._number(error, step)

    def _number(self, error: BaseException, step: str) -> int:
        number = self._numbers.setdefault(id(error), len(self._found))
        if number == len(self._found):
            self._found.append((error, step))
        return number

    def table(self) -> list[dict[str, Any]]:
        """Give the exceptions, and those that are found with them."""
        return [self._facts(error, step) for error, step in self._found]

    def _facts(self, error: BaseException, step: str) -> dict[str, Any]:
        said, trace = text_of(error), traceback_of(error)
        text = str(self.values.redacted(said, (step, "error")))
        if trace is not None:
            # It ends with the text, which is not to slip through here.
            trace = trace.replace(said, text) if said else trace
            trace = str(self.values.redacted(trace, (step, "traceback")))
        facts: dict[str, Any] = {
            "type": type_name(error),
            "text": text,
            "traceback": trace,
            "cause": self.number(cause_of(error), step),
        }
        if is_a(error, FailStepError) and is_ours(error):
            # What is hidden of the text is hidden of its parts.
            facts["error"] = error.error if text == said else text
            facts["reason"] = error.cause if text == said else None
        elif is_a(error, StepExecutionError) and is_ours(error):
            facts["step"] = error.step
            if is_a(error, ParallelStepExecutionError):
                facts |= self._tasks(error)
        return facts

    def _tasks(self, error: ParallelStepExecutionError) -> dict[str, Any]:
        step = error.step
        outcomes: Any = error.outcomes  # of a map step the keys are indexes
        return {
            "are_items": any(type(key) is int for key in outcomes),
            "outcomes": {str(key): it.value for key, it in outcomes.items()},
            "results": {
                str(task): self.values.write(result, (f"{step}.{task}", "output"))
                for task, result in error.results.items()
            },
            "errors": {
                str(task): self.number(failure, f"{step}.{task}")
                for task, failure in error.errors.items()
            },
        }


def read_exceptions(table: list[Part], values: ValueReader) -> None:
    """Read a table of exceptions into that of a reader of values.

    Raises:
        TranscriptError: If it is none.
    """
    values.errors += map(_unlinked, table)
    for error, it in zip(values.errors, table):
        _link(error, it, values)
    ended: set[int] = set()  # from where a chain has been followed to its end
    for index, it in enumerate(table):
        chain: set[int] = set()
        number: int | None = index
        while number is not None and number not in ended:
            if number in chain:
                it.refuse("causes itself")
            chain.add(number)
            number = table[number].value["cause"]
        ended |= chain


def _unlinked(it: Part) -> BaseException:
    """Give an exception without others that are found with it."""
    name, text = it.get("type", str), it.get("text", str)
    ours = _OURS.get(name)
    if ours is FailStepError and "reason" in it.value:
        return FailStepError(text, it.get("error", str), it.get("reason", str | None))
    if ours is None or "step" not in it.value:  # which one from afar has lost
        return RemoteError(f"{name}: {text}" if text else name, name, text)
    step = it.get("step", str)
    if ours is ParallelStepExecutionError:
        return ParallelStepExecutionError(text, step, {}, {}, {})
    error: StepExecutionError = ours(text, step)
    return error


def _link(error: BaseException, it: Part, values: ValueReader) -> None:
    cause, trace = it.pick("cause", values.errors), it.get("traceback", str | None)
    if is_a(error, StepExecutionError):
        # What it comes from is the step's own exception, and nothing before it.
        error.__dict__["_recorded_traceback"] = trace
    elif trace is not None:
        remote = RemoteTraceback(trace)
        remote.__cause__, cause = cause, remote
    error.__cause__ = cause
    if is_a(error, ParallelStepExecutionError):
        key = _index if it.get("are_items", bool, False) else _task
        parts = [it.part(name, dict) for name in ("outcomes", "results", "errors")]
        outcomes = {key(one): one.member(Outcome) for one in parts[0].parts()}
        results = {key(one): values.read(one) for one in parts[1].parts()}
        errors = {key(one): one.picked(values.errors) for one in parts[2].parts()}
        error.outcomes, error.results, error.errors = outcomes, results, errors
        error.args = (*error.args[:2], outcomes, results, errors)


def _task(it: Part) -> Any:
    return it.path[-1]


def _index(it: Part) -> Any:
    """Give the index of an item, which is the key of it where it failed."""
    task = it.path[-1]
    if not task.isdecimal():
        it.refuse(f"has an item {task!r:.60}")
    return int(task)


def is_ours(error: BaseException) -> bool:
    """Tell whether an exception comes back as what it was."""
    kind = type(error)
    return any(it is kind for it in _OURS.values())


def type_name(error: BaseException) -> str:
    """Give the qualified name of an exception's class, of one that was read too."""
    if is_a(error, RemoteError):
        return error.type_name
    return name_of(type(error))


def text_of(error: BaseException) -> str:
    """Give what an exception says, of one that was read too."""
    if is_a(error, RemoteError):
        return error.text
    name = name_of(type(error)).rpartition(".")[2]
    return error_text(error).removeprefix(name).removeprefix(": ")


def traceback_of(error: BaseException) -> str | None:
    """Give the traceback of an exception alone, without those that it comes from."""
    cause = raised.cause_of(error)
    if is_a(cause, RemoteTraceback):
        return str(cause.args[0]) if cause.args else None
    recorded: str | None = None
    with suppress(Exception):  # of the user's, which may refuse to be asked
        recorded = getattr(error, "_recorded_traceback", None)
    if recorded is not None or raised.traceback_of(error) is None:
        return recorded
    return traceback_text(error, chain=False)


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
    cause = raised.cause_of(error)
    if is_a(cause, RemoteTraceback):
        return raised.cause_of(cause)
    return raised.shown_context_of(error) if cause is None else cause
