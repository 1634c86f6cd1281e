"""Stored: how an execution begins, goes on, or is given back, with a store."""

from __future__ import annotations

from math import inf
from time import time
from typing import Any

from stepfunction.core.definition.graph import Graph
from stepfunction.core.engine.restoring import Restored
from stepfunction.core.engine.run import Run
from stepfunction.core.engine.saving import begin
from stepfunction.core.engine.session import Session
from stepfunction.core.errors import (
    DefinitionError,
    ExecutionNotFoundError,
    ResumeError,
    StoreError,
    UnstorableValueError,
)
from stepfunction.core.history.execution import Execution
from stepfunction.core.history.journal import NOTHING, Journal, name_of
from stepfunction.core.history.records import Visit
from stepfunction.core.keys import quoted
from stepfunction.core.logger import logger
from stepfunction.core.outcomes import Status
from stepfunction.core.store import Head, Store
from stepfunction.core.transcript.graphs import differences, read_graph, text_of_graph
from stepfunction.core.transcript.storing import Fragments, digest_of
from stepfunction.core.wording import GIVEN_BACK, did_you_mean


def begin_stored(
    graph: Graph,
    value: Any,
    run: Run,
    store: Store,
    execution_id: str | None,
    timeout: float | None,
) -> Journal:
    """Begin a stored execution; or go on with it, or give it back, where there is one.

    Args:
        graph: The workflow.
        value: Its input, or ``NOTHING``.
        run: What all that is nested in it shares.
        store: The store.
        execution_id: The ``id`` of the execution; None for a new one.
        timeout: How many seconds it may take; None for no limit.

    Raises:
        ResumeError: If there is one of that ``id`` with another input, or of another
            workflow, or if that has another shape now.
        StoreError: If the store cannot keep it, or somebody else runs it.
    """
    head = None if execution_id is None else store.find(execution_id)
    if head is None:
        journal = Journal.given(graph, value, run)
        journal._id = execution_id or journal.id
        session = Session(store, journal.id, go_on_inside)
        facts: dict[str, Any] = {}
        if timeout is not None:
            facts = {"deadline": time() + timeout, "timeout": timeout}
        started = time()
        run.epoch = started - journal.began
        named = (journal.id, graph.name, Status.RUNNING.value, started)
        beginning = Head(0, *named, None, "")
        saving = begin(session, beginning, journal, graph, quoted(journal.id), facts)
        if saving.key:
            journal.saving = saving
            return journal
        head = store.find(journal.id)  # somebody else has begun it just now
        if head is None:
            raise StoreError(f"execution {journal.id!r} was begun and lost just now")
    _check_workflow(head, graph)
    first = Restored.first_of(store, head)
    if first["digest"] != digest_of(None if value is NOTHING else value):
        text = (
            f"execution {head.id!r} was begun with another input; give it the same, or "
            "another execution_id"
        )
        raise ResumeError(text, head.id, ("the input is another",))
    if head.status == Status.RUNNING:
        return _go_on(graph, run, store, head, _Wish(timeout=None))
    journal = load_journal(store, head, run)
    if head.status != Status.COMPLETED:  # and who has mended something wonders
        journal.is_given_back = True
        text = "execution %r of %r had ended %s and is given back; %s"
        logger().warning(text, head.id, graph.name, head.status, GIVEN_BACK)
    return journal


class _Wish:
    """How an execution is to go on.

    Attributes:
        has_answer: Whether the step that failed is given an output by hand.
        answer: That output.
        start_at: The step to go back to; None for where it stands.
        timeout: How many seconds it may take from now on; None to leave that.
        allow_changed: Whether the workflow and its items may be others than they were.
    """

    def __init__(
        self,
        has_answer: bool = False,
        answer: Any = None,
        start_at: str | None = None,
        timeout: float | None = None,
        allow_changed: bool = False,
    ) -> None:
        self.has_answer = has_answer
        self.answer = answer
        self.start_at = start_at
        self.timeout = timeout
        self.allow_changed = allow_changed

    @property
    def is_back(self) -> bool:
        """Whether it is to go on from elsewhere than where it stands."""
        return self.has_answer or self.start_at is not None


def resume_stored(
    graph: Graph,
    run: Run,
    store: Store,
    execution_id: str,
    has_answer: bool,
    answer: Any,
    start_at: str | None,
    timeout: float | None,
    allow_changed: bool,
) -> Journal:
    """Go on with a stored execution; see ``StepFunction.resume``."""
    head = find(store, execution_id)
    _check_workflow(head, graph)
    if start_at is not None and start_at not in graph.table:
        hint = did_you_mean(start_at, graph.table)
        problem = f"start_at names {start_at!r}, which is no step of it{hint}"
        raise DefinitionError(f"resume of {execution_id!r}", [problem])
    if has_answer and start_at is not None:
        problem = "give answer or start_at, not both"
        raise DefinitionError(f"resume of {execution_id!r}", [problem])
    wish = _Wish(has_answer, answer, start_at, timeout, allow_changed)
    if head.status == Status.COMPLETED and not wish.is_back:
        return load_journal(store, head, run)
    return _go_on(graph, run, store, head, wish)


