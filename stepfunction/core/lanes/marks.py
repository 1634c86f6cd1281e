"""Marks: what a worker process leaves readable, however it dies.

They are numbers in memory that it shares with its parent, and cost it no message. Where
a system has no such memory, or none left, nothing can be read.
"""

from __future__ import annotations

import mmap
import os
from contextlib import suppress
from multiprocessing import reduction
from typing import Any

from stepfunction.core.envelope.parcel import open_nameless

_CALLS, _NOTED, _HERE = range(3)
_SIZE = 3 * 8


class Marks:
    """How many calls a worker has begun, and what the latest has noted.

    Args:
        descriptor: The shared memory, which is mapped here too; None to make it.

    Attributes:
        are_shared: Whether the other process sees the same.
    """

    def __init__(self, descriptor: int | None = None) -> None:
        self.are_shared = False
        self._descriptor = descriptor
        self._numbers = memoryview(bytearray(_SIZE)).cast("q")
        # Without them less is known of a death, which is no reason to start no worker.
        with suppress(OSError, ValueError, OverflowError):
            if descriptor is None and hasattr(reduction, "DupFd"):
                self._descriptor = descriptor = open_nameless("marks of a worker")
                # Written, for memory that is promised only may turn out to be missing.
                os.write(descriptor, bytes(_SIZE))
            if descriptor is not None:
                memory = mmap.mmap(descriptor, _SIZE)
                self._numbers = memoryview(memory).cast("q")
                self.are_shared = True
        if not self.are_shared:
            self.close()

    def __reduce__(self) -> Any:
        if not self.are_shared:
            return _not_shared, ()
        # While a process is being started, to which it goes along.
        return _shared, (reduction.DupFd(self._descriptor),)  # type: ignore[arg-type]

    def close(self) -> None:
        """Close what they were shared by; they stay readable."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)

    def part(self) -> None:
        """In a forked child, leave those of its parent alone."""
        self.are_shared = False
        self._numbers = memoryview(bytearray(_SIZE)).cast("q")

    # What the worker does.

    def arrive(self) -> None:
        """Mark that the worker has them."""
        self._numbers[_HERE] = 1

    def begin_call(self) -> None:
        """Mark that another call begins, which has noted nothing."""
        self._numbers[_NOTED] = 0
        self._numbers[_CALLS] += 1

    def note(self, number: int) -> None:
        """Mark what the present call notes."""
        self._numbers[_NOTED] = number

    def noting(self) -> Any:
        """Give where the present call may note numbers itself; None if unread."""
        return self._numbers[_NOTED:] if self.are_shared else None

    # What its parent reads.

    @property
    def calls(self) -> int | None:
        """How many calls have begun; None if it cannot be known."""
        return self._numbers[_CALLS] if self._numbers[_HERE] else None

    @property
    def noted(self) -> int | None:
        """What the latest call has noted last, 0 for nothing; None if unknown."""
        return self._numbers[_NOTED] if self._numbers[_HERE] else None


def _not_shared() -> Marks:
    marks = Marks()
    marks.close()
    marks.part()  # whatever could be had there
    return marks


def _shared(carried: Any) -> Marks:
    marks = Marks(carried.detach())
    marks.close()
    return marks
