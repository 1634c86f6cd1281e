from __future__ import annotations

import logging
import re
import traceback

import pytest
from shared.calls import PaymentError, fail_with, say
from shared.failures import failure_of

from stepfunction import (
    ParallelStepExecutionError,
    RetryPolicy,
    Status,
    StepExecutionError,
    StepFunction,
)


class DeclinedError(PaymentError):
    pass


def decline(value):
    raise DeclinedError("no money")


def shop(func, on_failure, **arguments):
    workflow = StepFunction("Shop").set_start_step("Pay")
    workflow.add_step("Pay", func, on_failure=on_failure, **arguments)
    targets = [on_failure] if isinstance(on_failure, str) else on_failure.values()
    for name in dict.fromkeys(targets):
        workflow.add_step(name, say(name))
    return workflow


# --- where a failure leads ----------------------------------------------------------


def test_on_failure_leads_to_the_named_step():
    assert shop(decline, "Apologise").execute().output == "Apologise"


def test_a_step_that_succeeds_does_not_lead_to_its_failure_step():
    workflow = shop(say("paid"), "Apologise")
    execution = workflow.execute()
    assert execution.context == {"Pay": "paid"}


@pytest.mark.parametrize(
    "error, step",
    [
        (DeclinedError("no money"), "Ask"),
        (PaymentError("no bank"), "Wait"),
        (ConnectionError("no net"), "Wait"),
        (RuntimeError("other"), "Apologise"),
    ],
    ids=repr,
)
def test_on_failure_by_class_takes_the_first_class_that_matches(error, step):
    workflow = shop(
        fail_with(error),
        {
            DeclinedError: "Ask",
            PaymentError: "Wait",
            OSError: "Wait",
            Exception: "Apologise",
        },
    )
    assert workflow.execute().output == step


def test_a_failure_that_no_class_matches_is_unhandled():
    error = failure_of(shop(fail_with(KeyError("k")), {ValueError: "Apologise"}))
    assert str(error) == "step 'Pay' of 'Shop' failed: KeyError: 'k'"


def nested_in(func):
    return StepFunction("Inner").add_step("Inside", func).set_start_step("Inside")


@pytest.mark.parametrize(
    "func, arguments",
    [
        (nested_in(decline), {}),
        (nested_in(nested_in(decline)), {}),
        ({"pay": decline}, {"parallel": True}),
        ({"pay": nested_in(decline)}, {"parallel": True}),
        ({"pay": decline}, {"parallel": True, "stop_on_failure": True}),
    ],
    ids=["nested", "nested twice", "parallel", "nested in parallel", "stopping"],
)
def test_on_failure_by_class_looks_behind_the_librarys_own_errors(func, arguments):
    on_failure = {ValueError: "Wait", DeclinedError: "Ask", OSError: "Apologise"}
    assert shop(func, on_failure, **arguments).execute().output == "Ask"


def test_on_failure_by_class_looks_behind_what_a_step_got_from_another_workflow():
    inner = nested_in(decline)
    workflow = shop(lambda value: inner.execute(value), {DeclinedError: "Ask"})
    assert workflow.execute().output == "Ask"


@pytest.mark.parametrize(
    "error_class, arguments",
    [(StepExecutionError, {}), (ParallelStepExecutionError, {"parallel": True})],
)
def test_on_failure_by_class_matches_the_librarys_own_errors(error_class, arguments):
    func = {"pay": decline} if arguments else nested_in(decline)
    workflow = shop(func, {ValueError: "Wait", error_class: "Ask"}, **arguments)
    assert workflow.execute().output == "Ask"


def test_on_failure_by_class_does_not_look_behind_the_users_own_errors():
    def translate():
        try:
            decline(None)
        except DeclinedError as error:
            raise RuntimeError("translated") from error

    error = failure_of(shop(translate, {DeclinedError: "Ask"}))
    assert type(error.__cause__) is RuntimeError


