"""Futures: the places whose attempts are futures of an executor.

That is our process lanes, or anybody's ``concurrent.futures.Executor``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import BrokenExecutor, CancelledError, Executor, Future
from contextvars import copy_context
from itertools import count
from time import perf_counter
from typing import TYPE_CHECKING, Any, cast

from stepfunction.core.errors import (
    TransferError,
    WorkerCrashedError,
    WorkerKilledError,
    WorkerStartError,
)
from stepfunction.core.outcomes import Outcome
from stepfunction.core.wording import error_text
from stepfunction.core.workers.executors import (
    around,
    cancels_what_began,
    runs_in_processes,
    was_left_by_fork,
)
from stepfunction.core.workers.tasks import LiveAttempt, MakeContext, Task, make_attempt

if TYPE_CHECKING:
    from stepfunction.core.envelope.parcel import Parcel
    from stepfunction.core.lanes.lanes import LaneFuture, ProcessLanes

_numbers = count()
# What executors of others raise where a worker died, by name, for they may not be
# installed. A task's own errors come in the envelope.
_LOST = ("KilledWorker", "WorkerLost", "ManagerLost")


class Lanes:
    """Our worker processes, of this execution or kept open by the caller."""

    left_behind = Outcome.KILLED
    is_here = False
    hears_parts = True

    def __init__(
        self,
        lanes: ProcessLanes,
        name: str,
        tasks: Sequence[Task],
        value: Any,
        make_context: MakeContext,
        limit: int | None,
    ) -> None:
        from stepfunction.core.envelope.envelope import pack_parcel
        from stepfunction.core.envelope.refusals import pack_input
        from stepfunction.core.lanes.logs import current_levels

        self.limit = limit
        self._lanes = lanes
        self._make_context = make_context
        # All is packed before anything starts, and the input once for all tasks.
        self._calls = _PackedCalls(tasks)
        self._body: Parcel = b""
        if any(task.given is None for task in tasks):
            self._body = pack_input(f"step {name!r}", value, pack_parcel)
        self._levels = current_levels()
        self._futures: dict[LiveAttempt, LaneFuture | None] = {}

    def begin(self, attempt: LiveAttempt) -> None:
        from stepfunction.core.envelope.envelope import pack, pack_parcel
        from stepfunction.core.envelope.refusals import pack_input
        from stepfunction.core.lanes.worker import prepare_in_lane

        self._futures[attempt] = None
        task, body = attempt.task, self._body
        context = self._make_context(attempt) if task.wants_context else None
        try:
            call = self._calls.of(task)
            if task.given is not None:
                body = pack_input(task.name, task.given[0], pack_parcel)
        except TransferError as error:
            del self._futures[attempt]
            now = perf_counter()
            attempt.end(Outcome.FAILED, error, now, now)
            return
        head = pack((prepare_in_lane, (call, context, task.says_start), {}))

        def done(future: Future[Any]) -> None:
            self._futures.pop(attempt, None)
            attempt.end(*_result(future, cast("LaneFuture", future).began))

        future = self._lanes.send(task.name, head, body, attempt, self._levels)
        self._futures[attempt] = future
        future.add_done_callback(done)

    def staff(self) -> bool:
        return False

    def halt(self, attempts: Iterable[LiveAttempt]) -> list[LiveAttempt]:
        # Of those that have ended the report is on its way. Others may have no future
        # yet, if an interrupt came first. A copy, for they may be ending just now.
        known = self._futures.copy()
        futures = {one: known[one] for one in attempts if one in known}
        waiting = [one for one, it in futures.items() if it is None or it.cancel()]
        for future in filter(None, futures.values()):
            self._lanes.kill(future)
        return waiting

    def give_up(self, attempt: LiveAttempt) -> bool:
        future = self._futures.get(attempt)
        if future is not None:
            self._lanes.kill(future)
        return True  # if it cannot be killed it has just ended

    def close(self, wait: bool) -> None:
        self._body = b""  # a large input is not kept until these are collected


class _PackedCalls:
    """The calls of a step's tasks, of which many may make the same one.

    Raises:
        TransferError: If one cannot be sent to another process.
    """

    def __init__(self, tasks: Sequence[Task]) -> None:
        self._packed: dict[int, tuple[Any, bytes]] = {}
        for task in tasks:
            # With the call, for nothing else may come to have its id.
            self._packed[id(task.call)] = task.call, self._pack(task)

    def of(self, task: Task) -> bytes:
        """Give the packed call of a task, who need not be among those."""
        known = self._packed.get(id(task.call))
        return self._pack(task) if known is None else known[1]

    def _pack(self, task: Task) -> bytes:
        from stepfunction.core.envelope.refusals import pack_call

        return pack_call(task.name, task.call)


class Pool:
    """Somebody else's executor, which we never shut down."""

    left_behind = Outcome.ABANDONED
    hears_parts = False

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
        self.is_here = isinstance(executor, ThreadPoolExecutor)
        self._cancels_what_began = cancels_what_began(executor)
        self._body = b""
        self._calls: _PackedCalls | None = None
        if not self.is_here:
            from stepfunction.core.envelope.envelope import pack
            from stepfunction.core.envelope.refusals import pack_input

            if any(task.given is None for task in tasks):
                self._body = pack_input(f"step {name!r}", value, pack)
            if runs_in_processes(executor):
                # Others have ways of their own to send a function, as by its code.
                self._calls = _PackedCalls(tasks)

    def begin(self, attempt: LiveAttempt) -> None:
        if not self.is_here:
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
            elif not self.is_here:
                attempt.end(*_opened(attempt.task.name, *result))
            else:
                attempt.end(*result[1][1:])

        self._futures[attempt] = None
        try:
            future = self._submit(attempt)
        except BrokenExecutor as error:  # by a task that was there before
            future = _failed(error)
        self._futures[attempt] = future
        future.add_done_callback(done)

    def _submit(self, attempt: LiveAttempt) -> Future[Any]:
        if self.is_here:
            attempt.variables = copy_context()
            attempt.variables.run(around.set, (*around.get(), self._executor))
            return self._executor.submit(
                make_attempt, attempt, self._value, self._make_context
            )
        from pickle import PickleError

        from stepfunction.core.envelope.envelope import pack
        from stepfunction.core.envelope.refusals import pack_input

        # Positional arguments alone, and a number that makes no two calls alike: some
        # executors swallow keywords, and some run equal calls once.
        task, body, call = attempt.task, self._body, attempt.task.call
        context = pack(self._make_context(attempt))
        try:
            if task.given is not None:
                body = pack_input(task.name, task.given[0], pack)
            sent = call if self._calls is None else self._calls.of(task)
        except TransferError as error:
            return _failed(error)
        try:
            return self._executor.submit(
                _perform_remotely, sent, body, context, next(_numbers)
            )
        except (TypeError, AttributeError, PickleError) as error:
            unsent = TransferError(
                f"the function of {attempt.task.name} cannot be sent to a worker: "
                f"{error_text(error.__cause__ or error)}"
            )
            unsent.__cause__ = error
            return _failed(unsent)

    def staff(self) -> bool:
        return False

    def halt(self, attempts: Iterable[LiveAttempt]) -> list[LiveAttempt]:
        cancelled = [attempt for attempt in attempts if self._cancel(attempt)]
        return [] if self._cancels_what_began else cancelled

    def give_up(self, attempt: LiveAttempt) -> bool:
        self._cancel(attempt)
        return False

    def _cancel(self, attempt: LiveAttempt) -> bool:
        try:
            future = self._futures[attempt]
        except KeyError:
            return False  # it has ended, and its report is on its way
        try:
            # There is none yet where an interrupt came first.
            return future is None or future.cancel()
        except NotImplementedError:  # not every executor can
            return False

    def close(self, wait: bool) -> None: ...


def _failed(error: Exception) -> Future[Any]:
    future: Future[Any] = Future()
    future.set_exception(error)
    return future


def _perform_remotely(
    call: Callable[[Any, Any], Any] | bytes, body: bytes, context: bytes, number: int
) -> bytes:
    from stepfunction.core.envelope.answers import perform, prepare_call
    from stepfunction.core.envelope.envelope import pack, unpack

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
    from stepfunction.core.envelope.answers import open_answer

    try:
        is_result, payload, seconds = open_answer(name, answer)
    except Exception as error:
        return Outcome.FAILED, error, began, ended
    outcome = Outcome.SUCCEEDED if is_result else Outcome.FAILED
    return outcome, payload, ended - seconds, ended
