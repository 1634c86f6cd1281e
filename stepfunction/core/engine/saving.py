"""Saving: what notes an execution in a store, row by row, while it runs.

``Saving`` is of one execution; nested ones have their own. What it has been given back
of an earlier run, which ``restoring`` reads, it gives to who asks before anything is
done again.
"""

from __future__ import annotations

import os
import socket
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from time import time
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from stepfunction.core.clock import perf_counter
from stepfunction.core.definition.graph import Graph, Step
from stepfunction.core.engine.kept import Begun, KeptVisit
from stepfunction.core.engine.session import Session
from stepfunction.core.engine.texts import Texts, WayBack
from stepfunction.core.errors import (
    ExecutionCancelledError,
    ExecutionClaimedError,
    StoreError,
    UnstorableValueError,
)
from stepfunction.core.history.journal import Journal, name_of
from stepfunction.core.history.position import Failing, Position
from stepfunction.core.history.records import Visit, as_visit
from stepfunction.core.outcomes import Status
from stepfunction.core.raised import is_a
from stepfunction.core.store import Head, Row
from stepfunction.core.transcript import rows
from stepfunction.core.transcript.graphs import text_of_graph
from stepfunction.core.transcript.rows import json_text
from stepfunction.core.transcript.storing import Fragments, digest_of

if TYPE_CHECKING:
    from stepfunction.core.engine.run import Run


NOTHING: Mapping[str, Any] = MappingProxyType({})


