"""Saving: what notes an execution in a store, row by row, while it runs.

``Saving`` is of one execution, nested ones have their own; ``KeptVisit`` is of one
visit of a step that is more than a plain call. What they have been given back of an
earlier run, which ``restoring`` reads, they give to who asks before anything is done
again.
"""

from __future__ import annotations

import os
import socket
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from threading import RLock
from time import time
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from stepfunction.core.definition.graph import Graph, Step
from stepfunction.core.engine.kept import Begun, KeptVisit
from stepfunction.core.errors import (
    ExecutionCancelledError,
    ExecutionClaimedError,
    ParallelStepExecutionError,
    StepExecutionError,
    StoreError,
    UnstorableValueError,
)
from stepfunction.core.history.journal import Journal, name_of
from stepfunction.core.history.position import Failed, Failing, Position
from stepfunction.core.history.records import Visit, as_visit
from stepfunction.core.outcomes import Ended, Status
from stepfunction.core.raised import is_a
from stepfunction.core.store import Head, Row, Store
from stepfunction.core.transcript import rows
from stepfunction.core.transcript.graphs import text_of_graph
from stepfunction.core.transcript.rows import json_text
from stepfunction.core.transcript.storing import Fragments, digest_of

if TYPE_CHECKING:
    from stepfunction.core.engine.run import Run


# Of the outer one, what the store says of the nested one, its workflow, its run, and
# whether what failed is done again: its journal; None where it is to begin anew.
Kept = TypeVar("Kept")
GoOn: TypeAlias = "Callable[[Saving, Head, Graph, Run, bool], Journal | None]"


class Session:
    """What an outermost execution and those nested in it share of their store.

    Attributes:
        store: The store.
        id: The ``id`` of the outermost execution.
        is_closed: Whether nothing is noted any more, for this process lets go of it.
        error: What the store has failed with: nothing can be noted after that.
        go_on: What gives the journal of a nested execution that is to go on.
        allow_changed: Whether an item may be another than it was.
    """

    __slots__ = (
        "store",
        "id",
        "is_closed",
        "error",
        "go_on",
        "allow_changed",
        "_lock",
        "_pid",
    )

    def __init__(
        self, store: Store, id: str, go_on: GoOn, allow_changed: bool = False
    ) -> None:
        self.store = store
        self.id = id
        self.go_on = go_on
        self.is_closed = False
        self.error: StoreError | None = None
        self.allow_changed = allow_changed
        self._lock = RLock()  # for a signal handler may end it
        self._pid = os.getpid()

    def keep(self, how: Callable[..., Kept], *facts: Any) -> Kept | None:
        """Have the store keep something, unless this process has let go of it.

        Args:
            how: The store's method.
            *facts: What it is given.

        Returns:
            What that gives; None where nothing was kept.

        Raises:
            StoreError: If it cannot be, or could not be before.
        """
        if os.getpid() != self._pid:  # which has no claim, and may find the lock held
            text = f"execution {self.id!r} is run by the process that forked this one"
            raise ExecutionClaimedError(text, self.id, None, self._pid)
        with self._lock:
            if not self.may_note():
                return None
            try:
                return how(*facts)
            except StoreError as error:
                self.error = error
                raise

    def let_go(self, key: int) -> None:
        """Keep nothing more, and let others have an execution."""
        with self._lock:
            self.is_closed = True
        self.store.release(key)

    def may_note(self) -> bool:
        """Say whether to note anything.

        Raises:
            StoreError: If the store has failed before.
        """
        if self.error is not None:
            raise self.error
        return not self.is_closed


