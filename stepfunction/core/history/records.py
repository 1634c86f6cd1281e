"""Records: what steps, tasks and attempts did.

As people read it, a ``StepRecord``; and as the engine notes it in the journal of an
execution, which takes a ``Visit`` only where nothing shorter will do.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias, cast

from stepfunction.core.envelope.omitted import portable
from stepfunction.core.outcomes import Ended, Outcome
from stepfunction.core.wording import duration_text

if TYPE_CHECKING:
    from stepfunction.core.history.execution import Execution


class Attempt(NamedTuple):
    """One call of an action.

    Attributes:
        number: Counted from 1.
        outcome: How it ended.
        started: When it began, in seconds since the epoch.
        duration: How long it took, in seconds.
        error: What it raised; None unless it failed.
    """

    number: int
    outcome: Outcome
    started: float
    duration: float
    error: BaseException | None = None

    def __repr__(self) -> str:
        took = duration_text(self.duration)
        what = "" if self.error is None else f": {self.error!r}"
        return f"<Attempt {self.number} {self.outcome} in {took}{what}>"


class _Facts(NamedTuple):
    step: str
    task: str | None
    outcome: Outcome
    input: Any
    output: Any
    error: BaseException | None
    started: float | None
    duration: float
    attempts: tuple[Any, ...]
    next_step: str | None
    child: Execution | None


class StepRecord(_Facts):
    """What one visit of a step did, or one task or item of it.

    Attributes:
        step: The name of the step.
        task: The name of the task, or the index of the item; None for the step itself.
        outcome: How it ended.
        input: What it was given.
        output: What it returned; None if it failed.
        error: What it failed with; None if it did not.
        started: When it began, in seconds since the epoch; None if it never did.
        duration: Seconds from its beginning to its end, pauses included.
        attempts: Each call that was made, in order.
        next_step: The step that followed; None at the end, and for tasks.
        child: The execution of a nested workflow; None for anything else.
    """

    __slots__ = ()

    # As the engine notes them, they are nothing where there was one, which was all.
    @property
    def attempts(self) -> tuple[Attempt, ...]:
        """Each call that was made, in order."""
        noted: Any = self[_ATTEMPTS]
        if self.started is None:
            return ()
        if not noted:
            facts = (self.outcome, self.started, self.duration, self.error)
            return (Attempt(1, *facts),)
        if isinstance(noted[0], Attempt):
            return tuple(noted)
        epoch = self.started - noted[0][1]
        return tuple(
            Attempt(number, outcome, epoch + began, ended - began, error)
            for number, (outcome, began, ended, error) in enumerate(noted, 1)
        )

    def _asdict(self) -> dict[str, Any]:
        return {**super()._asdict(), "attempts": self.attempts}

    def __repr__(self) -> str:
        name = repr(self.step)
        if self.task is not None:
            name += f".{self.task!r}"
        parts = [f"<StepRecord {name} {self.outcome} in {duration_text(self.duration)}"]
        if len(self.attempts) > 1:
            parts.append(f", {len(self.attempts)} attempts")
        if self.error is not None:
            parts.append(f": {self.error!r}")
        return "".join(parts) + ">"


_ATTEMPTS = _Facts._fields.index("attempts")
# The class itself takes twice as long.
new_record = cast(
    Callable[[tuple[Any, ...]], StepRecord], partial(tuple.__new__, StepRecord)
)
# To look a member of an enum up takes its time.
_SUCCEEDED = Outcome.SUCCEEDED


class Visit(NamedTuple):
    """A step or task as the engine notes it, where nothing shorter will do.

    A step that did nothing but call its function is noted as its name, or, where that
    failed, as its name and None; one that ran a nested workflow and succeeded as its
    name and the execution of that.
    """

    name: str
    outcome: Outcome
    attempts: tuple[Ended, ...] = ()
    output: Any = None
    error: BaseException | None = None
    tasks: tuple[Visit, ...] = ()
    child: Execution | None = None
    given: tuple[Any] | None = None  # its input, unless that is the output before


def as_visit(entry: Any, result: Any) -> Visit:
    """Give an item of the journal, and what came of it, in full."""
    if type(entry) is Visit:
        return entry
    if type(entry) is str:
        return Visit(entry, _SUCCEEDED, (), result)
    name, child = entry
    if child is None:
        return Visit(name, Outcome.FAILED, error=result)
    return Visit(name, _SUCCEEDED, output=result, child=child)


# A step that failed, as the engine remembers it while that is handled: how it is noted,
# its input, when it began and ended, its error.
Failed: TypeAlias = "tuple[Any, Any, float, float, BaseException]"


def portable_visit(entry: Any) -> Any:
    """Give what the journal says of a step without what cannot be pickled."""
    if not isinstance(entry, Visit):
        return entry
    tasks = tuple(portable_visit(task) for task in entry.tasks)
    given = entry.given and (portable(entry.given[0]),)
    return entry._replace(output=portable(entry.output), tasks=tasks, given=given)