class Saving:
    """What notes one execution.

    Args:
        session: What it shares with what it is nested in.
        key: The number by which the store knows it.
        number: The number of its next row.
        prefix: What the idempotency keys of its calls begin with.
        epoch: What to add to moments of its journal to have the time of day.
        is_outermost: Whether it is nested in no other.
        turn: How many were nested at its place before.

    Attributes:
        texts: What writes its rows.
        origin: Where it goes on; None where it begins.
        begun: What is known of the step there.
        heads: Part to what is nested there in the present step, as the store has it.
        turns: Visit and part to how many have been nested there, less one.
        resumed: When it went on, as ``perf_counter``, until its next step has ended.
        deadline: When it is to end, in seconds since the epoch; None without a limit.
        is_decided: Whether the store has its end.
        is_undoing: Whether this process has begun to undo it.
        undone_places: Which of its compensations another process has called.
        has_undone_itself: Whether it had, before its end; None where it has not been
            read back.
        count: How many tasks or items the present step has had; None of any other.
    """

    def __init__(
        self,
        session: Session,
        key: int,
        number: int,
        prefix: str,
        epoch: float,
        is_outermost: bool = False,
        turn: int = 0,
    ) -> None:
        self.session = session
        self.key = key
        self.number = number
        self.prefix = prefix
        self.is_outermost = is_outermost
        self.turn = turn
        self.texts = Texts(session, epoch)
        self.origin: Position | None = None
        self.begun: Begun | None = None
        self.heads: dict[str, Head] = {}
        self.turns: dict[tuple[int, str], int] = {}
        self.resumed: float | None = None
        self.deadline: float | None = None
        self.is_decided = False
        self.is_undoing = False
        self.has_undone_itself: bool | None = None
        self.undone_places: Sequence[int] = ()
        self.count: int | None = None
        self.results: dict[str, Any] = {}  # those of forgotten steps, and of no others
        # Where it went back to, if it ever did; see ``Restored.since``.
        self.ways_back: Sequence[WayBack] = ()
        self._items: dict[tuple[int, int], str] = {}  # digests, by visit and index
        self._waiting: list[str] = []  # rows that are to be one with the next
        # Of the steps that are remembered: their first rows, what had failed before.
        self._starts: deque[tuple[int, Failing | None]] = deque([(1, None)])

    # --- what is noted ---------------------------------------------------------------

    def written(self, visit: Visit) -> str | None:
        """Give the output of a step as it is to be noted; None where others say it.

        Raises:
            UnstorableValueError: If it cannot be stored.
        """
        child = visit.child
        if self.count is not None or (child is not None and child.saving is not None):
            return None
        return self.texts.output(visit.output, visit.name)

    def note(
        self, journal: Journal, visit: Visit, position: Position, output: str | None
    ) -> None:
        """Note a step that has ended together with what follows it.

        Args:
            journal: The journal in which it was noted just now.
            visit: The step.
            position: Where that leads.
            output: What ``written`` gave; None also where it failed.
        """
        follower, _, failing = position
        ended = journal.entries[-2]
        text = self.texts.step(visit, ended, follower, output, self.count)
        try:
            self._append(text)
        except StoreError as failure:
            if visit.error is not None:  # which is not to be lost
                failure.__cause__ = visit.error
            raise
        self.begun = self.resumed = self.count = None
        if journal.keeps is not None:
            self._starts.append((self.number, failing))

    def note_end(self, journal: Journal, status: Status, ended: float) -> None:
        """Note the end, with the status."""
        if self.is_decided or not self.session.may_note():
            return
        text = self.texts.end(status, ended, journal.error)
        self._turn(text, status, journal.run.epoch + ended)
        self.is_decided = True

    def note_resumption(self, facts: Mapping[str, Any], answer: str | None) -> None:
        """Note that it goes on, and who has it now."""
        self._turn(self.texts.resumption(facts, answer), Status.RUNNING, None)

    def note_undone(self, visit: Visit, place: int) -> None:
        """Note what the compensation did that has this place among all."""
        if self.session.may_note():
            self._append(self.texts.undone(visit, place))

    def note_forgotten(self, journal: Journal, lost: list[Any]) -> None:
        """Note all that forgotten steps have left, and have the store lose them.

        Args:
            journal: The journal, which has forgotten them.
            lost: What it had of them.
        """
        self.results.update(zip(map(name_of, lost[::3]), lost[2::3]))
        if not self.session.may_note():
            return
        self.flush()
        # The last is where the step begins that follows.
        while len(self._starts) > len(journal.entries) // 3 + 1:
            self._starts.popleft()
        before, failing = self._starts[0]
        first = as_visit(journal.entries[0], journal.entries[2])
        facts = journal.forgotten, self.results, before, failing, first, self.ways_back
        row = self._row(self.texts.forgotten(*facts))
        self.session.keep(self.session.store.forget, row, before, journal.forgotten)

    # --- what is nested --------------------------------------------------------------

    def nested(
        self,
        graph: Graph,
        value: Any,
        run: Run,
        outer: Journal,
        part: Any = None,
        is_again: bool = False,
    ) -> Journal:
        """Give the journal of an execution that is nested in this one, to be run.

        Args:
            graph: The workflow.
            value: Its input, or ``NOTHING``.
            run: What it shares with what it is nested in.
            outer: The journal of this one.
            part: The task that it is nested in, or the index of the item.
            is_again: Whether this process has run it already, as another attempt.
        """
        facts: dict[str, Any] = {}
        if type(part) is int:  # an item, which is asked for again, and may be another
            with suppress(UnstorableValueError):
                place = outer.steps, part
                # That of its first attempt, which may change it in place.
                digest = self._items.get(place) or digest_of(value)
                facts["digest"] = self._items[place] = digest
        begun, head = self.begun, self.heads.get(json_text(part))
        if not is_again and begun is not None and head is not None:
            if head.turn != begun.turns.get(part):
                how = begun.is_fresh, facts.get("digest")
                found = self.session.go_on(self.session, head, graph, run, *how)
                if found is not None:
                    return found
        journal = Journal.given(graph, value, run)
        where = outer, outer.steps, part
        journal.saving = self.begin_nested(journal, graph, *where, facts)
        return journal

    def begin_nested(
        self,
        journal: Journal,
        graph: Graph,
        outer: Journal,
        at: int,
        part: Any,
        facts: Mapping[str, Any] = NOTHING,
    ) -> Saving:
        """Note the beginning of an execution that is nested in this one.

        Args:
            journal: Its journal.
            graph: The workflow.
            outer: The journal of this one.
            at: How many steps of this one have ended.
            part: The task that it is nested in, or the index of the item.
            facts: What else is to be noted.
        """
        place = (at, json_text(part))
        turn = self.turns[place] = self.turns.get(place, -1) + 1
        started = journal.run.epoch + journal.began
        named = (journal.id, graph.name, Status.RUNNING.value, started, None, "")
        head = Head(0, *named, self.key, *place, turn)
        prefix = outer.key_of_nested(part)
        return begin(self.session, head, journal, graph, prefix, facts)

    # --- the present step ------------------------------------------------------------

    def visit(self, journal: Journal, step: Step) -> KeptVisit:
        """Give what keeps the visit of a step that is more than a plain call."""
        begun = Begun() if self.begun is None else self.begun
        return KeptVisit(self, journal, begun, step)

    @property
    def has_begun(self) -> bool:
        """Whether attempts at the present step have been made in another process."""
        return self.begun is not None and None in self.begun.attempts

    @property
    def has_nested(self) -> bool:
        """Whether anything nested in the present step had begun in another process.

        It may owe compensations, also where the execution is stopped before it goes on.
        """
        return self.begun is not None and bool(self.heads)

    def remember(self, starts: Iterable[tuple[int, Failing | None]]) -> None:
        """Take over where steps begin that it may have to forget."""
        self._starts = deque(starts)

    # --- its time --------------------------------------------------------------------

    def seconds_left(self, journal: Journal, timeout: float | None) -> float | None:
        """Give how many seconds an outermost execution may take; None for no limit.

        Args:
            journal: Its journal.
            timeout: How many it may take where it begins.
        """
        if self.origin is None:
            if timeout is not None:
                journal.timeout = timeout
            return timeout
        # All its steps have ended in time, and what is left is to be gone through with.
        is_at_end = self.origin[0] is None
        if self.deadline is None or is_at_end or journal.undone:
            return None
        left = min(journal.timeout, self.deadline - time())
        if left > 0:
            return left
        journal.run.cancellation.request(is_overdue=True)  # it passed in the meantime
        return None

    def let_go(self) -> None:
        """Note nothing more, and let another process have the execution."""
        self.session.let_go()

    # --- how it is kept --------------------------------------------------------------

    def buffer(self, text: str) -> None:
        """Take a row down, to be kept with those that come soon."""
        self._waiting.append(text)

    def flush(self) -> None:
        """Keep the rows that were taken down."""
        if self._waiting:
            self._keep(self._joined())

    def _joined(self) -> str:
        """Give the rows that were taken down, as one: each costs as much as any."""
        waiting, self._waiting = self._waiting, []
        if len(waiting) == 1:
            return waiting[0]
        return f'["{rows.MANY}",{",".join(waiting)}]'

    def _keep(self, text: str) -> None:
        apart, session = self.texts.take_apart(), self.session
        number = self.number
        self.number = number + 1
        session.keep(session.store.append, self.key, number, text, apart)

    def _append(self, text: str) -> None:
        if self._waiting:
            self._waiting.append(text)
            text = self._joined()
        self._keep(text)

    def _turn(self, text: str, status: Status, ended: float | None) -> None:
        self.flush()
        row = self._row(text)
        self.session.keep(self.session.store.turn, row, status.value, ended)

    def _row(self, text: str) -> Row:
        number = self.number
        self.number = number + 1
        return Row(self.key, number, text, self.texts.take_apart())


