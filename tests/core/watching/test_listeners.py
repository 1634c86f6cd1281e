from __future__ import annotations

import asyncio
import gc
import threading
import weakref

import pytest
from shared.events import (
    ONCE_MORE,
    Told,
    check_history,
    check_pairs,
    fail,
    fan_out,
    nested_of,
    one,
    tell,
    workflow_of,
)

from stepfunction import DefinitionError, ExecutionCancelledError, Status, StepFunction
from stepfunction.core.watching import telling as telling_module

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


# --- when nobody listens ------------------------------------------------------------


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
