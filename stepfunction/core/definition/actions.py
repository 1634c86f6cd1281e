"""Actions: what a step does, of whatever kind, and what may be asked of any of them.

Nobody asks an action for its class: ``Action`` has the questions, and each kind answers
them. A call is in ``calls``, a frozen workflow in ``graph``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn, Self, TypeAlias

from stepfunction.core.definition.callables import (
    answer,
    has_default,
    misfit,
    name_of,
)
from stepfunction.core.definition.likeness import Defined, deep_copy
from stepfunction.core.definition.moments import (
    seconds_problem,
    seconds_until,
    until_problem,
)
from stepfunction.core.durations import in_seconds
from stepfunction.core.errors import FailStepError, Problem
from stepfunction.core.frozen import Frozen
from stepfunction.core.lapse import to_pass
from stepfunction.core.raised import short_repr
from stepfunction.core.wording import error_text

if TYPE_CHECKING:
    from datetime import datetime

    from stepfunction.core.context import Context

# The clock of the wall may be set while somebody waits for a time that it shows.
_LONGEST_TRUST = 30.0
_NO_TASKS: Mapping[str, Callee] = MappingProxyType({})


class Action:
    """What a step does; the base of all kinds.

    Attributes:
        kind: What kind it is, as documents write it: ``"call"``, ``"parallel"``,
            ``"map"``, ``"wait"``, ``"pass"``, ``"fail"`` or ``"workflow"``.
        is_one_call: Whether to perform it is one call, with nothing inside.
        has_tasks: Whether it runs several tasks, each by its name or for an item.
        has_items: Whether it runs a task for each of many items.
        always_fails: Whether it is there to fail.
        takes_nothing: Whether the workflow that it runs is given no input at all.
    """

    __slots__ = ()
    kind: ClassVar[str]
    is_one_call: ClassVar[bool] = False
    has_tasks: ClassVar[bool] = False
    has_items: ClassVar[bool] = False
    always_fails: ClassVar[bool] = False
    takes_nothing: ClassVar[bool] = False

    @property
    def name(self) -> str:
        """What pictures and messages call it."""
        return self.kind

    @property
    def wants_context(self) -> bool:
        """Whether it must be given the context."""
        return False

    @property
    def plain(self) -> Callable[[Any], Any] | None:
        """What to call with the input alone, where that is all there is to it."""
        return None

    @property
    def tasks(self) -> Mapping[str, Callee]:
        """The tasks that run side by side, by their names; nothing of other kinds."""
        return _NO_TASKS

    @property
    def callee(self) -> Callee | None:
        """What it calls, itself or with each item; None for nothing, or for tasks."""
        return None

    @property
    def nested(self) -> Any:
        """The workflow that it runs, itself or with each item; None for none.

        It is a ``StepFunction`` in a builder's step, and a ``Graph`` in a frozen one.
        """
        return None

    def callees(self) -> Iterator[tuple[str | None, Callee]]:
        """Give what it calls, by task name; None where it is the step, or each item."""
        if self.callee is not None:
            yield None, self.callee
        yield from self.tasks.items()

    def with_callees(self, change: Change) -> Action:
        """Give the action with something else in the place of each of its callees.

        Args:
            change: Gives what is called instead, of a task name as in ``callees``, and
                what is called now.

        Returns:
            The action itself where nothing has changed.
        """
        return self

    def without_input(self) -> Any:
        """Give it as it is without an input; itself where that is as one of None."""
        return self

    def checked(self, problems: list[Problem]) -> Self:
        """Say what is wrong with it, and give it as it is to be kept."""
        return self


class Callee(Action):
    """An action that may be called with a task's input, or an item, too."""

    __slots__ = ()

    @property
    def callee(self) -> Callee:
        """It itself."""
        return self

    def with_callees(self, change: Change) -> Action:
        """Give what is called instead."""
        return change(None, self)

    def is_given(self, name: str | None) -> bool:
        """Tell whether it is given a named input, or for None the only one."""
        return True

    def taken_of(self, inputs: Mapping[str, Any]) -> Mapping[str, Any]:
        """Give those of a step's named inputs that it is given; by default all."""
        return inputs


Change: TypeAlias = Callable[[str | None, Callee], Callee]


