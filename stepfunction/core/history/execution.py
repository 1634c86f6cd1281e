"""Execution: what happened in one run of a workflow.

The engine notes each step it has finished in the journal, a flat list of three
items a step: what it was, when it ended, what came out. Everything that a person
reads (history, context, failures, children) is made from the journal when it is
looked at, so that a run pays nothing for it; ``records`` has what it is made of.
"""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Generator, Iterator, Mapping, Sequence
from enum import StrEnum
from time import perf_counter, time
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

from stepfunction.core.cancellation import Cancellation
from stepfunction.core.envelope.omitted import portable
from stepfunction.core.errors import (
    CompensationError,
    ExecutionCancelledError,
    ExecutionTimeoutError,
    StepExecutionError,
    StepFunctionError,
    StepLimitError,
)
from stepfunction.core.history.records import (
    Failed,
    StepRecord,
    Visit,
    as_visit,
    new_record,
    portable_visit,
)
from stepfunction.core.outcomes import Outcome
from stepfunction.core.wording import (
    counted,
    duration_text,
    error_text,
    listed,
    subject,
)

if TYPE_CHECKING:
    from stepfunction.core.definition.graph import Graph
    from stepfunction.core.transcript.values import Redact
    from stepfunction.core.watching.events import Path
    from stepfunction.core.watching.telling import Audience
    from stepfunction.core.workers.workshop import Workshop


class Status(StrEnum):
    """Where an execution stands."""

    INITIALIZED = "INITIALIZED"
    RUNNING = "RUNNING"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"
    TIMED_OUT = "TIMED_OUT"
    PAUSED = "PAUSED"


# To look a member of an enum up takes its time.
_SUCCEEDED, _INITIALIZED = Outcome.SUCCEEDED, Status.INITIALIZED


class Blame(NamedTuple):
    """The step at which an execution failed.

    Attributes:
        step: The name of the step.
        error: What it failed with.
        names_step: Whether that is already the error of a parallel or nested step,
            which says so itself.
    """

    step: str
    error: Any
    names_step: bool


