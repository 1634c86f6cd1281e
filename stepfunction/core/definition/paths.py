"""Paths: where the arrows of a workflow lead, one after another."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple, TypeVar

from stepfunction.core.definition.branch import Arrow
from stepfunction.core.wording import closest

# How many workflows are copied, or pickled, in calls inside one another.
_STRIDE = 8
Thing = TypeVar("Thing")


def nested_first(
    root: Thing, inside: Callable[[Thing], Iterable[Thing]]
) -> list[Thing]:
    """Give all that is nested in something, each once and behind what is in it.

    Args:
        root: What is looked into; it is not given itself.
        inside: Gives what is nested in one of them, and in no workflow in it.
    """
    found: dict[int, Thing] = {}
    path: dict[int, tuple[Thing, Iterator[Thing]]] = {}
    path[id(root)] = root, iter(inside(root))
    while path:
        thing, waiting = path[next(reversed(path))]
        for it in waiting:
            if id(it) not in found and id(it) not in path:
                path[id(it)] = it, iter(inside(it))
                break
        else:
            path.popitem()
            found[id(thing)] = thing
    del found[id(root)]
    return list(found.values())


class Deepest(NamedTuple):
    """What is nested deep in a workflow.

    Attributes:
        level: How deep workflows are nested in it; 0 where none is.
        first: Some of these, of levels that are a few apart, each behind what is nested
            in it. Who copies, or pickles, these in their order before the workflow has
            only a few to copy in calls inside one another.
    """

    level: int
    first: tuple[Any, ...]


def deepest(inside: Iterable[tuple[Any, Deepest]]) -> Deepest:
    """Give what is nested deep in a workflow, of what is nested in it and in these."""
    level = 0
    first: dict[int, Any] = {}
    for thing, found in inside:
        level = max(level, 1 + found.level)
        first |= {id(it): it for it in found.first}
        if found.level % _STRIDE == _STRIDE - 1:
            first[id(thing)] = thing
    return Deepest(level, tuple(first.values()))


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
