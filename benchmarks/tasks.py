"""What worker processes do. Each imports this, so it imports little itself."""

from __future__ import annotations

from time import perf_counter, sleep
from typing import Any


def add_one(value: int) -> int:
    return value + 1


def keep_busy(value: int) -> int:
    """Take some tenths of a second."""
    for number in range(12_000_000):
        value ^= number
    return value


def hang(value: Any) -> None:
    sleep(600)


def fail_soon(value: Any) -> None:
    sleep(0.2)  # until the others are at work
    raise ValueError(perf_counter())  # one clock for all processes


class Large:
    """An input that counts how often it is pickled."""

    pickled = 0

    def __init__(self, content: Any) -> None:
        self.content = content

    def __reduce__(self) -> Any:
        Large.pickled += 1
        return Large, (self.content,)


def count(value: Large) -> int:
    return len(value.content)
