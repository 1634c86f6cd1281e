"""Execution: one run of a workflow, as people read it.

It only reads: the thread that runs it writes its journal.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping
from contextlib import suppress
from math import inf
from threading import get_ident
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from stepfunction.core.clock import perf_counter
from stepfunction.core.durations import to_wait
from stepfunction.core.errors import (
    CompensationError,
    ExecutionCancelledError,
    ExecutionTimeoutError,
    StepExecutionError,
    StepFunctionError,
    WorkerStartError,
    add_note,
    refusal_behind,
    stop_behind,
)
from stepfunction.core.history.chronicle import records_of, undone_record
from stepfunction.core.history.doors import Shown
from stepfunction.core.history.journal import Journal
from stepfunction.core.history.records import StepRecord, since
from stepfunction.core.keys import ChildKey
from stepfunction.core.outcomes import UNDER_WAY, Outcome, Status
from stepfunction.core.raised import is_a, repr_of
from stepfunction.core.tracebacks import forget_our_locals
from stepfunction.core.wording import (
    GIVEN_BACK,
    counted,
    duration_text,
    error_text,
    listed,
    subject,
)

if TYPE_CHECKING:
    from datetime import timedelta

    from stepfunction.core.definition.graph import Graph

__tracebackhide__ = True  # pytest shows the test and what is called, not us

_MOST_NAMED = 5


class Execution(Shown):
    """One run of a workflow.

    All that it has is read of its ``journal``, which the engine writes.
    """

    def __init__(self, journal: Journal) -> None:
        self._journal = journal

    @property
    def workflow(self) -> str:
        """The name of the workflow."""
        return self._journal.workflow

    @property
    def graph(self) -> Graph | None:
        """The workflow, frozen; None if this comes out of a pickle."""
        return self._journal.graph

    @property
    def id(self) -> str:
        """The ``execution_id`` that it was given, or 32 hexadecimal digits."""
        return self._journal.id

    @property
    def status(self) -> Status:
        """Where it stands."""
        return self._journal.status

    @property
    def input(self) -> Any:
        """What the first step was given."""
        return self._journal.input

    @property
    def output(self) -> Any:
        """What the last step returned; None after an unhandled failure."""
        return self._journal.output

    @property
    def error(self) -> Exception | Any:
        """The first failure of an execution that failed, else None.

        It is what the step raised: an ``Exception``, but for a ``SystemExit`` and the
        like of a task in a thread or a process. To type checkers it is never None, so
        that it can be raised after a look at ``status``.
        """
        return self._journal.error

    @property
    def ended_at(self) -> str | None:
        """The step after which it came to its end.

        None while it runs, where it was stopped, and where no step took a failure.
        """
        return self._journal.ended_at

    @property
    def started(self) -> float:
        """When it was started, in seconds since the epoch."""
        return self._journal.run.epoch + self._journal.began

    @property
    def duration(self) -> float:
        """Seconds from its start to its end, or to now while it runs."""
        journal = self._journal
        began, ended = journal.began, journal.ended
        # The status is noted first: there is no end yet while that is the beginning.
        is_open = journal.status in UNDER_WAY or ended is began
        now = perf_counter() if is_open and journal.is_live else ended
        return since(began, now)

    @property
    def last_result(self) -> Any:
        """What the latest step gave, its output or the exception it failed with."""
        return self._journal.last_result

    @property
    def context(self) -> Mapping[str, Any]:
        """Step name to the step's output or exception, of its latest visit."""
        return MappingProxyType(self._journal.results_now())

    @property
    def history(self) -> tuple[StepRecord, ...]:
        """Everything that ran, in order; after a step come its tasks or items.

        What is under way has no ``outcome`` yet. With ``keep_history`` it has the
        latest steps alone.
        """
        return tuple(records_of(self._journal))

    @property
    def forgotten(self) -> int:
        """How many steps it took before those in its ``history``; see ``keep_history``.

        Above 0 only where the workflow has ``keep_history``, in a long run.
        """
        return self._journal.forgotten_so_far

    @property
    def failures(self) -> tuple[StepRecord, ...]:
        """The records of every step and task that failed, handled or not."""
        return tuple(
            record
            for record in records_of(self._journal)
            if record.error is not None and record.outcome is not Outcome.CANCELLED
        )

    @property
    def children(self) -> Mapping[ChildKey, Execution]:
        """The executions of nested workflows, the latest visit of each.

        The key is the step's name; for a task of a parallel step it is
        ``(step, task)``, for an item of a map step ``(step, index)``. One that is under
        way is there too.
        """
        found: dict[ChildKey, Execution] = {}
        for record in records_of(self._journal):
            if record.child is not None:
                step, part = record.step, record.part
                found[step if part is None else (step, part)] = record.child
        return MappingProxyType(found)

    @property
    def compensations(self) -> tuple[StepRecord, ...]:
        """What compensations did when it had failed, in order.

        Each has the ``step`` and ``task`` that it was to undo, as ``input`` the output
        that it was given, as ``output`` what it returned and as ``error`` what it
        raised. Those of nested workflows are in their own executions.
        """
        return tuple(undone_record(self._journal, it) for it in self._journal.undone)

    def cancel(self) -> None:
        """Ask the execution to stop; any thread may.

        Tasks that have not begun never do, processes are killed, threads are told
        through ``context.cancelled`` and waited for, wait steps and pauses between
        retries end. ``execute()`` then raises ``ExecutionCancelledError``. What has
        ended stays as it is.
        """
        if self.status in UNDER_WAY:
            self._journal.run.cancellation.request()

    def wait(self, timeout: float | timedelta | None = None) -> bool:
        """Wait until the execution has ended.

        Args:
            timeout: How many seconds to wait at most, or a ``timedelta``; None for as
                long as it takes.

        Returns:
            Whether it has ended.

        Raises:
            StepFunctionError: If it is the execution's own thread that would wait, or
                if this is what was read back of one that had not ended.
        """
        seconds = inf if timeout is None else to_wait(timeout)
        journal = self._journal
        if journal.is_over:
            return True
        self._refuse_if_copy()
        if journal.run.thread == get_ident():
            raise StepFunctionError(
                f"execution of {self.workflow!r} cannot be waited for by the thread "
                "that runs it; wait in another, after start()"
            )
        ending = journal.ending
        return journal.is_over or ending.wait(seconds)

    def result(self, timeout: float | timedelta | None = None) -> Any:
        """Wait for the end, and give the output or raise what went wrong.

        Args:
            timeout: How many seconds to wait at most, or a ``timedelta``; None for as
                long as it takes.

        Returns:
            What the last step returned.

        Raises:
            TimeoutError: If it has not ended in time; it goes on.
            StepFunctionError: As ``execute(check=True)``; or as ``wait()``.
        """
        if not self.wait(timeout):
            raise TimeoutError(
                f"execution of {self.workflow!r} has not ended after "
                f"{to_wait(timeout):g} s; "
                "it goes on, and cancel() stops it"
            )
        return self.raise_if_failed().output

    def raise_if_failed(self) -> Execution:
        """Raise what went wrong, if anything did.

        Returns:
            The execution itself, if it did not fail.

        Raises:
            StepFunctionError: If it still runs.
            CompensationError: If a compensation failed, here or nested, whatever the
                status is.
            StepExecutionError: If it FAILED, caused by the step's exception.
            WorkerStartError: If it FAILED for want of a worker.
            ExecutionTimeoutError: If it TIMED_OUT.
            ExecutionCancelledError: If it was CANCELLED.
            StoreError: If the store that keeps it failed.
        """
        if self.status in UNDER_WAY:
            self._refuse_if_copy()
            raise StepFunctionError(
                f"execution of {self.workflow!r} is still running; wait() for it first"
            )
        self._raise_if_not_undone()
        error = self._ending_error()
        if error is not None:
            raise error
        return self

    def _refuse_if_copy(self) -> None:
        """Refuse to wait for an end that cannot come to this copy."""
        if self.graph is None or not self._journal.is_live:
            raise StepFunctionError(
                f"execution of {self.workflow!r} was {self.status} when it was "
                "written, and what is read back does not go on; ask the one that runs"
            )

    def _raise_if_not_undone(self) -> None:
        """Raise what compensations failed with, here and nested, if any did.

        Raises:
            CompensationError: If any did.
        """
        graph = self.graph
        if self._journal.is_live and graph is not None and not graph.has_compensations:
            return
        found = sorted(self._compensation_failures(), key=lambda it: it[0])
        if not found:
            return
        named = [f"{what}: {error_text(error)}" for _, what, error in found]
        failure = CompensationError(
            f"{counted(len(found), 'compensation')} of {self.workflow!r} failed: "
            + listed(named, _MOST_NAMED, "; "),
            [error for _, _, error in found],
        )
        failure.execution = self
        raise failure from self._ending_error()

    def _compensation_failures(self) -> Iterator[tuple[float, str, Exception]]:
        """Give when compensations failed, here and nested, whose, and with what."""
        found: dict[int, Journal] = {id(self._journal): self._journal}
        waiting = [self._journal]
        while waiting:
            journal = waiting.pop()
            for visit in journal.undone:
                record = undone_record(journal, visit)
                if is_a(record.error, Exception):
                    what = subject(record.step, record.part)
                    if journal is not self._journal:
                        what += f" of {journal.workflow!r}"
                    yield record.started or 0.0, what, record.error
            new = {id(it): it for it in journal.nested() if id(it) not in found}
            found |= new
            waiting += new.values()

    def _ending_error(self) -> StepFunctionError | None:
        """Give the error of an execution that has ended; None if it COMPLETED."""
        stop = None if self.error is None else stop_behind(self.error)
        if stop is not None and self._journal.blame is None:  # a store has failed
            stop.execution = self
            return stop.with_traceback(None)
        if self.status is Status.TIMED_OUT:
            overdue = ExecutionTimeoutError(
                f"execution of {self.workflow!r} took longer than "
                f"{self._journal.timeout:g} s"
            )
            overdue.execution = self
            return overdue
        if self.status is Status.CANCELLED:
            cancelled = ExecutionCancelledError(
                f"execution of {self.workflow!r} was cancelled"
            )
            cancelled.execution = self
            cancelled.__cause__ = self.error
            return cancelled
        if self._journal.blame is not None:
            return self._failure()
        if self.status is Status.FAILED:  # the engine itself could not go on
            failure = StepFunctionError(
                f"execution of {self.workflow!r} failed: {repr_of(self.error)}"
            )
            failure.__cause__ = self.error
            return failure
        return None

    def _failure(self) -> StepExecutionError | WorkerStartError:
        """Give the error that says which step this execution failed at."""
        blame = self._journal.blame
        assert blame is not None
        step, error = blame.step, blame.error
        failure: StepExecutionError | WorkerStartError
        refusal = refusal_behind(error)
        if refusal is not None:
            failure = refusal.with_traceback(None)
        elif blame.names_step:
            failure = error.with_traceback(None)
        else:
            text = f"step {step!r} of {self.workflow!r} failed: {error_text(error)}"
            failure = StepExecutionError(text + self._what_came_before(error), step)
            failure.__cause__ = error
        failure.execution = self
        if self._journal.is_given_back and not hasattr(failure, "__notes__"):
            add_note(failure, GIVEN_BACK)
        return failure

    def _what_came_before(self, error: BaseException) -> str:
        """Say which failure a failure step had been given that has failed itself."""
        first: Any = self.error
        if first is None or first is error or error_text(first) == error_text(error):
            return ""
        named = (it.step for it in self.failures if it.error is first)
        step = next(named, None)
        if step is None:  # it is forgotten
            return ""
        return f", after step {step!r} had failed: {error_text(first)}"

    def __repr__(self) -> str:
        text = f"<Execution of {self.workflow!r}: {self.status}"
        if (blame := self._journal.blame) is not None:
            text += f" at {blame.step!r}, {repr_of(blame.error)},"
        steps = counted(self._journal.steps, "step")
        return f"{text} after {steps} in {duration_text(self.duration)}>"

    def __await__(self) -> Generator[Any, None, Execution]:
        """Give the execution itself once it has ended, whatever its status is."""
        if not self._journal.is_over:
            self._refuse_if_copy()
            import asyncio

            loop = asyncio.get_running_loop()
            over: asyncio.Future[None] = loop.create_future()

            def settle() -> None:
                if not over.done():  # the awaiting task may have been cancelled
                    over.set_result(None)

            def tell() -> None:
                with suppress(RuntimeError):  # the loop was closed: nobody waits
                    loop.call_soon_threadsafe(settle)

            self._journal.ending.call(tell)
            if not self._journal.is_over:
                yield from over
        return self

    def __reduce__(self) -> Any:
        return Execution, (self._journal,)


Journal.face = Execution


def journal_of(execution: Execution) -> Journal:
    """Give what the engine has noted of an execution, for the rooms of this house."""
    return execution._journal


def conclude(execution: Execution, check: bool) -> Execution:
    """Give an execution that has ended, or raise what went wrong.

    Args:
        execution: The execution.
        check: Whether to raise also where a failure step took the failure.

    Raises:
        StepFunctionError: As ``StepFunction.execute``.
    """
    journal: Any = execution._journal
    if journal.graph.has_compensations:
        execution._raise_if_not_undone()
    if journal.blame is not None and journal.ended_at is None:
        forget_our_locals(journal.blame.error)
        try:
            raise execution._failure()  # which no step took
        finally:
            del execution, journal
    if check or journal.status in (Status.CANCELLED, Status.TIMED_OUT):
        execution.raise_if_failed()
    return execution
