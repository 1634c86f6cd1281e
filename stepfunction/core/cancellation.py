"""Cancellation: a request to stop that wakes whoever is waiting."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Cancellation:
    """A request to stop: of an execution, of the tasks of one step, of one attempt.

    Requests are made once and never taken back. What depends on another request
    is made by ``dependent()`` and is requested with it.

    Attributes:
        requested: Whether stopping has been requested.
        is_overdue: Whether that was because time had run out.
    """

    __slots__ = ("requested", "is_overdue", "_lock", "_watchers")

    def __init__(self) -> None:
        self.requested = False
        self.is_overdue = False
        # A signal handler may make the request while this thread holds the lock.
        self._lock = threading.RLock()
        self._watchers: dict[object, Callable[[], object]] = {}

    def request(self, is_overdue: bool = False) -> None:
        """Ask to stop. Only a first request, and a first as overdue, is told."""
        with self._lock:
            if self.requested and (self.is_overdue or not is_overdue):
                return
            self.is_overdue = is_overdue
            self.requested = True
            watchers = list(self._watchers.values())
        for watcher in watchers:
            watcher()

    @contextmanager
    def calling(self, watcher: Callable[[], object]) -> Iterator[None]:
        """Call the watcher when the request comes, or now if it has come already."""
        key = object()
        with self._lock:
            self._watchers[key] = watcher
            requested = self.requested
        if requested:
            watcher()
        try:
            yield
        finally:
            with self._lock:
                del self._watchers[key]

    @contextmanager
    def dependent(self, seconds: float | None = None) -> Iterator[Cancellation]:
        """Give a cancellation that is also requested when this one is.

        Args:
            seconds: When to request it anyway, as overdue; None for never.
        """
        child = Cancellation()
        with self.calling(lambda: child.request(self.is_overdue)):
            with child.expiring(seconds):
                yield child

    @contextmanager
    def expiring(self, seconds: float | None) -> Iterator[None]:
        """Request it as overdue after some seconds; None for never."""
        if seconds is None or seconds > threading.TIMEOUT_MAX:
            yield
            return
        timer = threading.Timer(seconds, self.request, (True,))
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()
            timer.join()

    def sleep(self, seconds: float) -> bool:
        """Sleep, but wake when the request comes.

        Args:
            seconds: How long to sleep at most.

        Returns:
            Whether stopping has been requested.
        """
        woken = threading.Event()
        with self.calling(woken.set):
            while seconds > threading.TIMEOUT_MAX:
                if woken.wait(threading.TIMEOUT_MAX):
                    return True
                seconds -= threading.TIMEOUT_MAX
            return woken.wait(seconds)
