"""``manage.py stepfunction_list``."""

from typing import Any

from django.core.management.base import CommandParser

from stepfunction.cli.arguments import add_functions
from stepfunction.contrib.django.management.command import WorkflowCommand


class Command(WorkflowCommand):
    """The command ``stepfunction list``, of all apps where it is given none."""

    verb = "list"
    help: Any = "List the workflows of the project, of an app or of a module."

    def add_arguments(self, parser: CommandParser) -> None:
        """Let the parser read which app or module is meant."""
        parser.add_argument(
            "module",
            nargs="?",
            metavar="APP|MODULE",
            help="the label of an app, package.module or path/file.py",
        )
        add_functions(parser)
        parser.set_defaults(command=self.verb)
