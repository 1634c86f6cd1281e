"""Walk: the loop that goes from step to step.

It performs the step, asks the graph which is next, and notes both together. The rest
of it is what a failure leads to, and how a run ends.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from time import perf_counter
from types import CoroutineType
from typing import Any, cast

from stepfunction.core.definition.actions import Fail
from stepfunction.core.definition.calls import Call, name_of, stray_coroutine
from stepfunction.core.definition.graph import Graph, Step
from stepfunction.core.engine.compensation import undo
from stepfunction.core.engine.nested import output_of_child
from stepfunction.core.engine.perform import failed_visit, perform
from stepfunction.core.engine.run import Run
from stepfunction.core.errors import (
    ExecutionCancelledError,
    StepExecutionError,
    StepFunctionError,
    StepLimitError,
    WorkerStartError,
    causes,
    users_traceback,
)
from stepfunction.core.history.journal import (
    Blame,
    Failed,
    Failing,
    Journal,
    Position,
)
from stepfunction.core.history.records import Visit, as_visit
from stepfunction.core.outcomes import Outcome, Status
from stepfunction.core.watching.telling import (
    tell_beginning,
    tell_end,
    tell_step_end,
    tell_step_start,
)
from stepfunction.core.wording import subject

# To look a member of an enum up takes its time.
_RUNNING, _COMPLETED = Status.RUNNING, Status.COMPLETED
# The classes themselves take twice as long.
_position = cast(
    Callable[[tuple[Any, ...]], Position], partial(tuple.__new__, Position)
)
_failing = cast(Callable[[tuple[Any, ...]], Failing], partial(tuple.__new__, Failing))


def run_to_end(journal: Journal, run: Run) -> None:
    """Run an execution to its end. Only the thread that does so writes its journal.

    Args:
        journal: That of an execution that has not begun.
        run: What it shares with what it is nested in.

    Raises:
        BaseException: What interrupts this thread.
    """
    journal.status = _RUNNING
    graph: Graph = cast(Graph, journal.graph)
    try:
        if run.audience is not None:
            tell_beginning(run.audience, journal)
        try:
            position = walk(
                journal, run, _position((graph.start, journal.input, None))
            )
        except StepLimitError as error:
            _fail(journal, run, error, Blame(error.step, error, True))
        else:
            _conclude(journal, run, graph, position)
    except ExecutionCancelledError:
        is_overdue = run.cancellation.is_overdue
        journal.status = Status.TIMED_OUT if is_overdue else Status.CANCELLED
    except Exception as error:  # the engine could not go on, as at too deep a nesting
        journal.fail(Status.FAILED, error)
        raise
    except BaseException as interrupt:
        journal.fail(Status.CANCELLED, interrupt)
        raise
    finally:
        journal.ended = perf_counter()
        if graph.keep_history is not None:
            journal.forget(graph.keep_history)
        if run.audience is not None:
            tell_end(run.audience, journal)


def walk(journal: Journal, run: Run, position: Position) -> Position:
    """Go from step to step until none follows.

    Args:
        journal: Where what happens is noted.
        run: What the execution shares with what it is nested in.
        position: Where to go on.

    Returns:
        The end.

    Raises:
        ExecutionCancelledError: If it was asked to stop.
        StepLimitError: If it would take more steps than it may.
        BaseException: What interrupts this thread.
    """
    graph: Graph = cast(Graph, journal.graph)
    while True:
        if run.is_unwatched:
            position = sprint(journal, run, position)
        if position.step is None:
            break
        _go_on(journal, run, graph, position)
        step = graph.table[position.step]
        journal.position = position
        if run.audience is not None and run.audience.hears_all:
            tell_step_start(run.audience, journal, step)
        visit = _visit(journal, run, step, position)
        visit, position = _after(graph, step, visit, position)
        if visit.error is not None:
            position = _after_failure(journal, run, step, visit, visit.error, position)
        else:
            _note(journal, run, visit, visit.output, position)
    if run.cancellation.requested:
        raise _stop(journal, run, "")
    return position


def _visit(journal: Journal, run: Run, step: Step, position: Position) -> Visit:
    """Perform a step, and give what came of it, whatever that was."""
    assert journal.graph is not None
    call, nested, *_ = journal.graph.course[1][step.name]
    entry: Any = step.name
    try:
        if call is not None:
            output = call(position.value)
            if type(output) is CoroutineType:
                raise stray_coroutine(output, name_of(call))
        elif nested is not None:
            journal.here = child = Journal(nested, position.value, run)
            entry = (step.name, child)
            child.path = (*journal.path, step.name)
            run_to_end(child, run)
            output = child.output
            if child.status is not _COMPLETED:
                output_of_child(step, subject(step.name, None), child)
        else:
            return perform(step, journal, run, position)
        return as_visit(entry, output)
    except BaseException as raised:
        error = raised.with_traceback(users_traceback(raised))
    if call is None or step.retry is None or not isinstance(error, Exception):
        return failed_visit(entry, error)
    return _visit_again(journal, run, step, position, error)


def _visit_again(
    journal: Journal, run: Run, step: Step, position: Position, error: Exception
) -> Visit:
    """Have a plain call tried again that has failed."""
    try:
        return perform(step, journal, run, position, error)
    except BaseException as final:
        return failed_visit(step.name, final.with_traceback(users_traceback(final)))


def sprint(journal: Journal, run: Run, position: Position) -> Position:
    """Run what is no more than a call, while nobody is told of what goes well.

    The same as ``walk``, but that a step is noted by itself and the position where this
    stops; here a chain spends its time.

    Returns:
        Where it stopped: at the end, or at a step that takes more.
    """
    cancellation, entries = run.cancellation, journal.entries
    graph = cast(Graph, journal.graph)
    _, moves, longest = graph.course
    name, value, failing = position
    if journal.forgotten:
        longest = graph.longest_journal(journal.forgotten)
    note = entries.extend
    journal.position = None
    while name is not None:
        if cancellation.requested or len(entries) >= longest:
            longest = _go_on(journal, run, graph, _position((name, value, failing)))
        call, nested, follower, choices, step = moves[name]
        entry: Any = name
        error: BaseException | None = None
        try:
            if call is not None:
                output = call(value)
                if type(output) is CoroutineType:
                    raise stray_coroutine(output, name_of(call))
            elif nested is not None:
                journal.here = child = Journal(nested, value, run)
                entry = (name, child)
                if run.audience is not None:
                    child.path = (*journal.path, name)
                run_to_end(child, run)
                output = child.output
                if child.status is not _COMPLETED:
                    output_of_child(step, subject(name, None), child)
            else:
                break
            if choices is not None:
                follower = choices.get(output) if type(output) is str else None
                if follower is None:
                    journal.decided = follower = step.after(output)
        except BaseException as raised:
            error = raised
        if error is None:
            note((entry, perf_counter(), output))
            if failing is not None and follower not in graph.failure_steps:
                if follower is not None:
                    failing = None
            name, value = follower, output
        else:  # out here, for what follows is not due to it
            position = _position((name, value, failing))
            name, value, failing = _after_error(
                journal, run, step, entry, error, position
            )
            journal.position = None  # which this is past soon
    journal.here = None
    journal.position = position = _position((name, value, failing))
    return position


def _note(
    journal: Journal, run: Run, entry: Any, result: Any, position: Position
) -> None:
    """Note a step that has ended together with what follows; then tell of it."""
    journal.note(entry, result)
    journal.position = position
    if run.audience is not None:
        tell_step_end(run.audience, journal)


def _after(
    graph: Graph, step: Step, visit: Visit, position: Position
) -> tuple[Visit, Position]:
    """Say where a step leads that has not failed, unless asking for that fails."""
    if visit.error is not None:
        return visit, position
    try:
        follower = step.after(visit.output)
    except BaseException as raised:
        error = raised.with_traceback(users_traceback(raised))
        return failed_visit(visit, error), position
    failing = position.failing
    if follower is not None and follower not in graph.failure_steps:
        failing = None  # the main path was reached again
    return visit, Position(follower, visit.output, failing)


def _after_error(
    journal: Journal,
    run: Run,
    step: Step,
    entry: Any,
    error: BaseException,
    position: Position,
) -> Position:
    """Note a step that raised, and give where that leads."""
    error.with_traceback(users_traceback(error))
    if type(entry) is not str or not isinstance(error, Exception):
        entry = failed_visit(entry, error)
    elif step.retry is None or step.plain is None:
        entry = (entry, None)
    else:
        journal.position = position
        visit = _visit_again(journal, run, step, position, error)
        if visit.error is None:  # it succeeded when it was tried again
            graph = cast(Graph, journal.graph)
            visit, position = _after(graph, step, visit, position)
            _note(journal, run, visit, visit.output, position)
            return position
        entry, error = visit, visit.error
    return _after_failure(journal, run, step, entry, error, position)


def _after_failure(
    journal: Journal,
    run: Run,
    step: Step,
    entry: Any,
    error: BaseException,
    position: Position,
) -> Position:
    """Note a failed step together with the step that takes the failure, if one does.

    Raises:
        BaseException: If it is no failure of the step, but an interrupt of the run;
            it then stands where it stood.
    """
    failed = journal.failed(entry, error)
    interrupt: BaseException | None = None
    if not isinstance(error, Exception) and entry.outcome is Outcome.CANCELLED:
        interrupt = error
    elif run.cancellation.requested:
        interrupt = ExecutionCancelledError("the execution was stopped")
        interrupt.__cause__ = error
    if interrupt is not None:
        journal.position = position
        if run.audience is not None:
            tell_step_end(run.audience, journal)
        raise interrupt
    failing = position[2]
    if failing is None:
        failing = _failing((failed, failed))
    else:
        _remember(failing.first.error, error)
        failing = _failing((failing[0], failed))
    target = step.on_failure
    if target is not None and not isinstance(target, str):
        target = step.after_failure(error)
    if isinstance(error, StepFunctionError) and any(
        isinstance(cause, WorkerStartError) for cause in causes(error)
    ):
        target = None  # the program is at fault, and not the step
    journal.position = position = _position((target, error, failing))
    if run.audience is not None:
        tell_step_end(run.audience, journal, target)
    return position


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


def _conclude(journal: Journal, run: Run, graph: Graph, position: Position) -> None:
    """Say how a run ends that has come to its end."""
    last = graph.table[journal.last_step]
    failing = position.failing
    journal.ended_at = last.name
    if failing is None:
        if last.ends != "failed":
            journal.status, journal.output = _COMPLETED, position.value
            return
        journal.output = position.value
        error = StepExecutionError(
            f"step {last.name!r} of {graph.name!r} ends the workflow as failed",
            last.name,
        )
        _fail(journal, run, error, Blame(last.name, error, True))
    elif journal.has_just_failed:
        if isinstance(last.action, Fail):
            blame = _blame_at(failing.last, graph)
            _fail(journal, run, blame.error, blame)
        else:
            journal.ended_at = None
            first = _blame_at(failing.first, graph)
            _fail(journal, run, first.error, _blame_at(failing.last, graph))
    else:
        journal.output = position.value
        is_failure_step = last.name in graph.failure_steps
        if last.ends == "completed" or (last.ends is None and not is_failure_step):
            journal.status = _COMPLETED
        else:
            blame = _blame_at(failing.first, graph)
            _fail(journal, run, blame.error, blame)


def _fail(journal: Journal, run: Run, error: Exception, blame: Blame) -> None:
    """End a run that has failed, once all that had succeeded is undone."""
    assert journal.graph is not None
    if journal.graph.has_compensations:
        undo(journal, run, journal.record_of_end(error, blame))
    journal.blame = blame
    journal.fail(Status.FAILED, error)


def _blame_at(failed: Failed, graph: Graph) -> Blame:
    """Say which step failed."""
    (name, *_), error = failed.entry, failed.error
    is_ours = isinstance(error, StepExecutionError)
    return Blame(name, error, is_ours and not isinstance(graph.table[name].action, Call))


def _go_on(journal: Journal, run: Run, graph: Graph, position: Position) -> int:
    """Forget what is older than the history, and give how long it may become again.

    Raises:
        Exception: Where the run does not go on from this position.
    """
    assert position.step is not None
    noted = len(journal.entries)
    longest = graph.longest_journal(journal.forgotten)
    if not run.cancellation.requested:
        if noted < longest:
            return longest
        if graph.keep_history is not None:
            journal.forget(graph.keep_history)
            longest = graph.longest_journal(journal.forgotten)
            if len(journal.entries) < longest:
                return longest
    journal.position = position
    raise _stop(journal, run, position.step)


def _stop(journal: Journal, run: Run, follower: str) -> Exception:
    """Give the error that says why the run does not go on."""
    if run.cancellation.requested:
        return ExecutionCancelledError("the execution was stopped")
    assert journal.graph is not None
    most = journal.graph.max_steps
    return StepLimitError(
        f"{journal.workflow!r} has run {most} steps and would go on with "
        f"{follower!r}; if that is no endless loop, raise max_steps",
        follower,
    )
