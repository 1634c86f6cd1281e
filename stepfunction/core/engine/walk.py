"""The engine: how a graph runs.

One loop goes from step to step: it performs the step, asks the graph which is next,
and notes what happened in the execution's journal. Everything else here is what
"perform" means for the kinds of action, and what a failure leads to.
"""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter
from types import CoroutineType
from typing import Any, TypeVar

from stepfunction.core.cancellation import Cancellation
from stepfunction.core.context import Context, Line
from stepfunction.core.definition.actions import Fail, FanOut, MapItems
from stepfunction.core.definition.calls import Call, name_of, stray_coroutine
from stepfunction.core.definition.graph import Graph, Step
from stepfunction.core.engine.compensation import undo
from stepfunction.core.engine.watching import watching
from stepfunction.core.envelope.omitted import Omitted
from stepfunction.core.errors import (
    ExecutionCancelledError,
    StepExecutionError,
    StepFunctionError,
    StepLimitError,
    StepTimeoutError,
    TransferError,
    WorkerStartError,
    causes,
    users_traceback,
)
from stepfunction.core.history.execution import Blame, Execution, Status
from stepfunction.core.history.records import Failed, Visit, as_visit
from stepfunction.core.history.results import TaskResults, parallel_failure
from stepfunction.core.outcomes import Outcome
from stepfunction.core.watching.telling import News, Reach, Telling, tell_end, tell_news
from stepfunction.core.wording import error_text
from stepfunction.core.workers.pauses import skipping, to_pass
from stepfunction.core.workers.places import Inline, Places
from stepfunction.core.workers.retry import judges_results
from stepfunction.core.workers.tasks import (
    LiveAttempt,
    Report,
    Task,
    make_attempt,
    run_tasks,
)

AnyTask = TypeVar("AnyTask", bound=Task)

# To look a member of an enum up takes its time.
_STOPPED = (Status.CANCELLED, Status.TIMED_OUT)
_RUNNING, _COMPLETED = Status.RUNNING, Status.COMPLETED


def run(execution: Execution) -> None:
    """Run an execution to its end. Only the thread that does so writes into it.

    Raises:
        BaseException: What interrupts this thread.
    """
    execution.status = _RUNNING
    try:
        try:
            last = _walk(execution)
        except StepLimitError as error:
            execution._is_unhandled = True
            _fail(execution, error, Blame(error.step, error, True))
        else:
            if execution._first_failure is None and last.ends is None:
                execution.status, execution.output = _COMPLETED, execution._journal[-1]
            else:
                _conclude(execution, last)
    except ExecutionCancelledError:
        is_overdue = execution._cancellation.is_overdue
        execution.status = Status.TIMED_OUT if is_overdue else Status.CANCELLED
    except Exception as error:  # the engine could not go on, as at too deep a nesting
        execution.status, execution.error = Status.FAILED, error
        raise
    except BaseException as interrupt:
        execution.status, execution.error = Status.CANCELLED, interrupt
        raise
    finally:
        execution._ended = perf_counter()
        if execution._graph.keep_history is not None:
            execution._forget(execution._graph.keep_history)
        if execution._audience is not None:
            try:
                tell_end(execution)
            finally:
                execution._audience = None  # which may hold those it is nested in


def _walk(execution: Execution) -> Step:  # noqa: C901
    """Go from step to step and give the last; here a chain spends its time."""
    cancellation, journal = execution._cancellation, execution._journal
    name, moves, longest = execution._graph.course
    if execution._audience is not None and execution._audience.hears_all:
        moves = Telling(execution, moves)  # to look a move up tells
    value, has_failed, note = execution.input, False, journal.extend
    while True:
        if cancellation.requested or len(journal) >= longest:
            longest = _go_on(execution, name)
        call, nested, follower, choices, step = moves[name]
        entry: Any = name
        error: BaseException | None = None
        try:
            if call is not None:
                output = call(value)
                if type(output) is CoroutineType:
                    raise stray_coroutine(output, name_of(call))
            elif nested is not None:
                child = Execution(nested, value, execution._places, execution, name)
                run(child)
                entry, output = (name, child), child.output
                if child.status is not _COMPLETED:
                    _output_of_child(step, f"step {name!r}", child)
            else:
                entry = _perform(step, value, execution)
                output, error = entry.output, entry.error
            if choices is not None and error is None:
                follower = choices.get(output) if type(output) is str else None
                if follower is None:
                    follower = step.after(output)
        except BaseException as raised:
            error = raised
        if error is None:
            note((entry, perf_counter(), output))
            value = output
            if has_failed and follower is not None:
                has_failed = _is_still_failing_at(follower, execution)
        else:  # out here, for what follows is not due to it
            follower, value = _after_error(execution, step, entry, value, error)
            has_failed = execution._first_failure is not None
        if follower is None:
            break
        name = follower
    if cancellation.requested:
        raise _stop(execution, "")
    return step


