"""Kept: what a store knows of one visit of a step, before it is done again.

``Begun`` is what is known from an earlier run, ``KeptVisit`` gives it to who asks, and
takes down what comes of the rest.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from math import inf
from time import time
from typing import TYPE_CHECKING, Any

from stepfunction.core.clock import perf_counter
from stepfunction.core.definition.actions import MapItems
from stepfunction.core.definition.arguments import share
from stepfunction.core.engine.tasks import PastTask
from stepfunction.core.engine.whole import keep_whole
from stepfunction.core.envelope.omitted import Omitted
from stepfunction.core.errors import ResumeError, UnstorableValueError
from stepfunction.core.history.journal import Journal
from stepfunction.core.history.records import Visit
from stepfunction.core.outcomes import SUCCEEDED, Ended
from stepfunction.core.transcript.rows import json_text
from stepfunction.core.transcript.storing import digest_of
from stepfunction.core.wording import subject

if TYPE_CHECKING:
    from stepfunction.core.cancellation import Cancellation
    from stepfunction.core.definition.graph import Graph, Step
    from stepfunction.core.engine.run import Run
    from stepfunction.core.engine.saving import Saving
    from stepfunction.core.engine.tally import Tally
    from stepfunction.core.engine.tasks import StepTask

# Ends of tasks that come together share a commit, for so many seconds at most.
_LONGEST_DELAY = 0.05
# What nobody can change in place.
_LASTING = frozenset((bool, int, float, str, bytes, type(None)))


class Begun:
    """What is known of a step that had begun when its process died, or that failed.

    Attributes:
        visits: Part to visit, of tasks and items that have ended, as they ended.
        digests: Index to the digest of the item, of those that have a visit.
        runs: Index of the first of items that ended together to how many they were, and
            to the digest of the list of them.
        outputs: Index to output, of items that have no visit.
        attempts: Part to the attempts made so far.
        pauses: Part to the pause before the next: its length, and when it ends.
        returned: Part to what the last attempt returned.
        wait: How long a wait step waits, and until when.
        turns: Part to the number of the nested execution of the last failed attempt.
        is_fresh: Whether what failed is done again.
        is_used: Whether there is anything of this.
    """

    def __init__(self) -> None:
        self.visits: dict[Any, Visit] = {}
        self.digests: dict[int, str] = {}
        self.runs: dict[int, tuple[int, str]] = {}
        self.outputs: dict[int, Any] = {}
        self.attempts: dict[Any, list[Ended]] = {}
        self.pauses: dict[Any, tuple[float, float]] = {}
        self.returned: dict[Any, Any] = {}
        self.wait: tuple[float, float] | None = None
        self.turns: dict[Any, int] = {}
        self.is_fresh = False
        self.is_used = False

    def add_run(self, first: int, digest: str, outputs: list[Any]) -> None:
        """Take note of items that ended together."""
        indices = range(first, first + len(outputs))
        if not self.outputs.keys().isdisjoint(indices):  # others were in their place
            for begin, (length, _) in [*self.runs.items()]:
                if begin < indices.stop and first < begin + length:
                    self.forget_run(begin, length)
        self.outputs.update(zip(indices, outputs))
        self.runs[first] = len(outputs), digest

    def forget_run(self, begin: int, length: int) -> None:
        """Forget items that ended together."""
        self.runs.pop(begin, None)
        for index in range(begin, begin + length):
            self.outputs.pop(index, None)

    @cached_property
    def sorted_runs(self) -> list[tuple[Any, ...]]:
        """Items that ended together: the first, how many they were, and the digest."""
        return sorted((begin, *facts) for begin, facts in self.runs.items())

    @property
    def knows_items(self) -> bool:
        """Whether there is anything that items have to be compared with."""
        return bool(self.visits or self.outputs or self.attempts)


class KeptVisit:
    """What keeps one visit of a step that is more than a plain call.

    Args:
        saving: What notes the execution.
        journal: That of the execution.
        begun: What is known of the step from an earlier run.
        step: The step.
    """

    def __init__(
        self, saving: Saving, journal: Journal, begun: Begun, step: Step
    ) -> None:
        action: Any = step.action
        self.saving = saving
        self.step = step.name
        # What nobody wants to have need not be such as can be stored.
        self.keeps: bool = not action.has_items or action.keep_results
        self.begun = begun
        self.journal = journal
        self._cancellation = journal.run.cancellation
        self._since = 0.0
        self._has_any = False
        self._is_stopping = False
        self._called: set[Any] = set()  # parts whose nested workflow has been begun

    # --- what is kept ----------------------------------------------------------------

    @property
    def is_due(self) -> bool:
        """Whether what was taken down is to be kept now, whatever comes next."""
        return self._has_any and perf_counter() - self._since >= _LONGEST_DELAY

    def flush(self) -> None:
        """Keep what was taken down."""
        self._has_any = False
        self.saving.flush()

    def _buffer(self, text: str) -> None:
        if not self._has_any:
            self._has_any, self._since = True, perf_counter()
        self.saving.buffer(text)

    def retried(self, task: Any, pause: float) -> None:
        """Keep that a failed attempt is followed by another, after so many seconds."""
        if self.saving.session.may_note():
            self._buffer(self.saving.texts.retried(task, pause))
            self.flush()

    def ended(self, task: Any) -> None:
        """Take down that there will be no other attempt, to be kept soon."""
        if task.outcome is None or not self.saving.session.may_note():
            return
        child, key = getattr(task, "child", None), task.key
        is_common = type(key) is str and child is None and task.outcome is SUCCEEDED
        if is_common and task.taken is None:
            if task.fragment is not None and len(task.attempts) == 1:  # as most do
                text = self.saving.texts.success(key, task.attempts[0], task.fragment)
                self._buffer(text)
                return
        if child is not None and child.saving is None and child.graph is not None:
            journal, at = self.journal, self.journal.steps
            keep_whole(self.saving, journal, child, child.graph, at, key)
        if key is None:
            return  # that of the step itself is in its own row; a batch tells of items
        if self._cancellation.root.requested and self._is_left(task):
            return
        visit: Visit = task.visit()
        if not visit.attempts:
            return  # it never began
        digest = None
        if type(key) is int and task.given is not None:
            digest = task.digest
            if digest is None:
                digest = _digest(task.given[0])
        output = task.fragment if visit.outcome is SUCCEEDED else None
        if visit.outcome is SUCCEEDED and output is None:
            if child is None or child.saving is None:  # which says it
                output = self.saving.texts.lenient(visit.output)
        self._buffer(self.saving.texts.task(visit, output, digest))

    def _is_left(self, task: Any) -> bool:
        """Whether the end of a task, where all was stopped, is not to be kept."""
        if task.outcome is not SUCCEEDED:
            return True  # it was stopped too, as in a pause, and is to go on
        is_item = type(task.key) is int and task.child is None
        return is_item and task.fragment is None  # it was told of with others

    def took(
        self,
        first: int,
        items: list[Any],
        digests: Sequence[str] | None,
        results: list[Any],
        failed: Sequence[int],
    ) -> dict[int, UnstorableValueError]:
        """Take down items that travelled together and succeeded.

        Args:
            first: The index of the first.
            items: The items.
            digests: What ``digests_of`` gave for them.
            results: What came of them, as far as they are done.
            failed: Which of them failed, counted from the first.

        Returns:
            Those whose result cannot be stored, counted so too, and why.
        """
        if not self.saving.session.may_note():
            return {}
        refused: dict[int, UnstorableValueError] = {}
        for begin, end in _between(failed, len(results)):
            self._took(first, items, digests, results, begin, end, refused)
        if self.is_due:
            self.flush()
        return refused

    def _took(
        self,
        first: int,
        items: list[Any],
        digests: Sequence[str] | None,
        results: list[Any],
        begin: int,
        end: int,
        refused: dict[int, UnstorableValueError],
    ) -> None:
        texts = self.saving.texts
        try:
            outputs = texts.output(results[begin:end], self.step)
        except UnstorableValueError:
            if end - begin > 1:  # which of them it is
                for at in range(begin, end):
                    self._took(first, items, digests, results, at, at + 1, refused)
                return
            try:
                title = subject(self.step, first + begin)
                texts.output(results[begin], self.step, title)
            except UnstorableValueError as error:
                refused[begin] = error
            return
        if digests is None:
            digest = digest_of(items[begin:end])
        else:
            digest = digest_of(digests[begin:end])
        self._buffer(texts.items(first + begin, digest, outputs))

    def fragment(self, value: Any, step: str, title: str) -> str:
        """Give an output as it is to be noted.

        Raises:
            UnstorableValueError: If it cannot be stored.
        """
        if not self.keeps:
            return "null"
        return self.saving.texts.output(value, step, title)

    @staticmethod
    def digests_of(items: list[Any]) -> list[str] | None:
        """Give the digests of items before anything is called with them.

        They may be changed in place by that. None where they cannot be.
        """
        if _LASTING.issuperset(map(type, items)):
            return None
        return [_digest(item) for item in items]

    # --- what was kept ---------------------------------------------------------------

    def pause(self, seconds: float) -> float:
        """Keep when a wait step goes on, and give how long that still is."""
        left = self.left_of_wait()
        if left is not None:
            return left
        if self.saving.session.may_note():
            self._buffer(self.saving.texts.wait(seconds))
            self.flush()
        return seconds

    def left_of_wait(self) -> float | None:
        """Give how long to wait still; None where that was not kept."""
        if self.begun.wait is None:
            return None
        seconds, due = self.begun.wait
        return max(0.0, min(seconds, due - time()))

    def recall(self, tasks: Iterable[StepTask]) -> list[StepTask]:
        """Give to tasks what is known of them, and give those that have not ended."""
        return [task for task in tasks if not self.recall_one(task)]

    def recall_one(self, task: StepTask) -> bool:
        """Give to a task what is known of it, and say whether it has ended."""
        begun, key = self.begun, task.key
        visit = begun.visits.get(key)
        if visit is not None:
            task.recall_end(visit)
            return True
        attempts = begun.attempts.get(key)
        if attempts:
            seconds, due = begun.pauses[key]
            left = max(0.0, min(seconds, due - time()))
            task.recall(attempts, begun.returned.get(key), left)
        return False

    def failed(self, tasks: Iterable[StepTask]) -> list[StepTask]:
        """Give the tasks that had failed, as they failed."""
        by_key = {task.key: task for task in tasks}
        visits = self.begun.visits.values()
        return [by_key[it.name] for it in visits if it.error is not None]

    def recall_item(self, index: int, item: Any, tally: Tally) -> bool:
        """Give to the tally what came of an item, and say whether it has ended.

        Raises:
            ResumeError: If that was another item.
        """
        begun = self.begun
        if begun.digests.get(index) and _digest(item) != begun.digests[index]:
            self._refuse_item(f"item {index}")
            return False
        visit = begun.visits.get(index)
        if visit is not None:
            tally.end(PastTask(visit._replace(given=(item,))))
            return True
        if index in begun.outputs:
            tally.take(index, [begun.outputs[index]], 0)
            return True
        return False

    def reach(self, first: int, count: int) -> int:
        """Give how many items to look at together, so that each that ended is whole."""
        runs, end = self.begun.sorted_runs, first + count
        before = bisect_left(runs, (end,)) - 1
        if before >= 0:
            begin, length, _ = runs[before]
            end = max(end, begin + length)
        return end - first

    def compare(self, first: int, items: list[Any]) -> None:
        """Compare items with those that ended together; what is another is done again.

        Raises:
            ResumeError: If one is another, and that is not allowed.
        """
        runs, end = self.begun.sorted_runs, first + len(items)
        for begin, length, digest in runs[bisect_left(runs, (first,)) :]:
            if begin >= end:
                break
            at = begin - first
            some = items[at : at + length]
            digests = self.digests_of(some)
            if digest_of(some if digests is None else digests) != digest:
                what, last = f"item {begin}", begin + length - 1
                self._refuse_item(what if length == 1 else f"one of {what} to {last}")
                self.begun.forget_run(begin, length)

    def _refuse_item(self, what: str) -> None:
        if self.saving.session.allow_changed:
            return
        text = (
            f"{what} of step {self.step!r} is another than the one that was done; let "
            "items= give what it gave, or allow_changed=True has it done again"
        )
        raise ResumeError(text, self.saving.session.id, (text,))

    def has_failed_enough(self, action: MapItems, total: int | None) -> bool:
        """Say whether so many items had failed that the others were to be stopped."""
        errors = [it for it in self.begun.visits.values() if it.error is not None]
        tolerated: Any = action.tolerated
        if isinstance(tolerated, str):
            tolerated = inf if total is None else share(tolerated, total)
        return action.stop_on_failure and len(errors) > tolerated

    def visit_of_items(self, tally: Tally) -> Visit:
        """Make one visit of the items that have ended, where no other is to begin."""
        begun = self.begun
        for index in sorted({*begun.visits, *begun.outputs}):
            given = Omitted("an item that was not asked for again")
            if index in begun.outputs:
                tally.take(index, [begun.outputs[index]], 0)
            else:
                tally.end(PastTask(begun.visits[index]._replace(given=(given,))))
            tally.taken = index + 1
        self.saving.count = tally.taken
        return tally.visit()

    def items_with_nested(self) -> list[int]:
        """Give the indices of the items in which something nested had begun."""
        return sorted(int(part) for part in self.saving.heads if part.isdigit())

    def stop_nested(self, task: StepTask, cancellation: Cancellation) -> None:
        """Let a workflow that was nested in a task end as one that was told to stop.

        It may owe compensations, and nobody else would go on with it.

        Args:
            task: The task.
            cancellation: What stops the tasks of the step.
        """
        head = self.saving.heads.get(json_text(task.key))
        if head is None or task.key in self.begun.visits:
            return
        if head.turn != self.begun.turns.get(task.key):
            call: Any = task.call
            self._is_stopping = True
            try:
                call.stop(cancellation)
            finally:
                self._is_stopping = False

    def child(self, graph: Graph, value: Any, run: Run, key: Any) -> Journal:
        """Give the journal of a workflow that is nested in a task, to be run."""
        if self._is_stopping:  # it is as it was, whatever its input would be now
            head = self.saving.heads[json_text(key)]
            session = self.saving.session
            found = session.go_on(session, head, graph, run, False, None)
            assert found is not None
            return found
        is_again = key in self._called
        self._called.add(key)
        return self.saving.nested(graph, value, run, self.journal, key, is_again)


def _between(failed: Iterable[int], count: int) -> Iterator[tuple[int, int]]:
    """Give from where to where there is nothing that failed."""
    begin = 0
    for at in [*sorted(failed), count]:
        if begin < at:
            yield begin, at
        begin = at + 1


def _digest(item: Any) -> str:
    """Give the digest of an item; nothing for one that could not be stored."""
    # It is not stored, and may be anything: it is then taken for what it was.
    try:
        return digest_of(item)
    except UnstorableValueError:
        return ""
