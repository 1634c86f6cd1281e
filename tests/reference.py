"""A reference interpreter of workflows: what an execution should come to.

It is plain, slow, and knows nothing of the package. A workflow is plain data::

    {"name", "start", "max_steps", "steps": {name: {
        "do": a script or a workflow, or "tasks": {task: a script or a workflow},
        "next", "branch": {result: step}, "on_failure": {class name: step},
        "ends", "attempts", "retry_on": class name, "stop", "tolerated"}}}

A script says what each call of a function does; its last line is for every further
call too: ("give", value), ("fail", class names, text), ("echo",), or ("raise",),
which raises an input that is a failure. A parallel step branches on the result of its
first task. A failure is a tuple: the names of its class and of that class's bases,
then facts; one that wraps another ends with that one.
"""

from __future__ import annotations

from collections import Counter
from fractions import Fraction
from itertools import count
from math import inf

STEP = ("StepExecutionError", "StepFunctionError", "Exception")
PARALLEL = ("ParallelStepExecutionError", *STEP)
LIMIT = ("StepLimitError", *STEP)
UNMATCHED = ("NoBranchMatchedError", "StepFunctionError", "LookupError", "Exception")


def run(workflow, value, calls=None):
    """Give what an execution should come to; ``calls`` counts those of each script."""
    calls = Counter() if calls is None else calls
    follower, main_path = workflow["start"], reachable(workflow, ["next", "branch"])
    context, path, records = {}, [], []
    first = named = None  # the failure that is not recovered from; the same, by step
    is_taken = True
    while follower is not None:
        if len(path) == workflow["max_steps"]:
            first = named = (LIMIT, follower)
            is_taken = False
            break
        name, step = follower, workflow["steps"][follower]
        record, *tasks = perform(name, step, value, calls)
        follower, error = step["next"], record["error"]
        is_named = error is not None and not isinstance(step.get("do"), list)
        if error is None and step["branch"]:
            result = record["output"]
            if "tasks" in step:
                result = next(iter(result.values()))
            follower = choose(step["branch"], result) or follower
            if follower is None:
                error = (UNMATCHED, name, record["output"])
                record |= {"outcome": "FAILED", "output": None, "error": error}
        if error is not None:
            follower = taker(step["on_failure"], error)
            is_taken = follower is not None
            if first is None or not is_taken:
                named = error if is_named else (STEP, name, error)
            first = first or error
        elif follower in main_path:
            first = named = None
        path.append(name)
        is_last = len(path) == workflow["max_steps"]
        record |= {"input": value, "next_step": None if is_last else follower}
        records += [record, *({**task, "input": value} for task in tasks)]
        context[name] = value = record["output"] if error is None else error
    ends = workflow["steps"][path[-1]]["ends"]
    ends = ends or ("completed" if path[-1] in main_path else "failed")
    has_failed = not is_taken or ends == "failed"
    if has_failed and first is None:
        first = named = (STEP, path[-1], None)
    return {
        "status": "FAILED" if has_failed else "COMPLETED",
        "output": value if is_taken else None,
        "error": first if has_failed else None,
        "raised_if_failed": named if has_failed else None,
        "execute_raises": not is_taken,
        "context": context,
        "path": path,
        "failures": [[r["step"], r["task"]] for r in records if r["error"] is not None],
        "records": records,
    }


def perform(name, step, value, calls):
    if "do" in step:
        return [attempt(name, None, step["do"], step, value, calls)]
    tasks, errors = [], {}
    for task, do in step["tasks"].items():
        if step["stop"] and len(errors) > tolerance(step):
            tasks.append(ending(name, task, "CANCELLED", attempts=0))
            continue
        tasks.append(attempt(name, task, do, step, value, calls))
        if tasks[-1]["error"] is not None:
            errors[task] = tasks[-1]["error"]
    outputs = {end["task"]: end["output"] for end in tasks}
    if len(errors) <= tolerance(step):
        return [ending(name, None, "SUCCEEDED", outputs | errors), *tasks]
    outcomes = {end["task"]: end["outcome"] for end in tasks}
    results = {task: outputs[task] for task in outputs if outcomes[task] == "SUCCEEDED"}
    facts = (name, outcomes, results, errors, next(iter(errors.values())))
    return [ending(name, None, "FAILED", error=(PARALLEL, *facts)), *tasks]