def find(store: Store, execution_id: str) -> Head:
    """Give the head of an execution.

    Raises:
        ExecutionNotFoundError: If there is none of that ``id``.
    """
    head = store.find(execution_id)
    if head is None:
        text = f"nothing is stored of an execution {execution_id!r}"
        raise ExecutionNotFoundError(text, execution_id)
    return head


def load_execution(store: Store, execution_id: str, run: Run) -> Execution:
    """Give a stored execution, to look at.

    Raises:
        ExecutionNotFoundError: If there is none of that ``id``.
        StoreError: If what is stored is damaged.
    """
    # One who only looks may lack what a value is made again with.
    head = find(store, execution_id)
    return load_journal(store, head, run, is_exact=False).execution


def load_journal(
    store: Store, head: Head, run: Run, is_exact: bool = True
) -> Journal:
    """Give the journal of a stored execution as it stands, to look at."""
    session = Session(store, head.id, go_on_inside)
    session.is_closed = True
    graph = read_graph(store.graph(head.graph))
    restored = Restored(session, head, graph, run, is_exact)
    journal = restored.finish()
    journal.is_live = False
    if not restored.has_ended:
        name, begun = restored.position[0], restored.begun
        journal.ended = journal.last_stamp
        if name is not None:
            tasks = tuple(begun.visits.values())
            journal.present = Visit(name, None, tasks=tasks)
    return journal


def _check_workflow(head: Head, graph: Graph) -> None:
    if head.workflow != graph.name:
        text = (
            f"execution {head.id!r} is of workflow {head.workflow!r}, not of "
            f"{graph.name!r}; give another execution_id"
        )
        raise ResumeError(text, head.id, (f"the workflow is {head.workflow!r}",))


def _go_on(graph: Graph, run: Run, store: Store, head: Head, wish: _Wish) -> Journal:
    """Claim an execution, and give its journal as it is to go on."""
    session: Session | None = None
    store.claim(head.key)
    try:
        head = find(store, head.id)  # it may have ended before it was claimed
        if head.status == Status.COMPLETED and not wish.is_back:
            store.release(head.key)
            return load_journal(store, head, run)
        session = Session(store, head.id, go_on_inside, wish.allow_changed)
        session.hold(head.key)
        return _restored(session, head, graph, run, wish, True)
    except BaseException:
        if session is None or not session.is_holding:
            store.release(head.key)
        else:
            session.let_go()
        raise


def _restored(
    session: Session,
    head: Head,
    graph: Graph,
    run: Run,
    wish: _Wish,
    is_outermost: bool,
    is_fresh: bool = False,
) -> Journal:
    """Give the journal of an execution that is not at its end, or is to leave that."""
    as_it_was = _as_it_was(session, head, graph)
    restored = Restored(session, head, as_it_was, run)
    facts: dict[str, Any] = {}
    answer, name = None, restored.position[0]
    # With what it is nested in, and not yet undone for that.
    was_stopped = is_fresh and name is not None and not restored.undone
    if restored.has_ended or wish.is_back or was_stopped:
        _refuse_if_undone(restored)
        name, facts = _way_back(restored, graph, wish)
        if wish.has_answer:
            answer = _written(session, wish.answer)
    if wish.timeout is not None or restored.has_ended:
        seconds = wish.timeout
        if seconds is None and restored.journal.timeout < inf:
            seconds = restored.journal.timeout
        if is_outermost:
            facts["timeout"] = seconds
            facts["deadline"] = None if seconds is None else time() + seconds
    if as_it_was is not graph:
        _check_next(head, name, as_it_was, graph)
    restored.saving(is_outermost).note_resumption(facts, answer)
    if facts:
        restored = Restored(session, head, as_it_was, run)
    else:
        restored.number += 1
    journal = restored.journal
    journal.saving = saving = restored.saving(is_outermost)
    saving.deadline = restored.deadline
    journal.graph = graph
    return journal


def _as_it_was(session: Session, head: Head, graph: Graph) -> Graph:
    """Give the graph by which an execution's rows are read: if it can be, the present.

    Raises:
        ResumeError: If the workflow has another shape now, and that is not allowed.
    """
    if head.graph == text_of_graph(graph)[1]:
        return graph
    stored = session.store.graph(head.graph)
    found = differences(stored, graph)
    if not found:
        return graph
    if session.allow_changed:
        return read_graph(stored)
    listed = "\n".join(f"  - {difference}" for difference in found)
    text = (
        f"workflow {head.workflow!r} has changed since execution {session.id!r} began; "
        f"allow_changed=True goes on with it as it is now:\n{listed}"
    )
    raise ResumeError(text, session.id, found)


