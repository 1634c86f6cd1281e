"""Futures: the places whose attempts are futures of an executor.

That is our process lanes, or anybody's ``concurrent.futures.Executor``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from concurrent.futures import BrokenExecutor, CancelledError, Executor, Future
from contextvars import copy_context
from itertools import count
from threading import RLock
from time import perf_counter
from typing import TYPE_CHECKING, Any

from stepfunction.core.errors import TransferError, WorkerStartError
from stepfunction.core.outcomes import Outcome
from stepfunction.core.wording import error_text
from stepfunction.core.workers.executors import (
    around,
    cancels_what_began,
    runs_in_processes,
    was_left_by_fork,
)
from stepfunction.core.workers.tasks import (
    LiveAttempt,
    Report,
    Task,
    Work,
    make_attempt,
)

if TYPE_CHECKING:
    from stepfunction.core.envelope.parcel import Parcel
    from stepfunction.core.lanes.lanes import ProcessLanes

# How an attempt ended: outcome, payload, beginning, end.
Ending = tuple[Outcome, Any, float, float]
_numbers = count()
_RLock: Any = type(RLock())
# What executors of others raise where a worker died, by name, for they may not be
# installed. A task's own errors come in the envelope.
_LOST = ("KilledWorker", "WorkerLost", "ManagerLost")


class _Sender:
    """Packs what goes to other processes: the calls, and an input once for all tasks.

    Args:
        work: What the tasks have in common.
        pack: ``pack``, or ``pack_parcel`` for a process of this machine.
        packs_calls: Whether calls are packed too.

    Raises:
        TransferError: If a call or the input cannot be sent.
    """

    def __init__(
        self, work: Work, pack: Callable[[Any], Any], packs_calls: bool = True
    ) -> None:
        from stepfunction.core.envelope.refusals import pack_input

        self._pack = pack
        self._packs_calls = packs_calls
        # Each with its call, for nothing else may come to have its id.
        self._packed: dict[int, tuple[Any, Any]] = {}
        for name, call in work.calls:
            if id(call) not in self._packed:
                self._packed[id(call)] = call, self._pack_call(name, call)
        self._input: Parcel = pack_input(f"step {work.name!r}", work.value, pack)

    def parts(self, task: Task) -> tuple[Any, Any]:
        """Give the call and the input of a task, as they are sent."""
        from stepfunction.core.envelope.refusals import pack_input

        known = self._packed.get(id(task.call))
        call = self._pack_call(task.name, task.call) if known is None else known[1]
        if task.given is None:
            return call, self._input
        return call, pack_input(task.name, task.given[0], self._pack)

    def _pack_call(self, name: str, call: Any) -> Any:
        from stepfunction.core.envelope.refusals import pack_call

        return pack_call(name, call) if self._packs_calls else call

    def forget_input(self) -> None:
        """Let go of the input, when all has been sent."""
        self._input = b""


class _Futures(ABC):
    """What the places have in common whose attempts are futures."""

    limit: int | None

    def __init__(self, limit: int | None) -> None:
        self.limit = limit
        # There is none yet where an interrupt came first.
        self._futures: dict[LiveAttempt, Future[Any] | None] = {}

    def begin(self, attempt: LiveAttempt) -> None:
        self._futures[attempt] = None
        try:
            future = self._submit(attempt)
        except (TransferError, BrokenExecutor) as error:
            future = _failed(error)

        def done(future: Future[Any]) -> None:
            self._futures.pop(attempt, None)
            attempt.end(Report(attempt, *self._ending(attempt, future)))

        self._futures[attempt] = future
        try:
            future.add_done_callback(done)
        except BaseException:
            _let_go_of(future)
            raise

    @abstractmethod
    def _submit(self, attempt: LiveAttempt) -> Future[Any]:
        """Hand an attempt to who makes it."""

    @abstractmethod
    def _ending(self, attempt: LiveAttempt, future: Future[Any]) -> Ending:
        """Give how an attempt ended, of its future."""

    def staff(self) -> bool:
        return False

    def close(self, wait: bool) -> None: ...


class Lanes(_Futures):
    """Our worker processes, of this execution or kept open by the caller."""

    left_behind = Outcome.KILLED
    is_here = False
    hears_parts = True

    def __init__(
        self, lanes: ProcessLanes, work: Work, limit: int, grows: bool = False
    ) -> None:
        from stepfunction.core.envelope.envelope import pack_parcel
        from stepfunction.core.lanes.logs import current_levels
        from stepfunction.core.lanes.pace import Pace

        super().__init__(limit)
        self._lanes = lanes
        self._work = work
        self._sender = _Sender(work, pack_parcel)
        self._levels = current_levels()
        # Whether more may be handed out while they are short, and by how much.
        self._grows = grows
        self._least = limit
        self._pace = Pace()

    def _submit(self, attempt: LiveAttempt) -> Future[Any]:
        from stepfunction.core.envelope.envelope import pack
        from stepfunction.core.lanes.hopper import is_small

        task = attempt.task
        context = self._work.make_context(attempt) if task.wants_context else None
        call, body = self._sender.parts(task)
        head = pack((call, context, task.says_start))
        self._grows = self._grows and is_small(head, body)
        return self._lanes.send(task.name, head, body, attempt, self._levels, self)

    def _ending(self, attempt: LiveAttempt, future: Future[Any]) -> Ending:
        ending = _result(future, getattr(future, "began", 0.0))
        if self._grows:
            self._pace.learn(ending[3] - ending[2])
            self.limit = self._least + self._pace.ahead * self._lanes.max_workers
        return ending

    def halt(self, attempts: Iterable[LiveAttempt]) -> list[LiveAttempt]:
        # Of those that have ended the report is on its way. A copy, for others may be
        # ending just now.
        known = self._futures.copy()
        futures = {one: known[one] for one in attempts if one in known}
        waiting = [one for one, it in futures.items() if it is None or it.cancel()]
        for future in filter(None, futures.values()):
            self._lanes.kill(future)
        return waiting

    def give_up(self, attempt: LiveAttempt) -> None:
        future = self._futures.get(attempt)
        if future is not None:  # if it cannot be killed it has just ended
            self._lanes.kill(future)

    def close(self, wait: bool) -> None:
        # A large input is not kept until these are collected.
        self._sender.forget_input()


class Pool(_Futures):
    """Somebody else's executor, which we never shut down."""

    left_behind = Outcome.ABANDONED
    is_here = False
    hears_parts = False

    def __init__(self, executor: Executor, work: Work, limit: int | None) -> None:
        if was_left_by_fork(executor):
            raise WorkerStartError(
                f"the {type(executor).__name__} of step {work.name!r} had started its "
                "workers before this process was forked, and they stayed with the "
                "parent; make it after "
                "the fork (gunicorn: in the post_fork hook, or without --preload)"
            )
        super().__init__(limit)
        self._executor = executor
        self._work = work
        self._cancels_what_began = cancels_what_began(executor)
        self._prepare()

    def _prepare(self) -> None:
        from stepfunction.core.envelope.envelope import pack

        # Others have ways of their own to send a function, as by its code.
        packs_calls = runs_in_processes(self._executor)
        self._sender = _Sender(self._work, pack, packs_calls)

    def _submit(self, attempt: LiveAttempt) -> Future[Any]:
        from pickle import PickleError

        from stepfunction.core.envelope.envelope import pack

        attempt.start()  # as near as can be known from here
        context = pack(self._work.make_context(attempt))
        call, body = self._sender.parts(attempt.task)
        try:
            # Positional arguments alone, and a number that makes no two calls alike:
            # some executors swallow keywords, and some run equal calls once.
            return self._executor.submit(
                _perform_remotely, call, body, context, next(_numbers)
            )
        except (TypeError, AttributeError, PickleError) as error:
            raise TransferError(
                f"the function of {attempt.task.name} cannot be sent to a worker: "
                f"{error_text(error.__cause__ or error)}"
            ) from error

    def _ending(self, attempt: LiveAttempt, future: Future[Any]) -> Ending:
        outcome, payload, began, ended = _result(future, attempt.began)
        if outcome is Outcome.CANCELLED and self._cancels_what_began:
            return Outcome.ABANDONED, payload, attempt.began, ended
        if outcome is Outcome.FAILED and type(payload).__name__ in _LOST:
            outcome = Outcome.CRASHED
        if outcome is not Outcome.SUCCEEDED:
            return outcome, payload, began, ended
        return self._opened(attempt, payload, began, ended)

    def _opened(
        self, attempt: LiveAttempt, answer: Any, began: float, ended: float
    ) -> Ending:
        """Give the ending of an attempt by what its future gave."""
        from stepfunction.core.envelope.answers import open_answer

        try:
            is_result, payload, seconds = open_answer(attempt.task.name, answer)
        except Exception as error:
            return Outcome.FAILED, error, began, ended
        outcome = Outcome.SUCCEEDED if is_result else Outcome.FAILED
        return outcome, payload, ended - seconds, ended

    def halt(self, attempts: Iterable[LiveAttempt]) -> list[LiveAttempt]:
        cancelled = [attempt for attempt in attempts if self._cancel(attempt)]
        return [] if self._cancels_what_began else cancelled

    def give_up(self, attempt: LiveAttempt) -> None:
        self._cancel(attempt)

    def _cancel(self, attempt: LiveAttempt) -> bool:
        try:
            future = self._futures[attempt]
        except KeyError:
            return False  # it has ended, and its report is on its way
        try:
            return future is None or future.cancel()
        except NotImplementedError:  # not every executor can
            return False
        except BaseException:
            _let_go_of(future)
            raise


