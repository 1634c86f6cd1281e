"""Compensation: how what had succeeded is undone when an execution has failed.

The journal is read backwards: what ended last is undone first. A nested workflow that
failed, or was stopped in its task, has undone its own steps already, or is doing so;
any other is undone with what it is nested in.
Each compensation is called once, in the thread that runs the workflow.
"""

from __future__ import annotations

from bisect import bisect
from collections.abc import Iterable, Iterator, Mapping
from threading import get_ident
from typing import Any, TypeAlias

from stepfunction.core.cancellation import Cancellation
from stepfunction.core.clock import perf_counter
from stepfunction.core.context import Context
from stepfunction.core.definition.calls import Call
from stepfunction.core.definition.graph import Graph, Step
from stepfunction.core.engine.run import Run
from stepfunction.core.envelope.omitted import Omitted
from stepfunction.core.errors import (
    NoBranchMatchedError,
    ParallelStepExecutionError,
    TransferError,
    UnstorableValueError,
    add_note,
)
from stepfunction.core.history.chronicle import undone_record
from stepfunction.core.history.journal import Journal
from stepfunction.core.history.records import StepRecord, Visit, as_visit
from stepfunction.core.history.results import ItemResults, MapResults
from stepfunction.core.keys import PartKey
from stepfunction.core.outcomes import UNDER_WAY, Outcome
from stepfunction.core.raised import is_a
from stepfunction.core.tracebacks import without_our_frames
from stepfunction.core.watching.telling import tell_record
from stepfunction.core.wording import subject

# What undoes a step or task: the call, the output, the step, the task.
_Duty: TypeAlias = "tuple[Call, Any, str, PartKey | None]"


def undo(journal: Journal, run: Run, failure: StepRecord) -> None:
    """Undo the steps and tasks of a failed execution that had succeeded.

    Args:
        journal: That of what has failed.
        run: What it shares with what it is nested in.
        failure: What it failed with, for those who undo.

    Raises:
        BaseException: What interrupted this thread, when all has been tried. What a
            compensation fails with is in the record instead.
    """
    interrupt: BaseException | None = None
    # By a list and not by recursion: this may be as deep as the engine could go.
    ways = [_WayBack(journal, journal.graph, failure, run)]
    while ways:
        duty = next(ways[-1].duties, None)
        if isinstance(duty, _WayBack):
            ways.append(duty)
        elif duty is not None:
            error = ways[-1].call(*duty)
            if interrupt is None and not is_a(error, Exception):
                interrupt = error
        else:
            ways.pop()
    if interrupt is not None:
        raise interrupt