def run_map(items, step):
    """Give what a map step should come to that has one worker, by index of the item.

    An item is a value and how often its call fails before it gives that. The step is
    {"batch_size", "attempts", "stop", "tolerated", "is_counted"}. Of one that both
    stops and tries again this is only one of the things that it may come to.
    """
    size, failures, ends = step["batch_size"], 0, []
    tolerated = tolerance({**step, "tasks": items, "on_failure": {}})
    may_stop = step["stop"] and (
        step["is_counted"] or not isinstance(step["tolerated"], str)
    )
    for index, (value, fails) in enumerate(items):
        if may_stop and failures > tolerated:
            if index % size == 0:
                break  # it was never taken
            ends.append({"outcome": "CANCELLED", "value": None, "attempts": 0})
            continue
        has_failed = fails >= step["attempts"]
        failures += has_failed
        ends.append(
            {
                "outcome": "FAILED" if has_failed else "SUCCEEDED",
                "value": value,
                "attempts": min(fails + 1, step["attempts"]),
            }
        )
    return {"has_failed": failures > tolerated, "ends": ends, "tolerated": tolerated}


def attempt(name, task, do, step, value, calls):
    for number in count(1):
        output = error = child = None
        if isinstance(do, dict):
            child = run(do, value, calls)
            output = child["output"]
            if child["status"] == "FAILED":
                error = (STEP, name, child["error"])
        else:
            line = do[min(calls[id(do)], len(do) - 1)]
            calls[id(do)] += 1
            if line[0] == "fail":
                error = line[1:]
            elif line[0] == "raise" and isinstance(value, tuple):
                error = value
            else:
                output = line[1] if line[0] == "give" else value
        if error is None:
            return ending(name, task, "SUCCEEDED", output, None, number, child)
        is_final = taker({UNMATCHED[0]: True}, error)  # it would only be so again
        is_retried = taker({step["retry_on"]: True}, error) and not is_final
        if number == step["attempts"] or not is_retried:
            return ending(name, task, "FAILED", None, error, number, child)


def ending(step, task, outcome, output=None, error=None, attempts=1, child=None):
    """Give a record, of which only the input and the next step are missing."""
    return {**locals(), "input": None, "next_step": None}


def choose(branch, result):
    for key, target in branch.items():
        if key == result and isinstance(key, bool) == isinstance(result, bool):
            return target


def taker(on_failure, error):
    """Give where a failure leads: the first class that it, or what it wraps, is of."""
    classes = set(error[0])
    while error[0] in (STEP, PARALLEL) and error[-1] is not None:
        error = error[-1]
        classes |= {*error[0]}
    return next((on_failure[name] for name in on_failure if name in classes), None)


def tolerance(step):
    tolerated = step["tolerated"]
    if tolerated is None:
        return 0 if step["stop"] or step["on_failure"] else inf
    if isinstance(tolerated, str):
        return int(Fraction(tolerated[:-1]) * len(step["tasks"]) / 100)
    return tolerated


def arrows(step):
    """Give where a step leads, by kind."""
    return {
        "next": [step["next"]] if step["next"] else [],
        "branch": list(step["branch"].values()),
        "failure": list(step["on_failure"].values()),
    }


def reachable(workflow, kinds):
    found, waiting = set(), [workflow["start"]]
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            leads_to = arrows(workflow["steps"][name])
            waiting += (target for kind in kinds for target in leads_to[kind])
    return found