def test_a_parallel_step_is_matched_by_its_first_failure_in_time():
    workflow = shop(
        {"net": fail_with(ConnectionError()), "pay": decline},
        {DeclinedError: "Ask", ConnectionError: "Wait"},
        parallel=True,
        executor="inline",
    )
    assert workflow.execute().output == "Wait"


# --- what the failure step sees -----------------------------------------------------


def test_the_exception_object_is_in_the_context_and_the_input_of_the_failure_step():
    error = DeclinedError("no money")
    workflow = StepFunction("Shop").set_start_step("Pay")
    workflow.add_step("Pay", fail_with(error), on_failure="Apologise")
    workflow.add_step("Apologise", lambda value, context: (value, context["Pay"]))
    execution = workflow.execute()
    assert execution.output == (error, error)
    assert execution.context["Pay"] is error


def test_the_context_of_a_failure_step_tells_what_failed():
    error = DeclinedError("no money")
    workflow = StepFunction("Shop").set_start_step("Price")
    workflow.add_step("Price", say(17), next_step="Pay")
    workflow.add_step(
        "Pay",
        fail_with(error),
        on_failure="Apologise",
        retry=RetryPolicy(max_attempts=3, interval=0),
    )
    workflow.add_step("Apologise", lambda value, context: context.failure)
    failure = workflow.execute().output
    assert (failure.step, failure.task) == ("Pay", None)
    assert failure.input == 17
    assert failure.error is error
    assert [attempt.number for attempt in failure.attempts] == [1, 2, 3]
    assert {attempt.error for attempt in failure.attempts} == {error}


def test_the_failure_of_a_plain_first_step_has_the_executions_input_and_one_attempt():
    workflow = StepFunction("Shop").set_start_step("Pay")
    workflow.add_step("Pay", decline, on_failure="Apologise")
    workflow.add_step("Apologise", lambda value, context: context.failure)
    failure = workflow.execute("order 17").output
    assert failure.input == "order 17"
    assert len(failure.attempts) == 1


def test_the_steps_after_a_failure_step_still_see_the_failure():
    workflow = StepFunction("Shop").set_start_step("Pay")
    workflow.add_step("Pay", decline, on_failure="Refund")
    workflow.add_step("Refund", say("refunded"), next_step="Tell")
    workflow.add_step("Tell", lambda value, context: (value, context.failure.step))
    assert workflow.execute().output == ("refunded", "Pay")


def test_a_failure_is_forgotten_on_the_main_path():
    workflow = StepFunction("Shop").set_start_step("Pay")
    workflow.add_step("Pay", decline, on_failure="Later", next_step="Ship")
    workflow.add_step("Later", say("later"), next_step="Ship")
    workflow.add_step("Ship", lambda value, context: context.failure)
    assert workflow.execute().output is None


def test_in_a_failure_step_of_a_failure_step_the_failure_is_the_latest():
    workflow = StepFunction("Shop").set_start_step("Pay")
    workflow.add_step("Pay", decline, on_failure="Refund")
    workflow.add_step("Refund", fail_with(ValueError("bank")), on_failure="Tell")
    workflow.add_step("Tell", lambda value, context: (value, context.failure))
    value, failure = workflow.execute().output
    assert str(value) == "bank"
    assert failure.step == "Refund"
    assert failure.error is value
    assert isinstance(failure.input, DeclinedError)


# --- failure steps are ordinary steps -----------------------------------------------


def test_a_failure_step_may_have_retries():
    outcomes = iter([ValueError("once"), ValueError("twice"), "told"])

    def tell(error):
        outcome = next(outcomes)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    workflow = StepFunction("Shop").set_start_step("Pay")
    workflow.add_step("Pay", decline, on_failure="Tell")
    workflow.add_step("Tell", tell, retry=RetryPolicy(max_attempts=3, interval=0))
    assert workflow.execute().output == "told"


