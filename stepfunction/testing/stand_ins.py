"""Stand-ins: what is called in the place of a step's function."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from inspect import Parameter
from typing import Any, NamedTuple, NoReturn

from stepfunction.core.context import Context
from stepfunction.core.definition.calls import Call
from stepfunction.core.definition.doors import Workflow
from stepfunction.core.definition.signatures import bind
from stepfunction.core.errors import ParallelStepExecutionError, StepFunctionError
from stepfunction.core.history.results import MapResults, TaskResults, parallel_failure
from stepfunction.core.outcomes import Outcome
from stepfunction.core.raised import is_a
from stepfunction.core.wording import counted
from stepfunction.testing.tallies import Tally
from stepfunction.testing.ways import Spot

__tracebackhide__ = True  # pytest shows the test and what is called, not us


class UsedUpError(StepFunctionError, AssertionError):
    """A list of results was used up, and there was one more call."""


class returning(NamedTuple):
    """A result that is given as it is, where it would be read as something else.

    That is a list, which would be one result a call, a callable, which would be
    called, or an exception, which would be raised.

    Attributes:
        value: What the step gives.

    >>> returning([1, 2])
    returning(value=[1, 2])
    """

    value: Any


class _Given(NamedTuple):
    result: Any

    def __call__(self, value: Any, context: Context | None) -> Any:
        return self.result


class _Raised(NamedTuple):
    error: BaseException | type[BaseException]

    def __call__(self, value: Any, context: Context | None) -> NoReturn:
        if is_a(self.error, BaseException):
            # Each time it is raised its traceback would become longer.
            raise BaseException.with_traceback(self.error, None)
        raise self.error


class StandIn:
    """Gives results in the place of a step or task, and counts its calls.

    Args:
        what: What messages call it: ``"the mock of step 'Pay'"``.
        spot: Whose place it takes.
        given: A value, an exception, a callable, or a list of these.
        as_whole: Whether it stands in for a whole map step, and not for its calls.
    """

    def __init__(
        self, what: str, spot: Spot, given: Any, as_whole: bool = False
    ) -> None:
        self.what = what
        self.tally = Tally(what)
        self.is_list = is_a(given, list)
        self.gives_tasks = bool(spot.action.tasks)
        self.gives_items = as_whole and spot.action.has_items
        self.step = spot.step.name
        self.problems: list[str] = []
        results = given if is_a(given, list) else [given]
        if not results:
            self.problems.append(
                "an empty list is no result; one a call is taken from a list, so give "
                "returning([]) for a step that returns one"
            )
        self.results = tuple(self._read(spot, result) for result in results)
        self.__qualname__ = "its mock"  # in messages about what it stands for

    @property
    def action(self) -> Call:
        """What makes it the action of a step."""
        return Call(self, context_name="context")

    @property
    def is_used_up(self) -> bool:
        """Whether there were more calls than results."""
        return self.is_list and self.tally.count > len(self.results)

    def complaint(self, count: int) -> UsedUpError:
        """Give the error of being used up after so many calls."""
        had = counted(len(self.results), "result")
        return UsedUpError(
            f"{self.what} was given {had} and is "
            f"called {count} times; give it one more for each call, loops and retries "
            "included, or a callable"
        )

    def __call__(self, value: Any, context: Context | None = None) -> Any:
        """Give the result of this call.

        Raises:
            UsedUpError: If there is none left.
            BaseException: What the result is, or raises.
        """
        number = self.tally.note(value)
        if self.is_list and number > len(self.results):
            raise self.complaint(number)
        result = self.results[number - 1 if self.is_list else 0]
        return self._as_output(result(value, context))

    def _read(self, spot: Spot, result: Any) -> _Given | _Raised | Call:
        """Give what gives a result, raises it, or calls it."""
        if is_a(result, returning):
            return _Given(result.value)
        if is_a(result, BaseException) or (
            is_a(result, type) and issubclass(result, BaseException)
        ):
            return _Raised(result)
        if is_a(result, Workflow):
            self.problems.append(
                f"workflow {result.name!r} is no result; give what it gives, or mock "
                f"steps of a nested workflow, as in {spot.text + '/…'!r}"
            )
        elif callable(result):
            called = _bound(result, spot)
            if not isinstance(called, list):
                return called
            self.problems += called
        return _Given(result)

    def _as_output(self, output: Any) -> Any:
        """Give an output as the engine would."""
        if self.gives_items and is_a(output, list):
            return MapResults(output, self._failure(dict(enumerate(output)), "items"))
        if self.gives_tasks and type(output) is dict:
            return TaskResults(output, self._failure(output, "tasks"))
        return output

    def _failure(
        self, output: Mapping[Any, Any], what: str
    ) -> ParallelStepExecutionError | None:
        """Give what ``raise_if_failed()`` of an output raises; None if nothing."""
        errors = {k: v for k, v in output.items() if is_a(v, BaseException)}
        if not errors:
            return None
        results = {key: it for key, it in output.items() if key not in errors}
        outcomes = {
            **dict.fromkeys(output, Outcome.SUCCEEDED),
            **dict.fromkeys(errors, Outcome.FAILED),
        }
        who = f"{len(errors)} of {len(output)} {what}"
        return parallel_failure(self.step, who, outcomes, results, errors)


def _bound(function: Callable[..., Any], spot: Spot) -> Call | list[str]:
    """Decide how a mock is called: as what it stands for, as far as it takes that."""
    callee: Any = spot.action.callee
    is_function = callee is not None and callee.is_one_call
    params: Mapping[str, Any] = callee.params if is_function else {}
    inputs = tuple(name for name, _ in spot.step.inputs or () if not spot.undoes)
    taken = _keywords(function, (*params, *inputs))
    call = bind(function, {name: params.get(name) for name in taken})
    if isinstance(call, list):
        return [
            f"{problem.text}; a mock is given the step's input, and of "
            "its params, its named inputs and the context those that it takes by name"
            for problem in call
        ]
    return call.replace(
        params={name: it for name, it in call.params.items() if name not in inputs},
        named_inputs=tuple(name for name in inputs if name in taken),
    )


def _keywords(function: Callable[..., Any], names: tuple[str, ...]) -> list[str]:
    """Give those of some names that a function takes by keyword."""
    if not names:
        return []
    try:
        parameters = inspect.signature(function).parameters.values()
    except (ValueError, TypeError):  # a builtin that does not tell
        return []
    if any(it.kind is Parameter.VAR_KEYWORD for it in parameters):
        return list(names)
    kinds = (Parameter.POSITIONAL_OR_KEYWORD, Parameter.KEYWORD_ONLY)
    return [it.name for it in parameters if it.name in names and it.kind in kinds]
