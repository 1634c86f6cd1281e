"""The command ``stepfunction``: run, check, draw and list workflows from a shell.

The answer goes to standard output, alone: whatever the workflow itself prints there
arrives on standard error, beside all that is for people.
"""

from __future__ import annotations

import atexit
import codecs
import json
import os
import sys
import threading
from argparse import Namespace
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, redirect_stdout
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, TextIO

from stepfunction.cli.arguments import FORMATS, parse
from stepfunction.cli.complaints import (
    GREEN,
    RED,
    colored,
    list_failures,
    say,
    show_failure,
    show_traceback,
)
from stepfunction.cli.projects import places_of_project
from stepfunction.cli.targets import Places, TargetError, build
from stepfunction.core.errors import (
    CompensationError,
    DefinitionError,
    ExecutionCancelledError,
    ExecutionTimeoutError,
    StepExecutionError,
    StepFunctionError,
    TranscriptError,
    WorkerStartError,
)
from stepfunction.core.history.execution import Execution
from stepfunction.core.outcomes import Outcome, Status
from stepfunction.core.transcript.values import ValueWriter
from stepfunction.core.wording import counted, duration_text, error_text

if TYPE_CHECKING:
    from stepfunction.core.step_function import StepFunction
    from stepfunction.core.watching.events import Event, Listener

DONE, FAILED, WRONG_USE, INTERRUPTED = 0, 1, 2, 130
_NO_WORKFLOWS = "no app has workflows"
_SUFFIXES = {"txt": "text", "gv": "dot", "mmd": "mermaid"}


class Refusal(Exception):
    """The command cannot do what it is asked; the message says what to change."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        argv: The arguments; None for those of this program.

    Returns:
        The exit code: 0 for done, 1 if the workflow failed, 2 for wrong use, 130 if
        it was interrupted.

    Raises:
        SystemExit: With 0 where only help or the version is asked for, with 2 where
            the arguments cannot be read.
    """
    # What was closed is open to nobody; the first free numbers are those of these.
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            nowhere = os.open(os.devnull, os.O_RDWR)
            stream = open(nowhere, mode, encoding="utf-8", closefd=False)
            setattr(sys, name, stream)
    try:
        args = parse(sys.argv[1:] if argv is None else argv)
    except KeyboardInterrupt:
        return INTERRUPTED
    return carry_out(args, is_program=argv is None)


def carry_out(
    args: Namespace,
    places: Places | None = None,
    *,
    is_program: bool,
    is_alone: bool = True,
    out: TextIO | None = None,
) -> int:
    """Do what the arguments of a command ask for.

    Args:
        args: What a parser read that ``add_arguments`` has told of them.
        places: Where targets are looked for; None for modules and files, and where
            the environment names settings of Django, in its apps.
        is_program: Whether this is all that the process does, which then ends.
        is_alone: Whether standard output is for the answer alone.
        out: Where the answer goes; None for standard output.

    Returns:
        The exit code, as of ``main``.
    """
    args.out = out
    try:
        with _stdout_for_the_answer() if is_alone else nullcontext():
            code, answer = _obey(args, places)
        try:
            _write(answer, sys.stdout if out is None else out)
        except OSError as error:  # as of a full disk
            say(f"stepfunction: the answer cannot be written: {error.strerror}")
            code = code or WRONG_USE
        return code
    except KeyboardInterrupt:
        say("stepfunction: interrupted")
        if is_program and _is_held_up():
            atexit._run_exitfuncs()  # as on every way out, but for the wait
            os._exit(INTERRUPTED)
        return INTERRUPTED


def _obey(args: Namespace, places: Places | None) -> tuple[int, str | bytes]:
    """Do what is asked, and give the exit code and what to write."""
    try:
        if args.command != "report":  # which imports nothing of the user's
            args.places = places or places_of_project() or Places()
        return _COMMANDS[args.command](args)
    except (Refusal, StepFunctionError) as error:
        say(f"stepfunction: {error}")
    except TargetError as error:
        say(f"stepfunction: {error}")
        show_traceback(error.__cause__)
    except OSError as error:  # of the files that are named on the command line
        where = "" if error.filename is None else f"{error.filename}: "
        say(f"stepfunction: {where}{error.strerror or error}")
    return WRONG_USE, ""


@contextmanager
def _stdout_for_the_answer() -> Iterator[None]:
    """Lead what is printed here, and by child processes, to standard error."""
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        with redirect_stdout(sys.stderr):
            yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)


