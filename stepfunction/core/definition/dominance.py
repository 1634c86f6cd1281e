"""Dominance: which nodes of a graph lie on every path to which others.

A node dominates another when every path from the start to that one goes through it.
The algorithm is the simpler one of T. Lengauer and R. E. Tarjan, "A fast algorithm for
finding dominators in a flowgraph", ACM TOPLAS 1 (1), 1979: O(m log n) for n nodes and
m arrows, whatever the graph looks like. Nothing here recurses.
"""

from __future__ import annotations

from collections.abc import Sequence

_NONE = -1


class Dominance:
    """The answer for one graph and one start.

    Args:
        arrows: Where each node leads; nodes are numbered from 0.
        start: The node at which all paths begin.
    """

    def __init__(self, arrows: Sequence[Sequence[int]], start: int) -> None:
        order, parents, numbers = _depth_first(arrows, start)
        sources = _sources(arrows, order, numbers)
        dominators = _immediate_dominators(parents, sources)
        self._numbers = numbers
        self._begin, self._end = _spans(dominators)

    def reaches(self, node: int) -> bool:
        """Tell whether any path leads to a node."""
        return self._numbers[node] != _NONE

    def holds(self, node: int, target: int) -> bool:
        """Tell whether every path to the target, which some reach, has the node."""
        number, place = self._numbers[node], self._begin[self._numbers[target]]
        return number != _NONE and self._begin[number] <= place < self._end[number]


def _depth_first(
    arrows: Sequence[Sequence[int]], start: int
) -> tuple[list[int], list[int], list[int]]:
    """Walk depth first, which gives each node that is reached a number.

    Returns:
        Number to node, number to the number of the node that it was reached from, and
        node to number.
    """
    numbers = [_NONE] * len(arrows)
    order: list[int] = []
    parents: list[int] = []
    waiting = [(start, 0)]
    while waiting:
        node, parent = waiting.pop()
        if numbers[node] == _NONE:
            numbers[node] = number = len(order)
            order.append(node)
            parents.append(parent)
            waiting += [(to, number) for to in arrows[node] if numbers[to] == _NONE]
    return order, parents, numbers


def _sources(
    arrows: Sequence[Sequence[int]], order: list[int], numbers: list[int]
) -> list[list[int]]:
    """Give which nodes lead to each; all of them by their numbers."""
    sources: list[list[int]] = [[] for _ in order]
    for number, node in enumerate(order):
        for target in arrows[node]:
            sources[numbers[target]].append(number)
    return sources


def _immediate_dominators(parents: list[int], sources: list[list[int]]) -> list[int]:
    """Give the nearest dominator of each node; the start is its own."""
    count = len(parents)
    semi = list(range(count))  # the semidominators, as the article calls them
    best = list(range(count))  # on the way up the forest, who has the least of them
    above = [_NONE] * count  # the forest, which least() makes flatter
    dominators = [0] * count
    waiting: list[list[int]] = [[] for _ in parents]

    def least(node: int) -> int:
        if above[node] == _NONE:
            return node
        way = []
        top = node
        while above[above[top]] != _NONE:
            way.append(top)
            top = above[top]
        for lower in reversed(way):
            upper = above[lower]
            if semi[best[upper]] < semi[best[lower]]:
                best[lower] = best[upper]
            above[lower] = above[upper]
        return best[node]

    for node in range(count - 1, 0, -1):
        for source in sources[node]:
            semi[node] = min(semi[node], semi[least(source)])
        waiting[semi[node]].append(node)
        above[node] = parent = parents[node]
        for other in waiting[parent]:
            found = least(other)
            dominators[other] = found if semi[found] < semi[other] else parent
        waiting[parent] = []
    for node in range(1, count):
        if dominators[node] != semi[node]:
            dominators[node] = dominators[dominators[node]]
    return dominators


def _spans(dominators: list[int]) -> tuple[list[int], list[int]]:
    """Number the tree of dominators so that who is below a node follows it at once.

    Returns:
        The place of each node, and the place after the last that is below it.
    """
    count = len(dominators)
    sizes = [1] * count
    for node in range(count - 1, 0, -1):  # a dominator has the lower number
        sizes[dominators[node]] += sizes[node]
    begin = [0] * count
    free = [1] * count  # the next place below each
    for node in range(1, count):
        parent = dominators[node]
        begin[node] = free[parent]
        free[parent] += sizes[node]
        free[node] = begin[node] + 1
    return begin, [place + size for place, size in zip(begin, sizes)]
