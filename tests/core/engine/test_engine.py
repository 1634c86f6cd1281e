from __future__ import annotations

from decimal import Decimal
from enum import Enum, StrEnum
from fractions import Fraction

import pytest
from shared.calls import fail_with, say

from stepfunction import (
    NoBranchMatchedError,
    Outcome,
    RetryPolicy,
    Status,
    StepExecutionError,
    StepFunction,
)


class Verdict(StrEnum):
    VALID = "valid"


class OldVerdict(str, Enum):
    VALID = "valid"


class Colour(Enum):
    RED = "red"


class ArrayBool:
    def __init__(self, value):
        self.value = value

    def __eq__(self, other):
        return self.value == other

    def __hash__(self):
        return hash(self.value)

    def __repr__(self):
        return f"ArrayBool({self.value})"


def shop(func, branch, **arguments):
    workflow = StepFunction("Shop").set_start_step("Check")
    workflow.add_step("Check", func, branch=branch, **arguments)
    targets = branch.values() if isinstance(branch, dict) else ()
    for name in dict.fromkeys(
        [
            *targets,
            *arguments.get("branch_targets", ()),
            *filter(None, [arguments.get("next_step")]),
        ]
    ):
        workflow.add_step(name, say(name))
    if "on_failure" in arguments:
        workflow.add_step(arguments["on_failure"], lambda error: error)
    return workflow


def no_match(func, branch, **arguments):
    with pytest.raises(StepExecutionError) as caught:
        shop(func, branch, **arguments).execute()
    error = caught.value.__cause__
    assert type(error) is NoBranchMatchedError
    return error


# --- sequence -----------------------------------------------------------------------


def test_a_step_is_given_the_result_of_the_step_before_it():
    workflow = StepFunction("Sum").set_start_step("Add")
    workflow.add_step("Add", lambda value: value + 1, next_step="Double")
    workflow.add_step("Double", lambda value: value * 2, next_step="Text")
    workflow.add_step("Text", str)
    assert workflow.execute(3).output == "8"


def test_steps_run_in_the_order_of_their_arrows():
    workflow = StepFunction("Sum").set_start_step("Third")
    workflow.add_step("First", lambda value: value + ["First"])
    workflow.add_step("Second", lambda value: value + ["Second"], next_step="First")
    workflow.add_step("Third", lambda value: value + ["Third"], next_step="Second")
    assert workflow.execute([]).output == ["Third", "Second", "First"]


def test_without_an_initial_input_the_first_step_is_given_none():
    workflow = StepFunction("One").add_step("A", lambda value: [value])
    assert workflow.set_start_step("A").execute().output == [None]


def test_a_result_of_none_is_passed_on_like_any_other():
    workflow = StepFunction("Two").set_start_step("A")
    workflow.add_step("A", say(None), next_step="B").add_step("B", lambda v: [v])
    assert workflow.execute("input").output == [None]


def test_a_step_without_next_step_ends_the_workflow():
    workflow = StepFunction("Fork").set_start_step("A")
    workflow.add_step("A", say("b"), branch={"b": "B", "c": "C"})
    workflow.add_step("B", say("B's")).add_step("C", say("C's"))
    execution = workflow.execute()
    assert execution.status is Status.COMPLETED
    assert execution.output == "B's"
    assert dict(execution.context) == {"A": "b", "B": "B's"}


def test_an_exception_that_is_returned_is_a_result():
    error = ValueError("kept")
    workflow = StepFunction("Two").set_start_step("A")
    workflow.add_step("A", say(error), next_step="B", on_failure="C")
    workflow.add_step("B", lambda value: [value]).add_step("C", say("failed"))
    assert workflow.execute().output == [error]


# --- branch: a mapping --------------------------------------------------------------


@pytest.mark.parametrize(
    "result, key",
    [
        ("valid", "valid"),
        ("", ""),
        (None, None),
        (True, True),
        (False, False),
        (1, 1),
        (1.0, 1),
        (1, 1.0),
        (Decimal(2), 2),
        ((1, "a"), (1, "a")),
        (frozenset({1}), frozenset({1})),
        (b"valid", b"valid"),
        (Verdict.VALID, "valid"),
        ("valid", Verdict.VALID),
        (OldVerdict.VALID, "valid"),
        ("valid", OldVerdict.VALID),
        (Colour.RED, Colour.RED),
        (ArrayBool(True), True),
        (ArrayBool(False), False),
        (True, ArrayBool(True)),
    ],
    ids=repr,
)
def test_a_result_leads_to_the_step_of_the_equal_key(result, key):
    branch = {"other": "Wait", key: "Ship"}
    assert shop(say(result), branch).execute().output == "Ship"


