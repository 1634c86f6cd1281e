"""Backlog: the calls that an executor was given, until a lane takes them."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from contextvars import copy_context
from queue import Empty, SimpleQueue
from time import perf_counter
from typing import Any, Protocol

from stepfunction.core.envelope.parcel import Parcel
from stepfunction.core.lanes.logs import Levels
from stepfunction.core.logger import logger

# How long no other lane is added after one could not be had.
_SECONDS_TO_DO_WITHOUT = 1.0


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


class LaneFuture(Future[Any]):
    """The future of a call on a lane.

    Attributes:
        label: What the call is, for messages.
        began: When a worker was given the call, as ``perf_counter``; 0.0 before.
    """

    def __init__(self, label: str, watcher: Watcher | None = None) -> None:
        super().__init__()
        self.label = label
        self.watcher = watcher
        self.began = 0.0

    def wait_again(self) -> None:
        """Be the future of a call that waits, after all."""
        with self._condition:
            self._state = "PENDING"


class LaneCall:
    """A call that a lane is to have made.

    Args:
        future: Of its result.
        head: The packed call.
        body: A packed value that goes with it; empty for none.
        levels: The levels to log at.
    """

    __slots__ = ("future", "head", "body", "levels", "variables")

    def __init__(
        self, future: LaneFuture, head: bytes, body: Parcel, levels: Levels
    ) -> None:
        self.future = future
        self.head = head
        self.body = body
        self.levels = levels
        self.variables = copy_context()


# Of the calls that somebody submitted, until their callbacks are done.
owed: set[LaneFuture] = set()


class _Returned:
    """Stands in a queue for a call that was handed back."""


def begin(future: LaneFuture) -> bool:
    """Tell whether a call is still to be made, which can then not be cancelled."""
    is_wanted = False
    with suppress(RuntimeError):  # somebody else has given it a result
        is_wanted = future.set_running_or_notify_cancel()
    if not is_wanted:
        owed.discard(future)
    return is_wanted


def give(future: LaneFuture, is_result: bool, payload: Any) -> None:
    """Give a future its result, or its exception."""
    try:
        if is_result:
            future.set_result(payload)
        else:
            future.set_exception(payload)
    except InvalidStateError:  # somebody else has given it another
        pass
    except BaseException:  # of a callback, which is not to end this thread
        text = "a callback of the future of %s raised what is no Exception"
        logger().error(text, future.label, exc_info=True)
    owed.discard(future)


def cancel(calls: Iterable[LaneCall]) -> None:
    """Cancel calls that wait, all of them, whatever a callback raises."""
    raised: BaseException | None = None
    for call in calls:
        try:
            call.future.cancel()
        except BaseException as error:
            raised = error
        owed.discard(call.future)
    if raised is not None:
        raise raised


class Backlog:
    """The calls of one executor: those that wait, and how many are not finished."""

    def __init__(self) -> None:
        # An executor may be collected, and so its end be told, while it is held.
        self._lock = threading.RLock()
        self._queue: SimpleQueue[LaneCall | _Returned | None] = SimpleQueue()
        self._returned: deque[LaneCall] = deque()  # for each, a mark is queued
        self._unfinished = 0
        self._lanes = 0
        self._short_until = 0.0
        self._failure: Callable[[], Exception] | None = None

    @property
    def is_broken(self) -> bool:
        """Whether nothing more is to run."""
        return self._failure is not None

    @property
    def is_idle(self) -> bool:
        """Whether all that was put in is finished."""
        return self._unfinished == 0

    def put(self, call: LaneCall, is_owed: bool = False) -> int:
        """Add a call, and give how many are not finished.

        Args:
            call: The call.
            is_owed: Whether the end of this process waits for it.

        Raises:
            Exception: What it was broken off with.
        """
        with self._lock:
            if self._failure is not None:
                raise self._failure()
            if is_owed:
                owed.add(call.future)
            self._unfinished += 1
            self._queue.put(call)
            return self._unfinished

    def take(self) -> LaneCall | None:
        """Wait for a call; None says that there will be no more, to one lane."""
        while True:
            call = self._queue.get()
            if isinstance(call, LaneCall) and not self._returned:
                return call
            with self._lock:
                if isinstance(call, LaneCall):
                    # What was handed back is before it, and its mark after it.
                    self._returned.append(call)
                if self._returned:
                    if call is None:
                        self._queue.put(None)
                        continue
                    return self._returned.popleft()
                if call is None:
                    self._lanes -= 1
                    return None

    def lacks_lanes(self, most: int) -> bool:
        """Tell whether one call more asks for another lane, where so many may be."""
        if self._lanes >= min(most, self._unfinished + 1) or self._failure is not None:
            return False
        # Where one could not be had just now, those that there are have to do.
        return not self._lanes or perf_counter() >= self._short_until

    def add_lane(self) -> None:
        """Count a lane, before it can take a call."""
        with self._lock:
            self._lanes += 1

    def lose_lane(self) -> bool:
        """Count a lane less, which could not be started; tell whether there are any."""
        with self._lock:
            self._lanes -= 1
            self._short_until = perf_counter() + _SECONDS_TO_DO_WITHOUT
            return self._lanes > 0

    def fail_if_alone(self, error: Exception) -> None:
        """Let all calls fail that wait for a lane where there is none."""
        waiting = [] if self._lanes else self.take_all()
        for call in waiting:
            if begin(call.future):
                give(call.future, False, error)

    def leave_to_others(self, call: LaneCall) -> bool:
        """Let other lanes make a call before all that waits, as its lane has no worker.

        Returns:
            Whether there are others; the lane then is none any more.
        """
        with self._lock:
            if self._lanes < 2:
                return False
            self._lanes -= 1
            self._short_until = perf_counter() + _SECONDS_TO_DO_WITHOUT
            call.future.wait_again()
            self._returned.append(call)
            self._queue.put(_Returned())
            return True

    def finish(self) -> None:
        """Count a call as finished, before its result is known to anybody."""
        with self._lock:
            self._unfinished -= 1

    def end(self) -> None:
        """Say that there will be no more, to every lane."""
        with self._lock:
            for _ in range(self._lanes):
                self._queue.put(None)

    def break_off(self, failure: Callable[[], Exception]) -> None:
        """Let all calls that wait or come later fail.

        Args:
            failure: Gives the error, a new one each time.
        """
        with self._lock:
            self._failure = failure
        for call in self.take_all():
            if begin(call.future):
                give(call.future, False, failure())

    def take_all(self) -> list[LaneCall]:
        """Take all the calls that wait."""
        found: list[LaneCall] = []
        with self._lock:
            try:
                while (call := self._queue.get_nowait()) is not None:
                    if isinstance(call, LaneCall):
                        found.append(call)
                self._queue.put(None)  # it was for a lane
            except Empty:
                pass
            found += self._returned
            self._returned.clear()
            self._unfinished -= len(found)
        return found
