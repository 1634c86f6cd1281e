"""Places: where attempts are made.

In this thread, in threads of our own, in our process lanes, or on anybody's
``concurrent.futures.Executor``. A place makes attempts and reports how they ended; it
decides nothing.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import BrokenExecutor, CancelledError, Executor, Future
from contextvars import ContextVar, copy_context
from itertools import count
from queue import Empty, SimpleQueue
from time import perf_counter
from typing import TYPE_CHECKING, Any, cast

from stepfunction.core.errors import (
    TransferError,
    WorkerCrashedError,
    WorkerKilledError,
    WorkerStartError,
    error_text,
)
from stepfunction.core.execution import Outcome
from stepfunction.core.executors import (
    cancels_what_began,
    is_lanes,
    runs_in_processes,
    was_left_by_fork,
)
from stepfunction.core.workers import (
    LiveAttempt,
    MakeContext,
    Place,
    Task,
    make_attempt,
)

if TYPE_CHECKING:
    from stepfunction.core.lanes import LaneFuture, ProcessLanes
    from stepfunction.core.parcel import Parcel

# The executors of others in one of whose threads this runs: a task that waited there
# for other tasks of the same executor could wait for ever.
_around: ContextVar[tuple[Executor, ...]]
_around = ContextVar("stepfunction_around", default=())
_logger = logging.getLogger("stepfunction")
_numbers = count()
# What executors of others raise where a worker died, by name, for they may not be
# installed. A task's own errors come in the envelope.
_LOST = ("KilledWorker", "WorkerLost", "ManagerLost")
_MOST_THREADS = 32
_MOST_LANES = 1024


class Inline:
    """The calling thread: one task after the other.

    Args:
        isolate: Whether each task has context variables of its own, as in threads.
    """

    limit: int | None = 1
    left_behind = Outcome.CANCELLED

    def __init__(
        self, value: Any, make_context: MakeContext, isolate: bool = True
    ) -> None:
        self._value = value
        self._make_context = make_context
        self._isolate = isolate

    def begin(self, attempt: LiveAttempt) -> None:
        if self._isolate:
            attempt.variables = copy_context()
        # What is no Exception interrupts this very thread.
        report = make_attempt(attempt, self._value, self._make_context, Exception)
        attempt.end(*report[1:])

    def staff(self) -> None: ...

    def halt(self, attempts: Iterable[LiveAttempt]) -> list[LiveAttempt]:
        return []

    def give_up(self, attempt: LiveAttempt) -> bool:
        return True  # here a limit is measured, and not enforced

    def close(self, wait: bool) -> None: ...


class Threads:
    """Daemon threads made for one step, so that no other step can wait for them."""

    left_behind = Outcome.ABANDONED

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
        self._working: dict[LiveAttempt, threading.Thread] = {}

    def begin(self, attempt: LiveAttempt) -> None:
        # A copy for each: a context cannot be entered twice at once.
        attempt.variables = copy_context()
        self._queue.put(attempt)

    def staff(self) -> None:
        # Short tasks are done before a second thread has started.
        while len(self._threads) < self._most and not self._queue.empty():
            name = f"{self._name}-{next(self._numbers)}"
            thread = threading.Thread(target=self._work, name=name, daemon=True)
            self._threads.add(thread)
            thread.start()

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


class Lanes:
    """Our worker processes, of this execution or kept open by the caller."""

    left_behind = Outcome.KILLED

    def __init__(
        self,
        lanes: ProcessLanes,
        name: str,
        tasks: Sequence[Task],
        value: Any,
        make_context: MakeContext,
        limit: int | None,
    ) -> None:
        from stepfunction.core.envelope import pack_call, pack_input, pack_parcel
        from stepfunction.core.logs import current_levels

        self.limit = limit
        self._lanes = lanes
        self._make_context = make_context
        # All is packed before anything starts, and the input once for all tasks.
        self._calls = {task: pack_call(task.name, task.call) for task in tasks}
        self._body: Parcel = pack_input(name, value, pack_parcel)
        self._levels = current_levels()
        self._futures: dict[LiveAttempt, LaneFuture] = {}

    def begin(self, attempt: LiveAttempt) -> None:
        from stepfunction.core.envelope import pack
        from stepfunction.core.lane_worker import prepare_in_lane

        task = attempt.task
        context = self._make_context(attempt) if task.wants_context else None
        args = (self._calls[task], context, task.is_timed)
        head = pack((prepare_in_lane, args, {}))
        future = self._lanes.send(task.name, head, self._body, attempt, self._levels)
        self._futures[attempt] = future
        future.add_done_callback(
            lambda it: attempt.end(*_result(it, cast("LaneFuture", it).began))
        )

    def staff(self) -> None: ...

    def halt(self, attempts: Iterable[LiveAttempt]) -> list[LiveAttempt]:
        # An interrupt may have come before there was a future.
        futures = {one: self._futures.get(one) for one in attempts}
        waiting = [one for one, it in futures.items() if it is None or it.cancel()]
        for future in filter(None, futures.values()):
            self._lanes.kill(future)
        return waiting

    def give_up(self, attempt: LiveAttempt) -> bool:
        return self._lanes.kill(self._futures[attempt])

    def close(self, wait: bool) -> None:
        self._body = b""  # a large input is not kept until these are collected


class Pool:
    """Somebody else's executor, which we never shut down."""

    left_behind = Outcome.ABANDONED

    def __init__(
        self,
        executor: Executor,
        name: str,
        tasks: Sequence[Task],
        value: Any,
        make_context: MakeContext,
        limit: int | None,
    ) -> None:
        from concurrent.futures import ThreadPoolExecutor

        if was_left_by_fork(executor):
            raise WorkerStartError(
                f"the {type(executor).__name__} of step {name!r} had started its "
                "workers before this process was forked, and they stayed with the "
                "parent; make it after "
                "the fork (gunicorn: in the post_fork hook, or without --preload)"
            )
        self.limit = limit
        self._executor = executor
        self._value = value
        self._make_context = make_context
        self._futures: dict[LiveAttempt, Future[Any] | None] = {}
        self._is_remote = not isinstance(executor, ThreadPoolExecutor)
        self._cancels_what_began = cancels_what_began(executor)
        if self._is_remote:
            from stepfunction.core.envelope import pack, pack_call, pack_input

            self._body = pack_input(name, value, pack)
            self._calls: dict[Task, Any] = {task: task.call for task in tasks}
            if runs_in_processes(executor):
                # Others have ways of their own to send a function, as by its code.
                self._calls = {task: pack_call(task.name, task.call) for task in tasks}

    def begin(self, attempt: LiveAttempt) -> None:
        if self._is_remote:
            attempt.start()  # as near as can be known from here

        def done(future: Future[Any]) -> None:
            self._futures.pop(attempt, None)
            outcome, *rest = result = _result(future, attempt.began)
            if outcome is Outcome.CANCELLED and self._cancels_what_began:
                attempt.end(Outcome.ABANDONED, rest[0], attempt.began, rest[2])
            elif outcome is Outcome.FAILED and type(rest[0]).__name__ in _LOST:
                attempt.end(Outcome.CRASHED, *rest)
            elif outcome is not Outcome.SUCCEEDED:
                attempt.end(*result)
            elif self._is_remote:
                attempt.end(*_opened(attempt.task.name, *result))
            else:
                attempt.end(*result[1][1:])

        self._futures[attempt] = None
        self._futures[attempt] = future = self._submit(attempt)
        future.add_done_callback(done)

    def _submit(self, attempt: LiveAttempt) -> Future[Any]:
        if not self._is_remote:
            attempt.variables = copy_context()
            attempt.variables.run(_around.set, (*_around.get(), self._executor))
            return self._executor.submit(
                make_attempt, attempt, self._value, self._make_context
            )
        from pickle import PickleError

        from stepfunction.core.envelope import pack

        # Positional arguments alone, and a number that makes no two calls alike: some
        # executors swallow keywords, and some run equal calls once.
        context = pack(self._make_context(attempt))
        call, number = self._calls[attempt.task], next(_numbers)
        try:
            return self._executor.submit(
                _perform_remotely, call, self._body, context, number
            )
        except (TypeError, AttributeError, PickleError) as error:
            unsent = TransferError(
                f"the function of {attempt.task.name} cannot be sent to a worker: "
                f"{error_text(error.__cause__ or error)}"
            )
            unsent.__cause__ = error
            future: Future[Any] = Future()
            future.set_exception(unsent)
            return future

    def staff(self) -> None: ...

    def halt(self, attempts: Iterable[LiveAttempt]) -> list[LiveAttempt]:
        cancelled = [attempt for attempt in attempts if self._cancel(attempt)]
        return [] if self._cancels_what_began else cancelled

    def give_up(self, attempt: LiveAttempt) -> bool:
        self._cancel(attempt)
        return False

    def _cancel(self, attempt: LiveAttempt) -> bool:
        if attempt not in self._futures:
            return False  # it has ended, and its report is on its way
        future = self._futures[attempt]
        try:
            # There is none yet where an interrupt came first.
            return future is None or future.cancel()
        except NotImplementedError:  # not every executor can
            return False

    def close(self, wait: bool) -> None: ...


