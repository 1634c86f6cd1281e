from __future__ import annotations

import asyncio
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import (
    Executor,
    Future,
    ProcessPoolExecutor,
    ThreadPoolExecutor,
)
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from stepfunction import (
    Context,
    Execution,
    ExecutionTimeoutError,
    RetryPolicy,
    Status,
    StepExecutionError,
    StepFunction,
    StepTimeoutError,
)
from stepfunction.core.outcomes import Outcome
from stepfunction.stores import SQLiteStore
from stepfunction.testing import SkippedWait, skip_waits

EVERY_TEN = RetryPolicy(100, interval=10, backoff_rate=1, jitter=None)


def same(value: Any) -> Any:
    return value


def to_wait(value: Any) -> str:
    return "Wait"


def away(value: Any) -> None:
    raise OSError("away")


def fail_once(value: Any, context: Context) -> Any:
    if context.attempt == 1:
        raise OSError("not yet")
    return value


def polling(seconds: float = 10) -> StepFunction:
    workflow = StepFunction("Poll", max_steps=100)
    workflow.add_step("Ask", same, branch=to_wait, branch_targets=["Wait"])
    workflow.add_wait_step("Wait", seconds=seconds, next_step="Ask")
    return workflow.set_start_step("Ask")


def napping(seconds: float = 10) -> StepFunction:
    workflow = StepFunction("Nap").add_wait_step("Wait", seconds=seconds)
    return workflow.set_start_step("Wait")


def one(add: str, *args: Any, **settings: Any) -> StepFunction:
    workflow = StepFunction("W")
    getattr(workflow, add)("Work", *args, **settings)
    return workflow.set_start_step("Work")


def overdue(workflow: StepFunction, value: Any = 1, seconds: float = 60) -> Execution:
    with pytest.raises(ExecutionTimeoutError) as caught:
        workflow.execute(value, timeout=seconds)
    execution = caught.value.execution
    assert execution is not None and execution.status is Status.TIMED_OUT
    return execution


def ends(execution: Execution) -> dict[Any, Outcome | None]:
    return {it.part: it.outcome for it in execution.history if it.part is not None}


@pytest.fixture
def quick_switches() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


# --- of an execution ----------------------------------------------------------------


def test_a_loop_that_polls_times_out_after_the_seconds_it_would_have_waited() -> None:
    began = time.perf_counter()
    with skip_waits() as skipped:
        execution = overdue(polling())
    assert time.perf_counter() - began < 10
    visited = [record.step for record in execution.history]
    assert visited == 6 * ["Ask", "Wait"]
    outcomes = [record.outcome for record in execution.history]
    assert outcomes == [*11 * [Outcome.SUCCEEDED], Outcome.CANCELLED]
    assert skipped.total == pytest.approx(60, abs=5)


def test_a_wait_that_would_go_on_after_the_limit_ends_at_it() -> None:
    with skip_waits() as skipped:
        overdue(napping(3600))
    (wait,) = skipped.waits
    assert wait.seconds == pytest.approx(60, abs=5)


def test_a_wait_until_a_moment_counts_too() -> None:
    moment = datetime.now(timezone.utc) + timedelta(hours=1)
    with skip_waits():
        overdue(one("add_wait_step", until=moment))
        assert one("add_wait_step", until=moment).execute(5, timeout=7200).output == 5


def test_pauses_between_retries_count_too() -> None:
    workflow = one("add_step", away, retry=EVERY_TEN)
    with skip_waits():
        (record,) = overdue(workflow).history
    assert len(record.attempts) == 6
    assert record.outcome is Outcome.CANCELLED


def test_what_ends_before_the_limit_is_as_ever() -> None:
    workflow = StepFunction("W", max_steps=100)
    workflow.add_wait_step("Wait", seconds=50, next_step="Try")
    workflow.add_step("Try", fail_once, retry=RetryPolicy(interval=9, jitter=None))
    workflow.set_start_step("Wait")
    with skip_waits() as skipped:
        assert workflow.execute(7, timeout=60).output == 7
    assert skipped.waits == [
        SkippedWait("step 'Wait'", 50),
        SkippedWait("step 'Try'", 9),
    ]


