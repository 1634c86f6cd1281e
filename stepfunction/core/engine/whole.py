"""Whole: how a store keeps what was nested in another process, once it has ended.

While it ran nobody noted it, for it had no store there. It is kept where something in
it may have to be undone later, by a process that has not seen it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stepfunction.core.definition.graph import Graph, Step
from stepfunction.core.errors import UnstorableValueError
from stepfunction.core.history.journal import Journal, name_of
from stepfunction.core.history.records import Visit, as_visit
from stepfunction.core.history.results import MapResults
from stepfunction.core.outcomes import UNDER_WAY
from stepfunction.core.raised import is_a

if TYPE_CHECKING:
    from stepfunction.core.engine.saving import Saving


def keep_whole(
    outer: Saving, journal: Journal, child: Journal, graph: Graph, at: int, part: Any
) -> None:
    """Keep an execution that was nested in another process, if it is to be.

    Args:
        outer: What notes the execution that it is nested in.
        journal: The journal of that.
        child: Its own journal.
        graph: Its workflow.
        at: How many steps of the outer one had ended before.
        part: The task that it is nested in, or the index of the item; None for the
            step itself.
    """
    is_kept = child.saving is not None or not graph.has_compensations
    if is_kept or child.status in UNDER_WAY or child.forgotten:
        return
    try:
        saving = outer.begin_nested(child, graph, journal, at, part)
    except UnstorableValueError:  # its input is an item, which need not be stored
        return
    child.saving = saving
    entries, texts = child.entries, saving.texts
    names = [*map(name_of, entries[3::3]), None]
    steps = zip(entries[::3], entries[1::3], entries[2::3], names)
    for number, (entry, ended, result, follower) in enumerate(steps):
        visit = as_visit(entry, result)
        step = graph.table[visit.name]
        count = _keep_inside(saving, child, step, visit, number)
        output = None
        if visit.error is None and count is None:
            output = texts.lenient(visit.output)
        saving.buffer(texts.step(visit, ended, follower, output, count))
    for place, visit in enumerate(child.undone):
        saving.buffer(texts.undone(visit, place))
    saving.note_end(child, child.status, child.ended)


def _keep_inside(
    saving: Saving, journal: Journal, step: Step, visit: Visit, number: int
) -> int | None:
    """Keep what is in a step; give how many tasks it had, None if it had none."""
    action: Any = step.action
    if not action.has_tasks:
        if visit.child is not None:
            keep_whole(saving, journal, visit.child, action.nested, number, None)
        return None
    texts = saving.texts
    for task in visit.tasks:
        nested = action.tasks.get(task.name, action).nested
        if task.child is not None:
            keep_whole(saving, journal, task.child, nested, number, task.name)
        output = None if task.error is not None else texts.lenient(task.output)
        digest = "" if action.has_items else None
        saving.buffer(texts.task(task, output, digest))
    if not action.has_items:
        return len(visit.tasks)
    told = {task.name for task in visit.tasks}
    results = visit.output if is_a(visit.output, MapResults) else ()
    for index, output in enumerate(results):
        if index not in told:
            saving.buffer(texts.items(index, "", texts.lenient([output])))
    return max(len(results), 1 + max(told, default=-1))