@pytest.mark.parametrize(
    "result, key",
    [
        (True, 1),
        (True, 1.0),
        (False, 0),
        (False, 0.0),
        (1, True),
        (0, False),
        (1.0, True),
        (-0.0, False),
        (Decimal(1), True),
        (Fraction(0), False),
        (1 + 0j, True),
        (True, Decimal(1)),
    ],
    ids=repr,
)
def test_a_number_and_a_bool_never_match_each_other(result, key):
    error = no_match(say(result), {key: "Ship"})
    assert error.result is result
    assert error.known == (key,)


def test_a_number_takes_the_default_where_only_a_bool_is_known():
    assert shop(say(1), {True: "Ship"}, next_step="Wait").execute().output == "Wait"


def test_the_value_of_an_enum_that_is_no_text_does_not_match_its_member():
    assert no_match(say("red"), {Colour.RED: "Paint"}).result == "red"


def test_the_step_that_a_branch_leads_to_is_given_the_result():
    workflow = StepFunction("Shop").set_start_step("Check")
    workflow.add_step("Check", say("valid"), branch={"valid": "Ship"})
    workflow.add_step("Ship", lambda value: f"shipped a {value} order")
    assert workflow.execute().output == "shipped a valid order"


def test_two_results_may_lead_to_one_step():
    branch = {"paid": "Ship", "free": "Ship", "open": "Remind"}
    assert shop(say("free"), branch).execute().output == "Ship"


def test_next_step_is_the_default_of_a_branch():
    workflow = shop(say("odd"), {"valid": "Ship"}, next_step="Wait")
    execution = workflow.execute()
    assert execution.output == "Wait"
    assert execution.failures == ()


def test_a_key_goes_before_the_default():
    workflow = shop(say("valid"), {"valid": "Ship"}, next_step="Wait")
    assert workflow.execute().output == "Ship"


def test_a_result_that_nothing_matches_fails_the_step():
    error = no_match(say("odd"), {"valid": "Ship", "invalid": "Refund"})
    assert str(error) == (
        "step 'Check' returned 'odd', but branch knows only 'valid', 'invalid'; "
        "return one of these, or give next_step as the default"
    )
    assert error.step == "Check"
    assert error.result == "odd"
    assert error.known == ("valid", "invalid")
    assert isinstance(error, LookupError)


def test_a_result_that_nothing_matches_never_ends_the_workflow_silently():
    workflow = shop(say(None), {"valid": "Ship"})
    with pytest.raises(StepExecutionError) as caught:
        workflow.execute()
    assert str(caught.value) == (
        "step 'Check' of 'Shop' failed: NoBranchMatchedError: step 'Check' returned "
        "None, but branch knows only 'valid'; return one of these, "
        "or give next_step as the default"
    )
    assert caught.value.execution.status is Status.FAILED


def test_a_long_result_is_short_in_the_text_and_whole_on_the_error():
    result = "x" * 10_000
    error = no_match(say(result), {"valid": "Ship"})
    assert error.result is result
    assert len(str(error)) < 300


@pytest.mark.parametrize(
    "result, kind",
    [
        (["valid"], "list"),
        ({"valid": 1}, "dict"),
        ({"valid"}, "set"),
        (("valid", []), "tuple"),
    ],
)
def test_an_unhashable_result_matches_nothing_and_the_error_says_why(result, kind):
    error = no_match(say(result), {"valid": "Ship"})
    assert str(error) == (
        f"step 'Check' returned {result!r}, but branch knows only 'valid' "
        f"(a {kind} cannot be a key of a mapping: return a string, "
        "or give branch a callable); return one of these, "
        "or give next_step as the default"
    )
    assert error.result is result


def test_an_unhashable_result_takes_the_default():
    workflow = shop(say(["valid"]), {"valid": "Ship"}, next_step="Wait")
    assert workflow.execute().output == "Wait"


def test_on_failure_takes_a_result_that_nothing_matches():
    workflow = shop(say("odd"), {"valid": "Ship"}, on_failure="Apologise")
    execution = workflow.execute()
    error = execution.output
    assert type(error) is NoBranchMatchedError
    assert execution.status is Status.FAILED
    assert execution.error is error
    assert execution.context["Check"] is error


def test_on_failure_may_name_the_class_of_a_missing_match():
    workflow = StepFunction("Shop").set_start_step("Check")
    workflow.add_step(
        "Check",
        say("odd"),
        branch={"valid": "Ship"},
        on_failure={ValueError: "Refund", NoBranchMatchedError: "Apologise"},
    )
    for name in ("Ship", "Refund", "Apologise"):
        workflow.add_step(name, say(name))
    assert workflow.execute().output == "Apologise"


def test_the_record_of_a_missing_match_is_that_of_a_failed_step():
    workflow = shop(say("odd"), {"valid": "Ship"}, on_failure="Apologise")
    record = workflow.execute().history[0]
    assert record.outcome is Outcome.FAILED
    assert type(record.error) is NoBranchMatchedError
    assert record.output is None
    assert record.next_step == "Apologise"


