from __future__ import annotations

import inspect
import pickle
import sys

import pytest
from shared.calls import PaymentError, add_one, double, make_lock, say
from shared.failures import failure_of

from stepfunction import (
    Execution,
    Outcome,
    RetryPolicy,
    Status,
    StepExecutionError,
    StepFunction,
    StepFunctionError,
    StepRecord,
    TransferError,
)
from stepfunction.core.history.execution import journal_of

PLACES = ["inline", "thread", "process"]


def decline(value):
    raise PaymentError(f"no money for {value}")


def tell(value):
    return f"told: {value}"


def is_locked(lock):
    return lock.locked()


def arithmetic():
    inner = StepFunction("Inner").set_start_step("Add")
    inner.add_step("Add", add_one, next_step="Double")
    return inner.add_step("Double", double)


def failing(**arguments):
    inner = StepFunction("Inner").set_start_step("Pay")
    inner.add_step("Pay", decline, **arguments)
    if arguments:
        inner.add_step("Tell", tell)
    return inner


def as_step(inner, **arguments):
    outer = StepFunction("Outer").set_start_step("Sub")
    return outer.add_step("Sub", inner, **arguments)


def as_task(inner, executor, **arguments):
    outer = StepFunction("Outer").set_start_step("Fan")
    return outer.add_step(
        "Fan", {"sub": inner}, parallel=True, executor=executor, **arguments
    )


def steps_of(execution):
    return [(r.step, r.task, r.outcome, r.input, r.output) for r in execution.history]


INNER_STEPS = [
    ("Add", None, Outcome.SUCCEEDED, 3, 4),
    ("Double", None, Outcome.SUCCEEDED, 4, 8),
]


# --- as a step ----------------------------------------------------------------------


def test_a_nested_workflow_is_given_the_steps_input_and_gives_its_last_output():
    outer = StepFunction("Outer").set_start_step("Before")
    outer.add_step("Before", add_one, next_step="Sub")
    outer.add_sub_step_function("Sub", arithmetic(), next_step="After")
    outer.add_step("After", add_one)
    execution = outer.execute(1)
    assert execution.context == {"Before": 2, "Sub": 6, "After": 7}
    assert execution.children["Sub"].input == 2


def test_a_workflow_as_the_function_of_a_step_is_the_same():
    by_add_step = as_step(arithmetic()).execute(3)
    outer = StepFunction("Outer").set_start_step("Sub")
    by_sub = outer.add_sub_step_function("Sub", arithmetic()).execute(3)
    assert by_add_step.output == by_sub.output == 8
    assert steps_of(by_add_step) == steps_of(by_sub)


def test_add_sub_step_function_takes_its_arguments_in_order():
    outer = StepFunction("Outer").set_start_step("Sub")
    outer.add_sub_step_function("Sub", failing(), None, "Tell", {1: "End"})
    outer.add_step("Tell", say("told")).add_step("End", say("end"))
    assert outer.execute().output == "told"


def test_the_result_of_a_nested_workflow_may_be_branched_on():
    outer = StepFunction("Outer").set_start_step("Sub")
    outer.add_sub_step_function("Sub", arithmetic(), branch={8: "Eight", 10: "Ten"})
    outer.add_step("Eight", say("eight")).add_step("Ten", say("ten"))
    assert outer.execute(3).output == "eight"


@pytest.mark.parametrize("executor", [None, *PLACES])
def test_the_execution_of_a_nested_step_is_a_child_under_its_name(executor):
    execution = as_step(arithmetic(), executor=executor).execute(3)
    child = execution.children["Sub"]
    assert execution.output == 8
    assert list(execution.children) == ["Sub"]
    assert type(child) is Execution
    assert (child.workflow, child.status) == ("Inner", Status.COMPLETED)
    assert (child.input, child.output) == (3, 8)
    assert child.context == {"Add": 4, "Double": 8}
    assert steps_of(child) == INNER_STEPS


