"""Compensation: how what had succeeded is undone when an execution has failed.

The journal is read backwards: what ended last is undone first. A nested workflow that
failed has undone its own steps already; any other is undone with what it is nested in.
Each compensation is called once, in the thread that runs the workflow.
"""

from __future__ import annotations

from collections.abc import Mapping
from time import perf_counter
from typing import Any

from stepfunction.core.actions import FanOut, MapItems
from stepfunction.core.calls import Call
from stepfunction.core.cancellation import Cancellation
from stepfunction.core.context import Context
from stepfunction.core.errors import (
    NoBranchMatchedError,
    ParallelStepExecutionError,
    TransferError,
    users_traceback,
)
from stepfunction.core.events import Audience, tell_compensation, tell_news
from stepfunction.core.execution import (
    Execution,
    Omitted,
    Outcome,
    Status,
    StepRecord,
    Visit,
    as_visit,
    subject,
)
from stepfunction.core.graph import Graph, Step
from stepfunction.core.results import MapResults

_UNDER_WAY = (Status.INITIALIZED, Status.RUNNING)


def undo(execution: Execution, failure: StepRecord) -> None:
    """Undo the steps and tasks of a failed execution that had succeeded.

    Args:
        execution: What has failed.
        failure: What it failed with, for those who undo.

    Raises:
        BaseException: What interrupts this thread. What a compensation fails with is
            in the record instead.
    """
    if execution._audience is not None:
        tell_news(execution)
    _Undoing(execution, execution._graph, failure, execution._epoch).run()


class _Undoing:
    """The way back of one execution.

    Args:
        execution: What is undone.
        graph: What it ran; an execution that came from a process has none.
        failure: What the execution failed with, or the one that it is nested in.
        epoch: What to add to readings of this process's ``perf_counter``.
    """

    def __init__(
        self, execution: Execution, graph: Graph, failure: StepRecord, epoch: float
    ) -> None:
        self._execution = execution
        self._graph = graph
        self._failure = failure
        self._epoch = epoch
        self._undone: list[Visit] = []

    def run(self) -> None:
        self._execution._undone = self._undone
        journal, table = self._execution._journal, self._graph.table
        for at in range(len(journal) - 3, -1, -3):
            entry, _, result = journal[at : at + 3]
            step = table[entry if type(entry) is str else entry[0]]
            if step.may_be_undone:
                self._undo_step(step, as_visit(entry, result))

    def _undo_step(self, step: Step, visit: Visit) -> None:
        action, given = step.action, _output_of(visit)
        if isinstance(action, MapItems):
            self._undo_items(step, action, visit)
        elif isinstance(step.compensate, Call) and given is not None:
            self._call(step.compensate, given[0], step.name)
        elif isinstance(action, FanOut):
            self._undo_tasks(step, action, visit.tasks)
        elif visit.child is not None:
            self._undo_nested(action, visit.child, step.name)

    def _undo_tasks(self, step: Step, action: FanOut, tasks: tuple[Visit, ...]) -> None:
        calls: dict[str, Call] = {}
        if step.compensate is not None and not isinstance(step.compensate, Call):
            calls.update(step.compensate)
        for task in sorted(tasks, key=_ended, reverse=True):
            call = calls.get(task.name)
            if call is not None and task.outcome is Outcome.SUCCEEDED:
                self._call(call, task.output, step.name, task.name)
            elif task.child is not None:
                nested = action.tasks[task.name]
                self._undo_nested(nested, task.child, step.name, task.name)

    def _undo_items(self, step: Step, action: MapItems, visit: Visit) -> None:
        results = _results_of(visit)
        children = {int(it.name): it.child for it in visit.tasks if it.child}
        for index in sorted({*results, *children}, reverse=True):
            if isinstance(step.compensate, Call) and index in results:
                self._call(step.compensate, results[index], step.name, str(index))
            elif index in children:
                child = children[index]
                self._undo_nested(action.call, child, step.name, str(index))

    def _undo_nested(
        self, graph: Any, child: Execution, step: str, task: str | None = None
    ) -> None:
        """Undo a nested execution, unless it has done so itself, or still runs."""
        has_begun = child._undone is not Execution._undone
        if has_begun or child.status in _UNDER_WAY or not graph.has_compensations:
            return
        outer = self._execution
        audience = outer._audience
        if audience is not None:  # its own has gone with its end
            child._path = (*outer._path, step if task is None else (step, task))
            facts = (audience.tell, audience.root_id, audience.hears_all)
            child._audience = Audience(*facts)
        try:
            _Undoing(child, graph, self._failure, self._epoch).run()
        finally:
            child._audience = None

    def _call(
        self, call: Call, output: Any, step: str, task: str | None = None
    ) -> None:
        """Call what undoes a step or task, and note what came of it."""
        execution = self._execution
        context = Context(
            execution.id,
            step,
            task,
            failure=self._failure,
            cancellation=Cancellation(),  # what is half undone serves nobody
            results=execution._results_so_far(),
        )
        error: BaseException | None = None
        outcome, returned = Outcome.SUCCEEDED, None
        shift = self._epoch - execution._epoch  # which may be of another process
        began = perf_counter() + shift
        try:
            if isinstance(output, Omitted) and call.takes_input:
                raise TransferError(
                    f"{subject(step, task)} cannot be undone, for its output, "
                    f"{output.text}, could not be sent back from its process; "
                    "let it return what can be pickled"
                )
            returned = call(output, context)
        except BaseException as raised:
            is_failure = isinstance(raised, Exception)
            outcome = Outcome.FAILED if is_failure else Outcome.CANCELLED
            error = raised.with_traceback(users_traceback(raised))
            _add_note(error, f"raised while {subject(step, task)} was undone")
        attempts = ((outcome, began, perf_counter() + shift, error),)
        visit = Visit(step, outcome, attempts, returned, error, given=(output,))
        if task is not None:
            visit = Visit(step, outcome, tasks=(visit._replace(name=task),))
        self._undone.append(visit)
        if outcome is Outcome.CANCELLED:  # it interrupts this very thread
            assert error is not None
            raise error
        if execution._audience is not None:
            tell_compensation(execution, execution._compensation_record(visit))


def _output_of(visit: Visit) -> tuple[Any] | None:
    """Give what a step gave, also if that led nowhere; None if it gave nothing."""
    if visit.outcome is Outcome.SUCCEEDED:
        return (visit.output,)
    error = visit.error
    if isinstance(error, NoBranchMatchedError) and error.step == visit.name:
        return (error.result,)
    return None


def _results_of(visit: Visit) -> Mapping[int, Any]:
    """Give the results of a map step's items that succeeded, by their index."""
    if isinstance(visit.error, ParallelStepExecutionError):
        return {int(index): it for index, it in visit.error.results.items()}
    given = _output_of(visit)
    if given is not None and isinstance(given[0], MapResults):
        results, failed = given[0], given[0].failed
        return {index: it for index, it in enumerate(results) if index not in failed}
    # The items ended before they were all taken: what is left of it is in the record.
    succeeded = (it for it in visit.tasks if it.outcome is Outcome.SUCCEEDED)
    return {int(it.name): it.output for it in succeeded}


def _ended(task: Visit) -> float:
    return task.attempts[-1][2] if task.attempts else 0.0


def _add_note(error: BaseException, note: str) -> None:
    # Not by add_note(), which an exception that is frozen refuses.
    notes = [*getattr(error, "__notes__", ()), note]
    BaseException.__setattr__(error, "__notes__", notes)
