from __future__ import annotations

import threading

from hypothesis import given
from shared.events import Told, check_history, check_pairs
from shared.random_workflows import VALUES, built, examples, executed, workflows


def check_random(workflow, value, **options):
    told = Told()
    execution, _ = executed(built(workflow), value, listeners=[told], **options)
    assert told.threads == {threading.get_ident()}
    check_pairs(told)
    check_history(execution, told)


@examples(50)
@given(workflows(races=False), VALUES)
def test_what_is_told_of_an_inline_execution_is_in_its_history(workflow, value):
    check_random(workflow, value, executor="inline")


@examples(50)
@given(workflows(races=True), VALUES)
def test_what_is_told_of_an_execution_on_threads_is_in_its_history(workflow, value):
    check_random(workflow, value)


@examples(30)
@given(workflow=workflows(races=True, steady=True, depth=2), value=VALUES)
def test_what_is_told_of_an_execution_in_processes_is_in_its_history(
    lanes, workflow, value
):
    check_random(workflow, value, executor=lanes)
