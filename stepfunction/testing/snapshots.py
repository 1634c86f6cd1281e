"""Snapshots: what a value is made of, and which parts of it have changed since.

A value is taken apart as ``copy`` and ``pickle`` do, so that a class decides itself
what of it matters. Nothing is compared but plain values, by their types too; what a
class says is equal is not asked, and NaN has not changed.
"""

from __future__ import annotations

import copyreg
import types
from collections.abc import Hashable, Iterator, Mapping
from copy import copy
from reprlib import Repr
from reprlib import repr as short_repr
from typing import Any, NamedTuple, TypeAlias

from stepfunction.core.wording import error_text

_DEEPEST = 60
_PLAIN = frozenset(
    (int, float, complex, str, bytes, bool, type(None), type(...), range)
)
_FIXED = (
    type,
    types.FunctionType,
    types.BuiltinFunctionType,
    types.ModuleType,
    types.CodeType,
    property,
)


class Leaf(NamedTuple):
    """A part that has no parts.

    Attributes:
        value: It itself.
        is_plain: Whether it is compared by its value, and not by who it is.
    """

    value: Any
    is_plain: bool


class Tree(NamedTuple):
    """A part that has parts.

    Attributes:
        kind: What it is.
        parts: Its parts, by how each is reached from it.
        text: What messages call it.
        who: Its id.
    """

    kind: type
    parts: dict[Hashable, Part]
    text: str
    who: int


class Flat(NamedTuple):
    """A list, tuple or dict of plain values alone, which is quick to copy and compare.

    Attributes:
        kind: Which of these.
        values: Its copy.
        kinds: The types of the values.
        text: What messages call it.
        who: Its id.
    """

    kind: type
    values: Any
    kinds: list[type]
    text: str
    who: int

    def as_tree(self) -> Tree:
        """Give it part by part."""
        pairs = self.values.items() if self.kind is dict else enumerate(self.values)
        parts: dict[Hashable, Part] = {("item", k): Leaf(v, True) for k, v in pairs}
        return Tree(self.kind, parts, self.text, self.who)


class Again(NamedTuple):
    """A part that was met before, there.

    Attributes:
        way: Where.
        who: Its id.
    """

    way: str
    who: int


class Dark(NamedTuple):
    """A part that cannot be looked into.

    Attributes:
        value: It itself.
        reason: Why not.
    """

    value: Any
    reason: str


Part: TypeAlias = "Leaf | Tree | Flat | Again | Dark"
_ABSENT = Leaf(object(), False)


def take(value: Any, root: str) -> Part:
    """Take a snapshot of a value.

    Args:
        value: The value.
        root: What to call it.
    """
    return _Camera().look(value, root, 0)


class _Camera:
    def __init__(self) -> None:
        # What was met, by id, and where; it is kept, so that no other has its id.
        self.seen: dict[int, tuple[Any, str]] = {}

    def look(self, value: Any, way: str, depth: int) -> Part:
        if type(value) in _PLAIN:
            return Leaf(value, True)
        if isinstance(value, _FIXED):
            return Leaf(value, False)
        if id(value) in self.seen:
            return Again(self.seen[id(value)][1], id(value))
        if depth > _DEEPEST:
            return Dark(value, "it is nested too deep")
        self.seen[id(value)] = value, way
        if type(value) in (list, tuple, dict):
            kinds = list(map(type, value.values() if type(value) is dict else value))
            if _PLAIN.issuperset(kinds):
                return Flat(type(value), copy(value), kinds, _text(value), id(value))
        try:
            found = self.parts(value)
            return Tree(
                type(value),
                {
                    key: (
                        Leaf(part, True)
                        if type(part) in _PLAIN
                        else self.look(part, way + suffix(key), depth + 1)
                    )
                    for key, part in found.items()
                },
                _text(value),
                id(value),
            )
        except Exception as error:  # what cannot be pickled says so in many ways
            return Dark(value, error_text(error))

    def parts(self, value: Any) -> dict[Hashable, Any]:
        kind = type(value)
        if kind is dict:
            return {("item", key): part for key, part in value.items()}
        if kind is list or kind is tuple:
            return {("item", index): part for index, part in enumerate(value)}
        if kind is set or kind is frozenset:
            return _parts_of_set(value)
        return _parts_of_object(value)


def _parts_of_set(value: Any) -> dict[Hashable, Any]:
    # By what it has and not by its order, which a removal may change.
    return {
        ("element", each if type(each) in _PLAIN else id(each)): each for each in value
    }


