"""Futures: the places whose attempts are futures of an executor.

That is our process lanes, or anybody's ``concurrent.futures.Executor``.
"""

from __future__ import annotations

import os
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from concurrent.futures import BrokenExecutor, CancelledError, Executor, Future
from contextlib import suppress
from contextvars import copy_context
from functools import partial
from itertools import count
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
# How many attempts a place begins with whose size is not known, and for how long.
_FIRST_ATTEMPTS = 2
_LONGEST_LEARNING = 0.02
# What was handed to executors of others and has not begun in this process, by number.
# Where a call is made nobody can tell of an executor: one that comes back with the mark
# of this process is made here, as in a thread, of the very objects.
_handed_out: dict[int, tuple[Pool, LiveAttempt]] = {}
_mark = os.urandom(16)
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
        self._unreported: set[LiveAttempt] = set()

    def begin(self, attempt: LiveAttempt) -> None:
        self._futures[attempt] = None
        self._unreported.add(attempt)
        try:
            future = self._submit(attempt)
        except (TransferError, BrokenExecutor) as error:
            future = _failed(error)

        def done(future: Future[Any]) -> None:
            self._futures.pop(attempt, None)
            if attempt in self._unreported:  # else it has reported itself, or will
                self._end(Report(attempt, *self._ending(attempt, future)))

        self._futures[attempt] = future
        future.add_done_callback(done)

    def _end(self, report: Report) -> None:
        """Report the end of an attempt, unless that is left to who makes it."""
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


class Lanes(_Futures):
    """Our worker processes, of this execution or kept open by the caller."""

    left_behind = Outcome.KILLED
    is_here = False
    hears_parts = True
    is_inline = False

    def __init__(self, lanes: ProcessLanes, work: Work, limit: int | None) -> None:
        from stepfunction.core.envelope.envelope import pack_parcel
        from stepfunction.core.lanes.logs import current_levels

        super().__init__(limit)
        self._lanes = lanes
        self._work = work
        self._sender = _Sender(work, pack_parcel)
        self._levels = current_levels()

    def _submit(self, attempt: LiveAttempt) -> Future[Any]:
        from stepfunction.core.envelope.envelope import pack

        task = attempt.task
        context = self._work.make_context(attempt) if task.wants_context else None
        call, body = self._sender.parts(task)
        head = pack((call, context, task.says_start))
        return self._lanes.send(task.name, head, body, attempt, self._levels)

    def _ending(self, attempt: LiveAttempt, future: Future[Any]) -> Ending:
        return _result(future, getattr(future, "began", 0.0))

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
    """Somebody else's executor, which we never shut down.

    Args:
        executor: The executor.
        work: What its tasks have in common.
        limit: How many attempts may be under way at once; None for any number.
        learns: Whether that is a guess, to be mended by what is seen.
    """

    left_behind = Outcome.ABANDONED
    is_here = False
    hears_parts = False
    is_inline = False  # as far as is known

    def __init__(
        self, executor: Executor, work: Work, limit: int | None, learns: bool = False
    ) -> None:
        if was_left_by_fork(executor):
            raise WorkerStartError(
                f"the {type(executor).__name__} of step {work.name!r} had started its "
                "workers before this process was forked, and they stayed with the "
                "parent; make it after "
                "the fork (gunicorn: in the post_fork hook, or without --preload)"
            )
        super().__init__(limit)
        self._guess = limit if learns else None
        if self._guess is not None:
            self.limit = min(_FIRST_ATTEMPTS, self._guess)
        self._began = 0.0
        self._running: set[LiveAttempt] = set()  # in this process, and most at once
        self._peak = 0
        self._executor = executor
        self._work = work
        self._thread = threading.get_ident()
        self._interrupt: BaseException | None = None
        self._numbers: dict[LiveAttempt, int] = {}
        self._cancels_what_began = cancels_what_began(executor)
        self._prepare()

    def _prepare(self) -> None:
        from stepfunction.core.envelope.envelope import pack

        # Others have ways of their own to send a function, as by its code.
        packs_calls = runs_in_processes(self._executor)
        self._sender = _Sender(self._work, pack, packs_calls)

    def begin(self, attempt: LiveAttempt) -> None:
        self._began = self._began or perf_counter()
        super().begin(attempt)
        future = self._futures.get(attempt)
        if future is not None and _is_lazy(future):
            _poke(future)
        if self._interrupt is not None:  # of this very thread, whatever came of it
            raise self._interrupt

    def _submit(self, attempt: LiveAttempt) -> Future[Any]:
        from pickle import PickleError

        from stepfunction.core.envelope.envelope import pack

        attempt.start()  # as near as can be known from here
        context = pack(self._work.make_context(attempt))
        call, body = self._sender.parts(attempt.task)
        number = self._hand_out(attempt)
        try:
            # Positional arguments alone, and a number that makes no two calls alike:
            # some executors swallow keywords, and some run equal calls once.
            return self._executor.submit(_perform, call, body, context, number)
        except (TypeError, AttributeError, PickleError) as error:
            raise TransferError(
                f"the function of {attempt.task.name} cannot be sent to a worker: "
                f"{error_text(error.__cause__ or error)}"
            ) from error

    def _hand_out(self, attempt: LiveAttempt) -> tuple[int, int, bytes]:
        """Have an attempt known by what goes with it, if it is made in this process."""
        attempt.variables = copy_context()
        attempt.variables.run(around.set, (*around.get(), self._executor))
        number = next(_numbers)
        self._numbers[attempt] = number
        _handed_out[number] = self, attempt
        return number, os.getpid(), _mark

    def _end(self, report: Report) -> None:
        _handed_out.pop(self._numbers.pop(report.attempt, -1), None)
        super()._end(report)

    def make(self, attempt: LiveAttempt) -> None:
        """Make an attempt in this thread, and report it."""
        try:
            self._unreported.remove(attempt)
        except KeyError:
            return  # it was cancelled, or its executor has given it up
        self._numbers.pop(attempt, None)
        if attempt.of_step.requested or attempt.cancellation.requested:
            attempt.skip()
            return
        # What is no Exception interrupts the very thread that waits for all.
        is_callers = threading.get_ident() == self._thread
        if is_callers:
            self.is_inline = True
        self._running.add(attempt)
        self._peak = max(self._peak, len(self._running))
        try:
            catch = Exception if is_callers else BaseException
            report = make_attempt(attempt, self._work, catch)
        except BaseException as interrupt:
            self._interrupt = interrupt
            raise
        finally:
            self._running.discard(attempt)
        attempt.end(report)

    def staff(self) -> bool:
        if self._guess is None or self.limit == self._guess:
            return False
        if self._peak:
            # Made in this process, where it can be seen how many are made at once.
            self.limit = min(self._guess, 2 * self._peak)
            return 2 * len(self._running) > self.limit
        if perf_counter() - self._began > _LONGEST_LEARNING:
            self.limit = self._guess  # where they are made nothing can be seen
            return False
        return bool(self._unreported)

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

    def close(self, wait: bool) -> None:
        for number in tuple(self._numbers.values()):
            _handed_out.pop(number, None)  # what begins only now is not wanted any more

    def halt(self, attempts: Iterable[LiveAttempt]) -> list[LiveAttempt]:
        cancelled = [attempt for attempt in attempts if self._cancel(attempt)]
        return [] if self._cancels_what_began else cancelled

    def give_up(self, attempt: LiveAttempt) -> None:
        self._cancel(attempt)

    def _cancel(self, attempt: LiveAttempt) -> bool:
        if attempt in self._running:
            return False  # whatever its future says
        try:
            future = self._futures[attempt]
        except KeyError:
            return False  # it has ended, and its report is on its way
        try:
            return future is None or future.cancel()
        except NotImplementedError:  # not every executor can
            return False


