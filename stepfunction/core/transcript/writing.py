"""Writing: an execution as data that JSON can hold; ``reading`` brings it back.

What is written is the journal in the open: the steps in their order, each with what
came of it, its attempts, its tasks and the execution nested in it. A step's input is
what the step before gave, a task's that of its step, so neither is said again; where it
is another, as that of an item of a map step, it is written too. Exceptions and graphs,
which are met in many places, stand in tables of their own; ``values`` has the marks.
"""

from __future__ import annotations

from math import isfinite
from typing import Any

from stepfunction.core.definition.graph import Graph
from stepfunction.core.errors import StepExecutionError, TranscriptError
from stepfunction.core.history.chronicle import visits_of
from stepfunction.core.history.execution import Execution, journal_of
from stepfunction.core.history.records import StepRecord, Visit
from stepfunction.core.outcomes import Outcome
from stepfunction.core.raised import is_a
from stepfunction.core.transcript.exceptions import ExceptionWriter, is_ours
from stepfunction.core.transcript.graphs import GraphWriter
from stepfunction.core.transcript.values import Redact
from stepfunction.core.wording import TOO_DEEP

FORMAT = "stepfunction.execution"
VERSION = 2


def to_document(
    execution: Execution, redact: Redact | None = None, most: int | None = None
) -> dict[str, Any]:
    """Give an execution, and all that is nested in it, as data that JSON can hold.

    Args:
        execution: What happened; while it runs, what has happened so far.
        redact: Called with where a value stands and the value, outermost first, and
            gives what to write in its place. Of an exception it is given the texts.
        most: How many characters of a value to write, or about so many; None for all.

    Raises:
        TranscriptError: If the executions are nested too deep in one another.
    """
    writer = _Writer(redact, most)
    try:
        written = writer.execution(execution, None)
    except RecursionError:
        raise TranscriptError(f"the executions are {TOO_DEEP}") from None
    return {
        "format": FORMAT,
        "version": VERSION,
        "execution": written,
        "graphs": writer.graphs.table,
        "errors": writer.exceptions.table(),
    }


class _Writer:
    def __init__(self, redact: Redact | None, most: int | None) -> None:
        self.exceptions = ExceptionWriter(redact, most)
        self.graphs = GraphWriter(self.exceptions.values)
        self._value = self.exceptions.values.write
        self._error = self.exceptions.number

    def execution(self, it: Execution, graph: Graph | None) -> dict[str, Any]:
        """Write an execution.

        Args:
            it: The execution.
            graph: What ran, where the execution has come without it.
        """
        graph = graph if it.graph is None else it.graph
        journal = journal_of(it)
        visits, present = visits_of(journal)
        zero, timeout, blame = journal.began, journal.timeout, journal.blame
        first = visits[0][0].name if visits else ""
        last = visits[-1][0].name if visits else ""
        written = {
            "workflow": it.workflow,
            "id": it.id,
            "status": it.status.value,
            "started": it.started,
            "duration": _seconds(it.duration),
            "timeout": timeout if isfinite(timeout) else None,
            "graph": None if graph is None else self.graphs.number(graph),
            "input": self._value(it.input, (first, "input")),
            "steps": [
                {
                    "step": visit.name,
                    "ended": _seconds(ended - zero),
                    **self._visit(visit, None, zero, graph),
                }
                for visit, ended in visits
            ],
            "output": self._value(it.output, (last, "output")),
            "error": self._error(it.error, last),
            "blame": None,
            "ended_at": it.ended_at,
        }
        if present is not None:
            about = self._visit(present, None, zero, graph)
            written["present"] = {"step": present.name, **about}
        if it.forgotten:
            kept = {visit.name for visit, _ in visits}
            written["forgotten"] = it.forgotten
            written["context"] = {
                name: self._value(result, (name, "output"))
                for name, result in it.context.items()
                if name not in kept
            }
        undone = it.compensations
        if undone:
            written["compensations"] = [self._undone(one, it) for one in undone]
        if blame is not None:
            step, error = blame.step, blame.error
            names_step = blame.names_step
            written["blame"] = {
                "step": step,
                "error": self._error(error, step),
                "names_step": names_step and is_a(error, StepExecutionError)
                and is_ours(error),
            }
        return written

    def _undone(self, record: StepRecord, it: Execution) -> dict[str, Any]:
        """Write what a compensation did; the output that it was given is its input."""
        name = record.step if record.part is None else f"{record.step}.{record.part}"
        began = (record.started or it.started) - it.started
        return {
            "step": record.step,
            "task": record.part,
            "outcome": _outcome(record.outcome),
            "input": self._value(record.input, (name, "output")),
            "output": self._value(record.output, (name, "compensation")),
            "error": self._error(record.error, name),
            "began": _seconds(began),
            "ended": _seconds(began + record.duration),
        }

    def _visit(
        self, visit: Visit, step: str | None, zero: float, graph: Graph | None
    ) -> dict[str, Any]:
        """Write what a step did or, where its step is named, a task."""
        name = visit.name if step is None else f"{step}.{visit.name}"
        written: dict[str, Any] = {"outcome": _outcome(visit.outcome)}
        if visit.given is not None:
            written["input"] = self._value(visit.given[0], (name, "input"))
        if visit.error is None:
            written["output"] = self._value(visit.output, (name, "output"))
        else:
            written["error"] = self._error(visit.error, name)
        if visit.attempts:
            written["attempts"] = [
                {
                    "outcome": outcome.value,
                    "began": _seconds(began - zero),
                    "ended": _seconds(ended - zero),
                    "error": self._error(error, name),
                }
                for outcome, began, ended, error in visit.attempts
            ]
        elif visit.began is not None and visit.outcome is None:
            written["began"] = _seconds(visit.began - zero)
        if visit.tasks:
            written["tasks"] = [
                {"task": task.name, **self._visit(task, visit.name, zero, graph)}
                for task in visit.tasks
            ]
        if visit.child is not None:
            where = (step or visit.name, step and visit.name)
            nested = None if graph is None else graph.nested_at(*where)
            written["child"] = self.execution(visit.child.execution, nested)
        return written


def _outcome(outcome: Outcome | None) -> str | None:
    """Write how something ended; None for what is under way."""
    return None if outcome is None else outcome.value


def _seconds(seconds: float) -> float:
    return round(seconds, 9)
