"""What is done in each worker before its first call, and how it may go wrong."""

from __future__ import annotations

import logging
import multiprocessing
import os
import sys
import threading
import time
from concurrent.futures import BrokenExecutor
from concurrent.futures.process import BrokenProcessPool
from contextvars import ContextVar

import pytest
from shared.calls import double
from shared.processes import is_gone, pid, wait_for
from shared.workers import exit_by, fail, tell_and_wait

from stepfunction import (
    ProcessLanes,
    RetryPolicy,
    StepFunction,
    TransferError,
    WorkerCrashedError,
    WorkerInitError,
    WorkerKilledError,
    WorkerStartError,
)

given = []
variable = ContextVar("variable", default="unset")


def keep(*args):
    given.append(args)
    variable.set(args)


def kept(value=None):
    return given, variable.get()


def change(value):
    variable.set(value)


def log(text):
    logging.getLogger("shop").error(text)


def leave():
    sys.exit("left")


def die():
    os._exit(3)


def raise_late(paths):
    tell_and_wait(paths)
    raise ValueError("told to fail")


def fail_from_the_second_on(path):
    try:
        path.touch(exist_ok=False)
    except FileExistsError:
        raise ValueError("told to fail") from None


def send(queue):
    queue.put(os.getpid())


def with_lock(value):
    with given[0][0]:
        return value


def execute():
    workflow = StepFunction("Inner").set_start_step("A")
    workflow.add_step("A", {"a": double}, parallel=True, executor="process")
    given.append(workflow.execute(21).output["a"])


def start_a_thread():
    threading.Thread(target=given.append, args=("by a thread",)).start()
    while not given:
        time.sleep(0.001)


class CannotBePickled:
    def __reduce__(self):
        raise ValueError("told to fail")


class CannotBeUnpickled:
    def __reduce__(self):
        return fail, ()


# --- where all is well --------------------------------------------------------------


@pytest.mark.parametrize("method", ["forkserver", "spawn"])
def test_it_is_called_once_in_each_worker(method, tmp_path):
    pairs = [(tmp_path / f"on {n}", tmp_path / "go") for n in range(2)]
    with ProcessLanes(2, None, keep, (1, 2), start_method=method) as lanes:
        calls = [lanes.submit(tell_and_wait, pair) for pair in pairs]
        for told, _ in pairs:
            wait_for(told)
        (tmp_path / "go").touch()
        assert len({call.result() for call in calls}) == 2
        for _ in range(4):
            assert lanes.submit(kept).result() == ([(1, 2)], (1, 2))


def test_it_is_called_in_a_worker_that_replaces_another():
    with ProcessLanes(1, initializer=keep, initargs=[1]) as lanes:
        assert isinstance(lanes.submit(exit_by, 1).exception(), WorkerCrashedError)
        assert lanes.submit(kept).result() == ([(1,)], (1,))


def test_what_a_call_sets_does_not_replace_what_it_has_set():
    with ProcessLanes(1, initializer=keep, initargs=[1]) as lanes:
        lanes.submit(change, 2).result()
        assert lanes.submit(kept).result()[1] == (1,)


def test_steps_of_a_workflow_find_what_it_has_set():
    workflow = StepFunction("W").set_start_step("A")
    with ProcessLanes(1, initializer=keep, initargs=[1]) as lanes:
        workflow.add_step("A", kept, executor=lanes)
        assert workflow.execute().output == ([(1,)], (1,))


@pytest.mark.parametrize("method", ["forkserver", "spawn"])
def test_locks_and_queues_of_multiprocessing_may_be_its_arguments(method):
    context = multiprocessing.get_context(method)
    queue = context.Queue()
    with ProcessLanes(1, context, send, (queue,)) as lanes:
        assert lanes.submit(pid).result() == queue.get(timeout=10)
    queue.close()
    queue.join_thread()
    with ProcessLanes(1, context, keep, (context.RLock(),)) as lanes:
        assert lanes.submit(with_lock, 5).result() == 5


