from __future__ import annotations

import threading
import time
import tracemalloc
from concurrent.futures import ThreadPoolExecutor

import pytest
from shared.calls import double
from shared.failures import failure_of
from shared.maps import HERE, SIZES, Live, fail, mapped, threads_of

from stepfunction import ExecutionCancelledError, Outcome, RetryPolicy


@pytest.mark.parametrize("executor", [*HERE, "pool"])
@pytest.mark.parametrize(
    ("batch_size", "max_workers", "most"),
    [(1, None, 200), (10, None, 1000), (1000, 4, 7000)],
)
def test_a_generator_is_not_read_far_ahead(executor, batch_size, max_workers, most):
    taken, done = [], []
    furthest = []

    def source():
        for item in range(20 * most):
            taken.append(item)
            yield item

    def work(item):
        furthest.append(len(taken) - len(done))
        done.append(item)

    with ThreadPoolExecutor(2) as pool:
        place = pool if executor == "pool" else executor
        options = {"batch_size": batch_size, "max_workers": max_workers}
        mapped(work, executor=place, **options).execute(source())
    assert len(done) == 20 * most
    assert max(furthest) <= most


def test_no_more_is_taken_than_may_begin_where_a_failure_stops_the_rest():
    taken, has_begun = [], threading.Barrier(3, timeout=20)
    may_end = threading.Event()

    def source():
        for item in range(100):
            taken.append(item)
            yield item

    def work(item):
        has_begun.wait()
        assert may_end.wait(20)
        fail(item)

    workflow = mapped(work, max_workers=2, stop_on_failure=True)
    execution = workflow.start(source())
    has_begun.wait()
    may_end.set()
    assert execution.wait(20)
    assert taken == [0, 1]


@pytest.mark.parametrize("executor", HERE)
def test_a_generator_is_read_in_the_calling_thread(executor):
    threads = set()

    def source():
        for item in range(100):
            threads.add(threading.get_ident())
            yield item

    mapped(double, executor=executor).execute(source())
    assert threads == {threading.get_ident()}


def test_items_are_worked_on_while_the_source_takes_its_time():
    has_ended = threading.Semaphore(0)

    def source():
        for item in range(5):
            yield item
            assert has_ended.acquire(timeout=20)

    def work(item):
        has_ended.release()
        return item

    assert mapped(work).execute(source()).output == [0, 1, 2, 3, 4]


def test_all_that_was_taken_is_worked_on_at_once_while_the_source_takes_its_time():
    together, have_met = threading.Barrier(8), threading.Event()

    def source():
        yield from range(8)
        assert have_met.wait(timeout=20)

    def meet(item):
        together.wait(timeout=20)
        have_met.set()
        return item

    assert mapped(meet).execute(source()).output == [*range(8)]


@pytest.mark.parametrize("executor", HERE)
def test_items_may_come_of_earlier_items(executor):
    found = [1]

    def source():
        while found:
            yield found.pop()
            end = time.monotonic() + 20
            while seen[-1] < 20 and not found and executor == "thread":
                assert time.monotonic() < end
                time.sleep(0.001)

    seen = [0]

    def work(item):
        seen.append(item)
        if item < 20:
            found.append(item + 1)
        return item

    output = mapped(work, executor=executor).execute(source()).output
    assert output == list(range(1, 21))


def test_a_slow_source_does_not_hold_up_cancelling():
    live, taken = Live(), []

    def source():
        for item in range(1000):
            taken.append(item)
            time.sleep(0.002)
            if item == 5:
                live.execution.cancel()
            yield item

    with pytest.raises(ExecutionCancelledError):
        mapped(double).execute(source(), listeners=[live])
    assert len(taken) < 20


def test_items_whose_retries_pause_are_not_read_without_end():
    taken = []

    def source():
        for item in range(20_000):
            taken.append(item)
            yield item

    policy = RetryPolicy(max_attempts=2, interval=3600, jitter=None)
    execution = mapped(fail, executor="inline", retry=policy).start(source())
    before = -1
    while len(taken) < 1000 or len(taken) > before:
        before = len(taken)
        time.sleep(0.1)
    execution.cancel()
    assert execution.wait(30)
    assert len(taken) < 1100


def test_a_million_items_need_no_memory_that_grows_with_them():
    workflow = mapped(abs, keep_results=False, batch_size=1000)
    workflow.execute(range(1000))
    tracemalloc.start()
    try:
        output = workflow.execute(iter(range(10**7, 10**7 + 10**6))).output
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert output == {Outcome.SUCCEEDED: 1_000_000}
    assert peak < 10_000_000  # where the items alone would be 40 MB


def test_items_alone_need_no_memory_that_grows_with_them():
    def peak(count):
        workflow = mapped(len, keep_results=False)
        tracemalloc.start()
        try:
            workflow.execute(bytes(10_000) for _ in range(count))
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    assert peak(6000) < 1.5 * peak(2000)


@pytest.mark.parametrize("executor", HERE)
@pytest.mark.parametrize("batch_size", SIZES)
def test_the_step_fails_with_what_the_source_raises(executor, batch_size):
    def source():
        yield from range(5)
        raise OSError("no more lines")

    workflow = mapped(double, executor=executor, batch_size=batch_size)
    error = failure_of(workflow, source())
    assert isinstance(error.__cause__, OSError)
    assert "step 'Map' of 'Work' failed: OSError: no more lines" in str(error)
    assert error.execution.history[0].outcome is Outcome.FAILED


def test_when_the_source_raises_the_others_are_told_and_waited_for():
    began, told = threading.Event(), []

    def source():
        yield 0
        yield 1
        assert began.wait(20)
        raise OSError("no more lines")

    def work(item, context):
        began.set()
        while not context.cancelled:
            time.sleep(0.001)
        time.sleep(0.02)
        told.append(item)

    failure_of(mapped(work), source())
    assert 1 <= len(told) <= 2
    assert not threads_of("Map")


def test_what_items_gives_is_let_go_when_the_step_has_stopped():
    closed = []

    def source(_):
        try:
            yield from range(1000)
        finally:
            closed.append(True)

    workflow = mapped(fail, items=source, stop_on_failure=True, on_failure="After")
    workflow.add_step("After", lambda error: list(closed))
    assert workflow.execute().output == [True]
