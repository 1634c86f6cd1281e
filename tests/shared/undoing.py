"""Workflows that undo what they did."""

from __future__ import annotations

import threading

import pytest
from shared.calls import decline, same

from stepfunction import CompensationError, RetryPolicy, StepFunction, StepFunctionError

PLACES = ["inline", "thread", "process"]


ONCE_MORE = RetryPolicy(max_attempts=2, interval=0)


class RefundError(Exception):
    pass


def recover(value):
    return "recovered"


# What process tasks do and undo; the undoing of one that failed there is in its record.
def book(value):
    return f"{value} booked"


def cancel(booking):
    return f"{booking}, cancelled"


def refuse(booking):
    raise RefundError(f"{booking} stays")


def books(undo=cancel):
    inner = StepFunction("Inner").set_start_step("Book")
    inner.add_step("Book", book, "Pay", compensate=undo)
    return inner.add_step("Pay", same)


class Undone(list):
    def by(self, name):
        def undo(output):
            self.append((name, output))

        return undo

    @property
    def names(self):
        return [name for name, _ in self]


def executed(workflow, value=None, **options):
    try:
        return workflow.execute(value, **options)
    except StepFunctionError as error:
        assert error.execution is not None
        return error.execution


def records(execution):
    return [(it.step, it.task, str(it.outcome)) for it in execution.compensations]


def trip(**undos):
    workflow = StepFunction("Trip").set_start_step("A")
    for step, follower in ("AB", "BC", "CD"):
        workflow.add_step(step, book, follower, compensate=undos.get(step, cancel))
    return workflow.add_step("D", decline)


def failure_of(workflow, value="it", **options):
    with pytest.raises(CompensationError) as caught:
        workflow.execute(value, **options)
    return caught.value


def told_by(workflow, value="it", **options):
    events, threads = [], set()

    def listen(event):
        events.append(event)
        threads.add(threading.get_ident())

    execution = executed(workflow, value, listeners=[listen], **options)
    assert threads == {threading.get_ident()}
    return execution, events
