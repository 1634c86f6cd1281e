from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from functools import partial

import pytest
from shared.calls import PaymentError
from shared.failures import failure_of

from stepfunction import (
    Context,
    Execution,
    RetryPolicy,
    Status,
    StepExecutionError,
    StepFunction,
)

request: ContextVar[str] = ContextVar("request", default="none")


async def add_one(value):
    await asyncio.sleep(0)
    return value + 1


async def without_parameters():
    return "nothing needed"


async def with_context(value, told: Context):
    return value, told.step


async def decline(value):
    await asyncio.sleep(0)
    raise PaymentError("no money")


async def read_request():
    await asyncio.sleep(0)
    return request.get()


async def scaled(value, factor):
    return value * factor


class Adder:
    async def __call__(self, value):
        return value + 1

    async def method(self, value):
        return value + 2

    @staticmethod
    async def static(value):
        return value + 3


def one(func, **arguments):
    workflow = StepFunction("Shop").add_step("Call", func, **arguments)
    return workflow.set_start_step("Call")


# --- async steps in execute ---------------------------------------------------------


@pytest.mark.parametrize(
    "func, output",
    [
        (add_one, 4),
        (without_parameters, "nothing needed"),
        (with_context, (3, "Call")),
        (partial(scaled, factor=5), 15),
        (partial(partial(scaled), factor=5), 15),
        (Adder(), 4),
        (partial(Adder()), 4),
        (Adder().method, 5),
        (Adder.static, 6),
    ],
)
def test_an_async_step_runs_to_completion(func, output):
    assert one(func).execute(3).output == output


def test_an_async_step_may_have_params():
    assert one(scaled, params={"factor": 5}).execute(3).output == 15


def test_sync_and_async_steps_follow_each_other():
    workflow = StepFunction("Sum").set_start_step("A")
    workflow.add_step("A", add_one, next_step="B")
    workflow.add_step("B", lambda value: value * 2, next_step="C")
    workflow.add_step("C", add_one)
    assert workflow.execute(1).output == 5


def test_async_steps_run_on_a_private_loop_in_another_thread():
    async def where():
        return threading.current_thread()

    thread = one(where).execute().output
    assert thread is not threading.current_thread()
    assert thread.daemon


def test_the_private_loop_is_kept_for_later_steps():
    async def which():
        return asyncio.get_running_loop()

    workflow = one(which)
    assert workflow.execute().output is workflow.execute().output


def test_async_steps_may_use_what_needs_a_loop():
    async def use_loop():
        queue = asyncio.Queue()
        putting = asyncio.create_task(queue.put("item"))
        async with asyncio.timeout(30):
            item = await queue.get()
        await putting
        return item

    assert one(use_loop).execute().output == "item"


def test_an_async_step_that_raises_fails():
    error = failure_of(one(decline))
    assert str(error) == "step 'Call' of 'Shop' failed: PaymentError: no money"
    assert type(error.__cause__) is PaymentError


def test_on_failure_takes_the_failure_of_an_async_step():
    workflow = one(decline, on_failure="Tell").add_step("Tell", str)
    assert workflow.execute().output == "no money"


def test_a_failure_step_may_be_async():
    async def tell(error):
        return f"told: {error}"

    workflow = one(decline, on_failure="Tell").add_step("Tell", tell)
    assert workflow.execute().output == "told: no money"


@pytest.mark.parametrize("executor", [None, "thread"])
def test_async_steps_are_retried(executor):
    attempts = []

    async def flaky(value, context):
        attempts.append(context.attempt)
        if len(attempts) < 3:
            raise ConnectionError("again")
        return "done"

    retry = RetryPolicy(max_attempts=3, interval=0)
    assert one(flaky, retry=retry, executor=executor).execute().output == "done"
    assert attempts == [1, 2, 3]


@pytest.mark.parametrize("executor", [None, "inline", "thread"])
def test_a_plain_function_that_returns_a_coroutine_fails_its_step(executor):
    def fetch(value):
        return add_one(value)

    error = failure_of(one(fetch, executor=executor))
    assert type(error.__cause__) is TypeError
    assert str(error.__cause__).endswith(
        "fetch is a plain function but returned a coroutine; "
        "define it with 'async def', or await inside it and return the result"
    )


def test_a_lambda_that_returns_a_coroutine_does_not_leave_it_unawaited():
    # A coroutine that is dropped without being closed warns, and warnings are errors.
    assert type(failure_of(one(lambda value: add_one(value))).__cause__) is TypeError


# --- context variables --------------------------------------------------------------


@pytest.mark.parametrize("executor", [None, "inline", "thread"])
def test_context_variables_reach_async_steps(executor):
    token = request.set("GET /cart")
    try:
        assert one(read_request, executor=executor).execute().output == "GET /cart"
    finally:
        request.reset(token)


