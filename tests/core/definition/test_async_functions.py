from __future__ import annotations

import asyncio
import gc
import sys
import threading
from functools import partial
from types import ModuleType
from unittest.mock import AsyncMock, create_autospec

import pytest
from shared.called import GIVEN, output_of, workflow_of, wrapped

from stepfunction import Outcome, StepExecutionError

# --- async def ----------------------------------------------------------------------


async def fetch(value):
    await asyncio.sleep(0)
    return "fetched", value


async def fetch_with_context(value, context):
    await asyncio.sleep(0)
    return value, context.step


async def fetch_nothing():
    return "nothing"


async def fetch_pair(first, second):
    return first, second


class Fetcher:
    async def __call__(self, value):
        await asyncio.sleep(0)
        return "fetched", value

    async def method(self, value):
        return "fetched", value

    @classmethod
    async def of(cls, value):
        return "fetched", value

    @staticmethod
    async def same(value):
        return "fetched", value


ASYNC_FUNCTIONS = [
    (fetch, ("fetched", GIVEN)),
    (fetch_nothing, "nothing"),
    (fetch_with_context, (GIVEN, "A")),
    (Fetcher(), ("fetched", GIVEN)),
    (Fetcher().method, ("fetched", GIVEN)),
    (Fetcher.of, ("fetched", GIVEN)),
    (Fetcher.same, ("fetched", GIVEN)),
    (partial(fetch), ("fetched", GIVEN)),
    (partial(fetch, "bound"), ("fetched", "bound")),
    (partial(fetch_pair, second=2), (GIVEN, 2)),
    (partial(partial(fetch)), ("fetched", GIVEN)),
    (partial(Fetcher()), ("fetched", GIVEN)),
    (partial(Fetcher().method), ("fetched", GIVEN)),
    (AsyncMock(return_value="mocked"), "mocked"),
    (partial(AsyncMock(return_value="mocked")), "mocked"),
    (AsyncMock(spec=fetch, return_value="mocked"), "mocked"),
    (create_autospec(fetch, return_value="mocked"), "mocked"),
]


@pytest.mark.parametrize("function, output", ASYNC_FUNCTIONS)
def test_an_async_function_runs_to_its_end(function, output):
    assert output_of(function) == output


@pytest.mark.parametrize("function, output", ASYNC_FUNCTIONS)
def test_an_async_function_may_be_a_task(function, output):
    assert output_of({"T": function}, parallel=True) == {"T": output}


def test_an_async_function_runs_on_a_thread_that_is_not_the_callers():
    async def name_of_thread():
        return threading.current_thread()

    assert output_of(name_of_thread) is not threading.current_thread()


def test_an_async_function_runs_where_the_caller_has_a_loop_of_its_own():
    async def main():
        return output_of(fetch)

    assert asyncio.run(main()) == ("fetched", GIVEN)


def test_under_aexecute_an_async_function_runs_on_the_callers_loop():
    async def loop_of_step():
        return asyncio.get_running_loop()

    async def main():
        execution = await workflow_of(loop_of_step).aexecute()
        return execution.output is asyncio.get_running_loop()

    assert asyncio.run(main())


def test_the_failure_of_an_async_function_is_its_steps():
    error = ValueError("no such page")

    async def fails(value):
        raise error

    with pytest.raises(StepExecutionError) as raised:
        workflow_of(fails).execute()

    assert raised.value.__cause__ is error


# --- coroutines that nobody expects -------------------------------------------------


def returns_coroutine(value):
    return fetch(value)


class ReturnsCoroutine:
    def __call__(self, value):
        return fetch(value)


@pytest.fixture
def unraisable(monkeypatch):
    seen = []
    monkeypatch.setattr("sys.unraisablehook", seen.append)
    return seen


STRAYS = pytest.mark.parametrize(
    "function, name",
    [
        (returns_coroutine, "returns_coroutine"),
        (partial(returns_coroutine), "returns_coroutine"),
        (ReturnsCoroutine(), "ReturnsCoroutine"),
        (wrapped(fetch), "fetch"),
    ],
)


@STRAYS
@pytest.mark.parametrize("executor", [None, "inline", "thread"])
def test_a_plain_function_that_returns_a_coroutine_fails_its_step(
    function, name, executor, recwarn, unraisable
):
    with pytest.raises(StepExecutionError) as raised:
        workflow_of(function, executor=executor).execute()

    assert type(raised.value.__cause__) is TypeError
    assert str(raised.value.__cause__) == (
        f"{name} is a plain function but returned a coroutine; define it with "
        "'async def', or await inside it and return the result"
    )
    gc.collect()
    assert not recwarn.list and not unraisable


@STRAYS
def test_a_task_that_returns_a_coroutine_fails(function, name, recwarn, unraisable):
    execution = workflow_of({"T": function}, parallel=True).execute()

    (failure,) = execution.failures
    assert (failure.task, failure.outcome) == ("T", Outcome.FAILED)
    assert str(failure.error) == (
        f"{name} is a plain function but returned a coroutine; define it with "
        "'async def', or await inside it and return the result"
    )
    gc.collect()
    assert not recwarn.list and not unraisable


def test_a_step_is_added_while_another_thread_imports_asyncio(monkeypatch):
    monkeypatch.setitem(sys.modules, "asyncio", ModuleType("asyncio"))

    assert workflow_of(str).execute(3).output == "3"
