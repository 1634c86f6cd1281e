from __future__ import annotations

import asyncio
import gc
import os
import pickle
import signal
import sys
import threading
import weakref
from collections import Counter
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import suppress
from time import time
from types import ModuleType

import pytest
from hypothesis import given
from test_properties import VALUES, built, examples, executed, workflows

from stepfunction import (
    DefinitionError,
    Event,
    ExecutionCancelledError,
    ExecutionTimeoutError,
    HeartbeatTimeoutError,
    Omitted,
    Outcome,
    ParallelStepExecutionError,
    ProcessLanes,
    RetryPolicy,
    Status,
    StepExecutionError,
    StepFunction,
    StepFunctionError,
    StepLimitError,
    StepTimeoutError,
    TransferError,
    WorkerCrashedError,
)
from stepfunction.core.watching import telling as telling_module

ONCE_MORE = RetryPolicy(max_attempts=2, interval=0)
LIMIT = 0.2


# --- what steps do ------------------------------------------------------------------


def one(value):
    return 1


def fail(value):
    raise ValueError("no")


def fail_once(value, context):
    if context.attempt == 1:
        raise ValueError("no")
    return "again"


def die(value):
    os._exit(3)


def hang(value, context):
    threading.Event().wait()


class Unsendable(Exception):
    def __init__(self, text, code):
        super().__init__(text)
        self.lock = threading.Lock()


def fail_unsendably(value):
    raise Unsendable("no", 3)


def until_told(value, context):
    context.sleep(30)


def workflow_of(action=one, name="W", step="A", **options):
    workflow = StepFunction(name).add_step(step, action, **options)
    return workflow.set_start_step(step)


def fan_out(tasks, name="W", **options):
    return workflow_of(tasks, name, parallel=True, **options)


def nested_of(action=one, **options):
    return workflow_of(action, "Inner", "X", **options)


# Takes events, and the threads that it is called by.
class Told(list):
    def __init__(self):
        super().__init__()
        self.threads = set()

    def __call__(self, event):
        self.threads.add(threading.get_ident())
        self.append(event)

    def of(self, kind):
        return [event for event in self if event.kind == kind]

    def only(self, kind):
        (event,) = self.of(kind)
        return event

    @property
    def kinds(self):
        return [event.kind for event in self]

    @property
    def steps(self):
        return [(event.kind, event.step) for event in self if event.step]


def tell(workflow, value=None, **options):
    told = Told()
    with suppress(StepFunctionError, KeyboardInterrupt):
        workflow.execute(value, listeners=[told], **options)
    return told


def place_of(event):
    return event.execution_id, event.step, event.task


# Every beginning has one end, and lies inside what it belongs to.
def check_pairs(told):
    open_now, at = [], {(): set()}
    for event in told:
        subject, _, what = event.kind.partition("_")
        if subject == "compensation":  # of what may have ended long ago
            continue
        if event.path:
            *outer, key = event.path
            assert key in at[tuple(outer)]
        if what == "started":
            if subject == "execution":
                at[event.path] = set()
            key = (event.step, event.task) if event.task else event.step
            at[event.path].add(key)
            open_now.append(place_of(event))
        elif what == "retried":
            assert place_of(event) in open_now
        else:
            if event.attempts or subject != "task":  # else it never began
                open_now.remove(place_of(event))
                key = (event.step, event.task) if event.task else event.step
                at[event.path].discard(key)
            if subject == "step":
                assert all(it[:2] != place_of(event)[:2] for it in open_now)
            if subject == "execution":
                assert all(it[0] != event.execution_id for it in open_now)
    assert open_now == []
    assert {event.root_id for event in told} == {told[0].execution_id}
    assert (told[0].kind, told[-1].kind) == ("execution_started", "execution_ended")


# The path of each event is what leads to its execution through ``children``.
def check_children(execution, told, root=None, path=()):
    own = [event for event in told if event.path == path]
    assert {event.execution_id for event in own} == {execution.id}
    for key, child in execution.children.items():
        check_children(child, told, root or execution, (*path, key))


# What was told of an execution, and of all nested in it, is in its history.
def check_history(execution, told):
    expected, found, tasks = [], [], {}
    for record in execution.history:
        if record.task is None:
            expected.append((facts_of(record), {}))
        else:
            expected[-1][1][record.task] = facts_of(record)
        if record.child is not None:
            check_history(record.child, told)
    own = [event for event in told if event.execution_id == execution.id]
    undone = [event for event in own if event.kind.startswith("compensation")]
    assert list(map(facts_of, undone)) == list(map(facts_of, execution.compensations))
    own = [event for event in own if event not in undone]
    for event in own:
        if event.outcome is None or event.kind.endswith("_retried"):
            continue
        if event.task is not None:
            tasks[event.task] = facts_of(event)
        else:
            found.append((facts_of(event), tasks))
            tasks = {}
    assert found == expected
    started = [event.step for event in own if event.kind == "step_started"]
    assert started == [step for (step, *_), _ in expected]
    assert own[-1].status is execution.status
    assert own[-1].duration == execution.duration


