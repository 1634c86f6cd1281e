"""Walk: the loop that goes from step to step.

It performs the step, asks the graph which is next, and notes both together. The rest
of it is what a failure leads to, and how a run ends.
"""

from __future__ import annotations

from threading import get_ident
from types import CoroutineType
from typing import Any

from stepfunction.core.clock import perf_counter
from stepfunction.core.definition.callables import name_of, stray_coroutine
from stepfunction.core.definition.graph import Course, Graph, Move, Step
from stepfunction.core.engine.compensation import undo
from stepfunction.core.engine.nested import output_of_child
from stepfunction.core.engine.perform import failed_visit, perform
from stepfunction.core.engine.run import Run
from stepfunction.core.engine.verdict import Verdict, limit_error, remember, verdict_of
from stepfunction.core.errors import (
    ExecutionCancelledError,
    ResumeError,
    StepFunctionError,
    StepLimitError,
    StoreError,
    refusal_behind,
    stop_behind,
)
from stepfunction.core.history.chronicle import end_record, last_record
from stepfunction.core.history.journal import NOTHING, Journal
from stepfunction.core.history.position import Blame, Failing, Position
from stepfunction.core.history.records import Visit, as_visit
from stepfunction.core.outcomes import (
    COMPLETED,
    RUNNING,
    UNDER_WAY,
    Ended,
    Outcome,
    Status,
)
from stepfunction.core.probes import onlookers
from stepfunction.core.raised import is_a
from stepfunction.core.tracebacks import forget_locals, without_our_frames
from stepfunction.core.watching.telling import (
    tell_beginning,
    tell_end,
    tell_record,
    tell_step_start,
)
from stepfunction.core.wording import subject

__tracebackhide__ = True  # pytest shows the test and what is called, not us

# What ends an execution that can go on from where it stands.
_STOPPING = (StoreError, ResumeError)


def run_to_end(journal: Journal, run: Run) -> None:  # noqa: C901
    """Run an execution to its end. Only the thread that does so writes its journal.

    Args:
        journal: That of an execution that has not begun.
        run: What it shares with what it is nested in.

    Raises:
        BaseException: What interrupts this thread.
    """
    graph: Graph = journal.graph  # type: ignore[assignment]
    course = graph.course
    start, _, _, _, keep_history, says_end = course
    position: Position = (start, journal.input, None)
    saving, sprints = None, run.guard is None and not onlookers
    if not run.is_plain:
        saving = journal.saving
        sprints = sprints and saving is None and not _begins_apart(journal, graph)
        if saving is not None:
            says_end = True  # so that it is noted
            position = saving.origin or position
    audience = run.audience
    face = None  # of all that is told, so that nobody has to make another
    try:
        journal.status = RUNNING
        if audience is not None:
            journal.position = position
            face = tell_beginning(audience, journal)
        try:
            if sprints and face is None:
                position = sprint(journal, run, course, position)
            if position[0] is not None:
                position = walk(journal, run, graph, position)
            if run.cancellation.requested:
                raise ExecutionCancelledError("the execution was stopped")
        except StepLimitError as error:
            blame = Blame(error.step, error, True)
            verdict = (Status.FAILED, None, error, blame, True)
            _end(journal, run, graph, verdict)
        else:
            _, value, failing = position
            if failing is None and not says_end:
                journal.output, journal.status = value, COMPLETED
            else:
                _end(journal, run, graph, verdict_of(journal, graph, position))
    except ExecutionCancelledError as stopped:
        is_overdue = run.cancellation.is_overdue
        status = Status.TIMED_OUT if is_overdue else Status.CANCELLED
        _stop(journal, run, stopped, status)
    except _STOPPING as stopped:  # what is stored can go on from there
        journal.broke_off, journal.error = True, stopped
        journal.status = Status.CANCELLED
        raise
    except Exception as error:  # the engine could not go on, as at too deep a nesting
        journal.broke_off = True
        journal.error, journal.status = error, Status.FAILED
        raise
    except BaseException as interrupt:
        journal.error = interrupt
        if saving is not None and _is_all(run, interrupt):
            saving.session.is_closed = True  # others may go on from there
        _stop(journal, run, interrupt, Status.CANCELLED)
        raise
    finally:
        journal.ended = perf_counter()
        if keep_history is not None:
            journal.forget(keep_history)
        if audience is not None and face is not None:
            tell_end(audience, journal)


