"""Executors of one's own that make calls in this process, whatever class they are."""

from __future__ import annotations

import signal
import threading
from collections import Counter
from concurrent.futures import CancelledError, Executor, Future, ThreadPoolExecutor
from contextvars import ContextVar

import pytest
from shared.maps import ONCE_MORE, mapped, tasks_of

from stepfunction import ExecutionTimeoutError, Outcome, RetryPolicy, StepFunction

tenant = ContextVar("tenant", default="none")


class Here(Executor):
    """Makes each call as it is submitted."""

    def submit(self, fn, /, *args, **kwargs):
        future = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:
            future.set_exception(error)
        return future


class Greedy(Here):
    """Keeps to itself whatever a call raises, also an interrupt."""

    def submit(self, fn, /, *args, **kwargs):
        future = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except BaseException as error:
            future.set_exception(error)
        return future


class Lazy(Executor):
    """Makes each call when somebody asks for its result."""

    def submit(self, fn, /, *args, **kwargs):
        return LazyFuture(lambda: fn(*args, **kwargs))


class LazyFuture(Future):
    def __init__(self, call):
        super().__init__()
        self.call = call

    def result(self, timeout=None):
        if not self.done():
            self.set_result(self.call())
        return super().result()


class Laziest(Lazy):
    """Knows of results alone."""

    def submit(self, fn, /, *args, **kwargs):
        return LaziestFuture(lambda: fn(*args, **kwargs))


class LaziestFuture(LazyFuture):
    def result(self):
        return self.call()


class Wrapped(Executor):
    """Has threads of which nobody can tell how many they are."""

    def __init__(self):
        self.within = ThreadPoolExecutor(2)

    def submit(self, fn, /, *args, **kwargs):
        return self.within.submit(fn, *args, **kwargs)


class Uncertain(Wrapped):
    """Gives futures that can be cancelled while their calls are being made."""

    def submit(self, fn, /, *args, **kwargs):
        future = Future()

        def work():
            result = fn(*args, **kwargs)
            if not future.cancelled():
                future.set_result(result)

        self.within.submit(work)
        return future


class Twice(Wrapped):
    """Makes each call a second time, to be certain."""

    def submit(self, fn, /, *args, **kwargs):
        def work():
            fn(*args, **kwargs)
            return fn(*args, **kwargs)

        return self.within.submit(work)


class Own(ThreadPoolExecutor):
    """A pool of threads that uses none."""

    submit = Here.submit


ALL = [Here, Greedy, Lazy, Laziest, Wrapped, Uncertain, Twice, Own]


@pytest.fixture(params=ALL, ids=lambda kind: kind.__name__)
def executor(request):
    executor = request.param(*([1] if request.param is Own else []))
    yield executor
    if isinstance(executor, Wrapped):
        executor.within.shutdown()


@pytest.mark.parametrize("batch_size", [1, 2, 100])
def test_each_item_is_called_once(executor, batch_size):
    calls = []

    def work(item):
        calls.append(item)
        assert len(calls) < 100
        return item + 1

    workflow = mapped(work, executor=executor, batch_size=batch_size)
    assert workflow.execute(range(30)).output == list(range(1, 31))
    assert sorted(calls) == list(range(30))


@pytest.mark.parametrize("batch_size", [1, 3])
def test_failures_and_attempts_are_those_of_each_item(executor, batch_size):
    calls = Counter()

    def work(item, context):
        calls[context.item] += 1
        if item % 3 == 0 and (item or context.attempt == 1):
            raise ConnectionError(item)
        return context.attempt

    workflow = mapped(work, executor=executor, batch_size=batch_size, retry=ONCE_MORE)
    execution = workflow.execute(range(7))
    assert execution.output.failed.keys() == {3, 6}
    assert execution.output[0] == 2
    assert calls == {0: 2, 1: 1, 2: 1, 3: 2, 4: 1, 5: 1, 6: 2}
    records = {record.item: record for record in tasks_of(execution)}
    assert [str(it.outcome) for it in records[3].attempts] == ["FAILED"] * 2


