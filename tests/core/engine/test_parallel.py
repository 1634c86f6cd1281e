from __future__ import annotations

import logging
import multiprocessing
import os
import pickle
import re
import sys
import threading
import time
from concurrent.futures import (
    Executor,
    Future,
    ProcessPoolExecutor,
    ThreadPoolExecutor,
)
from contextlib import suppress
from contextvars import ContextVar
from pathlib import Path

import pytest

from stepfunction import (
    DefinitionError,
    ExecutionCancelledError,
    Outcome,
    ParallelStepExecutionError,
    ProcessLanes,
    RetryPolicy,
    Status,
    StepExecutionError,
    StepFunction,
    TransferError,
    WorkerCrashedError,
)

ONCE_MORE = RetryPolicy(max_attempts=2, interval=0)
IF_DISCONNECTED = RetryPolicy(max_attempts=2, interval=0, retry_on=ConnectionError)
letter = ContextVar("letter", default="none")


def double(value):
    return value * 2


def negate(value):
    return -value


def fail(value):
    raise ValueError(f"cannot take {value}")


def fail_otherwise(value):
    raise KeyError(value)


def leave(value):
    sys.exit(3)


def interrupt(value):
    raise KeyboardInterrupt


def crash(value):
    os._exit(3)


def pid(value=None):
    return os.getpid()


def thread_id(value=None):
    return threading.get_ident()


def attempt_of(value, context):
    return context.attempt


def who(value, context):
    return context.execution_id, context.step, context.task, context.attempt


def look_up(value, context):
    return context["Before"]


def append(items):
    items.append("changed")
    return items


def same(value):
    return value


def touch(folder, context):
    Path(folder, context.task).touch()


def leave_a_line(folder):
    descriptor = os.open(
        Path(folder, "lines"), os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644
    )
    os.write(descriptor, b"line\n")
    os.close(descriptor)


def wait_for(*parts):
    path = Path(*parts)
    end = time.monotonic() + 20
    while not path.exists():
        assert time.monotonic() < end, f"{path} never came"
        time.sleep(0.005)
    return path


def second_before_first(folder, context):
    if context.task == "first":
        wait_for(folder, "second")
    touch(folder, context)
    return context.task


def fail_after_the_second(value, context):
    if context.task == "first":
        raise ConnectionError(context.task)  # which is tried again, and so ends last
    raise ValueError(context.task)


def tell_and_spin(folder):
    Path(folder, "part").write_text(str(os.getpid()))
    os.rename(Path(folder, "part"), Path(folder, "spins"))
    while True:
        pass


def fail_once_the_other_spins(folder):
    wait_for(folder, "spins")
    Path(folder, "failed").write_text(repr(time.time()))
    raise ValueError("enough")


def fail_until_second_attempt(value, context):
    if context.attempt < 2:
        raise ConnectionError(context.task)
    return context.attempt


