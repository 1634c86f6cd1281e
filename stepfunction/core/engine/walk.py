"""Walk: the loop that goes from step to step.

It performs the step, asks the graph which is next, and notes what happened in the
execution's journal. The rest of it is what a failure leads to.
"""

from __future__ import annotations

from time import perf_counter
from types import CoroutineType
from typing import Any

from stepfunction.core.definition.actions import Fail
from stepfunction.core.definition.callables import name_of, stray_coroutine
from stepfunction.core.definition.calls import Call
from stepfunction.core.definition.graph import Step
from stepfunction.core.engine.compensation import undo
from stepfunction.core.engine.nested import output_of_child
from stepfunction.core.engine.perform import failed_visit, perform
from stepfunction.core.errors import (
    ExecutionCancelledError,
    StepExecutionError,
    StepFunctionError,
    StepLimitError,
    WorkerStartError,
    causes,
    users_traceback,
)
from stepfunction.core.history.execution import Blame, Execution, Status
from stepfunction.core.history.records import Failed
from stepfunction.core.outcomes import Outcome
from stepfunction.core.watching.telling import Telling, tell_end, tell_news

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
                    output_of_child(step, f"step {name!r}", child)
            else:
                entry = perform(step, value, execution)
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
            visit = perform(step, value, execution, error)
        except BaseException as final:
            visit = failed_visit(entry, final.with_traceback(users_traceback(final)))
    else:
        visit = failed_visit(entry, error)
    if visit.error is not None:
        return _after_failure(execution, step, visit, visit.error), visit.error
    # It succeeded when it was tried again.
    execution._journal.extend((visit, perf_counter(), visit.output))
    if step.next_step is not None:
        _is_still_failing_at(step.next_step, execution)
    return step.next_step, visit.output


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