def _write(answer: str | bytes, out: TextIO) -> None:
    try:
        if isinstance(answer, bytes):
            out.buffer.write(answer)
        else:
            encoding = getattr(out, "encoding", None) or "utf-8"
            out.write(answer.encode(encoding, "backslashreplace").decode(encoding))
        out.flush()
    except BrokenPipeError:  # whoever reads, as head does, has read enough
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


def _is_held_up() -> bool:
    """Tell whether a thread that nobody can stop would delay the end of the program."""
    here = threading.current_thread()
    others = (thread for thread in threading.enumerate() if thread is not here)
    return not all(thread.daemon for thread in others)


# --- run ----------------------------------------------------------------------------


def _run(args: Namespace) -> tuple[int, str]:
    value = _read_input(args.input)
    if args.report is not None:
        _refuse_unwritable(args.report)
    workflow = args.places.load(args.target)
    execution, failure = _execute(workflow, value, args)
    if execution is None:
        return FAILED, ""
    if not args.progress:  # which has told it
        _tell_the_end(execution)
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
    has_utf8 = codecs.lookup(_output(args).encoding or "utf-8").name == "utf-8"
    output = _AnswerWriter().write(execution.output)
    return json.dumps(output, ensure_ascii=not has_utf8) + "\n"


def _execute(
    workflow: StepFunction, value: Any, args: Namespace
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
        return workflow.execute(value, check=True, listeners=listeners, **options), None
    except (
        CompensationError,
        StepExecutionError,
        ExecutionTimeoutError,
        ExecutionCancelledError,
    ) as error:
        return error.execution, error
    except WorkerStartError as error:
        if error.execution is None:  # it did not begin
            raise
        return error.execution, error
    except KeyboardInterrupt:
        if begun and begun[0] is not None:  # to see how far it came
            _write_report(begun[0], args.report)
        raise
    except SystemExit as error:
        say(f"stepfunction: a step ended the program: {error_text(error)}")
        show_traceback(error)
        return None, None


def _tell_the_end(execution: Execution) -> None:
    steps = sum(record.part is None for record in execution.history)
    is_done = execution.status is Status.COMPLETED
    status = colored(str(execution.status), GREEN if is_done else RED, sys.stderr)
    took = duration_text(execution.duration)
    say(f"{execution.workflow!r} {status} after {counted(steps, 'step')} in {took}")
    # The failure that ended it is told of by itself.
    last = None if is_done else execution.blame
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


def _read_input(given: str | None) -> Any:
    if given is None:
        return None
    text: str | bytes = given
    if given == "-":
        text = sys.stdin.buffer.read()
    elif given.startswith("@"):
        text = Path(given[1:]).read_bytes()
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        hint = "" if text != given else "; a file is named as @FILE, a text is quoted: "
        hint = hint and hint + "'\"text\"'"
        raise Refusal(f"--input is no JSON: {error}{hint}") from None


def _refuse_unwritable(file: str) -> None:
    """Refuse a file before the run whose report could not be kept."""
    folder = Path(file).absolute().parent
    if not os.access(folder, os.W_OK) or Path(file).is_dir():
        raise Refusal(f"{file!r} cannot be written; name a file in a folder that can")


def _write_report(execution: Execution, file: str) -> bool:
    try:
        say(f"report: {execution.report(file)}")
    except OSError as error:
        say(f"stepfunction: the report cannot be written: {error}")
        return False
    return True


class _AnswerWriter(ValueWriter):
    """Writes an output, with the marks of ``Execution.to_dict()``.

    Tuples become lists, and all mappings of texts, or of outcomes, objects.
    """

    def other(self, value: Any, at: tuple[Any, ...]) -> Any:
        """Write what JSON has not."""
        if isinstance(value, Mapping | list | tuple):
            return self.inside(value, at)
        return super().other(value, at)

    def container(self, value: Any, at: tuple[Any, ...]) -> Any:
        """Write what has other values inside."""
        if not isinstance(value, Mapping):
            return super().container(list(value), at)
        names = (str(key) if type(key) is Outcome else key for key in value)
        return super().container(dict(zip(names, value.values())), at)


def _output(args: Namespace) -> TextIO:
    """Give where the answer goes, also while standard output is kept for it."""
    return args.out or sys.__stdout__ or sys.stdout


# --- check, graph, report, list -----------------------------------------------------


def _check(args: Namespace) -> tuple[int, str]:
    found: dict[str, list[str]] = {}
    for given in args.targets or args.places.inside(None):  # all of a project
        found |= _checked(given, args.places)
    if not found:
        say(_NO_WORKFLOWS)
    answer = ""
    for target, problems in found.items():
        if not problems:
            answer += f"{target}: {colored('ok', GREEN, _output(args))}\n"
            continue
        count = counted(len(problems), "problem")
        say(f"{target}: {colored(count, RED, sys.stderr)}")
        for problem in problems:
            say(f"  - {problem}")
    return (WRONG_USE if any(found.values()) else DONE), answer


def _checked(given: str, places: Places) -> dict[str, list[str]]:
    """Give the problems of a target, or of each workflow of a module."""
    target = given
    found: dict[str, list[str]] = {}
    try:
        for target in places.expand(given):
            found[target] = _problems(places.one(target))
    except TargetError as error:
        found[target] = [str(error)]
        if isinstance(cause := error.__cause__, DefinitionError):
            found[target] = [f"{cause.args[0]}: {text}" for text in cause.problems]
    return found


def _problems(workflow: StepFunction) -> list[str]:
    try:
        graph = workflow.compile()
    except DefinitionError as error:
        return list(error.problems)
    from stepfunction.cli.lookalikes import lookalikes
    from stepfunction.cli.rehearsal import rehearse

    return [*rehearse(graph), *lookalikes(graph)]


def _graph(args: Namespace) -> tuple[int, str | bytes]:
    kind = args.format
    if kind is None and args.output not in (None, "-"):
        ending = Path(args.output).suffix[1:].lower()
        kind = _SUFFIXES.get(ending, ending)
        if kind not in FORMATS:
            raise Refusal(
                f"{args.output!r} does not end in the name of a format; "
                f"give --format as one of {', '.join(FORMATS)}"
            )
    answer = _drawn(args.places.load(args.target), kind or "text")
    if args.output in (None, "-"):
        if isinstance(answer, bytes):
            out = _output(args)
            if out.isatty() or not hasattr(out, "buffer"):
                text = f"a terminal cannot show {kind}; name a file with -o FILE"
                raise Refusal(text)
        return DONE, answer
    data = answer if isinstance(answer, bytes) else answer.encode(errors="replace")
    Path(args.output).write_bytes(data)
    say(f"drawn: {args.output}")
    return DONE, ""


def _drawn(workflow: StepFunction, kind: str) -> str | bytes:
    if kind == "text":
        from stepfunction.drawing.tree import to_tree

        return to_tree(workflow.compile())
    if kind == "mermaid":
        return workflow.to_mermaid().rstrip("\n") + "\n"
    if kind == "dot":
        return workflow.to_dot().rstrip("\n") + "\n"
    with TemporaryDirectory() as folder:
        picture = Path(workflow.visualize(Path(folder, "picture"), kind)).read_bytes()
    return picture.decode() if kind == "svg" else picture


def _report(args: Namespace) -> tuple[int, str]:
    is_piped = args.run == "-"
    text = sys.stdin.buffer.read() if is_piped else Path(args.run).read_bytes()
    try:
        execution = Execution.from_json(text)
    except TranscriptError as error:
        raise Refusal(f"{args.run}: {error}") from None
    if args.output == "-":
        raise Refusal("a report is written into a file; name one with -o FILE")
    say(f"report: {execution.report(args.output)}")
    return DONE, ""


def _list(args: Namespace) -> tuple[int, str]:
    code, rows = DONE, []
    for target, source in args.places.inside(args.module).items():
        try:
            workflow = build(target, source)
        except TargetError as error:  # the others are there all the same
            say(f"stepfunction: {error}")
            code = WRONG_USE
            continue
        rows.append((target, workflow.name, counted(len(workflow.steps), "step")))
    if not rows and code == DONE:
        say(f"{args.module} has no workflows" if args.module else _NO_WORKFLOWS)
    first, second = (max((len(row[at]) for row in rows), default=0) for at in (0, 1))
    lines = (f"{target:<{first}}  {name:<{second}}  {n}\n" for target, name, n in rows)
    return code, "".join(lines)


_COMMANDS: dict[str, Callable[[Namespace], tuple[int, str | bytes]]] = {
    "run": _run,
    "check": _check,
    "graph": _graph,
    "report": _report,
    "list": _list,
}
