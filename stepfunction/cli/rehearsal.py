"""Rehearsal: the functions of process steps are sent to a process, and not called.

What this process can pickle, a worker may still be unable to import.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from stepfunction.core.definition.actions import Callee
from stepfunction.core.definition.graph import Graph
from stepfunction.core.errors import WorkerStartError
from stepfunction.core.wording import error_text, location
from stepfunction.core.workers.executors import runs_in_processes


def rehearse(graph: Graph) -> Iterator[str]:
    """Say which functions do not arrive in a worker process.

    Nested workflows are looked at too. Nothing is started where no step of any runs
    in processes.
    """
    if not graph.uses_processes:
        return
    from stepfunction.core.lanes.lanes import ProcessLanes

    with ProcessLanes(max_workers=1) as lanes:
        for where, action in _sent(graph, set()):
            try:
                error = lanes.submit(arrive, action).exception()
            except WorkerStartError as refusal:
                yield str(refusal)
                return
            if error is not None:
                reason = error_text(error)
                yield f"{where}: {action.name} does not arrive in a process: {reason}"


def arrive(action: Any) -> None:
    """Take what was sent, in the worker, which has then found all that it names."""


def _sent(graph: Graph, seen: set[int]) -> Iterator[tuple[str, Callee]]:
    """Give what is sent to processes; of a nested workflow where it is met first."""
    for step in graph.table.values():
        for task, callee in step.action.callees():
            where = location(step.name, task)
            if runs_in_processes(step.executor):
                yield where, callee
            elif callee.nested is not None and id(callee.nested) not in seen:
                seen.add(id(callee.nested))
                for inner, part in _sent(callee.nested, seen):
                    yield f"{where}: nested workflow {callee.name!r}: {inner}", part
