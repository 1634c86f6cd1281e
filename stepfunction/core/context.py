"""Context: what a step's function may ask of its execution."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from stepfunction.core.cancellation import Cancellation
from stepfunction.core.errors import TransferError
from stepfunction.core.execution import StepRecord


class Context(Mapping[str, Any]):
    """A read-only mapping of step name to output, or exception, so far.

    A step's function is given one for a parameter that is annotated ``Context``,
    or is named ``context`` and does not take the step's input.

    Attributes:
        execution_id: The ``id`` of the execution.
        step: The name of the step.
        task: The name of the task; None outside parallel steps.
        attempt: Which call of the function this is, counted from 1.
        failure: The record of the failed step that led here by ``on_failure``, with
            its ``input``, ``attempts`` and ``error``; None on the main path.
    """

    __slots__ = (
        "execution_id",
        "step",
        "task",
        "attempt",
        "failure",
        "_cancellation",
        "_results",
    )

    def __init__(
        self,
        execution_id: str,
        step: str,
        task: str | None = None,
        attempt: int = 1,
        failure: StepRecord | None = None,
        cancellation: Cancellation | None = None,
        results: Mapping[str, Any] | None = None,
    ) -> None:
        self.execution_id = execution_id
        self.step = step
        self.task = task
        self.attempt = attempt
        self.failure = failure
        self._cancellation = cancellation
        self._results = results

    @property
    def cancelled(self) -> bool:
        """Whether the step should stop: a sibling failed, or somebody cancelled.

        Always False in another process, which is killed instead.
        """
        return self._cancellation is not None and self._cancellation.requested

    def __getitem__(self, step: str) -> Any:
        return self._here(step)[step]

    def __iter__(self) -> Iterator[str]:
        return iter(self._here("…"))

    def __len__(self) -> int:
        return len(self._here("…"))

    def __repr__(self) -> str:
        where = repr(self.step) if self.task is None else f"{self.step!r}.{self.task!r}"
        return f"<Context of {where}, attempt {self.attempt}>"

    def _here(self, step: str) -> Mapping[str, Any]:
        if self._results is None:
            raise TransferError(
                f"context[{step!r}] is not to be had in another process, which is sent "
                f"the input of step {self.step!r} alone; let an earlier step return "
                "what this one needs, or use executor='thread'"
            )
        return self._results

    def __reduce__(self) -> Any:
        failure = self.failure
        return Context, (
            self.execution_id,
            self.step,
            self.task,
            self.attempt,
            failure and _portable_record(failure),
        )


def _portable_record(record: StepRecord) -> StepRecord:
    from stepfunction.core.envelope import portable

    return record._replace(input=portable(record.input), child=None)
