"""Columns: where the steps of a large workflow stand, and which arrows have room there.

Arrows from column to column do not say what stands below what. So a long chain is no
strip that nobody can read, and long arrows do not take minutes to lay out; nor do the
clusters that they would cross, for what is inside a step is not drawn then.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from stepfunction.core.definition.branch import Arrow

_MOST_IN_ONE = 60  # steps of a workflow that stands in one column
_ROWS = 25  # of a column, where there are several
# What arrows may pass in all: each is as dear to lay out as it is long, and where they
# are many nobody could follow one.
_MOST_ROWS_WITHIN, _MOST_ROWS_ACROSS = 3_000, 1_000


class Candidate(NamedTuple):
    """An arrow that is to be drawn if there is room.

    Attributes:
        origin: The name of the step that it comes from.
        arrow: The arrow.
        is_taken: Whether an execution followed it.
    """

    origin: str
    arrow: Arrow
    is_taken: bool


class Columns:
    """The columns of a workflow; most have one.

    Attributes:
        are_many: Whether there are several.
    """

    def __init__(self, start: str, leaving: Mapping[str, Sequence[Arrow]]) -> None:
        """Give each step its place.

        Args:
            start: The name of the first step.
            leaving: Step name to its arrows.
        """
        self.are_many = len(leaving) > _MOST_IN_ONE
        self._rows = _ROWS if self.are_many else len(leaving)
        self._depths = _depths(start, leaving)

    def are_apart(self, one: str, other: str) -> bool:
        """Whether two steps stand in different columns."""
        return self._depths[one] // self._rows != self._depths[other] // self._rows

    def with_room(self, candidates: Sequence[Candidate]) -> list[Candidate]:
        """Give those arrows that are drawn.

        Of those to other columns these are all, all that were followed, or none; of
        the others these are the shortest, after those that were followed.
        """
        within, across = list[Candidate](), list[Candidate]()
        for it in candidates:
            is_across = self.are_apart(it.origin, it.arrow.target)
            (across if is_across else within).append(it)
        if sum(map(self._length, across)) > _MOST_ROWS_ACROSS:
            across = [it for it in across if it.is_taken]
        if sum(map(self._length, across)) > _MOST_ROWS_ACROSS:
            across = []
        rows, drawn = 0, list[Candidate]()
        for it in sorted(within, key=lambda it: (not it.is_taken, self._length(it))):
            rows += self._length(it)
            if rows > _MOST_ROWS_WITHIN:
                break
            drawn.append(it)
        return drawn + across

    def _length(self, it: Candidate) -> int:
        """Give how many rows an arrow passes; other columns stand beside its own."""
        row, target = self._depths[it.origin], self._depths[it.arrow.target]
        return abs(row % self._rows - target % self._rows) or 1


def _depths(start: str, leaving: Mapping[str, Sequence[Arrow]]) -> dict[str, int]:
    """Give how many steps come before each on the longest way, arrows back aside."""
    order = _in_order(start, leaving)
    places = {name: place for place, name in enumerate(order)}
    depths = dict.fromkeys(order, 0)
    for name in order:
        for arrow in leaving[name]:
            if places[arrow.target] > places[name]:
                depths[arrow.target] = max(depths[arrow.target], depths[name] + 1)
    return depths


def _in_order(start: str, leaving: Mapping[str, Sequence[Arrow]]) -> list[str]:
    """Give the steps so that each comes after those that lead to it, but for loops."""
    ended: list[str] = []
    seen = {start}
    path: list[tuple[str, Iterator[Arrow]]] = [(start, iter(leaving[start]))]
    while path:
        name, arrows = path[-1]
        target = next((it.target for it in arrows if it.target not in seen), None)
        if target is None:
            ended.append(name)
            path.pop()
        else:
            seen.add(target)
            path.append((target, iter(leaving[target])))
    return ended[::-1]