def test_a_context_variable_that_a_step_sets_reaches_the_async_step_after_it():
    workflow = StepFunction("Shop").set_start_step("Set")
    workflow.add_step("Set", lambda: request.set("POST /pay"), next_step="Read")
    workflow.add_step("Read", read_request)
    token = request.set("GET /cart")
    try:
        assert workflow.execute().output == "POST /pay"
    finally:
        request.reset(token)


# --- under a running loop -----------------------------------------------------------


def test_execute_runs_async_steps_under_a_running_loop():
    async def main():
        return one(add_one).execute(1)

    assert asyncio.run(main()).output == 2


def test_execute_can_be_awaited():
    async def main():
        return await one(add_one).execute(1)

    execution = asyncio.run(main())
    assert type(execution) is Execution
    assert (execution.status, execution.output) == (Status.COMPLETED, 2)


def test_awaiting_an_execution_gives_itself():
    execution = one(add_one).execute(1)

    async def main():
        return await execution

    assert asyncio.run(main()) is execution


def test_execute_blocks_the_loop_while_it_runs():
    ran = []

    async def main():
        asyncio.get_running_loop().call_soon(ran.append, "later")
        execution = await one(lambda: list(ran)).execute()
        return execution.output

    assert asyncio.run(main()) == []


# --- async steps elsewhere ----------------------------------------------------------


def test_async_tasks_run_side_by_side_in_threads():
    first, second = threading.Event(), threading.Event()

    async def one_way():
        first.set()
        return await asyncio.to_thread(second.wait, 30)

    async def other_way():
        second.set()
        return await asyncio.to_thread(first.wait, 30)

    workflow = one({"a": one_way, "b": other_way}, parallel=True)
    assert workflow.execute().output == {"a": True, "b": True}


def test_async_tasks_run_inline():
    workflow = one({"a": add_one, "b": without_parameters}, parallel=True)
    output = workflow.execute(1, executor="inline").output
    assert output == {"a": 2, "b": "nothing needed"}


def test_async_tasks_run_on_somebody_elses_executor():
    with ThreadPoolExecutor(1) as pool:
        workflow = one({"a": add_one, "b": add_one}, parallel=True, executor=pool)
        assert workflow.execute(1).output == {"a": 2, "b": 2}


def test_async_steps_and_tasks_run_in_processes():
    workflow = StepFunction("Sum").set_start_step("One")
    workflow.add_step("One", add_one, executor="process", next_step="Many")
    workflow.add_step(
        "Many",
        {"add": add_one, "where": whereabouts, "fail": decline},
        parallel=True,
        executor="process",
        max_workers=1,
    )
    output = workflow.execute(1).output
    assert output["add"] == 3
    assert output["where"] != os.getpid()
    assert type(output["fail"]) is PaymentError


async def whereabouts():
    return os.getpid()


# --- a workflow inside an async step ------------------------------------------------


def test_an_async_step_may_execute_a_workflow_with_async_steps():
    innermost = one(add_one)

    async def middle(value):
        return innermost.execute(value + 10).output

    async def outermost(value):
        return one(middle).execute(value + 100).output

    assert one(outermost).execute(0).output == 111


def test_an_async_task_may_execute_a_workflow_with_async_tasks():
    inner = one({"a": add_one, "b": add_one}, parallel=True)

    async def run_inner(value):
        return dict(inner.execute(value).output)

    outer = one({"x": run_inner, "y": run_inner}, parallel=True)
    inside = {"a": 2, "b": 2}
    assert outer.execute(1).output == {"x": inside, "y": inside}


def test_an_async_step_may_await_aexecute():
    inner = one(add_one)

    async def outer(value):
        return (await inner.aexecute(value)).output

    assert one(outer).execute(1).output == 2


def test_an_async_step_on_the_callers_loop_may_execute_a_workflow_with_async_steps():
    inner = one(add_one)

    async def outer(value):
        return inner.execute(value).output

    async def main():
        return await one(outer).aexecute(1)

    assert asyncio.run(main()).output == 2


# --- aexecute -----------------------------------------------------------------------


def test_aexecute_gives_the_execution():
    async def main():
        return await one(add_one).aexecute(1)

    execution = asyncio.run(main())
    assert type(execution) is Execution
    assert (execution.status, execution.output) == (Status.COMPLETED, 2)


@pytest.mark.parametrize("executor", [None, "inline", "thread"])
def test_aexecute_runs_async_steps_on_the_callers_loop(executor):
    async def which():
        return asyncio.get_running_loop()

    async def main():
        execution = await one(which, executor=executor).aexecute()
        return execution.output is asyncio.get_running_loop()

    assert asyncio.run(main())


