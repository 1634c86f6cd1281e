from __future__ import annotations

from typing import Any

import pytest
from shared.calls import double
from shared.mocked import checkout, forbidden_for, sleepy

from stepfunction import Execution, StepFunction
from stepfunction.testing import assert_path, dry_run, mock_steps, skip_waits


def test_the_path_that_was_taken_is_right() -> None:
    with mock_steps(checkout, {"Pay": 1, "Notify": 2}):
        assert_path(checkout.execute(), ["Pay", "Notify"])
        assert_path(checkout.execute(), ("Pay", "Notify"))


def test_another_path_is_shown_beside_it_with_what_led_astray() -> None:
    with mock_steps(checkout, {"Pay": ValueError("declined")}):
        execution = checkout.execute()
    with pytest.raises(AssertionError) as caught:
        assert_path(execution, ["Pay", "Ntify"])
    assert str(caught.value).splitlines() == [
        "'Checkout' took another path, and is FAILED:",
        "",
        "  expected   taken",
        "  Pay        Pay         FAILED: ValueError: declined",
        "- Ntify",
        "+            Apologise   SUCCEEDED",
        "",
        "'Ntify' is no step of 'Checkout' (did you mean 'Notify'?)",
    ]


@pytest.mark.parametrize("path", [[], ["Pay"], ["Notify", "Pay"], ["Pay"] * 2])
def test_more_or_fewer_steps_or_another_order_are_another_path(path: Any) -> None:
    with mock_steps(checkout, {"Pay": 1, "Notify": 2}):
        execution = checkout.execute()
    with pytest.raises(AssertionError, match="took another path, and is COMPLETED"):
        assert_path(execution, path)


def test_tasks_are_no_part_of_the_path_and_nested_steps_have_their_own() -> None:
    workflow = StepFunction("W").add_step("All", {"a": double, "b": sleepy()}, "One",
                                          parallel=True)
    workflow.add_step("One", sleepy()).set_start_step("All")
    with skip_waits():
        execution = workflow.execute(1)
    assert_path(execution, ["All", "One"])
    assert_path(execution.children["One"], ["Wait", "Try"])
    assert_path(execution.children["All", "b"], ["Wait", "Try"])


def test_an_error_of_many_lines_has_one_in_the_path() -> None:
    with mock_steps(checkout, {"Pay": ValueError("first\nsecond")}):
        execution = checkout.execute()
    with pytest.raises(AssertionError) as caught:
        assert_path(execution, [])
    assert "+            Pay         FAILED: ValueError: first\n" in str(caught.value)


def test_steps_of_a_loop_are_named_each_time() -> None:
    workflow = StepFunction("Poll", max_steps=10)
    workflow.add_step("Ask", forbidden_for, branch={"wait": "Ask", "done": "Tell"})
    workflow.add_step("Tell", double).set_start_step("Ask")
    with mock_steps(workflow, {"Ask": ["wait", "wait", "done"]}):
        assert_path(workflow.execute(), ["Ask", "Ask", "Ask", "Tell"])


def test_of_a_long_loop_only_what_differs_is_shown_and_what_is_around_it() -> None:
    workflow = StepFunction("Poll", max_steps=200)
    workflow.add_step("Ask", forbidden_for, "Wait", branch={"done": "Tell"})
    workflow.add_step("Wait", double, "Ask").add_step("Tell", double)
    workflow.set_start_step("Ask")
    with mock_steps(workflow, {"Ask": [*["wait"] * 60, "done"], "Wait": 1}):
        execution = workflow.execute()
    with pytest.raises(AssertionError) as caught:
        assert_path(execution, [*["Ask", "Wait"] * 59, "Ask", "Tell"])
    assert str(caught.value).splitlines()[2:] == [
        "  expected   taken",
        "  Ask        Ask     SUCCEEDED",
        "  Wait       Wait    SUCCEEDED",
        "  Ask        Ask     SUCCEEDED",
        "  …          …       113 steps alike",
        "  Ask        Ask     SUCCEEDED",
        "  Wait       Wait    SUCCEEDED",
        "  Ask        Ask     SUCCEEDED",
        "+            Wait    SUCCEEDED",
        "+            Ask     SUCCEEDED",
        "  Tell       Tell    SUCCEEDED",
    ]


def test_an_execution_read_from_a_file_has_its_path() -> None:
    with mock_steps(checkout, {"Pay": 1, "Notify": 2}):
        execution = Execution.from_json(checkout.execute().to_json())
    assert_path(execution, ["Pay", "Notify"])
    with pytest.raises(AssertionError, match="Pay "):
        assert_path(execution, ["Pya"])


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ((["Pay"], checkout), "takes an execution and its path"),
        ((checkout, ["Pay"]), "give it what execute"),
        ((dry_run(checkout), "Pay"), "path is a list of names of steps, not 'Pay'"),
        ((dry_run(checkout), ["Pay", 3]), "path is a list of names of steps"),
    ],
)
def test_what_is_no_execution_and_path_is_refused(arguments: Any, text: str) -> None:
    with pytest.raises(TypeError, match=text):
        assert_path(*arguments)
