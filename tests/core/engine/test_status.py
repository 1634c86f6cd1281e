from __future__ import annotations

import copy
import pickle

import pytest
from shared.calls import PaymentError, decline, fail_with, say
from shared.failures import failure_of

from stepfunction import Status, StepExecutionError, StepFunction
from stepfunction.core.history.execution import journal_of


def shop(**steps):
    workflow = StepFunction("Shop").set_start_step(next(iter(steps)))
    for name, (func, arguments) in steps.items():
        workflow.add_step(name, func, **arguments)
    return workflow


def handled(**apologise):
    return shop(
        Pay=(decline, {"on_failure": "Apologise"}),
        Apologise=(say("sorry"), apologise),
    )


def recovering():
    return shop(
        Pay=(decline, {"next_step": "Ship", "on_failure": "Lend"}),
        Lend=(say("lent"), {"next_step": "Ship"}),
        Ship=(say("shipped"), {}),
    )


# --- the main path and failure steps ------------------------------------------------


def test_a_workflow_that_ends_on_the_main_path_is_completed():
    execution = shop(Pay=(say("paid"), {})).execute()
    assert execution.status is Status.COMPLETED
    assert execution.error is None
    assert execution.output == execution.last_result == "paid"
    assert execution.failures == ()


def test_a_workflow_that_ends_on_a_failure_step_is_failed():
    execution = handled().execute()
    assert execution.status is Status.FAILED
    assert execution.error is execution.context["Pay"]
    assert type(execution.error) is PaymentError


def test_a_workflow_that_ends_behind_a_failure_step_is_failed():
    execution = shop(
        Pay=(decline, {"on_failure": "Apologise"}),
        Apologise=(say("sorry"), {"next_step": "Log"}),
        Log=(say("logged"), {}),
    ).execute()
    assert execution.status is Status.FAILED
    assert execution.error is execution.context["Pay"]
    assert execution.output == execution.last_result == "logged"


def test_the_output_of_a_handled_failure_is_that_of_the_failure_step():
    execution = handled().execute()
    assert execution.output == execution.last_result == "sorry"


def test_the_error_is_the_first_failure_of_several_handled_ones():
    execution = shop(
        Pay=(decline, {"on_failure": "Refund"}),
        Refund=(fail_with(ValueError("bank")), {"on_failure": "Apologise"}),
        Apologise=(say("sorry"), {}),
    ).execute()
    assert execution.status is Status.FAILED
    assert execution.error is execution.context["Pay"]
    assert [record.step for record in execution.failures] == ["Pay", "Refund"]


def test_a_failure_step_that_leads_back_to_the_main_path_has_recovered_the_workflow():
    execution = recovering().execute()
    assert execution.status is Status.COMPLETED
    assert execution.error is None
    assert execution.output == "shipped"


def test_a_recovered_failure_is_still_listed():
    execution = recovering().execute()
    [record] = execution.failures
    assert record.step == "Pay"
    assert record.error is execution.context["Pay"]


def test_a_step_of_the_main_path_that_on_failure_leads_to_is_no_failure_step():
    execution = shop(
        Pay=(decline, {"next_step": "End", "on_failure": "End"}),
        End=(lambda value: type(value).__name__, {}),
    ).execute()
    assert execution.status is Status.COMPLETED
    assert execution.error is None
    assert execution.output == "PaymentError"
    assert [record.step for record in execution.failures] == ["Pay"]


def test_a_step_that_only_a_branch_leads_to_is_on_the_main_path():
    execution = shop(
        Check=(decline, {"branch": {"bad": "Refuse"}, "on_failure": "Refuse"}),
        Refuse=(say("refused"), {}),
    ).execute()
    assert execution.status is Status.COMPLETED


def test_a_step_that_only_failure_steps_lead_to_is_a_failure_step():
    execution = shop(
        Pay=(decline, {"on_failure": "Refund"}),
        Refund=(say("refunded"), {"branch": {"refunded": "Close"}}),
        Close=(say("closed"), {}),
    ).execute()
    assert execution.status is Status.FAILED