def test_the_record_of_a_nested_step_has_its_child():
    execution = as_step(arithmetic()).execute(3)
    [record] = execution.history
    assert record.child is not None
    assert record.child.id == execution.children["Sub"].id
    assert record.child.history[0].child is None


def test_the_children_cannot_be_changed():
    execution = as_step(arithmetic()).execute(3)
    with pytest.raises(TypeError):
        execution.children["Other"] = execution


def test_an_execution_without_nested_workflows_has_no_children():
    assert dict(arithmetic().execute(3).children) == {}


# --- as a task ----------------------------------------------------------------------


@pytest.mark.parametrize("executor", PLACES)
def test_a_workflow_may_be_a_task(executor):
    execution = as_task(arithmetic(), executor).execute(3)
    assert execution.output == {"sub": 8}
    assert list(execution.children) == [("Fan", "sub")]
    child = execution.children["Fan", "sub"]
    assert (child.workflow, child.status) == ("Inner", Status.COMPLETED)
    assert steps_of(child) == INNER_STEPS


def test_one_workflow_may_be_two_tasks_beside_a_function():
    inner = arithmetic()
    outer = StepFunction("Outer").set_start_step("Fan")
    outer.add_step("Fan", {"a": inner, "b": inner, "c": double}, parallel=True)
    execution = outer.execute(3)
    assert execution.output == {"a": 8, "b": 8, "c": 6}
    assert list(execution.children) == [("Fan", "a"), ("Fan", "b")]
    assert execution.children["Fan", "a"].id != execution.children["Fan", "b"].id
    by_task = {r.task: r.child for r in execution.history if r.task is not None}
    assert by_task["a"].id == execution.children["Fan", "a"].id
    assert by_task["c"] is None


@pytest.mark.parametrize("executor", PLACES)
def test_a_task_that_is_a_failed_workflow_has_failed(executor):
    execution = as_task(failing(), executor).execute(3)
    error = execution.output["sub"]
    assert type(error) is StepExecutionError
    assert str(error) == (
        "task 'sub' of step 'Fan': nested workflow 'Inner' failed at its step 'Pay': "
        "PaymentError: no money for 3"
    )
    assert type(error.__cause__) is PaymentError
    child = execution.children["Fan", "sub"]
    assert child.status is Status.FAILED
    assert type(child.error) is PaymentError


# --- names never collide ------------------------------------------------------------


def test_steps_of_the_same_name_inside_and_outside_do_not_collide():
    inner = StepFunction("Same").set_start_step("Same")
    inner.add_step("Same", double)
    outer = StepFunction("Same").set_start_step("Start")
    outer.add_step("Start", add_one, next_step="Same")
    outer.add_step("Same", inner)
    execution = outer.execute(1)
    assert execution.context == {"Start": 2, "Same": 4}
    assert execution.children["Same"].context == {"Same": 4}
    assert execution.children["Same"].workflow == "Same"


def test_a_nested_workflow_does_not_see_the_steps_outside():
    inner = StepFunction("Inner").set_start_step("Look")
    inner.add_step("Look", lambda value, context: dict(context))
    outer = StepFunction("Outer").set_start_step("Before")
    outer.add_step("Before", say(1), next_step="Sub").add_step("Sub", inner)
    assert outer.execute().output == {}


def test_one_workflow_may_be_two_steps():
    inner = arithmetic()
    outer = StepFunction("Outer").set_start_step("First")
    outer.add_step("First", inner, next_step="Second").add_step("Second", inner)
    execution = outer.execute(3)
    assert execution.output == 18
    assert execution.children["First"].output == 8
    assert execution.children["Second"].output == 18


def test_after_a_loop_the_child_is_that_of_the_latest_visit():
    outer = StepFunction("Outer", max_steps=20).set_start_step("Sub")
    outer.add_step(
        "Sub",
        arithmetic(),
        branch=lambda value: "End" if value > 20 else "Sub",
        branch_targets=["Sub", "End"],
    )
    outer.add_step("End", tell)
    execution = outer.execute(3)
    assert [r.child.output for r in execution.history[:-1]] == [8, 18, 38]
    assert execution.children["Sub"].output == 38