def facts_of(it):
    attempts = [(attempt.number, attempt.outcome) for attempt in it.attempts]
    return it.step, it.outcome, attempts, it.duration, repr(it.error)


# --- each kind of event -------------------------------------------------------------


def test_a_sequence_tells_of_each_step_in_order():
    workflow = workflow_of(next_step="B").add_step("B", one)

    told = tell(workflow)

    assert [(event.kind, event.step) for event in told] == [
        ("execution_started", None),
        ("step_started", "A"),
        ("step_succeeded", "A"),
        ("step_started", "B"),
        ("step_succeeded", "B"),
        ("execution_ended", None),
    ]


def test_a_listener_is_told_before_the_next_step_runs():
    told = Told()
    seen = []
    workflow = workflow_of(lambda value: seen.append(told.kinds), next_step="B")
    workflow.add_step("B", lambda value: seen.append(told.kinds))

    workflow.execute(listeners=[told])

    first = ["execution_started", "step_started"]
    assert seen == [first, [*first, "step_succeeded", "step_started"]]


def test_every_event_says_which_execution_it_is_of():
    told = Told()
    execution = workflow_of().execute(listeners=[told])

    for event in told:
        assert event.root_id == event.execution_id == execution.id
        assert (event.workflow, event.path) == ("W", ())
        assert event.execution is execution
        assert (event.task, event.tasks, event.pause) == (None, (), None)


def test_an_event_has_the_time_at_which_it_happened():
    before = time()
    told = Told()
    execution = workflow_of(next_step="B").add_step("B", one).execute(listeners=[told])
    after = time()

    times = [event.time for event in told]
    assert times == sorted(times)
    assert before - 0.1 <= times[0] and times[-1] <= after + 0.1
    assert times[0] == execution.started
    (first, _) = execution.history
    assert told.of("step_succeeded")[0].time == first.started + first.duration


def test_the_end_of_an_execution_has_its_status_and_duration():
    told = Told()
    execution = workflow_of().execute(listeners=[told])

    end = told.only("execution_ended")
    assert (end.status, end.error, end.outcome) == (Status.COMPLETED, None, None)
    assert end.duration == execution.duration
    assert told[0].status is told[0].duration is None


def test_a_listener_finds_the_execution_as_it_stands():
    seen = []

    def look(event):
        execution = event.execution
        seen.append((execution.status, len(execution.history), execution.output))

    workflow_of().execute(listeners=[look])

    assert seen == [
        (Status.RUNNING, 0, None),
        (Status.RUNNING, 0, None),
        (Status.COMPLETED, 1, 1),
        (Status.COMPLETED, 1, 1),
    ]


def test_the_end_of_a_step_has_its_outcome_and_attempt():
    told = Told()
    execution = workflow_of().execute(listeners=[told])

    end, (record,) = told.only("step_succeeded"), execution.history
    assert end.outcome is Outcome.SUCCEEDED
    assert (end.attempts, end.duration) == (record.attempts, record.duration)
    assert end.error is end.next_step is end.status is None


def test_only_the_steps_on_the_branch_that_is_taken_are_told_of():
    workflow = workflow_of(branch={1: "B", 2: "C"})
    workflow.add_step("B", one).add_step("C", one)

    assert [event.step for event in tell(workflow).of("step_started")] == ["A", "B"]


def test_a_failed_step_names_the_step_that_takes_the_failure():
    workflow = workflow_of(fail, on_failure="B").add_step("B", one)
    told = Told()

    execution = workflow.execute(listeners=[told])

    failed, end = told.only("step_failed"), told[-1]
    assert failed.error is execution.failures[0].error
    assert (failed.outcome, failed.next_step) == (Outcome.FAILED, "B")
    assert told.kinds[3:] == ["step_started", "step_succeeded", "execution_ended"]
    assert (end.status, end.error) == (Status.FAILED, failed.error)


def test_an_unhandled_failure_names_no_step():
    told = Told()
    with pytest.raises(StepExecutionError) as caught:
        workflow_of(fail).execute(listeners=[told])

    failed = told.only("step_failed")
    assert failed.error is caught.value.__cause__
    assert (failed.next_step, told[-1].status) == (None, Status.FAILED)


def test_a_branch_that_leads_nowhere_is_a_failure_of_its_step():
    told = tell(workflow_of(branch={2: "B"}).add_step("B", one))

    assert told.steps == [("step_started", "A"), ("step_failed", "A")]


def test_an_execution_that_takes_too_many_steps_ends_after_its_last():
    workflow = StepFunction("W", max_steps=2).add_step("A", one, next_step="A")

    told = tell(workflow.set_start_step("A"))

    assert told.steps == [("step_started", "A"), ("step_succeeded", "A")] * 2
    assert type(told[-1].error) is StepLimitError


