"""One suite of behaviours, and every place that tasks may run on."""

from __future__ import annotations

import gc
import multiprocessing
import os
import sys
import time
import traceback
from concurrent.futures import BrokenExecutor, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from tempfile import TemporaryDirectory

import pytest
import work
from shared.maps import tolerant

from stepfunction import (
    DefinitionError,
    ExecutionTimeoutError,
    Outcome,
    ParallelStepExecutionError,
    ProcessLanes,
    RemoteTraceback,
    RetryPolicy,
    Status,
    StepExecutionError,
    StepFunction,
    StepTimeoutError,
    TransferError,
    WorkerCrashedError,
)

pytestmark = pytest.mark.cloudpickle  # which loky and Dask cannot do without
ONCE_MORE = RetryPolicy(max_attempts=2, interval=0)


@contextmanager
def forkserver_pool():
    context = multiprocessing.get_context("forkserver")
    with ProcessPoolExecutor(2, mp_context=context) as executor:
        yield executor


@contextmanager
def loky_pool():
    loky = pytest.importorskip("loky")
    with loky.ProcessPoolExecutor(2) as executor:
        yield executor


@contextmanager
def dask_executor():
    distributed = pytest.importorskip("distributed")
    import dask

    with (
        TemporaryDirectory() as folder,
        dask.config.set(temporary_directory=folder),
        distributed.LocalCluster(
            n_workers=2,
            threads_per_worker=1,
            host="127.0.0.1",
            dashboard_address="127.0.0.1:0",
            memory_limit=0,  # what else runs on this machine must not pause workers
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        yield client.get_executor(pure=False)


def dask_client():
    from distributed import default_client

    return default_client()


@contextmanager
def parsl_pool():
    pytest.importorskip("parsl")
    from parsl.concurrent import ParslPoolExecutor
    from parsl.config import Config
    from parsl.executors import HighThroughputExecutor
    from parsl.providers import LocalProvider

    high_throughput = HighThroughputExecutor(
        address="127.0.0.1",
        max_workers_per_node=2,
        heartbeat_period=1,  # how soon a lost worker is noticed
        heartbeat_threshold=10,
        provider=LocalProvider(init_blocks=1, max_blocks=1),
    )
    with TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        config = Config(
            executors=[high_throughput],
            strategy="none",
            strategy_period=0.1,  # how soon workers are started
            run_dir=folder,
        )
        # Its workers are programs: they are found, and import, by these paths.
        patch.setenv("PATH", os.path.dirname(sys.executable), prepend=os.pathsep)
        patch.setenv("PYTHONPATH", os.path.dirname(__file__), prepend=os.pathsep)
        with ParslPoolExecutor(config) as executor:
            yield executor


OPENERS = {
    "ProcessLanes": lambda: ProcessLanes(2),
    "ThreadPoolExecutor": lambda: ThreadPoolExecutor(2),
    "ProcessPoolExecutor": forkserver_pool,
    "loky": loky_pool,
    "dask": dask_executor,
    "parsl": parsl_pool,
}
BY_NAME = ["thread", "process"]
LANES = ["process", "ProcessLanes"]
BREAKABLE = ["ProcessPoolExecutor", "loky"]
OTHERS = ["ThreadPoolExecutor", *BREAKABLE, "dask", "parsl"]
REMOTE = [*LANES, *BREAKABLE, "dask", "parsl"]
EVERYWHERE = [*BY_NAME, *OPENERS]


@pytest.fixture(scope="module")
def executor(request):
    if request.param in BY_NAME:
        yield request.param
        return
    with OPENERS[request.param]() as executor:
        yield executor


def at(places):
    return pytest.mark.parametrize("executor", places, indirect=True)


def fan_out(tasks, executor, **arguments):
    workflow = StepFunction("W")
    workflow.add_step("Fan", tasks, parallel=True, executor=executor, **arguments)
    if arguments.get("on_failure"):
        workflow.add_step("Caught", work.same)
    return workflow.set_start_step("Fan")


def one_step(func, executor, **arguments):
    workflow = StepFunction("W").add_step("Step", func, executor=executor, **arguments)
    if arguments.get("on_failure"):
        workflow.add_step("Caught", work.same)
    return workflow.set_start_step("Step")


def outcomes(execution):
    keyed = ((work.key_of(record), record) for record in execution.history)
    return {key: record.outcome for key, record in keyed if key is not None}


def lines(folder):
    return (folder / "lines").read_text().count("line\n")


# --- results --------------------------------------------------------------------


@at(EVERYWHERE)
def test_every_task_is_given_the_input_of_the_step(executor):
    workflow = fan_out({"double": work.double, "negate": work.negate}, executor)
    assert workflow.execute(4).output == {"double": 8, "negate": -4}


@at(EVERYWHERE)
def test_results_stand_in_declaration_order(executor, tmp_path):
    tasks = {"first": work.second_before_first, "second": work.second_before_first}
    workflow = fan_out(tasks, executor, max_workers=2)
    assert list(workflow.execute(tmp_path).output.items()) == [
        ("first", "first"),
        ("second", "second"),
    ]


@at(EVERYWHERE)
def test_the_same_function_three_times_runs_three_times(executor, tmp_path):
    workflow = fan_out(dict.fromkeys("abc", work.leave_a_line), executor)
    workflow.execute(tmp_path)
    assert lines(tmp_path) == 3


@at(EVERYWHERE)
def test_more_tasks_than_workers_all_run(executor):
    tasks = dict.fromkeys([str(number) for number in range(40)], work.double)
    assert fan_out(tasks, executor).execute(1).output == dict.fromkeys(tasks, 2)


@at(EVERYWHERE)
def test_a_large_input_reaches_every_task(executor):
    workflow = fan_out({"a": len, "b": len}, executor)
    assert workflow.execute(bytes(9_000_000)).output == {"a": 9_000_000, "b": 9_000_000}


@at(REMOTE)
def test_tasks_run_in_other_processes(executor):
    assert fan_out({"a": work.pid}, executor).execute().output["a"] != os.getpid()


@at(EVERYWHERE)
def test_a_task_knows_its_execution_step_name_and_attempt(executor):
    execution = fan_out({"a": work.who, "b": work.who}, executor).execute()
    assert execution.output == {
        "a": (execution.id, "Fan", "a", 1),
        "b": (execution.id, "Fan", "b", 1),
    }


@at(EVERYWHERE)
def test_params_go_to_every_task(executor):
    workflow = fan_out({"a": int, "b": int}, executor, params={"base": 16})
    assert workflow.execute("ff").output == {"a": 255, "b": 255}


@at(EVERYWHERE)
def test_a_plain_step_may_run_there(executor):
    assert one_step(work.double, executor).execute(3).output == 6


@at(EVERYWHERE)
def test_an_execution_may_send_every_step_there(executor):
    workflow = fan_out({"a": work.double}, "thread")
    assert workflow.execute(3, executor=executor).output == {"a": 6}


@at(EVERYWHERE)
def test_a_task_may_be_a_workflow(executor):
    inner = StepFunction("Inner")
    inner.add_step(
        "Both", {"a": work.double, "b": work.negate}, "Sum", parallel=True
    )
    inner.add_step("Sum", work.add_up).set_start_step("Both")
    execution = fan_out({"inner": inner, "double": work.double}, executor).execute(5)
    assert execution.output == {"inner": 5, "double": 10}
    child = execution.children["Fan", "inner"]
    assert (child.status, child.context["Both"]) == (
        Status.COMPLETED,
        {"a": 10, "b": -5},
    )


# --- map steps ------------------------------------------------------------------


def mapped(func, executor, **arguments):
    workflow = StepFunction("W")
    workflow.add_map_step("Map", func, executor=executor, **tolerant(arguments))
    return workflow.set_start_step("Map")


SIZES = pytest.mark.parametrize("batch_size", [1, 4])


@SIZES
@at(EVERYWHERE)
def test_a_map_gives_results_in_the_order_of_its_items(executor, batch_size):
    workflow = mapped(work.double, executor, batch_size=batch_size)
    assert workflow.execute(iter(range(30))).output == list(range(0, 60, 2))


@SIZES
@at(EVERYWHERE)
def test_an_item_knows_its_execution_step_index_and_attempt(executor, batch_size):
    execution = mapped(work.who, executor, batch_size=batch_size).execute([0] * 6)
    assert execution.output == [(execution.id, "Map", i, 1) for i in range(6)]


@SIZES
@at(EVERYWHERE)
def test_a_failed_item_is_tolerated(executor, batch_size):
    workflow = mapped(work.fail_at_threes, executor, batch_size=batch_size)
    execution = workflow.execute(range(1, 9))
    assert sorted(execution.output.failed) == [2, 5]
    assert repr(execution.output[2]) == "ValueError('cannot take 3')"
    assert [it for it in execution.output if isinstance(it, int)] == [1, 2, 4, 5, 7, 8]


@SIZES
@at(EVERYWHERE)
def test_a_failed_item_is_tried_again(executor, batch_size):
    workflow = mapped(
        work.fail_at_first, executor, batch_size=batch_size, retry=ONCE_MORE
    )
    execution = workflow.execute(range(6))
    assert execution.output == [2] * 6
    assert all(len(it.attempts) == 2 for it in execution.history if it.task is not None)


@SIZES
@at(EVERYWHERE)
def test_the_first_failed_item_stops_the_rest(executor, batch_size):
    workflow = mapped(
        work.fail, executor, batch_size=batch_size, stop_on_failure=True, max_workers=2
    )
    with pytest.raises(ParallelStepExecutionError) as caught:
        workflow.execute(iter(range(10_000)))
    assert len(caught.value.outcomes) < 100


@SIZES
@at(REMOTE)
def test_only_the_item_fails_whose_result_cannot_be_sent(executor, batch_size):
    workflow = mapped(work.give_a_lock_for_two, executor, batch_size=batch_size)
    output = workflow.execute(range(6)).output
    assert [*output.failed] == [2]
    assert isinstance(output[2], TransferError)
    assert [*output[:2], *output[3:]] == [0, 1, 3, 4, 5]


@SIZES
@at(REMOTE)
def test_only_the_item_fails_that_cannot_be_sent(executor, batch_size):
    items = [0, 1, work.HoldsALock(), 3, 4, 5]
    output = mapped(work.same, executor, batch_size=batch_size).execute(items).output
    assert [*output.failed] == [2]
    assert isinstance(output[2], TransferError)
    assert [*output[:2], *output[3:]] == [0, 1, 3, 4, 5]


@SIZES
@at(LANES)
def test_a_crash_blames_one_item(executor, batch_size):
    workflow = mapped(work.crash_for_two, executor, batch_size=batch_size)
    output = workflow.execute(range(10)).output
    assert [*output.failed] == [2]
    assert isinstance(output[2], WorkerCrashedError)
    assert [*output[:2], *output[3:]] == [0, 1, 3, 4, 5, 6, 7, 8, 9]


@at(EVERYWHERE)
def test_an_item_may_be_the_input_of_a_workflow(executor):
    inner = StepFunction("Inner").add_step("Double", work.double, "Negate")
    inner.add_step("Negate", work.negate).set_start_step("Double")
    execution = mapped(inner, executor).execute([1, 2, 3])
    assert execution.output == [-2, -4, -6]
    assert execution.children["Map", 1].context["Double"] == 4


# --- failures -------------------------------------------------------------------


@at(EVERYWHERE)
def test_a_failed_task_is_tolerated(executor):
    execution = fan_out({"bad": work.fail, "good": work.double}, executor).execute(2)
    assert repr(execution.output["bad"]) == "ValueError('cannot take 2')"
    assert execution.output["good"] == 4
    assert outcomes(execution) == {"bad": Outcome.FAILED, "good": Outcome.SUCCEEDED}


@at(EVERYWHERE)
def test_the_failure_of_a_plain_step_is_its_exception(executor):
    workflow = one_step(work.fail, executor)
    with pytest.raises(StepExecutionError) as caught:
        workflow.execute(2)
    assert repr(caught.value.__cause__) == "ValueError('cannot take 2')"


@at(REMOTE)
def test_an_exception_has_the_traceback_of_its_worker_as_its_cause(executor):
    error = fan_out({"bad": work.fail}, executor).execute(2).output["bad"]
    assert type(error.__cause__) is RemoteTraceback
    assert 'raise ValueError(f"cannot take {value}")' in str(error.__cause__)


@at(EVERYWHERE)
def test_an_exception_whose_init_wants_more_comes_back_as_itself(executor):
    tasks = {"bad": work.fail_with_two_arguments, "good": work.double}
    output = fan_out(tasks, executor).execute(2).output
    error = output["bad"]
    assert type(error) is work.TwoArguments
    assert (str(error), error.code, error.reason) == ("7: no luck", 7, "no luck")
    assert output["good"] == 4
    assert fan_out({"good": work.double}, executor).execute(3).output == {"good": 6}


@at(EVERYWHERE)
def test_stopping_fails_the_step_and_keeps_waiting_tasks_from_beginning(
    executor, tmp_path
):
    tasks = {"bad": work.fail, "a": work.touch, "b": work.touch}
    workflow = fan_out(tasks, executor, max_workers=1, stop_on_failure=True)
    with pytest.raises(ParallelStepExecutionError) as caught:
        workflow.execute(tmp_path)
    assert type(caught.value.__cause__) is ValueError
    assert caught.value.outcomes == {
        "bad": Outcome.FAILED,
        "a": Outcome.CANCELLED,
        "b": Outcome.CANCELLED,
    }
    assert list(tmp_path.iterdir()) == []


@at(LANES)
def test_stopping_kills_a_sibling(executor, tmp_path):
    tasks = {
        "bad": work.fail_once_the_other_hangs,
        "other": work.hang_until_released,
    }
    workflow = fan_out(tasks, executor, max_workers=2, stop_on_failure=True)
    with pytest.raises(ParallelStepExecutionError) as caught:
        workflow.execute(tmp_path)
    assert caught.value.outcomes == {"bad": Outcome.FAILED, "other": Outcome.KILLED}


@at(["thread", "ThreadPoolExecutor", "ProcessPoolExecutor", "loky", "parsl"])
def test_stopping_waits_for_a_sibling_that_nobody_can_stop(executor, tmp_path):
    tasks = {
        "bad": work.fail_once_the_other_hangs,
        "other": work.go_on_after_the_failure,
    }
    workflow = fan_out(tasks, executor, max_workers=2, stop_on_failure=True)
    with pytest.raises(ParallelStepExecutionError) as caught:
        workflow.execute(tmp_path)
    assert (tmp_path / "went on").exists()
    assert caught.value.outcomes == {"bad": Outcome.FAILED, "other": Outcome.SUCCEEDED}


@at(EVERYWHERE)
def test_each_task_is_tried_again_by_itself(executor):
    tasks = {"a": work.fail_at_first, "b": work.fail_at_first, "good": work.double}
    execution = fan_out(tasks, executor, retry=ONCE_MORE).execute(1)
    assert execution.output == {"a": 2, "b": 2, "good": 2}
    made = {r.task: len(r.attempts) for r in execution.history if r.task}
    assert made == {"a": 2, "b": 2, "good": 1}


@at(EVERYWHERE)
def test_a_workflow_that_fails_is_a_failed_task(executor):
    inner = StepFunction("Inner").add_step("Bad", work.fail_with_two_arguments)
    tasks = {"inner": inner.set_start_step("Bad"), "good": work.double}
    execution = fan_out(tasks, executor).execute(2)
    error = execution.output["inner"]
    assert type(error) is StepExecutionError
    assert type(error.__cause__) is work.TwoArguments
    assert execution.output["good"] == 4
    assert execution.children["Fan", "inner"].status is Status.FAILED


# --- limits ---------------------------------------------------------------------


@at(EVERYWHERE)
def test_a_task_that_takes_too_long_is_given_up(executor, tmp_path):
    tasks = {"slow": work.hang_until_released}
    workflow = fan_out(tasks, executor, timeout=0.2, on_failure="Caught")
    execution = workflow.execute(tmp_path)
    (tmp_path / "released").touch()
    assert type(execution.output.__cause__) is StepTimeoutError
    is_killed = executor == "process" or isinstance(executor, ProcessLanes)
    expected = Outcome.TIMED_OUT if is_killed else Outcome.ABANDONED
    assert outcomes(execution) == {"slow": expected}


@at(EVERYWHERE)
def test_an_execution_that_takes_too_long_is_ended(executor, tmp_path):
    workflow = one_step(work.hang_until_released, executor)
    with pytest.raises(ExecutionTimeoutError) as caught:
        workflow.execute(tmp_path, timeout=0.3)
    (tmp_path / "released").touch()
    assert caught.value.execution.status is Status.TIMED_OUT


@at(EVERYWHERE)
def test_an_execution_may_be_cancelled(executor, tmp_path):
    tasks = {"hangs": work.hang_until_released, "waits": work.touch}
    execution = fan_out(tasks, executor, max_workers=1).start(tmp_path)
    work.wait_for(tmp_path, "hangs")
    execution.cancel()
    (tmp_path / "released").touch()
    assert execution.wait(timeout=30)
    assert execution.status is Status.CANCELLED
    assert outcomes(execution)["waits"] is Outcome.CANCELLED
    assert not (tmp_path / "waits").exists()


@at(OTHERS)
def test_heartbeats_are_refused(executor):
    with pytest.raises(DefinitionError) as caught:
        fan_out({"a": work.who}, executor, heartbeat=1)
    assert caught.value.problems == (
        "heartbeat goes with executor='thread' or executor='process', "
        "or with ProcessLanes",
    )


# --- what cannot travel ---------------------------------------------------------


@at(REMOTE)
@pytest.mark.parametrize("func", [work.give_a_lock, work.give_what_stays_there])
def test_a_result_that_cannot_come_back_is_the_failure_of_its_task(executor, func):
    execution = fan_out({"bad": func, "good": work.double}, executor).execute(2)
    assert type(execution.output["bad"]) is TransferError
    assert outcomes(execution) == {"bad": Outcome.FAILED, "good": Outcome.SUCCEEDED}


@at(REMOTE)
def test_an_input_that_cannot_be_unpickled_is_the_failure_of_each_task(executor):
    workflow = fan_out({"a": work.same, "b": work.same}, executor)
    execution = workflow.execute(work.OnlyWhereItWasMade())
    assert {name: type(error) for name, error in execution.output.items()} == {
        "a": TransferError,
        "b": TransferError,
    }
    assert "not here" in str(execution.output["a"])
    assert workflow.execute(5).output == {"a": 5, "b": 5}


@at(REMOTE)
def test_an_input_that_cannot_be_pickled_fails_the_step(executor):
    workflow = fan_out({"a": work.same}, executor, on_failure="Caught")
    execution = workflow.execute(work.HoldsALock())
    assert type(execution.output) is TransferError
    assert outcomes(execution) == {}


@at(["loky", "dask"])
def test_a_function_that_cannot_be_sent_is_the_failure_of_its_task(executor):
    tasks = {"bad": work.HoldsALock(), "good": work.double}
    execution = fan_out(tasks, executor).execute(2)
    assert outcomes(execution) == {"bad": Outcome.FAILED, "good": Outcome.SUCCEEDED}
    reason = "".join(traceback.format_exception(execution.output["bad"]))
    assert "cannot pickle '_thread.lock' object" in reason


# --- lost workers ---------------------------------------------------------------


@at(LANES)
def test_a_worker_that_dies_takes_its_own_task_alone(executor, tmp_path):
    tasks = {"bad": work.crash, "good": work.same}
    execution = fan_out(tasks, executor).execute(tmp_path)
    assert type(execution.output["bad"]) is WorkerCrashedError
    assert outcomes(execution) == {"bad": Outcome.CRASHED, "good": Outcome.SUCCEEDED}
    assert lines(tmp_path) == 1


@pytest.mark.parametrize("executor", BREAKABLE)  # opened for this test alone
def test_a_worker_that_dies_breaks_the_pool_and_fails_the_step(executor, tmp_path):
    with OPENERS[executor]() as pool:
        workflow = fan_out({"bad": work.crash}, pool, on_failure="Caught")
        execution = workflow.execute(tmp_path)
    assert isinstance(execution.output.__cause__, BrokenExecutor)
    assert outcomes(execution) == {"bad": Outcome.CRASHED}


@at(["dask"])
def test_the_task_of_a_lost_worker_runs_again(executor, tmp_path):
    execution = fan_out({"a": work.crash_at_first}, executor).execute(tmp_path)
    assert execution.output == {"a": "done"}
    assert [len(r.attempts) for r in execution.history] == [1, 1]
    assert lines(tmp_path) == 2


@at(["dask", "parsl"])
def test_a_task_that_kills_its_workers_has_crashed(executor, tmp_path):
    execution = fan_out({"bad": work.crash}, executor).execute(tmp_path)
    error = execution.output["bad"]
    assert type(error).__name__ in ("KilledWorker", "WorkerLost")
    assert outcomes(execution) == {"bad": Outcome.CRASHED}
    assert fan_out({"good": work.double}, executor).execute(3).output == {"good": 6}


# --- whose executor it is -------------------------------------------------------


@at(OPENERS)
def test_an_executor_is_not_shut_down(executor):
    fan_out({"good": work.double, "bad": work.fail}, executor).execute(1)
    with pytest.raises(ParallelStepExecutionError):
        fan_out({"bad": work.fail}, executor, stop_on_failure=True).execute(1)
    assert executor.submit(work.double, 2).result(timeout=30) == 4


# --- Dask -----------------------------------------------------------------------


@at(["dask"])
def test_equal_tasks_each_run_though_dask_takes_functions_for_pure(executor, tmp_path):
    pure = dask_client().get_executor()
    workflow = fan_out(dict.fromkeys("abc", work.leave_a_line), pure)
    workflow.execute(tmp_path)
    workflow.execute(tmp_path)
    assert lines(tmp_path) == 6


@at(["dask"])
def test_each_visit_of_a_loop_runs_though_dask_takes_functions_for_pure(
    executor, tmp_path
):
    pure = dask_client().get_executor()
    loop = StepFunction("Loop", max_steps=40)
    loop.add_step("Leave", work.leave_a_line, "Again", executor=pure)
    loop.add_step("Again", work.same, "Leave").set_start_step("Leave")
    with pytest.raises(StepExecutionError):
        loop.execute(tmp_path)
    assert lines(tmp_path) == 20


@at(["dask"])
def test_a_stopped_sibling_is_no_longer_waited_for(executor, tmp_path):
    tasks = {
        "bad": work.fail_once_the_other_hangs,
        "other": work.hang_until_released,
    }
    workflow = fan_out(tasks, executor, max_workers=2, stop_on_failure=True)
    with pytest.raises(ParallelStepExecutionError) as caught:
        workflow.execute(tmp_path)
    (tmp_path / "released").touch()
    assert caught.value.outcomes == {"bad": Outcome.FAILED, "other": Outcome.ABANDONED}


@at(["dask"])
def test_the_cluster_keeps_nothing_of_what_has_ended(executor):
    client = dask_client()
    before = set(client.futures)
    execution = fan_out({"bad": work.fail, "good": work.same}, executor).execute(1)
    gc.collect()
    end = time.monotonic() + 5
    while kept := set(client.futures) - before:
        assert time.monotonic() < end, f"{execution!r} keeps {kept}"
        time.sleep(0.01)