def test_what_is_nested_waits_by_the_same_clock() -> None:
    workflow = StepFunction("W").add_sub_step_function("A", napping(40), next_step="B")
    workflow.add_sub_step_function("B", napping(40)).set_start_step("A")
    with skip_waits():
        execution = overdue(workflow)
    assert [record.outcome for record in execution.history] == [
        Outcome.SUCCEEDED,
        Outcome.CANCELLED,
    ]


def test_what_a_step_executes_takes_its_time_and_goes_on_after_the_limit() -> None:
    done = []

    def call(value: Any) -> None:
        done.append(napping(100).execute(value).status)

    workflow = StepFunction("W").add_step("Call", call, next_step="Next")
    workflow.add_step("Next", same).set_start_step("Call")
    with skip_waits():
        execution = overdue(workflow)
    assert done == [Status.COMPLETED]
    assert [record.step for record in execution.history] == ["Call"]


def test_each_execution_has_a_clock_of_its_own() -> None:
    with skip_waits():
        for _ in range(3):
            assert napping(50).execute(1, timeout=60).output == 1
        started = [napping(50).start(1, timeout=60) for _ in range(3)]
        assert all(execution.wait(30) for execution in started)
        assert {it.status for it in started} == {Status.COMPLETED}
        late = polling().start(1, timeout=60)
        assert late.wait(30) and late.status is Status.TIMED_OUT


def test_what_is_awaited_has_its_limit_too() -> None:
    async def run() -> list[Any]:
        runs = (napping(50).aexecute(1, timeout=60), polling().aexecute(1, timeout=60))
        return list(await asyncio.gather(*runs, return_exceptions=True))

    with skip_waits():
        fine, late = asyncio.run(run())
    assert fine.status is Status.COMPLETED
    assert isinstance(late, ExecutionTimeoutError)


def test_the_clock_of_another_thread_stays_as_it_is() -> None:
    go_on, results = threading.Event(), []

    def wait_for_it(value: Any) -> Any:
        assert go_on.wait(30)
        return value

    def elsewhere() -> None:
        workflow = one("add_step", wait_for_it)
        results.append(workflow.execute(1, timeout=60).status)

    other = threading.Thread(target=elsewhere)
    other.start()
    with skip_waits():
        overdue(polling())
    go_on.set()
    other.join(30)
    assert results == [Status.COMPLETED]


def test_a_stored_execution_has_its_limit_too(tmp_path: Any) -> None:
    with SQLiteStore(tmp_path / "runs.db") as store, skip_waits():
        with pytest.raises(ExecutionTimeoutError):
            polling().execute(1, timeout=60, store=store, execution_id="poll")
        stored = store.load("poll")
        assert stored.status is Status.TIMED_OUT
        assert len(stored.history) == 11  # without what was stopped


# --- of a step ----------------------------------------------------------------------


@pytest.mark.parametrize(
    "executor, outcome",
    [
        (None, Outcome.TIMED_OUT),
        ("thread", Outcome.ABANDONED),
        ("process", Outcome.TIMED_OUT),
    ],
)
def test_the_limit_of_a_nested_workflow_comes(executor: Any, outcome: Outcome) -> None:
    workflow = one("add_sub_step_function", polling(), timeout=60, executor=executor)
    with skip_waits() as skipped, pytest.raises(StepExecutionError) as caught:
        workflow.execute(1)
    assert isinstance(caught.value.__cause__, StepTimeoutError)
    (record,) = caught.value.execution.history
    assert record.outcome is outcome
    assert len(skipped.waits) == 6
    assert skipped.total == pytest.approx(60, abs=5)


@pytest.mark.parametrize("executor", [None, "thread", "process"])
def test_each_attempt_has_its_limit(executor: Any) -> None:
    retry = RetryPolicy(3, interval=10, backoff_rate=1, jitter=None)
    settings = {"timeout": 60, "executor": executor, "retry": retry}
    workflow = one("add_sub_step_function", polling(), **settings)
    with skip_waits() as skipped, pytest.raises(StepExecutionError) as caught:
        workflow.execute(1)
    (record,) = caught.value.execution.history
    assert [type(it.error) for it in record.attempts] == 3 * [StepTimeoutError]
    assert skipped.total == pytest.approx(200, abs=15)


