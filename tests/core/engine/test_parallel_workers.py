from __future__ import annotations

import os
import pickle
import threading
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import suppress

import pytest
from shared.calls import double, same
from shared.parallel import (
    ALL_PLACES,
    IN_PROCESSES,
    IN_THREADS,
    PLACES,
    at,
    fail,
    fan_out,
    leave_a_line,
    negate,
    one_step,
    touch,
)
from shared.processes import pid

from stepfunction import (
    DefinitionError,
    ExecutionCancelledError,
    Outcome,
    ParallelStepExecutionError,
    StepFunction,
)


def thread_id(value=None):
    return threading.get_ident()


@pytest.fixture
def executor(request, kept):
    return kept.get(request.param, request.param)


# --- how many at once ---------------------------------------------------------------


class Counter:
    def __init__(self):
        self.lock = threading.Lock()
        self.now = self.most = 0

    def __enter__(self):
        with self.lock:
            self.now += 1
            self.most = max(self.most, self.now)

    def __exit__(self, *_):
        with self.lock:
            self.now -= 1


@pytest.mark.parametrize(
    "tasks, max_workers, expected", [(9, 3, 3), (3, 9, 3), (64, None, 32), (8, 1, 1)]
)
def test_as_many_threads_as_asked_for_run_at_once(tasks, max_workers, expected):
    counter, meet = Counter(), threading.Barrier(expected)

    def task(value):
        with counter:
            meet.wait(20)

    names = [str(n) for n in range(tasks)]
    workflow = fan_out(dict.fromkeys(names, task), max_workers=max_workers)
    workflow.execute().output.raise_if_failed()
    assert counter.most == expected


def test_quick_tasks_do_not_cost_others_their_thread():
    for _ in range(100):
        meet = threading.Barrier(3)

        def task(value, context, meet=meet):
            if context.task != "quick":
                meet.wait(20)

        tasks = dict.fromkeys(["quick", "a", "b", "c"], task)
        fan_out(tasks).execute().output.raise_if_failed()


def test_no_more_processes_than_usable_cpus_run_by_default():
    tasks = dict.fromkeys("abcdefgh", pid)
    output = fan_out(tasks, executor="process").execute().output
    assert len(set(output.values())) <= len(os.sched_getaffinity(0))


def test_one_process_is_enough_where_one_is_asked_for():
    tasks = dict.fromkeys("abcd", pid)
    output = fan_out(tasks, executor="process", max_workers=1).execute().output
    assert len(set(output.values())) == 1
    assert os.getpid() not in output.values()


def test_processes_stay_warm_from_step_to_step():
    workflow = StepFunction("W")
    for name, follower in ("ab", "bc", "cd", ("d", None)):
        workflow.add_step(name, pid, follower, executor="process")
    context = workflow.set_start_step("a").execute().context
    assert len(set(context.values())) == 1


class Held(Executor):
    """Runs what was submitted once so much is there, in threads of its own."""

    def __init__(self, count):
        self.count = count
        self.held = []
        self.was_shut = False

    def submit(self, fn, /, *args):
        future = Future()
        self.held.append((future, fn, args))
        if len(self.held) == self.count:
            for held in self.held:
                threading.Thread(target=self.run, args=held, daemon=True).start()
            self.held = []
        return future

    @staticmethod
    def run(future, fn, args):
        if future.set_running_or_notify_cancel():
            try:
                future.set_result(fn(*args))
            except BaseException as error:
                future.set_exception(error)

    def shutdown(self, wait=True, *, cancel_futures=False):
        self.was_shut = True


@pytest.mark.parametrize("max_workers, count", [(None, 6), (3, 3), (2, 2)])
def test_somebody_elses_executor_is_given_all_tasks_or_as_many_as_asked(
    max_workers, count
):
    executor = Held(count)
    tasks = dict.fromkeys("abcdef", double)
    workflow = fan_out(tasks, executor=executor, max_workers=max_workers)
    assert workflow.execute(2).output == dict.fromkeys("abcdef", 4)
    assert not executor.was_shut


# --- other people's executors -------------------------------------------------------


@at(["ProcessLanes", "ThreadPoolExecutor", "ProcessPoolExecutor"])
def test_an_executor_is_not_shut_down(executor):
    fan_out({"a": double, "bad": fail}, executor=executor).execute(1)
    with pytest.raises(ParallelStepExecutionError):
        fan_out({"bad": fail}, executor=executor, stop_on_failure=True).execute(1)
    assert executor.submit(double, 2).result() == 4


class Merging(Held):
    """Runs equal calls once, as Dask does with functions that it holds for pure."""

    def __init__(self):
        super().__init__(1)
        self.known = {}

    def submit(self, fn, /, *args):
        return self.known.setdefault(
            pickle.dumps((fn, args)), None
        ) or self.known.setdefault((fn, pickle.dumps(args)), super().submit(fn, *args))