class Saving:
    """What notes one execution.

    Args:
        session: What it shares with what it is nested in.
        key: The number by which the store knows it.
        number: The number of its next row.
        prefix: What the idempotency keys of its calls begin with.
        is_outermost: Whether it is nested in no other.
        turn: How many were nested at its place before.

    Attributes:
        origin: Where it goes on; None where it begins.
        begun: What is known of the step there.
        heads: Part to what is nested there in the present step, as the store has it.
        turns: Visit and part to how many have been nested there, less one.
        resumed: When it went on, as ``perf_counter``, until its next step has ended.
        deadline: When it is to end, in seconds since the epoch; None without a limit.
        is_decided: Whether the store has its end.
        count: How many tasks or items the present step has had; None of any other.
    """

    def __init__(
        self,
        session: Session,
        key: int,
        number: int,
        prefix: str,
        is_outermost: bool = False,
        turn: int = 0,
    ) -> None:
        self.session = session
        self.turn = turn
        self.key = key
        self.number = number
        self.prefix = prefix
        self.is_outermost = is_outermost
        self.origin: Position | None = None
        self.begun: Begun | None = None
        self.heads: dict[str, Head] = {}
        self.turns: dict[tuple[int, str], int] = {}
        self.resumed: float | None = None
        self.deadline: float | None = None
        self.is_decided = False
        self.count: int | None = None
        self._fragments = Fragments(session.store.max_value_bytes)
        self._names: dict[str | None, str] = {None: "null"}
        self._waiting: list[str] = []  # rows that are to be one with the next
        # Of the steps that are remembered: their first rows, what had failed before.
        self._starts: deque[tuple[int, Failing | None]] = deque([(1, None)])

    # --- what is noted ---------------------------------------------------------------

    def written(self, visit: Visit) -> str | None:
        """Give the output of a step as it is to be noted; None where tasks say it.

        Raises:
            UnstorableValueError: If it cannot be stored.
        """
        child = visit.child
        if self.count is not None or (child is not None and child.saving is not None):
            return None
        return self.fragment(visit.output, visit.name)

    def fragment(self, value: Any, step: str | None = None, title: str = "") -> str:
        """Give a value as it is to be noted.

        Args:
            value: The value.
            step: The name of the step that gave it.
            title: What messages call that; the step, if nothing.

        Raises:
            UnstorableValueError: If it cannot be stored.
        """
        try:
            return self._fragments.value(value)
        except UnstorableValueError as error:
            what = title or f"step {step!r}"
            text = f"the output of {what} cannot be stored: {error}"
            raise UnstorableValueError(text, step, value) from None

    def note(
        self,
        journal: Journal,
        visit: Visit,
        position: Position,
        output: str | None,
    ) -> None:
        """Note a step that has ended together with what follows it.

        Args:
            journal: The journal in which it was noted just now.
            visit: The step.
            position: Where that leads.
            output: What ``written`` gave; None also where it failed.
        """
        follower, _, failing = position
        epoch = journal.run.epoch
        ended = epoch + journal.entries[-2]
        name, then = self._name(visit.name), self._name(follower)
        is_plain = visit.error is None and not visit.attempts and output is not None
        if is_plain and visit.child is None:
            text = f'["{rows.STEP}",{name},{ended!r},{then},{output}]'
        else:
            facts = self.facts(visit, epoch, output, self.count)
            text = f'["{rows.VISIT}",{name},{ended!r},{then},{facts}]'
        self._append(text, visit.error)
        self.begun = self.resumed = self.count = None
        if journal.keeps is not None:
            self._starts.append((self.number, failing))

    def facts(
        self,
        visit: Visit,
        epoch: float,
        output: str | None,
        count: int | None = None,
    ) -> str:
        """Give the facts of a visit, as a row has them.

        Args:
            visit: The visit.
            epoch: What to add to its moments to have the time of day.
            output: Its output, as it is to be noted; None where others say it.
            count: How many tasks or items it has had; None of any other.
        """
        facts = [f'"o":"{visit.outcome}"']
        if output is not None:
            facts.append(f'"r":{output}')
        if visit.error is not None:
            facts.append(f'"e":{self._error(visit, count)}')
        if count is not None:
            facts.append(f'"n":{count}')
        if visit.attempts:
            attempts = (
                self.attempt(one, epoch, visit.error) for one in visit.attempts
            )
            facts.append(f'"a":[{",".join(attempts)}]')
        if visit.child is not None and visit.child.saving is not None:
            facts.append(f'"c":{visit.child.saving.turn}')
        return "{" + ",".join(facts) + "}"

    def attempt(
        self, attempt: Ended, epoch: float, last: BaseException | None = None
    ) -> str:
        """Give an attempt, as a row has it; its error is 0 where it is the last."""
        outcome, began, ended, error = attempt
        told = "null"
        if error is not None:
            told = "0" if error is last else self._error_text(error)
        return f'["{outcome}",{epoch + began!r},{epoch + ended!r},{told}]'

    def _error(self, visit: Visit, count: int | None) -> str:
        """Give what a step failed with; 0 where its tasks say it."""
        error: Any = visit.error
        if count is not None and is_a(error, ParallelStepExecutionError):
            return "0"
        return self._error_text(error)

    def _error_text(self, error: BaseException) -> str:
        """Give an exception; the number of the nested execution that says it."""
        if is_a(error, StepExecutionError) and error.execution is not None:
            saving = error.execution.journal.saving
            if saving is not None and saving.session is self.session:
                return str(saving.turn + 1)
        return self._fragments.error(error)

    def note_end(self, journal: Journal, status: Status, ended: float) -> None:
        """Note the end, with the status."""
        if self.is_decided or not self.session.may_note():
            return
        facts = ""
        if status in (Status.CANCELLED, Status.TIMED_OUT) and journal.error is not None:
            facts = f'"e":{self._fragments.error(journal.error)}'
        at = journal.run.epoch + ended
        text = f'["{rows.END}","{status}",{at!r},{{{facts}}}]'
        self._turn(text, status, at)
        self.is_decided = True

    def note_resumption(self, facts: Mapping[str, Any], answer: str | None) -> None:
        """Note that it goes on, and who has it now."""
        told = {"host": socket.gethostname(), "pid": os.getpid(), "at": time(), **facts}
        text = json_text(told)
        if answer is not None:
            text = f'{text[:-1]},"answer":{answer}}}'
        self._turn(f'["{rows.RESUME}",{text}]', Status.RUNNING, None)

    def note_undone(self, journal: Journal, visit: Visit) -> None:
        """Note what a compensation did.

        Args:
            journal: The journal of what was undone.
            visit: What it did.
        """
        if not self.session.may_note():
            return
        one, part = visit, "null"
        if visit.tasks:
            one = visit.tasks[0]
            part = json_text(one.name)
        attempt = self.attempt(one.attempts[0], journal.run.epoch)
        given: Any = one.given and one.given[0]
        values = f"{self.lenient(given)},{self.lenient(one.output)}"
        name = self._name(visit.name)
        self._append(f'["{rows.UNDO}",{name},{part},{attempt},{values}]', one.error)

    def lenient(self, value: Any) -> str:
        """Give a value as it is to be noted, or its repr where that cannot be."""
        try:
            return self._fragments.value(value)
        except UnstorableValueError:
            from stepfunction.core.envelope.omitted import Omitted
            from stepfunction.core.transcript.values import repr_of

            return self._fragments.value(Omitted(repr_of(value)))

    def note_forgotten(self, journal: Journal) -> None:
        """Note all that forgotten steps have left, and have the store lose them."""
        if not self.session.may_note():
            return
        self.flush()
        # The last is where the step begins that follows.
        while len(self._starts) > len(journal.entries) // 3 + 1:
            self._starts.popleft()
        before, failing = self._starts[0]
        first = as_visit(journal.entries[0], journal.entries[2])
        epoch = journal.run.epoch
        context = ",".join(
            f"[{self._name(name)},{self._result(value)}]"
            for name, value in journal.results_now().items()
        )
        facts = [
            f'"forgotten":{journal.forgotten}',
            f'"before":{before}',
            f'"step":{self._name(name_of(journal.entries[0]))}',
            f'"context":[{context}]',
            f'"began":{epoch + first.attempts[0][1]!r}',
            f'"input":{self.lenient(first.given and first.given[0])}',
        ]
        if failing is not None:
            failed = ",".join(self._failed(one, epoch) for one in failing)
            facts.append(f'"failing":[{failed}]')
        row = self._row(f'["{rows.FORGET}",{{{",".join(facts)}}}]')
        self.session.keep(self.session.store.forget, row, before, journal.forgotten)

    def _failed(self, failed: Failed, epoch: float) -> str:
        entry, value, began, ended, error = failed
        name = self._name(name_of(entry))
        times = f"{epoch + began!r},{epoch + ended!r}"
        facts = f"{name},{self.lenient(value)},{times},{self._fragments.error(error)}"
        return f"[{facts}]"

    def _result(self, value: Any) -> str:
        """Give what came of a step: as an output, or as an error."""
        if is_a(value, BaseException):
            return f"null,{self._fragments.error(value)}"
        return self.lenient(value)

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
            value: Its input.
            run: What it shares with what it is nested in.
            outer: The journal of this one.
            part: The task that it is nested in, or the index of the item.
            is_again: Whether this process has run it already, as another attempt.
        """
        at = outer.steps
        place = (at, json_text(part))
        begun, head = self.begun, self.heads.get(place[1])
        if not is_again and begun is not None and head is not None:
            if head.turn != begun.turns.get(part):
                journal = self.session.go_on(self, head, graph, run, begun.is_fresh)
                if journal is not None:
                    return journal
        turn = self.turns.get(place, -1) + 1
        self.turns[place] = turn
        journal = Journal(graph, value, run)
        prefix = outer.key_of_nested(part)
        head = Head(
            0,
            journal.id,
            graph.name,
            Status.RUNNING.value,
            run.epoch + journal.began,
            None,
            "",
            self.key,
            at,
            place[1],
            turn,
        )
        journal.saving = begin(self.session, head, graph, value, prefix, {})
        return journal

    def visit(self, journal: Journal, step: Step) -> KeptVisit:
        """Give what keeps the visit of a step that is more than a plain call."""
        begun = Begun() if self.begun is None else self.begun
        return KeptVisit(self, journal, begun, step)

    @property
    def has_begun(self) -> bool:
        """Whether attempts at the present step have been made in another process."""
        return self.begun is not None and None in self.begun.attempts

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
            return timeout
        if self.deadline is None or journal.undone:  # which is to be gone through with
            return None
        return min(journal.timeout, self.deadline - time())

    def let_go(self) -> None:
        """Note nothing more, and let another process have the execution."""
        self.session.let_go(self.key)

    # --- how it is noted -------------------------------------------------------------

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
        apart = self._fragments.take_apart()
        number = self.number
        self.number = number + 1
        self.session.keep(self.session.store.append, self.key, number, text, apart)

    def _append(self, text: str, error: BaseException | None = None) -> None:
        if not self.session.may_note():
            return
        try:
            if self._waiting:
                self._waiting.append(text)
                text = self._joined()
            self._keep(text)
        except StoreError as failure:
            if error is not None:  # what the step had failed with is not to be lost
                failure.__cause__ = error
            raise

    def _turn(self, text: str, status: Status, ended: float | None) -> None:
        self.flush()
        row = self._row(text)
        self.session.keep(self.session.store.turn, row, status.value, ended)

    def _row(self, text: str) -> Row:
        number = self.number
        self.number = number + 1
        return Row(self.key, number, text, self._fragments.take_apart())

    def _name(self, name: str | None) -> str:
        found = self._names.get(name)
        if found is None:
            found = self._names[name] = json_text(name)
        return found


def begin(
    session: Session,
    head: Head,
    graph: Graph,
    value: Any,
    prefix: str,
    facts: Mapping[str, Any],
) -> Saving:
    """Note the beginning of an execution, and give what notes the rest.

    Args:
        session: What it shares with what it is nested in.
        head: What it is; its key and its graph's digest do not count.
        graph: The workflow.
        value: Its input.
        prefix: What the idempotency keys of its calls begin with.
        facts: What else is to be noted.

    Raises:
        StoreError: If it cannot be.
        UnstorableValueError: If its input cannot be stored.
    """
    fragments = Fragments(session.store.max_value_bytes)
    try:
        written = fragments.value(value)
    except UnstorableValueError as error:
        text = f"the input of {graph.name!r} cannot be stored: {error}"
        raise UnstorableValueError(text, None, value) from None
    told = {
        "format": rows.FORMAT,
        "id": head.id,
        "workflow": head.workflow,
        "prefix": prefix,
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "digest": digest_of(value),
        **facts,
    }
    text = f'["{rows.BEGIN}",{json_text(told)[:-1]},"input":{written}}}]'
    shape, shape_digest = text_of_graph(graph)
    head = head._replace(graph=shape_digest)
    apart = fragments.take_apart()
    key = session.keep(session.store.begin, head, shape, text, apart)
    if key is None:
        raise ExecutionCancelledError("the execution was stopped")
    if key == 0 and head.outer is not None:
        text = f"execution {session.id!r} was taken over by somebody else"
        session.error = ExecutionClaimedError(text, session.id)
        raise session.error
    return Saving(session, key, 1, prefix, head.outer is None, head.turn)
