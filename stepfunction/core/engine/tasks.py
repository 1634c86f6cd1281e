"""Tasks: what a step has the workers do, as a call of a function or of a workflow."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from stepfunction.core.context import Context
from stepfunction.core.definition.graph import Step
from stepfunction.core.engine.nested import NestedCall, output_of_child
from stepfunction.core.engine.run import Run
from stepfunction.core.history.chronicle import failure_record
from stepfunction.core.history.journal import Journal
from stepfunction.core.history.position import Failing
from stepfunction.core.history.records import Visit
from stepfunction.core.keys import PartKey
from stepfunction.core.outcomes import Outcome
from stepfunction.core.probes import tell_skipped
from stepfunction.core.tracebacks import forget_locals
from stepfunction.core.watching.telling import News
from stepfunction.core.wording import subject
from stepfunction.core.workers.attempts import LiveAttempt, Work
from stepfunction.core.workers.tasks import Task

if TYPE_CHECKING:
    from stepfunction.core.engine.kept import KeptVisit


class Terms(NamedTuple):
    """What the tasks of one visit of a step have in common.

    Attributes:
        step: The step.
        name: Its name.
        journal: That of its execution.
        run: What that shares with what it is nested in.
        failing: What has failed on the way to it.
        news: Who tells of its tasks; None where nobody listens.
        given: The input of a step that names its inputs; None for the output before.
        kept: What keeps the visit in a store; None for nothing.
        timeout: How many seconds an attempt may take, where it can be stopped.
        heartbeat: How many may pass without a sign of life, where that is heard.
    """

    step: Step
    name: str
    journal: Journal
    run: Run
    failing: Failing | None
    news: News | None
    given: tuple[Any] | None
    kept: KeptVisit | None
    timeout: float | None = None
    heartbeat: float | None = None

    @property
    def is_timed(self) -> bool:
        """Whether an attempt has limits."""
        return self.timeout is not None or self.heartbeat is not None

    def limited(self) -> Terms:
        """Give them with the limits that can be kept, and warn of the others."""
        step = self.step
        if step.executor == "inline":
            # There a nested workflow looks after its own time, and a call has no
            # limits.
            return self
        timeout, heartbeat = self.run.workshop.limits_at(
            step.executor, self.name, step.timeout, step.heartbeat
        )
        return self._replace(timeout=timeout, heartbeat=heartbeat)

    def work(self, value: Any, calls: Iterable[Task] = ()) -> Work:
        """Give what a place must know of them: their input, and what they call."""
        named = tuple((task.name, task.call) for task in calls)
        return Work(self.name, named, value, self.make_context, self.run.guard)

    def show(self, now: Callable[[], Visit]) -> None:
        """Let the history have the visit of the step, as it is when it is asked for."""
        if self.given is None:
            self.journal.here = now
        else:
            self.journal.here = lambda: now()._replace(given=self.given)

    def show_to(
        self, onlooker: Callable[..., object] | None, tasks: Sequence[Task]
    ) -> None:
        """Let who looks on have tasks before they run, whose calls may be replaced."""
        if onlooker is not None:
            onlooker(self.journal.workflow, self.name, tasks)

    def present(self, tasks: Iterable[StepTask], ended: Iterable[Visit] = ()) -> Visit:
        """Give what can be said now of a step by its tasks. Any thread may.

        Args:
            tasks: Its tasks, of which those count that have begun.
            ended: The visits of others, that have ended.
        """
        begun = (task.now() for task in tasks if task.began or task.attempts)
        return Visit(self.name, None, tasks=(*ended, *begun))

    def make_context(self, attempt: LiveAttempt) -> Context:
        """Give the context of an attempt."""
        journal, failing = self.journal, self.failing
        return Context(
            journal.id,
            self.name,
            attempt.task.key,
            attempt.number,
            failure_record(journal, None if failing is None else failing[1]),
            attempt.cancellation,
            journal.results_so_far(),
            attempt,
            journal.key,
            journal.steps,
            self.kept,
        )


class StepTask(Task):
    """The action of a step, or what one of its tasks or items does.

    Args:
        terms: What it has in common with the other tasks of its step.
        action: What to do.
        key: The name of the task, or the index of the item; None for the step itself.

    Attributes:
        fragment: Its output as it is kept; None until it has been written.
        digest: That of an item that may be changed in place, before it was called.
        taken: Those of the step's named inputs that it is given; None for all.
    """

    __slots__ = ("_step", "_graph", "_kept", "fragment", "digest", "taken")

    def __init__(
        self, terms: Terms, action: Any, key: PartKey | None = None
    ) -> None:
        step, step_name, _, _, _, news, named, kept, timeout, heartbeat = terms
        self.taken: tuple[Any] | None = None
        if named is not None and key is not None and not step.action.has_items:
            taken = action.taken_of(named[0])
            self.taken = None if taken is named[0] else (taken,)
        self._kept = kept
        self.fragment: str | None = None
        self.digest: str | None = None
        name = subject(step_name, key)
        self._step = step_name
        self._graph = graph = action.nested
        call = action if graph is None else self._nested(terms, action, key, name)
        limits = (timeout, heartbeat)
        super().__init__(
            key, name, call, action.wants_context, step.retry, *limits, news
        )

    def _nested(
        self, terms: Terms, action: Any, key: PartKey | None, name: str
    ) -> NestedCall:
        step, run, reach = terms.step, terms.run, None
        own_timeout = step.timeout if step.executor in (None, "inline") else None
        if run.audience is not None:
            way = terms.name if key is None else (terms.name, key)
            reach = run.audience.reach((*terms.journal.path, way))
        lineage = terms.journal.key_of_nested(key)
        names_inputs = terms.given is not None and not step.action.has_items
        how = (action.takes_nothing, names_inputs)
        facts = (reach, lineage, terms.kept, key, *how)
        limit = terms.timeout
        return NestedCall(action.nested, run, name, own_timeout, *facts, limit)

    @property
    def child(self) -> Journal | None:
        """The journal of a nested workflow, from when it begins."""
        # Kept by the call, which does not keep the task: no circle holds what is past.
        call: Any = self.call
        return None if self._graph is None else call.journal

    def opened(self, payload: Any) -> Any:
        """Give the output, which a nested workflow has not given yet, or fail."""
        if self._graph is None:
            return self._written(payload)
        call: Any = self.call
        call.journal = child = payload  # if it was another process, heard of only now
        child.graph = self._graph  # which stayed here
        tell_skipped(child.skipped)  # which nobody here was told of
        child.skipped = ()
        output = output_of_child(self._step, self.name, child)
        return output if child.saving is not None else self._written(output)

    def _written(self, output: Any) -> Any:
        """Give the output, once it is written as it is to be kept, if it is."""
        if self._kept is not None and self.key is not None:
            self.fragment = self._kept.fragment(output, self._step, self.name)
        return output

    def recall_end(self, visit: Visit) -> None:
        """Take over how it ended in another process."""
        _, self.outcome, attempts, self.output, self.error, _, child, *_ = visit
        self.attempts += attempts
        self.has_ended = True
        if self._graph is not None:
            call: Any = self.call
            call.journal = child

    def now(self) -> Visit:
        """Give what can be said of it now. Any thread may."""
        if self.has_ended:
            return self.visit()
        return self.visit()._replace(
            outcome=None, output=None, error=None, began=self.began
        )

    def visit(self) -> Visit:
        """Give what the journal is to say of it when it has ended."""
        return Visit(
            self._step if self.key is None else self.key,
            self.outcome or Outcome.CANCELLED,
            tuple(self.attempts),
            self.output,
            self.error,
            (),
            self.child,
            self.given or self.taken,
        )


class Item(StepTask):
    """The call for one item of a map step.

    Attributes:
        is_told: Whether it is told of: from the first, or since it has had trouble.
        spared: The first failure of all items; None where all keep their frames.
    """

    __slots__ = ("is_told", "spared")

    is_told: bool
    spared: list[BaseException] | None

    def tell_start(self, began: float) -> None:
        """Tell, once, that the first attempt has begun."""
        if self.is_told:
            super().tell_start(began)

    def tell_retried(self, pause: float) -> None:
        """Tell that another attempt follows, after so many seconds."""
        self.is_told = True
        super().tell_retried(pause)

    def tell_end(self) -> None:
        """Tell that there will be no other attempt."""
        self.is_told = self.is_told or self.outcome is not Outcome.SUCCEEDED
        if self.is_told:
            super().tell_end()

    def may_forget(self, error: BaseException) -> bool:
        """Tell whether it does not matter, and nobody is told of it."""
        if self.told is not None or not self.spared:
            return False
        return self.spared[0] is not error

    def forget_locals(self) -> None:
        """Let no failure keep its frames but the first of all items."""
        super().forget_locals()
        error, spared = self.error, self.spared
        if error is None or spared is None:
            return
        if not spared:
            spared.append(error)
        elif error is not spared[0]:
            forget_locals(error)


class PastTask:
    """A task or item of the past, for who makes one visit of many.

    Attributes:
        key: Its name, or its index.
        outcome: How it ended.
        output: What it returned.
        error: What it failed with.
        attempts: How each attempt ended.
        child: The journal of a nested workflow.
    """

    __slots__ = ("key", "outcome", "attempts", "output", "error", "child", "_visit")

    def __init__(self, visit: Visit) -> None:
        self._visit = visit
        self.key, self.outcome, self.attempts, *_ = visit
        self.output, self.error, self.child = visit.output, visit.error, visit.child

    def visit(self) -> Visit:
        """Give what the journal is to say of it."""
        return self._visit