def test_a_failure_step_may_have_a_failure_step():
    workflow = StepFunction("Shop").set_start_step("Pay")
    workflow.add_step("Pay", decline, on_failure="Refund")
    workflow.add_step("Refund", fail_with(ValueError()), on_failure="Call")
    workflow.add_step("Call", say("called"))
    execution = workflow.execute()
    assert execution.output == "called"
    assert [record.step for record in execution.failures] == ["Pay", "Refund"]


def test_a_failure_step_may_branch():
    workflow = StepFunction("Shop").set_start_step("Pay")
    workflow.add_step("Pay", decline, on_failure="Judge")
    workflow.add_step("Judge", lambda error: str(error), branch={"no money": "Lend"})
    workflow.add_step("Lend", say("lent"))
    assert workflow.execute().output == "lent"


def test_a_failure_step_may_be_parallel():
    workflow = StepFunction("Shop").set_start_step("Pay")
    workflow.add_step("Pay", decline, on_failure="Tell")
    workflow.add_step("Tell", {"mail": str, "log": repr}, parallel=True)
    assert workflow.execute().output == {
        "mail": "no money",
        "log": "DeclinedError('no money')",
    }


def test_retries_come_before_the_failure_step():
    outcomes = iter([ValueError("once"), "paid"])

    def pay():
        outcome = next(outcomes)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    workflow = shop(pay, "Apologise", retry=RetryPolicy(max_attempts=2, interval=0))
    assert workflow.execute().output == "paid"


# --- what no step takes -------------------------------------------------------------


def test_an_unhandled_failure_names_the_step_and_has_the_users_exception_as_cause():
    cause = DeclinedError("no money")
    workflow = StepFunction("Shop").add_step("Pay", fail_with(cause))
    error = failure_of(workflow.set_start_step("Pay"))
    assert type(error) is StepExecutionError
    assert str(error) == "step 'Pay' of 'Shop' failed: DeclinedError: no money"
    assert error.step == "Pay"
    assert error.__cause__ is cause


def test_an_unhandled_failure_carries_the_execution():
    workflow = StepFunction("Shop").set_start_step("Price")
    workflow.add_step("Price", say(17), next_step="Pay").add_step("Pay", decline)
    execution = failure_of(workflow, "order").execution
    assert execution.status is Status.FAILED
    assert execution.input == "order"
    assert [record.step for record in execution.history] == ["Price", "Pay"]


def test_an_exception_without_a_text_is_named_by_its_class():
    workflow = StepFunction("Shop").add_step("Pay", fail_with(DeclinedError()))
    error = failure_of(workflow.set_start_step("Pay"))
    assert str(error) == "step 'Pay' of 'Shop' failed: DeclinedError"


def test_nothing_runs_after_an_unhandled_failure():
    ran = []
    workflow = StepFunction("Shop").set_start_step("Pay")
    workflow.add_step("Pay", decline, next_step="Ship")
    workflow.add_step("Ship", lambda value: ran.append(value))
    failure_of(workflow)
    assert ran == []


def test_a_failed_parallel_step_is_raised_as_itself():
    workflow = StepFunction("Shop").set_start_step("Pay")
    workflow.add_step(
        "Pay", {"card": decline, "gift": say(5)}, parallel=True, stop_on_failure=True
    )
    error = failure_of(workflow)
    assert type(error) is ParallelStepExecutionError
    assert type(error.__cause__) is DeclinedError
    assert error.step == "Pay"
    assert error.execution.context["Pay"] is error


def test_a_failure_in_a_failure_step_has_the_first_one_as_its_context():
    first, second = DeclinedError("no money"), ValueError("no mail")
    workflow = StepFunction("Shop").set_start_step("Pay")
    workflow.add_step("Pay", fail_with(first), on_failure="Tell")
    workflow.add_step("Tell", fail_with(second))
    error = failure_of(workflow)
    assert str(error) == (
        "step 'Tell' of 'Shop' failed: ValueError: no mail, "
        "after step 'Pay' had failed: DeclinedError: no money"
    )
    assert error.__cause__ is second
    assert second.__context__ is first


