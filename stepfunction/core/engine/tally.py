"""Tally: what has come of the items of a map step, and the visit that it makes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from math import inf
from typing import Any

from stepfunction.core.clock import perf_counter
from stepfunction.core.definition.actions import MapItems
from stepfunction.core.definition.arguments import share
from stepfunction.core.engine.tasks import PastTask, StepTask
from stepfunction.core.history.records import Visit
from stepfunction.core.history.results import (
    ItemOutcomes,
    ItemResults,
    MapResults,
    parallel_failure,
    tolerating,
)
from stepfunction.core.outcomes import SUCCEEDED, Outcome
from stepfunction.core.watching.telling import News
from stepfunction.core.workers.tasks import Task

# The items of a long map step that have a record of their own, however they ended.
_MOST_RECORDED = 1000
# The failures that are remembered where results are not.
_MOST_REMEMBERED = 100
# How many seconds pass at least between two events of how far it has got.
_BETWEEN_NEWS = 0.1


class Tally:
    """What has come so far of the items of one visit of a map step.

    Args:
        action: The action of the step.
        step: The name of the step.
        total: How many items there are; None if that is not known yet.
        news: Who tells how far it has got; None where nobody listens.

    Attributes:
        total: How many items there are; None if that is not known.
        taken: How many have been taken from where they come from.
        has_all: Whether that was all.
    """

    def __init__(
        self, action: MapItems, step: str, total: int | None, news: News | None
    ) -> None:
        self.total = total
        self.taken = 0
        self.has_all = False
        self._action = action
        self._step = step
        self._news = news
        self._told = perf_counter()
        self._done = self._failures = 0
        self._results = MapResults()
        self._counts = Counter({SUCCEEDED: 0})
        self._outcomes: dict[int, Outcome] = {}  # of those that did not succeed
        self._errors: dict[int, BaseException] = {}  # as they failed
        self._visits: dict[int, Visit] = {}

    def take(self, first: int, results: list[Any], again: int) -> None:
        """Take what came of items that travelled together.

        Args:
            first: The index of the first.
            results: What came of each.
            again: How many of them are heard of again, as those that failed.
        """
        self._keep(first, results)
        self._count(SUCCEEDED, len(results) - again)

    def leave_out(self, first: int, count: int, outcome: Outcome) -> None:
        """Take note of items that are not called, or not again.

        Args:
            first: The index of the first.
            count: How many they are.
            outcome: What counts as their outcome.
        """
        self._count(outcome, count)
        if self._action.keep_results:
            indexes = range(first, first + count)
            self._outcomes.update(dict.fromkeys(indexes, outcome))

    def records_any(self, index: int) -> bool:
        """Say whether an item has a record of its own however it ends."""
        return self._action.keep_results and index < _MOST_RECORDED

    def end(self, task: StepTask | PastTask) -> None:
        """Take note of the end of an item."""
        index: Any = task.key
        outcome = task.outcome or Outcome.CANCELLED
        keeps = self._action.keep_results
        if outcome is SUCCEEDED:
            self._keep(index, [task.output])
        elif keeps or len(self._outcomes) < _MOST_REMEMBERED:
            self._outcomes[index] = outcome
            if task.error is not None:
                self._errors[index] = task.error
                self._keep(index, [task.error])
        self._failures += task.error is not None
        is_notable = outcome is not SUCCEEDED or len(task.attempts) > 1
        is_undone = task.child is not None and getattr(
            self._action.call, "has_compensations", False
        )
        if keeps:
            is_recorded = is_notable or is_undone or self.records_any(index)
        else:
            is_recorded = is_undone or (
                is_notable and len(self._visits) < _MOST_REMEMBERED
            )
        if is_recorded:
            self._visits[index] = task.visit()
        self._count(outcome, 1)

    def _keep(self, first: int, results: list[Any]) -> None:
        if self._action.keep_results:
            missing = first - len(self._results)
            if missing > 0:  # of those that have begun before and not ended yet
                self._results += [None] * missing
            self._results[first : first + len(results)] = results

    def _count(self, outcome: Outcome, count: int) -> None:
        self._counts[outcome] += count
        self._done += count
        if self._news is not None and perf_counter() - self._told >= _BETWEEN_NEWS:
            self._tell()

    def _tell(self) -> None:
        if self._news is not None:
            self._told = perf_counter()
            self._news.progressed(self._done, self.total)

    def is_enough(self, task: Task) -> bool:
        """Say, after a failed item, whether the others are to be stopped."""
        # It is counted when it has ended.
        return self._action.stop_on_failure and self._failures + 1 > self._tolerated

    @property
    def _tolerated(self) -> float:
        tolerated = self._action.tolerated
        if isinstance(tolerated, str):
            return inf if self.total is None else share(tolerated, self.total)
        return tolerated

    def visit(self) -> Visit:
        """Make one visit of what came of all items."""
        self._tell()
        failure = None
        if self._errors:
            outcomes: Mapping[int, Outcome] = self._outcomes
            if self._action.keep_results:
                outcomes = ItemOutcomes(self.taken, outcomes)
            failure = parallel_failure(
                self._step,
                f"{self._failures} of {self.taken} items",
                outcomes,
                ItemResults(self._results, self._outcomes),
                self._errors,
            )
            if self._failures > self._tolerated:
                return self.broken_visit(Outcome.FAILED, failure)
        has_ended = self._done == self._counts[SUCCEEDED] + self._failures
        if not (self.has_all and has_ended):
            return self.broken_visit(Outcome.CANCELLED)
        output: Any = dict(self._counts)
        if self._action.keep_results:
            output = tolerating(self._results, failure)
        return Visit(self._step, SUCCEEDED, output=output, tasks=self.visits())

    def broken_visit(
        self, outcome: Outcome, error: BaseException | None = None
    ) -> Visit:
        """Make one visit where the step has not succeeded.

        Its output, which no record shows, is what may have to be undone.
        """
        results = ItemResults(self._results, self._outcomes)
        return Visit(self._step, outcome, (), results, error, self.visits())

    def visits(self) -> tuple[Visit, ...]:
        """Give the visits of the items that have one, in order. Any thread may."""
        return tuple(self._visits[index] for index in sorted(self._visits))
