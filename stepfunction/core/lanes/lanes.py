"""ProcessLanes: worker processes that can be lost one at a time.

::

    submit() ──► backlog ──► lane ══ pipe ══► worker process
                   │         lane ══ pipe ══► worker process
    future ◄───────┴──────────┘

Each lane is a thread of this process and a worker process of its own, which is
given one task at a time. So a worker that dies takes its own task with it and
nothing else, it is known which task that was, and stopping a task is killing its
worker. What crosses the pipe is packed by ``envelope``.
"""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future
from multiprocessing import process as processes
from typing import Any
from weakref import finalize

from stepfunction.core.envelope.parcel import Parcel
from stepfunction.core.envelope.refusals import pack_call
from stepfunction.core.errors import WorkerStartError
from stepfunction.core.lanes.backlog import Backlog, LaneCall, LaneFuture, Watcher
from stepfunction.core.lanes.deaths import UNGUARDED, unguarded
from stepfunction.core.lanes.ends import this_process
from stepfunction.core.lanes.lane import Lane
from stepfunction.core.lanes.logs import Levels, current_levels
from stepfunction.core.lanes.process import WORKER_NAME
from stepfunction.core.waiting import join, start


class ProcessLanes(Executor):
    """An executor whose worker processes each run one call at a time.

    A worker that dies fails only the call that it was running, with
    ``WorkerCrashedError``; the others go on and the worker is replaced. Workers are
    started as they are needed and stay warm until ``shutdown()``. Any number of
    threads may submit.

    Args:
        max_workers: How many processes run at most; None for one for each usable
            CPU.
        start_method: ``"forkserver"`` or ``"spawn"``, or ``"fork"`` where no other
            threads run; None for forkserver where there is one, else spawn.

    Raises:
        ValueError: If ``max_workers`` is below 1 or the start method is unknown.

    A long-running program keeps one open::

        with ProcessLanes(max_workers=4) as lanes:
            workflow.execute(order, executor=lanes)
    """

    def __init__(
        self, max_workers: int | None = None, *, start_method: str | None = None
    ) -> None:
        if max_workers is not None and max_workers < 1:
            raise ValueError(f"max_workers is {max_workers}; give 1 or more, or None")
        methods = multiprocessing.get_all_start_methods()
        if start_method is None:
            start_method = "forkserver" if "forkserver" in methods else "spawn"
        if start_method not in methods:
            raise ValueError(f"start_method is one of {methods}, not {start_method!r}")
        self.max_workers = max_workers or usable_cpus()
        self._context: Any = multiprocessing.get_context(start_method)
        self._forks = start_method == "fork"
        self._begin_empty()
        this_process.executors.add(self)

    def _begin_empty(self) -> None:
        self._lock = threading.Lock()
        self._backlog = Backlog()
        self._lanes: list[Lane] = []
        self._is_shut = False
        # An executor that nobody holds any more lets its workers go.
        self._dismissal = finalize(self, _dismiss, self._backlog, self._lanes)
        self._dismissal.atexit = False

    def __repr__(self) -> str:
        state = ", shut down" if self._is_shut else ""
        return f"<ProcessLanes: {len(self._lanes)} of {self.max_workers} lanes{state}>"

    def submit(
        self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any
    ) -> Future[Any]:
        """Schedule a call in a worker process.

        Args:
            fn: A function that can be imported by its name, with its arguments.

        Returns:
            The future of its result.

        Raises:
            TransferError: If the function or an argument cannot be pickled.
            WorkerStartError: If no worker process can be started here.
            RuntimeError: After ``shutdown()``.
        """
        label = getattr(fn, "__qualname__", repr(fn))
        head = pack_call(label, (fn, args, kwargs))
        return self.send(label, head, b"")

    def send(
        self,
        label: str,
        head: bytes,
        body: Parcel,
        watcher: Watcher | None = None,
        levels: Levels | None = None,
        sender: object = None,
    ) -> LaneFuture:
        """Schedule a packed call.

        Args:
            label: What the call is, for messages.
            head: The packed ``(function, args, kwargs)``; where there is a body, the
                packed call of a step, its context, and whether it says that it begins.
            body: A step's packed input, packed once for many calls; empty for none.
            watcher: Who is told when a worker begins, and of its heartbeats.
            levels: The levels to log at there; None for those of now.
            sender: Whose call it is: each sender that has calls waiting has its turn.

        Returns:
            The future of its result.

        Raises:
            WorkerStartError: If no worker process can be started here.
            RuntimeError: After ``shutdown()``.
        """
        refuse_where_processes_cannot_start()
        if self._forks:
            _refuse_beside_threads()
        future = LaneFuture(label, watcher)
        with self._lock:
            if self._is_shut:
                raise RuntimeError(
                    "cannot submit to ProcessLanes after shutdown(); "
                    "keep it open as long as it is used"
                )
            levels = levels or current_levels()
            unfinished = self._backlog.put(LaneCall(future, head, body, levels, sender))
            if len(self._lanes) < min(self.max_workers, unfinished):
                lane = Lane(self._context, self._backlog, self.max_workers)
                if self._forks:  # here, for the lane would be a thread beside this
                    lane.launch()
                self._lanes.append(lane)  # first, for an interrupt may end start()
                start(lane)
        return future

    def kill(self, future: Future[Any]) -> bool:
        """Stop a call: one that waits is cancelled, one that runs loses its worker.

        The future of a killed call raises ``WorkerKilledError``.

        Args:
            future: What ``submit()`` gave.

        Returns:
            Whether there was anything to stop: False if the call has ended.
        """
        return future.cancel() or any(lane.kill(future) for lane in self._lanes)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Let the workers go once they have finished what was submitted.

        Args:
            wait: Whether to wait until they have gone.
            cancel_futures: Whether calls that have not begun are cancelled.
        """
        with self._lock:
            self._is_shut = True
            waiting = []
            if cancel_futures:
                self._backlog.close()
                for lane in self._lanes:
                    lane.give_up_waiting()
                waiting = self._backlog.take_all()
            self._dismissal()
        for call in waiting:  # not under the lock, for callbacks may do anything
            call.future.end_unmade()
        if wait:
            for lane in self._lanes:
                join(lane)

    def __exit__(self, *raised: Any) -> None:
        if raised[0] is not None and not issubclass(raised[0], Exception):
            self.kill_all()  # Ctrl-C waits for nothing
        super().__exit__(*raised)

    def kill_all(self) -> None:
        """Stop every call that runs, and cancel every call that waits."""
        for call in self._backlog.take_all():
            call.future.end_unmade()
        for lane in self._lanes:
            for call in lane.stop():
                self._backlog.finish()
                call.future.wait_again()
                call.future.end_unmade()

    def begin_anew(self) -> None:
        """In a forked child, begin with no worker: those of the parent stay there."""
        self._dismissal.detach()
        self._begin_empty()


def _dismiss(backlog: Backlog, lanes: list[Lane]) -> None:
    backlog.end(len(lanes))


def usable_cpus() -> int:
    """Give the number of CPUs that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def refuse_where_processes_cannot_start() -> None:
    """Raise where starting a worker process would only break.

    Raises:
        WorkerStartError: In a worker that is still importing the main script, and
            in a daemonic process.
    """
    current = processes.current_process()
    if getattr(current, "_inheriting", False):
        if current.name == WORKER_NAME:
            os._exit(UNGUARDED)  # whoever started this worker will say it
        raise unguarded()
    if current.daemon:
        raise WorkerStartError(
            "this process is daemonic (a worker of Celery or multiprocessing.Pool), so "
            "it may not start others; use executor='thread', or workers that are not "
            "daemonic (concurrent.futures, Celery with --pool threads or solo)"
        )


def _refuse_beside_threads() -> None:
    """Raise where a fork could copy a lock that another thread holds just then.

    Raises:
        WorkerStartError: If a thread other than this one and the lanes runs.
    """
    own = {threading.current_thread(), *this_process.lanes}
    others = {*threading.enumerate()} - own
    if others:
        names = ", ".join(sorted(repr(thread.name) for thread in others))
        raise WorkerStartError(
            f"start_method='fork' copies this process while other threads run in it "
            f"({names}); a lock that one of them holds stays locked in the copy for "
            "ever. Use 'forkserver' or 'spawn'"
        )