def test_a_failure_step_takes_what_came_too_late() -> None:
    workflow = StepFunction("W")
    workflow.add_sub_step_function("Poll", polling(), timeout=60, on_failure="Late")
    workflow.add_step("Late", lambda error: str(error)).set_start_step("Poll")
    with skip_waits():
        execution = workflow.execute(1, timeout=70)
    assert execution.output == "step 'Poll': attempt 1 took longer than 60 s"


@pytest.mark.parametrize("executor", [None, "thread", "process"])
def test_the_limit_of_all_comes_while_something_is_nested(executor: Any) -> None:
    workflow = one("add_sub_step_function", polling(), executor=executor)
    with skip_waits():
        (record,) = overdue(workflow).history
    assert record.outcome is not Outcome.SUCCEEDED


# --- tasks beside each other --------------------------------------------------------


@pytest.mark.parametrize("executor", ["thread", "process"])
def test_tasks_beside_each_other_wait_at_the_same_time(executor: Any) -> None:
    workflow = one("add_map_step", napping(), executor=executor, max_workers=10)
    with skip_waits() as skipped:
        execution = workflow.execute(list(range(10)), timeout=15)
    assert execution.status is Status.COMPLETED
    assert skipped.total == 100


def test_tasks_inline_wait_one_after_the_other() -> None:
    workflow = one("add_map_step", napping(), executor="inline")
    with skip_waits():
        execution = overdue(workflow, list(range(10)))
    assert list(ends(execution).values())[:6] == [
        *5 * [Outcome.SUCCEEDED],
        Outcome.CANCELLED,
    ]


@pytest.mark.parametrize("executor", ["thread", "process"])
def test_tasks_wait_for_a_worker_before_they_wait(executor: Any) -> None:
    workflow = one("add_map_step", napping(), executor=executor, max_workers=2)
    with skip_waits():
        execution = overdue(workflow, list(range(10)), 45)
        fine = workflow.execute(list(range(10)), timeout=55)
    assert list(ends(execution).values()).count(Outcome.SUCCEEDED) == 8
    assert fine.status is Status.COMPLETED


@pytest.mark.parametrize("kind", [ThreadPoolExecutor, ProcessPoolExecutor])
def test_tasks_of_an_executor_of_others_do_so_too(kind: type[Executor]) -> None:
    pool: Any = kind
    with pool(2) as executor, skip_waits():
        workflow = one("add_map_step", napping(), executor=executor)
        execution = overdue(workflow, list(range(10)), 45)
        fine = workflow.execute(list(range(10)), timeout=55)
        polls = one("add_map_step", polling(), executor=executor)
        overdue(polls, list(range(10)))
    assert list(ends(execution).values()).count(Outcome.SUCCEEDED) == 8
    assert fine.status is Status.COMPLETED


@pytest.mark.parametrize("executor", ["thread", "process"])
def test_the_limit_finds_those_ended_that_would_have(executor: Any) -> None:
    tasks = {"slow": napping(100), "fast": napping(10), "plain": same}
    workflow = one("add_parallel_step", tasks, executor=executor, max_workers=3)
    with skip_waits():
        found = ends(overdue(workflow))
    assert found["fast"] is found["plain"] is Outcome.SUCCEEDED
    assert found["slow"] in (Outcome.ABANDONED, Outcome.KILLED, Outcome.CANCELLED)


@pytest.mark.parametrize("executor", ["thread", "process", "inline"])
def test_a_task_that_pauses_keeps_no_other_from_its_end(executor: Any) -> None:
    tasks = {"never": away, "nap": napping(30), "plain": same}
    retry = RetryPolicy(5, interval=25, backoff_rate=1, jitter=None)
    workflow = one("add_parallel_step", tasks, executor=executor, retry=retry)
    with skip_waits():
        execution = overdue(workflow)
    found = ends(execution)
    assert found["nap"] is found["plain"] is Outcome.SUCCEEDED
    assert found["never"] is Outcome.FAILED
    (never,) = [it for it in execution.history if it.part == "never"]
    assert len(never.attempts) == 3


