"""Arguments: what the command line understands, and its help."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from typing import Any

from stepfunction import __version__
from stepfunction.core.wording import did_you_mean
from stepfunction.core.workers.executors import NAMES

FORMATS = ("text", "svg", "png", "pdf", "dot", "mermaid")

ABOUT = {
    "run": "run a workflow to its end",
    "check": "name all that is wrong",
    "graph": "draw a workflow",
    "report": "make an HTML report of what run --json gave",
    "list": "list the workflows of a module",
}
EXAMPLES = {
    "": """\
a TARGET is package.module:workflow or path/file.py:workflow, where workflow is a
StepFunction, or a function without required parameters that returns one; without
:workflow it is the only one of its module

examples:
  %(prog)s list orders.py
  %(prog)s check orders.py:checkout shop.flows:refund
  %(prog)s run orders.py:checkout --input '{"id": 17}'
  %(prog)s graph orders.py:checkout -o checkout.svg

exit codes: 0 done, 1 the workflow failed, 2 wrong use, 130 interrupted""",
    "run": """\
The output goes to standard output as JSON. What the workflow prints itself, and how
it ended, goes to standard error.

examples:
  %(prog)s orders.py:checkout --input '{"id": 17}'
  %(prog)s orders.py:checkout --input @order.json --report run.html
  curl -s https://example.org/order | %(prog)s orders.py:checkout --input -
  %(prog)s orders.py:checkout --json > run.json""",
    "check": """\
Beside all that execute() checks, functions of process steps are sent to a process, and
names of steps and keys of branches are compared for typing mistakes. No step is run.
A module without :workflow stands for all that it has.

example:
  %(prog)s orders.py shop.flows:refund""",
    "graph": """\
Without --format it is what FILE ends in, else a tree of text.

examples:
  %(prog)s orders.py:checkout
  %(prog)s orders.py:checkout -o checkout.svg
  %(prog)s orders.py:checkout --format mermaid""",
    "report": """\
example:
  stepfunction run orders.py:checkout --json > run.json
  stepfunction report run.json -o run.html""",
    "list": """\
These are its StepFunctions, and its functions without required parameters that are
annotated to return one.

example:
  %(prog)s orders.py""",
}


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """Read the arguments; ``command`` is the name of the command.

    Raises:
        SystemExit: With 0 where only help or the version is asked for, with 2 where
            the arguments cannot be read, which is then said with what may be meant.
    """
    parser = _new_parser(argparse.ArgumentParser, "", prog="stepfunction")
    parser.description = "Run, check and draw workflows."
    parser.add_argument(
        "--version", action="version", version=f"stepfunction {__version__}"
    )
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
        options = re.findall(r"--[a-z]+", args.parser.format_help())
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


def _add_run(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("target", metavar="TARGET", help="the workflow")
    parser.add_argument(
        "--input",
        metavar="JSON|@FILE|-",
        help="the input of the first step: JSON, the name of a file of it, or - for "
        "standard input; without it None",
    )
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


def _add_check(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "targets", nargs="+", metavar="TARGET", help="a workflow, or a module of them"
    )


def _add_graph(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("target", metavar="TARGET", help="the workflow")
    parser.add_argument(
        "--format",
        type=_one_of("format", FORMATS),
        metavar="|".join(FORMATS),
        help="how to draw it",
    )
    parser.add_argument(
        "-o", "--output", metavar="FILE", help="where to; else to standard output"
    )


def _add_report(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "run", metavar="RUN.json", help="what run --json gave; - for standard input"
    )
    parser.add_argument(
        "-o", "--output", metavar="FILE", required=True, help="the HTML file to write"
    )


def _add_list(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "module", metavar="MODULE", help="package.module or path/file.py"
    )


_ADDERS = {
    "run": _add_run,
    "check": _add_check,
    "graph": _add_graph,
    "report": _add_report,
    "list": _add_list,
}


def _seconds(text: str) -> float:
    try:
        if (seconds := float(text)) > 0:
            return seconds
    except ValueError:
        pass
    raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds above 0")


def _one_of(what: str, known: Sequence[str]) -> Any:
    def check(text: str) -> str:
        if text in known:
            return text
        raise argparse.ArgumentTypeError(
            f"{text!r} is no {what}{did_you_mean(text, known)}; "
            f"give one of {', '.join(known)}"
        )

    return check
