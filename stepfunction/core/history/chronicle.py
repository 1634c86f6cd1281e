"""Chronicle: what people read of a journal, made when it is looked at."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from stepfunction.core.clock import perf_counter
from stepfunction.core.errors import StepLimitError
from stepfunction.core.history.journal import Journal, name_of
from stepfunction.core.history.position import Blame, Failed
from stepfunction.core.history.records import (
    StepRecord,
    Visit,
    as_visit,
    since,
    task_record,
    visit_record,
)
from stepfunction.core.outcomes import SUCCEEDED, UNDER_WAY, Outcome, Status
from stepfunction.core.raised import is_a


def visits_of(journal: Journal) -> tuple[list[tuple[Visit, float]], Visit | None]:
    """Give each step as its visit and when it ended, and that under way."""
    entries, present = _now(journal)
    noted = map(as_visit, entries[::3], entries[2::3])
    return list(zip(noted, entries[1::3])), present


def records_of(journal: Journal) -> Iterator[StepRecord]:
    """Give the record of each step, after it those of its tasks."""
    entries, present = _now(journal)
    epoch = journal.run.epoch
    noted = entries[::3]
    names = map(name_of, noted[1:])
    last = None if present is None else present.name
    value, began = journal.input, journal.began
    for entry, ended, output, follower in zip(
        noted, entries[1::3], entries[2::3], [*names, last]
    ):
        if type(entry) is str:
            start, seconds = epoch + began, since(began, ended)
            facts = (value, output, None, start, seconds, (), follower, None)
            yield StepRecord(entry, None, SUCCEEDED, *facts)
        else:
            visit = as_visit(entry, output)
            record = visit_record(epoch, visit, value, began, ended, follower)
            yield record
            for task in visit.tasks:
                yield task_record(epoch, visit.name, task, record.input)
        value, began = output, ended
    if present is not None:
        now = perf_counter() if journal.is_live else journal.ended
        record = visit_record(epoch, present, value, began, now, None)
        yield record
        for task in present.tasks:
            yield task_record(epoch, present.name, task, record.input, now)


def _now(journal: Journal) -> tuple[list[Any], Visit | None]:
    """Give what is noted, and what can be said of the step under way, if one is."""
    while True:
        position, here = journal.position, journal.here
        is_running, begun = journal.status is Status.RUNNING, journal.begun
        entries = journal.kept()
        last, decided = _last_stamp(entries), journal.decided
        if (
            journal.here is here
            and journal.position is position
            and _last_stamp(journal.entries) is last
        ):
            break  # else a step has ended just now
    name: str | None = None
    if not journal.is_live:
        return entries, journal.present
    if not is_running or journal.graph is None:
        pass
    elif position is None:
        name = _next_of(journal, entries[-3:], decided)
    elif begun is (journal.began if last is None else last):
        name = position[0]
    if name is None:
        return entries, None
    if isinstance(here, Journal):
        child = here if here.status in UNDER_WAY else None
        return entries, Visit(name, None, child=child)
    present = Visit(name, None) if here is None else here()
    # Another step may just have begun.
    return entries, present if present.name == name else Visit(name, None)


def _last_stamp(entries: list[Any]) -> float | None:
    return entries[-2] if entries else None


def _next_of(
    journal: Journal,
    entries: list[Any],
    decided: tuple[float, str | None, str | None],
) -> str | None:
    """Give the step that follows the last one, while the engine has not said it."""
    assert journal.graph is not None
    if not entries:
        return journal.graph.start
    entry, ended, result = entries
    visit = as_visit(entry, result)
    step = journal.graph.table[visit.name]
    if visit.error is not None:
        return step.after_failure(visit.error)
    if step.branch is None:
        return step.next_step
    if type(result) is str and result in step.branch.table:
        return step.branch.table[result][1]
    asked, follower, before = decided
    return follower if asked <= ended else before


def last_record(journal: Journal) -> StepRecord:
    """Give the record of the step that ended last, without its tasks."""
    return _record_at(journal, len(journal.entries) - 3)


def failure_record(
    journal: Journal, failed: Failed | None
) -> StepRecord | None:
    """Give the record of a failure that is remembered."""
    if failed is None:
        return None
    entry, value, began, ended, error = failed
    visit = as_visit(entry, error)
    return visit_record(journal.run.epoch, visit, value, began, ended, None)


def end_record(
    journal: Journal, error: BaseException, blame: Blame
) -> StepRecord:
    """Give the record of what it fails with, for those who undo."""
    entries = journal.entries
    for at in range(0, len(entries), 3):
        if entries[at + 2] is error:
            return _record_at(journal, at)
    if is_a(error, StepLimitError):  # it would have been the next
        facts = (Outcome.CANCELLED, entries[-1], None, error, None, 0.0, ())
        return StepRecord._of((blame.step, None, *facts, None, None))
    return last_record(journal).replace(error=error)


def undone_record(journal: Journal, visit: Visit) -> StepRecord:
    """Give the record of what a compensation did."""
    if visit.tasks:
        return task_record(journal.run.epoch, visit.name, visit.tasks[0], None)
    return visit_record(journal.run.epoch, visit, None, 0.0, 0.0, None)


def _record_at(journal: Journal, at: int) -> StepRecord:
    entry, ended, result = journal.entries[at : at + 3]
    value = journal.entries[at - 1] if at else journal.input
    began = journal.entries[at - 2] if at else journal.began
    visit = as_visit(entry, result)
    return visit_record(journal.run.epoch, visit, value, began, ended, None)
