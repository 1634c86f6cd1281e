from __future__ import annotations

import asyncio
import gc
import pickle
import signal
import threading
import time
import tracemalloc
import weakref
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar

import pytest
import tenacity

from stepfunction import (
    DefinitionError,
    ExecutionCancelledError,
    ExecutionTimeoutError,
    Outcome,
    ParallelStepExecutionError,
    RetryPolicy,
    Status,
    StepExecutionError,
    StepFunction,
    StepTimeoutError,
)

ONCE_MORE = RetryPolicy(max_attempts=2, interval=0)
HERE = ["inline", "thread"]
SIZES = [1, 3]
letter = ContextVar("letter", default="none")


def mapped(func, next_step=None, **options):
    workflow = StepFunction("Work")
    workflow.add_map_step("Map", func, next_step=next_step, **options)
    return workflow.set_start_step("Map")


async def later(value):
    return [value]


def lines_of(order):
    for line in order:
        yield line["n"]


def double(value):
    return value * 2


def fail(value):
    raise ValueError(f"cannot take {value}")


def fail_at_threes(value):
    return fail(value) if value % 3 == 0 else value


def who(value, context):
    return context.step, context.task, context.attempt


def fail_at_first(value, context):
    if context.attempt == 1:
        raise ConnectionError(context.task)
    return context.attempt


def tasks_of(execution):
    return [record for record in execution.history if record.task is not None]


def outcomes_of(execution):
    return {record.task: str(record.outcome) for record in tasks_of(execution)}


def failure_of(workflow, value, **options):
    with pytest.raises(StepExecutionError) as caught:
        workflow.execute(value, **options)
    return caught.value


class Live:
    """Knows the execution as soon as it has begun."""

    def __init__(self):
        self.execution = None
        self.events = []

    def __call__(self, event):
        self.execution = self.execution or event.execution
        self.events.append(event)

    def of_kind(self, *kinds):
        return [event for event in self.events if event.kind in kinds]


# --- output ---------------------------------------------------------------------


@pytest.mark.parametrize("executor", HERE)
@pytest.mark.parametrize("batch_size", [1, 2, 7, 100])
def test_the_output_is_in_the_order_of_the_items(executor, batch_size):
    workflow = mapped(double, executor=executor, batch_size=batch_size)
    assert workflow.execute(range(20)).output == [2 * i for i in range(20)]


def test_the_order_is_not_that_in_which_items_end():
    second_has_ended = threading.Event()

    def work(item):
        if item == 0:
            assert second_has_ended.wait(20)
        else:
            second_has_ended.set()
        return item

    assert mapped(work).execute([0, 1]).output == [0, 1]


@pytest.mark.parametrize("batch_size", SIZES)
@pytest.mark.parametrize("items", [[], (), set(), iter([]), range(0)])
def test_without_items_the_output_is_empty(items, batch_size):
    execution = mapped(fail, batch_size=batch_size).execute(items)
    assert execution.status is Status.COMPLETED
    assert execution.output == []
    assert tasks_of(execution) == []


def test_the_output_goes_on_to_the_next_step():
    workflow = mapped(double, "Sum", batch_size=2).add_step("Sum", sum)
    assert workflow.execute([1, 2, 3]).output == 12


@pytest.mark.parametrize("batch_size", SIZES)
def test_without_results_the_output_is_how_many_items_had_each_outcome(batch_size):
    workflow = mapped(fail_at_threes, keep_results=False, batch_size=batch_size)
    output = workflow.execute(range(10)).output
    assert output == {Outcome.SUCCEEDED: 6, Outcome.FAILED: 4}


def test_without_results_and_items_there_is_a_count_of_none():
    output = mapped(double, keep_results=False).execute([]).output
    assert output == {Outcome.SUCCEEDED: 0}


# --- where the items are ----------------------------------------------------------


@pytest.mark.parametrize(
    "items, value",
    [
        (None, [1, 2]),
        (None, iter((1, 2))),
        (None, {1: "a", 2: "b"}.keys()),
        ("numbers", {"numbers": [1, 2], "rest": 0}),
        (1, ["rest", [1, 2]]),
        (-1, ("rest", (1, 2))),
        (7, {7: [1, 2]}),
        (lambda order: (line["n"] for line in order), [{"n": 1}, {"n": 2}]),
        (lines_of, [{"n": 1}, {"n": 2}]),
    ],
)
def test_items_may_be_the_input_or_in_it(items, value):
    assert mapped(double, items=items).execute(value).output == [2, 4]


