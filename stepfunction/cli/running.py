"""Running: the commands that give what a workflow comes to: ``run``, ``resume``."""

from __future__ import annotations

import codecs
import json
import os
import stat
import sys
from argparse import Namespace
from collections.abc import Callable, Mapping
from functools import partial
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NoReturn, TextIO

from stepfunction.cli.complaints import (
    DONE,
    FAILED,
    GREEN,
    RED,
    WRONG_USE,
    Refusal,
    colored,
    complain,
    list_failures,
    say,
    show_failure,
    show_traceback,
)
from stepfunction.cli.stores import new_store, open_store
from stepfunction.core.errors import (
    CompensationError,
    ExecutionCancelledError,
    ExecutionTimeoutError,
    StepExecutionError,
    StepFunctionError,
    StoreError,
    WorkerStartError,
)
from stepfunction.core.history.execution import Execution, journal_of
from stepfunction.core.history.journal import NOTHING
from stepfunction.core.outcomes import Outcome, Status
from stepfunction.core.raised import is_a
from stepfunction.core.transcript.values import ValueWriter
from stepfunction.core.wording import GIVEN_BACK, counted, duration_text, error_text

if TYPE_CHECKING:
    from stepfunction.core.watching.events import Event, Listener


def run(args: Namespace) -> tuple[int, str]:
    """Run a workflow to its end."""
    given = args.input
    value = NOTHING if given is None else _read_json("--input", given)
    if args.store is None and args.id is not None:
        raise Refusal("--id is that of a stored execution; name the store by --store")
    workflow = args.places.load(args.target)
    if args.store is None:
        return _carried_out(partial(workflow.execute, value), args)
    with new_store(args.store) as store:
        execute = partial(workflow.execute, value, store=store, execution_id=args.id)
        return _carried_out(execute, args)


def resume(args: Namespace) -> tuple[int, str]:
    """Go on with an execution that a store has."""
    options = {"start_at": args.start_at, "allow_changed": args.allow_changed}
    if args.answer is not None:
        options["answer"] = _read_json("--answer", args.answer)
    workflow = args.places.load(args.target)
    with open_store(args.store) as store:
        go_on = partial(workflow.resume, args.id, store=store, **options)
        return _carried_out(go_on, args)


def _carried_out(
    execute: Callable[..., Execution], args: Namespace
) -> tuple[int, str]:
    if args.report is not None:
        _refuse_unwritable(args.report)
    execution, failure = _execute(execute, args)
    if execution is None:
        return FAILED, ""
    if not args.progress:  # which has told it
        _tell_the_end(execution)
    if journal_of(execution).is_given_back:
        say(f"it had ended before: {GIVEN_BACK}")
    if args.store is not None and args.id is None:
        say(f"stored as {execution.id}")
    if failure is not None:
        show_failure(failure)
    code = DONE if failure is None else FAILED
    if args.report is not None and not _write_report(execution, args.report):
        code = code or WRONG_USE
    return code, _answer(execution, args)


def _answer(execution: Execution, args: Namespace) -> str:
    if args.json:
        return execution.to_json() + "\n"
    if execution.output is None and execution.status is not Status.COMPLETED:
        return ""
    # An escape is right in every encoding, and hard to read.
    has_utf8 = codecs.lookup(output_of(args).encoding or "utf-8").name == "utf-8"
    output = _AnswerWriter().write(execution.output)
    text = json.dumps(output, ensure_ascii=not has_utf8)
    if not text.isprintable():  # and a terminal might take it for an order
        letters = (it if it.isprintable() else json.dumps(it)[1:-1] for it in text)
        text = "".join(letters)
    return text + "\n"


def _execute(
    execute: Callable[..., Execution], args: Namespace
) -> tuple[Execution | None, StepFunctionError | None]:
    """Run the workflow and give the execution, if there is one, and how it failed."""
    begun: list[Execution | None] = []

    def keep(event: Event) -> None:
        if not begun:
            begun.append(event.execution)

    listeners: list[Listener] = [] if args.report is None else [keep]
    if args.progress:
        listeners.append(_new_progress())
    options = {"executor": args.executor, "timeout": args.timeout}
    try:
        return execute(check=True, listeners=listeners, **options), None
    except (
        CompensationError,
        StepExecutionError,
        ExecutionTimeoutError,
        ExecutionCancelledError,
    ) as error:
        return error.execution, error
    except (WorkerStartError, StoreError) as error:
        if error.execution is None:  # it did not begin
            raise
        return error.execution, error
    except BaseException as error:
        if not _tell_of_interrupt(error, begun[0] if begun else None, args):
            raise
        return None, None


