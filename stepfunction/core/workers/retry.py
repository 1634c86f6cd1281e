"""RetryPolicy: how often, and how soon, a failed call is made again.

tenacity decides; waiting is left to the caller, who can be woken. This is the only
file that imports tenacity, and it does so when something has failed.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from math import isfinite
from typing import TYPE_CHECKING, Any, Literal, NoReturn

from stepfunction.core.clock import perf_counter
from stepfunction.core.durations import in_seconds
from stepfunction.core.errors import (
    DefinitionError,
    ExecutionCancelledError,
    NoBranchMatchedError,
    Problem,
    TransferError,
    UnstorableValueError,
    WorkerStartError,
    causes,
)
from stepfunction.core.frozen import Frozen
from stepfunction.core.logger import logger
from stepfunction.core.misspelling import did_you_mean_arguments
from stepfunction.core.raised import is_a, short_repr

if TYPE_CHECKING:
    from datetime import timedelta

    import tenacity

_LONGEST_PAUSE = 365 * 24 * 3600.0
_NEVER_RETRIED = (
    DefinitionError,
    ExecutionCancelledError,
    NoBranchMatchedError,
    TransferError,
    UnstorableValueError,
    WorkerStartError,
)


class RetryPolicy(Frozen):
    """How a failed call is tried again, as AWS Step Functions' Retry field.

    The pause before attempt ``n + 1`` is ``interval * backoff_rate ** (n - 1)``
    seconds, at most ``max_delay``, and a year. With full jitter it is a random share
    of that.

    Attributes:
        max_attempts: How many calls are made at most, the first included (AWS's
            MaxAttempts counts only the calls after the first).
        interval: Seconds, or a ``timedelta``, before the second attempt.
        backoff_rate: What each further pause is multiplied with, 1 or more.
        max_delay: The longest pause, as ``interval``; None for a year.
        jitter: ``"full"`` draws each pause from zero to its full length, so that
            many callers do not come back at once; None takes the full length.
        retry_on: The exception class, or several in a list or tuple, worth another
            attempt; or a callable of the exception that says whether it is, which is
            not asked about what ends a program.

    Raises:
        DefinitionError: If a value is out of its range.

    >>> RetryPolicy(max_attempts=5, interval=0.5, max_delay=10)
    RetryPolicy(max_attempts=5, interval=0.5, backoff_rate=2, max_delay=10, \
jitter='full', retry_on=<class 'Exception'>)
    """

    __slots__ = ()

    max_attempts: int = 3
    interval: float = 1
    backoff_rate: float = 2
    max_delay: float | None = None
    jitter: Literal["full"] | None = "full"
    retry_on: (
        type[BaseException]
        | tuple[type[BaseException], ...]
        | Callable[[Exception], object]
    ) = Exception

    @did_you_mean_arguments(
        attempts="max_attempts",
        backoff="backoff_rate",
        delay="interval",
        exceptions="retry_on",
        max_interval="max_delay",
        max_retries="max_attempts",
        on="retry_on",
        retries="max_attempts",
        tries="max_attempts",
        wait="interval",
    )
    def __init__(
        self,
        max_attempts: int = 3,
        interval: float | timedelta = 1,
        backoff_rate: float = 2,
        max_delay: float | timedelta | None = None,
        jitter: Literal["full"] | None = "full",
        retry_on: (
            type[BaseException]
            | Sequence[type[BaseException]]
            | Callable[[Exception], object]
        ) = Exception,
    ) -> None:
        super().__init__(
            max_attempts,
            in_seconds(interval),
            backoff_rate,
            in_seconds(max_delay),
            jitter,
            tuple(retry_on) if isinstance(retry_on, list) else retry_on,
        )
        problems = tuple(self._problems())
        if problems:
            raise DefinitionError("RetryPolicy", problems)

    def _problems(self) -> Iterator[Problem]:
        if not _is_number(self.max_attempts, int) or self.max_attempts < 1:
            hint = "; it counts all calls, so give a whole number from 1"
            yield self._problem("max_attempts", hint)
        if not _is_number(self.interval) or self.interval < 0:
            yield self._problem("interval", "; give seconds from 0")
        if not _is_number(self.backoff_rate) or self.backoff_rate < 1:
            yield self._problem("backoff_rate", "; give 1 or more")
        longest = self.max_delay
        if longest is not None and (not _is_number(longest) or longest < 0):
            yield self._problem("max_delay", "; give seconds, or None")
        jitter: Any = self.jitter
        if jitter is not None and not (isinstance(jitter, str) and jitter == "full"):
            yield self._problem("jitter", "; give 'full' or None")
        if not isinstance(self.retry_on, type) and callable(self.retry_on):
            return
        errors = self.retry_on if isinstance(self.retry_on, tuple) else [self.retry_on]
        if not errors or not all(map(_is_exception_class, errors)):
            hint = "; give an exception class or a tuple of them"
            yield self._problem("retry_on", hint)

    def _problem(self, argument: str, hint: str) -> Problem:
        text = f"{argument} is {short_repr(getattr(self, argument))}"
        return Problem(argument, text, hint)

    def _retrying(self) -> tenacity.Retrying:
        import tenacity

        wait_class = (
            tenacity.wait_random_exponential
            if self.jitter == "full"
            else tenacity.wait_exponential
        )
        longest = _LONGEST_PAUSE if self.max_delay is None else self.max_delay
        wait: Any = tenacity.wait_none()
        if self.interval > 0:  # else the power would become more than a float holds
            wait = wait_class(
                multiplier=self.interval, exp_base=self.backoff_rate, max=longest
            )
        return tenacity.Retrying(
            stop=tenacity.stop_after_attempt(self.max_attempts),
            wait=wait,
            retry=tenacity.retry_if_exception(self._is_worth_another),
        )

    def _is_worth_another(self, error: BaseException) -> bool:
        if is_a(error, _Unaskable):
            (error,) = error.args
        chain, retry_on = tuple(causes(error)), self.retry_on
        if any(is_a(cause, _NEVER_RETRIED) for cause in chain):
            return False
        if isinstance(retry_on, type | tuple):
            return any(is_a(cause, retry_on) for cause in chain)
        first = chain[-1]  # behind our own wrappers
        return is_a(first, Exception) and bool(retry_on(first))


def _is_number(value: object, kinds: Any = (int, float)) -> bool:
    if not isinstance(value, kinds) or isinstance(value, bool):
        return False
    try:
        return isfinite(value)
    except OverflowError:  # a whole number beyond what a float holds
        return kinds is int


def _is_exception_class(value: object) -> bool:
    return isinstance(value, type) and issubclass(value, BaseException)


def is_retry(value: object) -> bool:
    """Tell whether a value can be a step's ``retry``."""
    # Whoever has a Retrying has imported it; another thread may just be doing so.
    retrying: Any = getattr(sys.modules.get("tenacity"), "Retrying", ())
    return isinstance(value, RetryPolicy) or isinstance(value, retrying)


