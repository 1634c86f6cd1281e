"""A program that does all that a stored execution can do, and writes down each call.

    CRASH_FOLDER=… python everything.py SEED

The seed says of which parts the workflow is made. ``runs.db`` in the folder is the
store; ``ledger`` there has a line for the beginning and the end of each call, written
at once. What a call gives has its token, by which it is found in the store. The same
line goes on with what was killed.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from collections.abc import Mapping
from itertools import groupby
from pathlib import Path

from stepfunction import Context, RetryPolicy, StepExecutionError, StepFunction
from stepfunction.core.errors import StepFunctionError
from stepfunction.stores import SQLiteStore

ID = "run-17"
FOLDER = Path(os.environ.get("CRASH_FOLDER", "."))
DECISIONS = json.loads(os.environ.get("CRASH_DECISIONS", "null"))


class Oops(Exception):
    """A failure that has the token of its call."""


def write(**facts):
    line = json.dumps(facts | {"pid": os.getpid()}) + "\n"
    ledger = os.open(FOLDER / "ledger", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(ledger, line.encode())
    os.close(ledger)


def tokens(value):
    """Give the tokens of the calls that a value came of."""
    if isinstance(value, Mapping):
        if "token" in value:
            return [value["token"]]
        return [token for item in value.values() for token in tokens(item)]
    if isinstance(value, Oops):
        return tokens(value.args[0])
    if isinstance(value, StepExecutionError):
        inner = [getattr(value, "results", {}), getattr(value, "errors", {})]
        return tokens([*inner, value.__cause__])
    if isinstance(value, list | tuple):
        return [token for item in value for token in tokens(item)]
    return []


def note(context, value, **facts):
    key = context.idempotency_key
    token = f"<<{key}#{context.attempt}>>"
    write(
        what="begin",
        token=token,
        key=key,
        attempt=context.attempt,
        after=tokens(value),
        execution=context.execution_id,
    )
    time.sleep(random.choice([0, 0, 0.001, 0.004, 0.012]))
    return {"token": token, **facts}


def do(value, context: Context):
    made = note(context, value)
    write(what="end", token=made["token"])
    return made


def oops(value, context: Context):
    made = note(context, value)
    write(what="end", token=made["token"])
    raise Oops(made)


def flaky(value, context: Context):
    return (do if context.attempt > 2 else oops)(value, context)


def mixed(value, context: Context):
    """Fail for each fifth item, once, and for each seventh for ever."""
    index = value["index"]
    if index % 5 == 0 and context.attempt == 1 or index % 7 == 6:
        return oops(value, context)
    return do(value, context)


def count_up(value, context: Context):
    number = value["number"] if "number" in value else 0
    made = note(context, value, number=number + 1)
    write(what="end", token=made["token"])
    return made


def is_counting(output):
    return output["number"] < 4


def choose(output):
    """Decide by chance, for whoever asks again is to be found out."""
    token = output["token"]
    to = random.choice("LR") if DECISIONS is None else DECISIONS[token]
    write(what="decide", token=token, to=to)
    return to


def items(value):
    after = [{"token": token} for token in tokens(value)]
    return [{"index": index, "after": after} for index in range(24)]


def undo(output):
    token = f"<<undo of {' '.join(tokens(output))[:200]}>>"
    after = tokens(output)
    write(what="begin", token=token, key=token, attempt=1, after=after, execution=ID)
    time.sleep(random.choice([0, 0.002]))
    write(what="end", token=token)
    return {"token": token}


# --- parts --------------------------------------------------------------------------


def chain_of(name, length=3):
    workflow = StepFunction(name).set_start_step("0")
    for number in range(length):
        follower = str(number + 1) if number + 1 < length else None
        workflow.add_step(str(number), do, follower, compensate=undo)
    return workflow


def chain(workflow, name, follower):
    for number in range(4):
        to = f"{name}{number + 1}" if number < 3 else follower
        workflow.add_step(f"{name}{number}", do, to, compensate=undo)


def branch(workflow, name, follower):
    # The names of its steps are what the callable gives, led through a mapping.
    def to(output):
        return name + choose(output)

    to.__qualname__ = "to"
    targets = [f"{name}L", f"{name}R"]
    workflow.add_step(f"{name}0", do, branch=to, branch_targets=targets)
    for target in targets:
        workflow.add_step(target, do, follower, compensate=undo)


def loop(workflow, name, follower):
    workflow.add_step(
        f"{name}0", count_up, follower, branch=[(is_counting, f"{name}0")]
    )


def failure(workflow, name, follower):
    workflow.add_step(f"{name}0", oops, follower, on_failure=f"{name}1")
    workflow.add_step(f"{name}1", do, f"{name}2")
    workflow.add_step(f"{name}2", do, follower)


def fan_out(workflow, name, follower, executor="thread"):
    tasks = {"a": do, "b": do, "c": oops, "d": flaky}
    workflow.add_parallel_step(
        f"{name}0",
        tasks,
        next_step=follower,
        executor=executor,
        max_workers=2,
        tolerated_failures=1,
        retry=RetryPolicy(3, interval=0.01, retry_on=Oops, jitter=None),
        compensate={"a": undo, "d": undo},
    )


def fan_out_in_processes(workflow, name, follower):
    fan_out(workflow, name, follower, "process")


def map_of(size, executor):
    def part(workflow, name, follower):
        workflow.add_map_step(
            f"{name}0",
            mixed,
            items=items,
            next_step=follower,
            executor=executor,
            max_workers=2,
            batch_size=size,
            tolerated_failures="100%",
            retry=RetryPolicy(2, interval=0, retry_on=Oops, jitter=None),
            compensate=undo,
        )

    return part


def retried(workflow, name, follower):
    retry = RetryPolicy(3, interval=0.04, backoff_rate=1, jitter=None)
    workflow.add_step(f"{name}0", flaky, follower, retry=retry, compensate=undo)


def wait(workflow, name, follower):
    workflow.add_wait_step(f"{name}0", seconds=0.08, next_step=follower)


def nested(workflow, name, follower):
    workflow.add_sub_step_function(f"{name}0", chain_of("Inner"), next_step=follower)


def nested_apart(executor):
    def part(workflow, name, follower):
        tasks = {"a": chain_of("A"), "b": chain_of("B", 4), "c": do}
        workflow.add_parallel_step(
            f"{name}0", tasks, next_step=follower, executor=executor, max_workers=2
        )

    return part


PARTS = [
    chain,
    branch,
    loop,
    failure,
    fan_out,
    fan_out_in_processes,
    map_of(1, "thread"),
    map_of(5, "thread"),
    map_of(1, "process"),
    map_of(5, "process"),
    retried,
    wait,
    nested,
    nested_apart("thread"),
    nested_apart("process"),
]


def workflow_of(seed):
    """Give a workflow of a few parts; the first seeds have each part once."""
    chance = random.Random(seed)
    parts = [PARTS[seed % len(PARTS)], *chance.choices(PARTS, k=chance.randint(1, 3))]
    chance.shuffle(parts)
    ends_well = chance.random() < 0.6
    workflow = StepFunction("Everything", max_steps=100)
    names = [f"{chr(ord('A') + index)}" for index in range(len(parts))]
    for name, follower, part in zip(names, [*names[1:], "Z"], parts):
        part(workflow, name, follower + "0")
    workflow.add_step("Z0", do if ends_well else oops)
    return workflow.set_start_step("A0")


# --- what is compared ---------------------------------------------------------------


def told(execution):
    """Give all of an execution but times."""
    return {
        "id": execution.id,
        "status": str(execution.status),
        "output": shown(execution.output),
        "error": shown(execution.error),
        "context": shown(execution.context),
        "history": [told_record(record) for record in execution.history],
        "undone": in_order(map(told_record, execution.compensations)),
    }


def in_order(undone):
    """Give tasks of a step by name: which of them ended last is up to the threads."""
    steps = groupby(undone, key=lambda record: record["step"])
    return [
        record
        for _, some in steps
        for record in sorted(some, key=lambda record: str(record["part"]))
    ]


def told_record(record):
    is_item = type(record.part) is int  # which is not stored, but asked for again
    return {
        "step": record.step,
        "part": record.part,
        "outcome": str(record.outcome),
        "input": None if is_item else shown(record.input),
        "output": shown(record.output),
        "error": shown(record.error),
        "attempts": [[it.number, shown(it.error)] for it in record.attempts],
        "next": record.next_step,
        "child": record.child and {**told(record.child), "id": None},
    }


def shown(value):
    """Give a value as JSON, an exception with its class and what it says."""
    if isinstance(value, StepFunctionError):
        return [type(value).__name__, str(value), tokens(value)]
    if isinstance(value, BaseException):
        return [type(value).__name__, *map(shown, value.args)]
    if isinstance(value, Mapping):
        return {str(key): shown(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [shown(item) for item in value]
    return value


def leave(signum, frame):
    raise SystemExit(3)  # as the worker of a server does


def main():
    signal.signal(signal.SIGTERM, leave)
    store = SQLiteStore(FOLDER / "runs.db")
    workflow = workflow_of(int(sys.argv[1]))
    workflow.compile()
    print("ready", flush=True)
    try:
        execution = workflow.execute({}, store=store, execution_id=ID)
    except StepExecutionError as error:
        execution = error.execution
    print(json.dumps(told(execution)), flush=True)


if __name__ == "__main__":
    main()
