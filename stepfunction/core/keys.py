"""Keys: by which tasks, items and nested executions are known."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

# The name of a task of a parallel step, or the index of an item of a map step.
PartKey: TypeAlias = str | int
# A key of ``children``: a step, or a part of it.
ChildKey: TypeAlias = "str | tuple[str, PartKey]"
# The keys of ``children`` that lead to a nested execution from the outermost.
Path: TypeAlias = tuple[ChildKey, ...]


class OfPart:
    """What may be of a part of a step, its ``part``; None where it is of the step."""

    __slots__ = ()

    if TYPE_CHECKING:
        part: PartKey | None

    @property
    def task(self) -> str | None:
        """The name of the task of a parallel step; None for all else."""
        return self.part if isinstance(self.part, str) else None

    @property
    def item(self) -> int | None:
        """The index of the item of a map step; None for all else."""
        return None if isinstance(self.part, str) else self.part


def quoted(text: str) -> str:
    """Give a text without the mark that parts keys from one another."""
    return text.replace("%", "%25").replace("/", "%2F")
