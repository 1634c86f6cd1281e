"""Trail: what an execution left on its graph, for those who draw that."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from stepfunction.core.definition.branch import Arrow, label_of
from stepfunction.core.definition.graph import Graph, Step
from stepfunction.core.errors import DrawingError, FailStepError, causes
from stepfunction.core.history.execution import Execution
from stepfunction.core.history.records import StepRecord
from stepfunction.core.outcomes import Outcome
from stepfunction.core.raised import is_a
from stepfunction.core.transcript.exceptions import type_name
from stepfunction.core.wording import duration_text, listed
from stepfunction.drawing.counts import (
    ItemCounts,
    item_counts,
    part_name,
)
from stepfunction.drawing.signs import (
    DULL,
    SIGNS,
    STATUS_MARKS,
    UNREACHED,
    Note,
    shortened,
    word,
)

_MOST_NAMES = 3
_SUCCEEDED = Outcome.SUCCEEDED
_NO_NOTE = Note(UNREACHED)


class Trail:
    """What an execution did on each part of its graph; of loops the latest visit.

    Attributes:
        graph: The graph.
        began: Whether it came to the first step.
        end: The name of the step it ended after; None where it did not come to an end.
        lines: What stands below the name of the workflow.
    """

    def __init__(self, graph: Graph, execution: Execution | None) -> None:
        self.graph = graph
        self.began = False
        self.end: str | None = None
        self.lines: tuple[str, ...] = ()
        # By step, of its latest visit: its record for None, and those of its tasks.
        self._latest: dict[str, dict[str | int | None, StepRecord]] = {}
        self._visits: Counter[str] = Counter()
        self._taken: dict[str, set[Arrow]] = {}
        self._undone: dict[str, list[StepRecord]] = {}
        if execution is not None:
            self._follow(execution)

    def _follow(self, execution: Execution) -> None:
        status = execution.status
        mark = STATUS_MARKS.get(status, "…")
        self.lines = (f"{mark} {status} · {duration_text(execution.duration)}",)
        for record in execution.history:
            name, part = record.step, record.part
            if record.outcome is None and record.started is None:
                continue  # it has not begun
            if part is not None:
                self._latest[name][part] = record
                continue
            self._latest[name] = {None: record}
            self._visits[name] += 1
            step = self.graph.table.get(name)
            if step is not None and record.next_step is not None:
                taken = _arrow_taken(step, record)
                self._taken.setdefault(name, set()).update(taken)
        for record in execution.compensations:
            self._undone.setdefault(record.step, []).append(record)
        self.began = bool(self._latest)
        self.end = execution.ended_at

    @property
    def records(self) -> dict[str, dict[str | int | None, StepRecord]]:
        """The records of each step's latest visit: its own for None, and its tasks'."""
        return self._latest

    def taken(self, step: str) -> set[Arrow]:
        """Give the arrows of a step that the execution followed, on any visit."""
        return self._taken.get(step, set())

    def inside(self, step: str, task: str | None, graph: Graph) -> Trail:
        """Give what was left on the workflow that is nested in a step or task."""
        record = self._latest.get(step, {}).get(task)
        return Trail(graph, None if record is None else record.child)

    def inside_item(self, step: str, graph: Graph) -> tuple[Trail, str]:
        """Give what was left on the workflow that a map step runs for each item.

        It is that of the first item that did not succeed, else of the first; with it
        goes what tells which.
        """
        items = [it for it in self._parts(step).values() if it.child is not None]
        items.sort(key=lambda record: record.outcome is _SUCCEEDED)
        if not items:
            return Trail(graph, None), ""
        return Trail(graph, items[0].child), f"below: item {items[0].part}"

    def note(self, name: str, task: str | None = None) -> Note:
        """Say what became of a step, or of a task of a parallel step."""
        record = self._latest.get(name, {}).get(task)
        if record is None:
            return _NO_NOTE
        step = self.graph.table[name]
        items, rest = "", list[str]()
        if task is None and step.action.has_tasks:
            counts = item_counts(record, step)
            items = "" if counts is None else counts.text
            rest += self._failed_tasks(step, counts)
        # A fail step has the name of its error already.
        is_news = record.error is not None and not step.action.always_fails
        if is_news and not rest and record.outcome is not Outcome.CANCELLED:
            rest.append(_error_name(record.error))
        if self._undone:
            rest += self._undoing(name, task)
        return Note(SIGNS[record.outcome], self._ended(record), items, tuple(rest))

    def _ended(self, record: StepRecord) -> str:
        """Say how and when a step or task ended, and how often it was tried."""
        outcome = record.outcome
        # As in "✓ 3 ms": a sign needs no point between it and what follows.
        is_short = outcome is _SUCCEEDED
        text = SIGNS[outcome].mark if is_short else word(outcome)
        if record.started is not None:
            text += f"{' ' if is_short else ' · '}{duration_text(record.duration)}"
        attempts = len(record.attempts)
        if outcome is None and attempts:
            text += f" · attempt {attempts + 1}"
        elif attempts > 1:
            text += f" · {attempts} attempts"
        visits = self._visits[record.step] if record.part is None else 1
        return f"{text} · {visits} visits" if visits > 1 else text

    def _undoing(self, step: str, task: str | None) -> Iterator[str]:
        """Say what compensations did of a step, with all its tasks, or of a task."""
        records = self._undone.get(step, [])
        if task is not None:
            records = [record for record in records if record.part == task]
        errors = [record.error for record in records if record.error is not None]
        done = len(records) - len(errors)
        if done:
            yield "↺ undone" if len(records) == 1 else f"↺ {done:,} undone"
        if errors:
            count = "" if len(records) == 1 else f"{len(errors):,} "
            yield f"✗ {count}not undone: {_error_name(errors[0])}"

    def outcomes(self, step: str) -> dict[str | int, Outcome | None]:
        """Give how the tasks of a step ended that began; None for those that run."""
        return {name: it.outcome for name, it in self._parts(step).items()}

    def _parts(self, step: str) -> dict[str | int, StepRecord]:
        """Give the records of a step's tasks or items, by name or index."""
        latest = self._latest.get(step, {})
        return {part: it for part, it in latest.items() if part is not None}

    def _failed_tasks(self, step: Step, counts: ItemCounts | None) -> Iterator[str]:
        """Name the tasks of a step that failed, if any did."""
        tasks = self._parts(step.name)
        failed = [
            f"{shortened(part_name(part, step))} ({_error_name(record.error)})"
            for part, record in tasks.items()
            if record.error is not None and record.outcome not in DULL
        ]
        if failed:
            # Of items not all have a record.
            of = f" of {len(tasks)}" if counts is None else ""
            number = len(failed) if counts is None else counts.failed
            yield f"{number:,}{of} failed: {listed(failed, _MOST_NAMES)}"