def test_workers_that_all_poll_keep_the_rest_from_beginning() -> None:
    workflow = one("add_map_step", polling(), max_workers=2)
    with skip_waits():
        execution = overdue(workflow, list(range(10)))
    begun = [it for it in execution.history if it.part is not None and it.attempts]
    assert [record.part for record in begun] == [0, 1]


def test_a_step_ends_with_the_last_of_its_tasks() -> None:
    tasks = {"short": napping(10), "long": napping(40)}
    workflow = StepFunction("W").add_parallel_step("Both", tasks, next_step="Then")
    workflow.add_wait_step("Then", seconds=30).set_start_step("Both")
    with skip_waits():
        execution = overdue(workflow, 1, 65)
        assert workflow.execute(1, timeout=75).status is Status.COMPLETED
    assert [it.outcome for it in execution.history if it.part is None] == [
        Outcome.SUCCEEDED,
        Outcome.CANCELLED,
    ]


@pytest.mark.parametrize("outer", ["thread", "process"])
@pytest.mark.parametrize("inner", ["thread", "process"])
def test_limits_reach_what_is_nested_in_tasks_of_tasks(outer: Any, inner: Any) -> None:
    tasks = {"poll": polling(), "nap": napping(10)}
    deep = one("add_parallel_step", tasks, executor=inner)
    workflow = one("add_map_step", deep, executor=outer, max_workers=2)
    with skip_waits():
        execution = overdue(workflow, [1, 2])
    assert not {Outcome.SUCCEEDED, Outcome.FAILED} & set(ends(execution).values())


def test_a_sibling_that_really_works_has_the_time_for_it() -> None:
    is_told = threading.Event()

    def work(value: Any) -> Any:
        assert is_told.wait(30)
        return value

    def tell(value: Any) -> str:
        is_told.set()
        return "Wait"

    poll = StepFunction("Poll", max_steps=100)
    poll.add_step("Ask", same, branch=tell, branch_targets=["Wait"])
    poll.add_wait_step("Wait", seconds=10, next_step="Ask").set_start_step("Ask")
    workflow = one("add_parallel_step", {"poll": poll, "work": work})
    with skip_waits():
        found = ends(overdue(workflow))
    assert found["work"] is Outcome.SUCCEEDED


def test_an_execution_that_is_cancelled_waits_for_no_limit() -> None:
    begun, go_on = threading.Event(), threading.Event()

    def work(value: Any) -> None:
        begun.set()
        assert go_on.wait(30)

    workflow = one("add_parallel_step", {"poll": polling(), "work": work})
    with skip_waits():
        execution = workflow.start(1, timeout=60)
    assert begun.wait(30)
    execution.cancel()
    go_on.set()
    assert execution.wait(30) and execution.status is Status.CANCELLED


class AtOnce(Executor):
    """Makes each call where it is submitted."""

    def submit(self, fn: Any, /, *args: Any, **keywords: Any) -> Any:
        future: Any = Future()
        future.set_running_or_notify_cancel()
        future.set_result(fn(*args, **keywords))
        return future


def test_an_executor_that_calls_at_once_hears_of_the_limit_of_all() -> None:
    settings: Any = {"executor": AtOnce(), "timeout": 600}
    workflow = one("add_sub_step_function", polling(), **settings)
    with skip_waits():
        (record,) = overdue(workflow, 1, 200).history
    assert record.outcome is Outcome.CANCELLED


class TwoAtOnce(Executor):
    """Makes two calls at once, and does not say so."""

    def __init__(self) -> None:
        self._turns = threading.Semaphore(2)

    def submit(self, fn: Any, /, *args: Any, **keywords: Any) -> Any:
        future: Any = Future()

        def call() -> None:
            with self._turns:
                if future.set_running_or_notify_cancel():
                    future.set_result(fn(*args, **keywords))

        threading.Thread(target=call, daemon=True).start()
        return future


