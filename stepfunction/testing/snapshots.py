"""Snapshots: what a value is made of, and which parts of it have changed since.

A value is taken apart as ``copy`` and ``pickle`` do, so that a class decides itself
what of it matters. Nothing is compared but plain values, by their types too; what a
class says is equal is not asked, and NaN has not changed.
"""

from __future__ import annotations

import types
from collections.abc import Iterator, Mapping
from copy import copy
from reprlib import Repr
from typing import Any, NamedTuple

from stepfunction.core.members import FIXED, PLAIN, Key, members, suffix
from stepfunction.core.raised import short_repr
from stepfunction.core.wording import error_text

_DEEPEST = 60
# What Django and SQLAlchemy note of their rows, also when these are only read.
_BOOKS = frozenset(
    ("attribute", name)
    for name in ("fields_cache", "_prefetched_objects_cache", "_sa_instance_state")
)


class Snapshot(NamedTuple):
    """A value, or a part of one, as it was.

    Attributes:
        value: It itself.
        kind: Its type.
        text: What messages call it; empty for their own words.
        parts: What it is made of, by how each part is reached; None of what has no
            parts, or was met before, and of what is copied.
        flat: The copy of a list, tuple or dict of plain values alone, and their
            types, which are quick to make and to compare.
        reason: Why it cannot be looked into; empty if it can.
        same_as: Where it was met before; empty if it was not.
    """

    value: Any
    kind: type
    text: str = ""
    parts: dict[Key, Snapshot] | None = None
    flat: tuple[list[type], Any] | None = None
    reason: str = ""
    same_as: str = ""

    def __str__(self) -> str:
        if self.reason:
            return "what cannot be looked into"
        if self.same_as:
            return f"the same as {self.same_as}"
        return self.text or short_repr(self.value)

    def opened(self) -> dict[Key, Snapshot] | None:
        """Give its parts, also of what is copied."""
        if self.flat is None:
            return self.parts
        copied = self.flat[1]
        pairs = copied.items() if self.kind is dict else enumerate(copied)
        return {("item", key): Snapshot(part, type(part)) for key, part in pairs}

    def is_as(self, other: Snapshot) -> bool:
        """Tell whether another is the same, as far as that shows on the outside."""
        old, new = self.value, other.value
        if old is new:
            return bool(self.reason) is bool(other.reason)
        if self.kind is not other.kind:
            return False
        if self.same_as and self.same_as == other.same_as:
            return True  # of what is made anew whenever it is taken apart
        if self.kind not in PLAIN:
            return False
        return bool(old == new) or repr(old) == repr(new)  # NaN is not equal to itself


def take(value: Any, root: str) -> Snapshot:
    """Take a snapshot of a value.

    Args:
        value: The value.
        root: What to call it.
    """
    return take_all({root: value})[root]


def take_all(values: Mapping[str, Any]) -> dict[str, Snapshot]:
    """Take snapshots of values by what to call each; what is shared is in the first."""
    seen: dict[int, Any] = {}
    return {root: _look(value, root, 0, seen) for root, value in values.items()}


def _look(value: Any, way: str, depth: int, seen: dict[int, Any]) -> Snapshot:
    # What was met is kept, so that nothing else has its id.
    kind = type(value)
    if kind in PLAIN or issubclass(kind, FIXED):
        return Snapshot(value, kind)
    if id(value) in seen:
        return Snapshot(value, kind, same_as=seen[id(value)][1])
    if depth > _DEEPEST:
        return Snapshot(value, kind, reason="it is nested too deep")
    seen[id(value)] = value, way
    if kind in (list, tuple, dict):
        kinds = list(map(type, value.values() if kind is dict else value))
        if PLAIN.issuperset(kinds):
            return Snapshot(value, kind, _text(value), flat=(kinds, copy(value)))
    try:
        parts = {
            key: (
                Snapshot(part, type(part))
                if type(part) in PLAIN
                else _look(part, way + suffix(key), depth + 1, seen)
            )
            for key, part in members(value)
            if key not in _BOOKS
        }
        return Snapshot(value, kind, _text(value), parts)
    except Exception as error:  # what cannot be pickled says so in many ways
        return Snapshot(value, kind, reason=error_text(error))


def _is_cache(kind: type, key: Key) -> bool:
    """Tell what is written when it is first read, as what a ``cached_property`` keeps.

    So are the fields of a row that its ORM has not loaded yet.
    """
    way, name = key
    if way != "attribute" or not isinstance(name, str):
        return False
    shadowed = next((vars(it)[name] for it in kind.__mro__ if name in vars(it)), None)
    if isinstance(shadowed, types.FunctionType | classmethod | staticmethod):
        return False
    is_row = any("_sa_class_manager" in vars(it) for it in kind.__mro__)
    may_be_set = hasattr(type(shadowed), "__set__") and not is_row
    return hasattr(type(shadowed), "__get__") and not may_be_set


class Change(NamedTuple):
    """One part of a value that is no longer what it was.

    Attributes:
        way: An expression for it, such as ``"input['rates'][2]"``.
        text: What became of it.
    """

    way: str
    text: str

    def __str__(self) -> str:
        return f"{self.way} {self.text}"


def changes(before: Snapshot, after: Snapshot, way: str) -> Iterator[Change]:
    """Give what has changed between two snapshots.

    Args:
        before: The earlier.
        after: The later.
        way: What to call the value.
    """
    if before.flat is not None and after.flat is not None:
        if before.flat == after.flat and before.kind is after.kind:
            return
    old, new = before.opened(), after.opened()
    if old is None or new is None or before.kind is not after.kind:
        # What was met before is compared where it was met first.
        if before.kind is not after.kind or not before.is_as(after):
            yield Change(way, f"was {before} and is {after}")
        return
    is_made_anew = False
    for key in {**old, **new}:
        where = way + suffix(key)
        if key[0] == "made of" and key in old and key in new:
            # No expression leads there.
            is_same = next(changes(old[key], new[key], where), None) is None
            is_made_anew = is_made_anew or not is_same
        elif (key in old) is not (key in new) and _is_cache(before.kind, key):
            continue  # it was read for the first time, or is to be read anew
        elif key not in old:
            yield Change(where, f"was added: {new[key]}")
        elif key not in new:
            yield Change(where, f"was removed: {old[key]}")
        else:
            yield from changes(old[key], new[key], where)
    if is_made_anew:
        yield Change(way, f"is {after} that was changed")


def dark_parts(snapshot: Snapshot, way: str) -> Iterator[tuple[str, str]]:
    """Give where a snapshot has parts that it could not look into, and why not."""
    if snapshot.reason:
        yield way, snapshot.reason
    for key, part in (snapshot.parts or {}).items():
        if not _is_cache(snapshot.kind, key):
            yield from dark_parts(part, way + suffix(key))


class _ShortRepr(Repr):
    """Says of objects only what they are: a ``__repr__`` may do anything."""

    def repr_instance(self, value: Any, level: int) -> str:
        if type(value) in PLAIN:
            return super().repr_instance(value, level)
        return f"<{type(value).__name__}>"


_short = _ShortRepr()
_short.maxlevel = 2


def _text(value: Any) -> str:
    if type(value) in (dict, list, tuple, set, frozenset):
        return _short.repr(value)
    return f"a {type(value).__name__}"
