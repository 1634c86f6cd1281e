"""Pools: the places that are somebody else's executor.

What they are given goes to wherever they make calls. That may be this very process,
which nobody can tell of an executor: it is found out by each call.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from concurrent.futures import Executor, Future
from contextlib import suppress
from functools import partial
from itertools import count
from threading import get_ident
from typing import Any

from stepfunction.core.clock import perf_counter
from stepfunction.core.errors import TransferError, WorkerStartError
from stepfunction.core.outcomes import Outcome
from stepfunction.core.surroundings import Taken
from stepfunction.core.variables import own_variables
from stepfunction.core.wording import error_text
from stepfunction.core.workers.attempts import LiveAttempt, Report, Work, make_attempt
from stepfunction.core.workers.executors import (
    around,
    cancels_what_began,
    runs_in_processes,
    was_left_by_fork,
    workers_of,
)
from stepfunction.core.workers.futures import (
    Ending,
    Futures,
    Sender,
    ending_of,
    let_go_of,
)

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


class Pool(Futures):
    """Somebody else's executor, which we never shut down.

    Args:
        executor: The executor.
        work: What its tasks have in common.
        limit: How many attempts may be under way at once; None for any number.
        learns: Whether that is a guess, to be mended by what is seen.
        taken: What surrounds each attempt; None for nothing.
    """

    left_behind = Outcome.ABANDONED
    is_here = False
    hears_parts = False
    is_inline = False  # as far as is known

    def __init__(
        self,
        executor: Executor,
        work: Work,
        limit: int | None,
        learns: bool = False,
        taken: Taken | None = None,
    ) -> None:
        if was_left_by_fork(executor):
            raise WorkerStartError(
                f"the {type(executor).__name__} of step {work.name!r} had started its "
                "workers before this process was forked, and they stayed with the "
                "parent; make it after "
                "the fork (gunicorn: in the post_fork hook, or without --preload)"
            )
        super().__init__(limit)
        self._limit = None if learns else limit
        self._guess = limit if learns else None
        if self._guess is not None:
            self.limit = min(_FIRST_ATTEMPTS, self._guess)
        self._began = 0.0
        self._running: set[LiveAttempt] = set()  # in this process, and most at once
        self._peak = 0
        self._executor = executor
        self._work = work
        self._taken = taken
        self._interrupt: BaseException | None = None
        self._numbers: dict[LiveAttempt, int] = {}
        self._cancels_what_began = cancels_what_began(executor)
        self._prepare()

    def _prepare(self) -> None:
        from stepfunction.core.envelope.envelope import pack
        from stepfunction.core.envelope.refusals import pack_taken

        # Others have ways of their own to send a function, as by its code.
        packs_calls = runs_in_processes(self._executor)
        self._sender = Sender(self._work, pack, packs_calls)
        self._around = pack_taken(self._taken, f"step {self._work.name!r}")

    @property
    def workers(self) -> int | None:
        known, limit = workers_of(self._executor), self._limit
        return min(known, limit) if known and limit else known or limit

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
        from stepfunction.core.envelope.refusals import pack_call

        attempt.start()  # as near as can be known from here
        context = pack(self._work.make_context(attempt))
        call, body = self._sender.parts(attempt.task)
        if self._around and not isinstance(call, bytes):
            with suppress(TransferError):  # else it goes as others send it
                call = pack_call(attempt.task.name, call)
        number = self._hand_out(attempt)
        try:
            # Positional arguments alone, and a number that makes no two calls alike:
            # some executors swallow keywords, and some run equal calls once.
            around = self._around
            return self._executor.submit(_perform, call, body, context, around, number)
        except (TypeError, AttributeError, PickleError) as error:
            raise TransferError(
                f"the function of {attempt.task.name} cannot be sent to a worker: "
                f"{error_text(error.__cause__ or error)}"
            ) from error

    def _hand_out(self, attempt: LiveAttempt) -> tuple[int, int, bytes]:
        """Have an attempt known by what goes with it, if it is made in this process."""
        attempt.variables = own_variables()
        attempt.taken = self._taken
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
        if attempt.cancellation.is_overdue:  # nobody waits for it any more
            attempt.skip()
            return
        # What is no Exception interrupts the very thread that waits for all.
        is_callers = get_ident() == self._home
        if is_callers:
            self.is_inline = True
        self._running.add(attempt)
        self._peak = max(self._peak, len(self._running))
        try:
            catch = Exception if is_callers else BaseException
            report = make_attempt(attempt, self._work, catch)
        except BaseException as interrupt:
            self._interrupt = interrupt
            now = perf_counter()
            attempt.end(Report(attempt, Outcome.CANCELLED, None, attempt.began, now))
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
        outcome, payload, began, ended = ending_of(future, attempt.began)
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
        except Exception:  # not every executor can
            return False
        except BaseException:
            let_go_of(future)
            raise


class ThreadPool(Pool):
    """Somebody else's threads in this process, to whom nothing is sent."""

    is_here = True

    def _prepare(self) -> None: ...

    def _submit(self, attempt: LiveAttempt) -> Future[Any]:
        number = self._hand_out(attempt)
        return self._executor.submit(_perform, None, b"", b"", b"", number)


def _perform(
    call: Any,
    body: bytes,
    context: bytes,
    taken: bytes,
    number: tuple[int, int, bytes],
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
    from stepfunction.core.envelope.answers import perform, perform_within, prepare_call
    from stepfunction.core.envelope.envelope import pack, unpack

    def prepare() -> Callable[[], Any]:
        prepared = prepare_call(call, body, unpack(context))
        # What it sets is gone for the next call of that worker.
        return partial(own_variables().run, prepared)

    return perform_within(taken, prepare, pack) if taken else perform(prepare, pack)


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
