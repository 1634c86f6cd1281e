"""Silences: steps whose failures change nothing, so that nobody may see them."""

from __future__ import annotations

from collections.abc import Iterator

from stepfunction.core.definition.graph import Graph, Step
from stepfunction.core.wording import location


def silences(graph: Graph) -> Iterator[str]:
    """Name the steps of which all tasks, or items, may fail and the workflow goes on.

    The log and ``execution.failures`` tell of it, but no step is led to and no caller
    is stopped. Nested workflows are looked at too, each once.
    """
    seen: set[int] = set()
    waiting = [(graph, "")]
    while waiting:
        inside, where = waiting.pop()
        if id(inside) in seen:
            continue
        seen.add(id(inside))
        for step in inside.table.values():
            if _is_silent(step):
                what = "items" if step.action.has_items else "tasks"
                yield (
                    f"{where}step {step.name!r} goes on when {what} fail, even all of "
                    "them, and no step is told; say on_failure=, stop_on_failure=True "
                    "or how many may fail with tolerated_failures="
                )
            for task, callee in step.action.callees():
                if callee.nested is not None:
                    place = f"{location(step.name, task)}: nested workflow"
                    waiting.append((callee.nested, f"{place} {callee.name!r}: "))


def _is_silent(step: Step) -> bool:
    action = step.action
    if not action.has_tasks or step.on_failure is not None:
        return False
    tolerated = getattr(action, "tolerated", 0)
    if action.has_items:
        return tolerated == "100%"
    return not isinstance(tolerated, str) and tolerated >= len(action.tasks)
