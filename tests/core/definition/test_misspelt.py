"""Names of arguments and methods that there are not, and values of a near type."""

import asyncio
import copy
import enum
import inspect
import pickle
from datetime import timedelta

import pytest

from stepfunction import (
    DefinitionError,
    ExecutionTimeoutError,
    ProcessLanes,
    RetryPolicy,
    StepExecutionError,
    StepFunction,
)
from stepfunction.stores import SQLiteStore


class State(enum.Enum):
    PAID = "paid"


class Number(enum.IntEnum):
    ONE = 1


class Unnamed(enum.Enum):
    ONE = 1

    @property
    def name(self):
        raise ValueError("no name")


def same(value):
    return value


@pytest.mark.parametrize(
    "add", ["add_step", "add_map_step", "add_sub_step_function", "add_parallel_step"]
)
@pytest.mark.parametrize(
    "given, meant",
    [
        ({"next": "B"}, "(did you mean 'next_step'?)"),
        ({"on_error": "B"}, "(did you mean 'on_failure'?)"),
        ({"nxt_step": "B"}, "(did you mean 'next_step'?)"),
        ({"on_eror": "B"}, "(did you mean 'on_failure'?)"),
        ({"max_retries": 3}, "; write retry=RetryPolicy(max_attempts=…)"),
    ],
)
def test_an_unknown_argument_is_told_with_what_may_be_meant(add, given, meant):
    (name,) = given
    with pytest.raises(TypeError) as caught:
        getattr(StepFunction("W"), add)("A", same, **given)
    assert str(caught.value) == (
        f"StepFunction.{add}() got an unexpected keyword argument {name!r}"
        + (" " if meant[0] == "(" else "")
        + meant
    )


def test_the_signature_of_a_method_is_as_it_is_written():
    parameters = inspect.signature(StepFunction.add_step).parameters
    assert list(parameters)[:4] == ["self", "name", "func", "next_step"]


@pytest.mark.parametrize(
    "name, meant",
    [
        *(("run", "execute"), ("arun", "aexecute"), ("resum", "resume")),
        *(("add", "add_step"), ("add_task", "add_step"), ("step", "add_step")),
        *(("start_at", "set_start_step"), ("vizualize", "visualize")),
    ],
)
def test_an_unknown_method_is_told_with_what_may_be_meant(name, meant):
    with pytest.raises(AttributeError, match=f"{name!r} .did you mean {meant!r}"):
        getattr(StepFunction("W"), name)


async def awaited(workflow, **given):
    await workflow.aexecute(**given)


EXECUTING = {
    "execute": lambda workflow, **given: workflow.execute(**given),
    "start": lambda workflow, **given: workflow.start(**given),
    "aexecute": lambda workflow, **given: asyncio.run(awaited(workflow, **given)),
}


@pytest.mark.parametrize("method", EXECUTING)
@pytest.mark.parametrize(
    "name, meant",
    [
        *(("input", "initial_input"), ("data", "initial_input")),
        *(("inital_input", "initial_input"), ("timout", "timeout")),
        *(("id", "execution_id"), ("callback", "listeners")),
    ],
)
def test_an_unknown_argument_of_an_execution_is_told_with_what_may_be_meant(
    method, name, meant
):
    workflow = StepFunction("W").add_step("A", same).set_start_step("A")
    with pytest.raises(TypeError) as caught:
        EXECUTING[method](workflow, **{name: 1})
    assert str(caught.value) == (
        f"StepFunction.{method}() got an unexpected keyword argument {name!r} "
        f"(did you mean {meant!r}?)"
    )
    assert workflow.status == "INITIALIZED"


def test_an_unknown_argument_of_resume_is_told_with_what_may_be_meant():
    with pytest.raises(TypeError, match="'id' .did you mean 'execution_id'"):
        StepFunction("W").resume(id="order-17")


@pytest.mark.parametrize(
    "name, hint",
    [
        ("start", "; write set_start_step(…)"),
        ("steps", "; write add_step(…)"),
        ("retry", "; write add_step(…, retry=RetryPolicy(max_attempts=…))"),
        ("max_step", " (did you mean 'max_steps'?)"),
        ("on_error", " (did you mean 'on_failure'?)"),
        ("zzz", ""),
    ],
)
def test_an_unknown_argument_of_a_workflow_is_told_with_what_may_be_meant(name, hint):
    class Flow(StepFunction):
        pass

    for kind in (StepFunction, Flow):
        with pytest.raises(TypeError) as caught:
            kind("W", **{name: "A"})
        assert str(caught.value) == (
            f"{kind.__name__}() got an unexpected keyword argument {name!r}{hint}"
        )


