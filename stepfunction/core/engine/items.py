"""Items: what a map step calls its function with, on their way through the workers.

Items travel alone, as a task each, or in batches, a task for many. A batch that comes
back leaves its results in the tally and what is still to be done to its heirs: items
that failed and may be tried again, and items that were never reached.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence, Sized
from itertools import islice
from math import inf
from typing import TYPE_CHECKING, Any, NamedTuple

from stepfunction.core.cancellation import Cancellation
from stepfunction.core.definition.actions import Callee, MapItems
from stepfunction.core.engine.batches import BatchCall, Load, Part, shares
from stepfunction.core.engine.sources import items_of
from stepfunction.core.engine.tally import Tally
from stepfunction.core.engine.tasks import Item, StepTask, Terms
from stepfunction.core.errors import (
    ParallelStepExecutionError,
    StepTimeoutError,
    TransferError,
)
from stepfunction.core.history.records import Visit
from stepfunction.core.outcomes import Ended, Outcome
from stepfunction.core.probes import onlooker
from stepfunction.core.raised import is_a
from stepfunction.core.tracebacks import forget_locals, without_our_frames
from stepfunction.core.wording import subject
from stepfunction.core.workers.attempts import Report
from stepfunction.core.workers.ends import run_tasks
from stepfunction.core.workers.retry import judges_results
from stepfunction.core.workers.tasks import Task, as_stopped

if TYPE_CHECKING:
    from stepfunction.core.engine.kept import KeptVisit
    from stepfunction.core.workers.places import Place


class Plan(NamedTuple):
    """How the items of one visit of a map step travel.

    Attributes:
        terms: What all its tasks have in common.
        call: What is called with each.
        batch_call: What is called with a load; None where each travels alone.
        batch_size: How many travel together at most.
        batch_name: What messages call a batch.
        place: Where they are going to; None while that is not chosen.
        spared: The first failure of them, which the step may fail with; None where
            all keep their frames.
    """

    terms: Terms
    call: Callee
    batch_call: BatchCall | None
    batch_size: int
    batch_name: str
    place: Place | None = None
    spared: list[BaseException] | None = None

    @property
    def size(self) -> int:
        """How many items travel together at most."""
        if self.batch_call is None:
            return 1
        # Nobody may know when the next item begins.
        is_told = self.place is None or self.place.hears_parts
        return self.batch_size if is_told or not self.terms.is_timed else 1

    def examples(self, tally: Tally) -> list[Task]:
        """Give a task like each that there may be."""
        examples: list[Task] = [self.item(0, None)]
        if self.batch_call is not None:
            examples.append(Batch(self, tally, Load(0, [])))
        return examples

    def tasks(self, items: Iterator[Any], tally: Tally) -> Iterator[Task]:
        """Give the items as tasks, when they are asked for."""
        size, kept = self.size, self.terms.kept
        if kept is not None and not kept.begun.knows_items:
            kept = None
        while some := list(islice(items, size)):
            first = tally.taken
            if kept is not None:
                some += islice(items, kept.reach(first, len(some)) - len(some))
                kept.compare(first, some)
            tally.taken += len(some)
            if kept is not None:
                yield from self._left(kept, first, some, tally)
            elif size == 1:
                yield self.item(first, some[0])
            else:
                yield self._batch(first, some, tally)
        tally.total, tally.has_all = tally.taken, True

    def _left(
        self, kept: KeptVisit, first: int, some: list[Any], tally: Tally
    ) -> Iterator[Task]:
        """Give as tasks what is left of items of which some may have ended before."""
        left: list[Any] = []
        begin = first
        for index, item in enumerate(some, first):
            if kept.recall_item(index, item, tally):
                continue
            if self.batch_call is None or kept.begun.attempts.get(index):
                task = self.item(index, item)
                kept.recall_one(task)
                yield task
                continue
            if left and begin + len(left) != index:
                yield self._batch(begin, left, tally)
                left = []
            if not left:
                begin = index
            left.append(item)
        if left:
            yield self._batch(begin, left, tally)

    def _batch(self, first: int, items: list[Any], tally: Tally) -> Batch:
        kept = self.terms.kept
        digests = None if kept is None else kept.digests_of(items)
        return Batch(self, tally, Load(first, items), digests)

    def item(
        self,
        index: int,
        item: Any,
        ending: Ended | None = None,
        digest: str | None = None,
    ) -> Item:
        """Give the task of an item.

        Args:
            index: Which it is.
            item: The item.
            ending: How its first attempt ended, if it has been made.
            digest: What it was before that, if it is known.
        """
        task = Item(self.terms, self.call, index)
        if digest is not None:
            task.digest = digest
        elif self.terms.kept is not None:
            digests = self.terms.kept.digests_of([item])
            task.digest = None if digests is None else digests[0]
        # Of the others nothing is told before they have trouble.
        task.is_told = self.call.nested is not None
        task.spared = self.spared
        task.given = (item,)
        if ending is not None:
            task.attempts.append(ending)
            task.outcome, _, _, task.error = ending
        return task


class Batch(Task):
    """The calls for several items that travel together.

    Attributes:
        load: The items, and what comes of them.
        digests: Those of the items, where they may be changed in place.
        items: The items, also when they have been taken from who works on them.
        has_left: Whether what has come of it is in the tally and with its heirs.
        left_out: What counts as the outcome of its items if they are not called.
    """

    __slots__ = (
        "load",
        "digests",
        "items",
        "has_left",
        "left_out",
        "_plan",
        "_tally",
        "_noted",
        "_is_stopped",
    )

    def __init__(
        self,
        plan: Plan,
        tally: Tally,
        load: Load,
        digests: Sequence[str] | None = None,
        left_out: Outcome = Outcome.CANCELLED,
    ) -> None:
        terms, call = plan.terms, plan.batch_call
        assert call is not None
        super().__init__(
            None,
            plan.batch_name,
            call,
            # Elsewhere the context also has the line to here.
            call.call.wants_context or plan.place is None or not plan.place.is_here,
            timeout=terms.timeout,
            heartbeat=terms.heartbeat,
        )
        self.load = load
        self.digests = digests
        self.items = load.items[:]
        self.given = (load,)
        self.has_left = False
        self.left_out = left_out
        self._noted: int | None = None
        self._is_stopped = False
        self._plan = plan
        self._tally = tally

    def take(self, part: Part) -> None:
        """Take note of what is done while the rest is not."""
        self.load.unpack(part, self.name)

    def halt(self) -> None:
        """Stop who works on the items in this process before the next of them."""
        self.load.items.clear()

    def settle(self, report: Report, is_stopping: bool = False) -> None:
        """Take note of how an attempt ended, and of what is known of its items."""
        super().settle(report, is_stopping)
        self._noted = report.attempt.noted
        self._is_stopped = report.attempt.of_step.requested

    def heirs(self) -> list[Task]:
        """Give what is still to be done, and what was done and failed."""
        if not self.attempts:
            return []
        self.has_left = True
        outcome, began, ended, error = self.attempts[-1]
        if self.output is not None:  # from another process
            self.take(self.output)
        plan, first, items = self._plan, self.load.first, self.items
        results, done = self.load.results, len(self.load.results)
        if outcome is Outcome.ABANDONED:
            results = results[:done]  # to which who was left behind may add
        failed = [at for at in self.load.failed if at < done]
        failed = self._kept(first, results, failed)
        if done == len(items) and not failed and not self._is_stopped:
            self._tally.take(first, results, 0)
            return []
        split = shares(len(items), done, failed, outcome, self._begun(outcome, done))
        heirs = list(self._recorded(results, failed, began, ended))
        self._tally.take(first, results, len(failed) + len(heirs))
        for at in split.failed:
            how: tuple[Outcome, BaseException | None] = Outcome.FAILED, results[at]
            if self._is_stopped:
                how = as_stopped(*how)
            ending: Ended = (how[0], began, ended, how[1])
            heirs.append(self._item(at, ending))
        for at in split.culprits:
            ending = (outcome, began, ended, self._blaming(first + at, error))
            heirs.append(self._item(at, ending))
        heirs += (self._item(at) for at in split.alone)
        # What had ended unheard of is lost, if it is not called again.
        for some, left_out in (
            (split.ended, Outcome.KILLED),
            (split.together, Outcome.CANCELLED),
        ):
            if some:
                begin, end = some.start, some.stop
                load = Load(first + begin, items[begin:end])
                digests = self.digests and self.digests[begin:end]
                heirs.append(Batch(plan, self._tally, load, digests, left_out))
        return heirs

    def _item(self, at: int, ending: Ended | None = None) -> Item:
        """Give one of its items as a task of its own."""
        digest = self.digests[at] if self.digests else None
        return self._plan.item(self.load.first + at, self.items[at], ending, digest)

    def _kept(self, first: int, results: list[Any], failed: list[int]) -> list[int]:
        """Have kept what succeeded, and give what failed, for it cannot be kept too."""
        kept = self._plan.terms.kept
        if kept is None or not results:
            return failed
        refused = kept.took(first, self.items, self.digests, results, failed)
        for at, error in refused.items():
            results[at] = error
        return sorted({*failed, *refused})

    def _begun(self, outcome: Outcome, done: int) -> int | None:
        """Give how many items had begun when it ended; None if nobody can know.

        Args:
            outcome: How it ended.
            done: How many are known to have been done.
        """
        place = self._plan.place
        assert place is not None
        if self.load.is_begun:  # in this process, where all that was done is known
            return done + 1
        was_sent = not is_a(self.error, TransferError)
        if place.is_here or outcome is Outcome.CANCELLED or not was_sent:
            return 0
        if not place.hears_parts or outcome is Outcome.FAILED:
            return None
        if outcome is Outcome.TIMED_OUT or self._noted is None:
            return done + 1  # each is heard of as soon as it is done
        return self._noted

    def _recorded(
        self, results: list[Any], failed: list[int], began: float, ended: float
    ) -> Iterator[Task]:
        """Give those that succeeded and have a record of that, for it was stopped."""
        if not self._is_stopped:
            return
        first, others = self.load.first, set(failed)
        for at, result in enumerate(results):
            if not self._tally.records_any(first + at):
                break
            if at not in others:
                ending: Ended = (Outcome.SUCCEEDED, began, ended, None)
                item = self._item(at, ending)
                item.output = result
                yield item

    def _blaming(
        self, index: int, error: BaseException | None
    ) -> BaseException | None:
        """Give the error with the name of the item where it has that of the batch."""
        from stepfunction.core.errors import WorkerCrashedError  # which is dear

        if not is_a(error, (StepTimeoutError, WorkerCrashedError)):
            return error
        name = subject(self._plan.terms.name, index)
        message, *facts = error.args
        facts = [name if fact == self.name else fact for fact in facts]
        return type(error)(message.replace(self.name, name), *facts)


def perform_map(
    action: MapItems, terms: Terms, value: Any, cancellation: Cancellation
) -> Visit:
    """Perform a map step.

    Args:
        action: The action of the step.
        terms: What its tasks have in common.
        value: Its input.
        cancellation: What stops its tasks.
    """
    step, workshop = terms.step, terms.run.workshop
    try:
        items = items_of(value, action.items)
    except Exception as error:
        failure = without_our_frames(error)
        return Visit(terms.name, Outcome.FAILED, error=failure)
    total = len(items) if is_a(items, Sized) else None
    tally = Tally(action, terms.name, total, terms.news)
    batch_name = f"items of {subject(terms.name)}"
    batch_call, looks_on = _batch_call(action, terms), onlooker()
    size, keeps_locals = action.batch_size, terms.run.keeps_locals
    spared: list[BaseException] | None = None if keeps_locals else []
    plan = Plan(terms, action.call, batch_call, size, batch_name, spared=spared)

    def end(task: Task) -> None:
        if isinstance(task, StepTask):
            tally.end(task)
        elif isinstance(task, Batch) and not task.has_left:
            tally.leave_out(task.load.first, len(task.items), task.left_out)

    place = workshop.place(
        step.executor,
        terms.work(None, plan.examples(tally)),
        inf if total is None else total / plan.size + 1,
        action.max_workers if looks_on is None else 1,  # to know which it was
        ahead=looks_on is None and not action.stop_on_failure,
        size=plan.size,
    )
    tasks = _shown(plan._replace(place=place).tasks(iter(items), tally), terms)
    under_way: dict[Task, None] = {}

    def present() -> Visit:
        alone = [task for task in tuple(under_way) if isinstance(task, StepTask)]
        ended = {visit.name: visit for visit in tally.visits()}
        alone = [task for task in alone if task.key not in ended]  # just now, it may be
        return terms.present(alone, ended.values())

    terms.show(present)
    kept = terms.kept
    if kept is not None and (
        cancellation.requested or kept.has_failed_enough(action, total)
    ):
        for index in kept.items_with_nested():
            kept.stop_nested(plan.item(index, None), cancellation)
        return kept.visit_of_items(tally)
    try:
        run_tasks(
            tasks,
            place,
            cancellation,
            tally.is_enough,
            end,
            at_once=total is not None,
            under_way=under_way,
            kept=kept,
            keeps_locals=keeps_locals,
        )
        visit = tally.visit()
    except BaseException as interrupt:
        is_failure = is_a(interrupt, Exception)
        outcome = Outcome.FAILED if is_failure else Outcome.CANCELLED
        visit = tally.broken_visit(outcome, interrupt)
    finally:
        if kept is not None:
            kept.saving.count = tally.taken
    if spared and not is_a(visit.error, ParallelStepExecutionError):
        forget_locals(spared[0])  # for it does not fail with that
    return visit


def _shown(tasks: Iterator[Task], terms: Terms) -> Iterator[Task]:
    """Give tasks after who looks on has had each, if anybody does."""
    looks_on = onlooker()
    if looks_on is None:
        return tasks

    def shown(task: Task) -> Task:
        terms.show_to(looks_on, [task])
        return task

    return map(shown, tasks)


def _batch_call(action: MapItems, terms: Terms) -> BatchCall | None:
    # A retry that judges results must be shown each.
    is_shown_each = judges_results(terms.step.retry) or onlooker() is not None
    if action.batch_size == 1 or is_shown_each:
        return None
    call: Any = action.call
    stops, keeps = action.stop_on_failure, action.keep_results
    run = terms.run
    how = run.guard, run.keeps_locals
    return BatchCall(call, stops, keeps, terms.is_timed, *how)
