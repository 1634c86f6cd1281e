"""The command line: ``python -m stepfunction``, and ``stepfunction``."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from stepfunction.core.namesake import mixture

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line, if all of it is there.

    Args:
        argv: The arguments; None for those of this program.

    Returns:
        The exit code, as of ``commands.main``.
    """
    if (problem := mixture()) is not None:
        print(f"stepfunction: {problem}", file=sys.stderr)
        return 2
    from stepfunction.cli import commands  # which is all of this project

    return commands.main(argv)