def test_what_awaits_is_a_coroutine_function_as_ever():
    assert inspect.iscoroutinefunction(StepFunction.aexecute)


@pytest.mark.parametrize("name", ["then", "add_edge", "next"])
def test_a_method_that_leads_on_is_told_with_the_argument_that_does(name):
    with pytest.raises(AttributeError, match=r"; write add_step\(…, next_step=…\)$"):
        getattr(StepFunction("W"), name)


@pytest.mark.parametrize(
    "make, name, meant",
    [
        (ProcessLanes, "workers", "max_workers"),
        (ProcessLanes, "processes", "max_workers"),
        (ProcessLanes, "max_task_per_child", "max_tasks_per_child"),
        (SQLiteStore, "file", "path"),
        (SQLiteStore, "synchronos", "synchronous"),
        (RetryPolicy, "attempts", "max_attempts"),
        (RetryPolicy, "max_retries", "max_attempts"),
        (RetryPolicy, "delay", "interval"),
        (RetryPolicy, "backoff", "backoff_rate"),
    ],
)
def test_an_unknown_argument_of_a_class_is_told_with_what_may_be_meant(
    make, name, meant
):
    with pytest.raises(TypeError) as caught:
        make(**{name: 1})
    assert str(caught.value) == (
        f"{make.__name__}() got an unexpected keyword argument {name!r} "
        f"(did you mean {meant!r}?)"
    )


def test_a_workflow_is_copied_and_pickled_as_ever():
    workflow = StepFunction("W").add_step("A", same).set_start_step("A")
    for it in (copy.copy(workflow), copy.deepcopy(workflow)):
        assert it.execute(1).output == 1
    assert pickle.loads(pickle.dumps(workflow)).execute(1).output == 1
    assert not hasattr(workflow, "_repr_latex_")


def test_a_number_of_attempts_is_told_as_a_policy():
    with pytest.raises(DefinitionError, match=r"write retry=RetryPolicy\(max_attempts"):
        StepFunction("W").add_step("A", same, retry=3)


@pytest.mark.parametrize(
    "output, key, text",
    [
        (True, "True", "'True' is a text, which True is not"),
        (1, "1", "'1' is a text, which 1 is not"),
        (None, "none", "'none' is a text, which None is not"),
        ("True", True, "'True' is a text, which True is not"),
        (True, "yes", "'yes'; return one of these"),
        (2.5, "2.5", "'2.5' is a text, which 2.5 is not"),
        (True, 1, "1 is a number, which True does not stand for"),
        (0, False, "0 is a number, which False does not stand for"),
        (b"paid", "paid", "'paid' is a text, which b'paid' is not"),
        (State.PAID, "paid", "'paid' is a text, which <State.PAID: 'paid'> is not"),
        (State.PAID, "PAID", "'PAID' is a text, which <State.PAID: 'paid'> is not"),
        (State.PAID, "State.PAID", "'State.PAID' is a text, which <State.PAID: "),
        ("paid", State.PAID, "'paid' is a text, which <State.PAID: 'paid'> is not"),
        (Number.ONE, "1", "'1' is a text, which <Number.ONE: 1> is not"),
        ("payed", "paid", "(did you mean 'paid'?)"),
        ("Paid", "paid", "(did you mean 'paid'?)"),
        (Unnamed.ONE, "one", "'one'; return one of these"),
    ],
)
def test_a_key_of_another_type_is_said_when_nothing_matches(output, key, text):
    workflow = StepFunction("W").add_step("A", lambda: output, branch={key: "B"})
    workflow.add_step("B", same).set_start_step("A")
    with pytest.raises(StepExecutionError) as caught:
        workflow.execute()
    assert text in str(caught.value.__cause__)


