"""Durations: seconds, however they are given."""

from __future__ import annotations

import sys
from typing import Any

from stepfunction.core.raised import is_a


def in_seconds(given: Any) -> Any:
    """Give the seconds of a ``timedelta``; anything else as it is, to be checked."""
    # Whoever has one has imported it, and the import is dear.
    timedelta: Any = getattr(sys.modules.get("datetime"), "timedelta", ())
    return given.total_seconds() if is_a(given, timedelta) else given
