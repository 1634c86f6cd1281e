"""Counts: how many items there were of a map step, and what became of them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from stepfunction.core.definition.graph import Step
from stepfunction.core.errors import ParallelStepExecutionError
from stepfunction.core.history.records import StepRecord
from stepfunction.core.history.results import MapResults
from stepfunction.core.outcomes import Outcome
from stepfunction.core.raised import is_a
from stepfunction.core.wording import counted


class ItemCounts(NamedTuple):
    """How many items of a map step ended, and how.

    Attributes:
        total: All that were taken.
        succeeded: Those that succeeded.
        failed: Those that failed; others were stopped.
    """

    total: int
    succeeded: int
    failed: int

    @property
    def text(self) -> str:
        """Say it in a few words."""
        if self.succeeded == self.total:
            return counted(self.total, "item")
        return f"{self.succeeded:,} of {self.total:,} items"


def is_map(step: Step | None) -> bool:
    """Tell a map step; one that is not known is none."""
    return step is not None and step.action.has_items


def part_name(part: str | int, step: Step | None) -> str:
    """Give what pictures call a task or an item of a step."""
    return f"item {part}" if is_map(step) else str(part)


def item_counts(record: StepRecord, step: Step | None) -> ItemCounts | None:
    """Count the items of a map step by its output, or by what it failed with.

    The records of items are no help, for most have none.

    Args:
        record: What the step did.
        step: What it is; None where that is not known.

    Returns:
        How many there were; None where nothing tells, and of any other step.
    """
    if not is_map(step) or record.part is not None:
        return None
    output, error = record.output, record.error
    if is_a(output, MapResults):
        failed = len(output.failed)
        return ItemCounts(len(output), len(output) - failed, failed)
    if type(output) is dict and output and all(
        isinstance(key, Outcome) and type(count) is int for key, count in output.items()
    ):
        return _counted(output)
    if is_a(error, ParallelStepExecutionError):
        # Of an error that comes from a nested workflow the step is another.
        keys: Iterable[Any] = error.outcomes
        if error.step == record.step and all(type(key) is int for key in keys):
            counts: dict[Outcome, int] = {}
            for outcome in error.outcomes.values():
                counts[outcome] = counts.get(outcome, 0) + 1
            return _counted(counts)
    return None


def _counted(counts: dict[Outcome, int]) -> ItemCounts:
    total, succeeded = sum(counts.values()), counts.get(Outcome.SUCCEEDED, 0)
    stopped = sum(counts.get(outcome, 0) for outcome in _STOPPED)
    return ItemCounts(total, succeeded, total - succeeded - stopped)


_STOPPED = (Outcome.CANCELLED, Outcome.KILLED, Outcome.SKIPPED)
