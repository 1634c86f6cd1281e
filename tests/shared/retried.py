"""Calls that fail and are made again."""

from __future__ import annotations

import pytest

from stepfunction import RetryPolicy, StepExecutionError, StepFunction

AT_ONCE = RetryPolicy(max_attempts=3, interval=0)


class Flaky:
    def __init__(self, *failures, output="done"):
        self.failures = list(failures)
        self.output = output
        self.calls = 0

    def __call__(self, value=None):
        self.calls += 1
        if self.calls <= len(self.failures):
            raise self.failures[self.calls - 1]
        return self.output


def always(error):
    return Flaky(*[error] * 100)


def workflow_of(function, retry=AT_ONCE, **more):
    workflow = StepFunction("Orders").add_step("A", function, retry=retry, **more)
    return workflow.set_start_step("A")


def pauses_of(retry):
    events = []
    with pytest.raises(StepExecutionError):
        workflow_of(always(ValueError("no")), retry).execute(listeners=[events.append])
    return [event.pause for event in events if event.kind == "step_retried"]