class _WayBack:
    """The way back of one execution.

    Args:
        journal: That of what is undone.
        graph: What it ran; a journal that came from a process has none.
        failure: What the execution failed with, or the one that it is nested in.
        run: That of the execution that failed.
    """

    def __init__(
        self, journal: Journal, graph: Any, failure: StepRecord, run: Run
    ) -> None:
        self.journal = journal
        self.duties = self._duties(graph)
        self._failure = failure
        self._run = run
        # What was undone before another process took it over is not undone again.
        self._undone: list[Visit] = list(journal.undone)
        # Of each which of all it was: one that an interrupt has ended is none of them.
        self._places = list(range(len(self._undone)))
        self._place = -1
        if journal.saving is not None:
            journal.saving.is_undoing = True
            self._places = list(journal.saving.undone_places)
        journal.undone = self._undone

    def _duties(self, graph: Graph) -> Iterator[_Duty | _WayBack]:
        for name, entry, result in self.journal.backwards():
            step = graph.table[name]
            if step.may_be_undone:
                yield from self._duties_of(step, as_visit(entry, result))

    def _duties_of(self, step: Step, visit: Visit) -> Iterator[_Duty | _WayBack]:
        action: Any = step.action
        calls = dict(step.compensations())
        call, given = calls.get(None), _output_of(visit)
        if action.has_items:
            yield from self._item_duties(step.name, call, action, visit)
        elif call is not None and given is not None:
            yield call, given[0], step.name, None
        elif action.has_tasks:
            yield from self._task_duties(step.name, calls, action, visit.tasks)
        else:
            yield from self._nested(action.nested, visit.child, step.name)

    def _task_duties(
        self, step: str, calls: Mapping[Any, Call], action: Any, tasks: Iterable[Visit]
    ) -> Iterator[_Duty | _WayBack]:
        for task in sorted(tasks, key=_ended, reverse=True):
            name = task.name
            if name in calls and task.outcome is Outcome.SUCCEEDED:
                yield calls[name], task.output, step, name
            else:
                graph = action.tasks[name].nested
                yield from self._nested(graph, task.child, step, name)

    def _item_duties(
        self, step: str, call: Call | None, action: Any, visit: Visit
    ) -> Iterator[_Duty | _WayBack]:
        results = _results_of(visit)
        children = {it.name: it.child for it in visit.tasks}
        for index in sorted({*results, *children}, reverse=True):
            if call is not None and index in results:
                yield call, results[index], step, index
            else:
                child = children.get(index)
                yield from self._nested(action.nested, child, step, index)

    def _nested(
        self, graph: Any, child: Journal | None, step: str, part: PartKey | None = None
    ) -> Iterator[_WayBack]:
        """Give the way back of a nested execution that has not taken it, and may."""
        # One that is under way undoes itself: first its status, which it sets after.
        if child is None or child.status in UNDER_WAY:
            return
        is_undone, saving = child.undone is not Journal.undone, child.saving
        if saving is not None and saving.has_undone_itself is not None:
            # Else who undid it may have died in the midst of it.
            is_undone = saving.has_undone_itself or saving.is_undoing
        if is_undone or not graph.has_compensations:
            return
        if self._run.audience is not None:
            key = step if part is None else (step, part)
            child.path = (*self.journal.path, key)
        yield _WayBack(child, graph, self._failure, self._run)

    @property
    def _key(self) -> str:
        return f"{self.journal.key}/undo"

    def call(
        self, call: Call, output: Any, step: str, part: PartKey | None = None
    ) -> BaseException | None:
        """Call what undoes a step or task, note what came of it, and give its error."""
        self._place += 1
        index = bisect(self._places, self._place)
        if index and self._places[index - 1] == self._place:
            return None
        journal = self.journal
        context = Context(
            journal.id,
            step,
            part,
            failure=self._failure,
            cancellation=Cancellation(),  # what is half undone serves nobody
            results=journal.results_so_far(),
            execution_key=self._key,
            visit=self._place,
        )
        error: BaseException | None = None
        outcome, returned = Outcome.SUCCEEDED, None
        shift = self._run.epoch - journal.run.epoch  # which may be of another process
        began = perf_counter() + shift
        try:
            if is_a(output, Omitted) and call.takes_input:
                raise TransferError(
                    f"{subject(step, part)} cannot be undone, for its output, "
                    f"{output.text}, could not be sent back from its process; "
                    "let it return what can be pickled"
                )
            guard = self._run.guard
            if guard is None:
                returned = call(output, context)
            else:
                returned = guard(call, output, context)
        except BaseException as raised:
            is_failure = is_a(raised, Exception)
            if journal.saving is not None and not is_failure:
                if self._run.cancellation.root.thread == get_ident():
                    return raised  # it is undone when this goes on
            outcome = Outcome.FAILED if is_failure else Outcome.CANCELLED
            error = without_our_frames(raised)
            add_note(error, f"raised while {subject(step, part)} was undone")
        attempts = ((outcome, began, perf_counter() + shift, error),)
        visit = Visit(step, outcome, attempts, returned, error, given=(output,))
        if part is not None:
            visit = Visit(step, outcome, tasks=(visit._replace(name=part),))
        self._places.insert(index, self._place)
        self._undone.insert(index, visit)
        if journal.saving is not None:
            journal.saving.note_undone(visit, self._place)
        if self._run.audience is not None:
            record = undone_record(journal, visit)
            tell_record(self._run.audience, journal, "compensation", record)
        return error


def _output_of(visit: Visit) -> tuple[Any] | None:
    """Give what a step gave, also if that led nowhere; None if it gave nothing."""
    if visit.outcome is Outcome.SUCCEEDED:
        return (visit.output,)
    error: Any = visit.error
    # It gave something, which led nowhere, or could not be stored.
    gave = is_a(error, NoBranchMatchedError) or is_a(error, UnstorableValueError)
    if gave and error.step == visit.name:
        return (error.result,)
    return None


def _results_of(visit: Visit) -> Mapping[int, Any]:
    """Give the results of a map step's items that succeeded, by their index."""
    if is_a(visit.error, ParallelStepExecutionError):
        return visit.error.results
    (found,) = _output_of(visit) or (visit.output,)
    if is_a(found, MapResults):
        return {at: it for at, it in enumerate(found) if at not in found.failed}
    if is_a(found, ItemResults):  # the step did not succeed
        return dict(found)
    # Nor did it here, in a process that not all of them could be sent back from.
    succeeded = (it for it in visit.tasks if it.outcome is Outcome.SUCCEEDED)
    return {it.name: it.output for it in succeeded}


def _ended(task: Visit) -> float:
    return task.attempts[-1][2] if task.attempts else 0.0
