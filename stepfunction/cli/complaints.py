"""Complaints: what a person is told on standard error, and a shell by a code."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from traceback import StackSummary, TracebackException
from typing import Any, TextIO

from stepfunction.core.errors import (
    CompensationError,
    DefinitionError,
    ParallelStepExecutionError,
    RemoteTraceback,
    StepExecutionError,
)
from stepfunction.core.history.records import StepRecord
from stepfunction.core.raised import cause_of, is_a
from stepfunction.core.wording import (
    error_text,
    listed,
    one_line,
    subject,
    traceback_text,
)

DONE, FAILED, WRONG_USE, INTERRUPTED = 0, 1, 2, 130
GREEN, RED = "32", "31"
_MOST_LISTED, _NEXT_LINE = 20, "\n  "
_OUR_FOLDER = str(Path(__file__).parents[1]) + os.sep


class Refusal(Exception):
    """The command cannot do what it is asked; the message says what to change."""


def say(text: str) -> None:
    """Write a line on standard error, if anybody still reads it."""
    with suppress(BrokenPipeError):
        print(text, file=sys.stderr, flush=True)


def _harmless(text: str) -> str:
    """Give lines of the user's that send a terminal no orders."""
    return "\n".join(map(in_line, text.expandtabs().split("\n")))


def in_line(text: str) -> str:
    """Give a text of the user's that also stays in its line."""
    return one_line(text.replace("\x1b", "\N{SYMBOL FOR ESCAPE}"))


def complain(error: object) -> None:
    """Say why the command does not do what it was asked, in a line, or a line each."""
    text, cause = str(error), getattr(error, "__cause__", None)
    # The problems of a definition have a line each.
    if not isinstance(error, DefinitionError) and not is_a(cause, DefinitionError):
        text = in_line(text)
    say(f"stepfunction: {_harmless(text)}")


def colored(text: str, color: str, stream: TextIO) -> str:
    """Give a text in a color where a terminal shows it, unless NO_COLOR is set."""
    wanted = stream.isatty() and os.environ.get("TERM") != "dumb"
    if os.environ.get("NO_COLOR") or not (wanted or os.environ.get("FORCE_COLOR")):
        return text
    return f"\033[{color}m{text}\033[0m"


def list_failures(failures: Iterable[StepRecord]) -> None:
    """Say in a line each which steps and tasks failed on the way."""
    records = list(failures)
    if records:
        say(f"  {listed(records, _MOST_LISTED, _NEXT_LINE, _failure_text)}")


def _failure_text(record: StepRecord) -> str:
    assert record.error is not None
    what = subject(record.step, record.part)
    return f"{what} failed: {in_line(error_text(record.error))}"


def show_failure(failure: BaseException) -> None:
    """Write what went wrong, and the user's exceptions behind it with tracebacks."""
    say(in_line(str(failure)))
    for part, error in _behind(failure):
        if part is not None:
            say(f"\n{in_line(part)}:")
        show_traceback(error)


def _behind(
    error: BaseException, part: str | None = None
) -> Iterator[tuple[str | None, BaseException]]:
    """Give the user's exceptions behind our own, with the task or item they are of."""
    if is_a(error, ParallelStepExecutionError):
        parts: Mapping[Any, BaseException] = error.errors  # of items by their indexes
        for name, inner in parts.items():
            kind = "item" if type(name) is int else "task"
            inside = f"{kind} {name!r}"
            yield from _behind(inner, f"{part}, {inside}" if part else inside)
    elif is_a(error, CompensationError):
        if error.__cause__ is not None:
            yield from _behind(error.__cause__, part)
        for failure in error.exceptions:
            yield None, failure
    elif is_a(error, StepExecutionError) and error.__cause__ is not None:
        yield from _behind(error.__cause__, part)
    else:
        yield part, error


def show_traceback(error: BaseException | None) -> None:
    """Write an exception with those lines of its traceback that are the user's."""
    if error is None:
        return
    cause = cause_of(error)
    if cause is not None and is_a(cause, RemoteTraceback):  # all of it, and as text
        say(_harmless(str(cause.args[0]).rstrip("\n")))
        return
    try:
        traceback = TracebackException.from_exception(error)
        shown = _keep_theirs(traceback) or is_a(error, SyntaxError)
        text = "".join(traceback.format()) if shown else ""
    except Exception:  # as of an exception whose notes cannot be had
        text = traceback_text(error)
    if text:
        say(_harmless(text.rstrip("\n")))


def _keep_theirs(traceback: TracebackException) -> bool:
    """Leave out our frames and those of the import, and say whether others remain."""
    theirs = [frame for frame in traceback.stack if is_theirs(frame.filename)]
    traceback.stack = StackSummary.from_list(theirs)
    inside = [traceback.__cause__, traceback.__context__, *(traceback.exceptions or ())]
    found = [_keep_theirs(it) for it in inside if it is not None]
    return bool(theirs) or any(found)


def is_theirs(file: str) -> bool:
    """Tell the user's files from ours and the interpreter's."""
    return not file.startswith(("<frozen ", _OUR_FOLDER, importlib.__file__))
