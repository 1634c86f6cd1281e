"""Attempts: one call each of a task, while it is under way.

An attempt is made wherever its place has it made. By its letters it reports to the
loop, which alone decides what follows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextvars import Context as Variables
from functools import partial
from queue import SimpleQueue
from typing import Any, NamedTuple, TypeAlias

from stepfunction.core.cancellation import Cancellation
from stepfunction.core.clock import perf_counter
from stepfunction.core.errors import (
    HeartbeatTimeoutError,
    StepTimeoutError,
)
from stepfunction.core.lapse import AtLimit
from stepfunction.core.outcomes import SUCCEEDED, Outcome
from stepfunction.core.surroundings import Taken, within
from stepfunction.core.tracebacks import forget_locals, without_our_frames
from stepfunction.core.workers.tasks import Task

__tracebackhide__ = True  # pytest shows the test and what is called, not us

# Where an attempt is: with its place, in a worker that prepares for it, or being made.
WAITING, PREPARING, RUNNING = "waiting", "preparing", "running"
# How long a worker may prepare, which does not count for the limits of an attempt.
_LONGEST_PREPARATION = 60.0


class LiveAttempt:
    """One attempt while it is under way, and the line by which its place reports.

    Attributes:
        task: What is attempted.
        number: Counted from 1.
        cancellation: What tells it to stop: its own if it is timed.
        of_step: What tells all attempts of the step to stop.
        variables: The context variables that it runs with; None for its thread's own.
        taken: What surrounds it in a thread that is not its caller's; None for nothing.
        state: ``WAITING``, ``PREPARING`` or ``RUNNING``.
        began: When that state began, as ``perf_counter``; 0.0 while it waits.
        heard: When it last gave a sign of life.
        overdue: The error of the limit that has passed; None while none has.
        noted: The number that it noted last, which can be read when its process is
            dead: 0 for none; None where it cannot be known.
        parts: How many parts of what comes of it have been reported.
        parts_in_time: How many had been when its limit passed.
        has_reported: Whether its end has been reported.
        is_left_behind: Whether nobody is to hear of its end any more.
    """

    __slots__ = (
        "task",
        "number",
        "cancellation",
        "of_step",
        "variables",
        "taken",
        "state",
        "began",
        "heard",
        "overdue",
        "noted",
        "parts",
        "parts_in_time",
        "has_reported",
        "is_left_behind",
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
        self.taken: Taken | None = None
        self.state = WAITING
        self.began = self.heard = 0.0
        self.overdue: StepTimeoutError | None = None
        self.noted: int | None = None
        self.parts = self.parts_in_time = 0
        self.has_reported = self.is_left_behind = False
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
        if type(part) is AtLimit:  # which is no sign of life
            self._inbox.put(Part(self, part))
            return
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
        if not self.is_left_behind:  # else the report would be kept, with its error
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
        guard: Makes the calls that are made in the caller's thread; None for nobody.
    """

    name: str
    calls: Sequence[tuple[str, Callable[[Any, Any], Any]]]
    value: Any
    make_context: Callable[[LiveAttempt], Any]
    guard: Callable[..., Any] | None = None


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
        call: Any = task.call
        if attempt.taken is not None or work.guard is not None:
            call = _surrounded(attempt, work)
        if attempt.variables is None:
            output = call(value, context)
        else:
            output = attempt.variables.run(call, value, context)
    except catch as raised:
        error = without_our_frames(raised)
    else:
        return Report(attempt, SUCCEEDED, output, began, perf_counter())
    try:  # out here, where what it hides is not being handled
        if task.may_forget(error):
            forget_locals(error)
        return Report(attempt, Outcome.FAILED, error, began, perf_counter())
    finally:
        del error  # which has this frame


def _surrounded(attempt: LiveAttempt, work: Work) -> Callable[[Any, Any], Any]:
    """Give the call of an attempt within what surrounds it in this thread."""
    taken, task = attempt.taken, attempt.task
    if taken is not None and not taken.is_here:
        return partial(within, taken, task.call)
    if work.guard is not None and not task.guards_itself:
        return partial(work.guard, task.call)
    return task.call
