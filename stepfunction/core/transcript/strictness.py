"""Strictness: values of documents, which JSON is to hold as they are, unmarked."""

from __future__ import annotations

from typing import Any

from stepfunction.core.errors import Problem
from stepfunction.core.transcript.parts import Path, Repeated, shown
from stepfunction.core.transcript.values import DEEPEST, ValueWriter


class StrictWriter(ValueWriter):
    """Copies a value that JSON can hold, and notes why it cannot.

    Attributes:
        problems: What JSON could not hold, or not as it is, and where.
        is_readable: Whether what has these can be read, and shown, all the same.
    """

    largest = 10**300  # beyond which other readers of JSON would have infinity

    def __init__(self) -> None:
        super().__init__()
        self.problems: list[Problem] = []
        self.is_readable = True
        self._written: dict[int, Any] = {}  # what is met in many places, by its id

    def container(self, value: Any, at: Path) -> Any:
        """Copy a dict, or a list."""
        if id(value) not in self._written:
            self._written[id(value)] = super().container(value, at)
            for key in getattr(value, "keys_twice", ()):
                self._refuse(at, f"the key {key!r} is there more than once")
        return self._written[id(value)]

    def mapping(self, pairs: list[tuple[Any, Any]], at: Path) -> Any:
        """Give a dict, all keys of which are to be texts."""
        for key, _ in pairs:
            if type(key) is not str:
                hint = "; where it was written, as in YAML, put it in quotes"
                self._refuse(at, f"the key {shown(key)} is no text{hint}")
        return dict(pairs)

    def endless(self, value: Any, at: Path) -> Any:
        """Note a container in itself, or too deep in others."""
        self.is_readable = False
        is_inside = id(value) in self._open
        deep = f"it is nested more than {DEEPEST} deep"
        self._refuse(at, "it contains itself" if is_inside else deep)

    def other(self, value: Any, at: Path) -> Any:
        """Note what JSON has not."""
        kind = type(value)
        if kind is Repeated:
            return self.inside(value, at)
        if kind is int or kind is float:
            self.is_readable = self.is_readable and kind is not int
            self._refuse(at, f"JSON cannot hold {shown(value)}")
        elif kind is tuple:
            hint = f"{shown(value)} would come back as a list, give one"
            self._refuse(at, f"JSON has no tuples; {hint}")
        elif kind.__name__ in ("date", "datetime"):
            hint = f"give the text {str(value.isoformat())!r}"
            self._refuse(at, f"JSON has no {kind.__name__}s; {hint}, in YAML in quotes")
        else:
            what = f"{shown(value)}, of type {kind.__name__!r}, as what it is"
            self._refuse(at, f"JSON cannot hold {what}")

    def _refuse(self, at: Path, text: str) -> None:
        self.problems.append(Problem(at, text))
