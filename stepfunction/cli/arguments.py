"""Arguments: what the command line understands, and its help."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from math import inf
from typing import Any

from stepfunction import __path__, __version__
from stepfunction.core.namesake import DISTRIBUTION, neighbour
from stepfunction.core.outcomes import Status
from stepfunction.core.wording import did_you_mean
from stepfunction.core.workers.executors import NAMES

FORMATS = ("text", "svg", "png", "pdf", "dot", "mermaid")

ABOUT = {
    "run": "run a workflow to its end",
    "resume": "go on with a stored execution that failed or died",
    "recover": "go on with all stored executions that died",
    "check": "name all that is wrong",
    "graph": "draw a workflow",
    "report": "make an HTML report of what run --json gave, or a store has",
    "list": "list the workflows of a module",
    "history": "list the executions of a store",
    "show": "show what a stored execution did",
    "prune": "lose stored executions that ended long ago",
}
EXAMPLES = {
    "": """\
a TARGET is package.module:workflow or path/file.py:workflow, where workflow is a
StepFunction, or a function without required parameters that returns one; without
:workflow it is the only one of its module; or a document, path/file.yaml or .json,
whose functions are those of --registry

examples:
  %(prog)s list orders.py
  %(prog)s check orders.py:checkout shop.flows:refund
  %(prog)s run orders.py:checkout --input '{"id": 17}'
  %(prog)s graph orders.py:checkout -o checkout.svg
  %(prog)s run checkout.yaml --registry orders.py:registry --input '{"id": 17}'

exit codes: 0 done, 1 the workflow failed, 2 wrong use, 130 interrupted""",
    "run": """\
The output goes to standard output as JSON. What the workflow prints itself, and how
it ended, goes to standard error.

examples:
  %(prog)s orders.py:checkout --input '{"id": 17}'
  %(prog)s orders.py:checkout --input @order.json --report run.html
  curl -s https://example.org/order | %(prog)s orders.py:checkout --input -
  %(prog)s orders.py:checkout --json > run.json
  %(prog)s orders.py:checkout --input @order.json --store runs.db --id order-17

With --store the execution is kept while it runs. The same line goes on with what was
killed, and gives again what has ended.""",
    "resume": """\
One that failed goes on from the step that failed, one that died from the first step
that is not stored. The rest is as with run.

examples:
  %(prog)s orders.py:checkout order-17 --store runs.db
  %(prog)s orders.py:checkout order-17 --store runs.db --answer '"paid by hand"'
  %(prog)s orders.py:checkout order-17 --store runs.db --start-at Pay""",
    "recover": """\
What became of each goes to standard output, a line each. What another process runs is
left to it. A module without :workflow stands for all that it has.

example:
  %(prog)s orders.py shop.flows:refund --store runs.db""",
    "check": """\
Beside all that execute() checks, functions of process steps are sent to a process, and
names of steps and keys of branches are compared for typing mistakes. No step is run.
A module without :workflow stands for all that it has.

examples:
  %(prog)s orders.py shop.flows:refund
  %(prog)s checkout.yaml --registry shop.functions:registry""",
    "graph": """\
Without --format it is what FILE ends in, else a tree of text.

examples:
  %(prog)s orders.py:checkout
  %(prog)s orders.py:checkout -o checkout.svg
  %(prog)s orders.py:checkout --format mermaid
  %(prog)s checkout.yaml --registry orders.py:registry""",
    "report": """\
examples:
  stepfunction run orders.py:checkout --json > run.json
  stepfunction report run.json -o run.html
  stepfunction report order-17 --store runs.db -o run.html""",
    "history": """\
The latest is the first. What has not ended and can be resumed has died, or was
interrupted. Ages are as 90s, 15m, 12h, 30d or 8w.

examples:
  %(prog)s --store runs.db
  %(prog)s --store runs.db --workflow Checkout --status FAILED --since 7d --json""",
    "show": """\
examples:
  %(prog)s order-17 --store runs.db
  %(prog)s order-17 --store runs.db --json > run.json""",
    "prune": """\
What has not ended is never lost. Ages are as 90s, 15m, 12h, 30d or 8w.

example:
  %(prog)s --store runs.db --older-than 30d --dry-run""",
    "list": """\
These are its StepFunctions, and its functions without required parameters that are
annotated to return one.

