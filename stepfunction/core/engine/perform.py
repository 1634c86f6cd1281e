"""Perform: what performing a step means for each kind of action."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from stepfunction.core.cancellation import Cancellation
from stepfunction.core.clock import perf_counter
from stepfunction.core.definition.actions import FanOut
from stepfunction.core.definition.graph import Step
from stepfunction.core.engine.run import Run
from stepfunction.core.engine.tasks import StepTask, Terms
from stepfunction.core.errors import ExecutionCancelledError
from stepfunction.core.history.journal import Journal
from stepfunction.core.history.position import Failing
from stepfunction.core.history.records import Visit, as_visit
from stepfunction.core.history.results import TaskResults, parallel_failure
from stepfunction.core.outcomes import STOPPED, Outcome
from stepfunction.core.probes import onlooker
from stepfunction.core.raised import is_a
from stepfunction.core.tracebacks import forget_locals, without_our_frames
from stepfunction.core.watching.telling import News
from stepfunction.core.workers.attempts import LiveAttempt, Report, make_attempt
from stepfunction.core.workers.ends import run_tasks
from stepfunction.core.workers.places import Inline
from stepfunction.core.workers.retry import judges_results
from stepfunction.core.workers.tasks import Task

__tracebackhide__ = True  # pytest shows the test and what is called, not us


def perform(
    journal: Journal,
    run: Run,
    step: Step,
    value: Any,
    failing: Failing | None,
    error: Exception | None = None,
) -> Visit:
    """Perform a step, and give what came of it, whatever that was.

    Args:
        journal: That of its execution.
        run: What that shares with what it is nested in.
        step: What to perform, which is more than a plain call.
        value: Its input, unless it names its inputs.
        failing: What has failed on the way to it.
        error: What the first attempt failed with, if it has been made.
    """
    given, news, name, inputs = None, None, step.name, step.inputs
    if inputs is not None:
        results = journal.results_so_far()
        value = {parameter: results[source] for parameter, source in inputs}
        given = (dict(value),)  # which stays as it is, whoever changes the other
    if run.audience is not None:
        news = News(run.audience, journal, name)
    kept = None if journal.saving is None else journal.saving.visit(journal, step)
    terms = Terms(step, name, journal, run, failing, news, given, kept)
    try:
        visit = _perform(terms, value, error)
    except BaseException as raised:
        visit = failed_visit(name, without_our_frames(raised))
    finally:
        if news is not None:
            news.close()
    return visit if given is None else visit._replace(given=given)


def _perform(terms: Terms, value: Any, error: Exception | None) -> Visit:
    step, outer = terms.step, terms.run.cancellation
    action: Any = step.action
    with outer.dependent() as cancellation:
        if step.executor is None:
            visit = _perform_here(terms, value, cancellation, error)
        elif action.has_items:
            from stepfunction.core.engine.items import perform_map

            visit = perform_map(action, terms.limited(), value, cancellation)
        elif action.has_tasks:
            visit = _fan_out(action, terms.limited(), value, cancellation)
        else:
            visit = _perform_elsewhere(terms.limited(), value, cancellation)
    is_interrupt = visit.error is not None and not is_a(visit.error, Exception)
    if outer.requested and not (is_interrupt and visit.outcome is Outcome.CANCELLED):
        outcomes = {visit.outcome, *(task.outcome for task in visit.tasks)}
        if outcomes != {Outcome.SUCCEEDED}:
            stopped = ExecutionCancelledError("the execution was stopped")
            outcome = visit.outcome
            if outcome not in (Outcome.KILLED, Outcome.ABANDONED):
                outcome = Outcome.CANCELLED
            return visit._replace(outcome=outcome, error=stopped)
    return visit


def _perform_here(
    terms: Terms, value: Any, cancellation: Cancellation, error: Exception | None
) -> Visit:
    """Make the first attempt in this thread; only its failure costs more."""
    retry, task = terms.step.retry, StepTask(terms, terms.step.action)
    terms.show_to(onlooker(), [task])
    work, first = terms.work(value), LiveAttempt(task, cancellation)
    how: Any = {"kept": terms.kept, "keeps_locals": terms.run.keeps_locals}
    terms.show(task.now)
    if terms.kept is not None and error is None:
        terms.kept.recall_one(task)
    if task.attempts:
        run_tasks((task,), Inline(work, isolate=False), cancellation, **how)
        return task.visit()
    if error is None:
        report = make_attempt(first, work, catch=Exception)
    else:
        began, now = terms.journal.last_stamp, perf_counter()
        report = Report(first, Outcome.FAILED, error, began, now)
    task.settle(report, cancellation.requested)
    if retry is not None and (task.error is not None or judges_results(retry)):
        run_tasks((task,), Inline(work, isolate=False), cancellation, **how)
    return task.visit()


def _perform_elsewhere(terms: Terms, value: Any, cancellation: Cancellation) -> Visit:
    """Perform a step that has an executor of its own: a fan-out of one."""
    step, task = terms.step, StepTask(terms, terms.step.action)
    terms.show_to(onlooker(), [task])
    work = terms.work(value, [task])
    terms.show(task.now)
    place = terms.run.workshop.place(step.executor, work, 1)
    if terms.kept is not None:
        terms.kept.recall_one(task)
    keeps_locals = terms.run.keeps_locals
    run_tasks(
        (task,), place, cancellation, kept=terms.kept, keeps_locals=keeps_locals
    )
    return task.visit()


def _fan_out(
    action: FanOut, terms: Terms, value: Any, cancellation: Cancellation
) -> Visit:
    """Perform a parallel step."""
    step = terms.step
    refuse_if_used_up(terms.name, action, value, terms.given is not None)
    tasks = [StepTask(terms, call, name) for name, call in action.tasks.items()]
    failed: list[Task] = []  # as they fail, which tells the first

    def is_enough(task: Task) -> bool:
        failed.append(task)
        return action.stop_on_failure and len(failed) > action.tolerated

    most, ahead = action.max_workers, not action.stop_on_failure
    looks_on = onlooker()
    if looks_on is not None:
        terms.show_to(looks_on, tasks)
        most, ahead = 1, False  # one at a time, so that it is known which it was
    work = terms.work(value, tasks)
    place = terms.run.workshop.place(step.executor, work, len(tasks), most, ahead)
    terms.show(lambda: terms.present(tasks))
    left, kept = tasks, terms.kept
    stopped: list[StepTask] = []
    if kept is not None:
        kept.saving.count = len(tasks)
        left = kept.recall(tasks)
        if [it for it in kept.failed(tasks) if is_enough(it)]:
            stopped, left = left, []  # it was about to stop them
        elif cancellation.requested:
            stopped, left = left, []
    try:
        for task in stopped:
            assert kept is not None
            kept.stop_nested(task, cancellation)
        keeps_locals = terms.run.keeps_locals
        run_tasks(
            left, place, cancellation, is_enough, kept=kept, keeps_locals=keeps_locals
        )
    except BaseException as interrupt:
        _forget_locals_of(tasks, terms.run)
        visits = tuple(task.visit() for task in tasks)
        is_failure = is_a(interrupt, Exception)
        outcome = Outcome.FAILED if is_failure else Outcome.CANCELLED
        return Visit(terms.name, outcome, error=interrupt, tasks=visits)
    visit = gather(terms.name, action, tasks, failed)
    if visit.error is None:
        _forget_locals_of(tasks, terms.run)
    return visit


def _forget_locals_of(tasks: Iterable[Task], run: Run) -> None:
    """Let no failure of a task keep its frames, for the step does not fail with it."""
    for task in () if run.keeps_locals else tasks:
        if task.error is not None:
            forget_locals(task.error)


def refuse_if_used_up(
    step: str, action: FanOut, value: Any, has_names: bool
) -> None:
    """Refuse to give several tasks what the first that reads it uses up.

    Args:
        step: The name of the step.
        action: Its action.
        value: Its input.
        has_names: Whether that is its named inputs.

    Raises:
        TypeError: If it is, or has, an iterator.
    """
    for name, it in value.items() if has_names else ((None, value),):
        kind = type(it)
        if not _gives_the_next(kind):
            continue
        readers = [task for task in action.tasks.values() if task.is_given(name)]
        if len(readers) > 1:
            what = "input" if name is None else f"input {name!r}"
            raise TypeError(
                f"the {what} of step {step!r} is a {_name_of(kind)}, an iterator, "
                f"which the first of {len(readers)} tasks would use up; give a list of "
                "what it gives"
            )


# Not as attributes, for which a class may have a way of its own.
_mro_of, _contents_of = vars(type)["__mro__"].__get__, vars(type)["__dict__"].__get__
_name_of = vars(type)["__name__"].__get__


def _gives_the_next(kind: type[Any]) -> bool:
    """Tell the class of an iterator, also of one to be awaited."""
    contents = map(_contents_of, _mro_of(kind))
    return any("__next__" in it or "__anext__" in it for it in contents)


def gather(step: str, action: FanOut, tasks: Sequence[Any], failed: list[Any]) -> Visit:
    """Make one visit of the ends of all tasks.

    Args:
        step: The name of the step.
        action: Its action.
        tasks: The tasks.
        failed: Those that failed before they were told to stop, as they failed.
    """
    visits = tuple(task.visit() for task in tasks)
    in_time = set(failed)  # who failed after being told to stop is not in it
    failed += (it for it in tasks if it.error is not None and it not in in_time)
    errors: dict[Any, BaseException] = {
        task.key: task.error for task in failed if task.error is not None
    }
    failure = None
    if errors:
        who = f"{len(errors)} of {len(visits)} tasks"
        outcomes: Any = {visit.name: visit.outcome for visit in visits}
        succeeded = (visit for visit in visits if visit.outcome is Outcome.SUCCEEDED)
        outputs = {visit.name: visit.output for visit in succeeded}
        failure = parallel_failure(step, who, outcomes, outputs, errors)
    if failure is not None and len(errors) > action.tolerated:
        return Visit(step, Outcome.FAILED, error=failure, tasks=visits)
    results = {visit.name: errors.get(visit.name, visit.output) for visit in visits}
    output = TaskResults(results, failure)
    return Visit(step, Outcome.SUCCEEDED, output=output, tasks=visits)


def failed_visit(entry: Any, error: BaseException) -> Visit:
    """Give the visit of a step that raised and was more, or less, than a call."""
    visit = as_visit(entry, None)
    if visit.error is error:
        return visit
    # It interrupts this very thread, or the nested workflow was stopped; else the
    # call succeeded, but its result leads nowhere.
    is_failure = is_a(error, Exception) and (
        visit.child is None or visit.child.status not in STOPPED
    )
    outcome = Outcome.FAILED if is_failure else Outcome.CANCELLED
    return visit._replace(outcome=outcome, output=None, error=error)