def test_the_main_path_may_fail_anew_after_a_recovery():
    workflow = shop(
        Pay=(decline, {"next_step": "Ship", "on_failure": "Lend"}),
        Lend=(say("lent"), {"next_step": "Ship"}),
        Ship=(fail_with(ValueError("no van")), {"on_failure": "Apologise"}),
        Apologise=(say("sorry"), {}),
    )
    execution = workflow.execute()
    assert execution.status is Status.FAILED
    assert execution.error is execution.context["Ship"]
    assert [record.step for record in execution.failures] == ["Pay", "Ship"]


def test_tolerated_failures_leave_the_workflow_completed():
    workflow = StepFunction("Shop").set_start_step("Update")
    workflow.add_step("Update", {"pay": decline, "ship": say(1)}, parallel=True)
    execution = workflow.execute()
    assert execution.status is Status.COMPLETED
    assert execution.error is None
    assert [(r.step, r.task) for r in execution.failures] == [("Update", "pay")]


# --- unhandled failures -------------------------------------------------------------


def test_an_unhandled_failure_ends_the_execution_as_failed():
    error = failure_of(shop(Price=(say(17), {"next_step": "Pay"}), Pay=(decline, {})))
    execution = error.execution
    assert execution.status is Status.FAILED
    assert execution.error is error.__cause__


def test_an_error_that_ended_no_execution_says_that_it_has_none():
    error = StepExecutionError("a message", "Pay")
    with pytest.raises(AttributeError) as caught:
        error.execution
    assert str(caught.value) == (
        "this StepExecutionError has no execution: what execute(), result() and "
        "raise_if_failed() raise has it; a copy of that from another process or a "
        "store, and an error of a step or a task, has none"
    )
    assert getattr(error, "execution", None) is None


def test_after_an_unhandled_failure_there_is_no_output():
    execution = failure_of(
        shop(Price=(say(17), {"next_step": "Pay"}), Pay=(decline, {}))
    ).execution
    assert execution.output is None


def test_the_last_result_after_a_failure_is_the_exception():
    workflow = shop(Price=(say(17), {"next_step": "Pay"}), Pay=(decline, {}))
    error = failure_of(workflow)
    assert error.execution.last_result is error.__cause__
    assert workflow.last_result is error.__cause__


def test_after_an_unhandled_failure_in_a_failure_step_the_error_is_the_first():
    error = failure_of(
        shop(
            Pay=(decline, {"on_failure": "Tell"}),
            Tell=(fail_with(ValueError("no mail")), {}),
        )
    )
    execution = error.execution
    assert execution.error is execution.context["Pay"]
    assert execution.last_result is execution.context["Tell"]
    assert execution.output is None
    assert error.step == "Tell"


# --- ends ---------------------------------------------------------------------------


def test_a_step_of_the_main_path_may_end_the_workflow_as_failed():
    execution = shop(
        Check=(say("invalid"), {"branch": {"invalid": "Refuse"}}),
        Refuse=(say("refused"), {"ends": "failed"}),
    ).execute()
    assert execution.status is Status.FAILED
    assert execution.output == "refused"
    assert execution.failures == ()


def test_an_execution_that_a_step_ends_as_failed_has_an_error_that_says_so():
    error = shop(Refuse=(say("refused"), {"ends": "failed"})).execute().error
    assert type(error) is StepExecutionError
    assert str(error) == "step 'Refuse' of 'Shop' ends the workflow as failed"
    assert error.step == "Refuse"


def test_a_step_that_ends_as_failed_after_a_failure_keeps_that_failure_as_the_error():
    execution = shop(
        Pay=(decline, {"next_step": "End", "on_failure": "End"}),
        End=(say("end"), {"ends": "failed"}),
    ).execute()
    assert execution.status is Status.FAILED
    assert execution.error is execution.context["Pay"]


def test_a_failure_step_may_end_the_workflow_as_completed():
    execution = handled(ends="completed").execute()
    assert execution.status is Status.COMPLETED
    assert execution.error is None
    assert execution.output == "sorry"
    assert [record.step for record in execution.failures] == ["Pay"]


@pytest.mark.parametrize("ends", ["completed", "failed"])
def test_an_unhandled_failure_is_failed_whatever_its_step_says(ends):
    error = failure_of(shop(Pay=(decline, {"ends": ends})))
    assert error.execution.status is Status.FAILED
    assert error.execution.error is error.__cause__


