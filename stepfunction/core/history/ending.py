"""Ending: the end of an execution, for those who wait for it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from threading import Event


class Ending:
    """The end of an execution, which comes once.

    Attributes:
        event: Set when it has come.
    """

    __slots__ = ("event", "_calls")

    def __init__(self) -> None:
        self.event = Event()
        self._calls: list[Callable[[], object]] = []

    def call(self, what: Callable[[], object]) -> None:
        """Call something at the end, or now if it has come."""
        self._calls.append(what)
        if self.event.is_set():
            self._drain()

    def come(self) -> None:
        """Say that the end has come."""
        self.event.set()
        self._drain()

    def _drain(self) -> None:
        while self._calls:
            with suppress(IndexError):  # another thread has taken it
                self._calls.pop()()