def begin(
    session: Session,
    head: Head,
    journal: Journal,
    graph: Graph,
    prefix: str,
    facts: Mapping[str, Any],
) -> Saving:
    """Note the beginning of an execution, and give what notes the rest.

    Args:
        session: What it shares with what it is nested in.
        head: What it is; its key and its graph's digest do not count.
        journal: Its journal.
        graph: The workflow.
        prefix: What the idempotency keys of its calls begin with.
        facts: What else is to be noted.

    Returns:
        What notes it; its key is 0 where there is an outermost one of that ``id``.

    Raises:
        StoreError: If it cannot be.
        UnstorableValueError: If its input cannot be stored.
    """
    fragments = Fragments(session.store.max_value_bytes)
    try:
        written = fragments.value(journal.input)
    except UnstorableValueError as error:
        text = f"the input of {graph.name!r} cannot be stored: {error}"
        raise UnstorableValueError(text, None, journal.input) from None
    told = {
        "format": rows.FORMAT,
        "id": head.id,
        "workflow": head.workflow,
        "prefix": prefix,
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "digest": digest_of(journal.input),
        **facts,
    }
    if journal.has_no_input:
        told["no_input"] = True
    text = f'["{rows.BEGIN}",{json_text(told)[:-1]},"input":{written}}}]'
    shape, digest = text_of_graph(graph)
    head, apart = head._replace(graph=digest), fragments.take_apart()
    outermost, key = head.outer is None, None
    try:
        key = session.keep(session.store.begin, head, shape, text, apart)
        if outermost and key:
            session.hold(key)
    except BaseException as error:
        if outermost and not is_a(error, Exception):
            session.let_go_of_begun(head)
        raise
    if key is None:
        raise ExecutionCancelledError("the execution was stopped")
    if key == 0 and head.outer is not None:
        text = f"execution {session.id!r} was taken over by somebody else"
        session.error = ExecutionClaimedError(text, session.id)
        raise session.error
    if outermost and key:  # to store it is no part of what its first step takes
        now = perf_counter()
        journal.run.epoch += journal.began - now
        journal.began = journal.ended = now
    return Saving(session, key, 1, prefix, journal.run.epoch, outermost, head.turn)
