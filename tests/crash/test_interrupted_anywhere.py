"""A stored run that is interrupted at any opcode goes on, and does nothing twice."""

from __future__ import annotations

import gc
import os
import random
import re
from itertools import pairwise

import pytest
from shared.interrupts import Interrupt, raise_interrupt

from stepfunction import RetryPolicy, StepExecutionError, StepFunction
from stepfunction.stores import SQLiteStore

# As of an interrupt that came in a finalizer.
pytestmark = [
    pytest.mark.usefixtures("quiet"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
MOMENTS = int(os.environ.get("CRASH_MOMENTS", "12"))  # of each kind of workflow
TOKEN = re.compile(r"<<[^<>]*>>")
RETRY = RetryPolicy(2, interval=0, jitter=None)


class Calls:
    """Functions that note their calls, and give what is found in the store."""

    def __init__(self):
        self.made = []

    def note(self, context):
        token = f"<<{context.idempotency_key}#{context.attempt}>>"
        self.made.append(token)
        return token

    def do(self, value, context):
        return self.note(context)

    def fail(self, value, context):
        raise ValueError(self.note(context))

    def flaky(self, value, context):
        return (self.fail if context.attempt == 1 else self.do)(value, context)


def plainly(workflow, calls):
    workflow.add_step("A", calls.do, "B", compensate=str)
    workflow.add_step("B", calls.fail, on_failure="C")
    workflow.add_step("C", calls.do, "D").add_step("D", calls.do)


def with_retries(workflow, calls):
    workflow.add_step("A", calls.flaky, "B", retry=RETRY)
    workflow.add_step("B", calls.flaky, "C", retry=RETRY, executor="thread")
    workflow.add_wait_step("C", seconds=0.001, next_step="D")
    workflow.add_step("D", calls.do)


def nested(workflow, calls):
    inner = StepFunction("Inner").set_start_step("X")
    inner.add_step("X", calls.do, "Y").add_step("Y", calls.do)
    workflow.add_step("A", inner, "B")
    workflow.add_parallel_step("B", {"a": inner, "b": calls.do}, next_step="C")
    workflow.add_step("C", calls.do)


def tasks_on(executor):
    def build(workflow, calls):
        tasks = {"a": calls.do, "b": calls.flaky, "c": calls.fail}
        ways = {"executor": executor, "tolerated_failures": 1, "retry": RETRY}
        workflow.add_parallel_step("A", tasks, next_step="B", **ways)
        workflow.add_step("B", calls.do)

    return build


def items_on(executor, size):
    def build(workflow, calls):
        def each(item, context):
            return (calls.flaky if item == 2 else calls.do)(item, context)

        ways = {"executor": executor, "batch_size": size, "retry": RETRY}
        workflow.add_map_step("A", each, items=lambda _: range(5), **ways)

    return build


def undoing(workflow, calls):
    workflow.add_step("A", calls.do, "B", compensate=calls.do)
    workflow.add_step("B", calls.do, "C", compensate=calls.do)
    workflow.add_step("C", calls.fail)


KINDS = {
    "plain": plainly,
    "retries": with_retries,
    "nested": nested,
    "tasks inline": tasks_on("inline"),
    "tasks on threads": tasks_on("thread"),
    "items inline": items_on("inline", 1),
    "batches inline": items_on("inline", 2),
    "batches on threads": items_on("thread", 2),
    "undoing": undoing,
}


def run(kind, calls, store):
    workflow = StepFunction("W").set_start_step("A")
    KINDS[kind](workflow, calls)
    try:
        return workflow.execute(store=store, execution_id="it")
    except StepExecutionError as error:
        return error.execution


def recorded(store, key):
    for _, text in store.rows(key):
        yield from TOKEN.findall(text)
    for head in store.nested(key):
        yield from recorded(store, head.key)


def told(execution):
    facts = repr(dict(execution.context)), execution.status, repr(execution.output)
    records = [*execution.history, *execution.compensations]
    return facts, [(it.step, it.part, it.outcome, repr(it.error)) for it in records]


@pytest.mark.parametrize("kind", KINDS)
def test_an_interrupt_at_any_opcode_is_gone_on_from(kind):
    chance = random.Random(kind)
    with SQLiteStore(":memory:") as store:
        with Interrupt(10**9, raise_interrupt) as all_of_it:
            expected = told(run(kind, Calls(), store))
    cuts = sorted(chance.choices(range(1, all_of_it.count), k=MOMENTS - 1))
    for low, high in pairwise([1, *cuts, all_of_it.count]):
        number = chance.randint(low, high)
        calls = Calls()
        with SQLiteStore(":memory:") as store:
            try:
                with Interrupt(number, raise_interrupt):
                    run(kind, calls, store)
            except KeyboardInterrupt:
                pass
            gc.collect()  # the traceback has all that ran
            head, made = store.find("it"), len(calls.made)
            kept = set() if head is None else set(recorded(store, head.key))
            assert told(run(kind, calls, store)) == expected, number
        again = kept.intersection(calls.made[made:])
        assert not again, (number, again)
