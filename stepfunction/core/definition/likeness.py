"""Likeness: whether two definitions, or parts of them, are alike."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from types import MappingProxyType, MethodType
from typing import Any, ClassVar, NoReturn, TypeAlias

from stepfunction.core.frozen import Frozen

Pairs: TypeAlias = list[tuple[Any, Any]]

# A copy has the one where its original has the other.
_MAPPINGS = {dict, MappingProxyType}


class Defined(Frozen):
    """A part of a definition: another that is defined alike is equal to it.

    Attributes:
        ordered: The fields that are mappings whose order counts.
    """

    __slots__ = ()
    ordered: ClassVar[tuple[str, ...]] = ()

    def __eq__(self, other: object) -> bool:
        """Tell whether the two are defined alike, and all that is in them too."""
        return type(other) is type(self) and _alike(self, other)

    def __hash__(self) -> NoReturn:
        raise TypeError(
            f"a {type(self).__name__.lower()} cannot be hashed; its name can"
        )


def _alike(one: Any, other: Any) -> bool:
    """Tell whether two values are alike, whatever is nested in them, however deep."""
    seen: set[tuple[int, int]] = set()  # workflows may be nested in many places
    waiting: Pairs | None = [(one, other)]
    while waiting:
        one, other = waiting.pop()
        if one is other or (id(one), id(other)) in seen:
            continue
        if isinstance(one, Frozen):
            seen.add((id(one), id(other)))  # which are held by what is compared
        inside = _inside(one, other)
        if inside is None:
            return False
        waiting += inside
    return True


def _inside(one: Any, other: Any) -> Pairs | None:
    """Give what must be alike for two values to be; None if they cannot be."""
    if type(one) is not type(other) and not {type(one), type(other)} <= _MAPPINGS:
        return [] if _plainly_alike(one, other) else None
    if isinstance(one, Frozen):
        return _fields(one, other)
    if isinstance(one, Mapping):
        return _entries(one, other)
    if isinstance(one, list | tuple):
        return list(zip(one, other)) if len(one) == len(other) else None
    if type(one) is MethodType:  # which is itself alone by the object that it is of
        return [(one.__func__, other.__func__), (one.__self__, other.__self__)]
    if type(one) is partial:
        return [(one.__reduce__()[2], other.__reduce__()[2])]
    return [] if _are_equal(one, other) else None


def _are_equal(one: Any, other: Any) -> bool:
    try:
        return bool(one == other)
    except Exception:  # as of arrays, which compare part by part
        return False


def _fields(one: Frozen, other: Frozen) -> Pairs | None:
    ordered: tuple[str, ...] = getattr(one, "ordered", ())
    if any(list(getattr(one, it)) != list(getattr(other, it)) for it in ordered):
        return None
    return list(zip(one._values, other._values))


def _entries(one: Mapping[Any, Any], other: Mapping[Any, Any]) -> Pairs | None:
    if len(one) != len(other):
        return None
    keys = {key: key for key in other}  # which may be equal, and yet not alike
    pairs: Pairs = []
    for key, value in one.items():
        if key not in keys:
            return None
        pairs += [(key, keys[key]), (value, other[key])]
    return pairs


def _plainly_alike(one: Any, other: Any) -> bool:
    """Tell whether a text or number is another's, as of a member of an enum."""
    is_flag = isinstance(one, bool) or isinstance(other, bool)
    return not is_flag and isinstance(one, str | int | float) and bool(one == other)


def deep_copy(part: Frozen, known: dict[int, Any]) -> Any:
    """Copy a part of a definition, which shares the functions in it with its copy."""
    from copy import deepcopy

    for value in part._values:
        for it in value if type(value) is tuple else (value,):
            for one in it if type(it) is tuple else (it,):
                if callable(one) and not isinstance(one, Frozen):
                    known[id(one)] = one
    make, values = part.__reduce__()[:2]
    return make(*deepcopy(values, known))
