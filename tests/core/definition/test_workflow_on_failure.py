from __future__ import annotations

import pytest
from shared.calls import Oops, add_one

from stepfunction import (
    DefinitionError,
    FailStepError,
    Status,
    StepExecutionError,
    StepFunction,
)


class Narrow(Oops):
    pass


def fail(value):
    raise Oops(value)


def fail_narrowly(value):
    raise Narrow(value)


def echo(value):
    return value


def sorry(error):
    return f"sorry for {error!r}"


def shop(pay=fail, on_failure="Apologise", apologise=sorry, **of_the_workflow):
    workflow = StepFunction("Shop", on_failure=on_failure, **of_the_workflow)
    workflow.add_step("Check", echo, next_step="Pay")
    workflow.add_step("Pay", pay, next_step="Ship")
    workflow.add_step("Ship", echo)
    workflow.add_step("Apologise", apologise)
    return workflow.set_start_step("Check")


def path(execution):
    return [record.step for record in execution.history if record.task is None]


def problems(workflow):
    with pytest.raises(DefinitionError) as caught:
        workflow.validate()
    return caught.value.problems


# --- what it takes ------------------------------------------------------------------


@pytest.mark.parametrize("broken", ["Check", "Pay", "Ship"])
def test_it_takes_the_failure_of_any_step(broken):
    workflow = StepFunction("Shop", on_failure="Apologise").set_start_step("Check")
    for name, follower in [("Check", "Pay"), ("Pay", "Ship"), ("Ship", None)]:
        workflow.add_step(name, fail if name == broken else echo, next_step=follower)
    workflow.add_step("Apologise", lambda error, context: context.failure.step)
    execution = workflow.execute(1)
    assert path(execution)[-2:] == [broken, "Apologise"]
    assert execution.output == broken
    assert execution.status is Status.FAILED
    assert execution.error.args == (1,)


def test_nothing_changes_where_nothing_fails():
    execution = shop(pay=add_one).execute(1)
    assert path(execution) == ["Check", "Pay", "Ship"]
    assert execution.status is Status.COMPLETED


def test_a_step_with_one_of_its_own_keeps_it():
    workflow = StepFunction("Shop", on_failure="Apologise").set_start_step("Check")
    workflow.add_step("Check", echo, next_step="Pay")
    workflow.add_step("Pay", fail, on_failure="Refund")
    workflow.add_step("Refund", lambda error: "refunded")
    workflow.add_step("Apologise", sorry)
    assert workflow.execute(1).output == "refunded"


def test_a_step_whose_own_does_not_take_the_failure_fails_alone():
    workflow = StepFunction("Shop", on_failure="Apologise").set_start_step("Check")
    workflow.add_step("Check", echo, next_step="Pay")
    workflow.add_step("Pay", fail, on_failure={KeyError: "Refund"})
    workflow.add_step("Refund", echo)
    workflow.add_step("Apologise", sorry)
    with pytest.raises(StepExecutionError, match="step 'Pay' of 'Shop' failed"):
        workflow.execute(1)


@pytest.mark.parametrize(
    ("pay", "taker"), [(fail_narrowly, "Refund"), (fail, "Apologise")]
)
def test_it_may_map_classes(pay, taker):
    workflow = shop(pay, {Narrow: "Refund", Oops: "Apologise"})
    workflow.add_step("Refund", echo)
    assert path(workflow.execute(1))[-1] == taker


def test_a_class_that_is_not_mapped_is_not_taken():
    with pytest.raises(StepExecutionError, match="step 'Pay'"):
        shop(fail, {KeyError: "Apologise"}).execute(1)


def test_it_takes_what_leads_to_no_step():
    workflow = StepFunction("Shop", on_failure="Apologise").set_start_step("Check")
    workflow.add_step("Check", echo, branch={2: "Ship"}).add_step("Ship", echo)
    workflow.add_step("Apologise", lambda error: error.result)
    assert workflow.execute(1).output == 1


def test_it_takes_the_failure_of_a_wait_step_and_of_a_pass_step():
    workflow = StepFunction("Nap", on_failure="Apologise").set_start_step("Wait")
    workflow.add_wait_step("Wait", seconds=fail, next_step="Pass")
    workflow.add_pass_step("Pass", branch=[(fail, "Apologise")])
    workflow.add_step("Apologise", lambda error, context: context.failure.step)
    assert workflow.execute(1).output == "Wait"
    workflow.set_start_step("Pass")
    with pytest.raises(DefinitionError, match="'Wait' cannot be reached"):
        workflow.validate()


# --- what it does not take ----------------------------------------------------------


def test_its_own_failure_is_not_taken():
    with pytest.raises(StepExecutionError, match="step 'Apologise'") as caught:
        shop(apologise=fail_narrowly).execute(1)
    assert isinstance(caught.value.__cause__, Narrow)
    assert isinstance(caught.value.__cause__.__context__, Oops)


