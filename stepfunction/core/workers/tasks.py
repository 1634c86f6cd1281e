"""Tasks: calls on their way to their ends, and what became of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from stepfunction.core.clock import perf_counter
from stepfunction.core.errors import ExecutionCancelledError, StepTimeoutError
from stepfunction.core.outcomes import SUCCEEDED, Ended, Outcome
from stepfunction.core.probes import skipping
from stepfunction.core.raised import is_a, traceback_of
from stepfunction.core.tracebacks import forget_locals
from stepfunction.core.workers.executors import is_cancelled_error
from stepfunction.core.workers.retry import Retries, RetryPolicy, judges_results

if TYPE_CHECKING:
    import tenacity

    from stepfunction.core.workers.attempts import Report


class Told(Protocol):
    """Who is told of tasks, on the thread that runs their loop.

    Attributes:
        hears_all: Whether to tell of more than what fails.
    """

    hears_all: bool

    @property
    def is_at_home(self) -> bool:
        """Whether this is the thread to tell it on."""

    def started(self, task: Task, began: float) -> None:
        """Hear that the first attempt of a task has begun."""

    def retried(self, task: Task, pause: float) -> None:
        """Hear that a failed attempt is followed by another."""

    def ended(self, task: Task) -> None:
        """Hear that there will be no other attempt."""

    def pass_on(self, event: Any) -> None:
        """Hear what was told inside an attempt."""


class Kept(Protocol):
    """What keeps how tasks ended where it outlives the process.

    It is told on the thread that runs their loop.
    """

    def retried(self, task: Task, pause: float) -> None:
        """Keep that a failed attempt is followed by another, after so many seconds."""

    def ended(self, task: Task) -> None:
        """Take down that there will be no other attempt, to be kept soon."""

    @property
    def is_due(self) -> bool:
        """Whether what was taken down is to be kept now, whatever comes next."""

    def flush(self) -> None:
        """Keep what was taken down."""


class Task:
    """A call on its way to its end, and what became of it.

    Attributes:
        key: What it is known by among the tasks of its step; None for the step itself.
        name: What it is called in messages.
        call: What to call, with an input and a context or None.
        wants_context: Whether the call is to be given a context.
        retry: How failed attempts are made again; None for not at all.
        timeout: How many seconds an attempt may take; None for no limit.
        heartbeat: How many seconds may pass without a sign of life; None for no limit.
        told: Who is told of it; None where nobody listens.
        given: Its own input; None for that of all.
        attempts: How each attempt ended.
        began: When the first began, as ``perf_counter``; None before.
        outcome: How it ended, or its latest attempt; None until then.
        output: What it returned.
        error: What it failed with.
        has_ended: Whether there will be no other attempt.
    """

    __slots__ = (
        "key",
        "name",
        "call",
        "wants_context",
        "retry",
        "timeout",
        "heartbeat",
        "told",
        "given",
        "attempts",
        "began",
        "outcome",
        "output",
        "error",
        "has_ended",
        "_retries",
        "_has_told_start",
        "_left",
    )

    def __init__(
        self,
        key: str | int | None,
        name: str,
        call: Callable[[Any, Any], Any],
        wants_context: bool,
        retry: RetryPolicy | tenacity.Retrying | None = None,
        timeout: float | None = None,
        heartbeat: float | None = None,
        told: Told | None = None,
    ) -> None:
        self.key = key
        self.name = name
        self.call = call
        self.wants_context = wants_context
        self.retry = retry
        self.timeout = timeout
        self.heartbeat = heartbeat
        self.told = told
        self.given: tuple[Any] | None = None
        self.attempts: list[Ended] = []
        self.began: float | None = None
        self.outcome: Outcome | None = None
        self.output: Any = None
        self.error: BaseException | None = None
        self.has_ended = False
        self._retries: Retries | None = None
        self._has_told_start = False
        self._left: float | None = None

    def recall(self, attempts: Sequence[Ended], output: Any, left: float) -> None:
        """Take over attempts that were made in another process, and go on from there.

        Args:
            attempts: How each ended. Another is to follow.
            output: What the last returned.
            left: How many seconds are left of the pause before the next.
        """
        self.attempts += attempts
        self.outcome, _, _, self.error = attempts[-1]
        self.began = attempts[0][1]
        self.output, self._left = output, left

    @property
    def is_recalled(self) -> bool:
        """Whether its last attempt was made in another process."""
        return self._left is not None

    @property
    def guards_itself(self) -> bool:
        """Whether its call is of others, each of which is guarded."""
        return getattr(self.call, "guards_itself", False)

    @property
    def is_timed(self) -> bool:
        """Whether it matters when an attempt began, or was last heard of."""
        return self.timeout is not None or self.heartbeat is not None

    @property
    def says_start(self) -> bool:
        """Whether an attempt is to say when it begins."""
        return self.is_timed or (self.told is not None and self.told.hears_all)

    def tell_start(self, began: float) -> None:
        """Tell, once, that the first attempt has begun."""
        if self.told is not None and not self._has_told_start:
            self._has_told_start = True
            self.told.started(self, began)

    def tell_retried(self, pause: float) -> None:
        """Tell that another attempt follows, after so many seconds."""
        if self.told is not None:
            self.tell_start(self.attempts[0][1])
            self.told.retried(self, pause)

    def tell_end(self) -> None:
        """Tell that there will be no other attempt."""
        if self.told is not None:
            if self.attempts:  # word of its beginning may not have been read
                self.tell_start(self.attempts[0][1])
            self.told.ended(self)

    def may_forget(self, error: BaseException) -> bool:
        """Tell whether an attempt's error need not keep its frames till it is told."""
        return False

    def forget_locals(self) -> None:
        """Let no failure keep its frames that is past, when its end has been told."""
        if self.error is None and self.attempts:
            *_, last = self.attempts[-1]
            if last is not None:  # of which a value was made
                forget_locals(last)

    def opened(self, payload: Any) -> Any:
        """Give the output, by what the call returned, or fail."""
        return payload

    def settle(self, report: Report, is_stopping: bool = False) -> None:
        """Take note of how an attempt ended, as the task's own end until retried."""
        _, outcome, payload, began, ended = report
        error: BaseException | None = None
        output: Any = None
        if outcome is SUCCEEDED:
            try:
                output = self.opened(payload)
            except StepTimeoutError as overdue:
                outcome, error = Outcome.TIMED_OUT, overdue
            except Exception as failure:
                outcome, error = Outcome.FAILED, failure
        else:
            error = payload
        if is_stopping:
            outcome, error = as_stopped(outcome, error)
        self.attempts.append((outcome, began, ended, error))
        self.outcome, self.output, self.error = outcome, output, error

    def pause_before_next(self) -> float | None:
        """Give the seconds until the next attempt; None if the last was the end of it.

        It is asked of a task with ``retry`` alone.

        Raises:
            BaseException: What interrupts this very thread.
        """
        retry, error = self.retry, self.error
        assert retry is not None
        if error is None and not judges_results(retry):
            return None
        traceback = None if error is None else traceback_of(error)
        try:  # for a Retrying has callbacks, of which each may raise
            if self._retries is None:
                self._retries = self._retries_so_far(retry)
            seconds, self.output = self._retries.after(self.output, error)
        except BaseException as final:
            if final is error:
                # Without the way it went here.
                BaseException.with_traceback(final, traceback)
            elif not is_a(final, Exception):
                raise
            self.error = final
            if error is None:
                self.outcome = Outcome.FAILED
            return None
        if seconds is None:
            self.outcome, self.error = SUCCEEDED, None
        elif self._left is not None:
            seconds, self._left = self._left, None
        if seconds is not None and skipping.get() is not None:
            self._retries.skip(seconds)
        return seconds

    def _retries_so_far(self, retry: RetryPolicy | tenacity.Retrying) -> Retries:
        retries = Retries(retry, self.name, perf_counter() - self.attempts[0][1])
        if self._left is not None:
            for *_, earlier in self.attempts[:-1]:
                retries.after(None, earlier)
        return retries

    # What a task is asked that stands for several calls.

    def take(self, part: Any) -> None:
        """Take note of a part of what comes of it."""

    def halt(self) -> None:
        """Stop what a place cannot stop."""

    def heirs(self) -> Sequence[Task] | None:
        """Give the tasks that take its place when it has ended; None for itself."""
        return None


def as_stopped(
    outcome: Outcome, error: BaseException | None
) -> tuple[Outcome, BaseException | None]:
    """Give how an attempt ended, as it counts of one that had been told to stop."""
    gave_up = is_a(error, ExecutionCancelledError) or is_cancelled_error(error)
    if gave_up and outcome is Outcome.FAILED:
        outcome = Outcome.CANCELLED  # when it was told
    if gave_up or outcome in (Outcome.KILLED, Outcome.CANCELLED):
        return outcome, None  # it did not fail: it was stopped
    return outcome, error
