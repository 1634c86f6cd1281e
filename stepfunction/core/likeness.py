"""Likeness: whether two steps, or two graphs, are defined alike."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

from stepfunction.core.actions import FanOut, MapItems
from stepfunction.core.branch import Branch
from stepfunction.core.graph import Graph, Step

Known: TypeAlias = dict[tuple[int, int], bool]

# What follows from the definition: for the engine alone, and compared by identity.
_DERIVED = ("plain", "course")


def alike(one: object, other: object) -> bool:
    """Tell whether two definitions are the same."""
    return _alike(one, other, {})


def _alike(one: Any, other: Any, known: Known) -> bool:
    if one is other:
        return True
    if type(one) is not type(other):
        return not isinstance(one, tuple) and bool(one == other)
    if isinstance(one, Graph):
        # A workflow that is nested in many places is looked at once.
        pair = id(one), id(other)
        if pair not in known:
            known[pair] = _fields_alike(one, other, known)
        return known[pair]
    if isinstance(one, Step | FanOut | MapItems):
        return _fields_alike(one, other, known)
    if isinstance(one, Branch):
        return _table_kinds(one) == _table_kinds(other) and tuple(one) == tuple(other)
    return bool(one == other)


def _fields_alike(one: Any, other: Any, known: Known) -> bool:
    for name, mine, its in zip(one._fields, one, other, strict=True):
        if name in _DERIVED:
            continue
        if name in ("table", "tasks"):
            if not _mappings_alike(mine, its, known):
                return False
        elif not _alike(mine, its, known):
            return False
    return True


def _mappings_alike(
    one: Mapping[str, Any], other: Mapping[str, Any], known: Known
) -> bool:
    return one.keys() == other.keys() and all(
        _alike(part, other[name], known) for name, part in one.items()
    )


def _table_kinds(branch: Branch) -> dict[Any, bool]:
    # True == 1 in Python, but a branch tells them apart.
    return {key: isinstance(it, bool) for key, (it, _) in branch.table.items()}