def test_an_executor_of_unknown_size_comes_to_the_limit() -> None:
    workflow = one("add_map_step", polling(), executor=TwoAtOnce())
    with skip_waits():
        overdue(workflow, list(range(5)))


def test_items_from_a_generator_wait_for_a_worker() -> None:
    def numbers(count: int) -> Any:
        yield from range(count)

    workflow = one("add_map_step", napping(), items=numbers, max_workers=3)
    with skip_waits():
        overdue(workflow, 9, 25)
        assert len(workflow.execute(9, timeout=35).output) == 9


def test_what_is_undone_at_the_limit_of_a_step_is_as_ever() -> None:
    undone: list[Any] = []
    workflow = StepFunction("W")
    workflow.add_step("Take", same, next_step="Poll", compensate=undone.append)
    workflow.add_sub_step_function("Poll", polling(), timeout=60)
    workflow.set_start_step("Take")
    with skip_waits(), pytest.raises(StepExecutionError):
        workflow.execute(5)
    assert undone == [5]


@pytest.mark.parametrize("executor", ["thread", "process"])
def test_attempts_wait_for_a_worker_that_one_which_took_too_long_has_left(
    executor: Any,
) -> None:
    # On two workers: 0 to 140 twice, then 140 to 280 and, after pauses, 180 to 320,
    # 280 to 420 and 320 to 460.
    retry = RetryPolicy(2, interval=40, jitter=None)
    settings: Any = {"timeout": 140, "executor": executor, "max_workers": 2}
    workflow = one("add_map_step", polling(40), retry=retry, **settings)
    with skip_waits():
        overdue(workflow, [1, 2, 3], 440)
        with pytest.raises(StepExecutionError) as caught:
            workflow.execute([1, 2, 3], timeout=500)
    attempts = [len(it.attempts) for it in caught.value.execution.history[1:]]
    assert attempts == [2, 2, 2]


def test_a_task_that_is_due_sooner_begins_sooner() -> None:
    fails_late = StepFunction("Late").add_wait_step("Wait", seconds=80, next_step="Go")
    fails_late.add_step("Go", away).set_start_step("Wait")
    tasks = {"late": fails_late, "poll": polling(40)}  # 0 to 80, and 120 to 200
    settings: Any = {"retry": RetryPolicy(2, interval=40, jitter=None), "timeout": 180}
    workflow = one("add_parallel_step", tasks, max_workers=2, **settings)
    with skip_waits():
        found = ends(overdue(workflow, 1, 250))
    assert found["late"] is Outcome.FAILED
    assert found["poll"] is not Outcome.FAILED


def test_items_that_have_not_begun_go_before_those_that_pause(
    quick_switches: None,
) -> None:
    retry, items = RetryPolicy(2, interval=40, jitter=None), list(range(9))
    workflow = one("add_map_step", fail_once, retry=retry, max_workers=1)
    with skip_waits():
        for _ in range(300):  # some of them wait with the thread, if it is slow
            assert workflow.execute(items, timeout=60).output == items


def works(value: Any) -> Any:
    time.sleep(0.6)
    return value


@pytest.mark.parametrize("executor", ["thread", "process"])
def test_what_tasks_really_take_counts_once(executor: Any) -> None:
    settings: Any = {"executor": executor, "max_workers": 6}
    workflow = one("add_parallel_step", dict.fromkeys("abcdef", works), **settings)
    with skip_waits():
        workflow.execute(1)  # which starts what starts the processes
        assert workflow.execute(1, timeout=3.4).status is Status.COMPLETED


def test_an_attempt_after_a_pause_takes_a_worker_that_has_made_one() -> None:
    retry = RetryPolicy(5, interval=30, backoff_rate=1, jitter=None)
    nested = one("add_step", away, retry=retry)  # of two workers each has 0 to 120
    settings: Any = {"retry": RetryPolicy(2, interval=100, jitter=None)}
    tasks = {"a": nested, "b": nested}  # and again 220 to 340
    workflow = one("add_parallel_step", tasks, executor="process", **settings)
    with skip_waits():
        for _ in range(3):
            with pytest.raises(StepExecutionError):
                workflow.execute(1, timeout=350)
            overdue(workflow, 1, 330)
