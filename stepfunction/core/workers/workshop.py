"""Workshop: what chooses where the tasks of a step run.

It keeps the worker processes of an execution, and of all that is nested in it.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from stepfunction.core.logger import logger
from stepfunction.core.workers.executors import around, is_lanes
from stepfunction.core.workers.places import Inline, Threads
from stepfunction.core.workers.tasks import MakeContext, Place, Task

if TYPE_CHECKING:
    from stepfunction.core.lanes.lanes import ProcessLanes

_MOST_THREADS = 32
_MOST_LANES = 1024
# Of tasks that are taken one by one, so that no thread waits for the next.
_MOST_QUEUED = 64
# Of tasks that are taken one by one, at an executor whose size we do not know.
_MOST_AT_OTHERS = 64


class Workshop:
    """What chooses the places for one execution, and for all that is nested in it.

    Args:
        override: The executor of every step that has one; None to leave it to them.
    """

    def __init__(self, override: Any = None) -> None:
        self.override = override
        self._lock = threading.Lock()
        self._lanes: ProcessLanes | None = None
        self._has_warned = False

    def place(
        self,
        executor: Any,
        name: str,
        tasks: Sequence[Task],
        value: Any,
        make_context: MakeContext,
        max_workers: int | None = None,
        ahead: bool = True,
        count: float | None = None,
    ) -> Place:
        """Give the place where a step's tasks are to run.

        Args:
            executor: The step's own executor.
            name: The name of the step.
            tasks: Its tasks, or some like them where they are taken one by one.
            value: Its input.
            make_context: Gives the context of an attempt.
            max_workers: How many tasks may run at once; None for the default.
            ahead: Whether attempts may be handed out before a worker is free, which
                is faster, but lets one begin although another has just failed.
            count: How many tasks there may be where they are taken one by one, which
                no more of them are than are needed; None for those that are given.

        Raises:
            TransferError: If they must go to another process and cannot.
        """
        if self.override is not None:
            executor = self.override
        if executor in around.get():
            executor = "inline"
        if executor == "inline":
            if any(task.is_timed for task in tasks):
                self._warn_of_limits()
            for task in tasks:
                task.timeout = task.heartbeat = None
            return Inline(value, make_context)
        most_tasks = len(tasks) if count is None else count
        if executor == "thread":
            most = max_workers or int(min(most_tasks, _MOST_THREADS))
            queued = None if count is None else max(_MOST_QUEUED, 2 * most)
            limit = queued if ahead else most
            return Threads(name, value, make_context, most, limit)
        from stepfunction.core.workers.futures import Lanes, Pool

        if executor == "process":
            from stepfunction.core.lanes.lanes import usable_cpus

            limit = max_workers or int(min(most_tasks, usable_cpus()))
            executor = self._open_lanes()
            return Lanes(executor, name, tasks, value, make_context, limit)
        if is_lanes(executor):
            # First come is first served there: who hands out all at once makes all
            # other executions wait.
            limit = max_workers or executor.max_workers * (2 if ahead else 1)
            return Lanes(executor, name, tasks, value, make_context, limit)
        if any(task.heartbeat is not None for task in tasks):
            logger().warning(
                "step %r: heartbeat is not watched in this execution, for %s cannot "
                "pass on signs of life",
                name,
                type(executor).__name__,
            )
        for task in tasks:
            task.heartbeat = None
        max_workers = max_workers or (None if count is None else _MOST_AT_OTHERS)
        return Pool(executor, name, tasks, value, make_context, max_workers)

    def _warn_of_limits(self) -> None:
        if not self._has_warned:
            self._has_warned = True
            logger().warning(
                "timeouts are not enforced in this execution: a step runs in the "
                "thread that waits for it, as with executor='inline'"
            )

    def _open_lanes(self) -> ProcessLanes:
        from stepfunction.core.lanes.lanes import ProcessLanes

        with self._lock:
            if self._lanes is None:
                # Steps limit themselves, and lanes are made as they are needed.
                self._lanes = ProcessLanes(max_workers=_MOST_LANES)
            return self._lanes

    def close(self, kill: bool = False) -> None:
        """Let go of the worker processes, or kill what they do."""
        if self._lanes is not None:
            if kill:
                self._lanes.kill_all()
            self._lanes.shutdown(wait=True)
        self.override = None  # an executor of somebody else's is not kept alive