def test_an_executor_that_merges_equal_calls_still_runs_every_task(tmp_path):
    executor = Merging()
    workflow = fan_out(dict.fromkeys("abc", leave_a_line), executor=executor)
    workflow.execute(tmp_path)
    workflow.execute(tmp_path)
    assert (tmp_path / "lines").read_text() == "line\n" * 6
    assert len([key for key in executor.known if isinstance(key, bytes)]) == 6


class CannotCancel(Held):
    class Future(Future):
        def cancel(self):
            raise NotImplementedError

    def __init__(self):
        super().__init__(3)

    def submit(self, fn, /, *args):
        future = self.Future()
        self.held.append((future, fn, args))
        if len(self.held) == self.count:
            held, self.held = self.held, []
            threading.Thread(target=self.run_all, args=(held,), daemon=True).start()
        return future

    def run_all(self, held):
        for item in held:
            self.run(*item)


def test_an_executor_that_cannot_cancel_is_waited_for(tmp_path):
    tasks = {"bad": fail, "a": touch, "b": touch}
    workflow = fan_out(
        tasks, executor=CannotCancel(), stop_on_failure=True, on_failure="Caught"
    )
    error = workflow.execute(tmp_path).output
    assert error.outcomes == {
        "bad": Outcome.FAILED,
        "a": Outcome.SUCCEEDED,
        "b": Outcome.SUCCEEDED,
    }
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]


# --- overriding the executor --------------------------------------------------------


@at(PLACES)
def test_an_execution_may_run_everything_inline(executor):
    nested = StepFunction("Nested").add_step("Id", pid, executor="process")
    workflow = StepFunction("W").add_step("Plain", pid, "Fan", executor=executor)
    tasks = {"a": pid, "nested": nested.set_start_step("Id")}
    workflow.add_step("Fan", tasks, parallel=True, executor=executor)
    execution = workflow.set_start_step("Plain").execute(executor="inline")
    assert execution.context["Plain"] == os.getpid()
    assert execution.output == {"a": os.getpid(), "nested": os.getpid()}


def test_inline_tasks_run_in_the_calling_thread_in_order():
    order = []

    def note(value, context):
        order.append((context.task, threading.get_ident()))

    fan_out(dict.fromkeys("abc", note)).execute(executor="inline")
    assert order == [(name, threading.get_ident()) for name in "abc"]


def test_an_execution_may_run_on_another_executor(kept):
    workflow = fan_out({"a": pid, "b": pid})
    assert os.getpid() not in workflow.execute(executor="process").output.values()
    lanes = kept["ProcessLanes"]
    assert os.getpid() not in workflow.execute(executor=lanes).output.values()
    assert set(workflow.execute().output.values()) == {os.getpid()}


def test_nested_fan_outs_on_one_small_pool_do_not_wait_for_each_other():
    nested = fan_out({"x": double, "y": negate})
    workflow = fan_out({"a": nested, "b": nested})
    with ThreadPoolExecutor(1) as pool:
        outputs = []

        def run():
            with suppress(ExecutionCancelledError):
                outputs.append(workflow.execute(1, executor=pool).output)

        running = threading.Thread(target=run, daemon=True)
        running.start()
        running.join(5)
        if running.is_alive():
            workflow._latest.cancel()
            running.join()
        assert outputs == [dict.fromkeys("ab", {"x": 2, "y": -1})]


# --- a plain step with an executor --------------------------------------------------


@at(ALL_PLACES)
def test_a_plain_step_may_have_an_executor(executor):
    assert one_step(double, executor=executor).execute(2).output == 4


@at(IN_THREADS)
def test_a_plain_step_on_threads_runs_in_another_thread(executor):
    assert one_step(thread_id, executor=executor).execute().output != (
        threading.get_ident()
    )


@at(IN_PROCESSES)
def test_a_plain_step_in_a_process_runs_there(executor):
    assert one_step(pid, executor=executor).execute().output != os.getpid()


@at(PLACES)
def test_the_failure_of_a_plain_step_elsewhere_is_its_exception(executor):
    workflow = one_step(fail, executor=executor, on_failure="Caught")
    execution = workflow.add_step("Caught", same).execute(4)
    assert repr(execution.output) == "ValueError('cannot take 4')"


@pytest.mark.parametrize("argument", ["max_workers", "tolerated_failures"])
def test_what_only_parallel_steps_have_is_refused_on_a_plain_one(argument):
    with pytest.raises(DefinitionError) as caught:
        one_step(double, executor="thread", **{argument: 2})
    assert str(caught.value) == f"step 'Step': {argument} goes with parallel=True"


def test_fan_outs_leave_no_threads_behind():
    before = threading.active_count()
    fan_out(dict.fromkeys("abcdef", double)).execute(1)
    fan_out(dict.fromkeys("abcdef", pid), executor="process").execute(1)
    assert threading.active_count() == before
