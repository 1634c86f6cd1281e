"""The command ``stepfunction``: run, check, draw and list workflows from a shell.

The answer goes to standard output, alone: whatever the workflow itself prints there
arrives on standard error, beside all that is for people.
"""

from __future__ import annotations

import atexit
import os
import sys
import threading
from argparse import Namespace
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, redirect_stdout, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, TextIO

from stepfunction.cli.arguments import FORMATS, parse
from stepfunction.cli.complaints import (
    DONE,
    GREEN,
    INTERRUPTED,
    RED,
    WRONG_USE,
    Refusal,
    colored,
    complain,
    in_line,
    say,
    show_traceback,
)
from stepfunction.cli.projects import places_of_project
from stepfunction.cli.running import content_of, output_of, resume, run
from stepfunction.cli.silences import silences
from stepfunction.cli.stored import history, prune, recover, show
from stepfunction.cli.stores import open_store
from stepfunction.cli.targets import Places, TargetError, build
from stepfunction.core.errors import (
    DefinitionError,
    StepFunctionError,
    TranscriptError,
)
from stepfunction.core.history.execution import Execution
from stepfunction.core.namesake import neighbour
from stepfunction.core.raised import is_a
from stepfunction.core.wording import counted

if TYPE_CHECKING:
    from stepfunction.core.step_function import StepFunction

_WITHOUT_PLACES = ("report", "history", "show", "prune")  # they import nothing
_NO_WORKFLOWS = "no app has workflows"
_SUFFIXES = {"txt": "text", "gv": "dot", "mmd": "mermaid"}


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
    taken = None
    if is_alone and is_program and out is None:
        out = taken = _stdout_taken_away()
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
    finally:
        if taken is not None:
            with suppress(OSError):
                taken.close()


def _obey(args: Namespace, places: Places | None) -> tuple[int, str | bytes]:
    """Do what is asked, and give the exit code and what to write."""
    try:
        if args.command not in _WITHOUT_PLACES:
            args.places = places or places_of_project() or Places()
            args.places.registry = args.registry
            args.places.allow_imports = args.allow_imports
        return _COMMANDS[args.command](args)
    except (Refusal, StepFunctionError) as error:
        complain(error)
    except TargetError as error:
        complain(error)
        show_traceback(error.__cause__)
    except OSError as error:  # of the files that are named on the command line
        where = "" if error.filename is None else f"{error.filename}: "
        complain(f"{where}{error.strerror or error}")
    return WRONG_USE, ""


def _stdout_taken_away() -> TextIO | None:
    """Give standard output to the answer alone, until the program has ended.

    What is printed later, as by handlers at exit, goes to standard error.
    """
    true = sys.stdout
    try:
        if true.fileno() != 1:
            return None
    except (OSError, ValueError):  # it is no file
        return None
    true.flush()
    out = open(os.dup(1), "w", encoding=true.encoding, errors=true.errors)
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    return out


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
        os.dup2(nowhere, out.fileno())
        os.close(nowhere)


def _is_held_up() -> bool:
    """Tell whether a thread that nobody can stop would delay the end of the program."""
    here = threading.current_thread()
    others = (thread for thread in threading.enumerate() if thread is not here)
    return not all(thread.daemon for thread in others)


# --- check, graph, report, list -----------------------------------------------------


def _check(args: Namespace) -> tuple[int, str]:
    found: dict[str, list[str]] = {}
    notes: dict[str, list[str]] = {}
    for given in args.targets or args.places.inside(None):  # all of a project
        found |= _checked(given, args.places, notes)
    if not found:
        say(_NO_WORKFLOWS)
    if (problem := neighbour()) is not None:
        say(f"warning: {problem}")
    answer = ""
    for target, problems in found.items():
        if not problems:
            answer += f"{in_line(target)}: {colored('ok', GREEN, output_of(args))}\n"
            for note in notes.get(target, ()):
                say(f"{in_line(target)}: note: {in_line(note)}")
            continue
        count = counted(len(problems), "problem")
        say(f"{in_line(target)}: {colored(count, RED, sys.stderr)}")
        for problem in problems:
            say(f"  - {in_line(problem)}")
    return (WRONG_USE if any(found.values()) else DONE), answer


def _checked(
    given: str, places: Places, notes: dict[str, list[str]]
) -> dict[str, list[str]]:
    """Give the problems of a target, or of each workflow of a module, and note more."""
    target = given
    found: dict[str, list[str]] = {}
    try:
        for target in places.expand(given):
            workflow = places.one(target)
            found[target] = _problems(workflow)
            if not found[target]:
                notes[target] = list(silences(workflow.compile()))
    except TargetError as error:
        found[target] = [str(error)]
        if is_a(cause := error.__cause__, DefinitionError):
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
            out = output_of(args)
            if out.isatty() or not hasattr(out, "buffer"):
                text = f"a terminal cannot show {kind}; name a file with -o FILE"
                raise Refusal(text)
        return DONE, answer
    data = answer if isinstance(answer, bytes) else answer.encode(errors="replace")
    Path(args.output).write_bytes(data)
    say(f"drawn: {in_line(args.output)}")
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
    if args.output == "-":
        raise Refusal("a report is written into a file; name one with -o FILE")
    if args.store is not None:
        with open_store(args.store) as store:
            say(f"report: {store.load(args.run).report(args.output)}")
        return DONE, ""
    text = content_of(None if args.run == "-" else args.run)
    try:
        execution = Execution.from_json(text)
    except TranscriptError as error:
        raise Refusal(f"{args.run}: {error}") from None
    say(f"report: {execution.report(args.output)}")
    return DONE, ""


def _list(args: Namespace) -> tuple[int, str]:
    from stepfunction.drawing.tree import told

    code, rows = DONE, []
    for target, source in args.places.inside(args.module).items():
        try:
            workflow = build(target, source)
        except TargetError as error:  # the others are there all the same
            complain(error)
            code = WRONG_USE
            continue
        count = told(counted(len(workflow.steps), "step"), workflow.description)
        rows.append((in_line(target), in_line(workflow.name), count))
    if not rows and code == DONE:
        say(f"{args.module} has no workflows" if args.module else _NO_WORKFLOWS)
    first, second = (max((len(row[at]) for row in rows), default=0) for at in (0, 1))
    lines = (f"{target:<{first}}  {name:<{second}}  {n}\n" for target, name, n in rows)
    return code, "".join(lines)


_COMMANDS: dict[str, Callable[[Namespace], tuple[int, str | bytes]]] = {
    "run": run,
    "resume": resume,
    "recover": recover,
    "check": _check,
    "graph": _graph,
    "report": _report,
    "list": _list,
    "history": history,
    "show": show,
    "prune": prune,
}
