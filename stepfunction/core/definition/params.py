"""Params: what an author has fixed for all calls, and what each is given of it."""

from __future__ import annotations

from typing import Any


def for_one_call(value: Any) -> Any:
    """Give a value to a call that may change it: lists and the like are copied.

    That is lists, dicts, sets, bytearrays, and those in these and in tuples. Whatever
    else there is, as a client or a lock, is shared by all calls.
    """
    return _copied(value, {}) if _is_holder(type(value)) else value


def _is_holder(kind: type[Any]) -> bool:
    """Tell what can hold another that may be changed, or can be changed itself."""
    # By identity, for the class of a class may have an equality of its own.
    is_plain = kind is list or kind is dict or kind is tuple
    return is_plain or kind is set or kind is bytearray


def _copied(value: Any, known: dict[int, Any]) -> Any:
    kind = type(value)
    if not _is_holder(kind):
        return value
    if id(value) in known:
        return known[id(value)]
    if kind is set or kind is bytearray:
        made: Any = value.copy()
    elif kind is list:
        made = known[id(value)] = []
        made += [_copied(it, known) for it in value]
    elif kind is dict:
        made = known[id(value)] = {}
        for key, it in tuple(value.items()):
            made[key] = _copied(it, known)
    else:
        parts = [_copied(it, known) for it in value]
        if all(mine is its for mine, its in zip(parts, value)):
            return value
        # What is in it may be in a circle that leads back to it.
        made = known.get(id(value)) or tuple(parts)
    known[id(value)] = made
    return made
