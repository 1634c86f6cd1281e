"""Backlog: the calls that an executor was given, until a lane takes them."""

from __future__ import annotations

import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future, InvalidStateError
from concurrent.futures._base import PENDING, RUNNING
from contextlib import suppress
from contextvars import copy_context
from queue import Empty, SimpleQueue
from typing import Any, Protocol

from stepfunction.core.clock import perf_counter
from stepfunction.core.envelope.parcel import Parcel
from stepfunction.core.lanes.logs import Levels
from stepfunction.core.logger import logger
from stepfunction.core.waiting import Latch

# How long no other lane is added, or tries again, after one could not be had.
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
        owed.discard(self)
        if super().cancel():
            self.set_running_or_notify_cancel()  # else whoever waits never hears of it

    def running(self) -> bool:
        """Tell whether the call has begun, and not ended."""
        return super().running() and self.counter is None

    def wait_again(self) -> None:
        """Take note that the call has not begun after all."""
        with self._condition:
            if self._state == RUNNING:  # else it has been cancelled
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
        is_urgent: Whether it comes before all that its sender has waiting.

    Attributes:
        losses: How many workers died before they began it, which were given it alone.
        number: What it is known by where it waits for its worker; 0 elsewhere.
    """

    __slots__ = (
        "future",
        "head",
        "body",
        "levels",
        "sender",
        "is_urgent",
        "variables",
        "losses",
        "number",
    )

    def __init__(
        self,
        future: LaneFuture,
        head: bytes,
        body: Parcel,
        levels: Levels,
        sender: object = None,
        is_urgent: bool = False,
    ) -> None:
        self.future = future
        self.head = head
        self.body = body
        self.levels = levels
        self.sender = sender
        self.is_urgent = is_urgent
        self.variables = copy_context()
        self.losses = 0
        self.number = 0


# Of the calls that somebody submitted, until their callbacks are done.
owed: set[LaneFuture] = set()


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
    """Cancel calls that no lane will have, all of them, whatever a callback raises."""
    raised: BaseException | None = None
    for call in calls:
        try:
            call.future.end_unmade()
        except BaseException as error:
            raised = error
        owed.discard(call.future)
    if raised is not None:
        raise raised


class Backlog:
    """The calls of one executor: those that wait, and how many are not finished."""

    def __init__(self) -> None:
        # A signal handler may submit as well; and may raise, so what is written is
        # right after each call that is made under the lock.
        self._lock = threading.RLock()
        # At least one for each call that waits, and each lane that is to leave: it says
        # to look.
        self._words: SimpleQueue[None] = SimpleQueue()
        # Of each sender with calls the next first; the sender whose turn it is first.
        self._calls: OrderedDict[object, deque[LaneCall]] = OrderedDict()
        self._waiting = self._unfinished = 0
        self._idle = 0  # lanes that wait for a call
        self._lanes = 0
        self._short_until = 0.0
        self._failure: Callable[[], Exception] | None = None
        self._has_ended = False
        self._over = Latch()
        self._is_closed = False

    @property
    def is_broken(self) -> bool:
        """Whether nothing more is to run."""
        return self._failure is not None

    @property
    def has_more(self) -> bool:
        """Whether calls wait for a lane."""
        return self._waiting > 0

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
        alone = deque((call,))
        with self._lock:
            if self._failure is not None:
                raise self._failure()
            if is_owed:
                owed.add(call.future)
            self._words.put(None)  # first, for one too many does no harm
            calls = self._calls.get(call.sender)
            self._unfinished += 1
            self._waiting += 1
            if calls is None:
                self._calls[call.sender] = alone
            elif call.is_urgent:
                calls.appendleft(call)
            else:
                calls.append(call)
            return self._unfinished

    def hand_back(self, calls: Iterable[LaneCall]) -> None:
        """Add calls again that were taken and not begun, as the next of their senders.

        Args:
            calls: In the order in which they were taken.
        """
        with self._lock:
            failed = self._take_again(calls)
        self._fail(failed)

    def _take_again(self, calls: Iterable[LaneCall]) -> list[LaneCall]:
        """Do so, under the lock, and give those that are to fail."""
        failed: list[LaneCall] = []
        for call in reversed(list(calls)):
            call.future.wait_again()
            if self._failure is not None:
                self._unfinished -= 1
                failed.append(call)
                continue
            self._calls.setdefault(call.sender, deque()).appendleft(call)
            self._calls.move_to_end(call.sender, last=False)
            self._waiting += 1
            self._words.put(None)
        return failed

    def take(self) -> LaneCall | None:
        """Wait for a call; None says that there will be no more, to one lane."""
        with self._lock:
            self._idle += 1
        while True:
            self._words.get()
            with self._lock:
                if self._waiting:
                    self._idle -= 1
                    if self._has_ended:  # which may be what this word was to say
                        self._words.put(None)
                    return self._next()
                if self._has_ended:
                    self._idle -= 1
                    self._lanes -= 1
                    self._words.put(None)  # for the next
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
        if len(calls) > 1:
            self._calls.move_to_end(sender)  # last, until all others had their turn
            self._waiting -= 1
            return calls.popleft()
        self._waiting -= 1
        del self._calls[sender]
        return calls[0]

    def finish(self) -> None:
        """Count a call as finished, before its result is known to anybody."""
        with self._lock:
            self._unfinished -= 1

    def close(self) -> None:
        """Let nothing more be given to a worker before it needs it."""
        with self._lock:
            self._is_closed = True

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
            Whether there are others; the lane then is none until it has had a rest.
        """
        with self._lock:
            if self._lanes < 2:
                return False
            self._lanes -= 1
            self._short_until = perf_counter() + _SECONDS_TO_DO_WITHOUT
            failed = self._take_again([call])  # before the others may end
        self._fail(failed)
        return True

    def rest(self, most: int) -> bool:
        """Let a lane that had no worker wait a while, and be one again.

        Args:
            most: How many lanes there are at most.

        Returns:
            Whether it is one; not where there is no need of it any more.
        """
        if self._over.wait(_SECONDS_TO_DO_WITHOUT):
            return False
        with self._lock:
            is_needed = self._lanes < most and not self._has_ended
            self._lanes += is_needed
            return is_needed

    def end(self) -> None:
        """Say that there will be no more, to every lane. Any thread may, anywhere."""
        # Without the lock, which the thread of a garbage collector may hold just now.
        self._has_ended = True
        self._over.open()
        self._words.put(None)

    def break_off(self, failure: Callable[[], Exception]) -> None:
        """Let all calls that wait or come later fail.

        Args:
            failure: Gives the error, a new one each time.
        """
        with self._lock:
            self._failure = failure
        self._fail(self.take_all())

    def _fail(self, calls: Iterable[LaneCall]) -> None:
        for call in calls:
            if self._failure is not None and begin(call.future):
                give(call.future, False, self._failure())

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