def test_aexecute_runs_async_steps_of_a_nested_workflow_on_the_callers_loop():
    async def which():
        return asyncio.get_running_loop()

    async def main():
        execution = await one(one(which)).aexecute()
        return execution.output is asyncio.get_running_loop()

    assert asyncio.run(main())


def test_aexecute_does_not_block_the_loop():
    called = threading.Event()

    async def main():
        asyncio.get_running_loop().call_soon(called.set)
        return await one(lambda: called.wait(30)).aexecute()

    assert asyncio.run(main()).output is True


def test_aexecute_runs_plain_steps_outside_the_loops_thread():
    async def main():
        return await one(threading.current_thread).aexecute()

    assert asyncio.run(main()).output is not threading.current_thread()


@pytest.mark.parametrize("func", [request.get, read_request])
@pytest.mark.parametrize("executor", [None, "inline", "thread"])
def test_aexecute_keeps_context_variables(func, executor):
    def read():
        return func()

    async def main():
        request.set("GET /cart")
        step = func if func is read_request else read
        return await one(step, executor=executor).aexecute()

    assert asyncio.run(main()).output == "GET /cart"


def test_each_aexecute_keeps_the_context_variables_of_its_own_caller():
    async def handle(name):
        request.set(name)
        tasks = {"plain": lambda: request.get(), "async": read_request}
        workflow = one(tasks, parallel=True)
        return (await workflow.aexecute()).output

    async def main():
        return await asyncio.gather(*(handle(f"user {n}") for n in range(10)))

    expected = [{"plain": f"user {n}", "async": f"user {n}"} for n in range(10)]
    assert asyncio.run(main()) == expected


def test_aexecute_raises_what_execute_raises():
    async def main():
        await one(decline).aexecute()

    with pytest.raises(StepExecutionError) as caught:
        asyncio.run(main())
    error = caught.value
    assert str(error) == "step 'Call' of 'Shop' failed: PaymentError: no money"
    assert error.execution.status is Status.FAILED


def test_aexecute_takes_check_and_executor():
    async def main(**arguments):
        workflow = one({"a": decline}, parallel=True, on_failure="Tell")
        await workflow.add_step("Tell", repr).aexecute(**arguments)

    asyncio.run(main(executor="inline"))
    with pytest.raises(StepExecutionError):
        asyncio.run(main(check=True))


def test_many_executions_run_side_by_side_on_one_loop():
    async def main():
        everybody = asyncio.Barrier(50)

        async def meet(value):
            await everybody.wait()
            return value * 2

        workflow = one(meet)
        return await asyncio.gather(*(workflow.aexecute(n) for n in range(50)))

    executions = asyncio.run(main())
    assert [execution.output for execution in executions] == [n * 2 for n in range(50)]
    assert len({execution.id for execution in executions}) == 50


def test_many_executions_of_plain_steps_run_side_by_side():
    everybody = threading.Barrier(50)

    def meet(value):
        everybody.wait(30)
        return value * 2

    async def main():
        workflow = one(meet)
        return await asyncio.gather(*(workflow.aexecute(n) for n in range(50)))

    executions = asyncio.run(main())
    assert [execution.output for execution in executions] == [n * 2 for n in range(50)]


# --- cancelling ---------------------------------------------------------------------


async def cancelled_in(workflow, begun):
    task = asyncio.create_task(workflow.aexecute())
    await asyncio.to_thread(begun.wait, 30)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def wait_to_be_told(value, context):
    pause = threading.Event()
    while not context.cancelled:
        pause.wait(0.002)


def beginning(begun):
    def begin(value, context):
        begun.set()
        wait_to_be_told(value, context)

    return begin


def test_cancelling_the_awaiting_task_cancels_the_execution():
    begun, ran = threading.Event(), []
    workflow = one(beginning(begun), next_step="After", on_failure="Tell")
    workflow.add_step("After", ran.append).add_step("Tell", ran.append)
    asyncio.run(cancelled_in(workflow, begun))
    assert workflow.status is Status.CANCELLED
    assert ran == []


def test_an_execution_that_is_cancelled_in_its_last_step_is_cancelled():
    begun = threading.Event()
    workflow = one(beginning(begun))
    asyncio.run(cancelled_in(workflow, begun))
    assert workflow.status is Status.CANCELLED


def test_cancelling_the_awaiting_task_ends_a_pause_between_attempts():
    begun = threading.Event()

    def work():
        begun.set()
        raise ConnectionError("again")

    retry = RetryPolicy(max_attempts=3, interval=3600, jitter=None)
    workflow = one(work, retry=retry)
    asyncio.run(cancelled_in(workflow, begun))
    assert workflow.status is Status.CANCELLED