def _perform_remotely(
    call: Callable[[Any, Any], Any] | bytes, body: bytes, context: bytes, number: int
) -> bytes:
    from stepfunction.core.answers import perform, prepare_call
    from stepfunction.core.envelope import pack, unpack

    return perform(lambda: prepare_call(call, body, unpack(context)), pack)


Result = tuple[Outcome, Any, float, float]


def _result(future: Future[Any], began: float) -> Result:
    """Give the end of an attempt that a future stands for."""
    ended = perf_counter()
    if future.cancelled():
        return Outcome.CANCELLED, CancelledError(), ended, ended
    error = future.exception()
    if error is None:
        return Outcome.SUCCEEDED, future.result(), began, ended
    began = began or ended  # it was stopped before there was a worker for it
    outcome = Outcome.FAILED
    if isinstance(error, WorkerKilledError):
        outcome = Outcome.KILLED
    elif isinstance(error, WorkerCrashedError | BrokenExecutor):
        outcome = Outcome.CRASHED
    return outcome, error, began, ended


def _opened(
    name: str, outcome: Outcome, answer: bytes, began: float, ended: float
) -> Result:
    """Open the packed answer of somebody else's worker."""
    from stepfunction.core.answers import open_answer

    try:
        is_result, payload, seconds = open_answer(name, answer)
    except Exception as error:
        return Outcome.FAILED, error, began, ended
    outcome = Outcome.SUCCEEDED if is_result else Outcome.FAILED
    return outcome, payload, ended - seconds, ended


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
    ) -> Place:
        """Give the place where a step's tasks are to run.

        Args:
            executor: The step's own executor.
            name: The name of the step.
            tasks: Its tasks.
            value: Its input.
            make_context: Gives the context of an attempt.
            max_workers: How many tasks may run at once; None for the default.
            ahead: Whether attempts may be handed out before a worker is free, which
                is faster, but lets one begin although another has just failed.

        Raises:
            TransferError: If they must go to another process and cannot.
        """
        if self.override is not None:
            executor = self.override
        if executor in _around.get():
            executor = "inline"
        if executor == "inline":
            if any(task.is_timed for task in tasks):
                self._warn_of_limits()
            for task in tasks:
                task.timeout = task.heartbeat = None
            return Inline(value, make_context)
        if executor == "thread":
            most = max_workers or min(len(tasks), _MOST_THREADS)
            limit = None if ahead else most
            return Threads(name, value, make_context, most, limit)
        if executor == "process":
            from stepfunction.core.lanes import usable_cpus

            limit = max_workers or min(len(tasks), usable_cpus())
            executor = self._open_lanes()
            return Lanes(executor, name, tasks, value, make_context, limit)
        if is_lanes(executor):
            # First come is first served there: who hands out all at once makes all
            # other executions wait.
            limit = max_workers or executor.max_workers * (2 if ahead else 1)
            return Lanes(executor, name, tasks, value, make_context, limit)
        if any(task.heartbeat is not None for task in tasks):
            _logger.warning(
                "step %r: heartbeat is not watched in this execution, for %s cannot "
                "pass on signs of life",
                name,
                type(executor).__name__,
            )
        for task in tasks:
            task.heartbeat = None
        return Pool(executor, name, tasks, value, make_context, max_workers)

    def _warn_of_limits(self) -> None:
        if not self._has_warned:
            self._has_warned = True
            _logger.warning(
                "timeouts are not enforced in this execution: a step runs in the "
                "thread that waits for it, as with executor='inline'"
            )

    def _open_lanes(self) -> ProcessLanes:
        from stepfunction.core.lanes import ProcessLanes

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
