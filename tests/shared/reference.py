"""A reference interpreter of workflows: what an execution should come to.

It is plain, slow, and knows nothing of the package. A workflow is plain data::

    {"name", "start", "max_steps", "on_failure": {class name: step}, "steps": {name: {
        "kind": "fail" for a fail step, else anything,
        "do": a script or a workflow, or "tasks": {task: a script or a workflow},
        "next", "branch": {result: step}, "on_failure": {class name: step},
        "inputs": {parameter: step}, "ends", "attempts", "retry_on": class name,
        "stop", "tolerated",
        "undo": whether it is undone as a whole, or the tasks that are}}}

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
    takers = all_takers(workflow)
    context, path, records = {}, [], []
    first = named = None  # the failure that is not recovered from; the same, by step
    is_taken = is_refused = True
    while follower is not None:
        if len(path) == workflow["max_steps"]:
            first = named = (LIMIT, follower)
            is_taken = False
            break
        name, step = follower, workflow["steps"][follower]
        if step["inputs"]:
            value = {key: context[source] for key, source in step["inputs"].items()}
        is_refused = step["kind"] == "fail"
        is_caught = bool(step["on_failure"] or workflow["on_failure"])
        record, *tasks = perform(name, step, value, calls, is_caught)
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
            follower = taker(takers[name], error)
            is_taken = follower is not None or is_refused
            if first is None or follower is None:
                named = error if is_named else (STEP, name, error)
            first = error if is_refused else first or error
        elif follower in main_path:
            first = named = None
        path.append(name)
        is_last = len(path) == workflow["max_steps"]
        record |= {"input": value, "next_step": None if is_last else follower}
        records += [record, *({**task, "input": value} for task in tasks)]
        context[name] = value = record["output"] if error is None else error
    ends = workflow["steps"][path[-1]]["ends"]
    ends = ends or ("completed" if path[-1] in main_path else "failed")
    is_refused = is_refused and is_taken  # and not past the limit
    has_failed = not is_taken or is_refused or ends == "failed"
    if has_failed and first is None:
        first = named = (STEP, path[-1], None)
    end = {
        "status": "FAILED" if has_failed else "COMPLETED",
        "output": value if is_taken and not is_refused else None,
        "error": first if has_failed else None,
        "raised_if_failed": named if has_failed else None,
        "execute_raises": not is_taken,
        "context": context,
        "path": path,
        "failures": [[r["step"], r["task"]] for r in records if r["error"] is not None],
        "records": records,
        "undone": [],
    }
    if has_failed:
        undo(workflow, end)
    return end


def undo(workflow, end):
    """Undo what had succeeded, the latest first; what is nested by itself."""
    visits = []
    for record in end["records"]:
        if record["task"] is None:
            visits.append([])
        visits[-1].append(record)
    for record, *tasks in reversed(visits):
        name, error = record["step"], record["error"]
        step = workflow["steps"][name]
        has_output = error is None or error[:2] == (UNMATCHED, name)
        if step["undo"] is True and has_output:
            output = record["output"] if error is None else error[2]
            end["undone"].append([name, None, output])
            continue
        names = [] if isinstance(step["undo"], bool) else step["undo"]
        for it in reversed(tasks or [record]):
            do = step["tasks"][it["task"]] if tasks else step["do"]
            if it["outcome"] == "SUCCEEDED" and it["task"] in names:
                end["undone"].append([name, it["task"], it["output"]])
            elif it["child"] is not None and it["child"]["status"] == "COMPLETED":
                undo(do, it["child"])


def perform(name, step, value, calls, is_caught):
    if "do" in step:
        return [attempt(name, None, step["do"], step, value, calls)]
    tasks, errors = [], {}
    for task, do in step["tasks"].items():
        if step["stop"] and len(errors) > tolerance(step, is_caught):
            tasks.append(ending(name, task, "CANCELLED", attempts=0))
            continue
        tasks.append(attempt(name, task, do, step, value, calls))
        if tasks[-1]["error"] is not None:
            errors[task] = tasks[-1]["error"]
    outputs = {end["task"]: end["output"] for end in tasks}
    if len(errors) <= tolerance(step, is_caught):
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
    tolerated = tolerance({**step, "tasks": items}, True)
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


def all_takers(workflow):
    """Give where the failures of each step lead: by itself, else by the workflow."""
    steps, common = workflow["steps"], workflow["on_failure"]
    targets = {*common.values()}
    free = {*targets}
    for target in targets:
        free |= reachable(workflow, ["next", "branch", "own"], target)
    if workflow["max_steps"] is not None:
        free -= reachable(workflow, ["next", "branch"]) - targets
    return {
        name: step["on_failure"]
        or ({} if name in free or step["kind"] == "fail" else common)
        for name, step in steps.items()
    }


def tolerance(step, is_caught):
    tolerated = step["tolerated"]
    if tolerated is None:
        return 0 if step["stop"] or is_caught else inf
    if isinstance(tolerated, str):
        return int(Fraction(tolerated[:-1]) * len(step["tasks"]) / 100)
    return tolerated


def arrows(step, on_failure=None):
    """Give where a step leads, by kind."""
    return {
        "next": [step["next"]] if step["next"] else [],
        "branch": list(step["branch"].values()),
        "own": list(step["on_failure"].values()),
        "failure": list((on_failure or {}).values()),
    }


def always_before(workflow, target):
    """Give the steps that have succeeded on every path that leads to a step."""
    takers = all_takers(workflow)
    return [
        name
        for name in workflow["steps"]
        if name != target and not is_reached_without(workflow, takers, name, target)
    ]


def is_reached_without(workflow, takers, source, target):
    found, waiting = set(), [(workflow["start"], False)]
    while waiting:
        name, is_there = place = waiting.pop()
        if place not in found:
            found.add(place)
            leads_to = arrows(workflow["steps"][name], takers[name])
            for kind in ("next", "branch", "failure"):
                is_left_with = kind != "failure" if name == source else is_there
                waiting += ((follower, is_left_with) for follower in leads_to[kind])
    return (target, False) in found


def reachable(workflow, kinds, start=None):
    """Give what arrows lead to: "own" are those of failures of the steps themselves."""
    takers = all_takers(workflow) if "failure" in kinds else {}
    found, waiting = set(), [start or workflow["start"]]
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            leads_to = arrows(workflow["steps"][name], takers.get(name))
            waiting += (target for kind in kinds for target in leads_to[kind])
    return found
