"""Texts: how what happens is written as rows; ``restoring`` reads them.

The module ``core.transcript.rows`` has the list of them.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping, Sequence
from json.encoder import encode_basestring_ascii as quoted_text
from time import time
from typing import Any, TypeAlias

from stepfunction.core.engine.session import Session
from stepfunction.core.envelope.omitted import Omitted
from stepfunction.core.errors import (
    ParallelStepExecutionError,
    StepExecutionError,
    UnstorableValueError,
    execution_of,
)
from stepfunction.core.history.execution import journal_of
from stepfunction.core.history.journal import name_of
from stepfunction.core.history.position import Failed, Failing
from stepfunction.core.history.records import Visit, as_visit
from stepfunction.core.outcomes import Ended, Status
from stepfunction.core.raised import is_a
from stepfunction.core.transcript import rows
from stepfunction.core.transcript.rows import json_text
from stepfunction.core.transcript.storing import Fragments
from stepfunction.core.transcript.values import repr_of

# How many steps came before the one that an execution went back to; the newest that is
# nested in it and does not count at that step; the same of all that follow it.
WayBack: TypeAlias = tuple[int, int, int]


class Texts:
    """Writes the rows of one execution, in the thread that runs it.

    Args:
        session: What it shares with what it is nested in.
        epoch: What to add to moments of its journal to have the time of day.
    """

    def __init__(self, session: Session, epoch: float) -> None:
        fragments = Fragments(session.store.max_value_bytes)
        self.take_apart = fragments.take_apart
        self._session = session
        self._epoch = epoch
        self._value, self._error = fragments.value, fragments.error
        self._names: dict[str | None, str] = {None: "null"}

    # --- values ----------------------------------------------------------------------

    def output(self, value: Any, step: str, title: str = "") -> str:
        """Give the output of a step, or of a part of it.

        Args:
            value: The output.
            step: The name of the step.
            title: What messages call what gave it; the step, if nothing.

        Raises:
            UnstorableValueError: If it cannot be stored.
        """
        try:
            return self._value(value)
        except UnstorableValueError as error:
            what = title or f"step {step!r}"
            text = f"the output of {what} cannot be stored: {error}"
            raise UnstorableValueError(text, step, value) from None

    def lenient(self, value: Any) -> str:
        """Give a value, or its repr where it cannot be stored."""
        try:
            return self._value(value)
        except UnstorableValueError:
            return self._value(Omitted(repr_of(value)))

    def name(self, name: str | None) -> str:
        """Give the name of a step; null for None."""
        found = self._names.get(name)
        if found is None:
            found = self._names[name] = json_text(name)
        return found

    # --- rows ------------------------------------------------------------------------

    def step(
        self,
        visit: Visit,
        ended: float,
        follower: str | None,
        output: str | None,
        count: int | None = None,
    ) -> str:
        """Give the row of a step that has ended.

        Args:
            visit: What it did.
            ended: When it ended.
            follower: The step that follows; None at the end.
            output: Its output; None where it failed, or what is in it says it.
            count: How many tasks or items it has had; None of any other.
        """
        name, then = self.name(visit.name), self.name(follower)
        at = self._epoch + ended
        if output is not None and visit.child is None and visit.error is None:
            if not visit.attempts and count is None:
                return f'["{rows.STEP}",{name},{at!r},{then},{output}]'
        facts = self._facts(visit, output, count)
        return f'["{rows.VISIT}",{name},{at!r},{then},{facts}]'

    def task(self, visit: Visit, output: str | None, digest: str | None) -> str:
        """Give the row of a task, or of an item, that has ended.

        Args:
            visit: What it did.
            output: Its output; None where it failed, or what is nested in it says it.
            digest: That of the item; None for a task, of which the row has the names of
                its inputs where it was given some of the step's alone.
        """
        facts = self._facts(visit, output)
        if digest is not None:
            facts = f'{facts[:-1]},"d":"{digest}"}}'
        elif visit.given is not None:
            facts = f'{facts[:-1]},"i":{json_text(list(visit.given[0]))}}}'
        return f'["{rows.TASK}",{json_text(visit.name)},{facts}]'

    def success(self, name: str, attempt: Ended, output: str) -> str:
        """Give, soon, the row of a task that succeeded at its first attempt."""
        _, began, ended, _ = attempt
        epoch, kind = self._epoch, rows.TASK
        attempts = f'[["SUCCEEDED",{epoch + began!r},{epoch + ended!r},null]]'
        facts = f'{{"o":"SUCCEEDED","r":{output},"a":{attempts}}}'
        return f'["{kind}",{quoted_text(name)},{facts}]'

    def items(self, first: int, digest: str, outputs: str) -> str:
        """Give the row of items that succeeded together.

        Args:
            first: The index of the first.
            digest: That of the list of them.
            outputs: The list of what came of them.
        """
        return f'["{rows.ITEMS}",{first},"{digest}",{outputs}]'

    def retried(self, task: Any, pause: float) -> str:
        """Give the row of a failed attempt that is followed by another."""
        attempt, child = self._attempt(task.attempts[-1]), task.child
        turn = "null" if child is None or child.saving is None else child.saving.turn
        facts = f"{pause!r},{time() + pause!r},{turn},{self.lenient(task.output)}"
        return f'["{rows.ATTEMPT}",{json_text(task.key)},{attempt},{facts}]'

    def wait(self, seconds: float) -> str:
        """Give the row of the moment that a wait step waits for."""
        return f'["{rows.WAIT}",{seconds!r},{time() + seconds!r}]'

    def undone(self, visit: Visit, place: int) -> str:
        """Give the row of what a compensation did, of which a number is the place."""
        one, part = visit, "null"
        if visit.tasks:
            one = visit.tasks[0]
            part = json_text(one.name)
        given: Any = one.given and one.given[0]
        values = f"{self.lenient(given)},{self.lenient(one.output)}"
        where = f"{self.name(visit.name)},{part}"
        attempt = self._attempt(one.attempts[0])
        return f'["{rows.UNDO}",{where},{attempt},{values},{place}]'

    def end(self, status: Status, ended: float, error: BaseException | None) -> str:
        """Give the row of the end; of one that failed its steps say the error."""
        facts = ""
        if status in (Status.CANCELLED, Status.TIMED_OUT) and error is not None:
            facts = f'"e":{self._error(error)}'
        return f'["{rows.END}","{status}",{self._epoch + ended!r},{{{facts}}}]'

    def resumption(self, facts: Mapping[str, Any], answer: str | None) -> str:
        """Give the row of going on, which says who does."""
        told = {"host": socket.gethostname(), "pid": os.getpid(), "at": time(), **facts}
        text = json_text(told)
        if answer is not None:
            text = f'{text[:-1]},"answer":{answer}}}'
        return f'["{rows.RESUME}",{text}]'

    def forgotten(
        self,
        forgotten: int,
        results: Mapping[str, Any],
        before: int,
        failing: Failing | None,
        first: Visit,
        ways_back: Sequence[WayBack],
    ) -> str:
        """Give the row of all that forgotten steps have left.

        Args:
            forgotten: How many they are.
            results: What came of them.
            before: The number of the first row that is not forgotten.
            failing: What had failed before that.
            first: The first visit that is not forgotten.
            ways_back: Where it went back to.
        """
        context = ",".join(
            f"[{self.name(name)},{self._result(value)}]"
            for name, value in results.items()
        )
        facts = [
            f'"forgotten":{forgotten}',
            f'"before":{before}',
            f'"step":{self.name(first.name)}',
            f'"context":[{context}]',
            f'"began":{self._epoch + first.attempts[0][1]!r}',
            f'"input":{self.lenient(first.given and first.given[0])}',
        ]
        if ways_back:
            facts.append(f'"ways_back":{json_text(ways_back)}')
        if failing is not None:
            facts.append(f'"failing":[{",".join(map(self._failed, failing))}]')
        return f'["{rows.FORGET}",{{{",".join(facts)}}}]'

    # --- their parts -----------------------------------------------------------------

    def _facts(
        self, visit: Visit, output: str | None, count: int | None = None
    ) -> str:
        facts = [f'"o":"{visit.outcome}"']
        error, child = visit.error, visit.child
        if output is not None:
            facts.append(f'"r":{output}')
        if error is not None:
            by_tasks = count is not None and is_a(error, ParallelStepExecutionError)
            facts.append(f'"e":{"0" if by_tasks else self._failure(error)}')
        if count is not None:
            facts.append(f'"n":{count}')
        if visit.attempts:
            attempts = (self._attempt(it, error) for it in visit.attempts)
            facts.append(f'"a":[{",".join(attempts)}]')
        if child is not None and child.saving is not None:
            facts.append(f'"c":{child.saving.turn}')
        return "{" + ",".join(facts) + "}"

    def _attempt(self, attempt: Ended, last: BaseException | None = None) -> str:
        """Give an attempt; its error is 0 where it is the last, which stands beside."""
        outcome, began, ended, error = attempt
        told = "null"
        if error is not None:
            told = "0" if error is last else self._failure(error)
        epoch = self._epoch
        return f'["{outcome}",{epoch + began!r},{epoch + ended!r},{told}]'

    def _failure(self, error: BaseException) -> str:
        """Give an exception; a number for that of a nested execution that says it."""
        inner = execution_of(error) if is_a(error, StepExecutionError) else None
        if inner is not None:
            saving = journal_of(inner).saving
            if saving is not None and saving.session is self._session:
                return str(saving.turn + 1)
        return self._error(error)

    def _failed(self, failed: Failed) -> str:
        entry, value, began, ended, error = failed
        name, epoch = self.name(name_of(entry)), self._epoch
        times = f"{epoch + began!r},{epoch + ended!r}"
        tried = as_visit(entry, error).attempts
        attempts = ",".join(self._attempt(it, error) for it in tried)
        facts = f"{self.lenient(value)},{times},{self._error(error)},[{attempts}]"
        return f"[{name},{facts}]"

    def _result(self, value: Any) -> str:
        """Give what came of a step: as an output, or as an error."""
        if is_a(value, BaseException):
            return f"null,{self._error(value)}"
        return self.lenient(value)
