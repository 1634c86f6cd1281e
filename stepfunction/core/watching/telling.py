"""Telling: who is told of an execution, and what tells them.

Listeners are called by the thread that called ``execute()``, one event after the
other. What happens in other threads and processes is passed on to that thread by the
line of the attempt that it belongs to.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from threading import get_ident
from time import perf_counter
from typing import TYPE_CHECKING, Any, NamedTuple

from stepfunction.core.errors import ExecutionCancelledError
from stepfunction.core.history.execution import Execution, Status
from stepfunction.core.history.records import Attempt, StepRecord
from stepfunction.core.logger import hears, logger
from stepfunction.core.outcomes import Outcome
from stepfunction.core.watching.events import Event, Listener, Path
from stepfunction.core.watching.log import log

if TYPE_CHECKING:
    from stepfunction.core.context import Line
    from stepfunction.core.workers.tasks import Task


class Audience:
    """Who is told of an execution, and of all that is nested in it.

    Attributes:
        tell: What is called with each event, on the thread that runs the execution.
        root_id: The ``id`` of the outermost execution.
        hears_all: Whether anybody hears more than what fails.
    """

    __slots__ = ("tell", "root_id", "hears_all")

    def __init__(
        self, tell: Callable[[Event], object], root_id: str, hears_all: bool
    ) -> None:
        self.tell = tell
        self.root_id = root_id
        self.hears_all = hears_all

    def reach(self, path: Path) -> Reach:
        """Give what lets a nested execution, wherever it runs, be told of too."""
        return Reach(path, self.root_id, self.hears_all)


class Reach(NamedTuple):
    """What a nested execution must know to be told of, in whatever process."""

    path: Path
    root_id: str
    hears_all: bool

    def extend_to(self, execution: Execution, line: Line | None) -> None:
        """Let an execution that runs in an attempt be told of by its line."""
        if line is None:  # on somebody else's workers, with a log of their own
            gather(execution, ())
            return
        execution._path = self.path
        execution._audience = Audience(line.pass_on, self.root_id, self.hears_all)


def gather(execution: Execution, listeners: Iterable[Listener]) -> None:
    """Let an execution be told of to listeners, and to the log if anybody reads it."""
    told = list(listeners)
    hears_all = bool(told)
    if hears("ERROR"):
        told.append(log)
        hears_all = hears_all or hears("INFO")
    if not told:
        return

    def tell(event: Event) -> None:
        for listener in told:
            try:
                listener(event)
            except Exception:
                logger().exception("listener %r failed at %r", listener, event)

    execution._audience = Audience(tell, execution.id, hears_all)


def _tell(
    execution: Execution,
    subject: str,
    what: str,
    time: float,
    step: str | None = None,
    task: str | None = None,
    tasks: tuple[str, ...] = (),
    outcome: Outcome | None = None,
    status: Status | None = None,
    attempts: tuple[Attempt, ...] = (),
    duration: float | None = None,
    error: BaseException | None = None,
    pause: float | None = None,
    next_step: str | None = None,
    done: int | None = None,
    total: int | None = None,
) -> None:
    audience = execution._audience
    assert audience is not None
    facts = (
        subject,
        what,
        time,
        audience.root_id,
        execution.id,
        execution.workflow,
        execution._path,
        step,
        task,
        tasks,
        outcome,
        status,
        attempts,
        duration,
        error,
        pause,
        next_step,
        done,
        total,
        execution,
    )
    audience.tell(Event.of(facts))


class Telling(dict[str, Any]):
    """The moves of an execution whose listeners hear all: to look one up tells."""

    def __init__(self, execution: Execution, moves: Mapping[str, Any]) -> None:
        super().__init__(moves)
        self._execution = execution
        _tell(execution, "execution", "started", execution.started)

    def __getitem__(self, name: str) -> Any:
        execution = self._execution
        tell_news(execution)
        if execution._cancellation.requested:  # by who was just told
            raise ExecutionCancelledError("the execution was stopped")
        move = super().__getitem__(name)
        now = execution._epoch + perf_counter()
        tasks = tuple(filter(None, dict(move[-1].action.callees())))
        _tell(execution, "step", "started", now, name, tasks=tasks)
        return move


def tell_news(execution: Execution, next_step: str | None = None) -> None:
    """Tell of the steps that have ended and have not been told of."""
    audience = execution._audience
    assert audience is not None
    end = len(execution._journal)
    begin = execution._told
    if not audience.hears_all:  # what failed before was told at once
        begin = max(begin, end - 3)
    execution._told = end
    for record in execution._records_from(begin, end):
        if not audience.hears_all and record.error is None:
            continue
        outcome, duration = record.outcome, record.duration
        _tell(
            execution,
            "step",
            _ENDED[outcome],
            (record.started or execution.started) + duration,
            record.step,
            outcome=outcome,
            attempts=record.attempts,
            duration=duration,
            error=record.error,
            next_step=next_step,
        )


_ENDED = {outcome: outcome.lower() for outcome in Outcome}


def tell_compensation(execution: Execution, record: StepRecord) -> None:
    """Tell of what has undone a step or task, or has failed to."""
    audience = execution._audience
    assert audience is not None and record.started is not None
    if audience.hears_all or record.error is not None:
        _tell(
            execution,
            "compensation",
            _ENDED[record.outcome],
            record.started + record.duration,
            record.step,
            record.task,
            outcome=record.outcome,
            attempts=record.attempts,
            duration=record.duration,
            error=record.error,
        )


def tell_end(execution: Execution) -> None:
    """Tell of what has not been told, and that the execution has ended."""
    try:
        tell_news(execution)
    finally:  # also where a listener was interrupted, for others wait for the end
        if execution._audience is not None and execution._audience.hears_all:
            _tell(
                execution,
                "execution",
                "ended",
                execution.started + execution.duration,
                status=execution.status,
                duration=execution.duration,
                error=execution.error,
            )


class News:
    """What is told of the tasks of one step, by the thread that performs it."""

    __slots__ = ("_execution", "_step", "_home", "hears_all")

    def __init__(self, execution: Execution, step: str) -> None:
        audience = execution._audience
        assert audience is not None
        self._execution = execution
        self._step = step
        self._home = get_ident()
        self.hears_all = audience.hears_all

    @property
    def is_at_home(self) -> bool:
        """Whether this is the thread that tells."""
        return get_ident() == self._home

    def close(self) -> None:
        """Let go of the execution: an attempt that is left behind may hold this."""
        del self._execution

    def pass_on(self, event: Event) -> None:
        """Tell what was told of an execution that is nested in a task."""
        assert self._execution._audience is not None
        self._execution._audience.tell(event)

    def started(self, task: Task, began: float) -> None:
        """Tell that the first attempt of a task has begun."""
        if task.key is not None and self.hears_all:
            self._tell("started", task, self._execution._epoch + began)

    def retried(self, task: Task, pause: float) -> None:
        """Tell that a failed attempt is followed by another."""
        ended = self._execution._epoch + task.attempts[-1][2]
        self._tell("retried", task, ended, pause=pause, **self._facts(task))

    def ended(self, task: Task) -> None:
        """Tell that there will be no other attempt."""
        if task.key is None or not (self.hears_all or task.error is not None):
            return
        facts = self._facts(task)
        outcome = facts["outcome"]
        ended, duration = perf_counter(), 0.0
        if task.attempts:  # which may have been heard of late
            ended = task.attempts[-1][2]
            duration = ended - task.attempts[0][1]
        time = self._execution._epoch + ended
        self._tell(_ENDED[outcome], task, time, duration=duration, **facts)

    def progressed(self, done: int, total: int | None) -> None:
        """Tell how many items of a map step have ended."""
        if self.hears_all:
            now = self._execution._epoch + perf_counter()
            whose = (self._execution, "step", "progressed", now, self._step)
            _tell(*whose, done=done, total=total)

    def _facts(self, task: Task) -> dict[str, Any]:
        epoch = self._execution._epoch
        attempts = tuple(
            Attempt(number, outcome, epoch + began, ended - began, error)
            for number, (outcome, began, ended, error) in enumerate(task.attempts, 1)
        )
        outcome = task.outcome or Outcome.CANCELLED
        return {"attempts": attempts, "outcome": outcome, "error": task.error}

    def _tell(self, what: str, task: Task, time: float, **facts: Any) -> None:
        subject = "step" if task.key is None else "task"
        _tell(self._execution, subject, what, time, self._step, task.key, **facts)
