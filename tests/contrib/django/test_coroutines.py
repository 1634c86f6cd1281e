from __future__ import annotations

import asyncio
import threading
from contextvars import ContextVar

import pytest
from django.db import connections, transaction
from django.utils import translation
from shared.django_shop import both, fan_out
from shop import steps
from shop.models import Car

from stepfunction import Outcome, RetryPolicy, Status, StepFunction

marked = ContextVar("marked", default="not")


def one(function, **options):
    return StepFunction("One").add_step("One", function, **options).set_start_step(
        "One"
    )


@pytest.mark.parametrize("executor", [None, "thread"])
def test_an_async_step_uses_the_orm_on_the_thread_of_its_step(
    tables, alias, closed, executor
):
    async def count(_):
        here = threading.get_ident()
        found = await Car.objects.using(alias).acount()
        return found, here

    execution = one(count, executor=executor).execute()
    assert execution.output[0] == 0
    if executor is None:
        assert connections[alias].connection is not None
        assert closed == []
    else:
        assert len(closed) == 1


def test_an_async_step_in_a_process_uses_the_test_database(tables, alias):
    Car.objects.using(alias).create(name="Roadster")
    workflow = one(steps.count_cars_async, executor="process")
    assert workflow.execute(alias).output[0] == 1


def test_async_steps_are_part_of_the_callers_transaction(tables, alias):
    async def add(_):
        await Car.objects.using(alias).acreate(name="Roadster")

    async def count(_):
        return await Car.objects.using(alias).acount()

    workflow = StepFunction("Add").add_step("Add", add, "Count")
    workflow.add_step("Count", count).set_start_step("Add")
    with transaction.atomic(alias):
        assert workflow.execute().output == 1
        transaction.set_rollback(True, using=alias)
    assert Car.objects.using(alias).count() == 0


def test_an_async_attempt_has_a_savepoint(tables, alias):
    async def add(_, context):
        await Car.objects.using(alias).acreate(name="Roadster")
        if context.attempt == 1:
            await Car.objects.using(alias).acreate(name="Roadster")

    workflow = one(add, retry=RetryPolicy(interval=0))
    with transaction.atomic(alias):
        assert workflow.execute().status is Status.COMPLETED
    assert Car.objects.using(alias).count() == 1


def test_aexecute_runs_async_steps_on_the_callers_loop(tables, alias, closed):
    async def ask(_):
        return asyncio.get_running_loop(), await Car.objects.using(alias).acount()

    async def main():
        execution = await one(ask).aexecute()
        return asyncio.get_running_loop(), execution.output

    loop, (found, count) = asyncio.run(main())
    assert found is loop
    assert count == 0
    assert len(closed) == 1  # of the workflow's own thread


def test_aexecute_runs_async_tasks_side_by_side_on_the_callers_loop(tables, alias):
    met = []

    async def meet(_):
        await Car.objects.using(alias).acount()
        met.append(1)
        while len(met) < 2:
            await asyncio.sleep(0.001)
        return asyncio.get_running_loop()

    async def main():
        execution = await both(meet).aexecute()
        return asyncio.get_running_loop(), execution.output

    loop, output = asyncio.run(main())
    assert output == {"t0": loop, "t1": loop}


def test_an_async_step_has_language_and_context_variables():
    async def tell(_):
        await asyncio.sleep(0)
        return translation.get_language(), marked.get()

    async def main():
        with translation.override("de"):
            marked.set("yes")
            return (await both(tell).aexecute()).output, (
                await one(tell).aexecute()
            ).output

    told, alone = asyncio.run(main())
    assert set(told.values()) == {("de", "yes")} == {alone}
    with translation.override("de"):
        marked.set("yes")
        assert one(tell).execute().output == ("de", "yes")


def test_what_an_async_step_sets_stays_with_it():
    async def mark(_):
        marked.set("by the step")

    marked.set("before")
    one(mark).execute()
    assert marked.get() == "before"


def test_an_async_step_is_cancelled_at_its_time_limit(tables):
    ended = threading.Event()

    async def hang(_):
        try:
            await asyncio.sleep(60)
        finally:
            ended.set()

    workflow = fan_out(hang, timeout=0.05, tolerated_failures=1)
    execution = workflow.execute()
    assert [it.outcome for it in execution.failures] == [Outcome.ABANDONED]
    assert ended.wait(10)


@pytest.mark.parametrize("is_apart", [False, True])
def test_an_async_step_is_cancelled_with_its_execution(tables, is_apart):
    begun, ended = threading.Event(), threading.Event()

    async def hang(_):
        try:
            begun.set()
            await asyncio.sleep(60)
        finally:
            ended.set()

    execution = one(hang, executor="thread" if is_apart else None).start()
    assert begun.wait(10)
    execution.cancel()
    assert execution.wait(10)
    assert execution.status is Status.CANCELLED
    assert ended.wait(10)


def test_an_async_step_may_execute_a_workflow_itself(tables, alias):
    async def inner(_):
        return await Car.objects.using(alias).acount()

    async def outer(_):
        return one(inner).execute().output  # which blocks its loop

    assert one(outer).execute().output == 0


def test_an_interrupt_reaches_an_async_step():
    async def interrupt(_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        one(interrupt).execute()


def test_execute_in_an_async_function_uses_the_orm_in_async_steps(tables):
    async def count(_):
        return await Car.objects.acount()

    async def main():
        return one(count).execute().output

    assert asyncio.run(main()) == 0


@pytest.mark.parametrize("how", ["hangs", "insists", "queries"])
def test_an_async_step_ends_when_its_loop_is_closed(tables, how):
    begun, ended = threading.Event(), threading.Event()

    async def hang(_):
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()
            if how == "insists":
                await asyncio.sleep(60)
            elif how == "queries":
                await Car.objects.acount()

    loop = asyncio.new_event_loop()
    told = []
    workflow = StepFunction("One", listeners=[told.append])
    workflow.add_step("One", hang).set_start_step("One")
    left = loop.create_task(workflow.aexecute())
    while not begun.is_set():
        loop.run_until_complete(asyncio.sleep(0.001))
    loop.close()
    execution = told[0].execution
    assert execution.wait(20)
    assert ended.is_set()
    assert execution.status is Status.FAILED
    assert "closed" in str(execution.error)
    left.get_coro().close()  # as nobody else does
    left._log_destroy_pending = False


def test_an_async_step_ends_when_its_loop_is_closed_before_it_begins(tables):
    begun, waits = threading.Event(), threading.Event()

    def first(_):
        begun.set()
        assert waits.wait(20)

    async def second(_):
        return await Car.objects.acount()

    loop = asyncio.new_event_loop()
    told = []
    workflow = StepFunction("Two", listeners=[told.append])
    workflow.add_step("First", first, "Second").add_step("Second", second)
    left = loop.create_task(workflow.set_start_step("First").aexecute())
    while not begun.is_set():
        loop.run_until_complete(asyncio.sleep(0.001))
    loop.call_soon_threadsafe = lambda *_, **__: None  # it never comes to that
    waits.set()
    execution = told[0].execution
    while execution.context.get("First", "") is not None:
        assert not execution.wait(0.001)
    loop.close()
    assert execution.wait(20)
    assert "closed" in str(execution.error)
    left.get_coro().close()
    left._log_destroy_pending = False