@pytest.mark.parametrize("executor", [None, "thread"])
def test_cancelling_the_awaiting_task_cancels_the_coroutine_that_it_runs(executor):
    async def main():
        begun, released = asyncio.Event(), asyncio.Event()
        seen = []

        async def work():
            begun.set()
            try:
                await released.wait()
            except asyncio.CancelledError:
                seen.append("cancelled")
                raise

        workflow = one(work, executor=executor)
        task = asyncio.create_task(workflow.aexecute())
        await begun.wait()
        task.cancel()
        # Without a cancellation the coroutine would wait for ever.
        await asyncio.wait([task], timeout=5)
        released.set()
        await asyncio.wait([task])
        return seen, workflow.status

    assert asyncio.run(main()) == (["cancelled"], Status.CANCELLED)


@pytest.mark.parametrize("attempt", range(3))  # it depends on the order of threads
def test_a_coroutine_that_is_cancelled_before_its_first_step_ends_too(attempt):
    blocked, release, begun = (threading.Event() for _ in range(3))

    async def block_the_loop(value):
        blocked.set()
        release.wait()

    tasks = {"block": block_the_loop, "late": add_one, "last": lambda _: begun.set()}
    workflow = StepFunction("W").add_step("All", tasks, parallel=True)
    execution = workflow.set_start_step("All").start(1)
    blocked.wait()
    begun.wait()
    execution.cancel()
    release.set()
    assert execution.wait(30)
    assert execution.status is Status.CANCELLED


def test_aexecute_cancelled_by_a_timeout_raises_the_timeout():
    async def main():
        # The step is told, and gives up by itself.
        async with asyncio.timeout(0.05):
            await one(wait_to_be_told).aexecute()

    with pytest.raises(TimeoutError):
        asyncio.run(main())


# --- shield -------------------------------------------------------------------------


def left_by_its_caller(workflow, begun):
    """Run a workflow under a shield, and cancel the task that awaits it."""

    async def main():
        task = asyncio.create_task(workflow.aexecute(1, shield=True))
        await asyncio.to_thread(begun.wait)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert workflow.status is Status.RUNNING

    return main()


def test_under_a_shield_an_execution_goes_on_when_its_caller_is_cancelled():
    begun, release, ended = (threading.Event() for _ in range(3))

    def work(value):
        begun.set()
        release.wait()
        return value

    workflow = one(work, next_step="After")
    workflow.add_step("After", lambda value: ended.set())
    asyncio.run(left_by_its_caller(workflow, begun))
    release.set()
    assert ended.wait(30)


def test_under_a_shield_coroutines_run_after_the_callers_loop_is_closed():
    begun, release, ended = (threading.Event() for _ in range(3))

    def work(value):
        begun.set()
        release.wait()

    async def finish(value):
        ended.set()

    workflow = one(work, next_step="After").add_step("After", finish)
    asyncio.run(left_by_its_caller(workflow, begun))
    release.set()
    assert ended.wait(30)


def test_a_coroutine_whose_loop_is_closed_under_it_fails():
    begun = threading.Event()

    async def work(value):
        begun.set()
        await asyncio.Event().wait()

    told = []
    workflow = one(work, on_failure="Tell").add_step("Tell", repr)
    loop = asyncio.new_event_loop()
    running = workflow.aexecute(1, shield=True, listeners=[told.append])
    task = loop.create_task(running)
    loop.run_until_complete(asyncio.to_thread(begun.wait))
    task.cancel()
    loop.run_until_complete(asyncio.wait([task]))
    loop.run_until_complete(loop.shutdown_default_executor())
    loop.close()
    execution = told[0].execution
    assert execution.wait(30)
    assert "the event loop was closed before its end" in execution.output


def test_an_execution_under_a_shield_ends_with_the_program():
    code = """
import asyncio, sys, threading
from stepfunction import StepFunction
begun = threading.Event()
def work(value, context):
    begun.set()
    context.sleep(60)
workflow = StepFunction("W").add_step("A", work, on_failure="B")
workflow.add_step("B", print).set_start_step("A")
async def main():
    task = asyncio.create_task(workflow.aexecute(1, shield=True))
    await asyncio.to_thread(begun.wait)
    task.cancel()
asyncio.run(main())
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=30)


# --- what could hang ----------------------------------------------------------------

EXITING = """
import asyncio, sys
from stepfunction import StepFunction

async def leave():
    sys.exit(3)

async def stay():
    return "stayed"

def one(func):
    return StepFunction("Shop").add_step("Call", func).set_start_step("Call")

try:
    one(leave).execute()
except SystemExit as error:
    print("left with", error.code)
print(one(stay).execute().output)
"""


def test_an_async_step_that_exits_does_not_hang_its_caller_or_later_steps():
    ended = subprocess.run(
        [sys.executable, "-c", EXITING],
        capture_output=True,
        text=True,
        timeout=10,
    )
    assert ended.stdout == "left with 3\nstayed\n"
    assert ended.stderr == ""
