"""Steps that are given another function, and stay what they were in all else."""

from __future__ import annotations

import pytest

from stepfunction import (
    CompensationError,
    DefinitionError,
    RetryPolicy,
    StepExecutionError,
    StepFunction,
)


def double(value):
    return 2 * value


def negate(value):
    return -value


def refuse(value):
    raise ValueError("no room left")


def rate(value, factor):
    return value * factor


def alone(function, **more):
    return StepFunction("W").add_step("A", function, **more).set_start_step("A")


def problems_of(workflow, function, name="A"):
    with pytest.raises(DefinitionError) as caught:
        workflow.replace_step(name, function)
    return caught.value.problems


def test_a_step_calls_another_function():
    workflow = alone(double)
    assert workflow.execute(3).output == 6
    assert workflow.replace_step("A", negate) is workflow
    assert workflow.execute(3).output == -3


def test_all_else_of_a_step_stays_as_it_was():
    nested = StepFunction("N").add_step("X", double).set_start_step("X")
    retry = RetryPolicy(2, interval=0)
    workflow = StepFunction("W", on_failure="Mend").add_step("First", double, "A")
    workflow.add_step(
        *("A", rate, "End", {OSError: "Mend"}, {4: "Other"}),
        params={"factor": 2},
        executor="thread",
        retry=retry,
        timeout=5,
        inputs={"value": "First"},
        compensate=negate,
    )
    workflow.add_step("End", double, "Other").add_sub_step_function("Other", nested)
    workflow.add_step("Mend", str, ends="completed").set_start_step("First")
    before = dict(workflow.steps)
    workflow.replace_step("A", lambda value, factor: value - factor)
    after = dict(workflow.steps)
    assert list(before) == list(after)
    was, now = before.pop("A"), after.pop("A")
    assert before == after
    assert now == was.replace(action=now.action)
    assert dict(now.action.params) == {"factor": 2}
    assert workflow.execute(1).context["A"] == 0
    workflow.replace_step("A", lambda value, factor: 4)
    assert [record.step for record in workflow.execute(1).history][1:] == ["A", "Other"]


def test_a_copy_is_replaced_alone():
    workflow = alone(double)
    other = workflow.copy().replace_step("A", negate)
    assert (workflow.execute(3).output, other.execute(3).output) == (6, -3)
    assert workflow.compile().steps["A"].action.function is double


def test_a_step_of_a_nested_workflow_is_seen_by_the_outer_one():
    inner = alone(double)
    outer = StepFunction("Outer").add_sub_step_function("N", inner).set_start_step("N")
    assert outer.execute(3).output == 6
    inner.replace_step("A", negate)
    assert outer.execute(3).output == -3


def test_an_execution_that_runs_keeps_what_it_began_with():
    def swap(value):
        workflow.replace_step("B", negate)
        return value

    workflow = StepFunction("W").add_step("A", swap, "B").add_step("B", double)
    workflow.set_start_step("A")
    assert workflow.execute(3).output == 6
    assert workflow.execute(3).output == -3


def test_the_start_step_stays_the_start_step():
    workflow = alone(double, next_step="B").add_step("B", double)
    assert workflow.replace_step("A", negate).execute(1).output == -2


def test_a_function_becomes_a_workflow_and_a_workflow_a_function():
    inner = alone(negate)
    workflow = alone(double, on_failure="Mend").add_step("Mend", str)
    assert workflow.replace_step("A", inner).execute(3).output == -3
    assert list(workflow.compile().steps["A"].action.steps) == ["A"]
    assert workflow.replace_step("A", double).execute(3).output == 6


def test_a_parallel_step_is_given_other_tasks():
    workflow = StepFunction("W").set_start_step("A")
    workflow.add_parallel_step(
        *("A", {"a": rate, "b": rate}),
        params={"factor": 2},
        stop_on_failure=True,
        max_workers=1,
        tolerated_failures="50%",
    )
    was = workflow.steps["A"].action
    tasks = {"c": rate, "d": lambda value, factor: 1, "e": rate, "f": rate}
    now = workflow.replace_step("A", tasks).steps["A"].action
    assert dict(workflow.execute(3).output) == {"c": 6, "d": 1, "e": 6, "f": 6}
    assert (was.tolerated, now.tolerated) == (1, 2)
    assert now.replace(tasks=was.tasks, tolerated=1) == was


def test_a_parallel_step_that_tolerates_all_failures_still_does():
    workflow = alone({"a": double}, parallel=True)
    workflow.replace_step("A", {"a": refuse, "b": refuse, "c": double})
    assert sorted(workflow.execute(1).output.failed) == ["a", "b"]


def test_a_parallel_step_that_tolerates_a_number_still_does():
    workflow = alone({"a": double}, parallel=True, tolerated_failures=1)
    workflow.replace_step("A", {"a": refuse, "b": double})
    assert list(workflow.execute(1).output.failed) == ["a"]
    workflow.replace_step("A", {"a": refuse, "b": refuse})
    with pytest.raises(StepExecutionError):
        workflow.execute(1)


