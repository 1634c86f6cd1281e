from __future__ import annotations

import pickle

import pytest
from shared.calls import add_one

from stepfunction import (
    RetryPolicy,
    Status,
    StepExecutionError,
    StepFunction,
    StepLimitError,
)

TEXT = (
    "'Count' has run {} steps and would go on with {!r}; "
    "if that is no endless loop, raise max_steps"
)


def counting(end, max_steps):
    workflow = StepFunction("Count", max_steps=max_steps).set_start_step("Add")
    workflow.add_step("Add", add_one, next_step="Check")
    workflow.add_step(
        "Check",
        lambda value: value,
        branch=lambda value: "End" if value >= end else "Add",
        branch_targets=["Add", "End"],
    )
    return workflow.add_step("End", lambda value: f"counted to {value}")


def endless(max_steps):
    workflow = StepFunction("Count", max_steps=max_steps).set_start_step("Add")
    return workflow.add_step("Add", add_one, next_step="Add")


def over_limit(workflow, initial_input=0):
    with pytest.raises(StepLimitError) as caught:
        workflow.execute(initial_input)
    return caught.value


def test_max_steps_allows_a_loop():
    execution = counting(3, max_steps=1000).execute(0)
    assert execution.status is Status.COMPLETED
    assert execution.output == "counted to 3"


def test_the_context_keeps_the_latest_visit():
    execution = counting(3, max_steps=1000).execute(0)
    assert execution.context == {"Add": 3, "Check": 3, "End": "counted to 3"}


def test_the_history_keeps_all_visits():
    execution = counting(3, max_steps=1000).execute(0)
    visits = [(each.step, each.input, each.output) for each in execution.history]
    assert visits == [
        ("Add", 0, 1),
        ("Check", 1, 1),
        ("Add", 1, 2),
        ("Check", 2, 2),
        ("Add", 2, 3),
        ("Check", 3, 3),
        ("End", 3, "counted to 3"),
    ]


def test_a_step_in_a_loop_sees_the_latest_visit_of_each_step():
    seen = []

    def look(value, context):
        seen.append(dict(context))
        return value

    workflow = StepFunction("Count", max_steps=100).set_start_step("Look")
    workflow.add_step("Look", look, next_step="Add")
    workflow.add_step("Add", add_one, branch={2: "End"}, next_step="Look")
    workflow.add_step("End", str)
    workflow.execute(0)
    assert seen == [{}, {"Look": 0, "Add": 1}]


def test_a_run_may_take_max_steps_steps():
    assert counting(3, max_steps=7).execute(0).output == "counted to 3"


def test_a_run_may_not_take_more_than_max_steps_steps():
    error = over_limit(counting(3, max_steps=6))
    assert str(error) == TEXT.format(6, "End")
    assert error.step == "End"


def test_an_endless_loop_ends_at_the_limit():
    error = over_limit(endless(5))
    assert str(error) == TEXT.format(5, "Add")
    assert isinstance(error, StepExecutionError)
    execution = error.execution
    assert execution.status is Status.FAILED
    assert execution.error is error
    assert execution.output is None
    assert len(execution.history) == 5
    assert execution.context == {"Add": 5}


def test_the_limit_counts_each_run_by_itself():
    workflow = counting(3, max_steps=7)
    assert [workflow.execute(0).status for _ in range(3)] == [Status.COMPLETED] * 3


def test_the_limit_holds_without_a_loop_too():
    workflow = StepFunction("Count", max_steps=1).set_start_step("Add")
    workflow.add_step("Add", add_one, next_step="Again").add_step("Again", add_one)
    assert over_limit(workflow).step == "Again"


def test_the_limit_is_not_routed_to_on_failure():
    ran = []
    workflow = StepFunction("Count", max_steps=3).set_start_step("Add")
    workflow.add_step("Add", add_one, next_step="Add", on_failure="Tell")
    workflow.add_step("Tell", ran.append)
    over_limit(workflow)
    assert ran == []


def test_a_loop_over_on_failure_is_bounded_too():
    def fail():
        raise ValueError("again")

    workflow = StepFunction("Count", max_steps=4).set_start_step("Fail")
    workflow.add_step("Fail", fail, on_failure="Wait")
    workflow.add_step("Wait", str, next_step="Fail")
    error = over_limit(workflow)
    assert [record.step for record in error.execution.history] == [
        "Fail",
        "Wait",
        "Fail",
        "Wait",
    ]


def test_attempts_and_tasks_do_not_count_as_steps():
    outcomes = iter([ValueError("once"), ValueError("twice"), "done"])

    def flaky():
        outcome = next(outcomes)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    workflow = StepFunction("Count", max_steps=2).set_start_step("Fan")
    workflow.add_step("Fan", {"a": str, "b": str}, parallel=True, next_step="Flaky")
    workflow.add_step("Flaky", flaky, retry=RetryPolicy(max_attempts=3, interval=0))
    assert workflow.execute().output == "done"


def test_the_limit_of_a_nested_workflow_fails_its_step():
    outer = StepFunction("Outer").set_start_step("Sub")
    outer.add_step("Sub", endless(5), on_failure={StepLimitError: "Tell"})
    outer.add_step("Tell", lambda error: str(error.__cause__))
    execution = outer.execute(0)
    assert execution.status is Status.FAILED
    assert execution.output == TEXT.format(5, "Add")
    assert len(execution.children["Sub"].history) == 5


def test_the_steps_of_a_nested_workflow_do_not_count_outside():
    outer = StepFunction("Outer", max_steps=1).set_start_step("Sub")
    assert outer.add_step("Sub", counting(50, max_steps=1000)).execute(0).output


def test_a_long_loop_does_not_deepen_the_stack():
    execution = counting(5_000, max_steps=20_000).execute(0)
    assert execution.output == "counted to 5000"


def test_the_error_of_the_limit_survives_pickling():
    error = pickle.loads(pickle.dumps(over_limit(endless(5))))
    assert type(error) is StepLimitError
    assert str(error) == TEXT.format(5, "Add")
    assert error.step == "Add"
