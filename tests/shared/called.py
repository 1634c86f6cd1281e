"""Functions that tell what they were called with."""

from __future__ import annotations

import functools

import pytest

from stepfunction import DefinitionError, StepFunction

GIVEN = "given"


def workflow_of(function, **more):
    return StepFunction("Orders").add_step("A", function, **more).set_start_step("A")


def output_of(function, **more):
    return workflow_of(function, **more).execute(GIVEN).output


def problems_of(function, **more):
    with pytest.raises(DefinitionError) as raised:
        workflow_of(function, **more)
    return raised.value.problems


def one(value):
    return ("one", value)


def wrapped(function):
    @functools.wraps(function)
    def wrapper(*args, **kwargs):
        return function(*args, **kwargs)

    return wrapper