def test_a_map_step_calls_another_function_for_each_item():
    workflow = StepFunction("W").set_start_step("A")
    workflow.add_map_step(
        *("A", rate, "items"),
        params={"factor": 2},
        batch_size=2,
        tolerated_failures=1,
        keep_results=False,
    )
    was = workflow.steps["A"].action
    workflow.replace_step("A", lambda item, factor: 1 / (item - factor))
    output = workflow.execute({"items": [1, 2, 3]}).output
    assert {str(outcome): count for outcome, count in output.items() if count} == {
        "SUCCEEDED": 2,
        "FAILED": 1,
    }
    now = workflow.steps["A"].action
    assert now == was.replace(call=now.call)


def test_named_inputs_of_a_map_step_stay():
    workflow = StepFunction("W").add_step("First", lambda: [1, 2], "A")
    workflow.add_map_step("A", double, "them", inputs={"them": "First"})
    workflow.set_start_step("First").replace_step("A", negate)
    assert workflow.execute().output == [-1, -2]


@pytest.mark.parametrize(
    "add",
    [
        lambda workflow: workflow.add_wait_step("A", seconds=3600, next_step="B"),
        lambda workflow: workflow.add_pass_step("A", 5, next_step="B"),
    ],
)
def test_a_step_that_waits_or_passes_becomes_one_that_calls(add):
    workflow = add(StepFunction("W")).add_step("B", double).set_start_step("A")
    workflow.replace_step("A", negate)
    assert workflow.execute(1).output == -2


def test_a_step_that_fails_becomes_one_that_calls():
    workflow = StepFunction("W").add_fail_step("A", "Closed").set_start_step("A")
    execution = workflow.replace_step("A", negate).execute(1)
    assert (execution.status, execution.output) == ("COMPLETED", -1)


def test_what_undoes_a_step_undoes_what_is_called_instead():
    undone = []
    workflow = alone(double, next_step="B", compensate=undone.append)
    workflow.add_step("B", refuse).replace_step("A", negate)
    with pytest.raises(StepExecutionError):
        workflow.execute(3)
    assert undone == [-3]


def test_what_undoes_a_task_undoes_the_task_of_its_name():
    undone = []
    workflow = StepFunction("W").set_start_step("A").add_step("B", refuse)
    undo = {"a": undone.append}
    workflow.add_parallel_step("A", {"a": double}, next_step="B", compensate=undo)
    workflow.replace_step("A", {"b": double, "a": negate})
    with pytest.raises(StepExecutionError):
        workflow.execute(3)
    assert undone == [-3]
    assert problems_of(workflow, {"bb": double}) == (
        "compensate names 'a', which is no task any more",
    )


def test_an_unknown_step_is_told_with_what_may_be_meant():
    workflow = StepFunction("W").add_step("Charge", double)
    assert problems_of(workflow, negate, "Charg") == (
        "there is no step of the name 'Charg' (did you mean 'Charge'?)",
    )
    assert problems_of(workflow, negate, ["Charge"]) == (
        "there is no step of the name ['Charge'] (did you mean 'Charge'?)",
    )


@pytest.mark.parametrize(
    "more, function, problem",
    [
        ({}, 5, "func is 5, which cannot be called"),
        (
            {},
            {"a": double},
            "func is a mapping of tasks; this step is not parallel, so give one "
            "callable",
        ),
        (
            {},
            lambda value, other: 1,
            "<lambda> also requires 'other'; give it with params={'other': …}",
        ),
        (
            {"params": {"factor": 2}, "func": rate},
            negate,
            "params has 'factor', but negate has no parameter of that name to give by "
            "keyword",
        ),
        (
            {"params": {"factor": 2}, "func": rate},
            StepFunction("N"),
            "params binds arguments of a function, but func is a workflow, which is "
            "given its input alone",
        ),
        (
            {"parallel": True, "func": {"a": double}},
            negate,
            "a parallel step runs several tasks, each by its name, but was given one; "
            "give {'task name': callable, …}",
        ),
        (
            {"func": StepFunction("N"), "timeout": 3},
            negate,
            "timeout cannot be honoured in the calling thread, where nothing can stop "
            "a call; use executor='process', which is killed, or executor='thread', "
            "which is no longer waited for",
        ),
        (
            {
                "func": lambda value, context: 1,
                "heartbeat": 1,
                "executor": "thread",
            },
            negate,
            "heartbeat expects calls of context.heartbeat(), so every function of the "
            "step must take a parameter annotated Context, or named context",
        ),
    ],
)
def test_what_a_step_cannot_call_is_refused_and_leaves_it_as_it_was(
    more, function, problem
):
    workflow = StepFunction("W").add_step("A", **{"func": double, **more})
    was = workflow.steps["A"]
    assert problems_of(workflow, function) == (problem,)
    assert workflow.steps["A"] is was


def test_a_workflow_is_not_put_into_itself():
    workflow = alone(double)
    outer = StepFunction("Outer").add_sub_step_function("N", workflow)
    assert problems_of(workflow, outer) == ("workflow 'W' would run inside itself",)


def test_what_a_mock_stands_in_for_may_be_replaced_meanwhile():
    from stepfunction.testing import mock_steps

    workflow = alone(double)
    with mock_steps(workflow, {"A": "mocked"}):
        workflow.replace_step("A", negate)
        assert workflow.execute(3).output == "mocked"
    assert workflow.execute(3).output == -3


def test_the_failure_of_a_compensation_names_the_step_as_ever():
    workflow = alone(double, next_step="B", compensate=refuse).add_step("B", refuse)
    with pytest.raises(CompensationError, match="'A'"):
        workflow.replace_step("A", negate).execute(1)
