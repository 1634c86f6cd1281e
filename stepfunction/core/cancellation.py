"""Cancellation: a request to stop that wakes whoever is waiting."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Cancellation:
    """A request to stop: of an execution, of the tasks of one step, of a nested run.

    Requests are made once and never taken back. What depends on another request
    is made by ``dependent()`` and is requested with it.
    """

    __slots__ = ("requested", "_lock", "_watchers")

    def __init__(self) -> None:
        self.requested = False
        self._lock = threading.Lock()
        self._watchers: dict[object, Callable[[], object]] = {}

    def request(self) -> None:
        """Ask to stop. A second request does nothing."""
        with self._lock:
            if self.requested:
                return
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
    def dependent(self) -> Iterator[Cancellation]:
        """Give a cancellation that is also requested when this one is."""
        child = Cancellation()
        with self.calling(child.request):
            yield child

    def sleep(self, seconds: float) -> bool:
        """Sleep, but wake when the request comes.

        Args:
            seconds: How long to sleep at most.

        Returns:
            Whether stopping has been requested.
        """
        woken = threading.Event()
        with self.calling(woken.set):
            return woken.wait(seconds)