def test_the_failure_of_what_follows_it_is_not_taken():
    workflow = StepFunction("Shop", on_failure="Apologise").set_start_step("Pay")
    workflow.add_step("Pay", fail)
    workflow.add_step("Apologise", sorry, next_step="Tell")
    workflow.add_step("Tell", fail)
    with pytest.raises(StepExecutionError, match="step 'Tell'"):
        workflow.execute(1)


def test_a_fail_step_is_not_taken():
    workflow = StepFunction("Shop", on_failure="Apologise").set_start_step("Check")
    workflow.add_step("Check", echo, branch={1: "Refuse"}, next_step="Pay")
    workflow.add_fail_step("Refuse", "Refused")
    workflow.add_step("Pay", fail).add_step("Apologise", sorry)
    execution = workflow.execute(1)
    assert path(execution) == ["Check", "Refuse"]
    assert isinstance(execution.error, FailStepError)


def test_it_may_be_a_fail_step():
    workflow = StepFunction("Shop", on_failure="Refuse").set_start_step("Pay")
    workflow.add_step("Pay", fail).add_fail_step("Refuse", "Refused")
    execution = workflow.execute(1)
    assert execution.error.error == "Refused"
    assert isinstance(execution.error.__context__, Oops)


def test_steps_of_a_nested_workflow_have_the_failure_step_of_their_own():
    inner = StepFunction("Inner").add_step("Charge", fail).set_start_step("Charge")
    execution = shop(pay=inner).execute(1)
    assert path(execution) == ["Check", "Pay", "Apologise"]
    assert path(execution.children["Pay"]) == ["Charge"]
    inner = StepFunction("Inner", on_failure="Mend").set_start_step("Charge")
    inner.add_step("Charge", fail).add_step("Mend", echo, ends="completed")
    execution = shop(pay=inner).execute(1)
    assert path(execution) == ["Check", "Pay", "Ship"]
    assert path(execution.children["Pay"]) == ["Charge", "Mend"]


def test_a_parallel_step_tolerates_nothing_with_it():
    workflow = StepFunction("Shop", on_failure="Apologise").set_start_step("Fan")
    tasks = {"good": echo, "bad": fail}
    workflow.add_step("Fan", tasks, parallel=True, next_step="Ship")
    workflow.add_step("Ship", lambda results: sorted(results.failed))
    workflow.add_step("Apologise", lambda error: sorted(error.results))
    execution = workflow.execute(1)
    assert execution.output == ["good"]
    assert execution.status is Status.FAILED


def test_a_parallel_step_tolerates_with_it_what_it_says():
    workflow = StepFunction("Shop", on_failure="Apologise").set_start_step("Fan")
    tasks = {"good": echo, "bad": fail}
    workflow.add_step("Fan", tasks, "Ship", parallel=True, tolerated_failures="50%")
    workflow.add_step("Ship", lambda results: sorted(results.failed))
    workflow.add_step("Apologise", sorry)
    execution = workflow.execute(1)
    assert execution.output == ["bad"]
    assert execution.status is Status.COMPLETED


def test_a_parallel_step_that_it_does_not_reach_tolerates_nothing_either():
    workflow = StepFunction("Shop", on_failure="Apologise").set_start_step("Pay")
    workflow.add_step("Pay", fail)
    workflow.add_step("Apologise", {"mail": echo, "letter": fail}, parallel=True)
    with pytest.raises(StepExecutionError) as caught:
        workflow.execute(1)
    assert caught.value.step == "Apologise"
    assert sorted(caught.value.errors) == ["letter"]


def test_it_takes_the_failure_of_a_parallel_step_that_tolerates_less():
    workflow = StepFunction("Shop", on_failure={Oops: "Apologise"})
    workflow.set_start_step("Fan")
    tasks = {"good": echo, "bad": fail}
    workflow.add_step("Fan", tasks, parallel=True, tolerated_failures=0)
    workflow.add_step("Apologise", lambda error: sorted(error.results))
    assert workflow.execute(1).output == ["good"]


# --- status -------------------------------------------------------------------------


def test_one_that_leads_back_has_recovered_the_workflow():
    workflow = StepFunction("Shop", on_failure="Mend").set_start_step("Pay")
    workflow.add_step("Pay", fail, next_step="Ship", on_failure="Mend")
    workflow.add_step("Mend", lambda error: "mended", next_step="Ship")
    workflow.add_step("Ship", echo)
    execution = workflow.execute(1)
    assert execution.status is Status.COMPLETED
    assert execution.output == "mended"


def test_a_step_of_the_main_path_may_take_failures_too():
    workflow = StepFunction("Shop", on_failure="Notify").set_start_step("Pay")
    workflow.add_step("Pay", fail, next_step="Notify")
    workflow.add_step("Notify", repr)
    execution = workflow.execute(1)
    assert execution.status is Status.COMPLETED
    assert execution.output == "Oops(1)"


def test_check_raises_what_it_took():
    with pytest.raises(StepExecutionError, match="step 'Pay' of 'Shop'") as caught:
        shop().execute(1, check=True)
    assert isinstance(caught.value.__cause__, Oops)


# --- with loops ---------------------------------------------------------------------