def _begins_apart(journal: Journal, graph: Graph) -> bool:
    """Tell whether the first step is called as it is not where it has an input."""
    return journal.has_no_input and graph.first_move is not None


def _hand_down(journal: Journal, child: Journal) -> None:
    """Give to what is nested in the present step what it has of what is around it."""
    if journal.has_no_input and not journal.steps:
        child.has_no_input = True
    if journal.lineage is not None:
        child.lineage = journal.key_of_nested()


def walk(journal: Journal, run: Run, graph: Graph, position: Position) -> Position:
    """Go from step to step until none follows.

    Args:
        journal: Where what happens is noted.
        run: What the execution shares with what it is nested in.
        graph: What it runs.
        position: Where to go on.

    Returns:
        The end.

    Raises:
        ExecutionCancelledError: If it was asked to stop.
        StepLimitError: If it would take more steps than it may.
        BaseException: What interrupts this thread.
    """
    _, moves, longest, *_ = graph.course
    saving = journal.saving
    is_watched = saving is not None or run.guard is not None or bool(onlookers)
    if run.audience is not None and run.audience.hears_all:
        is_watched = True
    while (name := position[0]) is not None:
        noted = len(journal.entries)
        if run.cancellation.requested or journal.forgotten or noted >= longest:
            longest = _go_on(journal, run, position)
        move = moves[name]
        if journal.has_no_input and not journal.steps:
            move = graph.first_move or move
        *_, step = move
        journal.position, journal.begun = position, journal.last_stamp
        if run.audience is not None:
            tell_step_start(run.audience, journal, step)
        visit = _visit(journal, run, move, position)
        position = _after(journal, run, step, visit, position[2])
        journal.here = None
        if position[0] is not None and not is_watched:
            position = sprint(journal, run, graph.course, position)
    return position


def _visit(journal: Journal, run: Run, move: Move, position: Position) -> Visit:
    """Perform a step, and give what came of it, whatever that was."""
    call, nested, *_, step = move
    name: Any
    name, value, failing = position
    entry, saving = name, journal.saving
    try:
        if call is not None and not (saving and saving.has_begun or onlookers):
            output = call(value) if run.guard is None else run.guard(call, value)
            if type(output) is CoroutineType:
                raise stray_coroutine(output, name_of(call))
        elif nested is not None:
            if journal.has_no_input and not journal.steps:
                value = NOTHING
            if journal.saving is None:
                child = Journal.given(nested, value, run)
                if journal.lineage is not None:
                    child.lineage = journal.key_of_nested()
            else:
                child = journal.saving.nested(nested, value, run, journal)
            journal.here = child
            entry = (name, child)
            child.path = (*journal.path, name)
            if child.status in UNDER_WAY:
                run_to_end(child, run)
            output = child.output
            if child.status is not COMPLETED:
                output_of_child(name, subject(name), child)
        else:
            return perform(journal, run, step, value, failing)
        return as_visit(entry, output)
    except BaseException as raised:
        error = without_our_frames(raised)
    if call is None or step.retry is None or not is_a(error, Exception):
        return failed_visit(entry, error)
    return perform(journal, run, step, value, failing, error)


