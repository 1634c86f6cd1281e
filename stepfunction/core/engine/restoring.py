"""Restoring: an execution out of the rows that a store has of it.

The rows are gone through once, from the first to the last; nothing that they name is
called. What is known of the step that had begun goes into a ``Begun``, for who does the
rest of it.
"""

from __future__ import annotations

import json
from bisect import bisect
from collections.abc import Mapping
from functools import partial
from math import inf
from typing import Any

from stepfunction.core.clock import perf_counter
from stepfunction.core.definition.graph import Graph, Step
from stepfunction.core.engine.kept import Begun
from stepfunction.core.engine.nested import output_of_child
from stepfunction.core.engine.perform import gather
from stepfunction.core.engine.run import Run
from stepfunction.core.engine.saving import Saving
from stepfunction.core.engine.session import Session
from stepfunction.core.engine.sources import item_at, known_items
from stepfunction.core.engine.tally import Tally
from stepfunction.core.engine.tasks import PastTask
from stepfunction.core.engine.texts import WayBack
from stepfunction.core.engine.verdict import remember, verdict_of
from stepfunction.core.errors import (
    ResumeError,
    StoreError,
    UnstorableValueError,
)
from stepfunction.core.history.journal import Journal
from stepfunction.core.history.position import Failed, Failing, Position
from stepfunction.core.history.records import Visit, as_visit
from stepfunction.core.outcomes import SUCCEEDED, Ended, Outcome, Status
from stepfunction.core.store import Head, Store
from stepfunction.core.transcript import rows
from stepfunction.core.transcript.rows import json_text
from stepfunction.core.transcript.storing import FragmentReader
from stepfunction.core.wording import TOO_DEEP, subject

_OUTCOMES = {outcome.value: outcome for outcome in Outcome}