class Nested(Frozen, Callee):
    """The action of a step that runs a workflow, until both are frozen.

    Attributes:
        nested: The workflow. In a frozen workflow its ``Graph`` is the action.
    """

    __slots__ = ()
    kind = "workflow"

    nested: Any

    @property
    def name(self) -> str:
        """The workflow's name."""
        name: str = self.nested.name
        return name

    def __repr__(self) -> str:
        # All that is inside may be more than anybody can read.
        return f"Nested(nested={self.nested.name!r})"


class FanOut(Defined, Action):
    """The action of a parallel step: tasks that run side by side.

    Attributes:
        tasks: Task name to what it does.
        stop_on_failure: Whether a failure past the tolerated ones stops the others.
        tolerated: How many tasks may fail without the step failing.
        max_workers: How many tasks run at once; None for the executor's default.
        share: What of the tasks ``tolerated`` is, as ``"10%"``, where it was so given.
    """

    __slots__ = ()
    kind = "parallel"
    ordered = ("tasks",)  # which is the order of the output
    has_tasks = True

    tasks: Mapping[str, Callee]
    stop_on_failure: bool
    tolerated: float
    max_workers: int | None
    share: str | None = None

    def __reduce__(self) -> Any:
        tasks, *others = self._values
        return FanOut, (dict(tasks), *others)

    def with_callees(self, change: Change) -> FanOut:
        """Give the action with other tasks of the same names."""
        tasks = {name: change(name, task) for name, task in self.tasks.items()}
        if all(task is self.tasks[name] for name, task in tasks.items()):
            return self
        return self.replace(tasks=MappingProxyType(tasks))

    def without_input(self) -> FanOut:
        """Give the action with tasks that are given nothing."""
        return self.with_callees(lambda _, task: task.without_input())


class MapItems(Frozen, Action):
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

    __slots__ = ()
    __deepcopy__ = deep_copy
    kind = "map"
    has_tasks = True
    has_items = True

    call: Callee
    items: Callable[[Any], Iterable[Any]] | str | int | None
    batch_size: int
    stop_on_failure: bool
    tolerated: float | str
    max_workers: int | None
    keep_results: bool

    @property
    def callee(self) -> Callee:
        """What is called with each item."""
        return self.call

    @property
    def nested(self) -> Any:
        """The workflow that is run for each item; None for a function."""
        return self.call.nested

    def with_callees(self, change: Change) -> MapItems:
        """Give the action with another call."""
        call = change(None, self.call)
        return self if call is self.call else self.replace(call=call)

    def without_input(self) -> MapItems:
        """Give the action whose items are asked for without an input."""
        ask: Any = self.items
        if not callable(ask) or not has_default(ask):
            return self
        return self.replace(items=lambda _: ask())

    def checked(self, problems: list[Problem]) -> MapItems:
        """Say what is wrong with its items and its batches."""
        items: Any = self.items
        if callable(items):
            if problem := misfit(items, may_yield=True):
                text = f"items is {name_of(items)}, which {problem}"
                problems.append(Problem("items", text))
        elif items is not None and not isinstance(items, str | int):
            text = "items is a key of the step's input or a callable of it that gives "
            problems.append(Problem("items", f"{text}the items, not {items!r}"))
        if not is_count(self.batch_size, 1):
            text = f"batch_size is a whole number from 1, not {self.batch_size!r}"
            problems.append(Problem("batch_size", text))
        return self


