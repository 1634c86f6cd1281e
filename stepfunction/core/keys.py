"""Keys: by which tasks, items and nested executions are known."""

from __future__ import annotations

from typing import TypeAlias

# The name of a task of a parallel step, or the index of an item of a map step.
PartKey: TypeAlias = str | int
# A key of ``children``: a step, or a part of it.
ChildKey: TypeAlias = "str | tuple[str, PartKey]"
# The keys of ``children`` that lead to a nested execution from the outermost.
Path: TypeAlias = tuple[ChildKey, ...]


def task_of(part: PartKey | None) -> str | None:
    """Give the name of a task; None for anything else."""
    return part if isinstance(part, str) else None


def item_of(part: PartKey | None) -> int | None:
    """Give the index of an item; None for anything else."""
    return None if isinstance(part, str) else part
