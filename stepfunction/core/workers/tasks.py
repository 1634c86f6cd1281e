"""Workers: how the tasks of a step all come to their ends.

This module knows calls and nothing of workflows. ``run_tasks`` is the loop: it
hands attempts to a place (``places`` has them), is told in its inbox how each ended,
has failed tasks tried again, gives up what takes too long, and stops the rest when it
is enough. Workers compute; the loop, in the thread that called it, records.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextvars import Context as Variables
from itertools import count
from queue import Empty, SimpleQueue
from time import perf_counter
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeAlias

from stepfunction.core.cancellation import Cancellation
from stepfunction.core.context import Context
from stepfunction.core.errors import (
    ExecutionCancelledError,
    HeartbeatTimeoutError,
    StepTimeoutError,
    WorkerStartError,
    users_traceback,
)
from stepfunction.core.history.journal import Journal
from stepfunction.core.history.records import Visit
from stepfunction.core.outcomes import Outcome
from stepfunction.core.watching.events import Event
from stepfunction.core.watching.telling import News
from stepfunction.core.workers.executors import is_cancelled_error
from stepfunction.core.workers.pauses import to_pass
from stepfunction.core.workers.retry import Retries, RetryPolicy, judges_results

if TYPE_CHECKING:
    import tenacity

# A signal that comes just before a wait begins does not end it: Ctrl-C would be heard
# only with the next report.
_LONGEST_WAIT = 0.5
_LONGEST_PREPARATION = 60.0
_SOON = 0.001
# A source that takes longer for a task is not waited for before others begin.
_LONGEST_ASKING = 0.001
# Of tasks that are taken one by one, so that failures do not pile up in memory.
_MOST_PAUSING = 1000


class Task:
    """A call on its way to its end, and what became of it.

    Attributes:
        key: The name of the task; None for a step that runs elsewhere.
        name: What it is called in messages.
        call: What to call, with the step's input and a context or None.
        wants_context: Whether the call is to be given a context.
        retry: How failed attempts are made again; None for not at all.
        timeout: How many seconds an attempt may take; None for no limit.
        heartbeat: How many seconds may pass without a sign of life; None for no limit.
        open_result: Turns what the call returned into the output, or raises; None
            where that is the output.
        attempts: How each attempt ended, as a ``Visit`` notes it.
        outcome: How it ended; None until then.
        output: What it returned.
        error: What it failed with.
        child: The execution, if it was a nested workflow.
        news: Who tells of it; None where nobody listens.
        given: Its own input; None for that of the step.
    """

    __slots__ = (
        "key",
        "name",
        "call",
        "wants_context",
        "retry",
        "retries",
        "timeout",
        "heartbeat",
        "open_result",
        "attempts",
        "outcome",
        "output",
        "error",
        "child",
        "news",
        "has_told_start",
        "given",
    )

    def __init__(
        self,
        key: str | None,
        name: str,
        call: Callable[[Any, Context | None], Any],
        wants_context: bool,
        retry: RetryPolicy | tenacity.Retrying | None = None,
        timeout: float | None = None,
        heartbeat: float | None = None,
        open_result: Callable[[Task, Any], Any] | None = None,
        news: News | None = None,
    ) -> None:
        self.key = key
        self.name = name
        self.call = call
        self.wants_context = wants_context
        self.retry = retry
        self.retries: Retries | None = None
        self.timeout = timeout
        self.heartbeat = heartbeat
        self.open_result = open_result
        self.attempts: list[tuple[Outcome, float, float, BaseException | None]] = []
        self.outcome: Outcome | None = None
        self.output: Any = None
        self.error: BaseException | None = None
        self.child: Journal | None = None
        self.news = news
        self.has_told_start = False
        self.given: tuple[Any] | None = None

    @property
    def is_timed(self) -> bool:
        """Whether it matters when an attempt began, or was last heard of."""
        return self.timeout is not None or self.heartbeat is not None

    @property
    def says_start(self) -> bool:
        """Whether an attempt is to say when it begins."""
        return self.is_timed or (self.news is not None and self.news.hears_all)

    def tell_start(self, began: float) -> None:
        """Tell, once, that the first attempt has begun."""
        if self.news is not None and not self.has_told_start:
            self.has_told_start = True
            self.news.started(self, began)

    def tell_retried(self, pause: float) -> None:
        """Tell that another attempt follows, after so many seconds."""
        if self.news is not None:
            self.tell_start(self.attempts[0][1])
            self.news.retried(self, pause)

    def tell_end(self) -> None:
        """Tell that there will be no other attempt."""
        if self.news is not None:
            if self.attempts:  # word of its beginning may not have been read
                self.tell_start(self.attempts[0][1])
            self.news.ended(self)

    def take(self, part: Any) -> None:
        """Take note of a part of what comes of it."""

    def halt(self) -> None:
        """Stop what a place cannot stop."""

    def heirs(self) -> Sequence[Task] | None:
        """Give the tasks that take its place when it has ended; None for itself."""
        return None

    def settle(self, report: Report, is_stopping: bool = False) -> None:
        """Take note of how an attempt ended, as the task's own end until retried."""
        outcome, payload = report.outcome, report.payload
        error = None if outcome is Outcome.SUCCEEDED else payload
        if outcome is Outcome.SUCCEEDED and self.open_result is not None:
            try:
                payload = self.open_result(self, payload)
            except StepTimeoutError as overdue:
                outcome, error = Outcome.TIMED_OUT, overdue
            except Exception as failure:
                outcome, error = Outcome.FAILED, failure
        if is_stopping and isinstance(error, ExecutionCancelledError):
            outcome = Outcome.CANCELLED  # it gave up when told
        if is_stopping and (
            outcome in (Outcome.KILLED, Outcome.CANCELLED)
            or is_cancelled_error(error)
        ):
            error = None  # it did not fail: it was stopped
        self.attempts.append((outcome, report.began, report.ended, error))
        self.outcome, self.error = outcome, error
        self.output = payload if outcome is Outcome.SUCCEEDED else None

    def visit(self, name: str, tasks: Iterable[Visit] = ()) -> Visit:
        """Give what the journal is to say of it."""
        return Visit(
            name,
            self.outcome or Outcome.CANCELLED,
            tuple(self.attempts),
            self.output,
            self.error,
            tuple(tasks),
            self.child,
            self.given,
        )