def test_each_visit_of_a_loop_is_told_of():
    numbers = iter([True, True, False])
    workflow = StepFunction("W", max_steps=9).set_start_step("A")
    workflow.add_step("A", lambda: next(numbers), branch={True: "A", False: "B"})
    workflow.add_step("B", one)

    told = tell(workflow)

    assert [event.step for event in told.of("step_started")] == ["A", "A", "A", "B"]
    check_pairs(told)


# --- tasks --------------------------------------------------------------------------

PLACES = ["inline", "thread", "process", "threads of others", "processes of others"]


@pytest.fixture(scope="module")
def lanes():
    with ProcessLanes(max_workers=2) as lanes:
        yield lanes


@pytest.fixture
def executor(request, lanes):
    if request.param == "process":
        yield lanes
    elif request.param == "threads of others":
        with ThreadPoolExecutor(2) as pool:
            yield pool
    elif request.param == "processes of others":
        with ProcessPoolExecutor(1) as pool:
            yield pool
    else:
        yield request.param


everywhere = pytest.mark.parametrize("executor", PLACES, indirect=True)


@everywhere
def test_a_parallel_step_tells_of_its_tasks(executor):
    told = Told()
    workflow = fan_out({"good": one, "bad": fail}, executor=executor)
    execution = workflow.execute(listeners=[told])

    assert told.of("step_started")[0].tasks == ("good", "bad")
    assert {event.task for event in told.of("task_started")} == {"good", "bad"}
    good, bad = told.only("task_succeeded"), told.only("task_failed")
    assert (good.step, good.task, good.outcome) == ("A", "good", Outcome.SUCCEEDED)
    assert (bad.step, bad.task, bad.outcome) == ("A", "bad", Outcome.FAILED)
    assert bad.error is execution.output["bad"]
    for event, record in zip((good, bad), execution.history[1:], strict=True):
        assert (event.attempts, event.duration) == (record.attempts, record.duration)
        assert (event.tasks, event.next_step) == ((), None)
    check_pairs(told)
    assert told.threads == {threading.get_ident()}


def test_a_task_has_the_times_of_its_attempts_however_late_they_are_told():
    told = Told()
    ended = threading.Event()

    def dawdle(event):
        if event.kind == "task_started" and event.task == "a":
            assert ended.wait(10)
            threading.Event().wait(0.05)

    tasks = {"a": one, "b": lambda: ended.set()}
    execution = fan_out(tasks).execute(listeners=[dawdle, told])

    for record in execution.history[1:]:
        start, end = (event for event in told if event.task == record.task)
        assert start.time == pytest.approx(record.started, abs=0.001)
        assert end.time == pytest.approx(record.started + record.duration, abs=0.001)


def test_an_inline_task_is_told_of_before_it_runs():
    told, seen = Told(), []
    tasks = {"a": lambda: seen.append(told.kinds[-1]), "b": nested_of()}

    fan_out(tasks, executor="inline").execute(listeners=[told])

    assert seen == ["task_started"]
    assert told.kinds.index("task_succeeded") > told.kinds.index("task_started")
    check_pairs(told)


@everywhere
def test_a_retried_task_starts_and_ends_once(executor):
    policy = RetryPolicy(2, interval=0.001, jitter=None)
    told = tell(fan_out({"T": fail_once}, executor=executor, retry=policy))

    assert [event.kind for event in told if event.task] == [
        "task_started",
        "task_retried",
        "task_succeeded",
    ]
    retried, end = told.only("task_retried"), told.only("task_succeeded")
    assert (retried.pause, retried.outcome) == (0.001, Outcome.FAILED)
    assert str(retried.error) == "no"
    assert [attempt.number for attempt in retried.attempts] == [1]
    assert retried.duration is None
    assert [attempt.number for attempt in end.attempts] == [1, 2]
    assert end.attempts[0].error is retried.error
    check_pairs(told)


@pytest.mark.parametrize("executor", [None, "inline", "thread", "process"])
def test_a_retried_step_starts_and_ends_once(executor):
    policy = RetryPolicy(2, interval=0.001, jitter=None)
    told = tell(workflow_of(fail_once, executor=executor, retry=policy))

    assert [event.kind for event in told if event.step] == [
        "step_started",
        "step_retried",
        "step_succeeded",
    ]
    retried = told.only("step_retried")
    assert (retried.pause, retried.outcome) == (0.001, Outcome.FAILED)
    assert str(retried.error) == "no" and len(retried.attempts) == 1
    assert len(told.only("step_succeeded").attempts) == 2


def test_a_step_is_retried_before_the_next_attempt_begins():
    told, seen = Told(), []

    def act(value, context):
        seen.append(told.kinds[-1])
        if context.attempt < 3:
            raise ValueError("no")

    workflow_of(act, retry=RetryPolicy(3, 0)).execute(listeners=[told])

    assert seen == ["step_started", "step_retried", "step_retried"]
    assert [len(event.attempts) for event in told.of("step_retried")] == [1, 2]