# --- failures -----------------------------------------------------------------------


@pytest.mark.parametrize("executor", [None, *PLACES])
def test_a_failure_inside_fails_the_step(executor):
    error = failure_of(as_step(failing(), executor=executor), 3)
    assert type(error) is StepExecutionError
    assert str(error) == (
        "step 'Sub': nested workflow 'Inner' failed at its step 'Pay': "
        "PaymentError: no money for 3"
    )
    assert error.step == "Sub"
    assert type(error.__cause__) is PaymentError
    assert error.execution.workflow == "Outer"
    child = error.execution.children["Sub"]
    assert child.status is Status.FAILED
    assert type(child.error) is PaymentError


def test_the_error_of_the_step_is_caused_by_the_childs_error():
    error = failure_of(as_step(failing()), 3)
    assert error.__cause__ is error.execution.children["Sub"].error


def test_a_failure_that_was_handled_inside_but_ended_there_fails_the_step():
    inner = failing(on_failure="Tell")
    error = failure_of(as_step(inner), 3)
    child = error.execution.children["Sub"]
    assert child.status is Status.FAILED
    assert child.output == "told: no money for 3"
    assert error.__cause__ is child.error
    assert str(error) == (
        "step 'Sub': nested workflow 'Inner' failed at its step 'Pay': "
        "PaymentError: no money for 3"
    )


def test_a_failure_that_was_recovered_inside_does_not_fail_the_step():
    inner = StepFunction("Inner").set_start_step("Pay")
    inner.add_step("Pay", decline, next_step="End", on_failure="Lend")
    inner.add_step("Lend", say("lent"), next_step="End").add_step("End", tell)
    execution = as_step(inner).execute(3)
    assert execution.status is Status.COMPLETED
    assert execution.output == "told: lent"
    assert execution.failures == ()
    assert [r.step for r in execution.children["Sub"].failures] == ["Pay"]


def test_a_workflow_that_ends_as_failed_inside_fails_the_step():
    inner = StepFunction("Inner").set_start_step("Refuse")
    inner.add_step("Refuse", say("refused"), ends="failed")
    error = failure_of(as_step(inner))
    assert str(error.__cause__) == (
        "step 'Refuse' of 'Inner' ends the workflow as failed"
    )


def test_on_failure_of_the_step_takes_a_failure_inside():
    outer = as_step(failing(), on_failure="Apologise")
    outer.add_step("Apologise", lambda error: (error, error.__cause__))
    execution = outer.execute(3)
    error, cause = execution.output
    assert execution.status is Status.FAILED
    assert execution.context["Sub"] is error
    assert execution.error is error
    assert type(error) is StepExecutionError
    assert type(cause) is PaymentError


def test_the_failures_of_the_outer_execution_name_the_step_alone():
    error = failure_of(as_step(failing()), 3)
    [record] = error.execution.failures
    assert (record.step, record.outcome) == ("Sub", Outcome.FAILED)
    assert record.error is error
    assert record.child.failures[0].step == "Pay"


@pytest.mark.parametrize("executor", [None, "inline", "thread"])
def test_retries_of_a_nested_workflow_run_the_whole_of_it_afresh(executor):
    visits = []

    def flaky():
        visits.append("flaky")
        if len(visits) < 4:
            raise ValueError("once more")
        return "done"

    inner = StepFunction("Inner").set_start_step("First")
    inner.add_step("First", lambda: visits.append("first"), next_step="Flaky")
    inner.add_step("Flaky", flaky)
    retry = RetryPolicy(max_attempts=3, interval=0)
    execution = as_step(inner, retry=retry, executor=executor).execute()
    assert visits == ["first", "flaky", "first", "flaky"]
    assert execution.output == "done"
    [record] = execution.history
    assert [attempt.outcome for attempt in record.attempts] == ["FAILED", "SUCCEEDED"]
    assert record.child.status is Status.COMPLETED


# --- a builder that grows -----------------------------------------------------------