class Restored:
    """An execution as a store has it.

    Args:
        session: That of the outermost execution.
        head: What the store says of it.
        graph: What it runs.
        run: What it shares with all that is nested in the same execution.

    Attributes:
        journal: Its journal.
        position: Where it stands.
        begun: What is known of the step that had begun there.
        number: The number of its next row.
        first: What its first row says.
        starts: Of each step that it remembers, the number of its first row, and what
            had failed before.
        deadline: When it is to end, in seconds since the epoch; None without a limit.
    """

    def __init__(
        self,
        session: Session,
        head: Head,
        graph: Graph,
        run: Run,
        is_exact: bool = True,
    ) -> None:
        self.session = session
        self._is_exact = is_exact
        self.head = head
        self.graph = graph
        self.run = run
        self.begun = Begun()
        self.undone: list[Visit] = []
        self.undone_places: list[int] = []
        self._has_undone_itself = False  # which what is around it does after its end
        self.deadline: float | None = None
        self.starts: list[tuple[int, Failing | None]] = []
        self._before: Failing | None = None  # what had failed before the present step
        self._failing: Failing | None = None
        self._name: str | None = graph.start
        self._value: Any = None
        self._status = Status.RUNNING
        self._end: tuple[float, Mapping[str, Any]] | None = None
        self._reader = FragmentReader(partial(session.store.apart, head.key), is_exact)
        self._heads: dict[tuple[int, str, int], Head] | None = None
        self._made: dict[tuple[int, str, int], Journal] = {}
        self._at = 1
        self._began: float | None = None
        self._ways_back: list[WayBack] = []
        self._lost: dict[str, Any] = {}  # results of forgotten steps
        try:
            told = rows.read_rows(session.store.rows(head.key))
        except ValueError as error:
            raise self._damage(str(error)) from error
        self.number, self.base, self._rows = told
        self.first = self._rows[0][1][1]
        self.journal = journal = Journal(graph, None, run)
        journal._id, self._epoch = head.id, run.epoch
        journal.began = journal.ended = head.started - self._epoch
        try:
            self._go_through()
        except (ResumeError, UnstorableValueError):
            raise
        except (LookupError, TypeError, ValueError) as error:
            raise self._damage(f"says what cannot be read: {error}") from error
        if self.undone:
            journal.undone = self.undone

    @staticmethod
    def first_of(store: Store, head: Head) -> Mapping[str, Any]:
        """Give what the first row of an execution says."""
        _, text = next(iter(store.rows(head.key)))
        first: Mapping[str, Any] = json.loads(text)[1]
        return first

    @property
    def position(self) -> Position:
        """Where it stands."""
        return self._name, self._value, self._failing

    @property
    def has_ended(self) -> bool:
        """Whether the store has its end."""
        return self._end is not None

    def finish(self) -> Journal:
        """Give its journal with the end that the store has of it, if it has one."""
        journal = self.journal
        journal.status = self._status
        journal.broke_off = False
        if self._end is None:
            return journal
        ended, facts = self._end
        journal.ended = ended - self._epoch
        if self._status in (Status.COMPLETED, Status.FAILED):
            verdict = verdict_of(journal, self.graph, self.position)
            _, output, journal.error, journal.blame, journal.broke_off = verdict
            journal.output = output
        elif "e" in facts:
            journal.error = self._error(facts["e"])
        return journal

    # --- the rows --------------------------------------------------------------------

    def _damage(self, what: str) -> StoreError:
        return StoreError(f"what is stored of execution {self.session.id!r} {what}")

    def _go_through(self) -> None:
        journal, first = self.journal, self.first
        self._value = journal.input = self._reader.value(first["input"])
        if first.get("no_input"):
            journal.has_no_input = True
        self.deadline = first.get("deadline")
        journal.timeout = first.get("timeout") or inf
        if self.base is not None:
            self._restore_base(self.base)
        note = journal.entries.extend
        epoch, read = self._epoch, self._reader.value
        for number, row in self._rows[1:]:
            kind = row[0]
            if kind == rows.STEP:
                _, name, ended, follower, output = row
                output = read(output)
                note((name, ended - epoch, output))
                self._went_on(name, follower, output, number)
            else:
                self._tell(kind, row, number)

    def _restore_base(self, base: Mapping[str, Any]) -> None:
        journal = self.journal
        journal.forgotten = base["forgotten"]
        results = {name: self._result(told) for name, *told in base["context"]}
        journal.results, self._lost = results, dict(results)
        self._name = base["step"]
        self._value = self._reader.value(base["input"])
        self._began = base["began"] - self._epoch
        self._ways_back += (tuple(way) for way in base.get("ways_back", ()))
        if "failing" in base:
            # What is in the context is the same object.
            known = [(it[2], results[it[0]]) for it in base["context"] if len(it) == 3]
            first, latest = (self._failed(told, known) for told in base["failing"])
            self._failing = self._before = (first, latest)

    def _result(self, told: list[Any]) -> Any:
        return self._error(told[1]) if len(told) == 2 else self._reader.value(told[0])

    def _failed(
        self, told: list[Any], known: list[tuple[Any, BaseException]]
    ) -> Failed:
        name, value, began, ended, written, *more = told
        found = [error for data, error in known if data == written]
        error = found[0] if found else self._error(written)
        if not found:
            known.append((written, error))
        tried = [self._attempt(it, None, error) for it in (more[0] if more else ())]
        visit = Visit(name, Outcome.FAILED, tuple(tried), error=error)
        times = began - self._epoch, ended - self._epoch
        return visit, self._reader.value(value), *times, error

    def _went_on(
        self, name: str, follower: str | None, output: Any, number: int
    ) -> None:
        """Take note that a step succeeded, which is in the journal already."""
        if name != self._name:
            raise self._damage(f"has step {name!r} in the place of {self._name!r}")
        if self._failing is not None and follower is not None:
            if follower not in self.graph.failure_steps:
                self.journal.recovered, self._failing = self._failing, None
        self._name, self._value = follower, output
        self._step_ended(number)

    def _step_ended(self, number: int) -> None:
        self.starts.append((self._at, self._before))
        self._before = self._failing
        self._at = number + 1
        if self._began is not None:  # the first that is remembered has all its facts
            entry, ended, result = self.journal.entries[:3]
            began, self._began = self._began, None
            visit = as_visit(entry, result)
            if not visit.attempts:
                one: Ended = (visit.outcome or SUCCEEDED, began, ended, visit.error)
                visit = visit._replace(attempts=(one,))
            self.journal.entries[0] = visit
        if self.begun.is_used:
            self.begun = Begun()

    def _tell(self, kind: str, row: list[Any], number: int) -> None:
        begun = self.begun
        if kind == rows.VISIT:
            self._visit(row, number)
        elif kind == rows.TASK:
            self._task(row)
        elif kind == rows.ITEMS:
            begun.is_used = True
            _, first, digest, outputs = row
            begun.add_run(first, digest, self._reader.value(outputs))
        elif kind == rows.ATTEMPT:
            _, part, attempt, pause, due, turn, returned = row
            begun.is_used = True
            begun.attempts.setdefault(part, []).append(self._attempt(attempt, part))
            begun.pauses[part] = (pause, due)
            begun.returned[part] = self._reader.value(returned)
            if turn is not None:
                begun.turns[part] = turn
        elif kind == rows.WAIT:
            begun.is_used, begun.wait = True, (row[1], row[2])
        elif kind == rows.UNDO:
            self._undo(row)
        elif kind == rows.RESUME:
            self._resume(row[1], number)
        elif kind == rows.END:
            _, status, ended, facts = row
            self._status, self._end = Status(status), (ended, facts)
            self._has_undone_itself = bool(self.undone)
        else:
            raise self._damage(f"has a row of kind {kind!r} out of its place")

    # --- what they say ---------------------------------------------------------------

    def _attempt(
        self, told: list[Any], part: Any, last: BaseException | None = None
    ) -> Ended:
        outcome, began, ended, error = told
        failure = None
        if error is not None:
            failure = last if error == 0 else self._error(error, part)
        times = began - self._epoch, ended - self._epoch
        return _OUTCOMES[outcome], *times, failure

    def _error(self, told: Any, part: Any = None) -> BaseException:
        """Give an exception: written out, or that of a nested execution."""
        if type(told) is not int:
            return self._reader.error(told)
        child = self._child(part, told - 1)
        assert child is not None and self._name is not None
        try:
            output_of_child(self._name, subject(self._name, part), child)
        except Exception as error:
            return error
        raise self._damage(f"lacks what failed in {child.workflow!r}")

    def _child(self, part: Any, turn: int | None) -> Journal | None:
        """Give the journal of what is nested in the present step."""
        if turn is None:
            return None
        if self._heads is None:
            heads = self.session.store.nested(self.head.key)
            self._heads = {(it.visit, it.part, it.turn): it for it in heads}
        at = self.journal.steps
        place = (at, json_text(part), turn)
        found = self._made.get(place)
        if found is None:
            head = self._heads.get(place)
            graph = self.graph.nested_at(self._name, part)
            if head is None or graph is None:
                raise self._damage(f"lacks the workflow nested in {self._name!r}")
            facts = self.session, head, graph, self.run, self._is_exact
            try:
                restored = Restored(*facts)
            except RecursionError:
                raise self._damage(f"has workflows that are {TOO_DEEP}") from None
            found = self._made[place] = restored.finish()
            prefix, number = restored.first["prefix"], restored.number
            named = head.key, number, prefix, self._epoch
            saving = Saving(self.session, *named, turn=turn)
            saving.is_decided = True
            saving.has_undone_itself = restored._has_undone_itself
            saving.undone_places = restored.undone_places
            found.saving = saving
        return found

    def _facts(self, name: Any, facts: Mapping[str, Any], part: Any) -> Visit:
        """Give the visit that facts are of."""
        child = self._child(part, facts.get("c"))
        error = None
        if facts.get("e", 0) != 0:
            error = self._error(facts["e"], part)
        attempts = tuple(self._attempt(it, part, error) for it in facts.get("a", ()))
        output = None
        if "r" in facts:
            output = self._reader.value(facts["r"])
        elif child is not None and error is None:
            output = child.output
        outcome = _OUTCOMES[facts["o"]]
        return Visit(name, outcome, attempts, output, error, (), child)

    def _task(self, row: list[Any]) -> None:
        _, part, facts = row
        visit, begun = self._facts(part, facts, part), self.begun
        if "i" in facts and self._name is not None:
            inputs = self._inputs(self.graph.table[self._name])
            visit = visit._replace(given=({it: inputs.get(it) for it in facts["i"]},))
        begun.is_used = True
        begun.visits.pop(part, None)  # so that they stand as they ended
        begun.visits[part] = visit
        begun.attempts.pop(part, None)
        if "d" in facts:
            begun.digests[part] = facts["d"]

    def _visit(self, row: list[Any], number: int) -> None:
        _, name, ended, follower, facts = row
        if name != self._name:
            raise self._damage(f"has step {name!r} in the place of {self._name!r}")
        step, journal = self.graph.table[name], self.journal
        visit = self._facts(name, facts, None)
        if "n" in facts:
            visit = self._gathered(step, visit, facts["n"])
        if step.inputs is not None:
            visit = visit._replace(given=(self._inputs(step),))
        ended -= self._epoch
        if visit.error is None:
            journal.entries.extend((visit, ended, visit.output))
            self._went_on(name, follower, visit.output, number)
            return
        began, value = journal.last_stamp, self._value
        journal.entries.extend((visit, ended, visit.error))
        failed: Failed = (visit, value, began, ended, visit.error)
        if self._failing is None:
            self._failing = (failed, failed)
        else:
            remember(self._failing[0][-1], visit.error)
            self._failing = (self._failing[0], failed)
        self._name, self._value = follower, visit.error
        self._step_ended(number)

    def _inputs(self, step: Step) -> dict[str, Any]:
        """Give the named inputs of the present step."""
        results = self.journal.results_so_far()
        return {to: results[source] for to, source in step.inputs or ()}

    def _gathered(self, step: Step, visit: Visit, count: int) -> Visit:
        """Give the visit of a step of many tasks, by what is known of each."""
        action: Any = step.action
        attempts, begun = visit.attempts, self.begun
        if action.has_items:
            tally = Tally(action, step.name, count, None)
            items = known_items(self._value, action)
            for index in range(count):
                one, given = begun.visits.get(index), (item_at(items, index),)
                if one is not None:
                    tally.end(PastTask(one._replace(given=given)))
                elif index in begun.outputs:
                    tally.take(index, [begun.outputs[index]], 0)
                else:
                    tally.leave_out(index, 1, Outcome.CANCELLED)
            tally.taken, tally.has_all = count, True
            found = tally.visit()
        else:
            tasks = [
                PastTask(begun.visits.get(name) or Visit(name, Outcome.CANCELLED))
                for name in action.tasks
            ]
            failed = [task for task in tasks if task.error is not None]
            in_time = list(begun.visits)
            failed.sort(key=lambda task: in_time.index(task.key))
            found = gather(step.name, action, tasks, failed)
        if visit.error is not None or found.outcome is not visit.outcome:
            found = found._replace(outcome=visit.outcome, error=visit.error)
        return found._replace(attempts=_blamed(attempts, found.error))

    def _undo(self, row: list[Any]) -> None:
        _, name, part, attempt, given, returned, *place = row
        ended = self._attempt(attempt, None)
        outcome, *_, error = ended
        facts = (ended,), self._reader.value(returned), error
        visit = Visit(name, outcome, *facts, given=(self._reader.value(given),))
        if part is not None:
            visit = Visit(name, outcome, tasks=(visit._replace(name=part),))
        # One that an interrupt has ended has no row yet, and those after it have.
        (found,) = place or (len(self.undone),)
        index = bisect(self.undone_places, found)
        self.undone_places.insert(index, found)
        self.undone.insert(index, visit)

    def _resume(self, facts: Mapping[str, Any], number: int) -> None:
        """Take note that it went on, perhaps from elsewhere."""
        self._status, self._end = Status.RUNNING, None
        if "deadline" in facts:
            self.deadline = facts["deadline"]
            self.journal.timeout = facts.get("timeout") or inf
        if "cut" in facts:
            past = facts["past"]
            self._ways_back.append((self.journal.steps, facts.get("since", past), past))
            self.begun.is_fresh = self.begun.is_used = facts["visit"] is not None
        if "answer" in facts:
            answer, name = self._reader.value(facts["answer"]), facts["step"]
            ended = facts["at"] - self._epoch
            one: Ended = (SUCCEEDED, ended, ended, None)
            self.journal.entries.extend(
                (Visit(name, SUCCEEDED, (one,), answer), ended, answer)
            )
            self._went_on(name, facts["next"], answer, number)
            self.begun = Begun()

    # --- going on --------------------------------------------------------------------

    def saving(self, is_outermost: bool = False) -> Saving:
        """Give what notes the rest of it."""
        head = self.head
        prefix = self.first["prefix"]
        saving = Saving(
            self.session,
            head.key,
            self.number,
            prefix,
            self._epoch,
            is_outermost,
            head.turn,
        )
        saving.origin = self.position
        saving.resumed = perf_counter()
        saving.begun = self.begun
        saving.has_undone_itself = self._has_undone_itself
        saving.undone_places = self.undone_places
        if self.journal.keeps is not None:
            saving.remember([*self.starts, (self._at, self._before)])
        saving.ways_back, saving.results = self._ways_back, self._lost
        at = self.journal.steps
        since = self.since(at)
        for head in self.session.store.nested(self.head.key):
            saving.turns[head.visit, head.part] = head.turn
            if head.visit == at and head.key > since:
                saving.heads[head.part] = head
        return saving

    def since(self, visit: int) -> int:
        """Give the key of the newest nested one that was set aside at a visit.

        Args:
            visit: How many steps came before that.
        """
        found = 0
        for back_to, since, past in self._ways_back:
            if visit >= back_to:
                found = max(found, past if visit > back_to else since)
        return found

    def newest(self) -> int:
        """Give the key of the newest that is nested in it; 0 for none."""
        heads = self.session.store.nested(self.head.key)
        return max((head.key for head in heads), default=0)

    def first_row(self, visit: int) -> int:
        """Give the number of the first row of a step that it remembers.

        Args:
            visit: How many that it remembers came before; all of them for the step
                that has begun.
        """
        return [*(number for number, _ in self.starts), self._at][visit]


def _blamed(
    attempts: tuple[Ended, ...], error: BaseException | None
) -> tuple[Ended, ...]:
    """Give attempts, of which the last failed with what the step failed with."""
    if not attempts or attempts[-1][0] is SUCCEEDED:
        return attempts
    *others, (outcome, began, ended, _) = attempts
    return (*others, (outcome, began, ended, error))
