"""What nothing can be asked of goes through a workflow as anything else."""

from __future__ import annotations

import asyncio

import pytest
from shared.hostile import (
    Asked,
    EmptyError,
    Hostile,
    HostileClass,
    HostileError,
    fail_empty,
    fail_hostile,
)
from tenacity import Retrying, retry_if_exception_type, stop_after_attempt

from stepfunction import (
    CompensationError,
    Execution,
    NoBranchMatchedError,
    RetryPolicy,
    StepExecutionError,
    StepFunction,
    UnstorableValueError,
)
from stepfunction.stores import SQLiteStore
from stepfunction.testing import (
    assert_path,
    detect_shared_mutation,
    dry_run,
    mock_steps,
    returning,
    skip_waits,
)

GIVEN = Hostile()
VALUES = {"of nothing": GIVEN, "of a class of nothing": HostileClass("V", (), {})()}
ERRORS = pytest.mark.parametrize(
    "fail, kind", [(fail_hostile, HostileError), (fail_empty, EmptyError)]
)
EXECUTORS = pytest.mark.parametrize("executor", [None, "thread", "inline"])
STEPS = ["Call", "Fan", "Map", "Named", "If", "Or", "Key", "Pass", "Wait", "End"]
AGAIN = RetryPolicy(2, interval=0)


def same(value):
    return value


def workflow_of(executor=None):
    nested = StepFunction("Nested").add_step("Only", same).set_start_step("Only")
    workflow = StepFunction("Hostile").set_start_step("Call")
    workflow.add_step(
        *("Call", same, "Fan"), executor=executor, retry=AGAIN, compensate=same
    )
    workflow.add_parallel_step(
        *("Fan", {"one": same, "two": nested}), executor=executor, next_step="Map"
    )
    workflow.add_map_step(
        *("Map", same, lambda both: [*both.values()]),
        executor=executor,
        next_step="Named",
    )
    workflow.add_step(
        *("Named", lambda value, all, fixed, context: context["Call"], "If"),
        inputs={"value": "Call", "all": "Map"},
        params={"fixed": [*VALUES.values()]},
    )
    workflow.add_step("If", same, "Or", branch=[(lambda it: it is None, "End")])
    workflow.add_step(
        "Or", same, "Key", branch=lambda _: None, branch_targets=["End"]
    )
    workflow.add_step("Key", same, "Pass", branch={"text": "End"})
    workflow.add_pass_step("Pass", next_step="Wait")
    workflow.add_wait_step("Wait", seconds=0, next_step="End")
    return workflow.add_step("End", same, executor=executor)


def look_at(execution, tmp_path):
    """Ask an execution for all that it shows of its values."""
    for one in (execution, Execution.from_json(execution.to_json())):
        one.report(tmp_path / "report.html")
        assert one.to_mermaid() and one.to_dot()
        assert one.context["Call"] is not None and "Call" in one.context
        assert one.failures is not None and repr(one)


@EXECUTORS
@pytest.mark.parametrize("kind", VALUES)
def test_a_value_goes_through_each_kind_of_step(executor, kind, tmp_path):
    workflow, value = workflow_of(executor), VALUES[kind]
    told = []
    execution = workflow.execute(value, listeners=[told.append])
    assert execution.output is value and execution.last_result is value
    assert_path(execution, STEPS)
    assert workflow.start(value).result() is value
    assert asyncio.run(workflow.aexecute(value)).output is value
    look_at(execution, tmp_path)
    ended = [it.step for it in told if it.kind == "step_succeeded" and not it.path]
    assert ended == STEPS


def test_a_value_stands_in_for_a_step():
    workflow = workflow_of()
    given = {"Call": GIVEN, "Fan.one": GIVEN, "If": [GIVEN], "Or": returning(GIVEN)}
    with mock_steps(workflow, given) as mocks:
        assert workflow.execute(GIVEN).output is GIVEN
    assert mocks["Call"].calls[0] is GIVEN


def test_a_value_is_the_result_of_a_dry_run():
    results = {"If": GIVEN, "Or": GIVEN, "Key": [GIVEN], "Map": [GIVEN]}
    assert_path(dry_run(workflow_of(), results, GIVEN), STEPS)


def test_tests_look_on_at_a_value():
    with detect_shared_mutation(), skip_waits():
        assert workflow_of("thread").execute(GIVEN).output is GIVEN


def test_a_value_that_cannot_be_stored_is_told():
    with SQLiteStore(":memory:") as store, pytest.raises(UnstorableValueError):
        workflow_of().execute(GIVEN, store=store)


def test_a_value_is_undone():
    undone = []
    workflow = StepFunction("W").add_step("A", same, "B", compensate=undone.append)
    workflow.add_map_step("B", same, lambda it: [it], compensate=undone.append)
    workflow.replace_step("B", fail_empty).set_start_step("A")
    with pytest.raises(StepExecutionError):
        workflow.execute(GIVEN)
    assert [it is GIVEN for it in undone] == [True]


@pytest.mark.parametrize(
    "branch",
    [
        {"branch": {"text": "End"}},
        {"branch": lambda _: GIVEN, "branch_targets": ["End"]},
    ],
)
def test_a_value_leads_nowhere(branch):
    workflow = StepFunction("W").add_step("A", same, **branch).add_step("End", same)
    with pytest.raises(StepExecutionError) as caught:
        workflow.set_start_step("A").execute(GIVEN)
    assert type(caught.value.__cause__) is NoBranchMatchedError
    assert "<shared.hostile.Hostile without a repr>" in str(caught.value)


