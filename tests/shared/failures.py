"""Failures: what an execution raises that fails."""

from __future__ import annotations

import pytest

from stepfunction import StepExecutionError


def failure_of(workflow, initial_input=None, **options):
    with pytest.raises(StepExecutionError) as caught:
        workflow.execute(initial_input, **options)
    return caught.value