def test_its_log_reaches_the_parent(caplog):
    with ProcessLanes(1, initializer=log, initargs=["begins"]) as lanes:
        lanes.submit(pid).result()
    assert [record.getMessage() for record in caplog.records] == ["begins"]


def test_it_may_execute_a_workflow():
    with ProcessLanes(1, initializer=execute) as lanes:
        assert lanes.submit(kept).result()[0] == [42]


def test_it_may_start_threads():
    with ProcessLanes(1, initializer=start_a_thread) as lanes:
        assert lanes.submit(kept).result()[0] == ["by a thread"]


def test_none_of_the_time_it_takes_is_that_of_a_step(tmp_path):
    paths = (tmp_path / "on", tmp_path / "go")
    workflow = StepFunction("W").set_start_step("A")
    with ProcessLanes(1, initializer=tell_and_wait, initargs=(paths,)) as lanes:
        workflow.add_step("A", double, executor=lanes, timeout=0.5)
        execution = workflow.start(2)
        wait_for(paths[0])
        assert not execution.wait(0.6)
        paths[1].touch()
        execution.wait()
        assert execution.output == 4


# --- where it fails -----------------------------------------------------------------


@pytest.mark.parametrize("method", ["forkserver", "spawn"])
def test_what_it_raises_breaks_the_executor(method):
    with ProcessLanes(2, initializer=fail, start_method=method) as lanes:
        futures = [lanes.submit(pid) for _ in range(5)]
        errors = [future.exception() for future in futures]
        for error in errors:
            assert type(error) is WorkerInitError
            assert repr(error.__cause__) == "ValueError('told to fail')"
            assert 'raise ValueError("told to fail")' in str(error.__cause__.__cause__)
        assert len({id(error) for error in errors}) == 5
        with pytest.raises(WorkerInitError) as caught:
            lanes.submit(pid)
        assert repr(caught.value.__cause__) == "ValueError('told to fail')"
        assert str(caught.value) == (
            "the initializer fail failed, so nothing more runs on its ProcessLanes: "
            "ValueError: told to fail"
        )


def test_its_error_is_one_of_a_broken_pool():
    assert issubclass(WorkerInitError, BrokenExecutor)
    assert issubclass(WorkerInitError, BrokenProcessPool)
    assert issubclass(WorkerInitError, WorkerStartError)


def test_its_failure_is_logged_where_others_look_for_it(caplog):
    with ProcessLanes(1, initializer=fail) as lanes:
        lanes.submit(pid).exception()
    (record,) = caplog.records
    assert (record.name, record.levelname) == ("concurrent.futures", "CRITICAL")
    assert "ValueError: told to fail" in record.exc_text


@pytest.mark.parametrize(
    "initializer, cause",
    [(leave, "SystemExit: left"), (die, "exit code 3")],
    ids=["exit", "death"],
)
def test_it_may_end_its_process(initializer, cause):
    with ProcessLanes(1, initializer=initializer) as lanes:
        error = lanes.submit(pid).exception()
        assert type(error) is WorkerInitError
        assert cause in str(error)


def test_a_death_in_it_is_the_cause_of_the_error():
    with ProcessLanes(1, initializer=die) as lanes:
        cause = lanes.submit(pid).exception().__cause__
    assert type(cause) is WorkerCrashedError
    assert (cause.task, cause.exitcode) == ("the initializer die", 3)


def test_a_failure_in_a_worker_that_replaces_another_breaks_the_executor(tmp_path):
    path = tmp_path / "once"
    with ProcessLanes(1, None, fail_from_the_second_on, (path,)) as lanes:
        assert lanes.submit(double, 2).result() == 4
        lanes.submit(exit_by, 1).exception()
        assert type(lanes.submit(double, 2).exception()) is WorkerInitError