def is_count(value: Any, least: int) -> bool:
    """Tell a whole number that is not below the least."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


class Wait(Frozen, Action):
    """The action of a wait step: time passes, and its input goes on.

    Attributes:
        seconds: How long to wait, or a callable of the input that says it.
        until: When to go on, or a callable of the input that says it; one of the two
            is None.
    """

    __slots__ = ()
    __deepcopy__ = deep_copy
    kind = "wait"
    is_one_call = True

    seconds: float | Callable[[Any], float] | None
    until: datetime | Callable[[Any], datetime] | None

    @property
    def wants_context(self) -> bool:
        """Whether it must be given the context."""
        return True

    def checked(self, problems: list[Problem]) -> Wait:
        """Say what is wrong with its times."""
        seconds, until = self.seconds, self.until
        if (seconds is None) is (until is None):
            text = "give seconds, or until"
            problems.append(Problem((), text, "; one of the two"))
        for what, given, problem_of in (
            ("seconds", seconds, seconds_problem),
            ("until", until, until_problem),
        ):
            if callable(given):
                if problem := misfit(given):
                    text = f"{what} is {name_of(given)}, which {problem}"
                    problems.append(Problem(what, text))
            elif given is not None and (problem := problem_of(given)):
                problems.append(Problem(what, problem))
        return self

    def __call__(self, value: Any, context: Context | None = None) -> Any:
        """Wait, or until the execution is to stop, and give the input back.

        Raises:
            ValueError: If a callable gives what cannot be waited for.
            ExecutionCancelledError: If the execution is to stop.
        """
        assert context is not None
        what, kept = f"step {context.step!r}", context._kept
        left = None if kept is None else kept.left_of_wait()
        if left is not None:  # it was chosen before this process began
            context.sleep(to_pass(what, left, context._cancellation))
            return value
        if self.until is None:
            chosen: Any = self.seconds
            seconds = answer(chosen, value) if callable(chosen) else chosen
            seconds = in_seconds(seconds)
            problem = seconds_problem(seconds)
            if problem:
                raise ValueError(f"{what} cannot wait: {problem}")
            seconds = float(seconds)
            if kept is not None:
                seconds = kept.pause(seconds)
            context.sleep(to_pass(what, seconds, context._cancellation))
            return value
        until: Any = self.until
        if callable(until):
            until = answer(until, value)
        problem = until_problem(until)
        if problem:
            raise ValueError(f"{what} cannot wait: {problem}")
        left = max(0.0, seconds_until(until))
        if kept is not None:
            kept.pause(left)
        left = to_pass(what, left, context._cancellation)
        while left > 0:
            context.sleep(min(left, _LONGEST_TRUST))
            left = seconds_until(until)
        return value


# What nobody can change, so that executions may share it.
_UNCHANGING = (str, int, float, bool, type(None), bytes)


class Pass(Frozen, Action):
    """The action of a pass step: its input, or a constant, goes on.

    Attributes:
        is_constant: Whether it is the constant.
        result: The constant.
    """

    __slots__ = ()
    kind = "pass"
    is_one_call = True

    is_constant: bool = False
    result: Any = None

    @property
    def plain(self) -> Callable[[Any], Any]:
        """What is called with its input: it itself."""
        return self.__call__

    def checked(self, problems: list[Problem]) -> Pass:
        """Copy the constant, or say that it cannot be copied."""
        if not self.is_constant:
            return self
        from copy import deepcopy  # dear

        try:
            return Pass(True, deepcopy(self.result))
        except Exception as error:
            text = (
                f"result is {short_repr(self.result)}, which cannot be copied for each "
                f"execution ({error_text(error)})"
            )
            hint = "; let the function of a step make it"
            problems.append(Problem("result", text, hint))
            return self

    def __call__(self, value: Any, context: Context | None = None) -> Any:
        """Give what goes on, of a constant that can be changed a copy."""
        if not self.is_constant:
            return value
        if type(self.result) in _UNCHANGING:
            return self.result
        from copy import deepcopy  # dear

        return deepcopy(self.result)


class Fail(Frozen, Action):
    """The action of a fail step: the execution ends here, and has failed.

    Attributes:
        error: The name of the error.
        cause: What a person should know of it; None for nothing.
    """

    __slots__ = ()
    kind = "fail"
    is_one_call = True
    always_fails = True

    error: str
    cause: str | None = None

    @property
    def plain(self) -> Callable[[Any], Any]:
        """What is called with its input: it itself."""
        return self.__call__

    def checked(self, problems: list[Problem]) -> Fail:
        """Say what is wrong with the error's name and cause."""
        error: Any = self.error
        if not isinstance(error, str) or not error:
            hint = f"; give {error.__name__!r}" if isinstance(error, type) else ""
            text = f"error is the name of an error, not {error!r}"
            problems.append(Problem("error", text, hint))
        cause: Any = self.cause
        if cause is not None and not isinstance(cause, str):
            problems.append(Problem("cause", f"cause is a text, not {cause!r}"))
        return self

    def __call__(self, value: Any, context: Context | None = None) -> NoReturn:
        """Fail.

        Raises:
            FailStepError: Always.
        """
        text = self.error if self.cause is None else f"{self.error}: {self.cause}"
        raise FailStepError(text, self.error, self.cause)
