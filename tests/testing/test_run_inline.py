from __future__ import annotations

import asyncio
import logging
import os
from threading import get_ident

import pytest
from shared.processes import pid

from stepfunction import Status, StepFunction
from stepfunction.testing import run_inline


def workflow_of(function, **options):
    workflow = StepFunction("Where")
    workflow.add_parallel_step("Both", {"a": function, "b": function}, **options)
    return workflow.set_start_step("Both")


@pytest.mark.parametrize("executor", ["thread", "process"])
def test_tasks_run_in_the_thread_that_executes_them(executor):
    with run_inline():
        execution = workflow_of(pid, executor=executor).execute()
    assert execution.output == {"a": os.getpid(), "b": os.getpid()}


def test_limits_are_not_warned_of(caplog):
    with run_inline(), caplog.at_level(logging.WARNING):
        workflow_of(pid, timeout=1).execute()
    assert caplog.records == []


def test_it_ends_with_the_block():
    workflow = workflow_of(lambda _: get_ident())
    with run_inline():
        assert workflow.execute().output["a"] == get_ident()
    assert workflow.execute().output["a"] != get_ident()


def test_what_is_started_has_ended():
    workflow = StepFunction("Tell").add_step("Tell", lambda _: get_ident())
    with run_inline():
        execution = workflow.set_start_step("Tell").start()
    assert execution.status is Status.COMPLETED
    assert execution.output == get_ident()


def test_the_tasks_of_what_is_awaited_run_in_its_thread():
    outer = StepFunction("Outer").add_step("First", lambda _: get_ident(), "Both")
    tasks = {"a": lambda thread: thread == get_ident()}
    outer.add_parallel_step("Both", tasks).set_start_step("First")

    async def main():
        with run_inline():
            return await outer.aexecute()

    assert asyncio.run(main()).output == {"a": True}
