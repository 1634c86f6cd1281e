from __future__ import annotations

import copy
import pickle
import threading
from functools import partial

import pytest
from shared.calls import Oops

from stepfunction import (
    DefinitionError,
    FailStepError,
    NoBranchMatchedError,
    Outcome,
    ParallelStepExecutionError,
    Status,
    StepExecutionError,
    StepFunction,
)

# --- fail steps ---------------------------------------------------------------------


def echo(value):
    return value


def fail(value):
    raise Oops(value)


def path(execution):
    return [record.step for record in execution.history]


def refusing(cause="over the limit", **of_the_workflow):
    workflow = StepFunction("Shop", **of_the_workflow).set_start_step("Check")
    workflow.add_step("Check", echo, branch={"good": "Ship"}, next_step="Refuse")
    workflow.add_step("Ship", echo)
    return workflow.add_fail_step("Refuse", "Shop.Refused", cause)


def check_error(error, text="Shop.Refused: over the limit", cause="over the limit"):
    assert type(error) is FailStepError
    assert (str(error), error.error, error.cause) == (text, "Shop.Refused", cause)


def test_a_fail_step_ends_the_execution_as_failed():
    execution = refusing().execute("bad")
    assert execution.status is Status.FAILED
    assert execution.output is None
    check_error(execution.error)
    assert execution.last_result is execution.error
    assert execution.context["Refuse"] is execution.error


def test_its_cause_may_be_left_out():
    check_error(refusing(cause=None).execute("bad").error, "Shop.Refused", None)


def test_an_execution_that_does_not_come_there_completes():
    assert refusing().execute("good").status is Status.COMPLETED


def test_its_record_has_its_input_and_is_a_failure():
    execution = refusing().execute("bad")
    record = execution.history[-1]
    assert (record.step, record.outcome, record.input) == ("Refuse", "FAILED", "bad")
    assert (record.output, record.next_step) == (None, None)
    assert record.error is execution.error
    assert [record.step for record in execution.failures] == ["Refuse"]


def test_execute_returns_it_and_check_raises():
    with pytest.raises(StepExecutionError) as caught:
        refusing().execute("bad", check=True)
    assert str(caught.value) == (
        "step 'Refuse' of 'Shop' failed: FailStepError: Shop.Refused: over the limit"
    )
    assert caught.value.step == "Refuse"
    check_error(caught.value.__cause__)
    assert caught.value.execution.error is caught.value.__cause__


def test_raise_if_failed_raises_the_same():
    execution = refusing().execute("bad")
    with pytest.raises(StepExecutionError, match="step 'Refuse' of 'Shop'") as caught:
        execution.raise_if_failed()
    assert caught.value.__cause__ is execution.error


def test_it_may_be_the_only_step():
    workflow = StepFunction("Shop").add_fail_step("Refuse", "No")
    assert workflow.set_start_step("Refuse").execute().error.error == "No"


def after_failure(cause="sorry"):
    workflow = StepFunction("Shop").set_start_step("Pay")
    workflow.add_step("Pay", fail, on_failure="Refuse")
    return workflow.add_fail_step("Refuse", "Shop.Unpaid", cause)


def test_after_a_failure_it_is_the_error_and_the_failure_its_context():
    execution = after_failure().execute("order")
    assert execution.status is Status.FAILED
    assert execution.error.error == "Shop.Unpaid"
    assert isinstance(execution.error.__context__, Oops)
    assert [record.step for record in execution.failures] == ["Pay", "Refuse"]
    with pytest.raises(StepExecutionError, match="step 'Refuse' of 'Shop'"):
        execution.raise_if_failed()


def test_after_a_failure_that_was_recovered_it_has_no_context():
    workflow = StepFunction("Shop").set_start_step("Pay")
    workflow.add_step("Pay", fail, on_failure="Mend", next_step="Refuse")
    workflow.add_step("Mend", echo, next_step="Refuse")
    workflow.add_fail_step("Refuse", "No")
    error = workflow.execute(1).error
    assert error.error == "No"
    assert error.__context__ is None


def test_each_execution_has_an_error_of_its_own():
    workflow = refusing()
    assert workflow.execute("bad").error is not workflow.execute("bad").error