def _is_still_failing_at(step: str, execution: Execution) -> bool:
    """Forget the failure where a step on the main path follows."""
    if step in execution._graph.failure_steps:
        return True
    execution._first_failure = None
    return False


def _conclude(execution: Execution, last: Step) -> None:
    """Say how a run ended that failed on its way, or whose last step says it."""
    first = execution._first_failure
    failure = None if first is None else _blame_at(first, execution)
    graph = execution._graph
    is_failure_step = last.name in graph.failure_steps
    if execution._is_unhandled:
        assert failure is not None
        latest = _blame_at(execution._last_failure, execution)
        _fail(execution, failure.error, latest)
        return
    if isinstance(last.action, Fail):
        failure = _blame_at(execution._last_failure, execution)
        _fail(execution, failure.error, failure)
        return
    execution.output = execution.last_result
    if last.ends == "completed" or (last.ends is None and not is_failure_step):
        execution.status = _COMPLETED
        return
    if failure is None:
        error = StepExecutionError(
            f"step {last.name!r} of {graph.name!r} ends the workflow as failed",
            last.name,
        )
        failure = Blame(last.name, error, True)
    _fail(execution, failure.error, failure)


def _fail(execution: Execution, error: Exception, blame: Blame) -> None:
    """End a run that has failed, once all that had succeeded is undone."""
    if execution._graph.has_compensations:
        undo(execution, execution._failure_of(error, blame))
    execution.status, execution.error = Status.FAILED, error
    execution._blame = blame


def _blame_at(failed: Failed | None, execution: Execution) -> Blame:
    """Say which step failed."""
    assert failed is not None
    (name, *_), *_, error = failed
    is_ours = isinstance(error, StepExecutionError)
    action = execution._graph.table[name].action
    return Blame(name, error, is_ours and not isinstance(action, Call))


def _after_failure(
    execution: Execution, step: Step, entry: Any, error: BaseException
) -> str | None:
    """Note a failed step, and give the step that takes the failure, if one does.

    Raises:
        BaseException: If it is no failure of the step, but an interrupt of the run.
    """
    journal, ended = execution._journal, perf_counter()
    if journal:
        began, value = journal[-2], journal[-1]
    else:
        began, value = execution._began, execution.input
    journal.extend((entry, ended, error))
    if not isinstance(error, Exception) and entry.outcome is Outcome.CANCELLED:
        raise error
    if execution._cancellation.requested:
        raise ExecutionCancelledError("the execution was stopped") from error
    execution._last_failure = failed = (entry, value, began, ended, error)
    if execution._first_failure is None:
        execution._first_failure = failed
    else:
        _remember(execution._first_failure[-1], error)
    target = step.on_failure
    if target is not None and not isinstance(target, str):
        target = step.after_failure(error)
    if isinstance(error, StepFunctionError) and any(
        isinstance(cause, WorkerStartError) for cause in causes(error)
    ):
        target = None  # the program is at fault, and not the step
    if target is None and not isinstance(step.action, Fail):
        execution._is_unhandled = True
    if execution._audience is not None:
        tell_news(execution, target)
    return target


def _remember(first: BaseException, error: BaseException) -> None:
    """Make the first failure the context of a failure in a failure step."""
    earlier, later = _contexts(first), _contexts(error)
    if not {id(one) for one in earlier} & {id(one) for one in later}:
        BaseException.__setattr__(later[-1], "__context__", first)


def _contexts(error: BaseException) -> list[BaseException]:
    chain = {id(error): error}
    while (context := error.__context__) is not None and id(context) not in chain:
        chain[id(context)] = error = context
    return list(chain.values())


def _after_error(
    execution: Execution, step: Step, entry: Any, value: Any, error: BaseException
) -> tuple[str | None, Any]:
    """Note a step that raised; give the step that follows, and what it is given."""
    error.with_traceback(users_traceback(error))
    if type(entry) is str and isinstance(error, Exception):
        if step.retry is None or step.plain is None:
            return _after_failure(execution, step, (entry, None), error), error
        try:
            visit = _perform(step, value, execution, error)
        except BaseException as final:
            visit = _failed(entry, final.with_traceback(users_traceback(final)))
    else:
        visit = _failed(entry, error)
    if visit.error is not None:
        return _after_failure(execution, step, visit, visit.error), visit.error
    # It succeeded when it was tried again.
    execution._journal.extend((visit, perf_counter(), visit.output))
    if step.next_step is not None:
        _is_still_failing_at(step.next_step, execution)
    return step.next_step, visit.output