def test_a_failure_step_that_raises_what_it_was_given_is_named_alone():
    first = DeclinedError("no money")
    workflow = StepFunction("Shop").set_start_step("Pay")
    workflow.add_step("Pay", fail_with(first), on_failure="Tell")
    workflow.add_step("Tell", fail_with(first))
    error = failure_of(workflow)
    assert str(error) == "step 'Tell' of 'Shop' failed: DeclinedError: no money"


def test_a_first_failure_that_is_forgotten_is_not_named():
    workflow = StepFunction("Shop", keep_history=1).set_start_step("Pay")
    workflow.add_step("Pay", fail_with(DeclinedError("no money")), on_failure="Note")
    workflow.add_step("Note", say("noted"), next_step="More")
    workflow.add_step("More", say("more"), next_step="Tell")
    workflow.add_step("Tell", fail_with(ValueError("no mail")))
    error = failure_of(workflow)
    assert error.execution.forgotten
    assert str(error) == "step 'Tell' of 'Shop' failed: ValueError: no mail"


def test_both_failures_are_in_the_printed_traceback():
    workflow = StepFunction("Shop").set_start_step("Pay")
    workflow.add_step("Pay", fail_with(DeclinedError("no money")), on_failure="Tell")
    workflow.add_step("Tell", fail_with(ValueError("no mail")))
    text = "".join(traceback.format_exception(failure_of(workflow)))
    assert "DeclinedError: no money" in text
    assert "ValueError: no mail" in text


def test_a_failure_in_a_failure_step_keeps_its_own_context_before_the_first():
    first, inner = DeclinedError("no money"), KeyError("address")

    def tell(error):
        try:
            raise inner
        except KeyError:
            raise ValueError("no mail")  # noqa: B904

    workflow = StepFunction("Shop").set_start_step("Pay")
    workflow.add_step("Pay", fail_with(first), on_failure="Tell")
    workflow.add_step("Tell", tell)
    cause = failure_of(workflow).__cause__
    assert cause.__context__ is inner
    assert inner.__context__ is first


def test_a_failure_step_may_raise_the_exception_that_it_was_given():
    def give_up(error):
        raise error

    workflow = StepFunction("Shop").set_start_step("Pay")
    workflow.add_step("Pay", decline, on_failure="Tell").add_step("Tell", give_up)
    error = failure_of(workflow)
    assert error.step == "Tell"
    assert error.__cause__ is error.execution.context["Pay"]
    assert error.__cause__.__context__ is None


def test_a_failure_on_the_recovered_main_path_does_not_have_the_old_one_as_context():
    second = ValueError("no van")
    workflow = StepFunction("Shop").set_start_step("Pay")
    workflow.add_step("Pay", decline, on_failure="Later", next_step="Ship")
    workflow.add_step("Later", say("later"), next_step="Ship")
    workflow.add_step("Ship", fail_with(second))
    assert failure_of(workflow).__cause__ is second
    assert second.__context__ is None


# --- what is logged -----------------------------------------------------------------


def test_a_handled_failure_is_logged_as_an_error(caplog):
    workflow = shop(decline, "Apologise")
    with caplog.at_level(logging.WARNING, logger="stepfunction"):
        error = workflow.execute().error
    [record] = caplog.records
    assert record.name.partition(".")[0] == "stepfunction"
    assert record.levelno == logging.ERROR
    assert re.fullmatch(
        r"step 'Pay' of 'Shop' failed in .+ [mµ]?s, going on with 'Apologise': "
        "DeclinedError: no money",
        record.getMessage(),
    )
    assert record.exc_info[1] is error


def test_a_tolerated_failure_is_logged_as_an_error(caplog):
    workflow = StepFunction("Shop").set_start_step("Update")
    workflow.add_step("Update", {"pay": decline, "ship": say(1)}, parallel=True)
    with caplog.at_level(logging.WARNING, logger="stepfunction"):
        execution = workflow.execute()
    [record] = caplog.records
    assert record.levelno == logging.ERROR
    assert re.fullmatch(
        r"task 'pay' of step 'Update' of 'Shop' failed in .+ [mµ]?s: "
        "DeclinedError: no money",
        record.getMessage(),
    )
    assert record.exc_info[1] is execution.output["pay"]