@pytest.mark.parametrize("subject", ["step", "task"])
@pytest.mark.parametrize(
    "place, action, option, outcome, error",
    [
        ("thread", until_told, "timeout", "ABANDONED", StepTimeoutError),
        ("thread", until_told, "heartbeat", "ABANDONED", HeartbeatTimeoutError),
        ("process", hang, "timeout", "TIMED_OUT", StepTimeoutError),
        ("process", hang, "heartbeat", "TIMED_OUT", HeartbeatTimeoutError),
        ("process", die, None, "CRASHED", WorkerCrashedError),
    ],
)
def test_the_kind_says_how_it_ended(
    subject, place, action, option, outcome, error, lanes
):
    action = action if subject == "step" else {"T": action}
    workflow = workflow_of(
        action,
        parallel=subject == "task",
        executor=lanes if place == "process" else place,
        **{option: LIMIT} if option else {},
    )
    told = tell(workflow)

    end = told.only(f"{subject}_{outcome.lower()}")
    assert (end.outcome, type(end.error)) == (Outcome[outcome], error)
    check_pairs(told)


def test_tasks_that_never_begin_are_cancelled_without_a_start():
    tasks = {"bad": fail, "never": one}
    told = tell(fan_out(tasks, executor="inline", stop_on_failure=True))

    cancelled = told.only("task_cancelled")
    assert (cancelled.task, cancelled.attempts) == ("never", ())
    assert (cancelled.outcome, cancelled.error) == (Outcome.CANCELLED, None)
    assert [event.task for event in told.of("task_started")] == ["bad"]
    assert type(told.only("step_failed").error) is ParallelStepExecutionError
    check_pairs(told)


def test_a_task_that_gives_up_when_told_is_cancelled():
    waiting = threading.Event()

    def wait(value, context):
        waiting.set()
        context.sleep(30)

    def fails(value):
        assert waiting.wait(10)
        raise ValueError("no")

    told = tell(fan_out({"wait": wait, "fails": fails}, stop_on_failure=True))

    assert told.only("task_cancelled").task == "wait"
    assert told.only("task_failed").task == "fails"
    assert told.kinds[-4:-2] == ["task_failed", "task_cancelled"]
    check_pairs(told)


def wait_for(path):
    while not path.exists():
        threading.Event().wait(0.01)


def touch_and_hang(path):
    (path / "begun").touch()
    threading.Event().wait()


def fail_when_begun(path):
    wait_for(path / "begun")
    raise ValueError("no")


def test_a_process_task_that_is_stopped_is_killed(lanes, tmp_path):
    tasks = {"hangs": touch_and_hang, "fails": fail_when_begun}
    told = tell(fan_out(tasks, executor=lanes, stop_on_failure=True), tmp_path)

    killed = told.only("task_killed")
    assert (killed.task, killed.error) == ("hangs", None)
    check_pairs(told)


def test_a_tolerated_failure_is_told_of():
    told = tell(fan_out({"bad": fail, "good": one}))

    assert told.only("task_failed").task == "bad"
    assert told.only("step_succeeded").error is None
    assert told[-1].status is Status.COMPLETED


def test_ten_thousand_tasks_are_told_of_once_each():
    told = tell(fan_out({str(number): one for number in range(10_000)}))

    counts = Counter(told.kinds)
    assert counts["task_started"] == counts["task_succeeded"] == 10_000
    assert len({event.task for event in told.of("task_succeeded")}) == 10_000


# --- nested workflows ---------------------------------------------------------------


def test_a_nested_workflow_is_told_of_inside_its_step():
    told = Told()
    execution = workflow_of(nested_of()).execute(listeners=[told])

    assert [(event.kind, event.workflow, event.path) for event in told] == [
        ("execution_started", "W", ()),
        ("step_started", "W", ()),
        ("execution_started", "Inner", ("A",)),
        ("step_started", "Inner", ("A",)),
        ("step_succeeded", "Inner", ("A",)),
        ("execution_ended", "Inner", ("A",)),
        ("step_succeeded", "W", ()),
        ("execution_ended", "W", ()),
    ]
    assert told[2].execution is execution.children["A"]
    check_children(execution, told)
    check_pairs(told)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"retry": ONCE_MORE},
        {"timeout": 60},
        {"executor": "inline"},
        {"executor": "thread"},
        {"executor": "process"},
        {"executor": "thread", "timeout": 60},
        {"executor": "process", "timeout": 60},
    ],
    ids=str,
)
def test_a_nested_workflow_is_told_of_wherever_it_runs(options):
    told = Told()
    workflow = workflow_of(nested_of(), **options)
    execution = workflow.execute(listeners=[told])

    inner = [event for event in told if event.workflow == "Inner"]
    assert [event.kind for event in inner] == [
        "execution_started",
        "step_started",
        "step_succeeded",
        "execution_ended",
    ]
    assert told.threads == {threading.get_ident()}
    check_children(execution, told)
    check_pairs(told)


