"""Likeness: whether two steps, or two graphs, are defined alike."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

from stepfunction.core.definition.actions import FanOut, MapItems
from stepfunction.core.definition.branch import Branch
from stepfunction.core.definition.graph import Graph, Step
from stepfunction.core.frozen import Frozen

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
        return _plainly_alike(one, other)
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
    return _values_alike(one, other)


def _fields_alike(one: Any, other: Any, known: Known) -> bool:
    for name, mine, its in zip(one._fields, _values(one), _values(other)):
        if name in _DERIVED:
            continue
        if name in ("table", "tasks"):
            # The order of tasks is that of the output; that of steps says nothing.
            if name == "tasks" and list(mine) != list(its):
                return False
            if not _mappings_alike(mine, its, known):
                return False
        elif not _alike(mine, its, known):
            return False
    return True


def _values(one: Any) -> Any:
    return one if isinstance(one, tuple) else one._values


def _mappings_alike(
    one: Mapping[str, Any], other: Mapping[str, Any], known: Known
) -> bool:
    return one.keys() == other.keys() and all(
        _alike(part, other[name], known) for name, part in one.items()
    )


def _values_alike(one: Any, other: Any) -> bool:
    """Tell whether two values are the same, all in all: True is not 1."""
    if one is other:
        return True
    if type(one) is not type(other):
        return _plainly_alike(one, other)
    if isinstance(one, Mapping):
        kinds = {key: type(key) for key in other}
        return len(one) == len(other) and all(
            kinds.get(key) is type(key) and _values_alike(value, other[key])
            for key, value in one.items()
        )
    if isinstance(one, Frozen):
        one, other = one._values, other._values
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(_values_alike, one, other))
    try:
        return bool(one == other)
    except Exception:  # as of arrays, which compare part by part
        return one is other


def _plainly_alike(one: Any, other: Any) -> bool:
    """Tell whether a text or number is another's, as of a member of an enum."""
    is_flag = isinstance(one, bool) or isinstance(other, bool)
    return not is_flag and isinstance(one, str | int | float) and bool(one == other)


def _table_kinds(branch: Branch) -> dict[Any, bool]:
    # True == 1 in Python, but a branch tells them apart.
    return {key: isinstance(it, bool) for key, (it, _) in branch.table.items()}
