"""Omitted: what stands for a value that could not go where it should."""

from __future__ import annotations

from typing import Any, NamedTuple

from stepfunction.core.envelope.envelope import pack


class Omitted(NamedTuple):
    """Stands for a value that could not be pickled, or written as JSON.

    Attributes:
        text: The value's ``repr``.
    """

    text: str


def portable(value: Any) -> Any:
    """Give the value if it can be pickled, else what stands for it."""
    try:
        pack(value)
    except Exception:
        return Omitted(repr(value))
    return value