class LiveAttempt:
    """One attempt while it is under way, and the line by which its place reports.

    Attributes:
        task: What is attempted.
        number: Counted from 1.
        cancellation: What tells it to stop: its own if it is timed.
        of_step: What tells all attempts of the step to stop.
        variables: The context variables that it runs with; None for its thread's own.
        began: When it began, as ``perf_counter``.
        heard: When it last gave a sign of life.
        overdue: The error of the limit that has passed; None while none has.
        is_preparing: Whether it has not begun although its limits count already.
        parts: How many parts of what comes of it have been reported.
        parts_in_time: How many had been when its limit passed.
    """

    __slots__ = (
        "task",
        "number",
        "cancellation",
        "of_step",
        "variables",
        "began",
        "heard",
        "overdue",
        "is_preparing",
        "parts",
        "parts_in_time",
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
        self.cancellation = Cancellation() if task.is_timed else cancellation
        self.of_step = cancellation
        self.variables: Variables | None = None
        self.began = self.heard = 0.0
        self.overdue: StepTimeoutError | None = None
        self.is_preparing = False
        self.parts = self.parts_in_time = 0
        self._inbox = inbox

    def prepare(self) -> None:
        """Say that a process prepares for it, which does not count for its limits.

        Not within reason: an import may hang.
        """
        self.is_preparing = True
        self.began = self.heard = perf_counter() + _LONGEST_PREPARATION
        if self._inbox is not None and self.task.is_timed:
            self._inbox.put(self)

    def start(self) -> None:
        """Say that it begins now. Any thread may."""
        self.is_preparing = False
        self.began = self.heard = perf_counter()
        if self._inbox is not None and self.task.says_start:
            if self.task.news is not None and self.task.news.is_at_home:
                self.task.tell_start(self.began)  # before what is nested in it
            self._inbox.put(self)

    def live(self) -> None:
        """Say that it is alive. Any thread may."""
        self.heard = perf_counter()

    def pass_on(self, event: Event) -> None:
        """Pass on what is told of an execution nested in it. Any thread may."""
        news = self.task.news
        if news is None:
            return
        if self._inbox is None or news.is_at_home:
            news.pass_on(event)
        else:
            self._inbox.put(Passed(self, event))

    def report(self, part: Any) -> None:
        """Report a part of what comes of it before the rest. Any thread may."""
        assert self._inbox is not None
        self.began = self.heard = perf_counter()  # a limit is for what is left
        self.parts += 1
        self._inbox.put(Part(self, part))

    def skip(self) -> None:
        """Report that it never began, for it was cancelled before."""
        self.end(Outcome.SKIPPED, None, 0.0, 0.0)

    def end(self, outcome: Outcome, payload: Any, began: float, ended: float) -> None:
        """Report how it ended. Any thread may."""
        assert self._inbox is not None
        self._inbox.put(Report(self, outcome, payload, began, ended))


class Report(NamedTuple):
    """How an attempt ended: the payload is what it returned, or what it raised."""

    attempt: LiveAttempt
    outcome: Outcome
    payload: Any
    began: float
    ended: float


class Passed(NamedTuple):
    """What is told of an execution that is nested in an attempt."""

    attempt: LiveAttempt
    event: Event


class Part(NamedTuple):
    """A part of what comes of an attempt."""

    attempt: LiveAttempt
    part: Any


# What comes for the loop: an end, a beginning, an event, a part, or word to stop.
Letter: TypeAlias = "Report | LiveAttempt | Passed | Part | None"
MakeContext = Callable[[LiveAttempt], Context]


class Place(Protocol):
    """Where attempts are made.

    Attributes:
        limit: How many attempts may be under way at once; None where the place
            itself sees to that.
        left_behind: The outcome of an attempt that is not waited for.
        is_here: Whether attempts are made in this process, and share its objects.
        hears_parts: Whether the loop is told of each part of what comes of them.
    """

    limit: int | None
    left_behind: Outcome
    is_here: bool
    hears_parts: bool

    def begin(self, attempt: LiveAttempt) -> None:
        """Make an attempt, here or elsewhere, and have it report its end once.

        One that is timed also says when it begins.
        """

    def staff(self) -> bool:
        """See to it that somebody makes the attempts; say whether to ask again soon."""

    def halt(self, attempts: Iterable[LiveAttempt]) -> list[LiveAttempt]:
        """Stop what can be stopped; give the attempts that had not begun."""

    def give_up(self, attempt: LiveAttempt) -> bool:
        """Stop an attempt that took too long; say whether it will still report."""

    def close(self, wait: bool) -> None:
        """Let go of what was started for these tasks."""


def run_tasks(
    tasks: Iterable[Task],
    place: Place,
    cancellation: Cancellation,
    is_enough: Callable[[Task], bool] = lambda task: False,
    ended: Callable[[Task], None] = lambda task: None,
    at_once: bool = True,
) -> None:
    """Bring tasks to their ends; each then has an outcome.

    Args:
        tasks: What to run; of an iterator each is taken when there is a place for it.
            One that has been attempted already begins with what follows from that.
        place: Where to run it.
        cancellation: Requested by others to stop these tasks, and by this function
            to tell the tasks that they should stop.
        is_enough: Asked after each failed task whether the others are to be stopped.
        ended: Called with each task when it has ended.
        at_once: Whether the iterator is likely to give the next task without delay.

    Raises:
        Exception: What the iterator raises, when all others have ended.
        BaseException: What interrupts this thread; the tasks are then left behind.
    """
    _Loop(tasks, place, cancellation, is_enough, ended, at_once).run()


class _Loop:
    def __init__(
        self,
        tasks: Iterable[Task],
        place: Place,
        cancellation: Cancellation,
        is_enough: Callable[[Task], bool],
        ended: Callable[[Task], None],
        at_once: bool,
    ) -> None:
        self.waiting: deque[Task] = deque()
        self.more: Iterator[Task] | None = None  # what has not been taken
        if isinstance(tasks, Iterator):
            self.more, tasks = tasks, ()
        self.under_way: set[LiveAttempt] = set()
        # Heaps by time: who is to be tried again, and who is to be looked after.
        self.pausing: list[tuple[float, int, Task]] = []
        self.watched: list[tuple[float, int, LiveAttempt]] = []
        self.numbers = count()
        self.place = place
        self.cancellation = cancellation
        self.is_enough = is_enough
        self.ended = ended
        self.is_understaffed = False  # whether more may be needed to make attempts
        self.at_once = at_once
        self.is_slow = False  # whether the next task may be long in coming
        self.source_error: Exception | None = None
        self.inbox: SimpleQueue[Letter] = SimpleQueue()
        self.is_stopping = False
        self.open: dict[Task, None] = {}  # those that have not ended
        for task in tasks:
            self.open[task] = None
            if not task.attempts:
                self.waiting.append(task)
            else:
                self.is_to_be_retried(task)

    def run(self) -> None:
        is_done = False
        try:
            with self.cancellation.calling(self.hear_of_stop):
                while self.waiting or self.under_way or self.pausing or self.more:
                    self.begin_what_may()
                    if self.under_way or self.pausing:
                        self.take_news()
            is_done = True
        finally:
            if not is_done:
                self.stop()
                self.leave_behind()
            self.place.close(wait=is_done)
            for task in tuple(self.open):
                self.end(task)
        if self.source_error is not None:
            raise self.source_error

    def begin_what_may(self) -> None:
        limit = self.place.limit
        while limit is None or len(self.under_way) < limit:
            task = self.waiting.popleft() if self.waiting else self.next_task()
            if task is None:
                break
            attempt = LiveAttempt(task, self.cancellation, self.inbox)
            self.under_way.add(attempt)
            self.place.begin(attempt)
            if self.is_slow and self.has_news():
                break
        self.is_understaffed = self.place.staff()

    def next_task(self) -> Task | None:
        """Take the next task from where they come from; None if there is none."""
        if self.more is None or len(self.pausing) >= _MOST_PAUSING:
            return None
        if self.is_slow or not self.at_once:
            self.place.staff()  # what was taken goes on, however long this may take
        asked, is_first = perf_counter(), not self.under_way
        try:
            task = next(self.more, None)
        except Exception as error:
            self.source_error, task = error, None
            self.stop()
        # They may come from what becomes of the first.
        self.is_slow = is_first or perf_counter() - asked > _LONGEST_ASKING
        if task is None:
            self.more = None
        else:
            self.open[task] = None
        return task

    def hear_of_stop(self) -> None:
        """Take note that these tasks are to stop. Any thread may."""
        for attempt in tuple(self.under_way):
            attempt.task.halt()  # now, for the loop may be making that very attempt
        self.inbox.put(None)

    def has_news(self) -> bool:
        """Tell whether there is something that ``take_news`` need not wait for."""
        now = perf_counter()
        heaps = (self.pausing, self.watched)
        return not self.inbox.empty() or any(it and it[0][0] <= now for it in heaps)

    def take_news(self) -> None:
        """Take one item from the inbox, or see to what has become due."""
        if not self.inbox.empty():
            self.read(self.inbox.get())
            return
        now = perf_counter()
        if self.pausing and self.pausing[0][0] <= now:
            self.waiting.append(heapq.heappop(self.pausing)[2])
            return
        if self.watched and self.watched[0][0] <= now:
            self.look_after(heapq.heappop(self.watched)[2], now)
            return
        due = [heap[0][0] - now for heap in (self.pausing, self.watched) if heap]
        longest = _SOON if self.is_understaffed else _LONGEST_WAIT
        try:
            news = self.inbox.get(timeout=min([*due, longest]))
        except Empty:
            return
        self.read(news)

    def read(self, letter: Letter) -> None:
        if letter is None:
            self.stop()
        elif isinstance(letter, LiveAttempt):
            self.note_beginning(letter)
        elif letter.attempt not in self.under_way:
            return  # it was given up, and speaks late
        elif isinstance(letter, Report):
            self.settle(letter)
        elif isinstance(letter, Part):
            letter.attempt.task.take(letter.part)
        elif (news := letter.attempt.task.news) is not None:
            news.pass_on(letter.event)

    def note_beginning(self, attempt: LiveAttempt) -> None:
        task = attempt.task
        if task.is_timed:
            self.watch(attempt)
        if not attempt.is_preparing:
            task.tell_start(attempt.began)

    def close(self, task: Task) -> None:
        """See to what an attempt leaves behind: its task's end, or what goes on."""
        heirs = task.heirs()
        if heirs is None:
            if self.is_stopping or not self.is_to_be_retried(task):
                self.end(task)
            return
        self.end(task)
        for heir in heirs:
            self.open[heir] = None
            if heir.attempts:
                self.close(heir)
            elif self.is_stopping:
                self.leave_out(heir)
            else:
                self.waiting.append(heir)

    def end(self, task: Task) -> None:
        """Let it be known that a task has ended, once."""
        if task in self.open:
            del self.open[task]
            task.tell_end()
            self.ended(task)

    def settle(self, report: Report) -> None:
        attempt, task = report.attempt, report.attempt.task
        self.under_way.remove(attempt)
        if report.outcome is Outcome.SKIPPED:
            self.stop()
            self.leave_out(task)
            return
        if isinstance(report.payload, WorkerStartError):
            task.settle(report, self.is_stopping)
            raise report.payload  # no task has failed: none can run here
        if attempt.overdue is not None and report.outcome is Outcome.KILLED:
            if attempt.parts > attempt.parts_in_time:
                # What took too long has ended after all; what came next is not to
                # blame, and is left to the heirs.
                report = report._replace(outcome=Outcome.SUCCEEDED, payload=None)
            else:
                report = report._replace(
                    outcome=Outcome.TIMED_OUT,
                    payload=attempt.overdue,
                    began=attempt.began,
                )
        task.settle(report, self.is_stopping or attempt.cancellation.requested)
        self.close(task)

    def watch(self, attempt: LiveAttempt) -> None:
        """Look after a timed attempt that has begun, when its time may be over."""
        if attempt in self.under_way and attempt.overdue is None:
            due = min(limit for limit, _ in _limits(attempt))
            heapq.heappush(self.watched, (due, next(self.numbers), attempt))

    def look_after(self, attempt: LiveAttempt, now: float) -> None:
        if attempt not in self.under_way or attempt.overdue is not None:
            return
        attempt.parts_in_time = attempt.parts
        passed = [error for limit, error in _limits(attempt) if limit <= now]
        if not passed:
            self.watch(attempt)  # it has been heard of since
            return
        attempt.overdue = passed[0]()
        attempt.cancellation.request(is_overdue=True)
        if not self.place.give_up(attempt):
            outcome = self.place.left_behind
            self.settle(Report(attempt, outcome, attempt.overdue, attempt.began, now))

    def is_to_be_retried(self, task: Task) -> bool:
        """See to what an attempt's end asks for: another attempt, or stopping all."""
        retry, error = task.retry, task.error
        if retry is not None and (error is not None or judges_results(retry)):
            if task.retries is None:
                since = perf_counter() - task.attempts[0][1]
                task.retries = Retries(retry, task.name, since)
            traceback = None if error is None else error.__traceback__
            try:
                seconds, task.output = task.retries.after(task.output, error)
            except BaseException as final:
                if final is error:
                    final.with_traceback(traceback)  # without the way it went here
                elif not isinstance(final, Exception):
                    raise  # it interrupts this very thread
                task.error = final
                if error is None:
                    task.outcome = Outcome.FAILED
            else:
                if seconds is not None:
                    self.pause(task, seconds)
                    return True
                task.outcome, task.error = Outcome.SUCCEEDED, None
        if task.error is not None and self.is_enough(task):
            self.stop()
        return False

    def pause(self, task: Task, seconds: float) -> None:
        task.tell_retried(seconds)
        due = perf_counter() + to_pass(task.name, seconds)
        heapq.heappush(self.pausing, (due, next(self.numbers), task))

    def stop(self) -> None:
        """Begin nothing more, stop what can be stopped, and tell the others."""
        if not self.is_stopping:
            self.halt()
        if self.cancellation.is_overdue and self.place.left_behind is Outcome.ABANDONED:
            self.leave_behind()

    def halt(self) -> None:
        self.is_stopping = True
        self.cancellation.request()
        for attempt in self.under_way:
            attempt.cancellation.request(self.cancellation.is_overdue)
            attempt.task.halt()
        self.more = None
        never_begun = self.place.halt(self.under_way)
        self.under_way.difference_update(never_begun)
        for task in (*self.waiting, *(attempt.task for attempt in never_begun)):
            self.leave_out(task)
        self.waiting.clear()
        self.pausing.clear()

    def leave_out(self, task: Task) -> None:
        """Let a task end before its next attempt: with how the last ended, if any."""
        if not task.attempts:
            task.outcome = Outcome.CANCELLED

    def leave_behind(self) -> None:
        """Wait no longer for what is under way."""
        now, outcome = perf_counter(), self.place.left_behind
        for attempt in self.under_way:
            attempt.cancellation.request(is_overdue=True)
            self.place.give_up(attempt)
            began = min(attempt.began or now, now)  # it may only be about to begin
            attempt.task.settle(Report(attempt, outcome, None, began, now))
            self.close(attempt.task)
        self.under_way.clear()


def _limits(
    attempt: LiveAttempt,
) -> Iterable[tuple[float, Callable[[], StepTimeoutError]]]:
    """Give when each limit of an attempt passes, and the error that says so."""
    task = attempt.task
    timeout, heartbeat = task.timeout, task.heartbeat
    if timeout is not None:
        text = f"{task.name}: attempt {attempt.number} took longer than {timeout:g} s"
        yield attempt.began + timeout, lambda: StepTimeoutError(text, timeout)
    if heartbeat is not None:
        silence = (
            f"{task.name}: attempt {attempt.number} gave no heartbeat "
            f"for {heartbeat:g} s"
        )
        yield attempt.heard + heartbeat, lambda: HeartbeatTimeoutError(
            silence, heartbeat
        )


def make_attempt(
    attempt: LiveAttempt,
    value: Any,
    make_context: MakeContext,
    catch: type[BaseException] = BaseException,
) -> Report:
    """Make an attempt in this thread.

    Args:
        attempt: What to attempt.
        value: The input of its step.
        make_context: Gives its context.
        catch: What counts as its failure; anything else is raised.
    """
    task = attempt.task
    if task.given is not None:
        value = task.given[0]
    attempt.start()
    began = attempt.began
    try:
        context = make_context(attempt) if task.wants_context else None
        if attempt.variables is None:
            output = task.call(value, context)
        else:
            output = attempt.variables.run(task.call, value, context)
    except catch as error:
        error.with_traceback(users_traceback(error))
        return Report(attempt, Outcome.FAILED, error, began, perf_counter())
    return Report(attempt, Outcome.SUCCEEDED, output, began, perf_counter())