def test_its_start_and_its_end_are_told():
    heard = []
    execution = refusing(listeners=[heard.append]).execute("bad")
    told = [event for event in heard if event.step == "Refuse"]
    assert [event.kind for event in told] == ["step_started", "step_failed"]
    assert (told[1].error, told[1].next_step) == (execution.error, None)
    assert heard[-1].kind == "execution_ended"
    assert (heard[-1].status, heard[-1].error) == ("FAILED", execution.error)


def test_it_is_logged_as_an_error(caplog):
    refusing().execute("bad")
    (record,) = (r for r in caplog.records if r.levelname == "ERROR")
    assert "step 'Refuse' of 'Shop' failed" in record.getMessage()
    assert "Shop.Refused: over the limit" in record.getMessage()


def test_its_error_survives_pickling():
    for travelled in (pickle.loads(pickle.dumps(refusing().execute("bad").error)),):
        check_error(travelled)
    execution = pickle.loads(pickle.dumps(refusing().execute("bad")))
    check_error(execution.error)
    with pytest.raises(StepExecutionError, match="step 'Refuse' of 'Shop'"):
        execution.raise_if_failed()


@pytest.mark.parametrize("executor", [None, "inline", "thread", "process"])
def test_a_nested_one_fails_its_step(executor):
    outer = StepFunction("Outer").set_start_step("Sub")
    outer.add_sub_step_function("Sub", refusing(), executor=executor)
    with pytest.raises(StepExecutionError) as caught:
        outer.execute("bad")
    assert str(caught.value) == (
        "step 'Sub': nested workflow 'Shop' failed at its step 'Refuse': "
        "FailStepError: Shop.Refused: over the limit"
    )
    check_error(caught.value.__cause__)
    child = caught.value.execution.children["Sub"]
    assert child.status is Status.FAILED
    check_error(child.error)


def test_on_failure_of_the_outer_step_takes_a_nested_one():
    outer = StepFunction("Outer").set_start_step("Sub")
    outer.add_step("Sub", refusing(), on_failure={FailStepError: "Sorry"})
    outer.add_step("Sorry", lambda error: error.__cause__.error)
    assert outer.execute("bad").output == "Shop.Refused"


@pytest.mark.parametrize("executor", ["inline", "thread", "process"])
def test_a_task_that_ends_at_one_has_failed(executor):
    outer = StepFunction("Outer").set_start_step("Fan")
    tasks = {"shop": refusing(), "copy": copy.copy}
    outer.add_step(
        "Fan", tasks, parallel=True, tolerated_failures=0, executor=executor
    )
    with pytest.raises(ParallelStepExecutionError) as caught:
        outer.execute("bad")
    assert caught.value.outcomes == {
        "shop": Outcome.FAILED,
        "copy": Outcome.SUCCEEDED,
    }
    check_error(caught.value.errors["shop"].__cause__)


def test_it_counts_as_a_step():
    workflow = refusing(max_steps=2)
    assert path(workflow.execute("bad")) == ["Check", "Refuse"]


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("",), "error is the name of an error, not ''"),
        ((None,), "error is the name of an error, not None"),
        ((Oops,), f"error is the name of an error, not {Oops!r}; give 'Oops'"),
        (("No", 17), "cause is a text, not 17"),
    ],
)
def test_what_says_no_error_is_refused(arguments, problem):
    with pytest.raises(DefinitionError) as caught:
        StepFunction("Shop").add_fail_step("Refuse", *arguments)
    assert caught.value.problems == (problem,)


# --- pass steps ---------------------------------------------------------------------


def passing(*result, then=echo, **more):
    workflow = StepFunction("Shop").set_start_step("Pass")
    workflow.add_pass_step("Pass", *result, next_step="Then", **more)
    return workflow.add_step("Then", then)


def test_a_pass_step_passes_its_input_on_as_it_is():
    value = object()
    assert passing().execute(value).output is value


@pytest.mark.parametrize("result", [None, 0, "text", b"", [1, {"k": (2,)}], Oops, echo])
def test_a_pass_step_gives_a_constant(result):
    execution = passing(result).execute("order")
    assert execution.output == result
    assert [(r.input, r.output) for r in execution.history] == [
        ("order", result),
        (result, result),
    ]


