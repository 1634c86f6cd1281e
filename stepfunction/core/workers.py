"""Workers: how the tasks of a step all come to their ends.

This module knows calls and nothing of workflows. ``run_tasks`` is the loop: it
hands tasks to a place (``places`` has them), is told in its inbox how each attempt
ended, has failed ones tried again, and stops the rest when it is enough. Workers
compute; the loop, in the thread that called it, records.
"""

from __future__ import annotations

import heapq
import logging
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from contextvars import Context as Variables
from queue import Empty, SimpleQueue
from time import perf_counter
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from stepfunction.core.cancellation import Cancellation
from stepfunction.core.context import Context
from stepfunction.core.errors import (
    ExecutionCancelledError,
    error_text,
    users_traceback,
)
from stepfunction.core.execution import Execution, Outcome, Visit
from stepfunction.core.retry import Retries, RetryPolicy, judges_results

if TYPE_CHECKING:
    import tenacity

_logger = logging.getLogger("stepfunction")


class Task:
    """A call on its way to its end, and what became of it.

    Attributes:
        key: The name of the task; None for a step that runs elsewhere.
        name: What it is called in messages.
        call: What to call, with the step's input and a context or None.
        wants_context: Whether the call is to be given a context.
        retry: How failed attempts are tried again; None for not at all.
        open_result: Turns what the call returned into the output, or raises; None
            where that is the output.
        attempts: How each attempt ended, as a ``Visit`` notes it.
        outcome: How it ended; None until then.
        output: What it returned.
        error: What it failed with.
        child: The execution, if it was a nested workflow.
    """

    __slots__ = (
        "key",
        "name",
        "call",
        "wants_context",
        "retry",
        "retries",
        "open_result",
        "variables",
        "attempts",
        "outcome",
        "output",
        "error",
        "child",
    )

    def __init__(
        self,
        key: str | None,
        name: str,
        call: Callable[[Any, Context | None], Any],
        wants_context: bool,
        retry: RetryPolicy | tenacity.Retrying | None = None,
        open_result: Callable[[Task, Any], Any] | None = None,
    ) -> None:
        self.key = key
        self.name = name
        self.call = call
        self.wants_context = wants_context
        self.retry = retry
        self.retries: Retries | None = None
        self.open_result = open_result
        self.variables: Variables | None = None
        self.attempts: list[tuple[Outcome, float, float, BaseException | None]] = []
        self.outcome: Outcome | None = None
        self.output: Any = None
        self.error: BaseException | None = None
        self.child: Execution | None = None

    def settle(self, report: Report, is_stopping: bool = False) -> None:
        """Take note of how an attempt ended, as the task's own end until retried."""
        outcome, payload = report.outcome, report.payload
        error = None if outcome is Outcome.SUCCEEDED else payload
        if error is None and self.open_result is not None:
            try:
                payload = self.open_result(self, payload)
            except ExecutionCancelledError as cancelled:
                outcome, error = Outcome.CANCELLED, cancelled
            except Exception as failure:
                outcome, error = Outcome.FAILED, failure
        if is_stopping and outcome in (Outcome.KILLED, Outcome.CANCELLED):
            error = None  # it did not fail: it was stopped
        self.attempts.append((outcome, report.began, report.ended, error))
        self.outcome, self.error = outcome, error
        self.output = payload if outcome is Outcome.SUCCEEDED else None

    def visit(self, name: str, tasks: Iterable[Visit] = ()) -> Visit:
        """Give what the journal is to say of it."""
        assert self.outcome is not None
        return Visit(
            name,
            self.outcome,
            tuple(self.attempts),
            self.output,
            self.error,
            tuple(tasks),
            self.child,
        )


class Report(NamedTuple):
    """How an attempt ended: the payload is what it returned, or what it raised."""

    task: Task
    outcome: Outcome
    payload: Any
    began: float
    ended: float


Post = Callable[[Report], None]
MakeContext = Callable[[Task], Context]


class Place(Protocol):
    """Where attempts are made.

    Attributes:
        limit: How many attempts may be under way at once; None where the place
            itself sees to that.
        left_behind: The outcome of an attempt that is not waited for.
    """

    limit: int | None
    left_behind: Outcome

    def begin(self, task: Task, post: Post) -> None:
        """Make an attempt, here or elsewhere, and post its report once."""

    def halt(self, tasks: Iterable[Task]) -> list[Task]:
        """Stop what can be stopped; give the tasks that will send no report."""

    def close(self, wait: bool) -> None:
        """Let go of what was started for these tasks."""


