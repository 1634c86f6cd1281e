"""Pauses: time that passes on purpose, before a retry or in a wait step."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar

# Told of each pause, by what pauses and its seconds, in the place of pausing; None to
# pause. Tests set it.
skipping: ContextVar[Callable[[str, float], object] | None]
skipping = ContextVar("stepfunction_skipping", default=None)


def to_pass(what: str, seconds: float) -> float:
    """Give how many seconds are really to pass: none where pauses are skipped.

    Args:
        what: The step or task that pauses, as messages name it.
        seconds: How long it is to pause.
    """
    skip = skipping.get()
    if skip is None:
        return seconds
    skip(what, seconds)
    return 0.0