four = pytest.mark.parametrize("executor", PLACES[:4], indirect=True)


@four
def test_what_is_nested_two_levels_deep_is_told_of(executor):
    deepest = fan_out({"u": one, "v": fail}, "Deepest")
    middle = fan_out({"t": deepest, "s": one}, "Middle")
    told = Told()

    execution = fan_out({"m": middle, "n": middle}, executor=executor).execute(
        listeners=[told]
    )

    tops = [(("A", task),) for task in "mn"]
    deep = [(*path, ("A", "t")) for path in tops]
    assert {event.path for event in told} == {(), *tops, *deep}
    assert len(told.of("task_failed")) == 2
    assert told.threads == {threading.get_ident()}
    check_children(execution, told)
    check_pairs(told)
    check_history(execution, told)


def test_lanes_inside_lanes_are_told_of():
    deepest = fan_out({"u": one}, "Deepest", executor="process")
    told = Told()

    execution = fan_out({"t": deepest}, executor="process").execute(listeners=[told])

    deep = [event for event in told if event.workflow == "Deepest"]
    assert [event.kind for event in deep] == [
        "execution_started",
        "step_started",
        "task_started",
        "task_succeeded",
        "step_succeeded",
        "execution_ended",
    ]
    check_children(execution, told)


@four
def test_the_failure_of_a_nested_workflow_is_told_at_each_level(executor):
    told = tell(fan_out({"t": nested_of(fail)}, executor=executor))

    inner, outer = told.only("step_failed"), told.only("task_failed")
    assert (type(inner.error), str(inner.error)) == (ValueError, "no")
    assert isinstance(outer.error, StepExecutionError)
    assert told.kinds.index("step_failed") < told.kinds.index("task_failed")
    check_pairs(told)


def test_an_event_from_another_process_has_no_execution_and_an_error_of_its_class(
    lanes,
):
    told = tell(fan_out({"t": nested_of(fail)}, executor=lanes))

    failed = told.only("step_failed")
    assert failed.execution is None
    assert "in fail" in str(failed.error.__cause__)  # the worker's traceback
    assert failed.attempts[0].error is failed.error


def test_an_error_that_cannot_be_pickled_is_told_of_from_a_lane(lanes):
    inner = nested_of(fail_unsendably, on_failure="Y").add_step("Y", one)

    told = tell(fan_out({"t": inner}, executor=lanes))

    failed = told.only("step_failed")
    assert (type(failed.error), str(failed.error)) == (Unsendable, "no")
    assert failed.next_step == "Y"
    check_pairs(told)


def fail_with_what_only_this_process_has(value):
    here = sys.modules["only_here"] = ModuleType("only_here")
    exec("class Unknown(Exception): pass", here.__dict__)
    raise here.Unknown


def touch(path):
    (path / "touched").touch()


def test_an_event_that_cannot_be_unpickled_is_left_out(lanes, tmp_path, caplog):
    inner = nested_of(one, next_step="Y")
    inner.add_step("Y", fail_with_what_only_this_process_has, on_failure="Z")
    inner.add_step("Z", touch, params={"path": tmp_path})
    workflow = fan_out({"t": inner}, executor=lanes)

    told = Told()
    error = workflow.execute(listeners=[told]).output["t"]

    assert type(error) is TransferError
    assert (tmp_path / "touched").exists()
    assert told.steps[-4:-2] == [("step_started", "Z"), ("step_succeeded", "Z")]
    assert "No module named 'only_here'" in caplog.text


def give_lock(value):
    return threading.Lock()


def test_an_output_that_cannot_be_pickled_keeps_no_event_from_coming(lanes):
    inner = nested_of(give_lock, next_step="Y").add_step("Y", one)
    told = Told()

    execution = fan_out({"t": inner}, executor=lanes).execute(listeners=[told])

    assert len(told.of("step_succeeded")) == 3
    assert isinstance(execution.children["A", "t"].context["X"], Omitted)


def test_a_nested_workflow_that_is_retried_is_told_of_as_often():
    told = Told()
    numbers = iter([1, 2])

    def fails_first(value):
        if next(numbers) == 1:
            raise ValueError("no")

    workflow = workflow_of(nested_of(fails_first), retry=ONCE_MORE)
    execution = workflow.execute(listeners=[told])

    started = [it for it in told.of("execution_started") if it.path]
    assert [event.path for event in started] == [("A",), ("A",)]
    assert started[0].execution_id != started[1].execution_id
    assert started[1].execution_id == execution.children["A"].id
    assert told.kinds.index("step_retried") < told.index(started[1])
    check_pairs(told)


def test_the_listeners_of_a_nested_workflow_are_not_called():
    own = Told()
    inner = StepFunction("Inner", listeners=[own]).add_step("X", one)
    inner.set_start_step("X")

    told = tell(workflow_of(inner))

    assert own == []
    assert len(told.of("execution_started")) == 2


