"""JSON data: what JSON can hold, and the place of what it cannot.

A place is a path such as ``steps.Pay.retry.interval``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from reprlib import Repr
from typing import Any, NamedTuple, TypeAlias

Path: TypeAlias = tuple[str | int, ...]

DEEPEST = 100
_LARGEST = 10**300  # beyond which other readers of JSON would have infinity


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


class Problem(NamedTuple):
    """What JSON could not hold, or not as it is.

    Attributes:
        path: Where it is.
        text: What is wrong.
        is_grave: Whether what has it can neither be read nor shown.
    """

    path: Path
    text: str
    is_grave: bool = False


def problems_of(value: Any, path: Path = ()) -> Iterator[Problem]:
    """Say what JSON could not hold of a value, or not as it is, and where."""
    yield from _problems(value, path, {}, 0)


def _problems(
    value: Any, path: Path, looked_at: dict[int, bool], depth: int
) -> Iterator[Problem]:
    kind = type(value)
    if kind in _PLAIN:
        return
    if kind not in _CONTAINERS:
        yield from _leaf_problems(value, path)
    elif looked_at.get(id(value)) is False:
        yield Problem(path, "it contains itself", True)
    elif depth == DEEPEST:
        yield Problem(path, f"it is nested more than {DEEPEST} deep", True)
    elif id(value) not in looked_at:
        looked_at[id(value)] = False  # whether it has been looked through
        for key, part in enumerate(value) if kind is list else value.items():
            if kind is not list and type(key) is not str:
                yield Problem(path, f"the key {shown(key)} is no text")
            elif type(part) is not str:
                yield from _problems(part, (*path, key), looked_at, depth + 1)
        for key in getattr(value, "keys_twice", ()):
            yield Problem(path, f"the key {key!r} is there more than once")
        looked_at[id(value)] = True


def _leaf_problems(value: Any, path: Path) -> Iterator[Problem]:
    kind = type(value)
    if kind is int or kind is float:
        if not -_LARGEST < value < _LARGEST:
            yield Problem(path, f"JSON cannot hold {shown(value)}", kind is int)
    elif kind is tuple:
        text = f"JSON has no tuples; {shown(value)} would come back as a list, give one"
        yield Problem(path, text)
    elif kind.__name__ == "datetime":
        text = f"JSON has no datetimes; give the text {str(value.isoformat())!r}"
        yield Problem(path, text)
    else:
        what = f"{shown(value)}, of type {kind.__name__!r}, as what it is"
        yield Problem(path, f"JSON cannot hold {what}")


class _Short(Repr):
    def __init__(self) -> None:
        super().__init__()
        self.maxstring = self.maxother = 60

    def repr_int(self, x: int, level: int) -> str:
        # Python refuses to write what is very long.
        return repr(x) if -_LARGEST < x < _LARGEST else "so large a number"


_PLAIN = (str, bool, type(None))
_CONTAINERS = (dict, list, Repeated)
shown = _Short().repr
