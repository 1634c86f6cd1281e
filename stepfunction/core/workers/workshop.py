"""Workshop: what chooses where the tasks of a step run.

It keeps the worker processes of an execution, and of all that is nested in it.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from stepfunction.core.logger import logger
from stepfunction.core.workers.attempts import Work
from stepfunction.core.workers.executors import (
    around,
    is_lanes,
    is_object,
    workers_of,
)
from stepfunction.core.workers.places import Inline, Place, Threads

if TYPE_CHECKING:
    from stepfunction.core.lanes.lanes import ProcessLanes

_MOST_THREADS = 32
_MOST_LANES = 1024
# Of items that are taken one by one, so that no thread waits for the next.
_MOST_AHEAD = 64
_MOST_ITEMS_AHEAD = 2048
# Of tasks that are taken one by one, at an executor whose size we do not know.
_MOST_AT_OTHERS = 64


class Workshop:
    """What chooses the places for one execution, and for all that is nested in it.

    Args:
        override: The executor of every step that has one; None to leave it to them.
    """

    def __init__(self, override: Any = None) -> None:
        self.override = override
        self._lock = threading.RLock()
        self._lanes: ProcessLanes | None = None
        self._has_warned = False

    def limits_at(
        self,
        executor: Any,
        name: str,
        timeout: float | None,
        heartbeat: float | None,
    ) -> tuple[float | None, float | None]:
        """Give the limits of attempts that can be kept there, and warn of the others.

        Args:
            executor: The step's own executor.
            name: The name of the step.
            timeout: How many seconds an attempt may take; None for no limit.
            heartbeat: How many may pass without a sign of life; None for no limit.

        Returns:
            The same two, without what cannot be kept.
        """
        executor = self._actual(executor)
        if executor == "inline":
            if timeout is not None or heartbeat is not None:
                self._warn_of_limits()
            return None, None
        if heartbeat is not None and is_object(executor) and not is_lanes(executor):
            logger().warning(
                "step %r: heartbeat is not watched in this execution, for %s cannot "
                "pass on signs of life",
                name,
                type(executor).__name__,
            )
            heartbeat = None
        return timeout, heartbeat

    def place(
        self,
        executor: Any,
        work: Work,
        count: float,
        max_workers: int | None = None,
        ahead: bool = True,
        size: int | None = None,
    ) -> Place:
        """Give the place where a step's tasks are to run.

        Args:
            executor: The step's own executor.
            work: What its tasks have in common.
            count: How many tasks there are, or may be.
            max_workers: How many tasks may run at once; None for the default.
            ahead: Whether attempts may be handed out before a worker is free, which
                is faster, but lets one begin although another has just failed.
            size: How many items a task is for at most, where they are taken one by one,
                no more of them than are needed; None where all tasks are there.

        Raises:
            TransferError: If they must go to another process and cannot.
        """
        executor = self._actual(executor)
        if executor == "inline":
            return Inline(work)
        if executor == "thread":
            most = max_workers or int(min(count, _MOST_THREADS))
            waiting = None
            if size is not None:
                waiting = max(1, min(_MOST_AHEAD, _MOST_ITEMS_AHEAD // size))
            return Threads(work, most, waiting if ahead else 0)
        from stepfunction.core.workers.futures import Lanes

        if executor == "process":
            from stepfunction.core.lanes.lanes import usable_cpus

            limit = max_workers or int(min(count, usable_cpus()))
            return Lanes(self._open_lanes(), work, limit)
        if is_lanes(executor):
            # Also the next for each worker: more where they turn out to be short.
            most = executor.max_workers * (2 if ahead else 1)
            limit = min(max_workers or most, most)
            return Lanes(executor, work, limit, grows=ahead and not max_workers)
        from concurrent.futures import ThreadPoolExecutor

        from stepfunction.core.workers.pools import Pool, ThreadPool

        kind = ThreadPool if isinstance(executor, ThreadPoolExecutor) else Pool
        # A second attempt cannot go before what its executor has, so that is little.
        workers = workers_of(executor)
        if workers is not None:
            most = workers * (2 if ahead else 1)
            return kind(executor, work, min(max_workers or most, most))
        at_once = None if size is None else _MOST_AT_OTHERS
        return kind(executor, work, max_workers or at_once, learns=not max_workers)

    def _actual(self, executor: Any) -> Any:
        """Give the executor that a step with this one has here."""
        if self.override is not None:
            executor = self.override
        return "inline" if any(it is executor for it in around.get()) else executor

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
