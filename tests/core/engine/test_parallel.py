from __future__ import annotations

import os
from contextvars import ContextVar

import pytest
from shared.calls import double, same
from shared.parallel import (
    ALL_PLACES,
    ELSEWHERE,
    IN_LANES,
    IN_PROCESSES,
    IN_THREADS,
    ONCE_MORE,
    PLACES,
    at,
    fail,
    fan_out,
    leave_a_line,
    negate,
    one_step,
    touch,
)
from shared.processes import wait_for

from stepfunction import DefinitionError, Outcome, Status, StepFunction, TransferError

letter = ContextVar("letter", default="none")


def fail_otherwise(value):
    raise KeyError(value)


def attempt_of(value, context):
    return context.attempt


def who(value, context):
    return context.execution_id, context.step, context.task, context.attempt


def look_up(value, context):
    return context["Before"]


def append(items):
    items.append("changed")
    return items


def second_before_first(folder, context):
    if context.task == "first":
        wait_for(folder, "second")
    touch(folder, context)
    return context.task


def fail_until_second_attempt(value, context):
    if context.attempt < 2:
        raise ConnectionError(context.task)
    return context.attempt


@pytest.fixture
def executor(request, kept):
    return kept.get(request.param, request.param)


# --- results ------------------------------------------------------------------------


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


# --- context variables --------------------------------------------------------------


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


# --- retries and nested workflows ---------------------------------------------------


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