@pytest.mark.parametrize(
    "ends, status", [("completed", Status.COMPLETED), ("failed", Status.FAILED)]
)
def test_ends_may_say_what_the_arrows_say(ends, status):
    main = shop(Pay=(say("paid"), {"ends": "completed"})).execute()
    assert main.status is Status.COMPLETED
    assert handled(ends=ends).execute().status is status


def test_ends_counts_only_where_the_execution_ends():
    workflow = shop(
        Pay=(decline, {"ends": "failed", "on_failure": "Lend"}),
        Lend=(say("lent"), {"ends": "completed"}),
    )
    assert workflow.execute().status is Status.COMPLETED


# --- raising what was handled -------------------------------------------------------


def test_raise_if_failed_gives_the_execution_that_did_not_fail():
    execution = recovering().execute()
    assert execution.raise_if_failed() is execution


def test_check_gives_the_execution_that_did_not_fail():
    assert recovering().execute(check=True).output == "shipped"


def test_raise_if_failed_raises_the_handled_failure():
    execution = handled().execute()
    with pytest.raises(StepExecutionError) as caught:
        execution.raise_if_failed()
    error = caught.value
    assert str(error) == "step 'Pay' of 'Shop' failed: PaymentError: no money"
    assert error.step == "Pay"
    assert error.__cause__ is execution.error
    assert error.execution is execution


def test_check_raises_the_handled_failure_after_the_failure_step_has_run():
    error = failure_of(handled(), check=True)
    assert str(error) == "step 'Pay' of 'Shop' failed: PaymentError: no money"
    assert type(error.__cause__) is PaymentError
    assert error.execution.output == "sorry"


def test_check_names_the_first_failure_of_several_handled_ones():
    workflow = shop(
        Pay=(decline, {"on_failure": "Refund"}),
        Refund=(fail_with(ValueError("bank")), {"on_failure": "Apologise"}),
        Apologise=(say("sorry"), {}),
    )
    assert failure_of(workflow, check=True).step == "Pay"


def test_check_raises_where_a_step_ends_as_failed():
    workflow = shop(Refuse=(say("refused"), {"ends": "failed"}))
    error = failure_of(workflow, check=True)
    assert str(error) == "step 'Refuse' of 'Shop' ends the workflow as failed"
    assert error.execution.status is Status.FAILED


def test_check_does_not_raise_where_a_failure_step_ends_as_completed():
    execution = handled(ends="completed").execute(check=True)
    assert execution.raise_if_failed() is execution


def test_raise_if_failed_raises_an_unhandled_failure_again():
    error = failure_of(shop(Pay=(decline, {})))
    with pytest.raises(StepExecutionError) as caught:
        error.execution.raise_if_failed()
    assert str(caught.value) == str(error)
    assert caught.value.__cause__ is error.__cause__


def test_raise_if_failed_may_be_called_twice():
    execution = handled().execute()
    texts = []
    for _ in range(2):
        with pytest.raises(StepExecutionError) as caught:
            execution.raise_if_failed()
        texts.append(str(caught.value))
    assert texts[0] == texts[1]


# --- what a builder shows of its most recent execution ------------------------------


def test_a_builder_that_has_not_run_is_initialized():
    workflow = shop(Pay=(say("paid"), {}))
    assert workflow.status is Status.INITIALIZED
    assert dict(workflow.context) == {}
    assert workflow.last_result is None


def test_the_builder_is_running_while_a_step_runs():
    workflow = StepFunction("Shop").set_start_step("Price")
    workflow.add_step("Price", say(17), next_step="Look")
    workflow.add_step(
        "Look",
        lambda value: (
            workflow.status,
            dict(workflow.context),
            workflow.last_result,
        ),
    )
    seen = workflow.execute().output
    assert seen == (Status.RUNNING, {"Price": 17}, 17)


def test_the_builder_shows_its_most_recent_execution():
    workflow = StepFunction("Shop").add_step("Pay", lambda value: 100 / value)
    workflow.set_start_step("Pay")
    workflow.execute(5)
    assert (workflow.status, workflow.last_result) == (Status.COMPLETED, 20)
    assert workflow.context == {"Pay": 20}
    failure_of(workflow, initial_input=0)
    assert workflow.status is Status.FAILED
    assert type(workflow.last_result) is ZeroDivisionError
    assert workflow.context == {"Pay": workflow.last_result}


