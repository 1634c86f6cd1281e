"""Lookalikes: names that are probably one name, mistyped.

A false alarm in a check that a build relies on is worse than a typing mistake that
passes, so all doubt speaks for the names.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import combinations, islice
from os.path import commonprefix

from stepfunction.core.definition.graph import Graph, Step
from stepfunction.core.wording import location

_SHORTEST_WORD = 5
_MOST = 100  # that are named of a nested workflow


def lookalikes(
    graph: Graph, known: dict[int, list[str]] | None = None
) -> Iterator[str]:
    """Say which steps, and which keys of a branch, look like typos of each other.

    Two steps do if their names are the same but for capitals and separators; or if a
    letter inside a word differs, both call the same, and no arrow shows that there
    are to be two. Two keys do if one of both is true of them, they lead to different
    steps, and the names of these do not show that it is meant.

    Args:
        graph: What to look at, and what is nested in it.
        known: What was found in graphs that have been looked at, by their ids, for
            they may be nested in more places than can be counted.
    """
    known = {} if known is None else known
    names = list(graph.table)
    for first, second in _pairs(names):
        if _bare(names[first]) == _bare(names[second]):
            how = "differ only in capitals or separators"
        elif _stand_apart(graph.table[names[first]], graph.table[names[second]], graph):
            continue
        else:
            how = "differ in a letter and call the same"
        yield (
            f"steps {names[first]!r} and {names[second]!r} {how}; rename one, or leave "
            "it out if it is a typing mistake"
        )
    for step in graph.table.values():
        yield from _in_branch(step)
        for task, callee in step.action.callees():
            if callee.nested is not None:
                found = known.get(id(callee.nested))
                if found is None:
                    found = list(islice(lookalikes(callee.nested, known), _MOST))
                    known[id(callee.nested)] = found
                inside = f"{location(step.name, task)}: nested workflow {callee.name!r}"
                yield from (f"{inside}: {problem}" for problem in found)


def _in_branch(step: Step) -> Iterator[str]:
    results = [] if step.branch is None else list(step.branch.table.values())
    for first, second in _pairs([str(key) for key, _ in results]):
        (key, target), (other, elsewhere) = results[first], results[second]
        if target == elsewhere or _are_mirrored(str(key), target, elsewhere):
            continue
        yield (
            f"step {step.name!r}: branch leads from {key!r} to {target!r} but from "
            f"{other!r} to {elsewhere!r}; change one, or leave it out if it is a "
            "typing mistake"
        )


def _pairs(names: Sequence[str]) -> Iterator[tuple[int, int]]:
    """Give the places of names that are the same when bare, or one letter apart."""
    # Names that are one letter apart become the same when each loses one.
    alike: dict[str, list[int]] = defaultdict(list)
    for place, bare in enumerate(map(_bare, names)):
        letters = [at for at, it in enumerate(bare) if it.isalpha()]
        for text in {bare, *(bare[:at] + bare[at + 1 :] for at in letters)}:
            alike[text].append(place)
    found = {pair for places in alike.values() for pair in combinations(places, 2)}
    for first, second in sorted(found):
        one, other = names[first], names[second]
        if _bare(one) == _bare(other) or _is_a_letter_apart(one, other):
            yield first, second


def _bare(name: str) -> str:
    """Give a name without what people do not see at a glance."""
    return re.sub(r"[\W_]+", "", name).casefold() or name


def _is_a_letter_apart(one: str, other: str) -> bool:
    """Tell names with one letter more, less, changed or swapped inside a word.

    The first and the last letter of a word are as often meant (``read`` and ``reads``,
    ``bind`` and ``find``), and so are digits and words of a few letters.
    """
    one, other = sorted(map(_with_words_apart, (one, other)), key=len)
    before = len(commonprefix((one, other)))
    after = len(commonprefix((one[before:][::-1], other[before:][::-1])))
    here, there = one[before : len(one) - after], other[before : len(other) - after]
    if len(there) > 1 and here != there[::-1] or len(there) > 2:
        return False
    head = re.search(r"[^\W\d_]*$", other[:before])
    tail = re.match(r"[^\W\d_]*", other[len(other) - after :])
    assert head is not None and tail is not None
    word = head[0] + there + tail[0]
    is_inside = bool(head[0] and tail[0]) and (here + there).isalpha()
    return is_inside and len(word) >= _SHORTEST_WORD


def _with_words_apart(name: str) -> str:
    return re.sub("(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()


def _stand_apart(one: Step, other: Step, graph: Graph) -> bool:
    """Tell whether two steps differ in what they do, or an arrow tells them apart."""
    if _deed(one) != _deed(other):
        return True
    for step in graph.table.values():
        if {one.name, other.name} <= {step.name, *(it.target for it in step.arrows())}:
            return True
    return False


def _deed(step: Step) -> object:
    """Give what tells a step from others by what it does, and to what."""
    action, callee = step.action, step.action.callee
    deed: object = tuple(action.tasks)
    if callee is not None:
        params = dict(getattr(callee, "params", {}))
        deed = callee.name, repr(params), repr(getattr(action, "items", None))
    elif not action.tasks:
        deed = repr(action)
    return action.kind, deed, step.inputs


def _are_mirrored(key: str, target: str, elsewhere: str) -> bool:
    """Tell whether a key has its own step: ``"contract"`` and ``Send_Contract``."""
    return _bare(key) in _bare(target) and _bare(key) not in _bare(elsewhere)