example:
  %(prog)s orders.py""",
}


class _ShowVersion(argparse.Action):
    """Say which distribution this is of, and where it lies."""

    def __init__(self, option_strings: Sequence[str], dest: str) -> None:
        about = "show which version this is, and where it lies, and exit"
        super().__init__(option_strings, argparse.SUPPRESS, 0, help=about)

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        print(f"{DISTRIBUTION} {__version__} from {__path__[0]}")
        if (problem := neighbour()) is not None:
            print(f"warning: {problem}", file=sys.stderr)
        parser.exit()


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """Read the arguments; ``command`` is the name of the command.

    Raises:
        SystemExit: With 0 where only help or the version is asked for, with 2 where
            the arguments cannot be read, which is then said with what may be meant.
    """
    parser = _new_parser(argparse.ArgumentParser, "", prog="stepfunction")
    parser.description = "Run, check and draw workflows."
    parser.add_argument("--version", action=_ShowVersion)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name in ABOUT:
        _add_command(commands, name)
    if argv and not argv[0].startswith("-") and argv[0] not in commands.choices:
        known = list(commands.choices)
        parser.error(
            f"there is no command {argv[0]!r}{did_you_mean(argv[0], known)}; "
            f"the commands are {', '.join(known)}"
        )
    args, unknown = parser.parse_known_args(argv)
    if unknown:
        options = re.findall(r"--[a-z-]+", args.parser.format_help())
        args.parser.error(
            f"there is no option {unknown[0]!r}{did_you_mean(unknown[0], options)}"
            if unknown[0].startswith("-")
            else f"{unknown[0]!r} is one argument too many"
        )
    return args


def _new_parser(make: Any, name: str, **facts: Any) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = make(
        **facts,
        epilog=EXAMPLES[name],
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    return parser


def _add_command(commands: Any, name: str) -> None:
    about = ABOUT[name]

    def make(**facts: Any) -> Any:
        return commands.add_parser(name, help=about, **facts)

    parser = _new_parser(make, name, description=f"{about[0].upper()}{about[1:]}.")
    add_arguments(parser, name)
    parser.set_defaults(parser=parser)


def add_arguments(parser: argparse.ArgumentParser, name: str) -> None:
    """Let a parser, of whatever program, read the arguments of a command.

    Args:
        parser: The parser.
        name: The name of the command, which will be ``command`` of what it reads.
    """
    _ADDERS[name](parser)
    parser.set_defaults(command=name)


def add_functions(parser: argparse.ArgumentParser) -> None:
    """Add where the functions of documents are."""
    parser.add_argument(
        "--registry",
        metavar="MODULE:NAME",
        help="the functions that a document names: a FunctionRegistry, or a mapping",
    )
    parser.add_argument(
        "--allow-imports",
        metavar="PACKAGE",
        action="append",
        default=[],
        help="a package that a document may import functions from; may be given again",
    )


def _add_target(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("target", metavar="TARGET", help="the workflow")


def _add_run(parser: argparse.ArgumentParser) -> None:
    _add_target(parser)
    parser.add_argument(
        "--input",
        metavar="JSON|@FILE|-",
        help="the input of the first step: JSON, the name of a file of it, or - for "
        "standard input; without it a default that its function has, else None",
    )
    _add_ways(parser)
    _add_store(parser, False, "keep the execution in this file while it runs")
    parser.add_argument("--id", help="what it is called there; else it gets a number")


def _add_ways(parser: argparse.ArgumentParser) -> None:
    """Add how a workflow is run, and what of it is given."""
    parser.add_argument(
        "--executor",
        type=_one_of("executor", NAMES),
        metavar="|".join(NAMES),
        help="where every step that has an executor runs, whatever it says itself",
    )
    parser.add_argument(
        "--timeout", type=_seconds, metavar="S", help="how many seconds it may take"
    )
    parser.add_argument(
        "--progress", action="store_true", help="show what runs (needs rich)"
    )
    parser.add_argument(
        "--report", metavar="FILE", help="write what happened as an HTML file"
    )
    parser.add_argument(
        "--json",
        action="store_true",
        help="give all that happened instead of the output, for the command report",
    )
    add_functions(parser)


def _add_store(parser: argparse.ArgumentParser, required: bool, about: str) -> None:
    parser.add_argument("--store", metavar="FILE", required=required, help=about)


def _add_resume(parser: argparse.ArgumentParser) -> None:
    _add_target(parser)
    parser.add_argument("id", metavar="ID", help="what the execution is called")
    _add_store(parser, True, "the file that has it")
    parser.add_argument(
        "--answer",
        metavar="JSON|@FILE|-",
        help="what the step that failed is taken to have given",
    )
    parser.add_argument(
        "--start-at", metavar="STEP", help="go back to the latest visit of this step"
    )
    parser.add_argument(
        "--allow-changed",
        action="store_true",
        help="go on also where the workflow is of another shape now",
    )
    _add_ways(parser)


def _add_recover(parser: argparse.ArgumentParser) -> None:
    _add_check(parser)
    _add_store(parser, True, "the file that has them")
    parser.add_argument(
        "--limit", type=_number, metavar="N", help="with how many to go on at most"
    )


def _add_history(parser: argparse.ArgumentParser) -> None:
    _add_store(parser, True, "the file that has them")
    parser.add_argument("--workflow", metavar="NAME", help="only those of a workflow")
    statuses = [str(status) for status in Status]
    parser.add_argument(
        "--status",
        type=_one_of("status", statuses),
        metavar="STATUS",
        help=f"only those that are {', '.join(statuses[:-1])} or {statuses[-1]}",
    )
    parser.add_argument(
        "--since", type=_age, metavar="AGE", help="only those that are no older"
    )
    parser.add_argument(
        "--limit", type=_number, metavar="N", help="how many at most"
    )
    parser.add_argument("--json", action="store_true", help="give them as JSON")


def _add_show(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("id", metavar="ID", help="what the execution is called")
    _add_store(parser, True, "the file that has it")
    parser.add_argument(
        "--json", action="store_true", help="give all of it, for the command report"
    )


def _add_prune(parser: argparse.ArgumentParser) -> None:
    _add_store(parser, True, "the file that has them")
    parser.add_argument(
        "--older-than",
        type=_age,
        metavar="AGE",
        required=True,
        help="how long ago they must have ended",
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="only say what would be lost"
    )


def _add_check(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "targets", nargs="+", metavar="TARGET", help="a workflow, or a module of them"
    )
    add_functions(parser)


def _add_graph(parser: argparse.ArgumentParser) -> None:
    _add_target(parser)
    parser.add_argument(
        "--format",
        type=_one_of("format", FORMATS),
        metavar="|".join(FORMATS),
        help="how to draw it",
    )
    parser.add_argument(
        "-o", "--output", metavar="FILE", help="where to; else to standard output"
    )
    add_functions(parser)


def _add_report(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "run",
        metavar="RUN.json|ID",
        help="what run --json gave; - for standard input; with --store an execution",
    )
    _add_store(parser, False, "the file that has the execution of that ID")
    parser.add_argument(
        "-o", "--output", metavar="FILE", required=True, help="the HTML file to write"
    )


def _add_list(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "module", metavar="MODULE", help="package.module or path/file.py"
    )
    add_functions(parser)


_ADDERS = {
    "run": _add_run,
    "resume": _add_resume,
    "recover": _add_recover,
    "check": _add_check,
    "graph": _add_graph,
    "report": _add_report,
    "list": _add_list,
    "history": _add_history,
    "show": _add_show,
    "prune": _add_prune,
}
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}


def _seconds(text: str) -> float:
    try:
        if 0 < (seconds := float(text)) < inf:
            return seconds
    except ValueError:
        pass
    raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds above 0")


def _age(text: str) -> float:
    number, unit = text[:-1], text[-1:]
    try:
        if (seconds := float(number) * _UNITS[unit]) >= 0:
            return seconds
    except (KeyError, ValueError):
        pass
    raise argparse.ArgumentTypeError(f"{text!r} is no age; give one as 12h or 30d")


def _number(text: str) -> int:
    if text.isdecimal():
        return int(text)
    raise argparse.ArgumentTypeError(f"{text!r} is no number")


def _one_of(what: str, known: Sequence[str]) -> Any:
    def check(text: str) -> str:
        if text in known:
            return text
        raise argparse.ArgumentTypeError(
            f"{text!r} is no {what}{did_you_mean(text, known)}; "
            f"give one of {', '.join(known)}"
        )

    return check
