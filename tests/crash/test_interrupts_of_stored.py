"""What an interrupt leaves of a stored run goes on as if there had been none."""

from __future__ import annotations

import pytest
from shared.stores import Death, DyingStore, MemoryStore

from stepfunction import RetryPolicy, StepFunction


class Interrupted:
    """A function that interrupts the program at its first call."""

    def __init__(self):
        self.calls = 0

    def __call__(self, value):
        self.calls += 1
        if self.calls == 1:
            raise KeyboardInterrupt
        return "done"


@pytest.mark.parametrize("kind", ["tasks", "items"])
def test_what_pauses_between_attempts_is_tried_again(kind):
    attempts = []
    interrupt = Interrupted()

    def flaky(value, context):
        attempts.append(context.attempt)
        if context.attempt == 1:
            raise ValueError("not yet")
        return "well"

    workflow = StepFunction("W").set_start_step("A")
    ways = {"retry": RetryPolicy(2, interval=0.05), "executor": "inline"}
    if kind == "tasks":
        workflow.add_parallel_step("A", {"flaky": flaky, "late": interrupt}, **ways)
    else:

        def each(item, context):
            return flaky(item, context) if item == 0 else interrupt(item)

        workflow.add_map_step("A", each, items=lambda _: [0, 1], **ways)
    store = MemoryStore()
    with pytest.raises(KeyboardInterrupt):
        workflow.execute(store=store, execution_id="it")
    execution = workflow.execute(store=store, execution_id="it")
    outputs = [record.output for record in execution.history[1:]]
    assert outputs in (["well", "done"], ["well"])  # items that went well have none
    assert attempts == [1, 2]
    assert len(execution.history[1].attempts) == 2


def test_what_failed_for_the_interrupt_is_no_failure():
    calls = []

    def first(value, context):
        calls.append("first")
        if len(calls) == 1:
            raise KeyboardInterrupt
        return "done"

    def unwind(value, context):
        if context.cancelled:
            raise ValueError("told to stop")
        return "well"

    tasks = {"first": first, "second": unwind}
    workflow = StepFunction("W").set_start_step("A")
    workflow.add_parallel_step("A", tasks, executor="inline")
    store = MemoryStore()
    with pytest.raises(KeyboardInterrupt):
        workflow.execute(store=store, execution_id="it")
    assert store.find("it").status == "RUNNING"
    assert store.claimed == set()
    execution = workflow.execute(store=store, execution_id="it")
    assert dict(execution.output) == {"first": "done", "second": "well"}


@pytest.mark.parametrize("executor", [None, "inline", "thread"])
def test_a_death_in_a_pause_uses_no_attempt_up(executor):
    attempts = []

    def flaky(value, context):
        attempts.append(context.attempt)
        if context.attempt < 3:
            raise ValueError("not yet")
        return "well"

    retry = RetryPolicy(3, interval=0.01, backoff_rate=1, jitter=None)
    ways = {"retry": retry, "executor": executor}
    workflow = StepFunction("W").set_start_step("A").add_step("A", flaky, **ways)
    store = MemoryStore()
    with pytest.raises(Death):
        workflow.execute(store=DyingStore(store, 2), execution_id="it")
    assert attempts == [1]
    execution = workflow.execute(store=store, execution_id="it")
    assert (execution.output, attempts) == ("well", [1, 2, 3])
    assert [it.number for it in execution.history[0].attempts] == [1, 2, 3]
    (kept,) = store.executions.values()
    assert len([row for row in kept.rows.values() if row.startswith('["a"')]) == 2