def test_a_later_execution_leaves_the_earlier_one_as_it_was():
    workflow = StepFunction("Shop").add_step("Pay", lambda value: 100 / value)
    first = workflow.set_start_step("Pay").execute(5)
    failure_of(workflow, initial_input=0)
    assert (first.status, first.output) == (Status.COMPLETED, 20)
    assert first.context == {"Pay": 20}


@pytest.mark.parametrize("executor", [None, "inline", "thread"])
def test_a_nested_run_does_not_count_as_an_execution_of_its_builder(executor):
    inner = shop(Inside=(say("inside"), {}))
    outer = StepFunction("Outer").set_start_step("Sub")
    outer.add_sub_step_function("Sub", inner, executor=executor)
    outer.execute()
    assert inner.status is Status.INITIALIZED
    assert dict(inner.context) == {}
    assert inner.last_result is None
    assert outer.last_result == "inside"


@pytest.mark.parametrize(
    "copied",
    [copy.copy, copy.deepcopy, lambda workflow: pickle.loads(pickle.dumps(workflow))],
    ids=["copy", "deepcopy", "pickle"],
)
def test_a_copy_of_a_builder_does_not_carry_its_execution(copied):
    workflow = StepFunction("Shop").add_step("Pay", abs).set_start_step("Pay")
    workflow.execute(-5)
    twin = copied(workflow)
    assert twin.status is Status.INITIALIZED
    assert dict(twin.context) == {}
    assert twin.last_result is None
    assert twin.execute(-7).output == 7
    assert workflow.last_result == 5


@pytest.mark.parametrize("name", ["status", "context", "last_result", "name", "steps"])
def test_the_properties_of_a_builder_cannot_be_set(name):
    with pytest.raises(AttributeError):
        setattr(shop(Pay=(say("paid"), {})), name, None)


def test_a_status_is_its_own_text():
    assert shop(Pay=(say("paid"), {})).execute().status == "COMPLETED"
    assert f"{Status.FAILED}" == "FAILED"


# --- a failure that goes by way of the main path ------------------------------------


def cleaning_up(clean=lambda value: value):
    def is_error(value):
        return isinstance(value, Exception)

    workflow = StepFunction("Always").set_start_step("Work")
    workflow.add_step("Work", raise_if, next_step="Clean", on_failure="Clean")
    workflow.add_step("Clean", clean, branch=[(is_error, "Failed")], next_step="Done")
    workflow.add_pass_step("Done")
    return workflow.add_step("Failed", lambda value: value, ends="failed")


def raise_if(error):
    if error is not None:
        raise error
    return "made"


def test_a_step_may_end_as_failed_with_the_failure_before_it():
    error = ConnectionError("half-way")
    execution = cleaning_up().execute(error)
    assert execution.status is Status.FAILED
    assert execution.error is error
    assert execution.ended_at == "Failed"
    with pytest.raises(StepExecutionError) as caught:
        execution.raise_if_failed()
    assert caught.value.__cause__ is error
    assert caught.value.step == "Failed"
    assert str(caught.value) == (
        "step 'Failed' of 'Always' ends the workflow as failed, after step 'Work' had "
        "failed: ConnectionError: half-way"
    )


def test_that_is_so_while_somebody_listens_too():
    error = ConnectionError("half-way")
    execution = cleaning_up().execute(error, listeners=[lambda event: None])
    assert (execution.status, execution.error) == (Status.FAILED, error)


def test_without_a_failure_it_completes():
    assert cleaning_up().execute(None).status is Status.COMPLETED


def test_an_outer_step_fails_with_what_failed_inside_before():
    error = ConnectionError("half-way")
    outer = StepFunction("Outer").set_start_step("Sub")
    outer.add_step("Sub", cleaning_up())
    with pytest.raises(StepExecutionError) as caught:
        outer.execute(error)
    assert caught.value.execution.error.__cause__ is error


def test_it_is_written_and_read_as_it_was():
    execution = cleaning_up().execute(ConnectionError("half-way"))
    read = type(execution).from_json(execution.to_json())
    assert read.status is Status.FAILED
    assert read.error.text == "half-way"
    assert str(journal_of(read).blame.error) == str(journal_of(execution).blame.error)
    assert read.to_json() == execution.to_json()