def test_steps_that_are_added_later_to_a_nested_workflow_are_seen():
    inner = StepFunction("Inner").set_start_step("Add")
    inner.add_step("Add", add_one, on_failure="Tell").add_step("Tell", tell)
    outer = as_step(inner)
    assert outer.execute(3).output == 4
    inner.add_step("Late", double, next_step="Add").set_start_step("Late")
    assert outer.execute(3).output == 7


def test_steps_that_are_added_later_two_levels_down_are_seen():
    inner = StepFunction("Inner").add_step("Add", add_one).set_start_step("Add")
    outer = as_step(as_step(inner))
    assert outer.execute(3).output == 4
    inner.add_step("Late", double, next_step="Add").set_start_step("Late")
    assert outer.execute(3).output == 7


def test_a_nested_workflow_may_be_built_after_it_was_added():
    inner = StepFunction("Inner")
    outer = as_step(inner)
    inner.add_step("Add", add_one).set_start_step("Add")
    assert outer.execute(3).output == 4


def test_steps_that_are_added_later_to_a_nested_task_are_seen():
    inner = StepFunction("Inner").add_step("Add", add_one).set_start_step("Add")
    outer = as_task(inner, "thread")
    assert outer.execute(3).output == {"sub": 4}
    inner.add_step("Late", double, next_step="Add").set_start_step("Late")
    assert outer.execute(3).output == {"sub": 7}


# --- deep ---------------------------------------------------------------------------


def test_workflows_nest_deeply():
    workflow = StepFunction("Level 0").add_step("Sub", add_one).set_start_step("Sub")
    for level in range(1, 41):
        outer = StepFunction(f"Level {level}").set_start_step("Sub")
        workflow = outer.add_step("Sub", workflow)
    execution = workflow.execute(1)
    assert execution.output == 2
    for level in range(39, -1, -1):
        execution = execution.children["Sub"]
        assert execution.workflow == f"Level {level}"
    assert execution.children == {}


def test_workflows_that_nest_deeper_than_python_allows_fail_and_say_so():
    workflow = StepFunction("Level 0").add_step("Sub", add_one).set_start_step("Sub")
    for level in range(1, 61):
        outer = StepFunction(f"Level {level}").set_start_step("Sub")
        workflow = outer.add_step("Sub", workflow)
    workflow.validate()
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(len(inspect.stack()) + 120)
    try:
        with pytest.raises((StepExecutionError, RecursionError)) as caught:
            workflow.execute(1)
    finally:
        sys.setrecursionlimit(limit)
    error = caught.value
    while isinstance(error, StepExecutionError):
        error = error.__cause__
    assert isinstance(error, RecursionError)


def test_a_deep_failure_is_caused_by_the_users_exception_in_the_end():
    error = failure_of(as_step(as_step(failing())), 3)
    assert error.step == "Sub"
    assert type(error.__cause__) is StepExecutionError
    assert type(error.__cause__.__cause__) is PaymentError


def test_fan_outs_nest_in_threads():
    inner = StepFunction("Inner").set_start_step("Fan")
    inner.add_step("Fan", {"a": add_one, "b": double}, parallel=True, max_workers=1)
    middle = as_task(inner, "thread", max_workers=1)
    outer = as_task(middle, "thread", max_workers=1)
    assert outer.execute(3).output == {"sub": {"sub": {"a": 4, "b": 6}}}


def test_a_workflow_in_a_workflow_in_a_process_comes_back_whole():
    execution = as_task(as_step(arithmetic()), "process").execute(3)
    middle = execution.children["Fan", "sub"]
    assert middle.workflow == "Outer"
    assert steps_of(middle.children["Sub"]) == INNER_STEPS


def test_a_workflow_in_a_process_may_use_threads_and_processes():
    inner = StepFunction("Inner").set_start_step("Threads")
    inner.add_step("Threads", {"a": add_one}, parallel=True, next_step="Processes")
    inner.add_step("Processes", {"b": sum_up}, parallel=True, executor="process")
    execution = as_task(inner, "process", stop_on_failure=True).execute(3)
    assert execution.output == {"sub": {"b": 4}}


