"""Durations: seconds, however they are given."""

from __future__ import annotations

import sys
from math import inf, nan
from numbers import Real
from typing import Any

from stepfunction.core.raised import is_a, short_repr


def in_seconds(given: Any) -> Any:
    """Give the seconds of a ``timedelta``; anything else as it is, to be checked."""
    # Whoever has one has imported it, and the import is dear.
    timedelta: Any = getattr(sys.modules.get("datetime"), "timedelta", ())
    return given.total_seconds() if is_a(given, timedelta) else given


def to_wait(given: Any) -> float:
    """Give how many seconds are to be waited, where no more than that is said.

    Raises:
        TypeError: If it is no number of seconds.
    """
    seconds = in_seconds(given)
    try:
        seconds = float(seconds) if is_a(seconds, Real) else nan
    except OverflowError:  # a whole number beyond what a float holds
        seconds = inf if seconds > 0 else 0.0
    if seconds != seconds:
        text = "what is to be waited is a number of seconds, or a timedelta, not {}"
        raise TypeError(text.format(short_repr(given)))
    return seconds
