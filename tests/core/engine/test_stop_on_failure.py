from __future__ import annotations

import logging
import os
import threading
import time
from pathlib import Path

import pytest
from shared.calls import same
from shared.parallel import ALL_PLACES, IN_LANES, IN_THREADS, at, fail, fan_out, touch
from shared.processes import is_alive, tell, wait_for

from stepfunction import (
    Outcome,
    ParallelStepExecutionError,
    RetryPolicy,
    Status,
    StepFunction,
)


def tell_and_spin(folder):
    tell(Path(folder, "spins"), str(os.getpid()))
    while True:
        pass


def fail_once_the_other_spins(folder):
    wait_for(folder, "spins")
    Path(folder, "failed").write_text(repr(time.time()))
    raise ValueError("enough")


@pytest.fixture
def executor(request, kept):
    return kept.get(request.param, request.param)


@at(ALL_PLACES)
def test_stopping_keeps_waiting_tasks_from_beginning(executor, tmp_path):
    tasks = {"bad": fail, "late": touch, "later": touch}
    workflow = fan_out(tasks, executor=executor, max_workers=1, stop_on_failure=True)
    with pytest.raises(ParallelStepExecutionError) as caught:
        workflow.execute(tmp_path)
    assert caught.value.outcomes == {
        "bad": Outcome.FAILED,
        "late": Outcome.CANCELLED,
        "later": Outcome.CANCELLED,
    }
    assert set(caught.value.errors) == {"bad"}
    assert list(tmp_path.iterdir()) == []


@at(IN_LANES)
def test_stopping_kills_a_sibling_in_a_long_loop(executor, tmp_path):
    tasks = {"spins": tell_and_spin, "bad": fail_once_the_other_spins}
    workflow = fan_out(
        tasks,
        executor=executor,
        max_workers=2,
        stop_on_failure=True,
        on_failure="Caught",
    )
    error = workflow.execute(tmp_path).output
    since_failure = time.time() - float((tmp_path / "failed").read_text())
    assert since_failure < 2
    assert not is_alive(int((tmp_path / "spins").read_text()))
    assert error.outcomes == {"spins": Outcome.KILLED, "bad": Outcome.FAILED}
    assert set(error.errors) == {"bad"}
    assert repr(error.__cause__) == "ValueError('enough')"


def test_stopping_kills_a_sibling_whose_worker_is_still_starting(tmp_path):
    workflow = StepFunction("W").add_step("Warm", same, "Fan", executor="process")
    tasks = {"bad": fail, "spins": tell_and_spin}
    workflow.add_step(
        "Fan",
        tasks,
        parallel=True,
        executor="process",
        max_workers=2,
        stop_on_failure=True,
        on_failure="Caught",
    )
    workflow.add_step("Caught", same).set_start_step("Warm")
    assert workflow.execute(tmp_path).output.outcomes["spins"] is Outcome.KILLED


def test_stopping_kills_what_a_task_started_in_processes_of_its_own(tmp_path):
    nested = StepFunction("Nested").add_step(
        "Inner", {"spins": tell_and_spin}, parallel=True, executor="process"
    )
    tasks = {"nested": nested.set_start_step("Inner"), "bad": fail_once_the_other_spins}
    workflow = fan_out(
        tasks,
        executor="process",
        max_workers=2,
        stop_on_failure=True,
        on_failure="Caught",
    )
    workflow.execute(tmp_path)
    inner = int((tmp_path / "spins").read_text())
    end = time.monotonic() + 2
    while is_alive(inner) and time.monotonic() < end:
        time.sleep(0.01)
    assert not is_alive(inner)


@at(IN_THREADS)
def test_stopping_tells_threads_and_waits_for_them(executor):
    began = threading.Event()
    ended = []

    def listen(value, context):
        began.set()
        while not context.cancelled:
            time.sleep(0.001)
        ended.append(context.task)
        return "told"

    def fail_then(value):
        assert began.wait(20)
        raise ValueError("enough")

    workflow = fan_out(
        {"listens": listen, "bad": fail_then},
        executor=executor,
        stop_on_failure=True,
        on_failure="Caught",
    )
    error = workflow.execute(1).output
    assert ended == ["listens"]
    assert error.results == {"listens": "told"}
    assert error.outcomes == {"listens": Outcome.SUCCEEDED, "bad": Outcome.FAILED}


def test_stopping_ends_a_nested_workflow_at_its_next_boundary():
    began = threading.Event()
    reached = []

    def begin(value, context):
        began.set()
        while not context.cancelled:
            time.sleep(0.001)

    nested = StepFunction("Nested").add_step("Begin", begin, "Never")
    nested.add_step("Never", reached.append).set_start_step("Begin")

    def fail_then(value):
        assert began.wait(20)
        raise ValueError("enough")

    workflow = fan_out(
        {"nested": nested, "bad": fail_then},
        stop_on_failure=True,
        on_failure="Caught",
    )
    execution = workflow.execute(1)
    assert execution.output.outcomes["nested"] is Outcome.CANCELLED
    assert execution.children["Fan", "nested"].status is Status.CANCELLED
    assert reached == []


def test_stopping_ends_a_sibling_that_pauses_before_a_retry():
    paused = threading.Event()

    class Handler(logging.Handler):
        def emit(self, record):
            paused.set()

    def fail_then(value, context):
        if context.task == "last":
            assert paused.wait(20)
        raise ConnectionError(context.task)

    handler = Handler()
    logger = logging.getLogger("stepfunction")
    logger.addHandler(handler)
    pause = RetryPolicy(max_attempts=2, interval=600, jitter=None)
    nested = StepFunction("Nested").add_step("Try", fail_then, retry=pause)
    workflow = fan_out(
        {"pauses": nested.set_start_step("Try"), "last": fail_then},
        stop_on_failure=True,
        on_failure="Caught",
    )
    try:
        error = workflow.execute(1).output
    finally:
        logger.removeHandler(handler)
    assert str(error.__cause__) == "last"


def test_tasks_past_the_tolerated_failures_are_stopped(tmp_path):
    tasks = {"a": fail, "b": touch, "c": fail, "d": touch}
    workflow = fan_out(
        tasks,
        max_workers=1,
        stop_on_failure=True,
        tolerated_failures=1,
        on_failure="Caught",
    )
    assert workflow.execute(tmp_path).output.outcomes == {
        "a": Outcome.FAILED,
        "b": Outcome.SUCCEEDED,
        "c": Outcome.FAILED,
        "d": Outcome.CANCELLED,
    }