class ThreadPool(Pool):
    """Somebody else's threads in this process, to whom nothing is sent."""

    is_here = True

    def _prepare(self) -> None: ...

    def _submit(self, attempt: LiveAttempt) -> Future[Any]:
        return self._executor.submit(_perform, None, b"", b"", self._hand_out(attempt))


def _failed(error: Exception) -> Future[Any]:
    future: Future[Any] = Future()
    future.set_exception(error)
    return future


def _perform(
    call: Any, body: bytes, context: bytes, number: tuple[int, int, bytes]
) -> bytes | None:
    """Make a call, wherever this is, and give its packed answer.

    One that is made where it comes from reports itself, and gives nothing.
    """
    key, process, mark = number
    if mark == _mark and process == os.getpid():
        handed = _handed_out.pop(key, None)
        if handed is not None:  # else it was made already, or given up
            place, attempt = handed
            place.make(attempt)
        return None
    from stepfunction.core.envelope.answers import perform, prepare_call
    from stepfunction.core.envelope.envelope import pack, unpack

    def prepare() -> Callable[[], Any]:
        prepared = prepare_call(call, body, unpack(context))
        # What it sets is gone for the next call of that worker.
        return partial(copy_context().run, prepared)

    return perform(prepare, pack)


def _is_lazy(future: Future[Any]) -> bool:
    """Tell a future that may make its call only when it is asked for the result."""
    return type(future).result is not Future.result and not future.done()


def _poke(future: Future[Any]) -> None:
    """Ask for a result, without waiting for it where that is possible."""
    with suppress(Exception):  # of which the attempt itself will tell
        try:
            future.result(timeout=0)
        except TypeError:
            future.result()


def _result(future: Future[Any], began: float) -> Ending:
    """Give the end of an attempt that a future stands for."""
    ended = perf_counter()
    if future.cancelled():
        return Outcome.CANCELLED, CancelledError(), ended, ended
    error = future.exception()
    if error is None:
        return Outcome.SUCCEEDED, future.result(), began, ended
    began = began or ended  # it was stopped before there was a worker for it
    if not isinstance(error, BrokenExecutor):
        return Outcome.FAILED, error, began, ended
    from stepfunction.core.errors import WorkerKilledError  # which is dear

    is_killed = isinstance(error, WorkerKilledError)
    return Outcome.KILLED if is_killed else Outcome.CRASHED, error, began, ended
