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

# Told of the ``Task`` objects of each step before they run, one at a time, with the
# names of the workflow and the step; it may replace their calls.
looking_on: Probe = ContextVar("stepfunction_looking_on", default=None)
# What looks on anywhere in this process, for who has no time to ask the variable.
onlookers: list[object] = []


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


@contextmanager
def looked_on(tell: Callable[..., object]) -> Iterator[None]:
    """Let somebody look on while the block lasts, after who was there before."""
    onlookers.append(tell)
    try:
        with probed(looking_on, tell):
            yield
    finally:
        onlookers.remove(tell)


def onlooker() -> Callable[..., object] | None:
    """Give who looks on here; None for nobody."""
    return looking_on.get() if onlookers else None


def tell_skipped(skipped: Iterable[tuple[str, float]]) -> None:
    """Tell of pauses that were skipped where nobody could be told.

    Args:
        skipped: What paused, and how many seconds.
    """
    tell = skipping.get()
    if tell is not None:
        for what, seconds in skipped:
            tell(what, seconds)
