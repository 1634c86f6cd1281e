"""Ending: the end of an execution, for those who wait for it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

from stepfunction.core.waiting import Latch


class Ending(Latch):
    """The end of an execution, which comes once."""

    __slots__ = ("_calls",)

    def __init__(self) -> None:
        super().__init__()
        self._calls: list[Callable[[], object]] = []

    def call(self, what: Callable[[], object]) -> None:
        """Call something at the end, or now if it has come."""
        self._calls.append(what)
        if self.is_open:
            self._drain()

    def come(self) -> None:
        """Say that the end has come."""
        self.open()
        self._drain()

    def _drain(self) -> None:
        while self._calls:
            with suppress(IndexError):  # another thread has taken it
                self._calls.pop()()
