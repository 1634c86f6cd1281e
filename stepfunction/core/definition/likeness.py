"""Likeness: whether two definitions, or parts of them, are alike."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, ClassVar, NoReturn, TypeAlias

from stepfunction.core.frozen import Frozen

Known: TypeAlias = dict[tuple[int, int], bool]

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
        return type(other) is type(self) and _alike(self, other, {})

    def __hash__(self) -> NoReturn:
        raise TypeError(
            f"a {type(self).__name__.lower()} cannot be hashed; its name can"
        )


def _alike(one: Any, other: Any, known: Known) -> bool:
    if one is other:
        return True
    if type(one) is not type(other) and not {type(one), type(other)} <= _MAPPINGS:
        return _plainly_alike(one, other)
    if isinstance(one, Frozen):
        # A workflow that is nested in many places is looked at once.
        pair = id(one), id(other)
        if pair not in known:
            known[pair] = _fields_alike(one, other, known)
        return known[pair]
    if isinstance(one, Mapping):
        return len(one) == len(other) and _entries_alike(one, other, known)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(
            [_alike(mine, its, known) for mine, its in zip(one, other)]
        )
    try:
        return bool(one == other)
    except Exception:  # as of arrays, which compare part by part
        return False


def _fields_alike(one: Frozen, other: Frozen, known: Known) -> bool:
    ordered: Any = getattr(one, "ordered", ())
    for name, mine, its in zip(one._fields, one._values, other._values):
        if name in ordered and list(mine) != list(its):
            return False
        if not _alike(mine, its, known):
            return False
    return True


def _entries_alike(
    one: Mapping[Any, Any], other: Mapping[Any, Any], known: Known
) -> bool:
    keys = {key: key for key in other}  # which may be equal, and yet not alike
    for key, value in one.items():
        if key not in keys or not _alike(key, keys[key], known):
            return False
        if not _alike(value, other[key], known):
            return False
    return True


def _plainly_alike(one: Any, other: Any) -> bool:
    """Tell whether a text or number is another's, as of a member of an enum."""
    is_flag = isinstance(one, bool) or isinstance(other, bool)
    return not is_flag and isinstance(one, str | int | float) and bool(one == other)