def test_an_execution_without_failures_logs_nothing_above_info(caplog):
    workflow = StepFunction("Shop").add_step("Pay", say("paid")).set_start_step("Pay")
    with caplog.at_level(logging.INFO, logger="stepfunction"):
        workflow.execute()
    assert [record for record in caplog.records if record.levelno > logging.INFO] == []


# --- tracebacks ---------------------------------------------------------------------


async def decline_later(value):
    raise DeclinedError("no money")


def declined_at(error):
    while isinstance(error, StepExecutionError):
        error = error.__cause__
    assert type(error) is DeclinedError
    return error.__traceback__.tb_frame.f_code


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"executor": "inline"},
        {"executor": "thread"},
        {"retry": RetryPolicy(max_attempts=2, interval=0)},
    ],
    ids=["plain", "inline", "thread", "retry"],
)
def test_the_traceback_of_the_cause_starts_in_the_users_function(arguments):
    workflow = StepFunction("Shop").add_step("Pay", decline, **arguments)
    error = failure_of(workflow.set_start_step("Pay"))
    assert declined_at(error) is decline.__code__


def test_the_traceback_of_an_async_failure_starts_in_the_users_function():
    workflow = StepFunction("Shop").add_step("Pay", decline_later)
    error = failure_of(workflow.set_start_step("Pay"))
    assert declined_at(error) is decline_later.__code__


@pytest.mark.parametrize("executor", ["inline", "thread"])
def test_the_traceback_of_a_failed_task_starts_in_the_users_function(executor):
    workflow = StepFunction("Shop").set_start_step("Pay")
    workflow.add_step(
        "Pay",
        {"card": decline},
        parallel=True,
        stop_on_failure=True,
        executor=executor,
    )
    assert declined_at(failure_of(workflow)) is decline.__code__


def test_the_traceback_of_a_nested_failure_starts_in_the_users_function():
    workflow = StepFunction("Shop").add_sub_step_function("Sub", nested_in(decline))
    error = failure_of(workflow.set_start_step("Sub"))
    assert declined_at(error) is decline.__code__


def test_the_traceback_of_a_branch_starts_in_the_users_function():
    workflow = StepFunction("Shop").set_start_step("Pay")
    workflow.add_step("Pay", say(1), branch=decline, branch_targets=["Ship"])
    workflow.add_step("Ship", say(2))
    assert declined_at(failure_of(workflow)) is decline.__code__


def test_the_traceback_goes_on_into_what_the_users_function_calls():
    def pay():
        decline(None)

    workflow = StepFunction("Shop").add_step("Pay", pay).set_start_step("Pay")
    cause = failure_of(workflow).__cause__
    functions = [f.name for f in traceback.extract_tb(cause.__traceback__)]
    assert functions == ["pay", "decline"]


class Stubborn(Exception):
    with_traceback = None


class Refusing(Exception):
    def __setattr__(self, name, value):
        raise AttributeError(name)

    def add_note(self, note):
        raise TypeError("no notes")


@pytest.mark.parametrize("options", [{}, {"executor": "thread"}, {"timeout": 20}])
@pytest.mark.parametrize("kind", [Stubborn, Refusing])
def test_an_exception_that_refuses_what_one_does_to_exceptions_is_a_failure(
    kind, options
):
    def fail(value):
        raise kind("no")

    if "timeout" in options:
        options = {**options, "executor": "thread"}
    workflow = StepFunction("W").add_step("A", fail, on_failure="H", **options)
    workflow.add_step("H", lambda error: type(error)).set_start_step("A")
    execution = workflow.start(1)
    assert execution.wait(20)
    assert execution.output is kind
