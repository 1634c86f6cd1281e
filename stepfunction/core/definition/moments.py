"""Moments: how long a step waits, or until when, and what cannot be waited for."""

from __future__ import annotations

from numbers import Real
from sys import float_info
from typing import TYPE_CHECKING, Any

from stepfunction.core.raised import is_a, short_repr

if TYPE_CHECKING:
    from datetime import datetime

_MOST_SECONDS = float_info.max


def seconds_until(moment: datetime) -> float:
    """Give how many seconds pass until a moment; negative if it has passed."""
    from datetime import datetime, timezone  # dear

    return (moment - datetime.now(timezone.utc)).total_seconds()


def seconds_problem(seconds: Any) -> str | None:
    """Say why so many seconds cannot be waited; None if they can."""
    is_number = is_a(seconds, Real) and not is_a(seconds, bool)
    if is_number and 0 <= seconds <= _MOST_SECONDS:
        return None
    return f"seconds is a number from 0, not {short_repr(seconds)}"


def until_problem(until: Any) -> str | None:
    """Say why a moment cannot be waited for; None if it can."""
    from datetime import datetime  # dear

    if not is_a(until, datetime):
        return f"until is a datetime with a time zone, not {short_repr(until)}"
    if until.utcoffset() is None:
        return (
            f"until is {until!r}, which has no time zone; give it one, as in "
            "datetime(…, tzinfo=timezone.utc), or until.astimezone() for local time"
        )
    return None
