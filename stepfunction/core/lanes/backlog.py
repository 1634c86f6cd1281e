"""Backlog: the calls that an executor was given, until a lane takes them."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable
from concurrent.futures import Future
from concurrent.futures._base import PENDING
from contextvars import copy_context
from queue import Empty, SimpleQueue
from typing import Any, Protocol

from stepfunction.core.envelope.parcel import Parcel
from stepfunction.core.lanes.logs import Levels


class Watcher(Protocol):
    """Who wants to know when a call begins, and each time it says that it lives."""

    def prepare(self) -> None:
        """Take note that a worker was given the call, and may have to import for it."""

    def start(self) -> None:
        """Take note that the call begins now."""

    def live(self) -> None:
        """Take note of a sign of life."""

    def pass_on(self, event: Any) -> None:
        """Take note of what is told of an execution that is nested in the call."""

    def report(self, part: Any) -> None:
        """Take note of a part of what comes of the call."""

    def note(self, number: int | None) -> None:
        """Take note of what a dead worker noted last; None if it cannot be known."""


class Counter(Protocol):
    """Where calls wait that were given to a worker before it needs them."""

    def withdraw(self, future: LaneFuture) -> bool:
        """Take a call out, unless it has begun; say whether it is out."""


class LaneFuture(Future[Any]):
    """The future of a call on a lane.

    Attributes:
        label: What the call is, for messages.
        began: When a worker was given the call, as ``perf_counter``; 0.0 before.
        counter: Where it waits for a worker that it was given to; None elsewhere.
    """

    def __init__(self, label: str, watcher: Watcher | None = None) -> None:
        super().__init__()
        self.label = label
        self.watcher = watcher
        self.began = 0.0
        self.counter: Counter | None = None

    def cancel(self) -> bool:
        """Cancel the call if it has not begun, wherever it waits."""
        while not super().cancel():
            counter = self.counter
            if counter is None:
                return super().cancel()  # it may have been taken back just now
            if counter.withdraw(self):
                self.wait_again()
                self.end_unmade()
        return True

    def end_unmade(self) -> None:
        """Cancel the call, which no lane will have any more."""
        if super().cancel():
            self.set_running_or_notify_cancel()  # else whoever waits never hears of it

    def running(self) -> bool:
        """Tell whether the call has begun, and not ended."""
        return super().running() and self.counter is None

    def wait_again(self) -> None:
        """Take note that the call has not begun after all."""
        with self._condition:
            self._state = PENDING
        self.counter = None


class LaneCall:
    """A call that a lane is to have made.

    Args:
        future: Of its result.
        head: The packed call.
        body: A packed value that goes with it; empty for none.
        levels: The levels to log at.
        sender: Whose it is: all who have calls here have their turn.

    Attributes:
        losses: How many workers died before they began it, which were given it alone.
    """

    __slots__ = ("future", "head", "body", "levels", "sender", "variables", "losses")

    def __init__(
        self,
        future: LaneFuture,
        head: bytes,
        body: Parcel,
        levels: Levels,
        sender: object = None,
    ) -> None:
        self.future = future
        self.head = head
        self.body = body
        self.levels = levels
        self.sender = sender
        self.variables = copy_context()
        self.losses = 0


class Backlog:
    """The calls of one executor: those that wait, and how many are not finished."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        # One for each call that waits, and each lane that is to leave: it says to look.
        self._words: SimpleQueue[None] = SimpleQueue()
        # Of each sender with calls the next first; the sender whose turn it is first.
        self._calls: dict[object, deque[LaneCall]] = {}
        self._waiting = self._unfinished = 0
        self._idle = 0  # lanes that wait for a call
        self._has_ended = False
        self._is_closed = False

    def put(self, call: LaneCall) -> int:
        """Add a call, and give how many are not finished."""
        with self._lock:
            self._unfinished += 1
            self._waiting += 1
            self._calls.setdefault(call.sender, deque()).append(call)
            self._words.put(None)
            return self._unfinished

    def hand_back(self, calls: Iterable[LaneCall]) -> None:
        """Add calls again that were taken and not begun, as the next of their senders.

        Args:
            calls: In the order in which they were taken.
        """
        with self._lock:
            for call in reversed(list(calls)):
                call.future.wait_again()
                self._calls.setdefault(call.sender, deque()).appendleft(call)
                self._waiting += 1
                self._words.put(None)

    def take(self) -> LaneCall | None:
        """Wait for a call; None says that there will be no more."""
        with self._lock:
            self._idle += 1
        while True:
            self._words.get()
            with self._lock:
                if self._waiting:
                    self._idle -= 1
                    return self._next()
                if self._has_ended:
                    self._idle -= 1
                    return None

    def take_ahead(self, most: int, lanes: int) -> list[LaneCall]:
        """Take calls that no lane is free for.

        Args:
            most: How many at most.
            lanes: Among how many lanes they are shared.
        """
        taken: list[LaneCall] = []
        with self._lock:
            count = min(most, -((self._idle - self._waiting) // lanes))
            if self._is_closed:
                return taken
            while len(taken) < count:
                try:
                    self._words.get_nowait()
                except Empty:
                    break
                taken.append(self._next())
        return taken

    def _next(self) -> LaneCall:
        sender, calls = next(iter(self._calls.items()))
        del self._calls[sender]
        call = calls.popleft()
        if calls:
            self._calls[sender] = calls  # last, until all others had their turn
        self._waiting -= 1
        return call

    def finish(self) -> None:
        """Count a call as finished, before its result is known to anybody."""
        with self._lock:
            self._unfinished -= 1

    def close(self) -> None:
        """Let nothing more be given to a worker before it needs it."""
        with self._lock:
            self._is_closed = True

    def end(self, lanes: int) -> None:
        """Say that there will be no more, to so many lanes."""
        # Without the lock, which a garbage collector's thread may hold.
        self._has_ended = True
        for _ in range(lanes):
            self._words.put(None)

    def take_all(self) -> list[LaneCall]:
        """Take all the calls that wait."""
        with self._lock:
            found = []
            while self._waiting:
                found.append(self._next())
                self._unfinished -= 1
                try:
                    self._words.get_nowait()
                except Empty:  # a lane has it, and will find no call
                    pass
        return found
