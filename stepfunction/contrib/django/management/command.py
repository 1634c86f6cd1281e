"""Command: a command of the command line as one of ``manage.py``."""

from __future__ import annotations

import argparse
import os
import sys
from contextlib import ExitStack, redirect_stderr
from typing import Any, ClassVar

from django.core.management.base import BaseCommand, CommandParser
from django.core.management.base import DjangoHelpFormatter as HelpFormatter

from stepfunction.cli.arguments import ABOUT, EXAMPLES, add_arguments
from stepfunction.cli.commands import carry_out
from stepfunction.contrib.django.targets import AppPlaces

_COLORS = (("no_color", "NO_COLOR"), ("force_color", "FORCE_COLOR"))
_TARGETS = (("orders.py:checkout", "shop.Checkout"), ("orders.py", "shop"))


class _Help(argparse.RawDescriptionHelpFormatter, HelpFormatter):
    """Leaves examples as they are, and puts Django's own options last."""


class WorkflowCommand(BaseCommand):
    """A command of the command line, which also knows workflows as ``app.Name``."""

    verb: ClassVar[str]
    requires_system_checks: Any = []  # what is wrong it says itself

    @property
    def help(self) -> str:
        """What it does."""
        about = ABOUT[self.verb]
        return f"{about[0].upper()}{about[1:]}."

    def create_parser(
        self, prog_name: str, subcommand: str, **kwargs: Any
    ) -> CommandParser:
        """Make the parser, with the examples of the command line."""
        examples = EXAMPLES[self.verb]
        for given, ours in _TARGETS:
            examples = examples.replace(given, ours)
        facts = {"epilog": examples, "formatter_class": _Help, "allow_abbrev": False}
        return super().create_parser(prog_name, subcommand, **facts, **kwargs)

    def add_arguments(self, parser: CommandParser) -> None:
        """Let the parser read what the command line reads."""
        add_arguments(parser, self.verb)

    def handle(self, *args: Any, **options: Any) -> None:
        """Do it.

        Raises:
            SystemExit: With the exit code of the command line, unless that is 0.
        """
        is_program: bool = self._called_from_command_line
        if is_program:
            for option, variable in _COLORS:
                if options[option]:
                    os.environ[variable] = "1"
        out, err = self.stdout._out, self.stderr._out
        with ExitStack() as stack:
            if err is not sys.stderr:
                stack.enter_context(redirect_stderr(err))
            code = carry_out(
                argparse.Namespace(**options),
                AppPlaces(),
                is_program=is_program,
                is_alone=is_program,
                out=None if out is sys.stdout else out,
            )
        if code:
            sys.exit(code)