def run_tasks(
    tasks: Sequence[Task],
    place: Place,
    cancellation: Cancellation,
    is_enough: Callable[[Task], bool] = lambda task: False,
) -> None:
    """Bring tasks to their ends; each then has an outcome.

    Args:
        tasks: What to run. One that has been attempted already begins with what
            follows from that.
        place: Where to run it.
        cancellation: Requested by others to stop these tasks, and by this function
            to tell the tasks that they should stop.
        is_enough: Asked after each failed task whether the others are to be stopped.

    Raises:
        BaseException: What interrupts this thread; the tasks are then left behind.
    """
    _Loop(tasks, place, cancellation, is_enough).run()


class _Loop:
    def __init__(
        self,
        tasks: Sequence[Task],
        place: Place,
        cancellation: Cancellation,
        is_enough: Callable[[Task], bool],
    ) -> None:
        self.waiting = deque(task for task in tasks if not task.attempts)
        self.under_way: set[Task] = set()
        self.pausing: list[tuple[float, int, Task]] = []  # a heap by time
        self.place = place
        self.cancellation = cancellation
        self.is_enough = is_enough
        self.inbox: SimpleQueue[Report | None] = SimpleQueue()
        self.is_stopping = False
        for task in tasks:
            if task.attempts:
                self.follow_up(task)

    def run(self) -> None:
        is_done = False
        try:
            with self.cancellation.calling(lambda: self.inbox.put(None)):
                while self.waiting or self.under_way or self.pausing:
                    self.begin_what_may()
                    self.take_report()
            is_done = True
        finally:
            if not is_done:
                self.stop()
                for task in self.under_way:
                    task.outcome = self.place.left_behind
            self.place.close(wait=is_done)

    def begin_what_may(self) -> None:
        limit = self.place.limit
        while self.waiting and (limit is None or len(self.under_way) < limit):
            task = self.waiting.popleft()
            self.under_way.add(task)
            began = perf_counter()
            try:
                self.place.begin(task, self.inbox.put)
            except Exception as error:  # an executor that is broken, or shut down
                ended = perf_counter()
                self.inbox.put(Report(task, Outcome.FAILED, error, began, ended))

    def take_report(self) -> None:
        seconds = self.pausing[0][0] - perf_counter() if self.pausing else None
        if seconds is not None and seconds <= 0:
            self.waiting.append(heapq.heappop(self.pausing)[2])
            return
        try:
            report = self.inbox.get(timeout=seconds)
        except Empty:
            return
        if report is None:
            self.stop()
        elif report.task in self.under_way:  # a cancelled future may report late
            self.under_way.remove(report.task)
            report.task.settle(report, self.is_stopping)
            if not self.is_stopping:
                self.follow_up(report.task)

    def follow_up(self, task: Task) -> None:
        """See to what an attempt's end asks for: another attempt, or stopping all."""
        retry, error = task.retry, task.error
        if retry is not None and (error is not None or judges_results(retry)):
            if task.retries is None:
                task.retries = Retries(retry, task.name)
            try:
                seconds, task.output = task.retries.after(task.output, error)
            except Exception as final:
                task.error = final
                if error is None:
                    task.outcome = Outcome.FAILED
            else:
                if seconds is not None:
                    self.pause(task, seconds)
                    return
                task.outcome, task.error = Outcome.SUCCEEDED, None
        if task.error is not None and self.is_enough(task):
            self.stop()

    def pause(self, task: Task, seconds: float) -> None:
        _logger.warning(
            "%s: attempt %d is followed by another in %.3g s: %s",
            task.name,
            len(task.attempts),
            seconds,
            "its result asks for it" if task.error is None else error_text(task.error),
        )
        due = perf_counter() + seconds
        heapq.heappush(self.pausing, (due, id(task), task))

    def stop(self) -> None:
        """Begin nothing more, stop what can be stopped, and tell the others."""
        if self.is_stopping:
            return
        self.is_stopping = True
        self.cancellation.request()
        never_report = self.place.halt(self.under_way)
        self.under_way.difference_update(never_report)
        # Who waits to be tried again keeps the end of the last attempt.
        for task in (*self.waiting, *never_report):
            if not task.attempts:
                task.outcome = Outcome.CANCELLED
        self.waiting.clear()
        self.pausing.clear()


def attempt(
    task: Task,
    value: Any,
    make_context: MakeContext,
    catch: type[BaseException] = BaseException,
) -> Report:
    """Make an attempt in this thread.

    Args:
        task: What to attempt.
        value: Its input.
        make_context: Gives its context.
        catch: What counts as its failure; anything else is raised.
    """
    began = perf_counter()
    try:
        context = make_context(task) if task.wants_context else None
        if task.variables is None:
            output = task.call(value, context)
        else:
            output = task.variables.run(task.call, value, context)
    except catch as error:
        error.__traceback__ = users_traceback(error)
        return Report(task, Outcome.FAILED, error, began, perf_counter())
    return Report(task, Outcome.SUCCEEDED, output, began, perf_counter())
