"""ProcessLanes: worker processes that can be lost one at a time.

::

    submit() ──► backlog ──► lane ══ pipe ══► worker process
                   │         lane ══ pipe ══► worker process
    future ◄───────┴──────────┘

Each lane is a thread of this process and a worker process of its own, which makes one
call at a time. So a worker that dies takes its own call with it and nothing else, it is
known which call that was, and stopping a call is killing its worker. What crosses the
pipe is packed by ``envelope``. Short calls go ahead of need through a ``hopper``.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future
from operator import index
from typing import Any, ParamSpec, TypeVar
from weakref import finalize

from stepfunction.core.envelope import main_module
from stepfunction.core.envelope.envelope import pack_once
from stepfunction.core.envelope.parcel import Parcel
from stepfunction.core.envelope.refusals import pack_call, pack_taken
from stepfunction.core.errors import TransferError, WorkerStartError
from stepfunction.core.lanes import messages
from stepfunction.core.lanes.backlog import (
    Backlog,
    LaneCall,
    LaneFuture,
    Watcher,
    cancel,
)
from stepfunction.core.lanes.chunks import results
from stepfunction.core.lanes.ends import this_process
from stepfunction.core.lanes.lane import Lane
from stepfunction.core.lanes.logs import Levels, current_levels
from stepfunction.core.lanes.opening import Opening
from stepfunction.core.lanes.refusals import (
    refuse_beside_threads,
    refuse_where_processes_cannot_start,
)
from stepfunction.core.logger import logger
from stepfunction.core.misspelling import did_you_mean_arguments
from stepfunction.core.surroundings import take
from stepfunction.core.waiting import join, start
from stepfunction.core.wording import label_of

_P = ParamSpec("_P")
_T = TypeVar("_T")
AT_THE_END = (
    "cannot schedule new futures after interpreter shutdown: this process ends, and "
    "no worker process can be started any more"
)
_OF_A_CONTEXT = ("get_context", "get_start_method", "Pipe", "Process")


class ProcessLanes(Executor):
    """An executor whose worker processes each run one call at a time.

    It can be put in the place of a ``concurrent.futures.ProcessPoolExecutor``. But a
    worker that dies fails only the call that it was running, with a
    ``WorkerCrashedError``, which is a ``BrokenProcessPool``; the others go on and the
    worker is replaced. Workers are started as they are needed and stay warm until
    ``shutdown()``. Any number of threads may submit.

    Args:
        max_workers: How many processes run at most; None for one for each usable
            CPU.
        mp_context: A context of ``multiprocessing``, which starts the processes by its
            method.
        initializer: Called in each worker before its first call, also in those that
            replace others. What it sets, context variables too, is there in each call.
            Where it fails nothing more runs here: what was submitted, and is submitted
            later, fails with ``WorkerInitError``, caused by what it raised.
        initargs: Its arguments; locks and queues of ``multiprocessing`` may be there.
        max_tasks_per_child: After how many calls a worker is replaced; None for never.
            A chunk of ``map()`` is one call.
        start_method: In the place of a context, ``"forkserver"`` or ``"spawn"``, or
            ``"fork"`` where no other threads run; None for forkserver where there is
            one, else spawn.

    Raises:
        ValueError: If ``max_workers`` or ``max_tasks_per_child`` is below 1, the start
            method is unknown, or forked workers were to be replaced.
        TypeError: If an argument is of another kind, or there are both a context and a
            start method.
        TransferError: If the initializer cannot be pickled.

    A long-running program keeps one open::

        with ProcessLanes(max_workers=4) as lanes:
            workflow.execute(order, executor=lanes)
    """

    @did_you_mean_arguments(
        context="mp_context",
        maxtasksperchild="max_tasks_per_child",
        method="start_method",
        n_jobs="max_workers",
        processes="max_workers",
        workers="max_workers",
    )
    def __init__(
        self,
        max_workers: int | None = None,
        mp_context: Any = None,
        initializer: Callable[..., object] | None = None,
        initargs: Iterable[Any] = (),
        *,
        max_tasks_per_child: int | None = None,
        start_method: str | None = None,
    ) -> None:
        if max_workers is not None:
            max_workers = _count("max_workers", max_workers, "must be greater than 0")
        if max_tasks_per_child is not None:
            name = "max_tasks_per_child"
            max_tasks_per_child = _count(name, max_tasks_per_child, "must be >= 1")
        self._mp_context = _context(mp_context, start_method)
        self._forks = self._mp_context.get_start_method() == "fork"
        if self._forks and max_tasks_per_child is not None:
            raise ValueError(
                "max_tasks_per_child is incompatible with the start method 'fork', for "
                "a worker that is replaced would be forked beside threads"
            )
        self._opening = None
        if initializer is not None:
            if not callable(initializer):
                raise TypeError(f"initializer must be a callable, not {initializer!r}")
            self._opening = Opening(initializer, tuple(initargs))
            if not self._forks:
                self._opening.rehearse()
        # Windows lets nobody wait for more than 63 handles at once, which no lane does.
        self.max_workers = max_workers or usable_cpus()
        self._most_calls = max_tasks_per_child
        self._begin_empty()
        this_process.executors.add(self)

    # By these names others look for them, for ProcessPoolExecutor has them.

    @property
    def _max_workers(self) -> int:
        return self.max_workers

    @property
    def _broken(self) -> bool:
        return self._backlog.is_broken

    def _begin_empty(self) -> None:
        self._lock = threading.RLock()  # a signal handler may submit as well
        self._backlog = Backlog()
        self._lanes: list[Lane] = []
        self._is_shut = False
        # An executor that nobody holds any more lets its workers go.
        self._dismissal = finalize(self, self._backlog.end)
        self._dismissal.atexit = False

    def __repr__(self) -> str:
        state = ", shut down" if self._is_shut else ""
        return f"<ProcessLanes: {len(self._lanes)} of {self.max_workers} lanes{state}>"

    def submit(
        self, fn: Callable[_P, _T], /, *args: _P.args, **kwargs: _P.kwargs
    ) -> Future[_T]:
        """Schedule a call in a worker process.

        Args:
            fn: A function that can be imported by its name, with its arguments.

        Returns:
            The future of its result; it fails with a ``TransferError`` where the
            function or an argument cannot be pickled.

        Raises:
            WorkerInitError: If the initializer has failed.
            WorkerStartError: If no worker process can be started here.
            RuntimeError: After ``shutdown()``, and when this process ends.
        """
        label = label_of(fn)
        if this_process.is_ending or main_module.is_at_its_end():
            raise RuntimeError(AT_THE_END)
        try:
            around = pack_taken(take(), label)
            head = pack_call(label, (fn, args, kwargs), pack_once)
        except TransferError as error:
            with self._lock:
                self._refuse_if_over()
            future = LaneFuture(label)
            future.set_exception(error)
            return future
        head = messages.within(around, head)
        return self._send(label, head, b"", is_owed=True)

    def map(
        self,
        fn: Callable[..., _T],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int = 1,
        buffersize: int | None = None,
    ) -> Iterator[_T]:
        """Call a function for each of some arguments, as ``map``, but side by side.

        Args:
            fn: A function that can be imported by its name. As many iterables follow
                as it takes arguments.
            timeout: How many seconds from now the results may take; None for any
                number.
            chunksize: How many calls are sent as one. If one of these fails, the
                results of the others are lost.
            buffersize: How many results may wait to be asked for: the iterables are
                read only as far. None reads all of them now. With a ``chunksize`` it
                counts chunks.

        Returns:
            What gives the results in order, and raises what a call raised when it
            comes to that. Calls that have not begun are cancelled when it ends.

        Raises:
            TimeoutError: When a result is asked for and the time is over.
            ValueError: If ``chunksize`` or ``buffersize`` is below 1.
            TypeError: If one of them is no whole number.
        """
        chunksize = _count("chunksize", chunksize, "must be >= 1")
        if buffersize is not None:
            buffersize = _count("buffersize", buffersize, "must be None or >= 1")
        calls = zip(*iterables, strict=False)
        return results(self, fn, calls, timeout, chunksize, buffersize)

    def _send(
        self,
        label: str,
        head: bytes,
        body: Parcel,
        watcher: Watcher | None = None,
        levels: Levels | None = None,
        sender: object = None,
        is_urgent: bool = False,
        is_owed: bool = False,
    ) -> LaneFuture:
        """Schedule a packed call.

        Args:
            label: What the call is, for messages.
            head: The packed ``(function, args, kwargs)``; where there is a body, the
                packed call of a step, its context, and whether it says that it begins.
                What surrounds it goes before it.
            body: A step's packed input, packed once for many calls; empty for none.
            watcher: Who is told when a worker begins, and of its heartbeats.
            levels: The levels to log at there; None for those of now.
            sender: Whose call it is: each sender that has calls waiting has its turn.
            is_urgent: Whether it comes before all that its sender has waiting.
            is_owed: Whether the end of this process waits for it.

        Returns:
            The future of its result.

        Raises:
            WorkerInitError: If the initializer has failed.
            WorkerStartError: If no worker process can be started here.
            RuntimeError: After ``shutdown()``.
        """
        refuse_where_processes_cannot_start()
        if self._forks:
            refuse_beside_threads()
        future = LaneFuture(label, watcher)
        try:
            with self._lock:
                self._refuse_if_over()
                levels = levels or current_levels()
                if self._backlog.lacks_lanes(self.max_workers):
                    self._add_lane()
                call = LaneCall(future, head, body, levels, sender, is_urgent)
                self._backlog.put(call, is_owed)
        except WorkerStartError as error:
            # What the last lane has left to this one.
            self._backlog.fail_if_alone(error)
            raise
        return future

    def _add_lane(self) -> None:
        """Add a lane, or do with those that there are.

        Raises:
            WorkerStartError: If there is none and can be none.
        """
        self._lanes[:] = [lane for lane in self._lanes if not lane.has_left]
        lane = Lane(
            self._mp_context,
            self._backlog,
            self.max_workers,
            self._opening,
            self._most_calls,
        )
        self._lanes.append(lane)
        self._backlog.add_lane()
        try:
            if self._forks:  # here, for the lane would be a thread beside this
                lane.launch()
            start(lane)
        except BaseException as error:
            if not lane.claim():
                raise  # it runs, for the interrupt came late
            self._lanes.remove(lane)
            lane.dismiss()
            has_others = self._backlog.lose_lane()
            if not has_others or not isinstance(error, WorkerStartError):
                raise
            text = "there are fewer worker processes than asked for: %s"
            logger().warning(text, error)

    def _refuse_if_over(self) -> None:
        if self._is_shut and not self._backlog.is_broken:
            raise RuntimeError(
                "cannot schedule new futures after shutdown of ProcessLanes; "
                "keep it open as long as it is used"
            )

    def kill(self, future: Future[Any]) -> bool:
        """Stop a call: one that waits is cancelled, one that runs loses its worker.

        The future of a killed call raises ``WorkerKilledError``.

        Args:
            future: What ``submit()`` gave.

        Returns:
            Whether there was anything to stop; False if the call has ended.
        """
        # Again, for it may just have been on its way back from a lane without a worker.
        return any(
            future.cancel() or any(lane.kill(future) for lane in tuple(self._lanes))
            for _ in range(3)
        )

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Let the workers go once they have finished what was submitted.

        Args:
            wait: Whether to wait until they have gone.
            cancel_futures: Whether calls that have not begun are cancelled.
        """
        with self._lock:
            self._is_shut = True
            waiting: list[LaneCall] = []
            if cancel_futures:
                self._backlog.close()
                for lane in self._lanes:
                    lane.take_back()
                waiting = self._backlog.take_all()
            self._dismissal()
        cancel(waiting)  # not under the lock, for callbacks may do anything
        # A callback is called by a lane, which the others might be waiting for.
        if wait and threading.current_thread() not in self._lanes:
            for lane in tuple(self._lanes):
                join(lane)

    def __exit__(self, *raised: Any) -> None:
        if raised[0] is not None and not issubclass(raised[0], Exception):
            self.kill_all()  # Ctrl-C waits for nothing
        super().__exit__(*raised)

    def kill_all(self) -> None:
        """Stop every call that runs, and cancel every call that waits."""
        try:
            cancel(self._backlog.take_all())
        finally:
            cancel([call for lane in tuple(self._lanes) for call in lane.stop()])

    def _begin_anew(self) -> None:
        """In a forked child, begin with no worker: those of the parent stay there."""
        self._dismissal.detach()
        self._begin_empty()


