"""``manage.py stepfunction_check``."""

from typing import Any

from django.core.management.base import CommandParser

from stepfunction.cli.arguments import add_functions
from stepfunction.contrib.django.management.command import WorkflowCommand


class Command(WorkflowCommand):
    """The command ``stepfunction check``, of all apps where it is given none."""

    verb = "check"
    help: Any = "Name all that is wrong with workflows; with all of them by default."

    def add_arguments(self, parser: CommandParser) -> None:
        """Let the parser read what is to be checked."""
        parser.add_argument(
            "targets",
            nargs="*",
            metavar="TARGET",
            help="a workflow, an app or a module of them",
        )
        add_functions(parser)
        parser.set_defaults(command=self.verb)