def sum_up(values):
    return sum(values.values())


# --- what comes back from a process -------------------------------------------------


def test_the_records_of_a_failed_workflow_come_back_from_a_process():
    execution = as_task(failing(on_failure="Tell"), "process").execute(3)
    child = execution.children["Fan", "sub"]
    assert [(r.step, r.outcome) for r in child.history] == [
        ("Pay", Outcome.FAILED),
        ("Tell", Outcome.SUCCEEDED),
    ]
    assert child.history[0].next_step == "Tell"
    assert type(child.failures[0].error) is PaymentError
    assert child.output == "told: no money for 3"


def test_the_records_that_come_back_from_a_process_have_their_times():
    execution = as_task(arithmetic(), "process").execute(3)
    child = execution.children["Fan", "sub"]
    for record in child.history:
        assert type(record) is StepRecord
        assert len(record.attempts) == 1
        assert execution.started <= record.started <= (
            execution.started + execution.duration
        )
    assert 0 <= child.duration <= execution.duration


@pytest.mark.parametrize("executor", [None, *PLACES])
def test_values_inside_that_cannot_be_pickled_do_no_harm(executor):
    inner = StepFunction("Inner").set_start_step("Make")
    inner.add_step("Make", make_lock, next_step="Ask").add_step("Ask", is_locked)
    execution = as_step(inner, executor=executor).execute()
    assert execution.output is False
    child = execution.children["Sub"]
    assert child.status is Status.COMPLETED
    assert [record.step for record in child.history] == ["Make", "Ask"]


def test_what_stands_for_a_value_that_cannot_be_pickled_says_what_it_was():
    inner = StepFunction("Inner").set_start_step("Make")
    inner.add_step("Make", make_lock, next_step="Ask").add_step("Ask", is_locked)
    child = as_step(inner, executor="process").execute().children["Sub"]
    assert "unlocked _thread.lock" in repr(child.context["Make"])


def test_a_result_that_cannot_leave_its_process_fails_the_task():
    inner = StepFunction("Inner").set_start_step("Make")
    inner.add_step("Make", make_lock)
    execution = as_task(inner, "process").execute()
    error = execution.output["sub"]
    assert type(error) is TransferError
    assert "_thread.lock" in str(error)


def nested(levels, value=None):
    workflow = StepFunction("L0").add_step("A", value or add_one).set_start_step("A")
    for level in range(1, levels):
        outer = StepFunction(f"L{level}").add_sub_step_function("N", workflow)
        workflow = outer.set_start_step("N")
    return workflow


@pytest.mark.parametrize("inner", [add_one, decline, make_lock])
def test_workflows_that_are_nested_deep_come_back_from_a_process(inner):
    workflow = StepFunction("P").add_step("A", nested(90, inner), executor="process")
    workflow.set_start_step("A")
    if inner is add_one:
        execution = workflow.execute(7, timeout=60)
        assert execution.output == 8
    else:
        error = failure_of(workflow, 7)
        execution = error.execution
    levels = 0
    while execution.children:
        (execution,) = execution.children.values()
        levels += 1
    assert levels == 90
    assert execution.history[0].step == "A"


def test_workflows_that_are_nested_very_deep_run_in_a_process_or_are_refused_at_once():
    workflow = StepFunction("P").add_step("A", nested(250), executor="process")
    workflow.set_start_step("A")
    try:
        output = workflow.execute(7, timeout=60).output
    except StepFunctionError as error:
        assert "deep" in str(error)
    else:
        assert output == 8  # Python 3.13 has room for it


def test_an_execution_that_is_a_value_of_another_comes_along_once():
    inner = nested(3).execute(1)
    outer = StepFunction("W").add_step("A", lambda: [inner, inner]).set_start_step("A")
    first, second = pickle.loads(pickle.dumps(outer.execute())).output
    assert first.output == 2
    assert first.children["N"].children["N"].history[0].output == 2
    assert journal_of(second) is journal_of(first)