class ThreadPool(Pool):
    """Somebody else's threads in this process."""

    is_here = True

    def _prepare(self) -> None: ...

    def _submit(self, attempt: LiveAttempt) -> Future[Any]:
        attempt.variables = copy_context()
        attempt.variables.run(around.set, (*around.get(), self._executor))
        return self._executor.submit(make_attempt, attempt, self._work)

    def _opened(
        self, attempt: LiveAttempt, answer: Any, began: float, ended: float
    ) -> Ending:
        _, *ending = answer  # a Report
        return tuple(ending)


def _let_go_of(future: Any) -> None:
    """Let go of the lock of a future where an interrupt has left it with this thread.

    The standard library's futures take and let go of it in Python code. Their worker
    would wait for it for ever.
    """
    lock: Any = getattr(getattr(future, "_condition", None), "_lock", None)
    while isinstance(lock, _RLock) and lock._is_owned():
        lock.release()


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


def _result(future: Future[Any], began: float) -> Ending:
    """Give the end of an attempt that a future stands for."""
    ended = perf_counter()
    if future.cancelled():
        return Outcome.CANCELLED, CancelledError(), ended, ended
    error = future.exception()
    if error is None:
        return Outcome.SUCCEEDED, future.result(), began, ended
    began = began or ended  # it was stopped before there was a worker for it
    if not isinstance(error, BrokenExecutor) or isinstance(error, WorkerStartError):
        return Outcome.FAILED, error, began, ended
    from stepfunction.core.errors import WorkerKilledError  # which is dear

    is_killed = isinstance(error, WorkerKilledError)
    return Outcome.KILLED if is_killed else Outcome.CRASHED, error, began, ended