def test_what_a_step_does_to_the_constant_does_not_change_it():
    workflow = passing({"items": []}, then=lambda it: it["items"].append(1) or it)
    outputs = [workflow.execute().output for _ in range(3)]
    assert outputs == [{"items": [1]}] * 3


def test_what_its_author_does_to_the_constant_later_does_not_change_it():
    constant = {"items": []}
    workflow = passing(constant)
    constant["items"].append(1)
    assert workflow.execute().output == {"items": []}


def test_two_visits_are_given_copies_of_their_own():
    workflow = StepFunction("Twice").set_start_step("Pass")
    workflow.add_pass_step("Pass", [], next_step="Add")
    workflow.add_step("Add", lambda found: found.append(1) or found)
    outer = StepFunction("Outer").set_start_step("Fan")
    outer.add_step("Fan", {"a": workflow, "b": workflow}, parallel=True)
    assert outer.execute().output == {"a": [1], "b": [1]}


def test_a_constant_that_cannot_be_copied_is_refused():
    lock = threading.Lock()
    with pytest.raises(DefinitionError) as caught:
        passing([lock])
    (problem,) = caught.value.problems
    assert problem.startswith("result is [<unlocked _th")
    assert problem.endswith(
        ">], which cannot be copied for each execution (TypeError: cannot pickle "
        "'_thread.lock' object); let the function of a step make it"
    )


def test_a_constant_that_cannot_be_pickled_stays_out_of_processes():
    outer = StepFunction("Outer").set_start_step("Sub")
    outer.add_sub_step_function("Sub", passing(lambda: 1), executor="process")
    with pytest.raises(DefinitionError, match="step 'Sub': workflow 'Shop'"):
        outer.validate()


def test_it_gives_its_constant_in_a_process():
    outer = StepFunction("Outer").set_start_step("Sub")
    outer.add_sub_step_function("Sub", passing([1]), executor="process")
    assert outer.execute().output == [1]


def choosing():
    workflow = StepFunction("Choice").set_start_step("Choose")
    branch = [(partial(int.__lt__, 9), "Big"), (partial(int.__lt__, 4), "Middle")]
    workflow.add_pass_step("Choose", branch=branch, next_step="Small")
    for name in ("Big", "Middle", "Small"):
        workflow.add_pass_step(name, name.lower())
    return workflow


@pytest.mark.parametrize(("value", "size"), [(10, "big"), (5, "middle"), (1, "small")])
def test_with_a_branch_it_is_a_choice(value, size):
    assert choosing().execute(value).output == size


def test_a_constant_may_choose():
    workflow = StepFunction("Choice").set_start_step("Choose")
    workflow.add_pass_step("Choose", "b", branch={"a": "A", "b": "B"})
    workflow.add_pass_step("A", 1).add_pass_step("B", 2)
    assert workflow.execute().output == 2


def test_its_callable_branch_lists_its_targets():
    workflow = StepFunction("Choice").set_start_step("Choose")
    workflow.add_pass_step("Choose", branch=str.upper, branch_targets=["A"])
    workflow.add_pass_step("A", 1)
    assert workflow.execute("a").output == 1


def test_a_choice_that_nothing_matches_fails():
    workflow = StepFunction("Choice").set_start_step("Choose")
    workflow.add_pass_step("Choose", branch={"a": "A"}, on_failure="Sorry")
    workflow.add_pass_step("A", 1).add_step("Sorry", lambda error: error)
    error = workflow.execute("b").output
    assert isinstance(error, NoBranchMatchedError)
    assert (error.step, error.result) == ("Choose", "b")


@pytest.mark.parametrize("ends", ["completed", "failed"])
def test_it_may_say_how_the_execution_ends(ends):
    workflow = StepFunction("End").set_start_step("End").add_pass_step("End", ends=ends)
    assert workflow.execute(1).status == ends.upper()


def test_a_pass_step_that_takes_a_failure_passes_the_error_on():
    workflow = StepFunction("Shop").set_start_step("Pay")
    workflow.add_step("Pay", fail, on_failure="Keep")
    workflow.add_pass_step("Keep", ends="completed")
    execution = workflow.execute(1)
    assert execution.status is Status.COMPLETED
    assert isinstance(execution.output, Oops)
