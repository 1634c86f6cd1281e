"""An execution in the words of the reference, and what is certain of it."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from hypothesis import assume
from shared import reference
from shared.random_workflows import plain

from stepfunction import Execution, StepExecutionError, StepRecord


def outcome(workflow: Any, value: Any) -> Any:
    """Give what the reference says, unless loops of tasks made it too long."""
    expected = reference.run(workflow, value)
    waiting, seen = [expected], 0
    while waiting and seen < 50_000:
        seen += 1
        it = waiting.pop()
        if isinstance(it, dict | list | tuple):
            waiting += it.values() if isinstance(it, dict) else it
    assume(not waiting)
    return expected


def is_behind(error: BaseException | None, first: BaseException | None) -> bool:
    if error is None or error is first:
        return error is first
    return is_behind(error.__cause__, first) or is_behind(error.__context__, first)


def told(execution: Execution, execute_raises: bool) -> Any:
    """Give an execution in the words of the reference."""
    failure = None
    try:
        assert execution.raise_if_failed() is execution
    except StepExecutionError as error:
        assert error.execution is execution
        failure = error
    return {
        "status": str(execution.status),
        "output": execution.output,
        "error": execution.error,
        "raised_if_failed": failure,
        "execute_raises": execute_raises,
        "context": dict(execution.context),
        "path": [record.step for record in execution.history if record.task is None],
        "failures": [[record.step, record.task] for record in execution.failures],
        "records": [told_record(record) for record in execution.history],
        "undone": [
            [record.step, record.task, record.input]
            for record in execution.compensations
        ],
    }


def check_order(execution: Execution, workflow: Any) -> None:
    """Look whether what ended last was undone first, here and in what is nested."""
    ends: dict[Any, list[float]] = {}
    for record in execution.history:
        if record.child is not None:
            step = workflow["steps"][record.step]
            do = step["tasks"][record.task] if record.task else step["do"]
            check_order(record.child, do)
        if record.started is not None:
            end = record.started + record.duration
            ends.setdefault((record.step, record.task), []).append(end)
    if workflow["max_steps"] is None:  # else a step may be visited twice
        undone = [ends[it.step, it.task][-1] for it in execution.compensations]
        assert all(a >= b - 1e-5 for a, b in pairwise(undone))
    last = max((it[-1] for it in ends.values()), default=0)
    assert all(it.started >= last - 1e-5 for it in execution.compensations)


def told_record(record: StepRecord) -> Any:
    return {
        "step": record.step,
        "task": record.task,
        "outcome": str(record.outcome),
        "input": record.input,
        "output": record.output,
        "error": record.error,
        "attempts": len(record.attempts),
        "next_step": record.next_step,
        "child": record.child and told(record.child, False),
    }


def comparable(story: Any, workflow: Any, races: bool) -> Any:
    """Give what is certain of a told execution, with failures as tuples."""
    records, is_stopped = [], False
    for record in story["records"]:
        step, task = workflow["steps"][record["step"]], record["task"]
        if task is None:
            is_stopped = races and step["stop"] and record["outcome"] == "FAILED"
        elif is_stopped and record["error"] is None:
            record = {"task": task, "outcome": "ended, killed, or never began"}
        if record.get("child") is not None:
            nested = step["do"] if task is None else step["tasks"][task]
            child = {**record["child"], "execute_raises": None}
            record = {**record, "child": comparable(child, nested, races)}
        records.append(plain(record, races))
    if races:  # what succeeds is up to the races, and so is what is undone
        story = {**story, "undone": None}
    return {**plain(story, races), "records": records}


def without_undoing(workflow: Any) -> Any:
    steps = {}
    for name, step in workflow["steps"].items():
        steps[name] = step = {**step, "undo": False}
        if "tasks" in step:
            tasks = step["tasks"].items()
            step["tasks"] = {task: undone_by_nobody(do) for task, do in tasks}
        else:
            step["do"] = undone_by_nobody(step["do"])
    return {**workflow, "steps": steps}


def undone_by_nobody(do: Any) -> Any:
    return without_undoing(do) if isinstance(do, dict) else do