@pytest.mark.parametrize("executor", [None, "inline", "thread"])
def test_a_missing_match_is_not_retried(executor):
    calls = []

    def check():
        calls.append("call")
        return "odd"

    no_match(
        check,
        {"valid": "Ship"},
        retry=RetryPolicy(max_attempts=3, interval=0),
        executor=executor,
    )
    assert calls == ["call"]


# --- branch: a callable -------------------------------------------------------------


@pytest.mark.parametrize("total, step", [(5, "Small"), (500, "Big")])
def test_a_callable_branch_chooses_by_the_output(total, step):
    def choose(output):
        return "Big" if output["total"] > 100 else "Small"

    workflow = shop(say({"total": total}), choose, branch_targets=["Small", "Big"])
    assert workflow.execute().output == step


def test_a_callable_branch_may_follow_a_parallel_step():
    workflow = StepFunction("Shop").set_start_step("Update")
    workflow.add_step(
        "Update",
        {"ship": say(1), "pay": fail_with(ValueError("declined"))},
        parallel=True,
        branch=lambda results: "Apologise" if results.failed else "Thank",
        branch_targets=["Apologise", "Thank"],
    )
    workflow.add_step("Apologise", say("sorry")).add_step("Thank", say("thanks"))
    assert workflow.execute().output == "sorry"


def test_a_callable_branch_that_returns_none_takes_the_default():
    workflow = shop(
        say("x"), lambda output: None, branch_targets=["Ship"], next_step="Wait"
    )
    assert workflow.execute().output == "Wait"


def test_a_callable_branch_that_returns_none_without_a_default_fails_the_step():
    error = no_match(say("x"), lambda output: None, branch_targets=["Ship", "Bill"])
    assert str(error) == (
        "branch of step 'Check' chose no step for 'x'; let it return one of "
        "'Ship', 'Bill', or give next_step as the default"
    )
    assert (error.step, error.result) == ("Check", "x")
    assert error.known == ("Ship", "Bill")


def test_a_callable_branch_that_names_a_step_it_may_not_choose_fails_the_step():
    error = no_match(say("x"), lambda output: "Check", branch_targets=["Ship", "Bill"])
    assert str(error) == (
        "branch of step 'Check' chose 'Check' for 'x', "
        "but branch_targets has only 'Ship', 'Bill'"
    )
    assert error.result == "x"


def test_a_callable_branch_that_mistypes_a_step_is_told_which_was_meant():
    error = no_match(say("x"), lambda output: "Shipp", branch_targets=["Ship", "Bill"])
    assert str(error) == (
        "branch of step 'Check' chose 'Shipp' for 'x', "
        "but branch_targets has only 'Ship', 'Bill' (did you mean 'Ship'?)"
    )


def test_an_undeclared_choice_does_not_fall_back_on_the_default():
    error = no_match(
        say("x"), lambda output: "Typo", branch_targets=["Ship"], next_step="Wait"
    )
    assert error.known == ("Ship",)


@pytest.mark.parametrize("choice", [None, "Undeclared"])
def test_on_failure_takes_a_callable_branch_that_chooses_no_step(choice):
    workflow = shop(
        say("x"),
        lambda output: choice,
        branch_targets=["Ship"],
        on_failure="Apologise",
    )
    assert type(workflow.execute().output) is NoBranchMatchedError


def test_a_callable_branch_that_raises_fails_the_step():
    error = KeyError("total")

    def choose(output):
        raise error

    with pytest.raises(StepExecutionError) as caught:
        shop(say({}), choose, branch_targets=["Ship"]).execute()
    assert str(caught.value) == "step 'Check' of 'Shop' failed: KeyError: 'total'"
    assert caught.value.__cause__ is error


def test_on_failure_takes_a_callable_branch_that_raises():
    error = KeyError("total")

    def choose(output):
        raise error

    workflow = shop(say({}), choose, branch_targets=["Ship"], on_failure="Apologise")
    assert workflow.execute().output is error


@pytest.mark.parametrize("executor", [None, "inline", "thread"])
def test_a_callable_branch_that_chooses_no_step_is_not_retried(executor):
    calls = []

    def check():
        calls.append("call")

    no_match(
        check,
        lambda output: None,
        branch_targets=["Ship"],
        retry=RetryPolicy(max_attempts=3, interval=0),
        executor=executor,
    )
    assert calls == ["call"]


# --- one workflow, many executions --------------------------------------------------


def test_executions_of_one_workflow_share_nothing():
    workflow = StepFunction("Sum").add_step("Add", lambda value: value + 1)
    workflow.set_start_step("Add")
    first, second = workflow.execute(1), workflow.execute(10)
    assert (first.output, second.output) == (2, 11)
    assert first.context == {"Add": 2}
    assert first.id != second.id