def judges_results(retry: object) -> bool:
    """Tell whether successes are handed in too: a ``Retrying`` may retry on those."""
    return not isinstance(retry, RetryPolicy | None)


class Retries:
    """The retries of one call: told how each attempt ended, says what comes next."""

    __slots__ = ("_retrying", "_state")

    def __init__(
        self, retry: RetryPolicy | tenacity.Retrying, name: str, seconds: float
    ) -> None:
        """Begin with a first attempt that was made already, so many seconds ago."""
        import tenacity

        # A fresh one for each call: a Retrying keeps the state of its last call.
        if isinstance(retry, RetryPolicy):
            self._retrying = retry._retrying()
        else:
            judge = _judging(retry.retry, name)
            self._retrying = retry.copy(reraise=False, retry=judge)
        self._retrying.begin()
        self._state = tenacity.RetryCallState(self._retrying, _named(name), (), {})
        # By our clock, which nobody stops: a Retrying may have a limit of seconds.
        self._state.start_time = perf_counter() - seconds

    def skip(self, seconds: float) -> None:
        """Take a pause for made which is not."""
        self._state.start_time -= seconds

    def after(
        self, value: Any, error: BaseException | None
    ) -> tuple[float | None, Any]:
        """Say what follows an attempt.

        Args:
            value: What the attempt returned.
            error: What it raised; None if it returned.

        Returns:
            The pause in seconds before the next attempt and None; or None and the
            final value.

        Raises:
            BaseException: The final error, where there is to be no other attempt.
        """
        import tenacity

        state = self._state
        if error is None:
            state.set_result(value)
        else:
            state.outcome = _failed(state.attempt_number, error)
        state.outcome_timestamp = perf_counter()
        outcome, is_over = state.outcome, False
        try:
            decision = self._retrying.iter(state)
        except Exception as raised:
            is_over = _told_by(raised) is outcome
            if error is None or not (is_over or is_a(raised, _Unaskable)):
                raise
            is_over = True
            # Lest it be in a cycle with all that has called.
            BaseException.with_traceback(raised, None)
        if error is not None and is_over:
            raise error
        if not isinstance(decision, tenacity.DoSleep):
            return None, decision
        state.prepare_for_next_attempt()
        self._retrying.iter(state)
        return float(decision), None


class _Unaskable(Exception):
    """Stands for an error that does not let itself be asked what it is."""


def _failed(number: int, error: BaseException) -> tenacity.Future:
    """Give the failure of an attempt, as it is to be judged."""
    from tenacity import TryAgain

    try:
        isinstance(error, TryAgain)  # as will be asked
    except Exception:
        error = _Unaskable(error)
    failed = _failed_class()(number)
    failed.set_exception(error)
    return failed


@cache
def _failed_class() -> type[tenacity.Future]:
    import tenacity

    class Failed(tenacity.Future):
        """A failure, which is raised also where the error is false."""

        def result(self, timeout: float | None = None) -> NoReturn:
            error = self.exception()
            assert error is not None
            raise error

    return Failed


def _told_by(error: Exception) -> Any:
    """Give the attempt that a ``RetryError``, of any class, tells of; else None."""
    try:
        return getattr(error, "last_attempt", None)
    except Exception:  # it is a callback's, whose class has a way of its own
        return None


def _judging(judge: Callable[[Any], Any], name: str) -> Callable[[Any], Any]:
    """Let a success stand where who judges it fails; of a failure that is the end."""

    def is_worth_another(state: Any) -> Any:
        try:
            return judge(state)
        except Exception:
            if state.outcome.failed:
                raise
            text = "%s: its result stands, for the retry that was to judge it failed"
            logger().exception(text, name)
            return False

    return is_worth_another


def _named(name: str) -> Any:
    """Give tenacity's own log lines something readable to call the call by."""

    def call() -> None: ...

    call.__qualname__ = call.__name__ = name
    return call