def _failed(entry: Any, error: BaseException) -> Visit:
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


def _go_on(execution: Execution, follower: str) -> int:
    """Forget what is older than the history, and give how long it may become again.

    Raises:
        Exception: Where the run does not go on.
    """
    graph, journal = execution._graph, execution._journal
    if graph.keep_history is not None and not execution._cancellation.requested:
        execution._forget(graph.keep_history)
        longest = graph.longest_journal(execution._forgotten)
        if len(journal) < longest:
            return longest
    raise _stop(execution, follower)


def _stop(execution: Execution, follower: str) -> Exception:
    """Give the error that says why the run does not go on."""
    if execution._cancellation.requested:
        return ExecutionCancelledError("the execution was stopped")
    graph = execution._graph
    return StepLimitError(
        f"{graph.name!r} has run {graph.max_steps} steps and would go on with "
        f"{follower!r}; if that is no endless loop, raise max_steps",
        follower,
    )


# --- what performing a step means -----------------------------------------------


def _perform(
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
        visit = _failed(step.name, raised.with_traceback(users_traceback(raised)))
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
    title = f"step {step.name!r}"
    if name is not None:
        what = repr(name) if kind is Task else name
        title = f"{'task' if kind is Task else 'item'} {what} of {title}"
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
        return _output_of_child(step, title, child)

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


class NestedCall:
    """A nested workflow as a call: it gives its execution when that has ended.

    In another process it runs with workers of its own, and cannot be cancelled but by
    killing the process.
    """

    def __init__(
        self,
        graph: Graph,
        places: Places | None,
        title: str,
        timeout: float | None = None,
        override: str | None = None,
        begun: Callable[[Execution], None] | None = None,
        reach: Reach | None = None,
        skips: bool = False,
    ) -> None:
        self.graph = graph
        self.places = places
        self.title = title
        self.timeout = timeout
        self.override = override
        self.begun = begun
        self.reach = reach
        self.skips = skips  # whether its pauses are skipped, in another process too

    def __call__(self, value: Any, context: Context | None) -> Execution:
        assert context is not None
        places = self.places or Places(self.override)
        outer = context.cancellation or Cancellation()
        try:
            if self.timeout is None:
                return self._run(value, places, outer, context.line)
            with outer.dependent(self.timeout) as cancellation:
                child = self._run(value, places, cancellation, context.line)
        finally:
            if places is not self.places:
                places.close()
        if child.status is Status.TIMED_OUT and not outer.requested:
            # The limit of this attempt, which may be followed by another.
            child.error = StepTimeoutError(
                f"{self.title}: attempt {context.attempt} took longer than "
                f"{self.timeout:g} s",
                self.timeout,
            )
        return child

    def _run(
        self, value: Any, places: Places, cancellation: Cancellation, line: Line | None
    ) -> Execution:
        child = Execution(self.graph, value, places, cancellation=cancellation)
        if self.reach is not None:
            self.reach.extend_to(child, line)
        if self.begun is not None:
            self.begun(child)
        if self.skips and skipping.get() is None:
            child._skipped = skipped = []
            token = skipping.set(lambda *pause: skipped.append(pause))
            try:
                run(child)
            finally:
                skipping.reset(token)
        else:
            run(child)
        return child

    def __reduce__(self) -> Any:
        override = self.places.override if self.places else self.override
        if not isinstance(override, str):
            override = None
        parts = (self.graph, None, self.title, self.timeout, override, None)
        return NestedCall, (*parts, self.reach, self.skips)


def _output_of_child(step: Step, title: str, child: Execution) -> Any:
    """Give what a nested workflow gave, or fail as it failed."""
    error = _error_of_child(step, title, child)
    if error is not None:
        raise error
    return child.output


def _error_of_child(step: Step, title: str, child: Execution) -> Exception | None:
    """Give what a step fails with whose nested workflow did not complete."""
    if isinstance(child.error, StepTimeoutError) and child._blame is None:
        return child.error
    if child.status in _STOPPED:
        return ExecutionCancelledError(f"{title} was cancelled")
    if child._blame is not None:
        inner, error, _ = child._blame
        failure = StepExecutionError(
            f"{title}: nested workflow {child.workflow!r} failed at its step "
            f"{inner!r}: {error_text(error)}",
            step.name,
        )
        failure.execution = child
        failure.__cause__ = child.error
        return failure
    if isinstance(child.output, Omitted):
        return TransferError(
            f"{title}: the result of nested workflow {child.workflow!r}, "
            f"{child.output.text}, cannot be sent back from its process; "
            "let its last step return what can be pickled"
        )
    return None
