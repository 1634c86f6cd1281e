"""Results: what a parallel step, or a map step, gives or fails with."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Self, TypeVar

from stepfunction.core.errors import ParallelStepExecutionError
from stepfunction.core.outcomes import Outcome
from stepfunction.core.wording import error_text, listed

__tracebackhide__ = True  # pytest shows the test and what is called, not us

_MOST_NAMED = 5


_NOTHING: Mapping[Any, Any] = MappingProxyType({})


class _Tolerant:
    """What results have that may hold failures in the place of some of them."""

    _failure: ParallelStepExecutionError | None = None

    def _failed(self) -> Mapping[Any, BaseException]:
        # One that is read back may not have them from the first.
        return _NOTHING if self._failure is None else self._failure.errors

    def raise_if_failed(self) -> Self:
        """Raise if any task, or item, failed.

        Returns:
            The results themselves, if none did.

        Raises:
            ParallelStepExecutionError: If any did, caused by the first in time.
        """
        if self._failure is not None:
            raise self._failure.with_traceback(None)
        return self


Tolerant = TypeVar("Tolerant", bound=_Tolerant)


def tolerating(
    results: Tolerant, failure: ParallelStepExecutionError | None
) -> Tolerant:
    """Give results with the failure that their step tolerates; None for none."""
    if failure is not None:
        results._failure = failure
    return results


class TaskResults(_Tolerant, dict[str, Any]):
    """The output of a parallel step: task name to result, in declaration order.

    Where the step tolerates failures, a failed task's place holds its exception.
    """

    def __init__(
        self,
        results: Mapping[str, Any] = _NOTHING,
        failure: ParallelStepExecutionError | None = None,
    ) -> None:
        super().__init__(results)
        tolerating(self, failure)

    @property
    def failed(self) -> Mapping[str, BaseException]:
        """Task name to exception, for the tasks that failed, as they failed."""
        return self._failed()

    def __reduce__(self) -> Any:
        return TaskResults, (dict(self), self._failure)


class MapResults(_Tolerant, list[Any]):
    """The output of a map step: the results, in the order of the items.

    Where the step tolerates failures, a failed item's place holds its exception.
    """

    def __init__(
        self,
        results: Iterable[Any] = (),
        failure: ParallelStepExecutionError | None = None,
    ) -> None:
        super().__init__(results)
        tolerating(self, failure)

    @property
    def failed(self) -> Mapping[int, BaseException]:
        """Index to exception, for the items that failed, as they failed."""
        return self._failed()

    @property
    def outcomes(self) -> Mapping[int, Outcome]:
        """Index to outcome, for every item."""
        if self._failure is None:
            return ItemOutcomes(len(self), {})
        return self._failure.outcomes

    def __reduce__(self) -> Any:
        return MapResults, (list(self), self._failure)


class ItemOutcomes(Mapping[int, Outcome]):
    """Index to outcome, for every item of a map step.

    Args:
        count: How many items there were.
        others: The outcomes of those that did not succeed.
    """

    def __init__(self, count: int, others: Mapping[int, Outcome]) -> None:
        self._count = count
        self._others = others

    def __getitem__(self, index: int) -> Outcome:
        if index not in range(self._count):
            raise KeyError(index)
        return self._others.get(index, Outcome.SUCCEEDED)

    def __iter__(self) -> Iterator[int]:
        return iter(range(self._count))

    def __len__(self) -> int:
        return self._count

    def __repr__(self) -> str:
        return f"<outcomes of {self._count} items, {len(self._others)} did not succeed>"


class ItemResults(Mapping[int, Any]):
    """Index to result, for the items of a map step that succeeded.

    Args:
        results: What came of each item.
        others: Those of them that did not succeed.
    """

    def __init__(self, results: Sequence[Any], others: Collection[int]) -> None:
        self._results = results
        self._others = others

    def __getitem__(self, index: int) -> Any:
        if index not in range(len(self._results)) or index in self._others:
            raise KeyError(index)
        return self._results[index]

    def __iter__(self) -> Iterator[int]:
        indexes = range(len(self._results))
        return (index for index in indexes if index not in self._others)

    def __len__(self) -> int:
        # Without results, as by keep_results=False, there are others all the same.
        return max(0, len(self._results) - len(self._others))

    def __repr__(self) -> str:
        return f"<results of {len(self)} items>"


def parallel_failure(
    step: str,
    who: str,
    outcomes: Mapping[Any, Outcome],
    results: Mapping[Any, Any],
    errors: Mapping[Any, BaseException],
) -> ParallelStepExecutionError:
    """Give the error of a parallel step, or of a map step.

    Args:
        step: The name of the step.
        who: How many of how many have failed, as text.
        outcomes: Task name, or index of the item, to outcome.
        results: The same to result, for those that succeeded.
        errors: The same to exception, for those that failed, as they failed.
    """
    named = listed(
        errors, _MOST_NAMED, "; ", lambda it: f"{it!r}: {error_text(errors[it])}"
    )
    failure = ParallelStepExecutionError(
        f"{who} of step {step!r} failed: {named}",
        step,
        outcomes,
        results,
        errors,
    )
    failure.__cause__ = next(iter(errors.values()))
    return failure
