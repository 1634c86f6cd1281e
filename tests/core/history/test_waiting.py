"""How one waits for an execution, in another thread or on an event loop."""

from __future__ import annotations

import asyncio
import pickle
import threading
from functools import partial

import pytest
from shared.calls import double
from shared.pictures import read_back

from stepfunction import (
    Execution,
    ExecutionCancelledError,
    Status,
    StepExecutionError,
    StepFunction,
    StepFunctionError,
)

LONG = 20.0


class Gate:
    """A step's function that says that it runs and goes on when told."""

    def __init__(self):
        self.reached, self.go_on = threading.Event(), threading.Event()

    def __call__(self, value):
        self.reached.set()
        assert self.go_on.wait(LONG)
        return value


def by_pickle(execution):
    return pickle.loads(pickle.dumps(execution))


def awaited(execution):
    async def wait():
        return await execution

    return asyncio.run(wait())


@pytest.fixture
def gate():
    found = Gate()
    yield found
    found.go_on.set()


def fail(value):
    raise ValueError(f"no {value}")


def one(func, **arguments):
    return StepFunction("W").add_step("Only", func, **arguments).set_start_step("Only")


# --- result -------------------------------------------------------------------------


def test_the_result_is_the_output():
    assert one(double).execute(4).result() == 8


def test_the_result_is_waited_for(gate):
    execution = one(gate).start(4)
    assert gate.reached.wait(LONG)
    threading.Timer(0.01, gate.go_on.set).start()
    assert execution.result(LONG) == 4


def test_the_result_of_a_failure_is_what_checking_raises():
    workflow = one(fail, on_failure="Sorry").add_step("Sorry", str)
    with pytest.raises(StepExecutionError, match="no 4") as caught:
        workflow.start(4).result(LONG)
    assert caught.value.execution.status is Status.FAILED
    assert isinstance(caught.value.__cause__, ValueError)


def test_the_result_of_a_cancelled_execution_is_its_error(gate):
    execution = one(gate).start(4)
    assert gate.reached.wait(LONG)
    execution.cancel()
    gate.go_on.set()
    with pytest.raises(ExecutionCancelledError):
        execution.result(LONG)


def test_a_result_that_is_not_there_in_time_is_a_timeout_and_the_run_goes_on(gate):
    execution = one(gate).start(4)
    assert gate.reached.wait(LONG)
    with pytest.raises(TimeoutError, match=r"'W' has not ended after 0.01 s"):
        execution.result(timeout=0.01)
    assert execution.status is Status.RUNNING
    gate.go_on.set()
    assert execution.result(LONG) == 4


@pytest.mark.parametrize("ask", ["wait", "result"])
def test_the_thread_that_runs_an_execution_may_not_wait_for_it(ask):
    def look(value):
        return getattr(running[0], ask)()

    running = []
    with pytest.raises(StepExecutionError) as caught:
        one(look).execute(1, listeners=[lambda it: running.append(it.execution)])
    assert isinstance(caught.value.__cause__, StepFunctionError)
    assert "cannot be waited for by the thread that runs it" in str(caught.value)


@pytest.mark.parametrize("executor", ["inline", None])
def test_nor_may_a_workflow_that_is_nested_in_it(executor):
    def look(value):
        return running[0].wait()

    running = []
    outer = one(one(look), executor=executor)
    with pytest.raises(StepExecutionError, match="by the thread that runs it"):
        outer.execute(1, listeners=[lambda event: running.append(event.execution)])


def test_another_thread_waits_for_an_execution_that_execute_runs(gate):
    workflow, told = one(gate), threading.Event()
    running = []

    def tell(event):
        running.append(event.execution)
        told.set()

    execute = partial(workflow.execute, 4, listeners=[tell])
    thread = threading.Thread(target=execute)
    thread.start()
    assert told.wait(LONG) and gate.reached.wait(LONG)
    execution = running[0]
    assert not execution.wait(0.01)
    gate.go_on.set()
    assert execution.result(LONG) == 4
    thread.join(LONG)


def test_a_child_can_be_waited_for_while_it_runs(gate):
    inner = one(gate)
    workflow = StepFunction("Outer").add_step("Both", {"a": inner}, parallel=True)
    execution = workflow.set_start_step("Both").start(4)
    assert gate.reached.wait(LONG)
    child = execution.children["Both", "a"]
    assert child.status is Status.RUNNING
    assert not child.wait(0.01)
    gate.go_on.set()
    assert child.result(LONG) == 4
    assert execution.wait(LONG)


# --- await --------------------------------------------------------------------------


def test_awaiting_what_runs_does_not_block_the_loop(gate):
    async def main():
        execution = one(gate).start(4)
        turns = 0

        async def let_go():
            nonlocal turns
            while turns < 3:
                turns += 1
                await asyncio.sleep(0)
            gate.go_on.set()

        other = asyncio.ensure_future(let_go())
        assert await execution is execution
        await other
        return execution, turns

    execution, turns = asyncio.run(main())
    assert (execution.output, turns) == (4, 3)


def test_awaiting_raises_nothing_for_the_status():
    async def main():
        return await one(fail).start(4)

    assert asyncio.run(main()).status is Status.FAILED


def test_cancelling_who_awaits_does_not_cancel_the_run(gate):
    async def main():
        execution = one(gate).start(4)
        waiting = asyncio.ensure_future(_awaited(execution))
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        return execution

    execution = asyncio.run(main())
    assert execution.status is Status.RUNNING
    gate.go_on.set()
    assert execution.result(LONG) == 4


def test_what_has_ended_does_not_suspend_who_awaits_it():
    awaiting = one(double).execute(4).__await__()
    with pytest.raises(StopIteration) as caught:
        next(awaiting)
    assert caught.value.value.output == 8


def test_many_may_await_one_execution(gate):
    async def main():
        execution = one(gate).start(4)
        waiting = [asyncio.ensure_future(_awaited(execution)) for _ in range(10)]
        await asyncio.sleep(0)
        gate.go_on.set()
        return execution, await asyncio.gather(*waiting)

    execution, found = asyncio.run(main())
    assert found == [execution] * 10


async def _awaited(execution: Execution) -> Execution:
    return await execution


# --- what only reads ----------------------------------------------------------------


@pytest.mark.parametrize("name", ["status", "output", "error", "context", "id"])
def test_an_execution_cannot_be_written(name):
    execution = one(double).execute(4)
    with pytest.raises(AttributeError):
        setattr(execution, name, None)


def test_an_execution_is_read_back_from_a_dict():
    execution = one(double).execute(4)
    copy = Execution.from_dict(execution.to_dict())
    assert (copy.id, copy.output) == (execution.id, 8)
    assert copy.to_dict() == execution.to_dict()


@pytest.mark.parametrize("copied", [read_back, by_pickle])
@pytest.mark.parametrize(
    "ask", [Execution.wait, Execution.result, Execution.raise_if_failed, awaited]
)
def test_what_is_read_back_of_an_unended_run_is_not_waited_for(gate, ask, copied):
    execution = one(gate).start(4)
    assert gate.reached.wait(LONG)
    said = "execution of 'W' was RUNNING when it was written"
    with pytest.raises(StepFunctionError, match=said):
        ask(copied(execution))


def test_a_child_is_the_same_object_wherever_it_is_found():
    workflow = StepFunction("Outer").add_step("In", one(double)).set_start_step("In")
    execution = workflow.execute(4)
    child = execution.children["In"]
    assert execution.children["In"] is child
    assert execution.history[0].child is child
