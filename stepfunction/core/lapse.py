"""Lapse: the time that is skipped, for the limits that it counts for.

Where a test skips pauses, each lets its time lapse at once, on the track of what
pauses. What is done one after the other is on one track. Tasks beside each other are
each on a track of their own, which parts from that of their step. A limit that is set
on a track comes when so much time has passed, or lapsed, on it or on what has parted
from it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from math import inf
from threading import get_ident
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from stepfunction.core.clock import perf_counter
from stepfunction.core.probes import skipping

if TYPE_CHECKING:
    from stepfunction.core.cancellation import Cancellation


class Limit:
    """A moment on a track at which something is to stop.

    Attributes:
        moment: When it comes, by the clock of the track.
        cancellation: What is to stop.
    """

    __slots__ = ("moment", "cancellation", "_tell", "_has_come")

    def __init__(
        self, moment: float, cancellation: Cancellation, tell: Callable[[], object]
    ) -> None:
        self.moment = moment
        self.cancellation = cancellation
        self._tell = tell
        self._has_come = False

    def come(self) -> None:
        """Tell, once, that it has come."""
        if not self._has_come:
            self._has_come = True
            self._tell()

    def stops(self, cancellation: Cancellation | None) -> bool:
        """Tell whether a request to stop depends on what this one makes."""
        while cancellation is not None and cancellation is not self.cancellation:
            cancellation = cancellation.outer
        return cancellation is not None


class AtLimit(NamedTuple):
    """Word from a track that it waits for a limit, and does nothing more.

    Attributes:
        is_own: Whether the limit is that of the attempt which the track is of.
        skipped: What was skipped in another process, and how many seconds.
    """

    is_own: bool
    skipped: Sequence[tuple[str, float]] = ()


class Parting(Protocol):
    """The tasks beside each other that tracks part for."""

    def part(self, attempt: Any) -> Track:
        """Give the track of an attempt that begins in this thread."""

    def rejoin(self, track: Track) -> None:
        """Take note that the attempt of a track has ended in this thread."""


class Track:
    """What is done one after the other, and the time that it has skipped.

    Attributes:
        seconds: How much has lapsed.
        limits: Those that were set on it.
        thread: Where it is.
        tasks: What parts from it just now; None for nothing.
        ended: When it had an end, by its clock; 0.0 before.
    """

    __slots__ = ("seconds", "limits", "thread", "tasks", "ended")

    def __init__(self, seconds: float = 0.0) -> None:
        self.seconds = seconds
        self.limits: list[Limit] = []
        self.thread = get_ident()
        self.tasks: Parting | None = None
        self.ended = 0.0

    def now(self) -> float:
        """What its clock says."""
        return perf_counter() + self.seconds

    def move_to(self, moment: float) -> None:
        """Let the time up to a moment lapse."""
        self.seconds = max(self.seconds, moment - perf_counter())
        self.let_come()

    def let_come(self) -> None:
        """Let the limits come whose moment this is, or was."""
        now = self.now()
        for limit in tuple(self.limits):
            if limit.moment <= now:
                limit.come()

    def first_limit(self, cancellation: Cancellation | None) -> Limit | None:
        """Give the limit that is the first to stop something; None if none does."""
        stopping = (limit for limit in self.limits if limit.stops(cancellation))
        return min(stopping, key=lambda limit: limit.moment, default=None)

    def pause(
        self, seconds: float, cancellation: Cancellation | None
    ) -> tuple[float, Limit | None]:
        """Let a pause lapse, as far as a limit lets it.

        Args:
            seconds: How long it is.
            cancellation: What may stop it.

        Returns:
            What has lapsed, and the limit that came before the end.
        """
        limit, now = self.first_limit(cancellation), self.now()
        if limit is not None and now + seconds >= limit.moment:
            seconds = max(0.0, limit.moment - now)
        else:
            limit = None
        self.seconds += seconds
        return seconds, limit


_track: ContextVar[Track | None] = ContextVar("stepfunction_track", default=None)


def track_here() -> Track | None:
    """Give the track that this thread is on; None if there is none."""
    track = _track.get()
    return track if track is not None and track.thread == get_ident() else None


@contextmanager
def on(track: Track | None) -> Iterator[None]:
    """Be on a track while the block lasts."""
    token = _track.set(track)
    try:
        yield
    finally:
        _track.reset(token)


def leave() -> None:
    """Be on no track, as what is not waited for here."""
    _track.set(None)


@contextmanager
def parted(attempt: Any) -> Iterator[None]:
    """Be on the track of an attempt, where its thread is not that of its step."""
    outer = _track.get()
    if outer is None or outer.thread == get_ident() or outer.tasks is None:
        yield
    else:
        tasks = outer.tasks
        track = tasks.part(attempt)
        try:
            with on(track):
                yield
        finally:
            tasks.rejoin(track)


@contextmanager
def limited(
    cancellation: Cancellation, seconds: float, tell: Callable[[], object]
) -> Iterator[None]:
    """Have a limit on the track of this thread while the block lasts.

    Args:
        cancellation: What it stops.
        seconds: How long it is from now.
        tell: Called when it comes by what lapses.
    """
    track = track_here()
    if track is None:
        track = Track()
    limit = Limit(track.now() + seconds, cancellation, tell)
    track.limits.append(limit)
    try:
        with on(track):
            yield
    finally:
        track.limits.remove(limit)


def to_pass(what: str, seconds: float, cancellation: Cancellation | None) -> float:
    """Give how many seconds are really to pass: none where pauses are skipped.

    Where a limit comes before the end of the pause, it is waited for without an end,
    for what it stops is told so.

    Args:
        what: The step or task that pauses, as messages name it.
        seconds: How long it is to pause.
        cancellation: What may stop it.
    """
    tell = skipping.get()
    if tell is None:
        return seconds
    track = track_here()
    if track is None:
        tell(what, seconds)
        return 0.0
    seconds, limit = track.pause(seconds, cancellation)
    tell(what, seconds)
    track.let_come()
    if limit is None:
        return 0.0
    limit.come()
    return inf
