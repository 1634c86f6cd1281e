from __future__ import annotations

import threading
from typing import Any

import pytest
from shared.mocked import (
    HOURS,
    chain,
    checkout,
    forbidden,
    forbidden_for,
    parallel,
    sleepy,
    undoable,
)

from stepfunction import (
    DefinitionError,
    ParallelStepExecutionError,
    Status,
    StepFunction,
)
from stepfunction.testing import DryRunError, assert_path, dry_run, returning

# --- dry_run ------------------------------------------------------------------------


def everything() -> StepFunction:
    inner = StepFunction("Inner").add_step("Check", forbidden, "Charge")
    inner.add_step("Charge", forbidden, branch={"yes": "Good", "no": "Bad"})
    inner.add_step("Good", forbidden).add_fail_step("Bad", "NoMoney", "sorry")
    inner.set_start_step("Check")
    workflow = StepFunction("All", max_steps=20, listeners=[forbidden])
    workflow.add_step(
        "Ask",
        forbidden,
        branch={"again": "Ask", "on": "Wait"},
        retry=HOURS,
        on_failure="Sorry",
    )
    workflow.add_wait_step("Wait", seconds=forbidden_for, next_step="Update")
    workflow.add_step(
        "Update",
        {"a": forbidden_for, "b": inner},
        "Payment",
        parallel=True,
        executor="process",
    )
    workflow.add_step("Payment", inner, "Each", executor="thread", timeout=3)
    workflow.add_map_step("Each", forbidden, forbidden_for, next_step="End")
    workflow.add_step("End", forbidden, executor="process")
    workflow.add_step("Sorry", forbidden).set_start_step("Ask")
    return workflow


def test_a_dry_run_walks_everything_and_calls_nothing() -> None:
    threads = threading.active_count()
    execution = dry_run(
        everything(),
        {
            "Ask": ["again", "again", "on"],
            "Update.a": 7,
            "Update.b/Charge": "yes",
            "Payment/Charge": "yes",
            "Each": [[1, 2]],
        },
    )
    assert_path(
        execution, ["Ask", "Ask", "Ask", "Wait", "Update", "Payment", "Each", "End"]
    )
    assert_path(execution.children["Payment"], ["Check", "Charge", "Good"])
    assert execution.context["Update"] == {"a": 7, "b": "yes"}
    assert execution.output == [1, 2]
    assert execution.status is Status.COMPLETED
    assert threading.active_count() == threads


def test_a_dry_run_tells_the_items_that_are_to_have_failed() -> None:
    workflow = StepFunction("W").add_map_step("Each", forbidden).set_start_step("Each")
    error = ValueError("no")
    output = dry_run(workflow, {"Each": returning([1, error])}).output
    assert output == [1, error] and output.failed == {1: error}
    with pytest.raises(ParallelStepExecutionError, match="1 of 2 items of step") as it:
        output.raise_if_failed()
    assert it.value.results == {0: 1} and it.value.errors == {1: error}


def test_a_dry_run_follows_failures() -> None:
    execution = dry_run(everything(), {"Ask": ConnectionError("away")})
    assert_path(execution, ["Ask", "Sorry"])
    assert execution.status is Status.FAILED
    assert len(execution.history[0].attempts) == 1


def test_a_dry_run_tells_of_an_unhandled_failure_as_its_status() -> None:
    results = {"Ask": "on", "Update": 1, "Payment/Charge": "no"}
    execution = dry_run(everything(), results)
    assert execution.status is Status.FAILED
    assert "NoMoney" in str(execution.error)


def test_a_step_without_a_result_gives_its_input_on() -> None:
    assert dry_run(chain("A", "B"), initial_input=5).output == 5
    assert dry_run(parallel("a", "b"), initial_input=5).output == {"a": 5, "b": 5}