@pytest.mark.parametrize(
    "items, value, error_class, text",
    [
        ("numbers", {"number": 1}, LookupError, "items='numbers' is to be a key"),
        ("numbers", 5, LookupError, "input, but that is 5"),
        (3, [1, 2], LookupError, "items=3 is to be a key"),
        (None, "text", TypeError, "the input of a map step is items, not 'text'"),
        (None, b"text", TypeError, "is items, not b'text'"),
        (None, bytearray(b"text"), TypeError, "is items, not bytearray(b'text')"),
        (None, 5, TypeError, "items= a key of it, or a callable"),
        (None, {"a": [1]}, TypeError, "is items, not {'a'"),
        ("a", {"a": "text"}, TypeError, "the input's 'a' is to be items, not 'text'"),
        (lambda value: 5, None, TypeError, "what items= gives is to be items, not 5"),
        (lambda value: later(value), 5, TypeError, "coroutine, which nothing awaits"),
        (lambda value: 1 // value, 0, ZeroDivisionError, "by zero"),
        (lambda value: next(iter(value)), [], StopIteration, ""),
    ],
)
def test_the_step_fails_where_there_are_no_items(items, value, error_class, text):
    error = failure_of(mapped(double, items=items), value)
    assert isinstance(error.__cause__, error_class)
    assert text in str(error.__cause__)
    assert error.execution.history[0].outcome is Outcome.FAILED


def test_a_step_takes_the_failure_to_find_items():
    workflow = mapped(double, items="numbers", on_failure="Apologise")
    workflow.add_step("Apologise", type)
    assert workflow.execute({}).output is LookupError


# --- how items are taken ----------------------------------------------------------


@pytest.mark.parametrize("executor", [*HERE, "pool"])
@pytest.mark.parametrize("batch_size", [1, 10])
def test_a_generator_is_not_read_far_ahead(executor, batch_size):
    taken, done = [], []
    furthest = []

    def source():
        for item in range(2000):
            taken.append(item)
            yield item

    def work(item):
        furthest.append(len(taken) - len(done))
        done.append(item)

    with ThreadPoolExecutor(2) as pool:
        place = pool if executor == "pool" else executor
        mapped(work, executor=place, batch_size=batch_size).execute(source())
    assert len(done) == 2000
    assert max(furthest) <= 200 * batch_size


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


def threads_of(step):
    return [thread for thread in threading.enumerate() if step in thread.name]


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


# --- calls ----------------------------------------------------------------------


@pytest.mark.parametrize("batch_size", SIZES)
def test_params_go_to_every_call(batch_size):
    workflow = mapped(pow, params={"exp": 2}, batch_size=batch_size)
    assert workflow.execute([1, 2, 3, 4]).output == [1, 4, 9, 16]


@pytest.mark.parametrize("executor", HERE)
@pytest.mark.parametrize("batch_size", SIZES)
def test_the_task_of_the_context_is_the_index(executor, batch_size):
    workflow = mapped(who, executor=executor, batch_size=batch_size)
    output = workflow.execute(list("abcd")).output
    assert output == [("Map", str(index), 1) for index in range(4)]


@pytest.mark.parametrize("batch_size", SIZES)
def test_an_item_may_look_up_an_earlier_step(batch_size):
    def work(item, context):
        return context["Earlier"][item] + 1

    workflow = StepFunction("Work").add_step("Earlier", list, "Map")
    workflow.add_map_step("Map", work, batch_size=batch_size)
    workflow.set_start_step("Earlier")
    assert workflow.execute(range(5)).output == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("executor", HERE)
@pytest.mark.parametrize("batch_size", SIZES)
def test_coroutine_functions_run_to_their_end(executor, batch_size):
    async def work(item, context):
        await asyncio.sleep(0)
        return item, context.task

    workflow = mapped(work, executor=executor, batch_size=batch_size)
    assert workflow.execute([5, 6, 7, 8]).output == [
        (5, "0"),
        (6, "1"),
        (7, "2"),
        (8, "3"),
    ]


@pytest.mark.parametrize("batch_size", SIZES)
def test_a_plain_function_that_gives_coroutines_fails(batch_size):
    async def never(item):
        return item

    def work(item):
        return fail(item) if item == 0 else never(item)

    output = mapped(work, batch_size=batch_size).execute(range(4)).output
    assert sorted(output.failed) == [0, 1, 2, 3]
    assert all("returned a coroutine" in str(error) for error in output[1:])


@pytest.mark.parametrize("batch_size", SIZES)
def test_items_have_the_context_variables_of_the_caller(batch_size):
    token = letter.set("a")
    try:
        workflow = mapped(lambda item: letter.get(), batch_size=batch_size)
        assert workflow.execute(range(4)).output == ["a"] * 4
    finally:
        letter.reset(token)


@pytest.mark.parametrize("batch_size", SIZES)
@pytest.mark.parametrize(
    "error_class", [StopIteration, KeyboardInterrupt, SystemExit, GeneratorExit]
)
def test_whatever_an_item_raises_in_a_thread_is_its_own_failure(
    error_class, batch_size
):
    def work(item):
        if item == 2:
            raise error_class(item)
        return item

    output = mapped(work, batch_size=batch_size).execute(range(6)).output
    assert [*output.failed] == [2]
    assert type(output[2]) is error_class
    assert [*output[:2], *output[3:]] == [0, 1, 3, 4, 5]


@pytest.mark.parametrize("batch_size", SIZES)
def test_stop_iteration_of_an_inline_item_is_its_failure(batch_size):
    def work(item):
        return next(iter([])) if item == 2 else item

    workflow = mapped(work, executor="inline", batch_size=batch_size)
    output = workflow.execute(range(6)).output
    assert [*output.failed] == [2]
    assert [*output[:2], *output[3:]] == [0, 1, 3, 4, 5]


# --- failures -------------------------------------------------------------------


@pytest.mark.parametrize("executor", HERE)
@pytest.mark.parametrize("batch_size", [1, 2, 4, 100])
def test_a_failed_item_leaves_its_exception_in_its_place(executor, batch_size):
    workflow = mapped(fail_at_threes, executor=executor, batch_size=batch_size)
    execution = workflow.execute(range(8))
    output = execution.output
    assert execution.status is Status.COMPLETED
    assert sorted(output.failed) == [0, 3, 6]
    assert [output[i] for i in (1, 2, 4, 5, 7)] == [1, 2, 4, 5, 7]
    assert all(output[i] is output.failed[i] for i in output.failed)
    assert str(output[3]) == "cannot take 3"
    with pytest.raises(ParallelStepExecutionError):
        output.raise_if_failed()


def test_failures_have_records_of_their_own():
    execution = mapped(fail_at_threes, batch_size=4).execute(range(8))
    records = tasks_of(execution)
    assert [record.task for record in records] == ["0", "3", "6"]
    assert [record.input for record in records] == [0, 3, 6]
    assert [str(record.error) for record in records][1] == "cannot take 3"
    assert all(len(record.attempts) == 1 for record in records)
    assert execution.failures == tuple(records)


@pytest.mark.parametrize("batch_size", SIZES)
def test_the_error_of_the_step_knows_all_items(batch_size):
    workflow = mapped(fail_at_threes, tolerated_failures=1, batch_size=batch_size)
    error = failure_of(workflow, range(5))
    assert isinstance(error, ParallelStepExecutionError)
    assert str(error) == (
        "2 of 5 items of step 'Map' failed: 0: ValueError: cannot take 0; "
        "3: ValueError: cannot take 3"
    )
    assert {at: str(outcome) for at, outcome in error.outcomes.items()} == {
        0: "FAILED",
        1: "SUCCEEDED",
        2: "SUCCEEDED",
        3: "FAILED",
        4: "SUCCEEDED",
    }
    assert dict(error.results) == {1: 1, 2: 2, 4: 4}
    assert sorted(error.errors) == [0, 3]
    assert error.__cause__ is error.errors[0]
    for mapping in (error.outcomes, error.results):
        with pytest.raises(KeyError):
            mapping[5]
    with pytest.raises(KeyError):
        error.results[3]


def test_the_error_of_the_step_names_no_more_than_a_few():
    error = failure_of(mapped(fail, tolerated_failures=0), range(20))
    assert str(error).endswith("; and 15 more")


def test_the_error_of_the_step_survives_pickling():
    error = failure_of(mapped(fail_at_threes, tolerated_failures=0), range(4))
    again = pickle.loads(pickle.dumps(error))
    assert str(again) == str(error)
    assert dict(again.outcomes) == dict(error.outcomes)
    assert dict(again.results) == {1: 1, 2: 2}
    assert [repr(it) for it in again.errors.values()] == [
        repr(it) for it in error.errors.values()
    ]


def test_results_survive_pickling():
    output = mapped(fail_at_threes).execute(range(4)).output
    again = pickle.loads(pickle.dumps(output))
    assert type(again) is type(output)
    assert again[1:3] == [1, 2]
    assert sorted(again.failed) == [0, 3]
    with pytest.raises(ParallelStepExecutionError):
        again.raise_if_failed()


def test_results_without_failures_give_themselves():
    output = mapped(double).execute([1]).output
    assert output.raise_if_failed() is output


def test_without_results_the_error_tells_only_of_failures_that_it_remembers():
    workflow = mapped(fail, tolerated_failures=0, keep_results=False)
    error = failure_of(workflow, range(300))
    assert str(error).startswith("300 of 300 items")
    assert set(error.outcomes.values()) == {Outcome.FAILED}
    assert error.outcomes.keys() == error.errors.keys()
    assert dict(error.results) == {}


@pytest.mark.parametrize("sized", [True, False])
@pytest.mark.parametrize("batch_size", SIZES)
@pytest.mark.parametrize(
    "tolerated, is_tolerated",
    [(0, False), (3, False), (4, True), ("39%", False), ("40%", True), ("100%", True)],
)
def test_a_step_tolerates_so_many_failures(tolerated, is_tolerated, batch_size, sized):
    workflow = mapped(
        fail_at_threes, tolerated_failures=tolerated, batch_size=batch_size
    )
    items = range(10) if sized else iter(range(10))  # of which four fail
    if is_tolerated:
        assert len(workflow.execute(items).output.failed) == 4
    else:
        assert len(failure_of(workflow, items).errors) == 4


@pytest.mark.parametrize("batch_size", [1, 2])
@pytest.mark.parametrize("items, failed", [([1, 2, 3], []), ([1, 0, 3, 0], [1, 3])])
def test_the_output_has_the_outcome_of_every_item(items, failed, batch_size):
    workflow = mapped(lambda item: 6 / item, batch_size=batch_size)
    outcomes = workflow.execute(items).output.outcomes
    assert list(outcomes) == list(range(len(items)))
    for index, outcome in outcomes.items():
        has_failed = index in failed
        assert outcome is (Outcome.FAILED if has_failed else Outcome.SUCCEEDED)


def test_with_a_failure_step_of_its_own_a_step_tolerates_nothing():
    workflow = mapped(fail_at_threes, on_failure="After").add_step("After", str)
    assert "2 of 5 items" in workflow.execute(range(5)).output


@pytest.mark.parametrize("executor", HERE)
@pytest.mark.parametrize("batch_size", SIZES)
def test_the_first_failure_stops_the_rest(executor, batch_size):
    seen = []

    def work(item):
        seen.append(item)
        return fail(item) if item == 4 else item

    workflow = mapped(
        work,
        executor=executor,
        batch_size=batch_size,
        stop_on_failure=True,
        max_workers=1,
    )
    error = failure_of(workflow, range(1000))
    assert [*error.errors] == [4]
    assert 4 in seen and len(seen) < 1000
    assert seen == sorted(seen)
    assert error.execution.history[0].outcome is Outcome.FAILED


def test_a_batch_stops_at_the_item_that_fails():
    seen = []

    def work(item):
        seen.append(item)
        return fail_at_threes(item)

    workflow = mapped(
        work, executor="inline", batch_size=10, stop_on_failure=True,
        tolerated_failures=1,
    )
    error = failure_of(workflow, range(10))
    assert seen == [0, 1, 2, 3]
    assert [*error.errors] == [0, 3]
    outcomes = [str(error.outcomes[at]) for at in range(10)]
    assert outcomes == ["FAILED", "SUCCEEDED", "SUCCEEDED", "FAILED"] + 6 * [
        "CANCELLED"
    ]


def test_batches_in_other_threads_stop_before_their_next_item():
    seen, began = [], threading.Event()

    def work(item, context):
        if item == 0:
            assert began.wait(20)
            fail(item)
        seen.append(item)
        began.set()
        while not context.cancelled:
            time.sleep(0.001)
        return item

    workflow = mapped(work, batch_size=10, max_workers=2, stop_on_failure=True)
    error = failure_of(workflow, [0, *range(100, 120)])
    assert len(seen) == 1
    assert [*error.errors] == [0]
    assert error.outcomes[10] is Outcome.SUCCEEDED
    assert error.outcomes[11] is Outcome.CANCELLED
    assert not threads_of("Map")


def test_a_share_of_items_that_nobody_can_count_stops_nothing():
    seen = []

    def work(item):
        seen.append(item)
        fail(item)

    workflow = mapped(
        work, executor="inline", stop_on_failure=True, tolerated_failures="10%"
    )
    failure_of(workflow, iter(range(50)))
    assert len(seen) == 50
    seen.clear()
    failure_of(workflow, range(50))
    assert len(seen) == 6


# --- retry ----------------------------------------------------------------------


@pytest.mark.parametrize("executor", HERE)
@pytest.mark.parametrize("batch_size", SIZES)
def test_an_item_is_tried_again_by_itself(executor, batch_size):
    calls = []

    def work(item, context):
        calls.append((item, context.attempt, context.task))
        if item % 3 == 0 and context.attempt < 3:
            raise ConnectionError
        return item

    policy = RetryPolicy(max_attempts=3, interval=0)
    workflow = mapped(work, executor=executor, batch_size=batch_size, retry=policy)
    execution = workflow.execute(range(7))
    assert execution.output == list(range(7))
    attempts = {i: (1,) if i % 3 else (1, 2, 3) for i in range(7)}
    assert sorted(calls) == [(i, n, str(i)) for i in attempts for n in attempts[i]]
    records = {record.task: record for record in tasks_of(execution)}
    assert [str(it.outcome) for it in records["3"].attempts] == [
        "FAILED",
        "FAILED",
        "SUCCEEDED",
    ]
    assert [it.number for it in records["3"].attempts] == [1, 2, 3]
    assert records["3"].outcome is Outcome.SUCCEEDED
    assert records["3"].output == 3


@pytest.mark.parametrize("batch_size", SIZES)
def test_an_item_fails_when_its_attempts_are_used_up(batch_size):
    calls = []

    def work(item):
        calls.append(item)
        fail_at_threes(item)

    execution = mapped(work, batch_size=batch_size, retry=ONCE_MORE).execute(range(4))
    assert sorted(execution.output.failed) == [0, 3]
    assert sorted(calls) == [0, 0, 1, 2, 3, 3]
    assert all(len(record.attempts) == 2 for record in execution.failures)


def test_what_is_not_to_be_retried_is_not():
    calls = []

    def work(item):
        calls.append(item)
        fail(item)

    policy = RetryPolicy(max_attempts=5, interval=0, retry_on=OSError)
    mapped(work, batch_size=2, retry=policy).execute(range(4))
    assert sorted(calls) == [0, 1, 2, 3]


@pytest.mark.parametrize("executor", HERE)
def test_a_retrying_that_judges_results_is_shown_each(executor):
    calls = []

    def work(item):
        calls.append(item)
        return calls.count(item)

    retry = tenacity.Retrying(
        retry=tenacity.retry_if_result(lambda count: count < 2),
        stop=tenacity.stop_after_attempt(3),
    )
    workflow = mapped(work, executor=executor, batch_size=3, retry=retry)
    assert workflow.execute(range(4)).output == [2, 2, 2, 2]


def test_stopping_ends_the_pauses_of_others():
    paused = threading.Event()

    def listener(event):
        if event.kind == "task_retried":
            paused.set()

    def work(item):
        if item == 1:
            assert paused.wait(20)
            raise LookupError("enough")
        raise ConnectionError

    policy = RetryPolicy(2, interval=3600, jitter=None, retry_on=ConnectionError)
    workflow = mapped(work, retry=policy, stop_on_failure=True)
    error = failure_of(workflow, [0, 1], listeners=[listener])
    assert {at: type(it) for at, it in error.errors.items()} == {
        1: LookupError,
        0: ConnectionError,
    }


# --- timeout ----------------------------------------------------------------------


@pytest.mark.parametrize("batch_size", SIZES)
def test_an_item_that_takes_too_long_in_a_thread_is_abandoned(batch_size):
    never = threading.Event()

    def work(item):
        if item == 2:
            never.wait(20)
        return item

    workflow = mapped(work, timeout=0.2, batch_size=batch_size, max_workers=1)
    try:
        execution = workflow.execute(range(5))
    finally:
        never.set()
    assert [*execution.output.failed] == [2]
    assert isinstance(execution.output[2], StepTimeoutError)
    assert "item 2 of step 'Map': attempt 1 took longer" in str(execution.output[2])
    assert outcomes_of(execution)["2"] == "ABANDONED"
    assert [*execution.output[:2], *execution.output[3:]] == [0, 1, 3, 4]


def test_the_time_of_an_item_does_not_count_while_it_waits_for_a_thread():
    def work(item):
        time.sleep(0.03)
        return item

    workflow = mapped(work, timeout=0.25, max_workers=1, batch_size=20)
    assert workflow.execute(range(20)).output == list(range(20))


def test_inline_a_limit_is_measured_only(caplog):
    workflow = mapped(lambda item: time.sleep(0.01), timeout=0.001, batch_size=2)
    assert workflow.execute(range(3), executor="inline").output == [None] * 3
    assert "timeouts are not enforced" in caplog.text


# --- cancelling -------------------------------------------------------------------


@pytest.mark.parametrize("executor", HERE)
@pytest.mark.parametrize("batch_size", [1, 100])
@pytest.mark.parametrize("sized", [True, False])
def test_cancelling_begins_no_other_item(executor, batch_size, sized):
    live, seen = Live(), []

    def work(item):
        seen.append(item)
        if item == 3:
            live.execution.cancel()
        return item

    workflow = mapped(work, executor=executor, batch_size=batch_size, max_workers=1)
    items = list(range(500))
    with pytest.raises(ExecutionCancelledError) as caught:
        workflow.execute(items if sized else iter(items), listeners=[live])
    execution = caught.value.execution
    assert execution.status is Status.CANCELLED
    assert seen == [0, 1, 2, 3]
    assert execution.history[0].outcome is Outcome.CANCELLED
    assert execution.history[0].output is None
    assert not threads_of("Map")


@pytest.mark.parametrize("batch_size", [1, 100])
def test_cancelling_is_told_to_threads(batch_size):
    live, began = Live(), threading.Event()

    def work(item, context):
        began.set()
        live.execution.cancel()
        context.sleep(60)

    workflow = mapped(work, batch_size=batch_size)
    with pytest.raises(ExecutionCancelledError):
        workflow.execute(range(500), listeners=[live])
    assert not threads_of("Map")


@pytest.mark.parametrize("batch_size", [1, 500])
def test_the_time_of_the_execution_ends_an_inline_map(batch_size):
    seen = []

    def work(item):
        seen.append(item)
        time.sleep(0.005)

    workflow = mapped(work, executor="inline", batch_size=batch_size)
    with pytest.raises(ExecutionTimeoutError) as caught:
        workflow.execute(range(500), timeout=0.05)
    assert len(seen) < 400
    assert caught.value.execution.status is Status.TIMED_OUT


@pytest.mark.parametrize("batch_size", [1, 100])
def test_the_time_of_the_execution_ends_a_map_on_threads(batch_size):
    never, seen = threading.Event(), []

    def work(item):
        seen.append(item)
        never.wait(20)

    workflow = mapped(work, batch_size=batch_size, max_workers=2)
    try:
        with pytest.raises(ExecutionTimeoutError) as caught:
            workflow.execute(range(500), timeout=0.1)
    finally:
        never.set()
    execution = caught.value.execution
    assert execution.status is Status.TIMED_OUT
    assert "ABANDONED" in outcomes_of(execution).values()
    for thread in threads_of("Map"):
        thread.join(20)
    assert len(seen) == 2


@pytest.mark.parametrize("executor", HERE)
@pytest.mark.parametrize("batch_size", [1, 100])
def test_an_interrupt_of_the_calling_thread_is_raised_there(executor, batch_size):
    seen, may_end = [], threading.Event()
    main = threading.main_thread().ident

    def work(item):
        seen.append(item)
        if item == 3:
            signal.pthread_kill(main, signal.SIGINT)
            if executor == "thread":
                may_end.wait(20)
        return item

    live = Live()
    workflow = mapped(work, executor=executor, batch_size=batch_size, max_workers=1)
    try:
        with pytest.raises(KeyboardInterrupt):
            workflow.execute(iter(range(500)), listeners=[live])
    finally:
        may_end.set()
    assert live.execution.status is Status.CANCELLED
    for thread in threads_of("Map"):
        thread.join(20)
    assert seen == [0, 1, 2, 3]


# --- nested workflows, loops ------------------------------------------------------


def nested(func=double):
    inner = StepFunction("Inner").add_step("Check", func, "Done")
    return inner.add_step("Done", double).set_start_step("Check")


@pytest.mark.parametrize("executor", HERE)
def test_each_item_may_be_the_input_of_a_workflow(executor):
    execution = mapped(nested(), executor=executor).execute([1, 2, 3])
    assert execution.output == [4, 8, 12]
    assert [*execution.children] == [("Map", "0"), ("Map", "1"), ("Map", "2")]
    assert execution.children["Map", "1"].context["Check"] == 4
    assert execution.children["Map", "1"].workflow == "Inner"


def test_an_item_fails_whose_workflow_fails():
    execution = mapped(nested(fail_at_threes)).execute(range(5))
    assert sorted(execution.output.failed) == [0, 3]
    assert "nested workflow 'Inner' failed at its step 'Check'" in str(
        execution.output[3]
    )
    assert str(execution.output[3].__cause__) == "cannot take 3"
    assert execution.children["Map", "3"].status is Status.FAILED


@pytest.mark.parametrize("executor", HERE)
def test_what_happens_in_nested_workflows_is_told(executor):
    live = Live()
    mapped(nested(), executor=executor).execute([1, 2], listeners=[live])
    steps = [event for event in live.of_kind("step_succeeded") if event.path]
    assert sorted((event.path[0], event.step) for event in steps) == [
        (("Map", index), step) for index in "01" for step in ("Check", "Done")
    ]


def test_a_map_may_be_in_a_workflow_of_a_map():
    inner = mapped(double, "Sum", batch_size=2).add_step("Sum", sum)
    assert mapped(inner, max_workers=2).execute([range(4)] * 5).output == [12] * 5


def test_maps_in_maps_on_one_pool_do_not_wait_for_each_other():
    with ThreadPoolExecutor(2) as pool:
        inner = mapped(double, executor=pool, batch_size=2)
        outer = mapped(inner, executor=pool)
        assert outer.execute([range(4)] * 6).output == [[0, 2, 4, 6]] * 6


def test_a_map_may_run_in_a_loop():
    workflow = StepFunction("Work", max_steps=50)
    workflow.add_map_step(
        "Map",
        double,
        branch=lambda output: "Map" if max(output) < 100 else "End",
        branch_targets=["Map", "End"],
    )
    workflow.add_step("End", list).set_start_step("Map")
    execution = workflow.execute([1, 3])
    assert execution.output == [64, 192]
    assert len(tasks_of(execution)) == 12


def test_one_workflow_serves_many_threads_at_once():
    workflow = mapped(fail_at_threes, batch_size=2)

    def run(offset):
        return workflow.execute(range(offset, offset + 30)).output

    with ThreadPoolExecutor(8) as pool:
        for offset, output in enumerate(pool.map(run, range(24))):
            expected = range(offset, offset + 30)
            assert [it for it in output if isinstance(it, int)] == [
                item for item in expected if item % 3
            ]
            assert len(output.failed) == 10


def test_two_executions_share_a_pool_of_somebody_else():
    with ThreadPoolExecutor(2) as pool:
        workflow = mapped(double, executor=pool, batch_size=3)
        runs = [workflow.start(range(50)) for _ in range(2)]
        for run in runs:
            assert run.wait(20)
            assert run.output == [2 * i for i in range(50)]
        assert pool.submit(double, 4).result() == 8


def test_the_executor_of_an_execution_takes_precedence():
    workflow = mapped(lambda item: threading.get_ident(), batch_size=2)
    output = workflow.execute(range(4), executor="inline").output
    assert set(output) == {threading.get_ident()}


# --- records and events -----------------------------------------------------------


def test_of_many_items_the_first_and_the_notable_have_records():
    def work(item, context):
        if item == 1500 and context.attempt == 1:
            raise ConnectionError
        return fail(item) if item in (1200, 1800) else item

    policy = RetryPolicy(max_attempts=2, interval=0, retry_on=ConnectionError)
    execution = mapped(work, executor="inline", retry=policy).execute(range(2000))
    tasks = [int(record.task) for record in tasks_of(execution)]
    assert tasks == [*range(1000), 1200, 1500, 1800]


def test_items_that_never_began_have_no_times():
    live = Live()

    def work(item):
        live.execution.cancel()
        return fail(item)

    with pytest.raises(ExecutionCancelledError) as caught:
        mapped(work, executor="inline").execute([0, 1], listeners=[live])
    (first,) = tasks_of(caught.value.execution)
    assert first.task == "0"
    assert len(first.attempts) == 1


@pytest.mark.parametrize("batch_size", SIZES)
@pytest.mark.parametrize("sized", [True, False])
def test_progress_ends_with_all(batch_size, sized):
    live = Live()
    items = range(50) if sized else iter(range(50))
    workflow = mapped(lambda item: time.sleep(0.01), batch_size=batch_size)
    workflow.execute(items, listeners=[live], executor="inline")
    told = live.of_kind("step_progressed")
    assert {event.step for event in told} == {"Map"}
    assert 2 <= len(told) <= 7
    done = [event.done for event in told]
    assert done == sorted(done)
    assert (told[-1].done, told[-1].total) == (50, 50)
    assert told[0].total == (50 if sized else None)


def test_without_items_progress_is_told_once():
    live = Live()
    mapped(double).execute([], listeners=[live])
    (told,) = live.of_kind("step_progressed")
    assert (told.done, told.total) == (0, 0)


@pytest.mark.parametrize("executor", HERE)
@pytest.mark.parametrize("batch_size", SIZES)
def test_of_items_only_their_troubles_are_told(executor, batch_size):
    live = Live()

    def work(item, context):
        if item == 1:
            fail(item)
        return fail_at_first(item, context) if item == 2 else item

    workflow = mapped(work, executor=executor, batch_size=batch_size, retry=ONCE_MORE)
    workflow.execute(range(5), listeners=[live])
    told = [event for event in live.events if event.task is not None]
    assert sorted((event.kind, event.task) for event in told) == [
        ("task_failed", "1"),
        ("task_retried", "1"),
        ("task_retried", "2"),
        ("task_started", "1"),
        ("task_started", "2"),
        ("task_succeeded", "2"),
    ]
    (failed,) = live.of_kind("task_failed")
    assert str(failed.error) == "cannot take 1"
    assert [attempt.number for attempt in failed.attempts] == [1, 2]


def test_a_listener_may_cancel_as_soon_as_it_hears_of_progress():
    def listener(event):
        if event.kind == "step_progressed":
            event.execution.cancel()

    workflow = mapped(lambda item: time.sleep(0.005), max_workers=2)
    with pytest.raises(ExecutionCancelledError):
        workflow.execute(range(10_000), listeners=[listener])


def test_an_execution_with_a_map_survives_pickling():
    execution = mapped(fail_at_threes, batch_size=2).execute(range(5))
    again = pickle.loads(pickle.dumps(execution))
    assert again.status is Status.COMPLETED
    assert again.output[4] == 4
    assert sorted(again.output.failed) == [0, 3]
    assert [record.task for record in again.history] == [None, "0", "3"]
    assert [record.input for record in again.history][1:] == [0, 3]


def test_an_execution_with_items_that_cannot_travel_survives_pickling():
    lock = threading.Lock()
    execution = mapped(lambda item: item).execute([1, lock])
    again = pickle.loads(pickle.dumps(execution))
    assert [record.output for record in again.history][1] == 1
    assert "lock" in again.history[2].input.text


class Thing:
    pass


@pytest.mark.parametrize("executor", HERE)
@pytest.mark.parametrize("batch_size", SIZES)
def test_items_are_let_go_with_the_execution(executor, batch_size):
    things = [Thing() for _ in range(5)]
    alive = weakref.ref(things[2])
    workflow = mapped(id, executor=executor, batch_size=batch_size)
    workflow.execute(things)
    del things
    workflow.execute([])  # it keeps a reference to the latest
    gc.collect()
    assert alive() is None


# --- definition -------------------------------------------------------------------


@pytest.mark.parametrize(
    "options, problem",
    [
        ({"items": 1.5}, "items is a key of the step's input or a callable of it"),
        ({"batch_size": 0}, "batch_size is a whole number from 1, not 0"),
        ({"batch_size": True}, "batch_size is a whole number from 1, not True"),
        ({"max_workers": 0}, "max_workers is a whole number from 1, not 0"),
        ({"tolerated_failures": "10"}, "tolerated_failures is a count from 0"),
        ({"tolerated_failures": -1}, "tolerated_failures is a count from 0"),
        ({"timeout": 0}, "timeout is seconds above 0"),
        ({"timeout": 1, "executor": "inline"}, "timeout cannot be honoured"),
        ({"executor": "threads"}, "did you mean 'thread'"),
        ({"retry": 3}, "retry is a RetryPolicy"),
        ({"params": {"no": 1}}, "no"),
        ({"branch": {1: "End"}}, "list"),
        ({"func": 5}, "5"),
        ({"func": {"a": double}}, "a"),
        ({"func": nested(), "batch_size": 2}, "batch_size goes with a function"),
        ({"func": nested(), "params": {"a": 1}}, "params binds arguments"),
        ({"items": later}, "items is later, which is async, which gives no answer"),
        ({"items": lambda: []}, "which cannot be called with one value: too many"),
        ({"items": lambda a, b: []}, "which cannot be called with one value: missing"),
    ],
)
def test_what_is_unsound_is_refused(options, problem):
    with pytest.raises(DefinitionError) as caught:
        mapped(**{"func": double, **options})
    (found,) = caught.value.problems
    assert problem in found


def test_all_problems_are_named_at_once():
    with pytest.raises(DefinitionError) as caught:
        mapped(double, batch_size=0, items=1.5, max_workers=0, executor="here")
    assert len(caught.value.problems) == 4


def test_a_map_inside_itself_is_refused():
    workflow = StepFunction("Work")
    with pytest.raises(DefinitionError, match="would run inside itself"):
        workflow.add_map_step("Map", workflow)