def sprint(  # noqa: C901
    journal: Journal, run: Run, course: Course, position: Position
) -> Position:
    """Run what is no more than a call, while nobody is told of what goes well.

    The same as ``walk``, but that a step is noted by itself and the position where this
    stops; here a chain spends its time.

    Returns:
        Where it stopped: at the end, or at a step that takes more.
    """
    cancellation, entries = run.cancellation, journal.entries
    _, moves, longest, failure_steps, _, _ = course
    name, value, failing = position
    if journal.forgotten:
        longest = 0  # until that has been asked
    note, is_plain = entries.extend, run.is_plain
    if entries:  # what led here may have been asked for
        journal.decided = entries[-2], name, None
    journal.position = None
    while name is not None:
        if cancellation.requested or len(entries) >= longest:
            longest = _go_on(journal, run, (name, value, failing))
        call, nested, follower, choices, target, step = moves[name]
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
                if not is_plain:
                    _hand_down(journal, child)
                if run.audience is not None:
                    child.path = (*journal.path, name)
                run_to_end(child, run)
                output = child.output
                if child.status is not COMPLETED:
                    output_of_child(name, subject(name), child)
            else:
                break
            if choices is not None:
                follower = choices.get(output) if type(output) is str else None
                if follower is None:
                    follower = step.after(output)
                    before = journal.decided[1]
                    journal.decided = perf_counter(), follower, before
        except BaseException as raised:
            error = raised
        if error is None:
            note((entry, perf_counter(), output))
            if failing is not None and follower is not None:
                if follower not in failure_steps:
                    journal.recovered, failing = failing, None
            name, value = follower, output
        else:  # out here, for what follows is not due to it
            name, value, failing = _after_error(
                journal, run, step, entry, value, error, failing, target
            )
            journal.decided = entries[-2], name, None
            journal.here = journal.position = None  # which this is past soon
    position = (name, value, failing)
    if name is not None:
        journal.position, journal.here = position, None
    return position


def _after(
    journal: Journal, run: Run, step: Step, visit: Visit, failing: Failing | None
) -> Position:
    """Note a step that was performed together with where it leads; then tell of it."""
    saving, output = journal.saving, None
    if saving is not None and saving.resumed is not None:
        visit = _as_resumed(visit, saving.resumed)
    if visit.error is None:
        try:
            follower = step.after(visit.output)
            if saving is not None:
                output = saving.written(visit)
        except BaseException as raised:
            error = without_our_frames(raised)
            visit = failed_visit(visit, error)
    if visit.error is not None:
        return _after_failure(journal, run, step, visit, visit.error, failing)
    assert journal.graph is not None
    if failing is not None and follower is not None:
        if follower not in journal.graph.failure_steps:
            # The main path was reached again.
            journal.recovered, failing = failing, None
    journal.note(visit, visit.output)
    position = (follower, visit.output, failing)
    if saving is not None:
        saving.note(journal, visit, position, output)
    journal.position = position
    if run.audience is not None:
        tell_record(run.audience, journal, "step", last_record(journal))
    return journal.position


def _after_error(
    journal: Journal,
    run: Run,
    step: Step,
    entry: Any,
    value: Any,
    error: BaseException,
    failing: Failing | None,
    target: str | None,
) -> Position:
    """Note a step that raised, and give where that leads."""
    kind = type(error)
    if (
        target is not None
        and type(entry) is str
        and run.audience is None
        and issubclass(kind, Exception)
        and not issubclass(kind, StepFunctionError)
        and not run.cancellation.requested
        and not run.keeps_locals
    ):  # then what follows comes to no more than this
        noted, entries = (entry, None), journal.entries
        began, ended = entries[-2] if entries else journal.began, perf_counter()
        entries.extend((noted, ended, error))
        forget_locals(error, is_from_here=True)
        failed = noted, value, began, ended, error
        if failing is None:
            return target, error, (failed, failed)
        remember(failing[0][-1], error)
        return target, error, (failing[0], failed)
    without_our_frames(error)
    if type(entry) is not str or not is_a(error, Exception):
        entry = failed_visit(entry, error)
    elif target is not None or step.retry is None or step.plain is None:
        entry = (entry, None)
    else:
        journal.position, journal.begun = (entry, value, failing), journal.last_stamp
        visit = perform(journal, run, step, value, failing, error)
        return _after(journal, run, step, visit, failing)
    return _after_failure(journal, run, step, entry, error, failing, target)


