"""Rows: the lines of a report's timeline, one for all that ran, however deep."""

from __future__ import annotations

from typing import NamedTuple

from stepfunction.core.definition.graph import Graph, Step
from stepfunction.core.history.execution import Execution, journal_of
from stepfunction.core.history.records import StepRecord
from stepfunction.core.outcomes import Outcome
from stepfunction.drawing.counts import (
    ItemCounts,
    is_map,
    item_counts,
    part_name,
)


class Row(NamedTuple):
    """A line of the timeline.

    Attributes:
        number: Its place in the page.
        record: What it tells of.
        depth: How deep it is nested.
        path: The names that lead to it, its own last.
        follower: The row of the step that followed; None where none did.
        step: What the graph says of its step; None where there is no graph.
        is_undoing: Whether it tells of a compensation.
    """

    number: int
    record: StepRecord
    depth: int
    path: tuple[str, ...]
    follower: int | None
    step: Step | None = None
    is_undoing: bool = False

    @property
    def name(self) -> str:
        """The name of its step, task, item or compensation."""
        return self.path[-1]

    @property
    def is_task(self) -> bool:
        """Whether it tells of a task of a parallel step."""
        is_part = not self.is_undoing and self.record.part is not None
        return is_part and not is_map(self.step)

    @property
    def is_step(self) -> bool:
        """Whether it tells of a step."""
        return not self.is_undoing and self.record.part is None

    @property
    def is_running(self) -> bool:
        """Whether it has not ended yet."""
        return self.record.outcome is None

    @property
    def is_trouble(self) -> bool:
        """Whether it ended, and did not succeed."""
        return self.record.outcome not in (Outcome.SUCCEEDED, None)

    @property
    def items(self) -> ItemCounts | None:
        """How many items there were, of a map step."""
        return item_counts(self.record, self.step) if self.is_step else None


def rows_of(execution: Execution) -> list[Row]:
    """Give the rows of an execution, and of all that is nested in it."""
    rows: list[Row] = []
    _add_rows(rows, execution, (), 0)
    return rows


def _add_rows(
    rows: list[Row], it: Execution, path: tuple[str, ...], depth: int
) -> None:
    graph: Graph | None = it.graph  # which a pickle leaves behind
    table = {} if graph is None else graph.table
    latest: int | None = None  # the row of the step before
    own_path = step_path = path
    for record in it.history:
        number, part, step = len(rows), record.part, table.get(record.step)
        own_depth = depth
        if part is None:
            if latest is not None:
                rows[latest] = rows[latest]._replace(follower=number)
            latest, own_path = number, (*path, record.step)
            step_path = own_path
        else:
            own_path, own_depth = (*step_path, part_name(part, step)), depth + 1
        rows.append(Row(number, record, own_depth, own_path, None, step))
        if record.child is not None:
            _add_rows(rows, record.child, own_path, own_depth + 1)
    for record in it.compensations:
        part, step = record.part, table.get(record.step)
        name = f"undo {record.step}"
        if part is not None:
            name += f" / {part_name(part, step)}"
        rows.append(Row(len(rows), record, depth, (*path, name), None, step, True))


def culprits_of(execution: Execution, rows: list[Row]) -> tuple[int, ...]:
    """Give the rows from the step that failed to what made it fail."""
    blame = journal_of(execution).blame
    if blame is None:
        return ()
    failed = [it for it in rows if it.record.error is not None and not it.is_undoing]
    found = [
        row
        for row in failed
        if row.path == (blame.step,) and row.record.error is blame.error
    ][-1:]
    while found:
        top = found[-1]
        inner = [
            row
            for row in failed
            if row.number > top.number and row.path[:-1] == top.path
        ]
        if not inner:
            break
        # The first in time is what made the rest fail.
        found.append(min(inner, key=lambda row: _ended(row.record)))
    return tuple(row.number for row in found)


def _ended(record: StepRecord) -> float:
    return float("inf") if record.started is None else record.started + record.duration
