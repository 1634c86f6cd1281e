"""Telling: who is told of an execution, and what tells them.

Listeners are called by the thread that called ``execute()``, one event after the
other. What happens in other threads and processes is passed on to that thread by the
line of the attempt that it belongs to.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from threading import RLock, get_ident
from typing import TYPE_CHECKING, Any, NamedTuple

from stepfunction.core.clock import perf_counter
from stepfunction.core.history.journal import Journal
from stepfunction.core.history.records import Attempt, StepRecord, attempts_of, since
from stepfunction.core.keys import PartKey, Path
from stepfunction.core.logger import hears, logger
from stepfunction.core.outcomes import Outcome, Status
from stepfunction.core.watching.events import Event, Listener
from stepfunction.core.watching.log import log

if TYPE_CHECKING:
    from stepfunction.core.context import Line
    from stepfunction.core.definition.graph import Step
    from stepfunction.core.history.execution import Execution
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

    def audience(self, journal: Journal, line: Line | None) -> Audience | None:
        """Give who is told of an execution that runs in an attempt, by its line."""
        if line is None:  # on somebody else's workers, with a log of their own
            return audience_of((), journal)
        journal.path = self.path
        return Audience(line.pass_on, self.root_id, self.hears_all)


# Who is told of any execution that begins in this process, whether of all of it, and
# what is asked then.
_everywhere: tuple[tuple[Listener, bool, Callable[[], object]], ...] = ()
_ERROR, _INFO = 40, 20  # the levels of logging
_changing = RLock()  # a signal handler may connect somebody too


def listen_everywhere(
    listener: Listener, hears_all: bool, asks: Callable[[], object]
) -> None:
    """Have somebody told of every execution that begins in this process from now on.

    Args:
        listener: Who is told. Those who hear of failures alone are told first.
        hears_all: Whether of everything, else of what fails alone.
        asks: Called when an outermost execution begins, which pays for it; where it
            gives None the listener is told nothing.
    """
    global _everywhere
    with _changing:
        if all(it[0] is not listener for it in _everywhere):
            known = [*_everywhere, (listener, hears_all, asks)]
            _everywhere = tuple(sorted(known, key=lambda it: it[1]))


def audience_of(
    listeners: Iterable[Listener], journal: Journal, is_here: bool = False
) -> Audience | None:
    """Give who is told of an outermost execution.

    That is its listeners, and the log if anybody reads it; None if there is nobody.

    Args:
        listeners: Its listeners.
        journal: Its journal.
        is_here: Whether it begins here, and those who listen everywhere are told too.
    """
    told = list(listeners)
    hears_all = bool(told)
    for listener, everything, asks in _everywhere if is_here else ():
        if asks() is not None:
            told.append(listener)
            hears_all = hears_all or everything
    if hears(_ERROR):
        told.append(log)
        hears_all = hears_all or hears(_INFO)
    if not told:
        return None

    def tell(event: Event) -> None:
        for listener in told:
            try:
                listener(event)
            except Exception:
                logger().exception("listener %r failed at %r", listener, event)

    return Audience(tell, journal.id, hears_all)


def _tell(
    audience: Audience,
    journal: Journal,
    subject: str,
    what: str,
    time: float,
    step: str | None = None,
    part: PartKey | None = None,
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
    facts = (outcome, status, attempts, duration, error, pause, next_step, done, total)
    whose = (audience.root_id, journal.id, journal.workflow, journal.path)
    where = (step, part, tasks)
    event = (subject, what, time, *whose, *where, *facts, journal.execution)
    audience.tell(Event._of(event))


def tell_beginning(audience: Audience, journal: Journal) -> Execution | None:
    """Tell that an execution has begun, or goes on, and give it, where all is heard."""
    if not audience.hears_all:
        return None
    execution, epoch, saving = journal.execution, journal.run.epoch, journal.saving
    if saving is None or saving.resumed is None:
        _tell(audience, journal, "execution", "started", epoch + journal.began)
    else:
        _tell(audience, journal, "execution", "resumed", epoch + saving.resumed)
    return execution


def tell_step_start(audience: Audience, journal: Journal, step: Step) -> None:
    """Tell that a step begins."""
    if audience.hears_all:
        now = journal.run.epoch + perf_counter()
        where = (step.name, None, tuple(step.action.tasks))
        _tell(audience, journal, "step", "started", now, *where)


def tell_record(
    audience: Audience,
    journal: Journal,
    subject: str,
    record: StepRecord,
    next_step: str | None = None,
) -> None:
    """Tell of a step that has ended, or of what has undone a step or task.

    Args:
        audience: Who is told.
        journal: The journal that it is noted in.
        subject: ``"step"`` or ``"compensation"``.
        record: What it did.
        next_step: The step that takes its failure.
    """
    outcome, error = record.outcome, record.error
    if not audience.hears_all and error is None:
        return
    started, duration = record.started, record.duration
    assert outcome is not None and started is not None
    _tell(
        audience,
        journal,
        subject,
        _ENDED[outcome],
        started + duration,
        record.step,
        record.part,
        outcome=outcome,
        attempts=record.attempts,
        duration=duration,
        error=error,
        next_step=next_step,
    )


_ENDED = {outcome: outcome.lower() for outcome in Outcome}


def tell_end(audience: Audience, journal: Journal) -> None:
    """Tell that an execution has ended whose beginning was told."""
    _tell(
        audience,
        journal,
        "execution",
        "ended",
        journal.run.epoch + journal.ended,
        status=journal.status,
        duration=since(journal.began, journal.ended),
        error=journal.error,
    )


class News:
    """What is told of the tasks of one step, by the thread that performs it."""

    __slots__ = ("_audience", "_journal", "_step", "_home", "hears_all")

    def __init__(self, audience: Audience, journal: Journal, step: str) -> None:
        self._audience = audience
        self._journal = journal
        self._step = step
        self._home = get_ident()
        self.hears_all = audience.hears_all

    @property
    def is_at_home(self) -> bool:
        """Whether this is the thread that tells."""
        return get_ident() == self._home

    def close(self) -> None:
        """Let go of the execution: an attempt that is left behind may hold this."""
        del self._journal, self._audience

    def pass_on(self, event: Event) -> None:
        """Tell what was told of an execution that is nested in a task."""
        self._audience.tell(event)

    def started(self, task: Task, began: float) -> None:
        """Tell that the first attempt of a task has begun."""
        if task.key is not None and self.hears_all:
            self._tell("started", task, began)

    def retried(self, task: Task, pause: float) -> None:
        """Tell that a failed attempt is followed by another."""
        facts = self._facts(task)
        self._tell("retried", task, task.attempts[-1][2], pause=pause, **facts)

    def ended(self, task: Task) -> None:
        """Tell that there will be no other attempt."""
        if task.key is None or not (self.hears_all or task.error is not None):
            return
        facts = self._facts(task)
        began = ended = perf_counter()
        if task.attempts:  # which may have been heard of late
            began, ended = task.attempts[0][1], task.attempts[-1][2]
        what = _ENDED[facts["outcome"]]
        self._tell(what, task, ended, duration=ended - began, **facts)

    def progressed(self, done: int, total: int | None) -> None:
        """Tell how many items of a map step have ended."""
        if self.hears_all:
            self._tell("progressed", None, perf_counter(), done=done, total=total)

    def _facts(self, task: Task) -> dict[str, Any]:
        attempts = attempts_of(task.attempts, self._journal.run.epoch)
        outcome = task.outcome or Outcome.CANCELLED
        return {"attempts": attempts, "outcome": outcome, "error": task.error}

    def _tell(self, what: str, task: Task | None, at: float, **facts: Any) -> None:
        key = None if task is None else task.key
        subject = "step" if key is None else "task"
        whose, time = (self._audience, self._journal), self._journal.run.epoch + at
        _tell(*whose, subject, what, time, self._step, key, **facts)
