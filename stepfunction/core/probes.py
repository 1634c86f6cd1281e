"""Probes: where a test looks on, or takes a part, in what its block executes.

A probe is told wherever the context variables of the block reach: in its thread, in the
threads of tasks, and in what is nested. Nobody but ``stepfunction.testing`` sets one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeAlias

Probe: TypeAlias = "ContextVar[Callable[..., object] | None]"

# Told of each pause, by what pauses and its seconds, in the place of pausing.
skipping: Probe = ContextVar("stepfunction_skipping", default=None)

# Told of each parallel step before its tasks run, which then do so one at a time: the
# workflow's name, the step's name, its ``Task`` objects, whose calls it may replace,
# and their input.
looking_on: Probe = ContextVar("stepfunction_looking_on", default=None)


@contextmanager
def probed(probe: Probe, tell: Callable[..., object]) -> Iterator[None]:
    """Let a probe tell somebody while the block lasts, after who was there before.

    Args:
        probe: The probe.
        tell: Who is to be told.
    """
    outer = probe.get()

    def tell_both(*told: Any) -> None:
        if outer is not None:
            outer(*told)
        tell(*told)

    token = probe.set(tell_both)
    try:
        yield
    finally:
        probe.reset(token)


def tell_skipped(skipped: Iterable[tuple[str, float]]) -> None:
    """Tell of pauses that were skipped where nobody could be told.

    Args:
        skipped: What paused, and how many seconds.
    """
    tell = skipping.get()
    if tell is not None:
        for what, seconds in skipped:
            tell(what, seconds)
