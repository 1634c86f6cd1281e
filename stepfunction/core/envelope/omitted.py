"""Omitted: what stands for a value that could not go where it should."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from stepfunction.core.frozen import Frozen


class Omitted(Frozen):
    """Stands for a value that could not be pickled, or written as JSON.

    Attributes:
        text: The value's ``repr``.
    """

    __slots__ = ()
    text: str

    def __str__(self) -> str:
        # So that an exception that had the value says what it said.
        return self.text


def portable(value: Any, stand_in: Callable[[str], Any] = Omitted) -> Any:
    """Give the value if it can be pickled, else what stands for its ``repr``."""
    from stepfunction.core.envelope.envelope import pack  # whose import is dear

    try:
        pack(value)
    except Exception:
        return stand_in(repr(value))
    return value