def is_alive(process_id):
    try:
        stat = Path(f"/proc/{process_id}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


def fan_out(tasks, **arguments):
    workflow = StepFunction("W").add_step("Fan", tasks, parallel=True, **arguments)
    if arguments.get("on_failure"):
        workflow.add_step("Caught", same)
    return workflow.set_start_step("Fan")


def one_step(func, **arguments):
    return StepFunction("W").add_step("Step", func, **arguments).set_start_step("Step")


def execute(workflow, value):
    try:
        return workflow.execute(value)
    except (SystemExit, KeyboardInterrupt) as error:  # which would end pytest
        pytest.fail(f"{error!r} came out of execute()")


def outcomes(execution):
    return {r.task: r.outcome for r in execution.history if r.task is not None}


@pytest.fixture(scope="module")
def kept():
    forkserver = multiprocessing.get_context("forkserver")
    with (
        ProcessLanes(2) as lanes,
        ThreadPoolExecutor(4) as threads,
        ProcessPoolExecutor(2, mp_context=forkserver) as processes,
    ):
        yield {
            "ProcessLanes": lanes,
            "ThreadPoolExecutor": threads,
            "ProcessPoolExecutor": processes,
        }


# "process" is ProcessLanes of one execution, and dear to start: a few tests have it.
IN_THREADS = ["thread", "ThreadPoolExecutor"]
IN_PROCESSES = ["ProcessLanes", "ProcessPoolExecutor"]
IN_LANES = ["process", "ProcessLanes"]
ELSEWHERE = [*IN_THREADS, *IN_PROCESSES]
PLACES = ["inline", *ELSEWHERE]
ALL_PLACES = ["process", *PLACES]


@pytest.fixture
def executor(request, kept):
    return kept.get(request.param, request.param)


def at(places):
    return pytest.mark.parametrize("executor", places, indirect=True)


# --- results --------------------------------------------------------------------


@at(ALL_PLACES)
def test_every_task_is_given_the_input_of_the_step(executor):
    workflow = fan_out({"double": double, "negate": negate}, executor=executor)
    assert workflow.execute(4).output == {"double": 8, "negate": -4}


@at(ELSEWHERE)
def test_results_stand_in_declaration_order(executor, tmp_path):
    tasks = {"first": second_before_first, "second": second_before_first}
    workflow = fan_out(tasks, executor=executor, max_workers=2)
    assert list(workflow.execute(tmp_path).output.items()) == [
        ("first", "first"),
        ("second", "second"),
    ]


@at(PLACES)
def test_a_task_knows_its_execution_step_and_name(executor):
    workflow = fan_out({"a": who, "b": who}, executor=executor)
    execution = workflow.execute(0)
    assert execution.output == {
        "a": (execution.id, "Fan", "a", 1),
        "b": (execution.id, "Fan", "b", 1),
    }


@at(PLACES)
def test_params_go_to_every_task(executor):
    workflow = fan_out({"a": int, "b": int}, params={"base": 16}, executor=executor)
    assert workflow.execute("ff").output == {"a": 255, "b": 255}


@at(["inline", *IN_THREADS])
def test_tasks_may_look_at_the_context(executor):
    workflow = StepFunction("W").add_step("Before", double, next_step="Fan")
    workflow.add_step("Fan", {"a": look_up}, parallel=True, executor=executor)
    assert workflow.set_start_step("Before").execute(2).output == {"a": 4}


@at(IN_PROCESSES)
def test_a_process_cannot_look_at_the_context(executor):
    workflow = StepFunction("W").add_step("Before", double, next_step="Fan")
    workflow.add_step("Fan", {"a": look_up}, parallel=True, executor=executor)
    error = workflow.set_start_step("Before").execute(2).output["a"]
    assert type(error) is TransferError
    text = "context['Before'] is not to be had in another process"
    assert str(error).startswith(text)


@at(["inline", *IN_THREADS])
def test_threads_share_the_input(executor):
    value = ["mine"]
    output = fan_out({"a": same, "b": append}, executor=executor).execute(value).output
    assert output["a"] is value and output["b"] is value
    assert value == ["mine", "changed"]


@at(IN_PROCESSES)
def test_processes_copy_the_input(executor):
    value = ["mine"]
    workflow = fan_out({"a": append, "b": append}, executor=executor)
    output = workflow.execute(value).output
    assert output == {"a": ["mine", "changed"], "b": ["mine", "changed"]}
    assert value == ["mine"]


@at(PLACES)
def test_the_same_function_three_times_runs_three_times(executor, tmp_path):
    tasks = dict.fromkeys("abc", leave_a_line)
    fan_out(tasks, executor=executor).execute(tmp_path)
    assert (tmp_path / "lines").read_text() == "line\n" * 3


@at(PLACES)
def test_a_callable_branch_is_given_the_output(executor):
    workflow = StepFunction("W")
    workflow.add_step(
        "Fan",
        {"a": double, "b": negate},
        parallel=True,
        executor=executor,
        branch=lambda output: "Positive" if output["a"] > 0 else "Negative",
        branch_targets=["Positive", "Negative"],
    )
    workflow.add_step("Positive", sorted).add_step("Negative", sorted)
    execution = workflow.set_start_step("Fan").execute(1)
    assert list(execution.context) == ["Fan", "Positive"]


def test_a_mapping_branch_is_refused():
    with pytest.raises(DefinitionError) as caught:
        fan_out({"a": double}, branch={1: "Fan"})
    assert str(caught.value) == (
        "step 'Fan': branch is a mapping, but the output of a parallel step, itself a "
        "mapping, can be no key of it; let branch be a callable of the output, with "
        "branch_targets"
    )


def test_hundreds_of_tasks_all_run():
    tasks = {str(n): n.__add__ for n in range(500)}
    output = fan_out(tasks).execute(1).output
    assert output == {str(n): n + 1 for n in range(500)}


# --- tolerated failures ---------------------------------------------------------


@at(ALL_PLACES)
def test_a_step_that_says_nothing_more_tolerates_failures(executor):
    workflow = StepFunction("W")
    tasks = {"good": double, "bad": fail}
    workflow.add_step("Fan", tasks, parallel=True, executor=executor, next_step="Next")
    workflow.add_step("Next", same)
    execution = workflow.set_start_step("Fan").execute(4)
    output = execution.context["Fan"]
    assert execution.status is Status.COMPLETED
    assert execution.output is output
    assert output["good"] == 8
    assert repr(output["bad"]) == "ValueError('cannot take 4')"
    assert output.failed == {"bad": output["bad"]}
    assert [(r.step, r.task) for r in execution.failures] == [("Fan", "bad")]
    assert outcomes(execution) == {"good": Outcome.SUCCEEDED, "bad": Outcome.FAILED}


@at(PLACES)
def test_raise_if_failed_raises_what_was_tolerated(executor):
    workflow = fan_out({"good": double, "bad": fail}, executor=executor)
    output = workflow.execute(4).output
    with pytest.raises(ParallelStepExecutionError) as caught:
        output.raise_if_failed()
    error = caught.value
    assert str(error) == (
        "1 of 2 tasks of step 'Fan' failed: 'bad': ValueError: cannot take 4"
    )
    assert error.outcomes == {"good": "SUCCEEDED", "bad": "FAILED"}
    assert error.results == {"good": 8}
    assert error.errors == {"bad": output["bad"]}
    assert error.__cause__ is output["bad"]


def test_raise_if_failed_gives_the_output_where_nothing_failed():
    output = fan_out({"good": double}).execute(4).output
    assert output.raise_if_failed() is output
    assert output.failed == {}


@at(ELSEWHERE)
def test_raise_if_failed_names_the_first_failure_in_time_as_the_cause(executor):
    tasks = {"first": fail_after_the_second, "second": fail_after_the_second}
    workflow = fan_out(tasks, executor=executor, max_workers=1, retry=IF_DISCONNECTED)
    output = workflow.execute().output
    with pytest.raises(ParallelStepExecutionError) as caught:
        output.raise_if_failed()
    assert caught.value.__cause__ is output["second"]


def test_a_tolerated_failure_is_logged_as_an_error(caplog):
    fan_out({"good": double, "bad": fail}).execute(4)
    (record,) = caplog.records
    assert (record.levelno, record.name) == (logging.ERROR, "stepfunction")
    assert re.fullmatch(
        r"task 'bad' of step 'Fan' of 'W' failed in .+ m?s: ValueError: cannot take 4",
        record.getMessage(),
    )
    assert record.exc_info[1].args == ("cannot take 4",)


@at(PLACES)
def test_a_step_with_a_failure_step_fails_when_all_have_ended(executor, tmp_path):
    tasks = {"bad": fail, "good": touch, "better": touch}
    workflow = fan_out(tasks, executor=executor, on_failure="Caught")
    execution = workflow.execute(tmp_path)
    error = execution.context["Fan"]
    assert execution.status is Status.FAILED
    assert type(error) is ParallelStepExecutionError
    assert error.outcomes == {
        "bad": Outcome.FAILED,
        "good": Outcome.SUCCEEDED,
        "better": Outcome.SUCCEEDED,
    }
    assert sorted(path.name for path in tmp_path.iterdir()) == ["better", "good"]


@pytest.mark.parametrize(
    "tolerated, count, failing, is_failure",
    [
        (0, 3, 0, False),
        (0, 3, 1, True),
        (1, 3, 1, False),
        (1, 3, 2, True),
        ("10%", 10, 1, False),
        ("10%", 10, 2, True),
        ("10%", 9, 1, True),
        ("10%", 30, 3, False),
        ("12.5%", 8, 1, False),
        ("100%", 2, 2, False),
        ("0%", 2, 1, True),
    ],
)
@pytest.mark.parametrize("on_failure", [None, "Caught"])
@pytest.mark.parametrize("stop_on_failure", [False, True])
def test_tolerated_failures_move_the_threshold(
    tolerated, count, failing, is_failure, on_failure, stop_on_failure
):
    tasks = {str(n): fail if n < failing else double for n in range(count)}
    workflow = fan_out(
        tasks,
        tolerated_failures=tolerated,
        on_failure=on_failure,
        stop_on_failure=stop_on_failure,
    )
    if is_failure and on_failure is None:
        with pytest.raises(ParallelStepExecutionError):
            workflow.execute(1)
    else:
        assert ("Caught" in workflow.execute(1).context) is is_failure


@pytest.mark.parametrize(
    "tolerated", [-1, 1.5, True, "10", "101%", "-1%", "x%", "%", "\N{THAI DIGIT ONE}%"]
)
def test_what_is_no_count_and_no_share_is_refused(tolerated):
    with pytest.raises(DefinitionError) as caught:
        fan_out({"a": double}, tolerated_failures=tolerated)
    assert str(caught.value) == (
        "step 'Fan': tolerated_failures is a count from 0, or a share of the tasks "
        f"such as '10%', not {tolerated!r}"
    )


@pytest.mark.parametrize("executor", ["inline", "thread"])
def test_an_error_that_cannot_be_printed_is_tolerated_like_any(executor):
    class Unprintable(Exception):
        def __str__(self):
            raise RuntimeError("no text")

    def bad(value):
        raise Unprintable

    output = fan_out({"bad": bad, "good": double}, executor=executor).execute(1).output
    assert type(output["bad"]) is Unprintable
    assert output["good"] == 2


# --- a parallel step that fails -------------------------------------------------


@at(ALL_PLACES)
def test_an_unhandled_failure_is_what_execute_raises(executor):
    tasks = {"good": double, "bad": fail}
    workflow = fan_out(tasks, executor=executor, tolerated_failures=0)
    with pytest.raises(ParallelStepExecutionError) as caught:
        workflow.execute(4)
    error = caught.value
    assert isinstance(error, StepExecutionError)
    assert error.step == "Fan"
    assert error.outcomes == {"good": Outcome.SUCCEEDED, "bad": Outcome.FAILED}
    assert error.results == {"good": 8}
    assert repr(error.errors) == "{'bad': ValueError('cannot take 4')}"
    assert error.__cause__ is error.errors["bad"]
    assert error.execution.status is Status.FAILED


@at(ELSEWHERE)
def test_the_first_failure_in_time_is_the_cause(executor):
    tasks = {"first": fail_after_the_second, "second": fail_after_the_second}
    workflow = fan_out(
        tasks,
        executor=executor,
        max_workers=1,
        retry=IF_DISCONNECTED,
        on_failure="Caught",
    )
    error = workflow.execute().output
    assert error.__cause__ is error.errors["second"]
    assert set(error.errors) == {"first", "second"}


def test_a_failure_step_is_found_by_the_cause():
    workflow = StepFunction("W").add_step(
        "Fan",
        {"bad": fail, "good": double},
        parallel=True,
        on_failure={KeyError: "Key", ValueError: "Value"},
    )
    workflow.add_step("Key", same).add_step("Value", same).set_start_step("Fan")
    assert list(workflow.execute(1).context) == ["Fan", "Value"]


@at(ELSEWHERE)
@pytest.mark.parametrize(
    "task, kind", [(leave, SystemExit), (interrupt, KeyboardInterrupt)]
)
@pytest.mark.parametrize("retry", [None, ONCE_MORE])
def test_what_would_end_the_program_is_the_failure_of_its_task(
    executor, task, kind, retry
):
    workflow = fan_out({"bad": task, "good": double}, executor=executor, retry=retry)
    execution = execute(workflow, 4)
    assert type(execution.output["bad"]) is kind
    assert execution.output["good"] == 8
    assert outcomes(execution) == {"bad": Outcome.FAILED, "good": Outcome.SUCCEEDED}


@at(ELSEWHERE)
@pytest.mark.parametrize("retry", [None, ONCE_MORE])
def test_what_would_end_the_program_fails_a_step_that_runs_elsewhere(executor, retry):
    workflow = one_step(leave, executor=executor, on_failure="Caught", retry=retry)
    execution = execute(workflow.add_step("Caught", same), 1)
    assert type(execution.context["Step"]) is SystemExit
    assert execution.status is Status.FAILED


@at(IN_THREADS)
def test_a_workflow_that_would_end_the_program_leaves_its_siblings_alone(executor):
    nested = StepFunction("Nested").add_step("Leave", leave).set_start_step("Leave")

    tasks = {"nested": nested, "late": double, "later": double}
    execution = execute(fan_out(tasks, executor=executor, max_workers=1), 1)
    assert execution.output["late"] == execution.output["later"] == 2
    assert set(execution.output.failed) == {"nested"}


@at(IN_LANES)
def test_a_crash_is_the_failure_of_its_task_alone(executor):
    tasks = {"bad": crash, "good": double, "better": negate}
    execution = fan_out(tasks, executor=executor).execute(4)
    error = execution.output["bad"]
    assert type(error) is WorkerCrashedError
    assert str(error) == (
        f"the worker process of task 'bad' of step 'Fan' (pid {error.pid}) ended with "
        "exit code 3"
    )
    assert outcomes(execution) == {
        "bad": Outcome.CRASHED,
        "good": Outcome.SUCCEEDED,
        "better": Outcome.SUCCEEDED,
    }
    assert [r.task for r in execution.failures] == ["bad"]


def test_a_pool_that_breaks_fails_the_step_with_its_own_error():
    forkserver = multiprocessing.get_context("forkserver")
    with ProcessPoolExecutor(1, mp_context=forkserver) as pool:
        tasks = {"bad": crash, "good": double}
        output = fan_out(tasks, executor=pool, max_workers=1).execute(4).output
        assert {type(e).__name__ for e in output.values()} == {"BrokenProcessPool"}


@pytest.mark.parametrize("make", [ProcessLanes, ThreadPoolExecutor])
def test_an_executor_that_was_shut_down_fails_the_step(make):
    pool = make(1)
    pool.shutdown()
    workflow = fan_out({"a": double, "b": double}, executor=pool, on_failure="Caught")
    error = workflow.execute(4).output
    assert type(error) is RuntimeError
    assert "after shutdown" in str(error)


@pytest.mark.parametrize("make", [ProcessLanes, ThreadPoolExecutor])
def test_no_step_tolerates_an_executor_that_was_shut_down(make):
    pool = make(1)
    pool.shutdown()
    with pytest.raises(StepExecutionError, match="after shutdown"):
        fan_out({"a": double, "b": double}, executor=pool).execute(4)


# --- stop_on_failure ------------------------------------------------------------


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


# --- how many at once -----------------------------------------------------------


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


# --- other people's executors ---------------------------------------------------


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


# --- overriding the executor ----------------------------------------------------


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


# --- context variables ----------------------------------------------------------


@at(["inline", *IN_THREADS])
def test_context_variables_reach_the_tasks(executor):
    token = letter.set("alpha")
    try:
        tasks = dict.fromkeys("abc", lambda: letter.get())
        output = fan_out(tasks, executor=executor).execute().output
    finally:
        letter.reset(token)
    assert output == dict.fromkeys("abc", "alpha")


@at(["inline", *IN_THREADS])
def test_each_task_has_context_variables_of_its_own(executor):
    def change(value, context):
        before = letter.get()
        letter.set(context.task)
        return before

    workflow = fan_out(dict.fromkeys("abc", change), executor=executor, max_workers=1)
    assert workflow.execute().output == dict.fromkeys("abc", "none")
    assert letter.get() == "none"


# --- retries and nested workflows -----------------------------------------------


@at(ALL_PLACES)
def test_each_task_is_retried_by_itself(executor):
    tasks = {"flaky": fail_until_second_attempt, "sure": attempt_of, "bad": fail}
    execution = fan_out(tasks, executor=executor, retry=ONCE_MORE).execute(0)
    assert execution.output["flaky"] == 2
    assert execution.output["sure"] == 1
    assert set(execution.output.failed) == {"bad"}
    attempts = {
        r.task: [a.outcome for a in r.attempts] for r in execution.history if r.task
    }
    assert attempts == {
        "flaky": [Outcome.FAILED, Outcome.SUCCEEDED],
        "sure": [Outcome.SUCCEEDED],
        "bad": [Outcome.FAILED, Outcome.FAILED],
    }


def crash_at_first(value, context):
    if context.attempt == 1:
        os._exit(1)
    return context.attempt


@at(IN_LANES)
def test_a_crash_is_retried(executor):
    execution = one_step(crash_at_first, executor=executor, retry=ONCE_MORE).execute()
    assert execution.output == 2
    (record,) = execution.history
    assert [a.outcome for a in record.attempts] == [Outcome.CRASHED, Outcome.SUCCEEDED]


@at(ALL_PLACES)
def test_a_task_may_be_a_workflow(executor):
    nested = StepFunction("Nested").add_step("Double", double, "Negate")
    nested.add_step("Negate", negate).set_start_step("Double")
    workflow = fan_out({"nested": nested, "plain": double}, executor=executor)
    execution = workflow.execute(3)
    assert execution.output == {"nested": -6, "plain": 6}
    child = execution.children["Fan", "nested"]
    assert dict(child.context) == {"Double": 6, "Negate": -6}
    assert [r.child for r in execution.history if r.task == "nested"] == [child]


@at(PLACES)
def test_a_workflow_that_fails_is_a_failed_task(executor):
    nested = StepFunction("Nested").add_step("Bad", fail).set_start_step("Bad")
    tasks = {"nested": nested, "plain": double}
    execution = fan_out(tasks, executor=executor).execute(3)
    error = execution.output["nested"]
    assert str(error) == (
        "task 'nested' of step 'Fan': nested workflow 'Nested' failed at its step "
        "'Bad': ValueError: cannot take 3"
    )
    assert repr(error.__cause__) == "ValueError('cannot take 3')"
    assert execution.children["Fan", "nested"].status is Status.FAILED
    assert execution.output["plain"] == 6


# --- a plain step with an executor ----------------------------------------------


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
