"""Cancellation: a request to stop that wakes whoever is waiting."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from stepfunction.core.lapse import limited
from stepfunction.core.probes import skipping
from stepfunction.core.waiting import Latch, join, start

if TYPE_CHECKING:
    from _thread import LockType as Lock

Result = TypeVar("Result")


class Cancellation:
    """A request to stop: of an execution, of the tasks of one step, of one attempt.

    Requests are made once and never taken back. What depends on another request
    is made by ``dependent()`` and is requested with it.

    Any thread may make one at any time, also in a signal handler or a finalizer that
    finds this thread in the midst of something: nothing is waited for in their way that
    the thread which they interrupt may hold.

    Args:
        outer: What it depends on; None for that of an outermost execution.

    Attributes:
        requested: Whether stopping has been requested.
        is_overdue: Whether that was because time had run out.
        outer: What it depends on.
        thread: Of that of an outermost execution the thread that runs it.
    """

    __slots__ = (
        "requested",
        "is_overdue",
        "outer",
        "thread",
        "_told",
        "_lock",
        "_watchers",
    )

    def __init__(self, outer: Cancellation | None = None) -> None:
        self.outer = outer
        self.thread: int | None = None
        self.requested = False
        self.is_overdue = False
        # As what everybody has been told of it: as requested, as overdue.
        self._told = (False, False)
        # Of C code, and one that this thread may hold already.
        self._lock = threading.RLock()
        self._watchers: dict[object, Callable[[], object]] = {}

    def request(self, is_overdue: bool = False) -> None:
        """Ask to stop. Only a first request, and a first as overdue, is told."""
        with self._lock:
            self.is_overdue = self.is_overdue or is_overdue
            self.requested = True
            now = (True, self.is_overdue)
            watchers = [] if self._told == now else list(self._watchers.values())
        for watcher in watchers:
            watcher()
        # Last, for an interrupt may keep some from being told: the next request does.
        self._told = now

    @property
    def root(self) -> Cancellation:
        """That of the outermost execution, as far as this process knows."""
        found = self
        while found.outer is not None:
            found = found.outer
        return found

    def interrupted(self) -> None:
        """Take note that an interrupt stops this before all others hear of it.

        It ends the execution whose thread this is.
        """
        root = self.root
        if root.thread == threading.get_ident():
            root.request()

    def calling(self, watcher: Callable[[], object]) -> Calling:
        """Call the watcher when the request comes, or now if it has come already.

        That is, while a ``with`` block lasts.
        """
        return Calling(self, watcher)

    def dependent(self) -> Dependent:
        """Give one for a ``with`` block that is requested with this one."""
        return Dependent(self)

    def within(
        self, seconds: float | None, call: Callable[..., Result], *args: Any
    ) -> Result:
        """Call something, and request this as overdue if that takes too long.

        Args:
            seconds: How long it may take; None for as long as it likes.
            call: What to call.
            *args: With what.

        Raises:
            RuntimeError: If there can be no thread that looks at the time.
            BaseException: What the call raises.
        """
        if seconds is None or seconds > threading.TIMEOUT_MAX:
            return call(*args)
        if skipping.get() is not None:
            tell = partial(self.request, is_overdue=True)
            with limited(self, seconds, tell):
                return self._within(seconds, call, args)
        return self._within(seconds, call, args)

    def _within(
        self, seconds: float, call: Callable[..., Result], args: tuple[Any, ...]
    ) -> Result:
        in_time = threading.Lock()
        name, facts = "stepfunction-limit", (seconds, in_time)
        limit = threading.Thread(target=self._watch, name=name, args=facts, daemon=True)
        # By a lock, for nothing comes between a block and the end of what C code ends:
        # whatever interrupts this, the thread ends too.
        with in_time:
            start(limit)
            result = call(*args)
        join(limit)
        return result

    def _watch(self, seconds: float, in_time: Lock) -> None:
        if not in_time.acquire(timeout=seconds):
            self.request(is_overdue=True)

    def sleep(self, seconds: float) -> bool:
        """Sleep, but wake when the request comes.

        Args:
            seconds: How long to sleep at most.

        Returns:
            Whether stopping has been requested.
        """
        woken = Latch()
        with self.calling(woken.open):
            return woken.wait(seconds)


class Calling:
    """The time for which somebody is told of a request.

    A class, and no generator, for every step that is more than a call has one.
    """

    __slots__ = ("_cancellation", "_watcher")

    def __init__(
        self, cancellation: Cancellation, watcher: Callable[[], object]
    ) -> None:
        self._cancellation = cancellation
        self._watcher = watcher

    def __enter__(self) -> Any:
        cancellation = self._cancellation
        with cancellation._lock:
            cancellation._watchers[self] = self._watcher
            requested = cancellation.requested
        if requested:
            self._watcher()

    def __exit__(self, *raised: Any) -> None:
        with self._cancellation._lock:
            del self._cancellation._watchers[self]


class Dependent(Calling):
    """The time for which one cancellation is requested with another."""

    __slots__ = ("_inner",)

    def __init__(self, outer: Cancellation) -> None:
        inner = Cancellation(outer)
        super().__init__(outer, lambda: inner.request(outer.is_overdue))
        self._inner = inner

    def __enter__(self) -> Cancellation:
        super().__enter__()
        return self._inner
