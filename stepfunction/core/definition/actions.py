"""Actions: what a step does, where that is not one call of a user's function."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from numbers import Real
from reprlib import repr as short_repr
from sys import float_info
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn, TypeAlias

from stepfunction.core.definition.calls import answer
from stepfunction.core.errors import FailStepError
from stepfunction.core.workers.pauses import to_pass

if TYPE_CHECKING:
    from datetime import datetime

    from stepfunction.core.context import Context
    from stepfunction.core.definition.calls import Call
    from stepfunction.core.definition.graph import Graph
    from stepfunction.core.step_function import StepFunction

    Callee: TypeAlias = Call | StepFunction | Graph

# The clock of the wall may be set while somebody waits for a time that it shows.
_LONGEST_TRUST = 30.0
_MOST_SECONDS = float_info.max


class FanOut(NamedTuple):
    """The action of a parallel step: tasks that run side by side.

    Attributes:
        tasks: Task name to what it does.
        stop_on_failure: Whether a failure past the tolerated ones stops the others.
        tolerated: How many tasks may fail without the step failing.
        max_workers: How many tasks run at once; None for the executor's default.
        share: What of the tasks ``tolerated`` is, as ``"10%"``, where it was so given.
    """

    tasks: Mapping[str, Callee]
    stop_on_failure: bool
    tolerated: float
    max_workers: int | None
    share: str | None = None

    def __reduce__(self) -> Any:
        return FanOut, (dict(self.tasks), *self[1:])


class MapItems(NamedTuple):
    """The action of a map step: the same call for each of many items.

    Attributes:
        call: What is called with each item.
        items: Gives the items of the step's input: a callable of it, or a key; None
            where they are the input.
        batch_size: How many items are sent together.
        stop_on_failure: Whether a failure past the tolerated ones stops the others.
        tolerated: How many items may fail without the step failing, or their share
            as ``"10%"``.
        max_workers: How many batches run at once; None for the executor's default.
        keep_results: Whether the output has each result, or only how many there were.
    """

    call: Callee
    items: Callable[[Any], Iterable[Any]] | str | int | None
    batch_size: int
    stop_on_failure: bool
    tolerated: float | str
    max_workers: int | None
    keep_results: bool

    @property
    def name(self) -> str:
        """The name of what is called."""
        return self.call.name


def callee(action: Any) -> Any:
    """Give what an action calls: of a map step what it calls for each item."""
    return action.call if isinstance(action, MapItems) else action


def share(percentage: str, count: int) -> int:
    """Give how many of so many a share such as ``"10%"`` is, rounded down."""
    # 10% of 30 is 3, whatever binary fractions say.
    return int(float(percentage[:-1]) * count / 100 + 1e-9)


class Wait(NamedTuple):
    """The action of a wait step: time passes, and its input goes on.

    Attributes:
        seconds: How long to wait, or a callable of the input that says it.
        until: When to go on, or a callable of the input that says it; one of the two
            is None.
    """

    seconds: float | Callable[[Any], float] | None
    until: datetime | Callable[[Any], datetime] | None

    @property
    def name(self) -> str:
        """What pictures and messages call it."""
        return "wait"

    @property
    def wants_context(self) -> bool:
        """Whether it must be given the context."""
        return True

    def __call__(self, value: Any, context: Context | None = None) -> Any:
        """Wait, or until the execution is to stop, and give the input back.

        Raises:
            ValueError: If a callable gives what cannot be waited for.
            ExecutionCancelledError: If the execution is to stop.
        """
        assert context is not None
        what = f"step {context.step!r}"
        if self.until is None:
            chosen: Any = self.seconds
            seconds = answer(chosen, value) if callable(chosen) else chosen
            problem = seconds_problem(seconds)
            if problem:
                raise ValueError(f"{what} cannot wait: {problem}")
            context.sleep(to_pass(what, float(seconds)))
            return value
        until: Any = self.until
        if callable(until):
            until = answer(until, value)
        problem = until_problem(until)
        if problem:
            raise ValueError(f"{what} cannot wait: {problem}")
        left = to_pass(what, max(0.0, seconds_until(until)))
        while left > 0:
            context.sleep(min(left, _LONGEST_TRUST))
            left = seconds_until(until)
        return value


def seconds_until(moment: datetime) -> float:
    """Give how many seconds pass until a moment; negative if it has passed."""
    from datetime import datetime, timezone  # dear

    return (moment - datetime.now(timezone.utc)).total_seconds()


def seconds_problem(seconds: Any) -> str | None:
    """Say why so many seconds cannot be waited; None if they can."""
    is_number = isinstance(seconds, Real) and not isinstance(seconds, bool)
    if is_number and 0 <= seconds <= _MOST_SECONDS:
        return None
    hint = "; give its total_seconds()" if hasattr(seconds, "total_seconds") else ""
    return f"seconds is a number from 0, not {short_repr(seconds)}{hint}"


def until_problem(until: Any) -> str | None:
    """Say why a moment cannot be waited for; None if it can."""
    from datetime import datetime  # dear

    if not isinstance(until, datetime):
        return f"until is a datetime with a time zone, not {short_repr(until)}"
    if until.utcoffset() is None:
        return (
            f"until is {until!r}, which has no time zone; give it one, as in "
            "datetime(…, tzinfo=timezone.utc), or until.astimezone() for local time"
        )
    return None


# What nobody can change, so that executions may share it.
_UNCHANGING = (str, int, float, bool, type(None), bytes)


class Pass(NamedTuple):
    """The action of a pass step: its input, or a constant, goes on.

    Attributes:
        is_constant: Whether it is the constant.
        result: The constant.
    """

    is_constant: bool = False
    result: Any = None

    @property
    def name(self) -> str:
        """What pictures and messages call it."""
        return "pass"

    @property
    def wants_context(self) -> bool:
        """Whether it must be given the context."""
        return False

    def __call__(self, value: Any, context: Context | None = None) -> Any:
        """Give what goes on, of a constant that can be changed a copy."""
        if not self.is_constant:
            return value
        if type(self.result) in _UNCHANGING:
            return self.result
        from copy import deepcopy  # dear

        return deepcopy(self.result)


class Fail(NamedTuple):
    """The action of a fail step: the execution ends here, and has failed.

    Attributes:
        error: The name of the error.
        cause: What a person should know of it; None for nothing.
    """

    error: str
    cause: str | None = None

    @property
    def name(self) -> str:
        """What pictures and messages call it."""
        return "fail"

    @property
    def wants_context(self) -> bool:
        """Whether it must be given the context."""
        return False

    def __call__(self, value: Any, context: Context | None = None) -> NoReturn:
        """Fail.

        Raises:
            FailStepError: Always.
        """
        text = self.error if self.cause is None else f"{self.error}: {self.cause}"
        raise FailStepError(text, self.error, self.cause)