def _tell_of_interrupt(
    error: BaseException, execution: Execution | None, args: Namespace
) -> bool:
    """Tell what ended an execution that is no failure; say whether that was all."""
    if is_a(error, KeyboardInterrupt):
        if execution is not None:  # to see how far it came
            _write_report(execution, args.report)
        if args.store is not None:
            say("what is stored can be resumed")
        return False
    if is_a(error, Exception):
        return False
    complain(f"a step ended the program: {error_text(error)}")
    show_traceback(error)
    return True


def _tell_the_end(execution: Execution) -> None:
    steps = sum(record.part is None for record in execution.history)
    is_done = execution.status is Status.COMPLETED
    status = colored(str(execution.status), GREEN if is_done else RED, sys.stderr)
    took = duration_text(execution.duration)
    say(f"{execution.workflow!r} {status} after {counted(steps, 'step')} in {took}")
    # The failure that ended it is told of by itself.
    last = None if is_done else journal_of(execution).blame
    list_failures(
        record
        for record in execution.failures
        if last is None or record.error is not last.error
    )


def _new_progress() -> Listener:
    try:
        from stepfunction.progress import RichProgress
    except ModuleNotFoundError as error:  # which says what to install
        raise Refusal(str(error)) from None
    return RichProgress()


def _read_json(option: str, given: str) -> Any:
    text: str | bytes = given
    if given == "-" or given.startswith("@"):
        text = content_of(None if given == "-" else given[1:])
    try:
        return json.loads(text, parse_constant=_refuse_number, parse_float=_number)
    except (ValueError, RecursionError) as error:
        hint = "" if text != given else "; a file is named as @FILE, a text is quoted: "
        hint = hint and hint + "'\"text\"'"
        raise Refusal(f"{option} is no JSON: {error}{hint}") from None


def content_of(file: str | None) -> bytes:
    """Give what is in a file that a command line names; None for standard input."""
    if file is None:
        return _content(sys.stdin.buffer, "standard input")
    with open(file, "rb") as source:
        return _content(source, repr(file))


def _content(source: BinaryIO, name: str) -> bytes:
    try:
        number = source.fileno()
    except OSError:  # it is no file
        return source.read()
    if stat.S_ISCHR(os.fstat(number).st_mode) and not os.isatty(number):
        if source.read(1):
            raise Refusal(f"{name} is a device, which may have no end")
    return source.read()


def _refuse_number(text: str) -> NoReturn:
    raise ValueError(f"JSON has no {text}")


def _number(text: str) -> float:
    number = float(text)
    if not isfinite(number):
        raise ValueError(f"{text:.40} is larger than any number here")
    return number


def _refuse_unwritable(file: str) -> None:
    """Refuse a file before the run whose report could not be kept."""
    folder = Path(file).absolute().parent
    if not os.access(folder, os.W_OK) or Path(file).is_dir():
        raise Refusal(f"{file!r} cannot be written; name a file in a folder that can")


def _write_report(execution: Execution, file: str) -> bool:
    try:
        say(f"report: {execution.report(file)}")
    except OSError as error:
        complain(f"the report cannot be written: {error}")
        return False
    return True


class _AnswerWriter(ValueWriter):
    """Writes an output, with the marks of ``Execution.to_dict()``.

    Tuples become lists, and all mappings of texts, or of outcomes, objects.
    """

    def other(self, value: Any, at: tuple[Any, ...]) -> Any:
        """Write what JSON has not."""
        if issubclass(type(value), (Mapping, list, tuple)):
            return self.inside(value, at)
        return super().other(value, at)

    def container(self, value: Any, at: tuple[Any, ...]) -> Any:
        """Write what has other values inside."""
        kind = type(value)
        if issubclass(kind, (list, tuple)):
            value = list(value)
        if not issubclass(kind, Mapping):
            return super().container(value, at)
        names = (str(key) if type(key) is Outcome else key for key in value)
        return super().container(dict(zip(names, value.values())), at)


def output_of(args: Namespace) -> TextIO:
    """Give where the answer goes, also while standard output is kept for it."""
    return args.out or sys.__stdout__ or sys.stdout