def test_a_timedelta_is_taken_wherever_seconds_are():
    short, long = timedelta(milliseconds=1), timedelta(hours=1)
    policy = RetryPolicy(2, interval=short, max_delay=long)
    assert (policy.interval, policy.max_delay) == (0.001, 3600.0)
    workflow = StepFunction("W").set_start_step("A")
    workflow.add_step("A", same, "B", executor="thread", timeout=long, retry=policy)
    workflow.add_wait_step("B", seconds=short, next_step="C")
    workflow.add_wait_step("C", seconds=lambda value: short, next_step="D")
    workflow.add_map_step("D", same, timeout=long)
    assert workflow.compile().steps["A"].timeout == 3600.0
    assert workflow.execute([1], timeout=long).output == [1]
    assert workflow.start([1], timeout=long).result() == [1]
    late = StepFunction("Late").add_wait_step("A", seconds=long).set_start_step("A")
    with pytest.raises(ExecutionTimeoutError):
        late.execute(timeout=timedelta(milliseconds=20))


@pytest.mark.parametrize(
    "retry_on", [[ValueError, OSError], (ValueError,), lambda error: "1" in str(error)]
)
@pytest.mark.parametrize("is_parallel", [False, True])
def test_what_is_worth_another_attempt_is_a_list_or_said_by_a_callable(
    retry_on, is_parallel
):
    calls = []

    def fail(value):
        calls.append(value)
        if len(calls) == 1:
            raise ValueError("1")
        raise LookupError("2")

    retry = RetryPolicy(5, interval=0, retry_on=retry_on)
    workflow = StepFunction("W").set_start_step("A")
    if is_parallel:
        workflow.add_parallel_step("A", {"a": fail}, retry=retry)
    else:
        workflow.add_step("A", fail, retry=retry)
    with pytest.raises(StepExecutionError):
        workflow.execute()
    assert len(calls) == 2


def test_a_callable_that_says_what_is_worth_another_attempt_may_fail():
    retry = RetryPolicy(5, interval=0, retry_on=lambda error: error.code == 3)
    workflow = StepFunction("W").add_step("A", int, retry=retry).set_start_step("A")
    with pytest.raises(StepExecutionError) as caught:
        workflow.execute("x")
    assert isinstance(caught.value.__cause__, AttributeError)


def test_a_callable_that_says_what_is_worth_another_attempt_is_not_written():
    retry = RetryPolicy(5, retry_on=lambda error: True)
    workflow = StepFunction("W").add_step("A", int, retry=retry).set_start_step("A")
    with pytest.raises(DefinitionError, match="a callable retry_on cannot be written"):
        workflow.to_json()


def test_a_timedelta_is_taken_where_something_waits():
    short = timedelta(milliseconds=1)
    workflow = StepFunction("W").set_start_step("A")
    workflow.add_step("A", lambda pause, context: context.sleep(pause))
    assert workflow.execute(short).status == "COMPLETED"
    execution = workflow.start(timedelta(seconds=30))
    assert execution.wait(short) is False
    with pytest.raises(TimeoutError, match="after 0.001 s"):
        execution.result(short)
    execution.cancel()
    assert execution.wait(timedelta(seconds=20)) is True


@pytest.mark.parametrize("pause", [None, "1", float("nan"), [1], object()])
def test_what_is_no_number_of_seconds_is_not_waited_for(pause):
    workflow = StepFunction("W").set_start_step("A")
    workflow.add_step("A", lambda pause, context: context.sleep(pause))
    with pytest.raises(StepExecutionError, match="a number of seconds, or a timedel"):
        workflow.execute(pause)


def test_what_is_too_long_for_a_clock_may_still_be_waited_for():
    workflow = StepFunction("W").set_start_step("A")
    workflow.add_step("A", lambda pause, context: context.sleep(pause))
    for pause in (10**400, float("inf"), timedelta.max):
        execution = workflow.start(pause)
        assert execution.wait(0.01) is False
        execution.cancel()
        assert execution.wait(10**400) is True
    assert workflow.execute(-(10**400)).status == "COMPLETED"


@pytest.mark.parametrize("digits", [400, 5_000])
def test_a_limit_beyond_what_a_clock_holds_is_refused(digits):
    limit = 10**digits
    workflow = StepFunction("W").add_step("A", same).set_start_step("A")
    with pytest.raises(DefinitionError, match="timeout is seconds above 0, not"):
        workflow.execute(timeout=limit)
    with pytest.raises(DefinitionError, match="timeout is seconds above 0, not"):
        workflow.add_map_step("B", same, timeout=limit)