def test_on_processes_of_others_nested_workflows_tell_nothing():
    with ProcessPoolExecutor(1) as pool:
        told = tell(fan_out({"t": nested_of()}, executor=pool))

    assert {event.workflow for event in told} == {"W"}
    check_pairs(told)


def wait_until_released(value, context):
    value["begun"].set()
    assert value["released"].wait(10)


def test_what_was_abandoned_keeps_no_listener_busy():
    letters = {"begun": threading.Event(), "released": threading.Event()}
    workflow = fan_out({"t": nested_of(wait_until_released)}, timeout=LIMIT)
    told = Told()

    workflow.execute(letters, listeners=[told])
    count = len(told)
    (left,) = [it for it in threading.enumerate() if it.name.startswith("A-")]
    letters["released"].set()
    left.join(10)

    assert told.of("task_abandoned") and told[-1].kind == "execution_ended"
    assert len(told) == count


def test_what_is_nested_in_a_task_that_was_stopped_is_not_heard_of_again(lanes):
    inner = nested_of(next_step="Y").add_step("Y", die)

    told = tell(fan_out({"t": inner}, executor=lanes))

    assert [event.kind for event in told if event.path] == [
        *("execution_started", "step_started", "step_succeeded", "step_started"),
    ]
    assert told.kinds[-3:] == ["task_crashed", "step_succeeded", "execution_ended"]


def test_an_abandoned_attempt_is_not_heard_of_again():
    released, begun = threading.Event(), threading.Event()
    told = Told()

    def act(value, context):
        if not begun.is_set():  # the first attempt
            begun.set()
            assert released.wait(10)

    def wait_for_the_first(value):
        released.set()
        (thread,) = [it for it in threading.enumerate() if it.name == "A-1"]
        thread.join(10)

    inner = nested_of(act, next_step="Y").add_step("Y", wait_for_the_first)
    workflow = fan_out({"t": inner}, timeout=1, retry=ONCE_MORE)
    execution = workflow.execute(listeners=[told])

    abandoned, second = (it.execution_id for it in told.of("execution_started")[1:])
    at = told.kinds.index("task_retried")
    assert abandoned not in {event.execution_id for event in told[at:]}
    assert execution.children["A", "t"].id == second


# --- ends from outside --------------------------------------------------------------


def test_a_cancelled_execution_tells_of_its_end():
    waiting = threading.Event()

    def wait(value, context):
        waiting.set()
        context.sleep(30)

    told = Told()
    workflow = fan_out({"a": wait, "b": wait}, max_workers=1, next_step="B")
    execution = workflow.add_step("B", one).start(listeners=[told])
    assert waiting.wait(10)
    execution.cancel()
    assert execution.wait(10)

    assert told.kinds[-4:] == [
        *("task_cancelled", "task_cancelled", "step_cancelled", "execution_ended"),
    ]
    assert type(told.only("step_cancelled").error) is ExecutionCancelledError
    assert told[-1].status is Status.CANCELLED
    check_pairs(told)


def test_an_execution_that_takes_too_long_tells_of_its_end():
    told = Told()
    with pytest.raises(ExecutionTimeoutError):
        fan_out({"a": until_told}).execute(timeout=LIMIT, listeners=[told])

    assert told[-1].status is Status.TIMED_OUT
    check_pairs(told)


def interrupt(value):
    raise KeyboardInterrupt


@pytest.mark.parametrize("is_nested", [False, True])
def test_an_interrupted_execution_tells_of_its_end(is_nested):
    told = Told()
    action = nested_of(interrupt) if is_nested else interrupt
    with pytest.raises(KeyboardInterrupt):
        workflow_of(action).execute(listeners=[told])

    ends = ["step_cancelled", "execution_ended"]
    assert told.kinds[-2:] == ends
    assert type(told[-2].error) is type(told[-1].error) is KeyboardInterrupt
    assert told[-1].status is Status.CANCELLED
    check_pairs(told)


def test_ctrl_c_while_tasks_run_tells_of_their_ends():
    told = Told()

    def wait(value, context):
        signal.raise_signal(signal.SIGINT)
        context.sleep(30)

    with pytest.raises(KeyboardInterrupt):
        fan_out({"a": wait, "b": until_told}).execute(listeners=[told])

    ends = [event.task for event in told if event.task and event.outcome]
    assert sorted(ends) == ["a", "b"]
    assert told.kinds[-2:] == ["step_cancelled", "execution_ended"]


def test_a_task_that_is_interrupted_before_its_start_is_heard_of_has_started():
    told = Told()
    with pytest.raises(KeyboardInterrupt):
        fan_out({"a": interrupt}, executor="inline").execute(listeners=[told])

    assert [event.kind for event in told if event.task] == [
        "task_started",
        "task_cancelled",
    ]
    check_pairs(told)


# --- who is called, and by whom -----------------------------------------------------


