"""Crowds: failure steps that many steps share, as one of a whole workflow."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain

from stepfunction.core.definition.actions import Fail
from stepfunction.core.definition.branch import Arrow
from stepfunction.core.definition.graph import Graph, reachable

_MOST_FAILURES_DRAWN = 6


def crowded_targets(graph: Graph) -> dict[str, str]:
    """Give the failure steps that too many steps share, each with the last of these.

    Arrows from all of them would push the steps aside.
    """
    origins: dict[str, list[str]] = {}
    for step in graph.table.values():
        for arrow in step.arrows():
            if arrow.kind == "failure":
                origins.setdefault(arrow.target, []).append(step.name)
    return {
        target: names[-1]
        for target, names in origins.items()
        if len(names) > _MOST_FAILURES_DRAWN
    }


def general_arrows(graph: Graph, crowded: Iterable[str]) -> dict[Arrow, str]:
    """Give the arrows that take the failures of all steps without ones of their own.

    What a workflow's ``on_failure`` becomes need not be said in every box: the box of
    the failure step says it, in the words that go with the arrow.
    """
    if not crowded:
        return {}
    leaving = {step.name: step.arrows() for step in graph.table.values()}
    failing = {
        name: [arrow for arrow in arrows if arrow.kind == "failure"]
        for name, arrows in leaving.items()
        if not isinstance(graph.table[name].action, Fail)
    }
    found = {}
    for target in crowded:
        after = reachable(target, leaving, ("next", "branch", "failure"))
        for arrow in dict.fromkeys(chain.from_iterable(failing.values())):
            without = [name for name in failing if arrow not in failing[name]]
            has_own = [name for name in without if failing[name]]
            if arrow.target == target and after.issuperset(
                name for name in without if not failing[name]
            ):
                steps = "any other step" if has_own else "any step"
                found[arrow] = f"on {arrow.label or 'failure'} of {steps}"
    return found
