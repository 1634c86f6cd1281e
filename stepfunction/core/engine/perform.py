"""Perform: what performing a step means for each kind of action."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextvars import ContextVar
from time import perf_counter
from typing import Any, TypeVar

from stepfunction.core.cancellation import Cancellation
from stepfunction.core.context import Context
from stepfunction.core.definition.actions import FanOut, MapItems
from stepfunction.core.definition.calls import Call
from stepfunction.core.definition.graph import Graph, Step
from stepfunction.core.engine.nested import NestedCall, output_of_child
from stepfunction.core.errors import (
    ExecutionCancelledError,
    users_traceback,
)
from stepfunction.core.history.execution import Execution, Status
from stepfunction.core.history.records import Visit, as_visit
from stepfunction.core.history.results import TaskResults, parallel_failure
from stepfunction.core.outcomes import Outcome
from stepfunction.core.watching.telling import News
from stepfunction.core.wording import subject
from stepfunction.core.workers.pauses import skipping, to_pass
from stepfunction.core.workers.places import Inline
from stepfunction.core.workers.retry import judges_results
from stepfunction.core.workers.tasks import (
    LiveAttempt,
    Report,
    Task,
    make_attempt,
    run_tasks,
)

AnyTask = TypeVar("AnyTask", bound=Task)

_STOPPED = (Status.CANCELLED, Status.TIMED_OUT)

# Told of each parallel step before its tasks run, which then do so one at a time: the
# workflow's name, the step's name, its ``Task`` objects, whose calls it may replace,
# and their input. None where nobody looks on. Tests set it.
watching: ContextVar[Callable[[str, str, Sequence[Any], Any], None] | None]
watching = ContextVar("stepfunction_watching", default=None)


def perform(
    step: Step, value: Any, execution: Execution, error: Exception | None = None
) -> Visit:
    """Perform a step that is more than a plain call.

    Args:
        step: What to perform.
        value: Its input, unless it names its inputs.
        execution: What it is a step of.
        error: What the first attempt failed with, if it has been made.
    """
    if step.inputs is None:
        return _perform_with(step, value, execution, error)
    results = execution._results_so_far()
    given = {parameter: results[source] for parameter, source in step.inputs}
    try:
        visit = _perform_with(step, given, execution, None)
    except BaseException as raised:
        visit = failed_visit(step.name, raised.with_traceback(users_traceback(raised)))
    return visit._replace(given=(given,))


def _perform_with(
    step: Step, value: Any, execution: Execution, error: Exception | None
) -> Visit:
    cancellation = execution._cancellation
    news = None if execution._audience is None else News(execution, step.name)
    try:
        with cancellation.dependent() as dependent:
            if step.executor is None:
                visit = _perform_here(step, value, execution, dependent, error, news)
            elif isinstance(step.action, FanOut):
                visit = _fan_out(step, step.action, value, execution, dependent, news)
            elif isinstance(step.action, MapItems):
                visit = _map(step, step.action, value, execution, dependent, news)
            else:
                visit = _perform_elsewhere(step, value, execution, dependent, news)
    finally:
        if news is not None:
            news.close()
    outcomes = {visit.outcome, *(task.outcome for task in visit.tasks)}
    if cancellation.requested and outcomes != {Outcome.SUCCEEDED}:
        stopped = ExecutionCancelledError("the execution was stopped")
        outcome = visit.outcome
        if outcome not in (Outcome.KILLED, Outcome.ABANDONED):
            outcome = Outcome.CANCELLED
        return visit._replace(outcome=outcome, error=stopped)
    return visit


def _perform_here(
    step: Step,
    value: Any,
    execution: Execution,
    cancellation: Cancellation,
    error: Exception | None,
    news: News | None,
) -> Visit:
    """Make the first attempt in this thread; only its failure costs more."""
    task = _task(step, None, step.action, execution, news, Task)
    make_context = _context_maker(step, execution)
    first = LiveAttempt(task, cancellation)
    if error is None:
        report = make_attempt(first, value, make_context, catch=Exception)
    else:
        began, now = execution._last_stamp(), perf_counter()
        report = Report(first, Outcome.FAILED, error, began, now)
    task.settle(report, cancellation.requested)
    if step.retry is not None and (task.error or judges_results(step.retry)):
        place = Inline(value, make_context, isolate=False)
        run_tasks((task,), place, cancellation)
    return task.visit(step.name)


def _perform_elsewhere(
    step: Step,
    value: Any,
    execution: Execution,
    cancellation: Cancellation,
    news: News | None,
) -> Visit:
    """Perform a step that has an executor of its own: a fan-out of one."""
    tasks = (_task(step, None, step.action, execution, news, Task),)
    make_context = _context_maker(step, execution)
    places = execution._places
    place = places.place(step.executor, step.name, tasks, value, make_context)
    run_tasks(tasks, place, cancellation)
    return tasks[0].visit(step.name)


def _fan_out(
    step: Step,
    action: FanOut,
    value: Any,
    execution: Execution,
    cancellation: Cancellation,
    news: News | None,
) -> Visit:
    """Perform a parallel step."""
    tasks = [
        _task(step, name, call, execution, news, Task)
        for name, call in action.tasks.items()
    ]
    make_context = _context_maker(step, execution)
    failed: list[Task] = []  # as they fail, which tells the first

    def is_enough(task: Task) -> bool:
        failed.append(task)
        return action.stop_on_failure and len(failed) > action.tolerated

    most, ahead = action.max_workers, not action.stop_on_failure
    watch = watching.get()
    if watch is not None:
        watch(execution.workflow, step.name, tasks, value)
        most, ahead = 1, False  # one at a time, so that it is known which it was
    place = execution._places.place(
        step.executor, step.name, tasks, value, make_context, most, ahead
    )
    try:
        run_tasks(tasks, place, cancellation, is_enough)
    except BaseException as interrupt:
        visits = tuple(task.visit(str(task.key)) for task in tasks)
        is_failure = isinstance(interrupt, Exception)
        outcome = Outcome.FAILED if is_failure else Outcome.CANCELLED
        return Visit(step.name, outcome, error=interrupt, tasks=visits)
    return _gather(step, action, tasks, failed, execution)


def _gather(
    step: Step,
    action: FanOut,
    tasks: list[Task],
    failed: list[Task],
    execution: Execution,
) -> Visit:
    """Make one visit of the ends of all tasks."""
    visits = tuple(task.visit(str(task.key)) for task in tasks)
    in_time = set(failed)  # who failed after being told to stop is not in it
    failed += (task for task in tasks if task.error and task not in in_time)
    errors = {str(task.key): task.error for task in failed if task.error is not None}
    failure = None
    if errors:
        who = f"{len(errors)} of {len(visits)} tasks"
        outcomes = {visit.name: visit.outcome for visit in visits}
        succeeded = (visit for visit in visits if visit.outcome is Outcome.SUCCEEDED)
        outputs = {visit.name: visit.output for visit in succeeded}
        failure = parallel_failure(step.name, who, outcomes, outputs, errors)
    if failure is not None and len(errors) > action.tolerated:
        return Visit(step.name, Outcome.FAILED, error=failure, tasks=visits)
    results = {visit.name: errors.get(visit.name, visit.output) for visit in visits}
    output = TaskResults(results, failure)
    return Visit(step.name, Outcome.SUCCEEDED, output=output, tasks=visits)


def _map(
    step: Step,
    action: MapItems,
    value: Any,
    execution: Execution,
    cancellation: Cancellation,
    news: News | None,
) -> Visit:
    """Perform a map step."""
    from stepfunction.core.engine.items import Gathering, Item, items_of

    is_nested = not isinstance(action.call, Call)
    call: Any = action.call.__call__ if isinstance(action.call, Call) else None

    def make_item(index: int) -> Item:
        item = _task(step, str(index), action.call, execution, news, Item)
        item.is_told = is_nested
        if call is not None:
            item.call = call  # the same for all, to be packed once
        return item

    try:
        items = items_of(value, action.items)
    except Exception as error:
        failure = error.with_traceback(users_traceback(error))
        return Visit(step.name, Outcome.FAILED, error=failure)
    gathering = Gathering(action, step.name, items, make_item, news)
    make_context = _context_maker(step, execution)
    place = execution._places.place(
        step.executor,
        step.name,
        gathering.models,
        None,
        make_context,
        action.max_workers,
        ahead=not action.stop_on_failure,
        count=gathering.most_tasks,
    )
    tasks = gathering.tasks_for(place)
    try:
        run_tasks(
            tasks,
            place,
            cancellation,
            gathering.is_enough,
            gathering.end,
            at_once=gathering.knows_all,
        )
    except BaseException as interrupt:
        is_failure = isinstance(interrupt, Exception)
        outcome = Outcome.FAILED if is_failure else Outcome.CANCELLED
        return gathering.broken_visit(outcome, interrupt)
    return gathering.visit()


def _task(
    step: Step,
    name: str | None,
    action: Any,
    execution: Execution,
    news: News | None,
    kind: type[AnyTask],
) -> AnyTask:
    title = subject(step.name, name if name is None or kind is Task else int(name))
    retry, timeout, heartbeat = step.retry, step.timeout, step.heartbeat
    if not isinstance(action, Graph):
        call, wants_context = action.__call__, action.wants_context
        return kind(
            name, title, call, wants_context, retry, timeout, heartbeat, None, news
        )
    # In the calling thread a nested workflow looks after its own time.
    own_timeout = timeout if step.executor in (None, "inline") else None
    if own_timeout is not None:
        timeout = None

    def begun(child: Execution) -> None:
        task.child = child

    def open_result(task: Task, child: Execution) -> Any:
        begun(child)  # from another process it is heard of only now
        child._graph = action  # which stayed here
        for what, seconds in child.__dict__.pop("_skipped", ()):
            to_pass(what, seconds)  # which told nobody here
        return output_of_child(step, title, child)

    nested = NestedCall(action, execution._places, title, own_timeout, begun=begun)
    nested.skips = skipping.get() is not None
    if execution._audience is not None:
        key = step.name if name is None else (step.name, name)
        nested.reach = execution._audience.reach((*execution._path, key))
    task = kind(name, title, nested, True, retry, timeout, heartbeat, open_result, news)
    return task


def _context_maker(
    step: Step, execution: Execution
) -> Callable[[LiveAttempt], Context]:
    def make_context(attempt: LiveAttempt) -> Context:
        return Context(
            execution.id,
            step.name,
            attempt.task.key,
            attempt.number,
            execution._failure_before(),
            attempt.cancellation,
            execution._results_so_far(),
            attempt,
        )

    return make_context


def failed_visit(entry: Any, error: BaseException) -> Visit:
    """Give the visit of a step that raised and was more, or less, than a call."""
    visit = as_visit(entry, None)
    if visit.error is error:
        return visit
    # It interrupts this very thread, or the nested workflow was stopped; else the
    # call succeeded, but its result leads nowhere.
    is_failure = isinstance(error, Exception) and (
        visit.child is None or visit.child.status not in _STOPPED
    )
    outcome = Outcome.FAILED if is_failure else Outcome.CANCELLED
    return visit._replace(outcome=outcome, output=None, error=error)