def recovering(fails):
    """Give a loop that counts to 5 and is mended whenever it failed."""

    def add(value):
        if value in fails:
            fails.remove(value)
            raise Oops(value)
        return value + 1

    workflow = StepFunction("Loop", max_steps=100, on_failure="Mend")
    workflow.add_step("Add", add, branch={5: "End"}, next_step="Add")
    workflow.add_step("End", echo)
    workflow.add_step("Mend", lambda error: error.args[0], next_step="Add")
    return workflow.set_start_step("Add")


def test_a_loop_may_lead_back_from_it():
    execution = recovering({2, 3}).execute(0)
    assert execution.status is Status.COMPLETED
    assert path(execution).count("Mend") == 2
    assert execution.output == 5


def test_with_loops_what_follows_it_on_the_main_path_is_covered():
    workflow = recovering({2})
    assert workflow.compile().table["Add"].on_failure == "Mend"
    assert workflow.compile().table["End"].on_failure == "Mend"
    assert workflow.compile().table["Mend"].on_failure is None


def test_with_loops_a_main_path_step_does_not_take_its_own_failure():
    workflow = StepFunction("Loop", max_steps=100, on_failure="Notify")
    workflow.add_step("Pay", echo, next_step="Notify")
    workflow.add_step("Notify", fail)
    with pytest.raises(StepExecutionError, match="step 'Notify'"):
        workflow.set_start_step("Pay").execute(1)


def test_with_loops_it_may_be_the_start_step():
    workflow = StepFunction("Loop", max_steps=100, on_failure="Again")
    workflow.add_step("Again", lambda value: getattr(value, "args", [0])[0] + 1, "Pay")
    workflow.add_step("Pay", lambda v: v if v == 3 else fail(v))
    assert workflow.set_start_step("Again").execute(1).output == 3


# --- definition ---------------------------------------------------------------------


def test_an_unknown_step_is_named_once():
    workflow = StepFunction("Shop", on_failure="Elsewhere").set_start_step("Check")
    workflow.add_step("Check", echo, next_step="Pay").add_step("Pay", echo)
    assert problems(workflow) == (
        "the workflow's on_failure leads to 'Elsewhere', which is no step",
    )


def test_a_mistyped_step_is_named_once_with_the_step_that_is_meant():
    assert problems(shop(on_failure="Apologize")) == (
        "the workflow's on_failure leads to 'Apologize', which is no step "
        "(did you mean 'Apologise'?)",
    )


def test_each_unknown_step_of_a_mapping_is_named_once():
    workflow = shop(on_failure={Narrow: "??", KeyError: "??", Oops: "Apologise"})
    assert problems(workflow) == (
        "the workflow's on_failure leads to '??', which is no step",
    )


def test_without_loops_it_is_not_the_start_step():
    workflow = StepFunction("Shop", on_failure="Check").set_start_step("Check")
    workflow.add_step("Check", echo, next_step="Pay").add_step("Pay", echo)
    assert problems(workflow) == (
        "the workflow's on_failure leads to 'Check', its start step, so no failure "
        "could go there but in a circle; lead to a later step, or allow loops with "
        "StepFunction(max_steps=…)",
    )


def test_a_step_that_no_failure_leads_to_cannot_be_reached():
    workflow = StepFunction("Shop", on_failure="Apologise").set_start_step("Pay")
    workflow.add_step("Pay", fail, on_failure="Refund").add_step("Refund", echo)
    workflow.add_step("Apologise", sorry)
    assert workflow.execute(1).output is not None  # Refund is covered
    workflow = StepFunction("Shop", on_failure="Apologise").set_start_step("Pay")
    workflow.add_fail_step("Pay", "Refused").add_step("Apologise", sorry)
    (problem,) = problems(workflow)
    assert problem.startswith("step 'Apologise' cannot be reached from 'Pay'")


@pytest.mark.parametrize(
    ("on_failure", "problem"),
    [
        (
            {Oops: "Apologise", Narrow: "Apologise"},
            "on_failure asks for Narrow after Oops, which takes it already; "
            "put the narrower class first",
        ),
        ({}, "on_failure is empty; leave it out, or say where failures lead"),
        ({"Oops": "A"}, "on_failure has the key 'Oops', which is no exception class"),
        ({Oops: 1}, "on_failure[Oops] is the name of a step, not 1"),
        (
            [Oops],
            "on_failure is the name of a step or a mapping of exception class to name, "
            f"not {[Oops]!r}",
        ),
    ],
)
def test_what_is_no_on_failure_is_refused(on_failure, problem):
    with pytest.raises(DefinitionError) as caught:
        StepFunction("Shop", on_failure=on_failure)
    assert caught.value.problems == (problem,)


def test_the_failure_step_is_drawn_as_one():
    workflow = shop()
    assert workflow.compile().failure_steps == {"Apologise"}
    assert [arrow.target for arrow in workflow.compile().table["Pay"].arrows()] == [
        "Ship",
        "Apologise",
    ]


def test_the_builder_keeps_the_steps_as_they_were_added():
    workflow = shop()
    workflow.validate()
    assert workflow.steps["Pay"].on_failure is None