def _parts_of_object(value: Any) -> dict[Hashable, Any]:
    reducer = copyreg.dispatch_table.get(type(value))
    reduced = value.__reduce_ex__(4) if reducer is None else reducer(value)
    if isinstance(reduced, str):  # it is a global, and found by this name
        return {("made of", "name"): reduced}
    make, args, state, items, pairs = (*reduced, None, None, None)[:5]
    parts: dict[Hashable, Any] = {("made of", "call"): make}
    if make is copyreg.__newobj__:  # type: ignore[attr-defined]
        args = args[1:]  # after the class
    parts.update({("made of", index): arg for index, arg in enumerate(args)})
    for one in state if _is_pair(state) else (state,):
        if isinstance(one, Mapping):
            parts.update(_attributes(value, one))
        elif one is not None:
            parts["made of", "state"] = one
    for index, item in enumerate(items or ()):
        parts["item", index] = item
    for key, part in pairs or ():
        parts["item", key] = part
    return parts


def _is_pair(state: Any) -> bool:
    """Tell the state of an object with slots: its ``__dict__``, or None, and these."""
    return (
        isinstance(state, tuple)
        and len(state) == 2
        and all(isinstance(one, dict | None) for one in state)
    )


def _attributes(value: Any, state: Mapping[Any, Any]) -> dict[Hashable, Any]:
    found: dict[Hashable, Any] = {}
    for name, part in state.items():
        if not (isinstance(name, str) and _is_cache(type(value), name)):
            found["attribute", name] = part
    return found


def _is_cache(kind: type, name: str) -> bool:
    """Tell what a ``cached_property`` keeps, which is written when it is first read."""
    shadowed = next((vars(it)[name] for it in kind.__mro__ if name in vars(it)), None)
    return (
        hasattr(type(shadowed), "__get__")
        and not hasattr(type(shadowed), "__set__")
        and not isinstance(shadowed, types.FunctionType | classmethod | staticmethod)
    )


def suffix(key: Any) -> str:
    """Say how a part is reached from what it is a part of."""
    kind, name = key
    if kind == "attribute":
        return f".{name}"
    if kind == "item":
        return f"[{short_repr(name)}]"
    return "{…}" if kind == "element" else ""


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


def changes(before: Part, after: Part, way: str) -> Iterator[Change]:
    """Give what has changed between two snapshots.

    Args:
        before: The earlier.
        after: The later.
        way: What to call the value.
    """
    if isinstance(before, Dark) and isinstance(after, Dark):
        if before.value is after.value:
            return  # it is told by itself that nobody knows
    elif isinstance(before, Tree | Flat) and isinstance(after, Tree | Flat):
        if before.kind is after.kind:
            yield from _changes_inside(before, after, way)
            return
    elif isinstance(before, Leaf) and isinstance(after, Leaf):
        if _is_same(before, after):
            return
    elif not isinstance(before, Leaf | Dark) and not isinstance(after, Leaf | Dark):
        if before.who == after.who:
            return  # where it was met first, it is compared
    yield Change(way, f"was {_name(before)} and is {_name(after)}")


def _changes_inside(
    before: Tree | Flat, after: Tree | Flat, way: str
) -> Iterator[Change]:
    if isinstance(before, Flat):
        if isinstance(after, Flat) and before[1:3] == after[1:3]:
            return
        before = before.as_tree()
    if isinstance(after, Flat):
        after = after.as_tree()
    for key in {**before.parts, **after.parts}:
        old, new = before.parts.get(key, _ABSENT), after.parts.get(key, _ABSENT)
        where = way + suffix(key)
        if old is _ABSENT:
            yield Change(where, f"was added: {_name(new)}")
        elif new is _ABSENT:
            yield Change(where, f"was removed: {_name(old)}")
        else:
            yield from changes(old, new, where)


def _is_same(before: Leaf, after: Leaf) -> bool:
    old, new = before.value, after.value
    if old is new:
        return True
    if not (before.is_plain and after.is_plain and type(old) is type(new)):
        return False
    return bool(old == new) or repr(old) == repr(new)  # NaN is not equal to itself


def dark_parts(part: Part, way: str) -> Iterator[tuple[str, str]]:
    """Give where a snapshot has parts that it could not look into, and why not."""
    if isinstance(part, Dark):
        yield way, part.reason
    elif isinstance(part, Tree):
        for key, inner in part.parts.items():
            yield from dark_parts(inner, way + suffix(key))


def _name(part: Part) -> str:
    if isinstance(part, Leaf):
        return short_repr(part.value)
    if isinstance(part, Again):
        return f"the same as {part.way}"
    return part.text if isinstance(part, Tree | Flat) else "what cannot be looked into"


class _ShortRepr(Repr):
    """Says of objects only what they are: a ``__repr__`` may do anything."""

    def repr_instance(self, value: Any, level: int) -> str:
        if type(value) in _PLAIN:
            return super().repr_instance(value, level)
        return f"<{type(value).__name__}>"


_short = _ShortRepr()
_short.maxlevel = 2


def _text(value: Any) -> str:
    if type(value) in (dict, list, tuple, set, frozenset):
        return _short.repr(value)
    return f"a {type(value).__name__}"