def test_a_callable_branch_gives_a_name_and_nothing_that_equals_one():
    class Anything:
        def __eq__(self, other):
            return True

        __hash__ = None

    workflow = StepFunction("W").add_step("End", same).set_start_step("A")
    workflow.add_step("A", same, branch=lambda _: Anything(), branch_targets=["End"])
    with pytest.raises(StepExecutionError) as caught:
        workflow.execute(1)
    assert type(caught.value.__cause__) is NoBranchMatchedError


@pytest.mark.parametrize("items", [None, lambda value: value])
def test_a_value_is_no_items(items):
    workflow = StepFunction("W").add_map_step("A", same, items).set_start_step("A")
    with pytest.raises(StepExecutionError) as caught:
        workflow.execute(GIVEN)
    assert isinstance(caught.value.__cause__, Asked)


def test_a_value_is_no_time_to_wait():
    workflow = StepFunction("W").add_wait_step("A", seconds=same).set_start_step("A")
    with pytest.raises(StepExecutionError, match="seconds is a number from 0"):
        workflow.execute(GIVEN)


@pytest.mark.parametrize("executor", [None, "thread", "inline", "process"])
@ERRORS
def test_an_error_goes_through_each_kind_of_step(executor, fail, kind, tmp_path):
    given = {"executor": executor, "retry": AGAIN}
    nested = StepFunction("Nested").add_step("Only", fail).set_start_step("Only")
    workflow = StepFunction("Hostile", on_failure="End").set_start_step("Call")
    leads = {OSError: "End", Exception: "Fan"}
    workflow.add_step("Call", fail, on_failure=leads, **given)
    workflow.add_parallel_step(
        *("Fan", {"a": fail, "b": nested}),
        tolerated_failures="100%",
        next_step="Map",
        **given,
    )
    workflow.add_map_step(
        "Map", fail, lambda _: [1, 2], on_failure="Nest", stop_on_failure=True, **given
    )
    workflow.add_sub_step_function("Nest", nested, on_failure="End", retry=AGAIN)
    workflow.add_step("End", lambda error, context: context["Call"], ends="completed")
    with SQLiteStore(":memory:") as store:
        execution = workflow.execute(1, store=store, execution_id="once")
        if executor != "process":
            assert type(execution.output) is kind
        assert_path(execution, ["Call", "Fan", "Map", "Nest", "End"])
        look_at(execution, tmp_path)
        assert workflow.execute(1, store=store, execution_id="once").output is not None
    look_at(workflow.execute(1), tmp_path)
    alone = StepFunction("Alone").add_step("A", fail, **given).set_start_step("A")
    with pytest.raises(StepExecutionError) as caught:
        alone.execute(1)
    if executor != "process":
        assert type(caught.value.__cause__) is kind


@pytest.mark.parametrize("fail", [fail_hostile, fail_empty])
def test_an_error_of_a_compensation_keeps_no_other_from_being_tried(fail):
    undone = []
    workflow = StepFunction("W").add_step("A", same, "B", compensate=undone.append)
    workflow.add_step("B", same, "C", compensate=fail).add_step("C", fail)
    with pytest.raises(CompensationError):
        workflow.set_start_step("A").execute(1)
    assert undone == [1]


@pytest.mark.parametrize("executor", [None, "thread"])
@ERRORS
def test_an_error_of_what_is_asked_for_another_attempt_is_the_failure(
    fail, kind, executor
):
    retry = RetryPolicy(3, interval=0, retry_on=fail)
    workflow = StepFunction("W").add_step("A", int, executor=executor, retry=retry)
    with pytest.raises(StepExecutionError) as caught:
        workflow.set_start_step("A").execute("x")
    assert type(caught.value.__cause__) is kind


@pytest.mark.parametrize("executor", [None, "thread"])
@pytest.mark.parametrize(
    "retry_on, count",
    [
        (KeyError, 1),
        (Exception, 3),
        ((EmptyError, HostileError), 3),
        (lambda _: False, 1),
    ],
)
@ERRORS
def test_an_error_is_tried_again_as_any_other(executor, retry_on, count, fail, kind):
    retry = RetryPolicy(3, interval=0, retry_on=retry_on)
    workflow = StepFunction("W").add_step("A", fail, executor=executor, retry=retry)
    with pytest.raises(StepExecutionError) as caught:
        workflow.set_start_step("A").execute(1)
    assert type(caught.value.__cause__) is kind
    assert len(caught.value.execution.history[0].attempts) == count


@pytest.mark.parametrize("retry_on", [OSError, EmptyError])
def test_a_false_error_is_tried_again_as_a_retrying_says(retry_on):
    retry = Retrying(
        stop=stop_after_attempt(2), retry=retry_if_exception_type(retry_on)
    )
    workflow = StepFunction("W").add_step("A", fail_empty, retry=retry)
    with pytest.raises(StepExecutionError) as caught:
        workflow.set_start_step("A").execute(1)
    assert type(caught.value.__cause__) is EmptyError
    count = 2 if retry_on is EmptyError else 1
    assert len(caught.value.execution.history[0].attempts) == count


@ERRORS
def test_the_log_shows_where_an_error_was_raised(fail, kind, caplog, capsys):
    workflow = StepFunction("W").add_step("A", fail).set_start_step("A")
    with pytest.raises(StepExecutionError):
        workflow.execute(1)
    assert f"in {fail.__name__}" in caplog.text
    assert f"{kind.__name__}: " in caplog.text
    assert capsys.readouterr().err == ""
