"""The command line: ``python -m stepfunction``, and ``stepfunction``."""

from stepfunction.cli.commands import main

__all__ = ["main"]