@pytest.mark.parametrize(
    ("results", "text"),
    [
        ({}, "where step 'Ask' leads cannot be told without its result: its branch "
             "knows 'again', 'on'; give results={'Ask': …}"),
        ({"Ask": "on", "Update": {}}, "step 'Payment/Charge' leads cannot be told"),
        ({"Ask": "on", "Update.a": 1}, "step 'Update.b/Charge' leads cannot be told"),
        ({"Ask": ["again"]}, "the result of step 'Ask' was given 1 result and is"),
    ],
)
def test_a_result_that_is_lacking_is_named(results: Any, text: str) -> None:
    with pytest.raises(DryRunError) as caught:
        dry_run(everything(), results)
    assert text in str(caught.value)


def choice(branch: Any, **settings: Any) -> StepFunction:
    workflow = StepFunction("Choice").add_step("Load", forbidden, "Choose")
    workflow.add_pass_step("Choose", branch=branch, next_step="Small", **settings)
    workflow.add_step("Big", forbidden).add_step("Small", forbidden)
    return workflow.set_start_step("Load")


@pytest.mark.parametrize(
    ("branch", "settings"),
    [
        ([(lambda value: value > 10, "Big")], {}),
        (lambda value: "Big" if value > 10 else None, {"branch_targets": ["Big"]}),
        ({12: "Big"}, {}),
    ],
)
def test_branches_of_any_kind_are_asked(branch: Any, settings: Any) -> None:
    workflow = choice(branch, **settings)
    assert_path(dry_run(workflow, {"Load": 12}), ["Load", "Choose", "Big"])
    assert_path(dry_run(workflow, {"Load": 1}), ["Load", "Choose", "Small"])
    with pytest.raises(DryRunError, match=r"give results=\{'Load': …\}"):
        dry_run(workflow)


def test_a_branch_on_the_input_of_the_execution_must_know_it() -> None:
    workflow = StepFunction("W").add_pass_step("Choose", branch={1: "A"})
    workflow.add_step("A", forbidden).set_start_step("Choose")
    assert_path(dry_run(workflow, initial_input=1), ["Choose", "A"])
    with pytest.raises(DryRunError, match="initial_input=…"):
        dry_run(workflow)


def test_a_dry_run_leaves_the_workflow_alone() -> None:
    workflow = chain("A")
    graph = workflow.compile()
    assert dry_run(workflow, {"A": 1}).output == 1
    assert workflow.compile() is graph
    assert workflow.status is Status.INITIALIZED


def test_a_result_that_leads_nowhere_fails_the_step_as_it_would() -> None:
    execution = dry_run(everything(), {"Ask": "nowhere"})
    assert_path(execution, ["Ask", "Sorry"])
    assert "branch knows only 'again', 'on'" in str(execution.error)


def test_an_endless_dry_run_ends_at_its_bound() -> None:
    execution = dry_run(everything(), {"Ask": "again"})
    assert execution.status is Status.FAILED and "20 steps" in str(execution.error)


def mapping() -> StepFunction:
    return StepFunction("W").add_map_step("Each", sleepy()).set_start_step("Each")


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ((3,), "workflow is a StepFunction, not 3"),
        ((checkout, [1]), r"results is a mapping of step to result, not \[1\]"),
        ((checkout, {"Pya": 1}), "did you mean 'Pay'"),
        ((undoable(), {"Pay.compensate": 1}), "nothing is undone in a dry run"),
        ((everything(), {"Payment/Bad": 1}), "is a fail step, which gives no result"),
        ((mapping(), {"Each/Wait": 1}), "give the output of 'Each' as a whole"),
        ((StepFunction("Empty"),), "no start step"),
    ],
)
def test_mistakes_of_a_dry_run_are_refused(arguments: Any, text: str) -> None:
    with pytest.raises(DefinitionError, match=text):
        dry_run(*arguments)


# --- as a newcomer uses it ----------------------------------------------------------


def test_nothing_is_undone_in_a_dry_run() -> None:
    execution = dry_run(undoable(), {"Update": ValueError("no")}, 1)
    assert execution.status is Status.FAILED and execution.compensations == ()
