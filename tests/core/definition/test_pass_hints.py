"""A pass step whose constant is the name of a step, in the place of next_step."""

from __future__ import annotations

import logging

import pytest

from stepfunction import DefinitionError, StepFunction


def odd(value):
    return value % 2


def skipping(**options):
    workflow = StepFunction("W").set_start_step("Ask")
    workflow.add_pass_step("Ask", branch=[(odd, "Skip")], next_step="End")
    workflow.add_pass_step("Skip", "End", **options)
    return workflow.add_step("End", odd)


def warnings(caplog):
    return [it.getMessage() for it in caplog.records if it.levelno == logging.WARNING]


def test_a_constant_that_is_a_step_that_cannot_be_reached_is_told_with_it():
    workflow = StepFunction("W").set_start_step("A").add_pass_step("A", "B")
    workflow.add_step("B", odd)
    with pytest.raises(DefinitionError) as caught:
        workflow.validate()
    assert caught.value.problems == (
        "step 'B' cannot be reached from 'A'; step 'A' gives its name; "
        "say next_step='B' there",
    )


def test_the_step_that_a_map_step_has_in_the_place_of_its_items_is_told_with_it():
    workflow = StepFunction("W").set_start_step("A").add_map_step("A", odd, "B")
    workflow.add_step("B", odd)
    with pytest.raises(DefinitionError) as caught:
        workflow.validate()
    assert caught.value.problems == (
        "step 'B' cannot be reached from 'A'; step 'A' takes its items from that key "
        "of its input; say next_step='B' there if it is to go on",
    )


def test_a_constant_that_is_a_step_is_told_in_the_log_once(caplog):
    workflow = skipping()
    assert workflow.execute(1).output == "End"
    workflow.execute(1)
    assert warnings(caplog) == [
        "step 'Skip' of 'W' gives the text 'End', the name of a step, and ends the "
        "workflow; say next_step='End' to go on there, or ends='completed'"
    ]


@pytest.mark.parametrize("options", [{"ends": "completed"}, {"next_step": "End"}])
def test_a_constant_of_a_step_that_says_what_follows_is_no_matter(caplog, options):
    skipping(**options).validate()
    assert warnings(caplog) == []


@pytest.mark.parametrize("result", ["end", ["End"], None])
def test_a_constant_that_is_no_step_is_no_matter(caplog, result):
    workflow = StepFunction("W").add_pass_step("Ask", result).set_start_step("Ask")
    workflow.validate()
    assert warnings(caplog) == []
