"""Paths: where the arrows of a workflow lead, one after another."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from stepfunction.core.definition.branch import Arrow
from stepfunction.core.wording import closest


def reachable(
    start: str, arrows: Mapping[str, Iterable[Arrow]], failures: bool = True
) -> set[str]:
    """Give the names of the steps that arrows, or all but failures, lead to from one.

    A mistyped target counts as the step that it resembles, so that one typing
    mistake is reported once.
    """
    found = {start}
    waiting = [start]
    while waiting:
        for kind, _, target in arrows[waiting.pop()]:
            if target in found or (kind == "failure" and not failures):
                continue
            if target not in arrows:
                target = closest(target, arrows) or start
            if target not in found:
                found.add(target)
                waiting.append(target)
    return found


def cycles(arrows: Mapping[str, Iterable[Arrow]]) -> Iterator[list[str]]:
    """Give the circles that a walk along all arrows closes, each as its steps."""
    finished: set[str] = set()
    for root in arrows:
        path: dict[str, Iterator[Arrow]] = {}
        if root not in finished:
            path[root] = iter(arrows[root])
        while path:
            name = next(reversed(path))
            for arrow in path[name]:
                if arrow.target in path:
                    names = list(path)
                    yield [*names[names.index(arrow.target) :], arrow.target]
                elif arrow.target in arrows and arrow.target not in finished:
                    path[arrow.target] = iter(arrows[arrow.target])
                    break
            else:
                finished.add(name)
                path.popitem()  # to delete it would leave a gap to walk over
