"""Whereabouts: which part of a value it is that cannot be pickled."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from reprlib import repr as short_repr
from types import MethodType
from typing import Any

_DEEPEST = 50


def locate(value: Any, root: str, pack: Callable[[Any], object]) -> str:
    """Give the way to the innermost part of a value that cannot be packed.

    Args:
        value: What cannot be packed.
        root: What the value is called: ``"input"``.
        pack: Packs a part of it, or raises.

    Returns:
        An expression such as ``"input.connection['lock']"``; the root alone if it is
        the value itself, or if its parts say nothing.
    """
    way, seen = root, {id(value)}
    for _ in range(_DEEPEST):
        try:
            for step, part in _parts(value):
                if id(part) not in seen and _fails(part, pack):
                    way, value = way + step, part
                    seen.add(id(part))
                    break
            else:
                return way
        except Exception:  # a mapping, a repr or a property of the user's own fails
            return way
    return root  # nested too deep: that itself is what is wrong


def _fails(part: Any, pack: Callable[[Any], object]) -> bool:
    try:
        pack(part)
    except Exception:
        return True
    return False


def _parts(value: Any) -> Iterator[tuple[str, Any]]:
    """Give the parts of a value and how each is reached from it."""
    if isinstance(value, Mapping):
        for key, part in value.items():
            yield f"[{short_repr(key)}]", part
    elif isinstance(value, tuple) and hasattr(value, "_fields"):
        yield from _attributes(value, value._fields)
    elif isinstance(value, list | tuple):
        for index, part in enumerate(value):
            yield f"[{index}]", part
    elif isinstance(value, set | frozenset):
        for part in value:
            yield "{…}", part
    elif isinstance(value, partial):
        yield from _attributes(value, ("func", "args", "keywords"))
    elif isinstance(value, MethodType):
        yield from _attributes(value, ("__self__",))
    slots = (name for one in type(value).__mro__ for name in _slots(one))
    yield from _attributes(value, (*getattr(value, "__dict__", ()), *slots))


def _attributes(value: Any, names: Any) -> Iterator[tuple[str, Any]]:
    for name in names:
        try:
            yield f".{name}", getattr(value, name)
        except Exception:  # a slot without a value, a property that fails
            continue


def _slots(cls: type) -> tuple[str, ...]:
    slots = cls.__dict__.get("__slots__", ())
    return (slots,) if isinstance(slots, str) else tuple(slots)