def test_what_runs_when_it_fails_elsewhere_goes_on(tmp_path):
    path, paths = tmp_path / "once", (tmp_path / "on", tmp_path / "go")
    with ProcessLanes(2, None, fail_from_the_second_on, (path,)) as lanes:
        running = lanes.submit(tell_and_wait, paths)
        wait_for(paths[0])
        assert type(lanes.submit(pid).exception()) is WorkerInitError
        paths[1].touch()
        assert running.result() > 0


def test_a_call_that_is_killed_while_it_runs_breaks_nothing(tmp_path):
    paths = (tmp_path / "on", tmp_path / "go")
    with ProcessLanes(1, None, tell_and_wait, (paths,)) as lanes:
        future = lanes.submit(pid)
        wait_for(paths[0])
        assert lanes.kill(future)
        assert type(future.exception()) is WorkerKilledError
        paths[1].touch()
        assert lanes.submit(double, 2).result() == 4


def test_callbacks_of_what_it_fails_may_submit(tmp_path):
    paths, refused = (tmp_path / "on", tmp_path / "go"), []

    def submit_again(future):
        try:
            lanes.submit(pid)
        except WorkerInitError as error:
            refused.append(error)

    with ProcessLanes(1, initializer=raise_late, initargs=(paths,)) as lanes:
        futures = [lanes.submit(pid) for _ in range(3)]
        wait_for(paths[0])
        for future in futures:
            future.add_done_callback(submit_again)
        paths[1].touch()
    assert len(refused) == 3


@pytest.mark.parametrize("kind", ["step", "tasks", "items", "batches", "nested"])
def test_a_workflow_on_such_lanes_stops(kind):
    workflow = StepFunction("W").set_start_step("A").add_step("B", double)
    with ProcessLanes(1, initializer=fail) as lanes:
        terms = {"executor": lanes, "on_failure": "B"}
        if kind == "step":
            workflow.add_step("A", double, retry=RetryPolicy(3, interval=0), **terms)
        elif kind == "tasks":
            workflow.add_step("A", {"a": double, "b": pid}, parallel=True, **terms)
        elif kind == "nested":
            inner = StepFunction("I").set_start_step("A")
            inner.add_step("A", double, executor=lanes)
            workflow.add_sub_step_function("A", inner, on_failure="B")
        else:
            size = 2 if kind == "batches" else 1
            workflow.add_map_step("A", double, batch_size=size, **terms)
        for _ in range(2):
            with pytest.raises(WorkerInitError) as caught:
                workflow.execute([1, 2, 3])
            assert repr(caught.value.__cause__) == "ValueError('told to fail')"


# --- what cannot be sent ------------------------------------------------------------


def nested():
    return lambda: None


@pytest.mark.parametrize(
    "initializer, initargs, text",
    [
        (nested(), (), "the initializer nested.<locals>.<lambda> cannot be sent"),
        (keep, (CannotBePickled(),), "told to fail"),
        (keep, (threading.Lock(),), "cannot pickle '_thread.lock' object"),
    ],
)
@pytest.mark.parametrize("method", ["forkserver", "spawn"])
def test_what_cannot_be_pickled_is_refused_at_once(method, initializer, initargs, text):
    with pytest.raises(TransferError, match=text):
        ProcessLanes(1, None, initializer, initargs, start_method=method)


def test_what_cannot_be_unpickled_breaks_the_executor():
    with ProcessLanes(1, None, keep, (CannotBeUnpickled(),)) as lanes:
        error = lanes.submit(pid).exception()
        assert type(error) is WorkerInitError
        assert type(error.__cause__) is TransferError


def test_what_is_no_callable_is_refused():
    with pytest.raises(TypeError, match="initializer must be a callable, not 3"):
        ProcessLanes(1, initializer=3)


def test_a_failed_executor_leaves_no_process(tmp_path):
    context = multiprocessing.get_context("forkserver")
    queue = context.Queue()
    with ProcessLanes(1, context, send, (queue,)) as lanes:
        lanes.submit(pid).result()
        worker = queue.get(timeout=10)
    assert is_gone(worker)
    queue.close()
    queue.join_thread()
