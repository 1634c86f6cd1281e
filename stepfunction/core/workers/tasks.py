"""Tasks: calls on their way to their ends, and the attempts at them.

An attempt is made wherever its place has it made. By its letters it reports to the
loop, which alone decides what follows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextvars import Context as Variables
from queue import SimpleQueue
from time import perf_counter
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeAlias

from stepfunction.core.cancellation import Cancellation
from stepfunction.core.errors import (
    ExecutionCancelledError,
    HeartbeatTimeoutError,
    StepTimeoutError,
    without_our_frames,
)
from stepfunction.core.outcomes import SUCCEEDED, Ended, Outcome
from stepfunction.core.raised import is_a, traceback_of
from stepfunction.core.workers.executors import is_cancelled_error
from stepfunction.core.workers.retry import Retries, RetryPolicy, judges_results

if TYPE_CHECKING:
    import tenacity

# Where an attempt is: with its place, in a worker that prepares for it, or being made.
WAITING, PREPARING, RUNNING = "waiting", "preparing", "running"
# How long a worker may prepare, which does not count for the limits of an attempt.
_LONGEST_PREPARATION = 60.0


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
                since = perf_counter() - self.attempts[0][1]
                self._retries = Retries(retry, self.name, since)
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
        return seconds

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


class LiveAttempt:
    """One attempt while it is under way, and the line by which its place reports.

    Attributes:
        task: What is attempted.
        number: Counted from 1.
        cancellation: What tells it to stop: its own if it is timed.
        of_step: What tells all attempts of the step to stop.
        variables: The context variables that it runs with; None for its thread's own.
        state: ``WAITING``, ``PREPARING`` or ``RUNNING``.
        began: When that state began, as ``perf_counter``; 0.0 while it waits.
        heard: When it last gave a sign of life.
        overdue: The error of the limit that has passed; None while none has.
        noted: The number that it noted last, which can be read when its process is
            dead: 0 for none; None where it cannot be known.
        parts: How many parts of what comes of it have been reported.
        parts_in_time: How many had been when its limit passed.
        has_reported: Whether its end has been reported.
    """

    __slots__ = (
        "task",
        "number",
        "cancellation",
        "of_step",
        "variables",
        "state",
        "began",
        "heard",
        "overdue",
        "noted",
        "parts",
        "parts_in_time",
        "has_reported",
        "_inbox",
    )

    def __init__(
        self,
        task: Task,
        cancellation: Cancellation,
        inbox: SimpleQueue[Letter] | None = None,
    ) -> None:
        self.task = task
        self.number = len(task.attempts) + 1
        # What may be given up alone must be told alone.
        own = Cancellation(cancellation) if task.is_timed else None
        self.cancellation = cancellation if own is None else own
        self.of_step = cancellation
        self.variables: Variables | None = None
        self.state = WAITING
        self.began = self.heard = 0.0
        self.overdue: StepTimeoutError | None = None
        self.noted: int | None = None
        self.parts = self.parts_in_time = 0
        self.has_reported = False
        self._inbox = inbox

    def prepare(self) -> None:
        """Say that a process prepares for it. Any thread may."""
        self.began = self.heard = perf_counter()
        self.state = PREPARING
        if self.task.began is None:
            self.task.began = self.began
        if self._inbox is not None and self.task.is_timed:
            self._inbox.put(self)

    def start(self) -> None:
        """Say that it begins now. Any thread may."""
        # The state comes last, for who reads it before has the longer limit.
        self.began = self.heard = perf_counter()
        self.state = RUNNING
        if self.task.began is None:
            self.task.began = self.began
        if self._inbox is not None and self.task.says_start:
            if self.task.told is not None and self.task.told.is_at_home:
                self.task.tell_start(self.began)  # before what is nested in it
            self._inbox.put(self)

    def live(self) -> None:
        """Say that it is alive. Any thread may."""
        self.heard = perf_counter()

    def pass_on(self, event: Any) -> None:
        """Pass on what is told inside it. Any thread may."""
        told = self.task.told
        if told is None:
            return
        if self._inbox is None or told.is_at_home:
            told.pass_on(event)
        else:
            self._inbox.put(Passed(self, event))

    def report(self, part: Any) -> None:
        """Report a part of what comes of it before the rest. Any thread may."""
        assert self._inbox is not None
        self.began = self.heard = perf_counter()  # a limit is for what is left
        self.parts += 1
        self._inbox.put(Part(self, part))

    def note(self, number: int | None) -> None:
        """Take note of what it noted last. Any thread may."""
        self.noted = number

    def noting(self) -> None:
        """Give nothing: in this process all that is done is known."""
        return None

    def skip(self) -> None:
        """Report that it never began, for it was cancelled before."""
        self.end(Report(self, Outcome.SKIPPED, None, 0.0, 0.0))

    def end(self, report: Report) -> None:
        """Report how it ended. Any thread may."""
        assert self._inbox is not None
        self.has_reported = True
        self._inbox.put(report)

    def limits(self) -> Iterator[tuple[float, type[StepTimeoutError], str, float]]:
        """Give when each limit passes, and the error that says so: class and facts."""
        task, grace = self.task, 0.0
        if self.state is PREPARING:  # within reason, for an import may hang
            grace = _LONGEST_PREPARATION
        if (timeout := task.timeout) is not None:
            text = f"took longer than {timeout:g} s"
            yield self.began + grace + timeout, StepTimeoutError, text, timeout
        if (silence := task.heartbeat) is not None:
            text = f"gave no heartbeat for {silence:g} s"
            yield self.heard + grace + silence, HeartbeatTimeoutError, text, silence

    def is_over(self, now: float) -> bool:
        """Tell whether a limit has passed, and remember the first that has."""
        self.parts_in_time = self.parts
        for limit, error, text, seconds in self.limits():
            if limit <= now:
                text = f"{self.task.name}: attempt {self.number} {text}"
                self.overdue = error(text, seconds)
                return True
        return False

    def judge(self, report: Report) -> Report:
        """Give the report of it as it counts, where it was stopped for its limit."""
        if self.overdue is None or report.outcome is not Outcome.KILLED:
            return report
        if self.parts > self.parts_in_time:
            # What took too long has ended after all; what came next is not to blame,
            # and is left to the heirs.
            return report._replace(outcome=SUCCEEDED, payload=None)
        return report._replace(
            outcome=Outcome.TIMED_OUT, payload=self.overdue, began=self.began
        )


class Report(NamedTuple):
    """How an attempt ended: the payload is what it returned, or what it raised."""

    attempt: LiveAttempt
    outcome: Outcome
    payload: Any
    began: float
    ended: float


class Passed(NamedTuple):
    """What is told inside an attempt."""

    attempt: LiveAttempt
    event: Any


class Part(NamedTuple):
    """A part of what comes of an attempt."""

    attempt: LiveAttempt
    part: Any


# What comes for the loop: an end, a beginning, an event, a part, or word to stop.
Letter: TypeAlias = "Report | LiveAttempt | Passed | Part | None"


class Work(NamedTuple):
    """What the attempts at all tasks of a step have in common.

    Attributes:
        name: The name of the step.
        calls: What they call, each after what messages call it; where these go to
            other processes, they are packed before anything starts.
        value: The input of tasks that have none of their own.
        make_context: Gives the context of an attempt, which its call may be given.
    """

    name: str
    calls: Sequence[tuple[str, Callable[[Any, Any], Any]]]
    value: Any
    make_context: Callable[[LiveAttempt], Any]


def make_attempt(
    attempt: LiveAttempt, work: Work, catch: type[BaseException] = BaseException
) -> Report:
    """Make an attempt in this thread.

    Args:
        attempt: What to attempt.
        work: What it has in common with others.
        catch: What counts as its failure; anything else is raised.
    """
    task = attempt.task
    value = work.value if task.given is None else task.given[0]
    attempt.start()
    began = attempt.began
    try:
        context = work.make_context(attempt) if task.wants_context else None
        if attempt.variables is None:
            output = task.call(value, context)
        else:
            output = attempt.variables.run(task.call, value, context)
    except catch as error:
        without_our_frames(error)
        return Report(attempt, Outcome.FAILED, error, began, perf_counter())
    return Report(attempt, SUCCEEDED, output, began, perf_counter())
