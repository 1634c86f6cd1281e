"""Context variables: each item has a copy of the caller's, however it travels."""

from __future__ import annotations

import decimal
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from contextvars import ContextVar, copy_context
from multiprocessing import get_context

import pytest
from shared.maps import HERE, mapped

from stepfunction import ProcessLanes

tenant = ContextVar("tenant", default="none")
other = ContextVar("other")


class Here(Executor):
    """An executor that makes calls as they are submitted."""

    def submit(self, fn, /, *args, **kwargs):
        future = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:
            future.set_exception(error)
        return future


@pytest.fixture(params=[*HERE, "pool", "here"])
def executor(request):
    if request.param == "pool":
        with ThreadPoolExecutor(1) as pool:
            yield pool
    else:
        yield Here() if request.param == "here" else request.param


class AlwaysEqual:
    def __eq__(self, other):
        return True

    __hash__ = None


@pytest.mark.parametrize("is_set", [False, True])
@pytest.mark.parametrize("batch_size", [1, 3, 100])
def test_what_an_item_sets_is_gone_for_the_next(executor, batch_size, is_set):
    value = AlwaysEqual()

    def work(item):
        seen = tenant.get()
        if item % 2:
            tenant.set(AlwaysEqual())
        elif item % 5 == 0:
            other.set(item)
            raise ValueError(seen, other.get())
        return seen is (value if is_set else "none"), other.get(None)

    def run():
        if is_set:
            tenant.set(value)
        workflow = mapped(work, executor=executor, batch_size=batch_size)
        output = workflow.execute(range(20)).output
        assert tenant.get() is (value if is_set else "none")
        return output

    output = copy_context().run(run)
    assert sorted(output.failed) == [0, 10]
    good = [it for at, it in enumerate(output) if at not in output.failed]
    assert good == [(True, None)] * 18


def test_what_is_set_and_taken_back_is_no_trouble(executor):
    def work(item):
        token = tenant.set(item)
        try:
            return tenant.get()
        finally:
            tenant.reset(token)

    workflow = mapped(work, executor=executor, batch_size=10)
    assert workflow.execute(range(20)).output == list(range(20))


def spoil_arithmetic(item):
    before = decimal.getcontext().prec
    decimal.getcontext().prec = 3
    return before


@pytest.mark.parametrize("batch_size", [1, 10])
def test_the_precision_of_decimal_is_that_of_the_caller(executor, batch_size):
    def run():
        decimal.setcontext(decimal.Context(prec=17))
        workflow = mapped(spoil_arithmetic, executor=executor, batch_size=batch_size)
        output = workflow.execute(range(20)).output
        assert decimal.getcontext().prec == 17
        return output

    assert copy_context().run(run) == [17] * 20


@pytest.mark.parametrize("batch_size", [1, 10])
@pytest.mark.parametrize("kind", [ProcessLanes, ProcessPoolExecutor])
def test_in_processes_each_item_begins_with_what_there_is(kind, batch_size):
    context = {} if kind is ProcessLanes else {"mp_context": get_context("forkserver")}
    with kind(1, **context) as executor:
        for func, expected in ((spoil_arithmetic, 28), (spoil_tenant, "none")):
            workflow = mapped(func, executor=executor, batch_size=batch_size)
            assert workflow.execute(range(20)).output == [expected] * 20
            assert workflow.execute(range(20)).output == [expected] * 20


def spoil_tenant(item):
    before = tenant.get()
    tenant.set(f"item {item}")
    return before