def _check_next(head: Head, name: str | None, before: Graph, graph: Graph) -> None:
    """Refuse to go on with a step that is not there any more, or is of another kind."""
    if name is None:
        return
    was: Any = name in before.table and before.table[name].action.kind
    if name not in graph.table:
        text = f"step {name!r}, which would be next, is no step of {graph.name!r}"
    elif not was:  # to which an answer leads
        return
    elif graph.table[name].action.kind != was:
        now = graph.table[name].action.kind
        text = f"step {name!r}, which would be next, is a {now} step and was a {was}"
    else:
        return
    hint = "; give start_at= a step from which it can go on"
    raise ResumeError(f"execution {head.id!r} cannot go on: {text}{hint}", head.id)


def _refuse_if_undone(restored: Restored) -> None:
    journal = restored.journal
    children = (it for it in journal.nested() if it.status is Status.COMPLETED)
    if restored.undone or any(child.undone for child in children):
        id = restored.session.id
        text = (
            f"execution {id!r} has undone steps, and what followed them is gone; "
            "execute the workflow anew"
        )
        raise ResumeError(text, id)


def _way_back(
    restored: Restored, graph: Graph, wish: _Wish
) -> tuple[str | None, dict[str, Any]]:
    """Say from where an execution goes on that has ended, or is to go back.

    Returns:
        The step, and what its row is to say.
    """
    journal = restored.finish() if restored.has_ended else restored.journal
    visits = [name_of(entry) for entry in journal.entries[::3]]
    id = restored.session.id
    facts: dict[str, Any] = {"past": restored.newest()}
    if wish.start_at is not None:
        at = _latest(visits, wish.start_at)
        if at is None:
            text = f"execution {id!r} has not come to step {wish.start_at!r} yet"
            if journal.forgotten:
                text = f"execution {id!r} remembers no visit of step {wish.start_at!r}"
            raise ResumeError(text, id)
        facts |= {"cut": restored.first_row(at), "visit": None}
        return wish.start_at, facts
    failed = _failed_at(restored, journal, visits)
    name: str | None
    if wish.has_answer:
        if failed is None or journal.status is not Status.FAILED:
            text = (
                f"execution {id!r} is {journal.status}, and there is no step that has "
                "failed for which answer= could be the output"
            )
            raise ResumeError(text, id)
        _check_next(restored.head, name := visits[failed], restored.graph, graph)
        follower = graph.table[name].after(wish.answer)
        facts |= {"step": name, "next": follower, "visit": None}
        return follower, {**facts, "cut": restored.first_row(failed)}
    if failed is None:  # it was stopped
        failed, keeps, name = len(visits), restored.number, restored.position[0]
    else:
        keeps, name = restored.first_row(failed + 1), visits[failed]
    visit = journal.forgotten + failed
    facts |= {"visit": visit, "since": restored.since(visit)}
    return name, {**facts, "cut": restored.first_row(failed), "keeps": keeps}


def _failed_at(restored: Restored, journal: Journal, visits: list[str]) -> int | None:
    """Give which of the steps that are remembered an execution has failed at."""
    if journal.status is not Status.FAILED:
        return None
    results = journal.entries[2::3]
    failing, error = restored.position[2], journal.error
    if failing is not None and restored.graph.table[visits[-1]].action.always_fails:
        error = failing[0][-1]  # which led to the step that is there to fail
    for at in reversed(range(len(visits))):
        if results[at] is error:
            return at
    if restored.position[0] is None and journal.blame is not None:
        return _latest(visits, journal.blame.step)
    return None  # it went past its limit of steps


def _latest(visits: list[str], step: str) -> int | None:
    found = (at for at in reversed(range(len(visits))) if visits[at] == step)
    return next(found, None)


def _written(session: Session, answer: Any) -> str:
    try:
        return Fragments(session.store.max_value_bytes).value(answer)
    except UnstorableValueError as error:
        text = f"the answer cannot be stored: {error}"
        raise UnstorableValueError(text, None, answer) from None


def go_on_inside(
    session: Session,
    head: Head,
    graph: Graph,
    run: Run,
    is_fresh: bool,
    digest: str | None,
) -> Journal | None:
    """Give the journal of a nested execution that had begun, as it is to go on.

    Args:
        session: That of the outermost execution.
        head: What the store says of it.
        graph: Its workflow.
        run: What it shares with what it is nested in.
        is_fresh: Whether what failed is done again.
        digest: That of its input, where it may be another than it was; else None.

    Returns:
        Its journal, at its end where that is to count; None if it is to begin anew.
    """
    if digest is not None:
        if Restored.first_of(session.store, head)["digest"] != digest:
            return None
    if head.status != Status.RUNNING:
        as_it_was = _as_it_was(session, head, graph)
        restored = Restored(session, head, as_it_was, run)
        journal = restored.finish()
        if journal.status is Status.COMPLETED or not is_fresh:
            journal.saving = restored.saving()
            journal.saving.is_decided = True
            return journal
        if restored.undone:
            return None  # it has undone itself, and that is complete
    return _restored(session, head, graph, run, _Wish(), False, is_fresh)
