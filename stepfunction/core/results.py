"""Results: what a parallel step gives, or fails with."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from stepfunction.core.errors import ParallelStepExecutionError, error_text
from stepfunction.core.execution import Outcome, Visit

_MOST_NAMED = 5


class TaskResults(dict[str, Any]):
    """The output of a parallel step: task name to result, in declaration order.

    Where the step tolerates failures, a failed task's place holds its exception.

    Attributes:
        failed: Task name to exception, for the tasks that failed, as they failed.
    """

    def __init__(
        self,
        results: Mapping[str, Any] = MappingProxyType({}),
        failure: ParallelStepExecutionError | None = None,
    ) -> None:
        super().__init__(results)
        self._failure = failure
        self.failed: Mapping[str, BaseException] = failure.errors if failure else {}

    def raise_if_failed(self) -> TaskResults:
        """Raise if any task failed.

        Returns:
            The results themselves, if none did.

        Raises:
            ParallelStepExecutionError: If any did, caused by the first in time.
        """
        if self._failure is not None:
            raise self._failure.with_traceback(None)
        return self

    def __reduce__(self) -> Any:
        return TaskResults, (dict(self), self._failure)


class MapResults(list[Any]):
    """The output of a map step: the results, in the order of the items.

    Where the step tolerates failures, a failed item's place holds its exception.

    Attributes:
        failed: Index to exception, for the items that failed, as they failed.
    """

    def __init__(
        self,
        results: Iterable[Any] = (),
        failure: ParallelStepExecutionError | None = None,
    ) -> None:
        super().__init__(results)
        self._failure = failure
        self.failed: Mapping[int, BaseException] = {}
        if failure is not None:
            self.failed = {int(index): error for index, error in failure.errors.items()}

    def raise_if_failed(self) -> MapResults:
        """Raise if any item failed.

        Returns:
            The results themselves, if none did.

        Raises:
            ParallelStepExecutionError: If any did, caused by the first in time.
        """
        if self._failure is not None:
            raise self._failure.with_traceback(None)
        return self

    def __reduce__(self) -> Any:
        return MapResults, (list(self), self._failure)


def parallel_failure(
    step: str, tasks: Sequence[Visit], errors: Mapping[str, BaseException]
) -> ParallelStepExecutionError:
    """Give the error of a parallel step.

    Args:
        step: The name of the step.
        tasks: How its tasks ended.
        errors: Task name to exception, for the tasks that failed, as they failed.
    """
    named = [f"{name!r}: {error_text(error)}" for name, error in errors.items()]
    if len(named) > _MOST_NAMED:
        named[_MOST_NAMED:] = [f"and {len(named) - _MOST_NAMED} more"]
    failure = ParallelStepExecutionError(
        f"{len(errors)} of {len(tasks)} tasks of step {step!r} failed: "
        + "; ".join(named),
        step,
        {task.name: task.outcome for task in tasks},
        {task.name: task.output for task in tasks if task.outcome is Outcome.SUCCEEDED},
        errors,
    )
    failure.__cause__ = next(iter(errors.values()))
    return failure