def _after_failure(
    journal: Journal,
    run: Run,
    step: Step,
    entry: Any,
    error: BaseException,
    failing: Failing | None,
    target: str | None = None,
) -> Position:
    """Note a failed step together with the step that takes the failure, if one does.

    Raises:
        BaseException: If it is no failure of the step, but an interrupt of the run;
            it then stands where it stood.
    """
    failed, saving = journal.failed(entry, error), journal.saving
    interrupt: BaseException | None = None
    if not is_a(error, Exception) and entry.outcome is Outcome.CANCELLED:
        interrupt = error
    elif run.cancellation.requested:
        interrupt = ExecutionCancelledError("the execution was stopped")
        interrupt.__cause__ = error
    elif saving is not None:
        interrupt = stop_behind(error)
    if interrupt is not None:
        journal.position, journal.here = (step.name, failed[1], failing), None
        if run.audience is not None:
            tell_record(run.audience, journal, "step", last_record(journal))
        raise interrupt
    if failing is None:
        failing = (failed, failed)
    else:
        first, _ = failing
        remember(first[-1], error)
        failing = (first, failed)
    if target is None:
        target = step.after_failure(error)
    refusal = refusal_behind(error)
    if refusal is not None:
        target = None  # it is no failure of the step
    position = (target, error, failing)
    if saving is not None and refusal is None:
        saving.note(journal, as_visit(entry, error), position, None)
    journal.position = position
    if run.audience is not None:
        tell_record(run.audience, journal, "step", last_record(journal), target)
    if target is not None and not run.keeps_locals:
        forget_locals(error)
    return position


def _end(journal: Journal, run: Run, graph: Graph, verdict: Verdict) -> None:
    """End a run as is right; one that has failed, once all that succeeded is undone."""
    status, output, error, blame, broke_off = verdict
    saving = journal.saving
    if blame is not None and error is not None:
        if saving is not None and refusal_behind(blame.error) is not None:
            saving.session.is_closed = True  # it can go on where workers can be had
        elif graph.has_compensations:
            undo(journal, run, end_record(journal, error, blame))
        journal.broke_off = broke_off
    if saving is not None:
        saving.note_end(journal, status, perf_counter())
    if blame is not None:
        journal.blame, journal.error = blame, error
    journal.output, journal.status = output, status


def _stop(journal: Journal, run: Run, error: BaseException, status: Status) -> None:
    """End a run that was stopped; one in a task then undoes what it did.

    Whoever told it to stop may not wait for it, and cannot undo it then. Where all are
    stopped nothing is undone.
    """
    graph, is_all = journal.graph, _is_all(run, error)
    assert graph is not None
    try:
        if run.top is journal and not is_all and graph.has_compensations:
            if journal.entries and not _is_undoing(journal):
                undo(journal, run, last_record(journal).replace(error=error))
        saving = journal.saving
        if saving is not None and saving.is_outermost is is_all:
            saving.note_end(journal, status, perf_counter())
    finally:
        journal.status = status


def _is_undoing(journal: Journal) -> bool:
    """Tell whether an execution has begun to undo itself, in this process."""
    saving = journal.saving
    if saving is not None and saving.origin is not None:
        return saving.is_undoing
    return journal.undone is not Journal.undone


def _is_all(run: Run, error: BaseException) -> bool:
    """Tell whether what stops a run stops the whole execution."""
    root = run.cancellation.root
    return root.requested or (
        root.thread == get_ident() and not is_a(error, ExecutionCancelledError)
    )


def _as_resumed(visit: Visit, resumed: float) -> Visit:
    """Give a visit that has begun when its execution went on."""
    if visit.attempts or visit.outcome is None:
        return visit
    one: Ended = (visit.outcome, resumed, perf_counter(), visit.error)
    return visit._replace(attempts=(one,))


def _go_on(journal: Journal, run: Run, position: Position) -> int:
    """Forget what is older than the history, and give how long it may become again.

    Raises:
        Exception: Where the run does not go on from this position.
    """
    graph: Graph = journal.graph  # type: ignore[assignment]
    saving = journal.saving
    if run.cancellation.requested and (saving is None or not saving.has_nested):
        journal.position = position
        raise ExecutionCancelledError("the execution was stopped")
    longest = graph.longest_journal(journal.forgotten)
    if len(journal.entries) >= longest and graph.keep_history is not None:
        lost = journal.entries[: -3 * graph.keep_history]
        journal.forget(graph.keep_history)
        if journal.saving is not None and lost:
            journal.saving.note_forgotten(journal, lost)
        longest = graph.longest_journal(journal.forgotten)
    if len(journal.entries) < longest:
        return longest
    journal.position = position
    raise limit_error(journal, graph, position[0] or "")
