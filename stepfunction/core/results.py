"""Results: what a parallel step gives, or fails with."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from stepfunction.core.errors import ParallelStepExecutionError, error_text
from stepfunction.core.execution import Outcome


class TaskResults(dict[str, Any]):
    """The output of a parallel step: task name to result, in declaration order.

    Where the step tolerates failures, a failed task's place holds its exception.

    Attributes:
        failed: Task name to exception, for the tasks that failed.
    """

    def __init__(
        self,
        results: Mapping[str, Any] = MappingProxyType({}),
        failed: Mapping[str, BaseException] = MappingProxyType({}),
        step: str = "",
    ) -> None:
        super().__init__(results)
        self.failed = dict(failed)
        self._step = step

    def raise_if_failed(self) -> TaskResults:
        """Raise if any task failed.

        Returns:
            The results themselves, if none did.

        Raises:
            ParallelStepExecutionError: If any did, caused by the first of them.
        """
        if not self.failed:
            return self
        raise parallel_failure(
            self._step,
            {
                name: Outcome.FAILED if name in self.failed else Outcome.SUCCEEDED
                for name in self
            },
            {name: self[name] for name in self if name not in self.failed},
            self.failed,
            next(iter(self.failed.values())),
        )

    def __reduce__(self) -> Any:
        return TaskResults, (dict(self), self.failed, self._step)


def parallel_failure(
    step: str,
    outcomes: Mapping[str, Outcome],
    results: Mapping[str, Any],
    errors: Mapping[str, BaseException],
    first: BaseException,
) -> ParallelStepExecutionError:
    """Give the error of a parallel step that tolerates fewer failures than it had."""
    named = "; ".join(f"{name!r}: {error_text(errors[name])}" for name in errors)
    failure = ParallelStepExecutionError(
        f"{len(errors)} of {len(outcomes)} tasks of step {step!r} failed: {named}",
        step,
        outcomes,
        results,
        errors,
    )
    failure.__cause__ = first
    return failure
