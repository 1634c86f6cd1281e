"""Parts: JSON data that somebody has written, of which each part is checked.

A part is found by its path, and has a place such as ``steps.Pay.retry.interval``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from reprlib import Repr
from typing import Any, NoReturn, TypeAlias

from stepfunction.core.errors import TranscriptError

Path: TypeAlias = tuple[Any, ...]

NUMBER = int | float
_NUMBERS = (NUMBER, NUMBER | None)
_ANY = (bool, object)
_LARGEST = 1e300  # beyond which it may be infinite, or no float


def data_of(text: str | bytes | bytearray, what: str, **hooks: Any) -> Any:
    """Give what a JSON text says.

    Args:
        text: The text.
        what: What messages call it.
        hooks: As of ``json.loads``.

    Raises:
        ValueError: If it is no JSON, with the reason.
    """
    try:
        return json.loads(text, **hooks)
    except RecursionError:
        raise ValueError(f"{what} is nested too deeply") from None
    except ValueError as error:
        raise ValueError(f"{what} is no JSON: {error}") from error


def as_data(value: Any, path: Path = ()) -> Any:
    """Give a copy of what JSON can hold, whose parts are of its own kinds alone.

    Of a subclass it is what its base has, for a class may answer anything.

    Raises:
        TranscriptError: If there is something in it that JSON cannot hold.
    """
    kind = type(value)
    if kind is str or kind is int or kind is float or kind is bool or value is None:
        return value
    if issubclass(kind, dict):
        made = {}
        for key, part in dict.items(value):
            if not issubclass(type(key), str):
                Part(value, path).refuse("has a key that is no text")
            name = str.__str__(key)
            made[name] = as_data(part, (*path, name))
        return made
    if issubclass(kind, list):
        parts = enumerate(list.__iter__(value))
        return [as_data(part, (*path, index)) for index, part in parts]
    for base, plain in _BASES:
        if issubclass(kind, base):
            return plain(value)
    name = type.__repr__(kind)[8:-2]
    Part(value, path).refuse(f"is a {name}, which JSON has not")


_BASES: tuple[tuple[type[Any], Callable[[Any], Any]], ...] = (
    (str, str.__str__),
    (int, int.__pos__),
    (float, float.__pos__),
)


class Repeated(dict[str, Any]):
    """An object of a JSON text that has a key twice.

    Attributes:
        keys_twice: The keys.
    """

    keys_twice: tuple[str, ...] = ()


def as_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Give the object of the pairs that a JSON text has."""
    made = dict(pairs)
    if len(made) == len(pairs):
        return made
    keys = [key for key, _ in pairs]
    repeated = Repeated(made)
    repeated.keys_twice = tuple(key for key in made if keys.count(key) > 1)
    return repeated


def place(path: Path) -> str:
    """Give the place of a path, as a person would write it."""
    text = ""
    for part in path:
        if isinstance(part, str) and re.fullmatch(r"[\w$-]+", part):
            text += f".{part}" if text else part
        else:
            text += f"[{shown(part)}]"
    return text


class _Short(Repr):
    def __init__(self) -> None:
        super().__init__()
        self.maxstring = self.maxother = 60

    def repr_int(self, x: int, level: int) -> str:
        # Python refuses to write what is very long.
        return repr(x) if abs(x) < _LARGEST else "so large a number"


shown = _Short().repr


class Part:
    """A part of a transcript, and where it stands.

    Args:
        value: The data.
        path: The keys and positions that lead to it.
    """

    __slots__ = ("value", "path")

    def __init__(self, value: Any, path: Path = ()) -> None:
        self.value = value
        self.path = path

    def get(self, key: str, kind: Any, default: Any = ...) -> Any:
        """Give what an object has under a key, if it is of its kind.

        Args:
            key: The key.
            kind: The type, or a union of types.
            default: What to give where it is not there.

        Raises:
            TranscriptError: If it is of another kind, or not there and not optional.
        """
        if not isinstance(self.value, dict):
            self.refuse(f"is {shown(self.value)}, no object")
        value = self.value.get(key, default)
        if value is ...:
            lacking = place((*self.path, key))
            raise TranscriptError(f"the transcript lacks {lacking}")
        if value is not default and (
            not isinstance(value, kind)
            or (isinstance(value, bool) and kind not in _ANY)
            or (kind in _NUMBERS and value is not None and not abs(value) < _LARGEST)
        ):
            Part(value, (*self.path, key)).refuse(f"cannot be {shown(value)}")
        return value

    def part(self, key: str, kind: Any = object, default: Any = ...) -> Part:
        """Give the same with its place."""
        return Part(self.get(key, kind, default), (*self.path, key))

    def each(self, key: str) -> Iterator[Part]:
        """Give the parts of a list; none where it is not there."""
        return self.part(key, list, []).parts()

    def parts(self) -> Iterator[Part]:
        """Give the parts of this list, or of this object."""
        found = self.value
        pairs = found.items() if isinstance(found, dict) else enumerate(found)
        return (Part(it, (*self.path, at)) for at, it in pairs)

    def member(self, kinds: Any) -> Any:
        """Give the member of an enum of texts that this text is."""
        return kinds(self.one_of(tuple(kinds)))

    def one_of(self, known: tuple[str, ...]) -> str:
        """Give this text, if it is one of those that are known."""
        if self.value not in known:
            self.refuse(f"is {shown(self.value)}, and none of {', '.join(known)}")
        value: str = self.value
        return value

    def pick(self, key: str, table: list[Any], default: Any = ...) -> Any:
        """Give what has the number under a key in a table; None for null."""
        number = self.get(key, int | None, default)
        return None if number is None else self.part(key).picked(table)

    def picked(self, table: list[Any]) -> Any:
        """Give what has this number in a table."""
        if type(self.value) is not int or not 0 <= self.value < len(table):
            self.refuse(f"cannot be: there is no {shown(self.value)}")
        return table[self.value]

    def refuse(self, problem: str) -> NoReturn:
        """Say what is wrong with it.

        Raises:
            TranscriptError: Always.
        """
        raise TranscriptError(f"{place(self.path)} of the transcript {problem}")