def test_those_of_the_workflow_are_called_before_those_of_the_execution():
    order = []

    def named(name):
        return lambda event: order.append((event.kind, name))

    workflow = StepFunction("W", listeners=[named(1), named(2)]).add_step("A", one)
    workflow.set_start_step("A").execute(listeners=[named(3)])

    assert order[:4] == [
        *(("execution_started", number) for number in (1, 2, 3)),
        ("step_started", 1),
    ]


def test_listeners_of_an_execution_are_of_that_alone():
    told = Told()
    workflow = workflow_of()

    workflow.execute(listeners=[told])
    workflow.execute()

    assert len(told) == 4


def test_start_calls_listeners_by_the_thread_of_the_workflow():
    told, seen = Told(), []
    workflow = workflow_of(lambda: seen.append(threading.get_ident()))

    execution = workflow.start(listeners=[told])

    assert execution.wait(10)
    assert told.threads == set(seen) != {threading.get_ident()}
    assert told.kinds[-1] == "execution_ended"


def test_aexecute_calls_listeners_by_the_thread_of_the_workflow():
    told, seen = Told(), []
    workflow = workflow_of(lambda: seen.append(threading.get_ident()))

    execution = asyncio.run(workflow.aexecute(listeners=[told]))

    assert told.threads == set(seen) != {threading.get_ident()}
    assert told[-1].status is execution.status is Status.COMPLETED


def test_executions_at_once_tell_each_of_its_own():
    together = threading.Barrier(2)
    told = [], []
    workflow = fan_out({"a": lambda: together.wait(10), "b": nested_of()})

    started = [workflow.start(listeners=[it.append]) for it in told]

    assert all(execution.wait(10) for execution in started)
    for execution, events in zip(started, told, strict=True):
        assert {event.root_id for event in events} == {execution.id}
        check_pairs(events)
        check_history(execution, events)


def test_a_listener_that_fails_changes_nothing(caplog):
    def broken(event):
        raise RuntimeError("listening is hard")

    told = Told()
    workflow = fan_out({"t": nested_of()})

    execution = workflow.execute(listeners=[broken, told])

    assert execution.status is Status.COMPLETED
    assert len(told) == len(caplog.records) == 10
    record = caplog.records[0]
    assert (record.name, record.levelname) == ("stepfunction", "ERROR")
    assert record.getMessage() == (
        f"listener {broken!r} failed at <Event execution_started: 'W'>"
    )
    assert str(record.exc_info[1]) == "listening is hard"


def test_what_interrupts_a_listener_interrupts_the_execution():
    def stop(event):
        if event.kind == "step_started":
            raise KeyboardInterrupt

    ran = []
    workflow = workflow_of(lambda: ran.append(1))
    with pytest.raises(KeyboardInterrupt):
        workflow.execute(listeners=[stop])

    assert workflow.status is Status.CANCELLED
    assert ran == []


@pytest.mark.parametrize(
    "kind", ["execution_started", "step_started", "task_started", "step_succeeded"]
)
def test_a_listener_may_cancel_the_execution(kind):
    told, ran = Told(), []

    def cancel(event):
        if event.kind == kind:
            event.execution.cancel()

    workflow = fan_out({"a": one}, next_step="B")
    workflow.add_step("B", lambda value: ran.append(value))
    with pytest.raises(ExecutionCancelledError):
        workflow.execute(listeners=[cancel, told])

    assert ran == []
    assert told[-1].status is Status.CANCELLED
    check_pairs(told)


def test_a_listener_may_execute_a_workflow():
    others = Told()

    def execute(event):
        if event.kind == "step_started":
            workflow_of(name="Other").execute(listeners=[others])

    told = Told()
    workflow_of().execute(listeners=[execute, told])

    assert {event.workflow for event in others} == {"Other"}
    assert {event.workflow for event in told} == {"W"}
    check_pairs(others)
    check_pairs(told)


def test_an_interrupt_of_one_listener_leaves_no_other_without_the_end():
    heard = []

    def interrupt(event):
        if event.kind == "step_succeeded":
            raise KeyboardInterrupt

    workflow = StepFunction("W").add_step("A", str).set_start_step("A")
    with pytest.raises(KeyboardInterrupt):
        workflow.execute(1, listeners=[interrupt, lambda it: heard.append(it.kind)])
    assert heard[-1] == "execution_ended"


def test_an_execution_is_not_kept_by_what_was_told_of_it():
    inner = StepFunction("Inner").add_step("A", str).set_start_step("A")
    workflow = StepFunction("W").add_step("P", {"a": inner, "b": str}, parallel=True)
    other = workflow.set_start_step("P").execute(1, listeners=[print_nothing])
    child, gone = other.children[("P", "a")], weakref.ref(other)
    workflow.execute(1)  # of which the builder now knows
    gc.disable()
    try:
        del other
        assert gone() is None
    finally:
        gc.enable()
    assert child.output == "1"


def print_nothing(event): ...


async def wait(event): ...


class Waiting:
    async def __call__(self, event): ...


wait_too = Waiting()


def give(event):
    yield event


def nothing(): ...


def two(event, other): ...