@pytest.mark.parametrize("batch_size", [1, 5])
def test_it_is_of_this_process_and_knows_its_execution(executor, batch_size):
    shared, workflow = [], StepFunction("W")
    workflow.add_step("First", lambda: 17, next_step="Map")

    def work(item, context):
        shared.append((item, context["First"], tenant.get()))
        tenant.set(f"item {item}")

    workflow.add_map_step(
        "Map", work, executor=executor, batch_size=batch_size, items=lambda _: range(5)
    )
    token = tenant.set("acme")
    try:
        workflow.set_start_step("First").execute()
        assert tenant.get() == "acme"
    finally:
        tenant.reset(token)
    assert sorted(shared) == [(item, 17, "acme") for item in range(5)]


@pytest.mark.parametrize("batch_size", [1, 4])
def test_no_more_is_called_once_one_has_failed_where_that_is_enough(batch_size):
    calls = []

    def work(item):
        calls.append(item)
        assert item != 5

    workflow = mapped(
        work, executor=Here(), batch_size=batch_size, stop_on_failure=True
    )
    with pytest.raises(Exception, match="1 of"):
        workflow.execute(range(1000))
    assert calls == list(range(6))


@pytest.mark.parametrize("kind", [Here, Greedy, Lazy, Own])
@pytest.mark.parametrize("batch_size", [1, 4])
def test_an_interrupt_of_the_calling_thread_is_raised_there(kind, batch_size):
    calls = []

    def work(item):
        calls.append(item)
        if item == 5:
            signal.raise_signal(signal.SIGINT)

    executor = kind(*([1] if kind is Own else []))
    workflow = mapped(work, executor=executor, batch_size=batch_size)
    with pytest.raises(KeyboardInterrupt):
        workflow.execute(range(1000))
    assert calls == list(range(6))


@pytest.mark.parametrize("batch_size", [1, 10])
@pytest.mark.parametrize("kind", [Wrapped, Uncertain])
def test_what_is_under_way_is_told_to_stop_and_waited_for(kind, batch_size):
    executor, calls = kind(), []
    may_stop = threading.Event()

    def work(item, context):
        calls.append(item)
        if item == 0:
            may_stop.wait(20)
            raise ValueError
        may_stop.set()
        context.sleep(60)

    workflow = mapped(
        work, executor=executor, batch_size=batch_size, stop_on_failure=True
    )
    items = range(200) if batch_size == 1 else [0, *[1] * 400]
    try:
        with pytest.raises(Exception, match="1 of") as caught:
            workflow.execute(items)
    finally:
        executor.within.shutdown()
    assert len(calls) <= 3
    outcomes = {record.outcome for record in tasks_of(caught.value.execution)}
    assert outcomes <= {Outcome.FAILED, Outcome.CANCELLED}


def test_one_that_cancels_its_calls_itself_leaves_none_unfinished():
    class Closed(Here):
        def submit(self, fn, /, *args, **kwargs):
            future = Future()
            future.cancel()
            return future

    output = mapped(abs, executor=Closed(), batch_size=2).execute(range(4)).output
    assert {type(error) for error in output.failed.values()} == {CancelledError}
    assert len(output.failed) == 4


def test_a_generator_is_not_read_ahead_where_calls_are_made_at_once():
    taken, ahead = [], []

    def source():
        for item in range(100):
            taken.append(item)
            yield item

    def work(item):
        ahead.append(taken[-1] - item)

    mapped(work, executor=Here()).execute(source())
    assert set(ahead) == {0}


@pytest.mark.parametrize("kind", [Here, Lazy, Wrapped])
def test_a_second_attempt_does_not_wait_for_all_that_was_taken(kind):
    order, executor = [], kind()
    pause = threading.Event()

    def work(item, context):
        order.append(item)
        pause.wait(0.005)
        if item == 0 and context.attempt < 4:
            raise ConnectionError

    policy = RetryPolicy(max_attempts=4, interval=0)
    mapped(work, executor=executor, retry=policy).execute(range(200))
    places = [at for at, item in enumerate(order) if item == 0]
    assert len(places) == 4
    assert places[-1] <= 3 * 9


@pytest.mark.parametrize("kind", [Here, Lazy])
def test_a_timed_attempt_is_told_when_the_time_of_its_execution_is_over(kind):
    workflow = StepFunction("Wait")
    workflow.add_step(
        "Sleep",
        lambda value, context: context.sleep(60),
        executor=kind(),
        timeout=600,
    )
    workflow.set_start_step("Sleep")
    with pytest.raises(ExecutionTimeoutError) as caught:
        workflow.execute(timeout=0.1)
    (record,) = caught.value.execution.history
    assert record.outcome is Outcome.CANCELLED
    assert record.duration < 30
