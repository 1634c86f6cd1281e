from __future__ import annotations

import sys
import threading
from concurrent.futures import ProcessPoolExecutor
from types import ModuleType

import pytest
from shared.calls import make_lock
from shared.events import (
    LIMIT,
    ONCE_MORE,
    PLACES,
    Told,
    check_history,
    check_pairs,
    die,
    fail,
    fan_out,
    nested_of,
    one,
    tell,
    workflow_of,
)

from stepfunction import Omitted, StepExecutionError, StepFunction, TransferError

# --- what steps do ------------------------------------------------------------------


class Unsendable(Exception):
    def __init__(self, text, code):
        super().__init__(text)
        self.lock = threading.Lock()


def fail_unsendably(value):
    raise Unsendable("no", 3)


# The path of each event is what leads to its execution through ``children``.
def check_children(execution, told, root=None, path=()):
    own = [event for event in told if event.path == path]
    assert {event.execution_id for event in own} == {execution.id}
    for key, child in execution.children.items():
        check_children(child, told, root or execution, (*path, key))


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


def test_an_output_that_cannot_be_pickled_keeps_no_event_from_coming(lanes):
    inner = nested_of(make_lock, next_step="Y").add_step("Y", one)
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
    told, before = Told(), {*threading.enumerate()}  # some may be of other tests

    workflow.execute(letters, listeners=[told])
    count = len(told)
    found = {*threading.enumerate()} - before
    (left,) = [it for it in found if it.name.startswith("A-")]
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
