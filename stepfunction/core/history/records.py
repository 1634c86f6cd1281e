"""Records: what steps, tasks and attempts did.

As people read it, a ``StepRecord``; and as the engine notes it in the journal of an
execution, which takes a ``Visit`` only where nothing shorter will do.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

from stepfunction.core.envelope.omitted import portable
from stepfunction.core.frozen import Frozen
from stepfunction.core.keys import OfPart, PartKey
from stepfunction.core.outcomes import SUCCEEDED, Ended, Outcome
from stepfunction.core.raised import repr_of
from stepfunction.core.wording import duration_text

if TYPE_CHECKING:
    from stepfunction.core.history.execution import Execution
    from stepfunction.core.history.journal import Journal


class Attempt(Frozen):
    """One call of an action.

    Attributes:
        number: Counted from 1.
        outcome: How it ended.
        started: When it began, in seconds since the epoch.
        duration: How long it took, in seconds.
        error: What it raised; None unless it failed.
    """

    __slots__ = ()
    number: int
    outcome: Outcome
    started: float
    duration: float
    error: BaseException | None = None

    def __repr__(self) -> str:
        took = duration_text(self.duration)
        what = "" if self.error is None else f": {repr_of(self.error)}"
        return f"<Attempt {self.number} {self.outcome} in {took}{what}>"


class StepRecord(OfPart, Frozen):
    """What one visit of a step did, or one task or item of it.

    Attributes:
        step: The name of the step.
        part: The name of the task, or the index of the item; None for the step itself.
        outcome: How it ended; None while it is under way.
        input: What it was given.
        output: What it returned; None if it failed.
        error: What it failed with; None if it did not.
        started: When it began, in seconds since the epoch; None if it never did.
        duration: Seconds from its beginning to its end, pauses included; while it is
            under way, to when it was looked at.
        attempts: Each call that was made, in order.
        next_step: The step that followed; None at the end, and for tasks.
        child: The execution of a nested workflow; None for anything else.
    """

    # One object, and no tuple in it: many are made at once, which the garbage
    # collector would go through.
    __slots__ = (
        "_step",
        "_part",
        "_outcome",
        "_input",
        "_output",
        "_error",
        "_started",
        "_duration",
        "_attempts",
        "_next_step",
        "_child",
    )
    step: str
    part: PartKey | None
    outcome: Outcome | None
    input: Any
    output: Any
    error: BaseException | None
    started: float | None
    duration: float
    attempts: tuple[Attempt, ...]
    next_step: str | None
    child: Execution | None

    def __init__(
        self,
        step: str,
        part: PartKey | None,
        outcome: Outcome | None,
        input: Any,
        output: Any,
        error: BaseException | None,
        started: float | None,
        duration: float,
        attempts: tuple[Any, ...],
        next_step: str | None,
        child: Execution | None,
    ) -> None:
        self._step = step
        self._part = part
        self._outcome = outcome
        self._input = input
        self._output = output
        self._error = error
        self._started = started
        self._duration = duration
        self._attempts = attempts
        self._next_step = next_step
        self._child = child

    @property
    def _values(self) -> tuple[Any, ...]:  # type: ignore[override]
        return tuple([getattr(self, slot) for slot in self.__slots__])

    @classmethod
    def _of(cls, values: tuple[Any, ...]) -> StepRecord:
        """Give the record of all its fields.

        Args:
            values: They, in their order.
        """
        return cls(*values)

    def __repr__(self) -> str:
        name = repr(self.step)
        if self.part is not None:
            name += f".{self.part!r}"
        took = duration_text(self.duration)
        how = "under way for" if self.outcome is None else f"{self.outcome} in"
        parts = [f"<StepRecord {name} {how} {took}"]
        if len(self.attempts) > 1:
            parts.append(f", {len(self.attempts)} attempts")
        if self.error is not None:
            parts.append(f": {repr_of(self.error)}")
        return "".join(parts) + ">"


def _attempts(record: StepRecord) -> tuple[Attempt, ...]:
    """Each call that was made, in order."""
    # The engine notes none where there was one, which was all.
    started, noted = record.started, record._attempts
    if started is None:
        return ()
    if not noted:
        if record.outcome is None:
            return ()
        facts = (record.outcome, started, record.duration, record.error)
        return (Attempt._of((1, *facts)),)
    if isinstance(noted[0], Attempt):
        return tuple(noted)
    return attempts_of(noted, started - noted[0][1])


def attempts_of(noted: Iterable[Ended], epoch: float) -> tuple[Attempt, ...]:
    """Give attempts as people read them.

    Args:
        noted: How each ended.
        epoch: What to add to readings of ``perf_counter`` to have the time of day.
    """
    return tuple(
        Attempt(number, outcome, epoch + began, since(began, ended), error)
        for number, (outcome, began, ended, error) in enumerate(noted, 1)
    )


# Made when they are looked at, for few are.
StepRecord.attempts = property(_attempts)  # type: ignore[assignment]


class Visit(NamedTuple):
    """A step or task as the engine notes it, where nothing shorter will do.

    A step that did nothing but call its function is noted as its name, or, where that
    failed, as its name and None; one that ran a nested workflow and succeeded as its
    name and the journal of that.
    """

    name: Any  # of a step or task; of an item its index
    outcome: Outcome | None  # None while it is under way
    attempts: tuple[Ended, ...] = ()
    output: Any = None
    error: BaseException | None = None
    tasks: tuple[Visit, ...] = ()
    child: Journal | None = None
    given: tuple[Any] | None = None  # its input, unless that is the output before
    began: float | None = None  # of a task whose first attempt is under way

    @property
    def result(self) -> Any:
        """What came of it: its output, or the exception it failed with."""
        return self.output if self.error is None else self.error


def as_visit(entry: Any, result: Any) -> Visit:
    """Give an item of the journal, and what came of it, in full."""
    if type(entry) is Visit:
        return entry
    if type(entry) is str:
        return Visit(entry, SUCCEEDED, (), result)
    name, child = entry
    if child is None:
        return Visit(name, Outcome.FAILED, error=result)
    return Visit(name, SUCCEEDED, output=result, child=child)


def since(began: float, ended: float) -> float:
    """Give the seconds between two moments: none where the clock was set back.

    Moments that a store gave are of another process, and of what its clock said.
    """
    return max(0.0, ended - began)


def visit_record(
    epoch: float,
    visit: Visit,
    value: Any,
    began: float,
    ended: float,
    follower: str | None,
) -> StepRecord:
    """Give the record of a visit.

    Args:
        epoch: What to add to readings of ``perf_counter`` to have the time of day.
        visit: The visit.
        value: The step's input, unless the visit has its own.
        began: When it began, unless its attempts say it.
        ended: When it ended, unless its attempts say it.
        follower: The step that followed.
    """
    attempts = visit.attempts
    if attempts:
        began = attempts[0][1]
        if visit.outcome is not None:
            ended = attempts[-1][2]
    if visit.given is not None:
        value = visit.given[0]
    return StepRecord._of(
        (
            visit.name,
            None,
            visit.outcome,
            value,
            visit.output if visit.outcome is SUCCEEDED else None,
            visit.error,
            epoch + began,
            since(began, ended),
            attempts,
            follower,
            None if visit.child is None else visit.child.execution,
        )
    )


def task_record(
    epoch: float, step: str, task: Visit, value: Any, now: float = 0.0
) -> StepRecord:
    """Give the record of a task.

    Args:
        epoch: As for ``visit_record``.
        step: The name of its step.
        task: Its visit.
        value: Its input, unless the visit has its own.
        now: What the clock says, for one that is under way.
    """
    if task.attempts or task.began is not None:
        record = visit_record(epoch, task, value, task.began or 0.0, now, None)
        return record.replace(step=step, part=task.name)
    if task.given is not None:
        value = task.given[0]
    child = None if task.child is None else task.child.execution
    facts = (task.outcome, value, task.output, task.error, None, 0.0, (), None, child)
    return StepRecord._of((step, task.name, *facts))


def portable_visit(entry: Any) -> Any:
    """Give what the journal says of a step without what cannot be pickled."""
    if not isinstance(entry, Visit):
        return entry
    tasks = tuple(portable_visit(task) for task in entry.tasks)
    given = entry.given and (portable(entry.given[0]),)
    return entry._replace(output=portable(entry.output), tasks=tasks, given=given)