class Execution:
    """One run of a workflow.

    Attributes:
        workflow: The name of the workflow.
        status: Where it stands.
        input: What the first step was given.
        output: What the last step returned; None after an unhandled failure.
        error: The first failure of an execution that failed, else None.
    """

    error: BaseException | None = None
    _path: Path = ()  # the keys of ``children`` that lead here from the outermost
    _told = 0  # how much of the journal has been told of
    _first_failure: Failed | None = None  # of what led away from the main path
    _last_failure: Failed | None = None  # of a step, handled or not
    _is_unhandled = False  # whether no step took that
    _blame: Blame | None = None  # what raise_if_failed() names
    _results_end = 0
    _forgotten = 0  # how many steps the journal has lost
    _undone: Sequence[Visit] = ()  # what compensations did; a list if any was due
    _done: threading.Event | None = None  # of one that start() began
    _skipped: list[tuple[str, float]]  # pauses, in another process: what, seconds
    _timeout = math.inf
    _is_live = True  # whether it is no transcript, which stays as it is

    def __init__(
        self,
        graph: Graph,
        initial_input: Any,
        places: Workshop,
        outer: Execution | None = None,
        key: str = "",
        cancellation: Cancellation | None = None,
    ) -> None:
        # What every execution writes is set here, for a default of the class would
        # make that slow.
        self.workflow = graph.name
        self.status = _INITIALIZED
        self.input = initial_input
        self.output: Any = None
        self._graph = graph
        self._places = places  # where its tasks run; shared with all nested in it
        self._journal: list[Any] = []
        self._began = self._ended = began = perf_counter()
        self._epoch: float  # what to add to readings of perf_counter
        self._cancellation: Cancellation
        self._audience: Audience | None = None  # None where nobody listens
        if outer is not None:  # with no more than this thread to itself
            self._epoch, self._cancellation = outer._epoch, outer._cancellation
            if outer._audience is not None:
                self._audience, self._path = outer._audience, (*outer._path, key)
        else:
            self._epoch = time() - began
            self._cancellation = cancellation or Cancellation()

    @property
    def id(self) -> str:
        """32 hexadecimal digits, different for every execution."""
        # Made when it is asked for, by the first of many threads.
        found: str | None = self.__dict__.get("_id")
        return found or self.__dict__.setdefault("_id", os.urandom(16).hex())

    @property
    def started(self) -> float:
        """When it was started, in seconds since the epoch."""
        return self._epoch + self._began

    @property
    def duration(self) -> float:
        """Seconds from its start to its end, or to now while it runs."""
        running = self._is_live and self.status in (Status.INITIALIZED, Status.RUNNING)
        return (perf_counter() if running else self._ended) - self._began

    @property
    def last_result(self) -> Any:
        """What the latest step gave: its output, or the exception it failed with."""
        return self._journal[-1] if self._journal else None

    @property
    def context(self) -> Mapping[str, Any]:
        """Step name to the step's output or exception, of its latest visit."""
        if self._keeps is None:
            return MappingProxyType(dict(self._results_so_far()))
        return MappingProxyType(self._results_now())

    @property
    def history(self) -> tuple[StepRecord, ...]:
        """Everything that ran, in order; after a step come its tasks or items.

        With ``keep_history`` it has the latest steps alone.
        """
        return tuple(self._records())

    @property
    def forgotten(self) -> int:
        """How many steps it took before those in its ``history``: see ``keep_history``.

        Above 0 only where the workflow has ``keep_history``, in a long run.
        """
        keeps, noted = self._keeps, len(self._journal) // 3
        return self._forgotten + (0 if keeps is None else max(0, noted - keeps))

    @property
    def failures(self) -> tuple[StepRecord, ...]:
        """The records of every step and task that failed, handled or not."""
        return tuple(
            record
            for record in self._records()
            if record.error is not None and record.outcome is not Outcome.CANCELLED
        )

    @property
    def children(self) -> Mapping[str | tuple[str, str], Execution]:
        """The executions of nested workflows, the latest visit of each.

        The key is the step's name; for a task of a parallel step, or an item of a map
        step, it is ``(step, task)``.
        """
        found: dict[str | tuple[str, str], Execution] = {}
        for record in self._records():
            if record.child is not None:
                key = (record.step, record.task) if record.task else record.step
                found[key] = record.child
        return MappingProxyType(found)

    @property
    def compensations(self) -> tuple[StepRecord, ...]:
        """What compensations did when it had failed, in order.

        Each has the ``step`` and ``task`` that it was to undo, as ``input`` the output
        that it was given, as ``output`` what it returned and as ``error`` what it
        raised. Those of nested workflows are in their own executions.
        """
        return tuple(map(self._compensation_record, self._undone))

    def cancel(self) -> None:
        """Ask the execution to stop; any thread may.

        Tasks that have not begun never do, processes are killed, threads are told
        through ``context.cancelled`` and waited for, wait steps and pauses between
        retries end. ``execute()`` then raises ``ExecutionCancelledError``. What has
        ended stays as it is.
        """
        if self.status in (Status.INITIALIZED, Status.RUNNING):
            self._cancellation.request()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until an execution that ``start()`` began has ended.

        Args:
            timeout: How many seconds to wait at most; None for as long as it takes.

        Returns:
            Whether it has ended.
        """
        return self._done is None or self._done.wait(timeout)

    def raise_if_failed(self) -> Execution:
        """Raise what went wrong, if anything did.

        Returns:
            The execution itself, if it did not fail.

        Raises:
            StepFunctionError: If it still runs.
            CompensationError: If a compensation failed, here or nested, whatever the
                status is.
            StepExecutionError: If it FAILED, caused by the step's exception.
            ExecutionTimeoutError: If it TIMED_OUT.
            ExecutionCancelledError: If it was CANCELLED.
        """
        if self.status in (Status.INITIALIZED, Status.RUNNING):
            raise StepFunctionError(
                f"execution of {self.workflow!r} is still running; wait() for it first"
            )
        self._raise_if_not_undone()
        error = self._ending_error()
        if error is not None:
            raise error
        return self

    def visualize(
        self, path: str | os.PathLike[str] | None = None, format: str | None = None
    ) -> str:
        """Draw what became of each step into a file.

        Args:
            path: As in ``StepFunction.visualize``.
            format: As in ``StepFunction.visualize``.

        Returns:
            The path of the file.

        Raises:
            DrawingError: As ``StepFunction.visualize``; or if the execution comes out
                of a pickle or a file, which does not keep the workflow.
        """
        from stepfunction.drawing.dot import draw
        from stepfunction.drawing.trail import trail_of

        trail = trail_of(self)
        return draw(trail.graph, trail, path, format)

    def to_dot(self) -> str:
        """Give the drawing of what became of each step as DOT text.

        Raises:
            DrawingError: If the execution comes out of a pickle or a file.
        """
        from stepfunction.drawing.dot import to_dot
        from stepfunction.drawing.trail import trail_of

        trail = trail_of(self)
        return to_dot(trail.graph, trail)

    def to_mermaid(self) -> str:
        """Give the drawing of what became of each step as a Mermaid flowchart.

        Raises:
            DrawingError: If the execution comes out of a pickle or a file.
        """
        from stepfunction.drawing.mermaid import to_mermaid
        from stepfunction.drawing.trail import trail_of

        trail = trail_of(self)
        return to_mermaid(trail.graph, trail)

    def _repr_svg_(self) -> str | None:
        """Give the drawing to a notebook; None where the text has to do."""
        graph: Graph | None = self._graph  # which a pickle leaves behind
        if graph is None:
            return None
        from stepfunction.drawing.dot import svg_for_notebook
        from stepfunction.drawing.trail import trail_of

        trail = trail_of(self)
        return svg_for_notebook(trail.graph, trail)

    def to_dict(self, *, redact: Redact | None = None) -> dict[str, Any]:
        """Give all that happened, nested executions too, as data that JSON can hold.

        A value that JSON cannot hold is ``{"$repr": text}``; the module
        ``stepfunction.core.transcript.values`` says what else is marked, and how.

        Args:
            redact: A callable of where a value stands and the value, which gives what
                to write in its place. Where is a tuple: the name of the step (of a task
                ``"step.task"``), ``"input"``, ``"output"``, ``"error"`` or
                ``"traceback"``, then the keys and positions that lead into the value.
                It is asked for a whole value first, then for its parts; of an
                exception it is given the texts. What it raises goes on to the caller.
        """
        from stepfunction.core.transcript.writing import to_document

        return to_document(self, redact)

    def to_json(
        self, *, redact: Redact | None = None, indent: int | None = None
    ) -> str:
        """Give ``to_dict()`` as a JSON text, which ``from_json`` reads.

        Args:
            redact: As in ``to_dict``.
            indent: By how many spaces to indent what is nested; None for one line.
        """
        import json

        return json.dumps(self.to_dict(redact=redact), indent=indent, allow_nan=False)

    @classmethod
    def from_json(cls, text: str | bytes) -> Execution:
        """Give an execution back, to look at and to report.

        Nothing that the text names is imported or called. What JSON could not hold is
        an ``Omitted``, an exception is a ``RemoteError`` with its ``type_name`` and
        ``text``; only those that say which step failed are what they were.

        Args:
            text: What ``to_json`` gave.

        Raises:
            TranscriptError: If it is something else.
        """
        from stepfunction.core.transcript.reading import from_text

        return from_text(text)

    def report(
        self,
        path: str | os.PathLike[str] | None = None,
        *,
        redact: Redact | None = None,
        max_chars: int = 5_000,
    ) -> str:
        """Write what happened as one HTML file that any browser opens.

        Args:
            path: The file; by default the workflow's name, made safe, with ``.html``,
                in the current folder.
            redact: As in ``to_dict``; nothing is written that it has not seen.
            max_chars: How much of each value and traceback is shown.

        Returns:
            The path of the file.
        """
        from stepfunction.drawing.report import write_report

        return write_report(self, path, redact, max_chars)

    def _raise_if_not_undone(self) -> None:
        """Raise what compensations failed with, here and nested, if any did."""
        graph: Graph | None = self._graph  # which a pickle leaves behind
        if self._is_live and graph is not None and not graph.has_compensations:
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
        found: dict[int, Execution] = {id(self): self}
        waiting = [self]
        while waiting:
            execution = waiting.pop()
            for record in execution.compensations:
                if isinstance(record.error, Exception):
                    what = subject(record.step, record.task)
                    if execution is not self:
                        what += f" of {execution.workflow!r}"
                    yield record.started or 0.0, what, record.error
            new = {id(it): it for it in execution._nested() if id(it) not in found}
            found |= new
            waiting += new.values()

    def _nested(self) -> Iterator[Execution]:
        """Give the executions nested in it, those of earlier attempts too."""
        for entry in self._journal[::3]:
            if type(entry) is Visit:
                for visit in (entry, *entry.tasks):
                    if visit.child is not None:
                        yield visit.child
                    for *_, error in visit.attempts:
                        if isinstance(error, StepExecutionError) and error.execution:
                            yield error.execution
            elif type(entry) is not str and entry[1] is not None:
                yield entry[1]

    def _ending_error(self) -> StepFunctionError | None:
        """Give the error of an execution that has ended; None if it COMPLETED."""
        if self.status is Status.TIMED_OUT:
            overdue = ExecutionTimeoutError(
                f"execution of {self.workflow!r} took longer than {self._timeout:g} s"
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
        if self._blame is not None:
            return self._failure()
        if self.status is Status.FAILED:  # the engine itself could not go on
            failure = StepFunctionError(
                f"execution of {self.workflow!r} failed: {self.error!r}"
            )
            failure.__cause__ = self.error
            return failure
        return None

    def _failure(self) -> StepExecutionError:
        """Give the error that says which step this execution failed at."""
        assert self._blame is not None
        step, error, names_step = self._blame
        if names_step:
            failure: StepExecutionError = error.with_traceback(None)
        else:
            failure = StepExecutionError(
                f"step {step!r} of {self.workflow!r} failed: {error_text(error)}", step
            )
            failure.__cause__ = error
        failure.execution = self
        return failure

    def _results_so_far(self) -> Mapping[str, Any]:
        """Step name to output, kept up with the journal in constant time a step."""
        journal = self._journal
        results: dict[str, Any] = self.__dict__.setdefault("_results", {})
        begin = self._results_end
        entries = journal[begin::3]
        names = [entry if type(entry) is str else entry[0] for entry in entries]
        results.update(zip(names, journal[begin + 2 :: 3]))
        self._results_end = begin + 3 * len(entries)
        return results

    def _results_now(self) -> dict[str, Any]:
        """Give the same to any thread, while the one that runs may forget steps."""
        while True:
            first = self._journal[:1]
            results = dict(self.__dict__.get("_results", ()))
            journal = self._journal[:]
            if [*map(id, first)] == [*map(id, journal[:1])]:
                break  # else steps were forgotten just now, and are in the results
        names = [entry if type(entry) is str else entry[0] for entry in journal[::3]]
        results.update(zip(names, journal[2::3]))
        return results

    @property
    def _keeps(self) -> int | None:
        """How many steps the history has; None for all that the journal has."""
        graph: Graph | None = self._graph  # which a pickle leaves behind
        return None if graph is None else graph.keep_history

    def _kept(self) -> list[Any]:
        """Give a copy of the journal, as far back as the history goes.

        Its first step, if another came before, is noted with its input and its start.
        """
        journal = self._journal[:]
        if self._keeps is not None:
            _shorten(journal, self._keeps)
        return journal

    def _forget(self, keeps: int) -> None:
        """Let the journal lose what is older than so many steps."""
        before = len(self._journal)
        if before > 3 * keeps:
            self._results_so_far()  # must have seen what goes
            _shorten(self._journal, keeps)
            self._results_end = len(self._journal)
            self._told = max(0, self._told + self._results_end - before)
            self._forgotten += (before - self._results_end) // 3

    def _last_stamp(self) -> float:
        """Give when the present step began: when the one before had ended."""
        return self._journal[-2] if self._journal else self._began

    def _failure_before(self) -> StepRecord | None:
        """Give the record of the failure that led to the present step, if one did."""
        if self._first_failure is None or self._last_failure is None:
            return None
        entry, value, began, ended, error = self._last_failure
        return self._visit_record(as_visit(entry, error), value, began, ended, None)

    def _failure_of(self, error: BaseException, blame: Blame) -> StepRecord:
        """Give the record of what it fails with, for those who undo."""
        journal, last = self._journal, len(self._journal) - 3
        for index in range(0, len(journal), 3):
            if journal[index + 2] is error:
                return next(self._records_from(index, index + 3))
        if isinstance(error, StepLimitError):  # it would have been the next
            facts = (Outcome.CANCELLED, journal[-1], None, error, None, 0.0, ())
            return StepRecord(blame.step, None, *facts, None, None)
        return next(self._records_from(last, last + 3))._replace(error=error)

    def _records_from(self, begin: int, end: int) -> Iterator[StepRecord]:
        """Give the records of the steps noted between, without their tasks."""
        for at in range(begin, end, 3):
            entry, ended, result = self._journal[at : at + 3]
            value = self._journal[at - 1] if at else self.input
            began = self._journal[at - 2] if at else self._began
            yield self._visit_record(as_visit(entry, result), value, began, ended, None)

    def _records(self) -> Iterator[StepRecord]:
        journal, epoch = self._kept(), self._epoch
        entries = journal[::3]
        names = [it if type(it) is str else it[0] for it in entries[1:]]
        value, began = self.input, self._began
        for entry, ended, output, follower in zip(
            entries, journal[1::3], journal[2::3], [*names, None]
        ):
            if type(entry) is str:
                start, seconds = epoch + began, ended - began
                facts = (value, output, None, start, seconds, (), follower, None)
                yield new_record((entry, None, _SUCCEEDED, *facts))
            else:
                visit = as_visit(entry, output)
                record = self._visit_record(visit, value, began, ended, follower)
                yield record
                for task in visit.tasks:
                    yield self._task_record(visit.name, task, record.input)
            value, began = output, ended

    def _visit_record(
        self, visit: Visit, value: Any, began: float, ended: float, follower: str | None
    ) -> StepRecord:
        attempts = visit.attempts
        if attempts:
            began, ended = attempts[0][1], attempts[-1][2]
        if visit.given is not None:
            value = visit.given[0]
        return StepRecord(
            visit.name,
            None,
            visit.outcome,
            value,
            visit.output if visit.outcome is _SUCCEEDED else None,
            visit.error,
            self._epoch + began,
            ended - began,
            attempts,
            follower,
            visit.child,
        )

    def _compensation_record(self, visit: Visit) -> StepRecord:
        if visit.tasks:
            return self._task_record(visit.name, visit.tasks[0], None)
        return self._visit_record(visit, None, 0.0, 0.0, None)

    def _task_record(self, step: str, task: Visit, value: Any) -> StepRecord:
        if task.attempts:
            record = self._visit_record(task, value, 0.0, 0.0, None)
            return record._replace(step=step, task=task.name)
        if task.given is not None:
            value = task.given[0]
        facts = (task.outcome, value, task.output, task.error, None, 0.0, ())
        return StepRecord(step, task.name, *facts, None, task.child)

    def __repr__(self) -> str:
        text = f"<Execution of {self.workflow!r}: {self.status}"
        if self._blame is not None:
            text += f" at {self._blame.step!r}, {self._blame.error!r},"
        steps = counted(self._forgotten + len(self._journal) // 3, "step")
        return f"{text} after {steps} in {duration_text(self.duration)}>"

    def __await__(self) -> Generator[None, None, Execution]:
        """Give the execution itself, once it has ended."""
        yield from ()
        self.wait()
        return self

    def __reduce__(self) -> Any:
        from stepfunction.core.envelope.envelope import pack

        state = {**self.__dict__, "_id": self.id, "_journal": self._kept()}
        for name in _STAYS:
            state.pop(name, None)
        if self.forgotten:  # then the journal does not tell it all
            state["_forgotten"], state["_results"] = self.forgotten, dict(self.context)
            state["_results_end"] = len(state["_journal"])
        try:
            return _restore, (pack(state),)
        except Exception:  # what cannot travel is left out, value by value
            # When it ended stays; what it was and what came of it may have to change.
            journal = state["_journal"]
            journal[::3] = map(portable_visit, journal[::3])
            journal[2::3] = map(portable, journal[2::3])
            for name in ("input", "output"):
                state[name] = portable(state[name])
            if self._undone:
                state["_undone"] = list(map(portable_visit, self._undone))
            for name, result in state.get("_results", {}).items():
                state["_results"][name] = portable(result)
            return _restore, (pack(state),)


_MOST_NAMED = 5

# What a pickle of an execution leaves behind.
_STAYS = (
    "_graph",
    "_places",
    "_cancellation",
    "_audience",
    "_first_failure",
    "_last_failure",
    "_results",
    "_results_end",
    "_done",
)


def _restore(packed: bytes) -> Execution:
    from stepfunction.core.envelope.envelope import unpack

    execution = Execution.__new__(Execution)
    execution.__dict__.update(unpack(packed), _graph=None)
    execution._cancellation, execution._audience = Cancellation(), None
    return execution


def _shorten(journal: list[Any], keeps: int) -> None:
    """Leave the latest steps of a journal, of which the first has all its facts."""
    cut = len(journal) - 3 * keeps
    if cut > 0:
        began, value, entry, ended, result = journal[cut - 2 : cut + 3]
        visit = as_visit(entry, result)
        attempts = visit.attempts or ((visit.outcome, began, ended, visit.error),)
        given = visit.given or (value,)
        # At once, for other threads may be reading.
        journal[: cut + 1] = [visit._replace(attempts=attempts, given=given)]
