"""Members: what a value is made of, and how each part is reached from it.

A value is taken apart as ``copy`` and ``pickle`` do, so that a class decides itself
what of it matters.
"""

from __future__ import annotations

import copyreg
import types
from collections.abc import Hashable, Iterator, Mapping
from functools import partial
from typing import Any, TypeAlias

from stepfunction.core.raised import short_repr

# How a part is reached: "item" and its key or index, "attribute" and its name,
# "element" and, for a set has no order, which; "made of" for what has no way to it.
Key: TypeAlias = tuple[str, Hashable]

PLAIN = frozenset(
    (int, float, complex, str, bytes, bool, type(None), type(...), range)
)
# What is found by its name, or is the same wherever it is.
FIXED = (
    type,
    types.FunctionType,
    types.BuiltinFunctionType,
    types.ModuleType,
    types.CodeType,
    property,
)


def members(value: Any) -> Iterator[tuple[Key, Any]]:
    """Give the parts of a value, each with how it is reached from it.

    Raises:
        Exception: What a value raises that cannot be taken apart.
    """
    kind = type(value)
    if kind in PLAIN or issubclass(kind, FIXED):
        return
    if kind is dict:
        for key, part in list(value.items()):
            yield ("item", key), part
    elif kind is list or kind is tuple:
        for index, part in enumerate(value):
            yield ("item", index), part
    elif kind is set or kind is frozenset:
        for part in value:
            # By what it has and not by its order, which a removal may change.
            yield ("element", part if type(part) in PLAIN else id(part)), part
    elif kind is partial:
        state = value.__dict__
        yield from _attributes(("func", "args", "keywords"), value.__reduce__()[2])
        yield from _attributes(state, state.values())
    elif kind is types.MethodType:
        yield ("attribute", "__self__"), value.__self__
        yield ("made of", "name"), value.__name__
    else:
        yield from _reduced(value)


def _reduced(value: Any) -> Iterator[tuple[Key, Any]]:
    reducer = copyreg.dispatch_table.get(type(value))
    reduced = value.__reduce_ex__(4) if reducer is None else reducer(value)
    if isinstance(reduced, str):  # it is a global, and found by this name
        yield ("made of", "name"), reduced
        return
    make, args, state, items, pairs = (*reduced, None, None, None)[:5]
    yield ("made of", "call"), make
    if make is copyreg.__newobj__:  # type: ignore[attr-defined]
        make, args = args[0], args[1:]
    fields = getattr(type(value), "_fields", ())
    if make is type(value) and len(fields) == len(args):  # a named tuple, or Frozen
        yield from _attributes(fields, args)
    else:
        for index, part in enumerate(args):
            yield ("made of", index), part
    for one in state if _is_pair(state) else (state,):
        if isinstance(one, Mapping):
            yield from _attributes(one, one.values())
        elif one is not None:
            yield ("made of", "state"), one
    for index, part in enumerate(items or ()):
        yield ("item", index), part
    for key, part in pairs or ():
        yield ("item", key), part


def _is_pair(state: Any) -> bool:
    """Tell the state of an object with slots: its ``__dict__``, or None, and these."""
    return (
        isinstance(state, tuple)
        and len(state) == 2
        and all(isinstance(one, dict | None) for one in state)
    )


def _attributes(names: Any, parts: Any) -> Iterator[tuple[Key, Any]]:
    for name, part in zip(names, parts):
        yield ("attribute", name), part


def suffix(key: Key) -> str:
    """Say how a part is reached from what it is a part of, as ``['a']`` or ``.b``."""
    kind, name = key
    if kind == "attribute":
        return f".{name}"
    if kind == "item":
        return f"[{short_repr(name)}]"
    return "{…}" if kind == "element" else ""
