"""Places: where attempts are made.

In this thread, in threads of our own, or by the executors of ``futures``. A place makes
attempts and reports how they ended; it decides nothing.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from contextvars import copy_context
from itertools import count
from queue import Empty, SimpleQueue
from time import perf_counter
from typing import TYPE_CHECKING, Any

from stepfunction.core.logger import logger
from stepfunction.core.outcomes import Outcome
from stepfunction.core.workers.executors import around, is_lanes
from stepfunction.core.workers.tasks import (
    LiveAttempt,
    MakeContext,
    Place,
    Task,
    make_attempt,
)

if TYPE_CHECKING:
    from stepfunction.core.lanes.lanes import ProcessLanes

_MOST_THREADS = 32
# So many are started at once; others one by one, while attempts end, at such intervals.
_FIRST_THREADS = 4
_BETWEEN_STARTS = 0.001
_MOST_LANES = 1024
# Of tasks that are taken one by one, so that no thread waits for the next.
_MOST_QUEUED = 64
# Of tasks that are taken one by one, at an executor whose size we do not know.
_MOST_AT_OTHERS = 64


class Inline:
    """The calling thread: one task after the other.

    Args:
        isolate: Whether each task has context variables of its own, as in threads.
    """

    limit: int | None = 1
    left_behind = Outcome.CANCELLED
    is_here = True
    hears_parts = False

    def __init__(
        self, value: Any, make_context: MakeContext, isolate: bool = True
    ) -> None:
        self._value = value
        self._make_context = make_context
        self._isolate = isolate

    def begin(self, attempt: LiveAttempt) -> None:
        if attempt.of_step.requested:
            attempt.skip()
            return
        if self._isolate:
            attempt.variables = copy_context()
        # What is no Exception interrupts this very thread.
        report = make_attempt(attempt, self._value, self._make_context, Exception)
        attempt.end(*report[1:])

    def staff(self) -> bool:
        return False

    def halt(self, attempts: Iterable[LiveAttempt]) -> list[LiveAttempt]:
        return []

    def give_up(self, attempt: LiveAttempt) -> bool:
        return True  # here a limit is measured, and not enforced

    def close(self, wait: bool) -> None: ...


class Threads:
    """Daemon threads made for one step, so that no other step can wait for them."""

    left_behind = Outcome.ABANDONED
    is_here = True
    hears_parts = False

    def __init__(
        self,
        name: str,
        value: Any,
        make_context: MakeContext,
        most: int,
        limit: int | None = None,
    ) -> None:
        self.limit = limit
        self._name = name
        self._value = value
        self._make_context = make_context
        self._most = most
        self._numbers = count(1)
        self._queue: SimpleQueue[LiveAttempt | None] = SimpleQueue()
        self._threads: set[threading.Thread] = set()
        self._ended = self._seen = 0  # how many attempts, and when one was started last
        self._started = 0.0
        self._working: dict[LiveAttempt, threading.Thread] = {}

    def begin(self, attempt: LiveAttempt) -> None:
        # A copy for each: a context cannot be entered twice at once.
        attempt.variables = copy_context()
        self._queue.put(attempt)

    def staff(self) -> bool:
        # Short tasks are done before a second thread has started, and computing ones
        # gain nothing by more than a few; where they wait, none ends meanwhile.
        while len(self._threads) < self._most and not self._queue.empty():
            now = perf_counter()
            if (
                len(self._threads) >= _FIRST_THREADS
                and self._ended != self._seen
                and now - self._started < _BETWEEN_STARTS
            ):
                return True
            self._started, self._seen = now, self._ended
            name = f"{self._name}-{next(self._numbers)}"
            thread = threading.Thread(target=self._work, name=name, daemon=True)
            self._threads.add(thread)
            thread.start()
        return False

    def _work(self) -> None:
        queue, thread = self._queue, threading.current_thread()
        while thread in self._threads:
            attempt = queue.get()
            if attempt is None:
                return
            self._working[attempt] = thread
            if attempt.of_step.requested:
                self._working.pop(attempt, None)
                attempt.skip()
                continue
            report = make_attempt(attempt, self._value, self._make_context)
            self._working.pop(attempt, None)
            self._ended += 1  # another thread's may get lost: it is seen to change
            attempt.end(*report[1:])
            del attempt, report  # an idle thread keeps nothing alive

    def halt(self, attempts: Iterable[LiveAttempt]) -> list[LiveAttempt]:
        never_begun = []
        try:
            while (attempt := self._queue.get_nowait()) is not None:
                never_begun.append(attempt)
        except Empty:
            pass
        return never_begun

    def give_up(self, attempt: LiveAttempt) -> bool:
        thread = self._working.pop(attempt, None)
        if thread is not None:
            # It may go on, but takes no other attempt; one of its kind does.
            self._threads.discard(thread)
            self.staff()
        return False

    def close(self, wait: bool) -> None:
        for _ in self._threads:
            self._queue.put(None)
        if wait:
            for thread in self._threads:
                thread.join()


class Places:
    """Where the tasks of one execution, and of all that is nested in it, run.

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