@pytest.mark.parametrize(
    "listeners, problem",
    [
        ([3], "a listener is a callable of one Event, not 3"),
        ([print, None], "a listener is a callable of one Event, not None"),
        (3, "listeners is a list of callables, not 3"),
        (len, f"listeners is a list of callables, not {len!r}; write listeners=[…]"),
        ("a", "listeners is a list of callables, not 'a'"),
        (None, "listeners is a list of callables, not None"),
        ([dict], "a listener is an object, not the class dict; make one"),
        *(
            ([one], f"a listener is a plain function, and {one!r} would never be run")
            for one in (wait, wait_too, give)
        ),
        (
            [nothing],
            f"a listener is given one Event, but {nothing!r} cannot be: "
            "too many positional arguments",
        ),
        (
            [two],
            f"a listener is given one Event, but {two!r} cannot be: "
            "missing a required argument: 'other'",
        ),
    ],
)
def test_what_is_no_listener_is_refused(listeners, problem):
    workflow, ran = StepFunction("W"), []
    workflow.add_step("A", lambda: ran.append(1)).set_start_step("A")
    for use in (
        lambda: StepFunction("W", listeners=listeners),
        lambda: workflow.execute(listeners=listeners),
        lambda: workflow.start(listeners=listeners),
        lambda: asyncio.run(workflow.aexecute(listeners=listeners)),
    ):
        with pytest.raises(DefinitionError) as caught:
            use()
        assert caught.value.problems == (problem,)
    assert ran == []


def test_any_iterable_of_listeners_will_do():
    told = Told()

    workflow_of().execute(listeners=(it for it in [told]))

    assert len(told) == 4


# --- random workflows ---------------------------------------------------------------


def check_random(workflow, value, **options):
    told = Told()
    execution, _ = executed(built(workflow), value, listeners=[told], **options)
    assert told.threads == {threading.get_ident()}
    check_pairs(told)
    check_history(execution, told)


@examples(50)
@given(workflows(races=False), VALUES)
def test_what_is_told_of_an_inline_execution_is_in_its_history(workflow, value):
    check_random(workflow, value, executor="inline")


@examples(50)
@given(workflows(races=True), VALUES)
def test_what_is_told_of_an_execution_on_threads_is_in_its_history(workflow, value):
    check_random(workflow, value)


@examples(30)
@given(workflow=workflows(races=True, steady=True, depth=2), value=VALUES)
def test_what_is_told_of_an_execution_in_processes_is_in_its_history(
    lanes, workflow, value
):
    check_random(workflow, value, executor=lanes)


# --- when nobody listens ------------------------------------------------------------


@pytest.fixture
def made(monkeypatch):
    made = []
    make = telling_module._event

    def count(facts):
        made.append(facts[0])
        return make(facts)

    monkeypatch.setattr(telling_module, "_event", count)
    return made


@pytest.fixture
def quiet(monkeypatch):
    monkeypatch.setattr(telling_module, "hears", lambda level: False)


MUCH = {"t": nested_of(fail), "u": one}


def test_every_event_is_counted_as_it_is_made(made, quiet):
    told = tell(fan_out(MUCH))

    assert sorted(made) == sorted(told.kinds) and len(made) == 12


@pytest.mark.parametrize("executor", ["inline", "thread", "process"])
def test_where_nobody_listens_there_is_no_event(executor, made, quiet):
    workflow = fan_out(MUCH, executor=executor, next_step="B", retry=ONCE_MORE)
    workflow.add_step("B", fail, on_failure="C").add_step("C", one)

    execution = workflow.execute()

    assert len(execution.failures) == 2
    assert made == []


# --- the event itself ---------------------------------------------------------------


def test_an_event_cannot_be_changed():
    (event, *_) = tell(workflow_of())

    with pytest.raises(AttributeError):
        event.kind = "other"


def test_an_event_comes_out_of_a_pickle_without_its_execution():
    told = tell(fan_out({"t": fail}))

    for event in told:
        copy = pickle.loads(pickle.dumps(event))
        assert type(copy) is Event
        assert copy.execution is None
        assert copy[:7] == event[:7]
        assert (copy.outcome, copy.status) == (event.outcome, event.status)


@pytest.mark.parametrize(
    "kind, text",
    [
        ("execution_ended", "<Event execution_ended: 'Inner' at A.t>"),
        ("step_started", "<Event step_started: 'X' of 'Inner' at A.t>"),
        ("task_started", "<Event task_started: 't' of 'A' of 'W'>"),
    ],
)
def test_the_repr_of_an_event_says_what_and_where(kind, text):
    assert text in map(repr, tell(fan_out({"t": nested_of()})).of(kind))


def test_an_execution_that_was_listened_to_can_be_pickled():
    execution = fan_out({"t": nested_of()}).execute(listeners=[lambda event: None])

    copy = pickle.loads(pickle.dumps(execution))

    assert copy.id == execution.id
    assert copy.children["A", "t"].id == execution.children["A", "t"].id