def _count(name: str, value: Any, demand: str) -> int:
    """Give a number that must be 1 or more.

    Raises:
        TypeError: If it is no whole number.
        ValueError: If it is below 1.
    """
    try:
        count = index(value)
    except TypeError:
        count = None
    if count is None or isinstance(value, bool):
        raise TypeError(f"{name} must be an integer, not {value!r}") from None
    if count < 1:
        raise ValueError(f"{name} {demand}, not {value!r}")
    return count


def _context(context: Any, start_method: str | None) -> Any:
    """Give the context of multiprocessing that starts the workers."""
    if context is not None:
        if start_method is not None:
            raise TypeError("give mp_context or start_method, not both")
        if not all(hasattr(context, name) for name in _OF_A_CONTEXT):
            hint = f"; give start_method={context!r}" if type(context) is str else ""
            raise TypeError(
                "mp_context is a context of multiprocessing, as its get_context() "
                f"gives one, not {context!r}{hint}"
            )
        return context.get_context()  # one that has decided upon its method
    methods = multiprocessing.get_all_start_methods()
    if start_method is None:
        start_method = "forkserver" if "forkserver" in methods else "spawn"
    if start_method not in methods:
        raise ValueError(f"start_method is one of {methods}, not {start_method!r}")
    return multiprocessing.get_context(start_method)


def usable_cpus() -> int:
    """Give the number of CPUs that this process may use."""
    if sys.version_info >= (3, 13):
        return os.process_cpu_count() or 1
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