def trail_of(execution: Execution) -> Trail:
    """Give what an execution left on the graph that it ran.

    Raises:
        DrawingError: If it came out of a pickle, which has no graph.
    """
    graph = execution.graph
    if graph is None:
        raise DrawingError(
            f"this execution of {execution.workflow!r} came without its graph, as it "
            "does out of a pickle or a file; draw it with its workflow: "
            "workflow.visualize(execution=execution)"
        )
    return Trail(graph, execution)


def trail_on(graph: Graph, execution: Execution) -> Trail:
    """Give what an execution left on the graph of a workflow.

    Raises:
        DrawingError: If it is not one of that workflow.
    """
    if not isinstance(execution, Execution):
        raise DrawingError(
            f"what is drawn on {graph.name!r} is an execution of it, not {execution!r}"
        )
    advice = "execution.visualize() draws the workflow that it ran"
    if execution.workflow != graph.name:
        raise DrawingError(
            f"this is an execution of {execution.workflow!r}, which cannot be drawn "
            f"on {graph.name!r}; {advice}"
        )
    if execution.graph is not graph:
        for record in execution.history:
            if record.step not in graph.table:
                raise DrawingError(
                    f"this execution of {graph.name!r} came to step {record.step!r}, "
                    f"which is no step of this workflow; {advice}"
                )
    return Trail(graph, execution)


def _arrow_taken(step: Step, record: StepRecord) -> list[Arrow]:
    """Give the arrow that led on, as a list of one; none where it is not there.

    Of conditions that lead to the same step it gives all.
    """
    failed = record.error is not None
    if step.branch is None and not failed:
        target = step.next_step
        if target is None or target != record.next_step:
            return []
        return [Arrow("next", "", target)]
    arrows = [arrow for arrow in step.arrows() if (arrow.kind == "failure") is failed]
    found = [arrow for arrow in arrows if arrow.target == record.next_step]
    if step.branch is not None and step.branch.conditions and not failed:
        return found  # to tell which of several held is to call them again
    if len(found) > 1:
        found = [arrow for arrow in _asked_for(step, record, arrows) if arrow in found]
    return found[:1]


def _asked_for(step: Step, record: StepRecord, arrows: list[Arrow]) -> Iterator[Arrow]:
    """Give the arrow whose label fits what came out, then all in their order."""
    if record.error is not None:
        chain = tuple(causes(record.error))
        if isinstance(step.on_failure, tuple):
            for (error_class, _), arrow in zip(step.on_failure, arrows):
                if any(is_a(cause, error_class) for cause in chain):
                    yield arrow
        else:  # of a step that was read there are only the names
            names = {_class_name(cause) for cause in chain}
            yield from (arrow for arrow in arrows if arrow.label in names)
    elif step.branch is not None and step.branch.chooser is None:
        table = step.branch.table
        if step.branch.choose(record.output) is None:
            yield arrows[-1]  # the default
        else:
            yield arrows[list(table).index(table[record.output][0])]
    elif step.branch is not None and any(it.label for it in arrows):  # it was read
        label = label_of(record.output)
        yield from (arrow for arrow in arrows if arrow.label == label)
        yield from (arrow for arrow in arrows if arrow.kind == "next")
    yield from arrows


def _error_name(error: BaseException | None) -> str:
    """Give the name of the class of what failed first, behind our own wrappers."""
    if error is None:
        return ""
    *_, first = causes(error)
    if is_a(first, FailStepError):
        return shortened(first.error)
    return _class_name(first)


def _class_name(error: BaseException) -> str:
    """Give the name of an exception's class, of one that was read too."""
    return type_name(error).rpartition(".")[2]
