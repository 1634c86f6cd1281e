"""Futures: the places whose attempts are futures, and of these our process lanes.

What is anybody else's ``concurrent.futures.Executor`` is in ``pools``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from concurrent.futures import BrokenExecutor, CancelledError, Future
from functools import partial
from threading import RLock, get_ident
from typing import TYPE_CHECKING, Any

from stepfunction.core.clock import perf_counter
from stepfunction.core.errors import WorkerStartError
from stepfunction.core.outcomes import Outcome
from stepfunction.core.raised import is_a, short_repr
from stepfunction.core.surroundings import Taken
from stepfunction.core.workers.attempts import LiveAttempt, Report, Work
from stepfunction.core.workers.tasks import Task

if TYPE_CHECKING:
    from stepfunction.core.envelope.parcel import Parcel
    from stepfunction.core.lanes.lanes import ProcessLanes

# How an attempt ended: outcome, payload, beginning, end.
Ending = tuple[Outcome, Any, float, float]
_RLock: Any = type(RLock())


class Sender:
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


class Futures(ABC):
    """What the places have in common whose attempts are futures."""

    limit: int | None

    def __init__(self, limit: int | None) -> None:
        self.limit = limit
        self._home = get_ident()
        # There is none yet where an interrupt came first.
        self._futures: dict[LiveAttempt, Future[Any] | None] = {}
        self._unreported: set[LiveAttempt] = set()

    def begin(self, attempt: LiveAttempt) -> None:
        self._futures[attempt] = None
        self._unreported.add(attempt)
        try:
            future = self._submit(attempt)
            if not hasattr(future, "add_done_callback"):
                text = f"submit() gave {short_repr(future)}, which is no future"
                raise TypeError(text)
        except BrokenExecutor as error:
            future = _failed(error)
        except (RuntimeError, WorkerStartError):
            # As of an executor that is shut down: it takes no other task either.
            self._futures.pop(attempt, None)
            raise
        except Exception as error:
            future = _failed(error)

        self._futures[attempt] = future
        try:
            future.add_done_callback(partial(self._settle, attempt))
        except Exception as error:
            self._futures.pop(attempt, None)
            self._end(Report(attempt, *_broken(error)))
        except BaseException:
            let_go_of(future)
            raise

    def _settle(self, attempt: LiveAttempt, future: Future[Any]) -> None:
        """Report how an attempt ended, unless whoever made it does. Any thread may."""
        self._futures.pop(attempt, None)
        if attempt not in self._unreported:
            return
        try:
            ending = self._ending(attempt, future)
        except BaseException as error:
            if get_ident() == self._home and not is_a(error, Exception):
                raise  # an interrupt of this very thread
            ending = _broken(error)
        self._end(Report(attempt, *ending))

    def _end(self, report: Report) -> None:
        """Report the end of an attempt, once."""
        try:
            self._unreported.remove(report.attempt)
        except KeyError:
            return
        report.attempt.end(report)

    @abstractmethod
    def _submit(self, attempt: LiveAttempt) -> Future[Any]:
        """Hand an attempt to who makes it."""

    @abstractmethod
    def _ending(self, attempt: LiveAttempt, future: Future[Any]) -> Ending:
        """Give how an attempt ended, of its future."""

    def staff(self) -> bool:
        return False

    def close(self, wait: bool) -> None: ...


class Lanes(Futures):
    """Our worker processes, of this execution or kept open by the caller."""

    left_behind = Outcome.KILLED
    is_here = False
    hears_parts = True
    is_inline = False

    def __init__(
        self,
        lanes: ProcessLanes,
        work: Work,
        limit: int,
        grows: bool = False,
        taken: Taken | None = None,
    ) -> None:
        from stepfunction.core.envelope.envelope import pack_parcel
        from stepfunction.core.envelope.refusals import pack_taken
        from stepfunction.core.lanes.logs import current_levels
        from stepfunction.core.lanes.pace import Pace

        super().__init__(limit)
        self._lanes = lanes
        self._work = work
        self._around = pack_taken(taken, f"step {work.name!r}")
        self._sender = Sender(work, pack_parcel)
        self._levels = current_levels()
        # Whether more may be handed out while they are short, and by how much.
        self._grows = grows
        self._least = limit
        self._pace = Pace()

    @property
    def workers(self) -> int | None:
        return min(self._least, self._lanes.max_workers)

    def _submit(self, attempt: LiveAttempt) -> Future[Any]:
        from pickle import HIGHEST_PROTOCOL, dumps

        from stepfunction.core.envelope.envelope import pack
        from stepfunction.core.lanes.hopper import is_small
        from stepfunction.core.lanes.messages import within

        task = attempt.task
        call, body = self._sender.parts(task)
        if task.wants_context:
            context = self._work.make_context(attempt)
            head = pack((call, context, task.says_start))
        else:  # which holds no exception, nor anything else of the user's
            head = dumps((call, None, task.says_start), HIGHEST_PROTOCOL)
        head = within(self._around, head)
        self._grows = self._grows and is_small(head, body)
        return self._lanes._send(
            task.name,
            head,
            body,
            attempt,
            self._levels,
            sender=self,
            is_urgent=attempt.number > 1,
        )

    def _ending(self, attempt: LiveAttempt, future: Future[Any]) -> Ending:
        ending = ending_of(future, getattr(future, "began", 0.0))
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


def let_go_of(future: Any) -> None:
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


def _broken(error: BaseException) -> Ending:
    """Give how an attempt ended whose future is not what futures are."""
    now = perf_counter()
    return Outcome.FAILED, error, now, now


def ending_of(future: Future[Any], began: float) -> Ending:
    """Give the end of an attempt that a future stands for."""
    ended = perf_counter()
    if future.cancelled():
        return Outcome.CANCELLED, CancelledError(), ended, ended
    error = future.exception()
    if error is None:
        return Outcome.SUCCEEDED, future.result(), began, ended
    began = began or ended  # it was stopped before there was a worker for it
    if not is_a(error, BrokenExecutor) or is_a(error, WorkerStartError):
        return Outcome.FAILED, error, began, ended
    from stepfunction.core.errors import WorkerKilledError  # which is dear

    is_killed = is_a(error, WorkerKilledError)
    return Outcome.KILLED if is_killed else Outcome.CRASHED, error, began, ended
