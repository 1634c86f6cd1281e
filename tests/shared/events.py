"""Listeners, and what must hold of all that they are told."""

from __future__ import annotations

import os
import threading
from contextlib import suppress

from stepfunction import RetryPolicy, StepFunction, StepFunctionError

ONCE_MORE = RetryPolicy(max_attempts=2, interval=0)
LIMIT = 0.2


def one(value):
    return 1


def fail(value):
    raise ValueError("no")


def die(value):
    os._exit(3)


def until_told(value, context):
    context.sleep(30)


def workflow_of(action=one, name="W", step="A", **options):
    workflow = StepFunction(name).add_step(step, action, **options)
    return workflow.set_start_step(step)


def fan_out(tasks, name="W", **options):
    return workflow_of(tasks, name, parallel=True, **options)


def nested_of(action=one, **options):
    return workflow_of(action, "Inner", "X", **options)


# Takes events, and the threads that it is called by.
class Told(list):
    def __init__(self):
        super().__init__()
        self.threads = set()

    def __call__(self, event):
        self.threads.add(threading.get_ident())
        self.append(event)

    def of(self, kind):
        return [event for event in self if event.kind == kind]

    def only(self, kind):
        (event,) = self.of(kind)
        return event

    @property
    def kinds(self):
        return [event.kind for event in self]

    @property
    def steps(self):
        return [(event.kind, event.step) for event in self if event.step]


def tell(workflow, value=None, **options):
    told = Told()
    with suppress(StepFunctionError, KeyboardInterrupt):
        workflow.execute(value, listeners=[told], **options)
    return told


def place_of(event):
    return event.execution_id, event.step, event.task


# Every beginning has one end, and lies inside what it belongs to.
def check_pairs(told):
    open_now, at = [], {(): set()}
    for event in told:
        subject, what = event.subject, event.what
        if subject == "compensation":  # of what may have ended long ago
            continue
        if event.path:
            *outer, key = event.path
            assert key in at[tuple(outer)]
        if what == "started":
            if subject == "execution":
                at[event.path] = set()
            key = (event.step, event.task) if event.task else event.step
            at[event.path].add(key)
            open_now.append(place_of(event))
        elif what == "retried":
            assert place_of(event) in open_now
        else:
            if event.attempts or subject != "task":  # else it never began
                open_now.remove(place_of(event))
                key = (event.step, event.task) if event.task else event.step
                at[event.path].discard(key)
            if subject == "step":
                assert all(it[:2] != place_of(event)[:2] for it in open_now)
            if subject == "execution":
                assert all(it[0] != event.execution_id for it in open_now)
    assert open_now == []
    assert {event.root_id for event in told} == {told[0].execution_id}
    assert (told[0].kind, told[-1].kind) == ("execution_started", "execution_ended")


# What was told of an execution, and of all nested in it, is in its history.
def check_history(execution, told):
    expected, found, tasks = [], [], {}
    for record in execution.history:
        if record.task is None:
            expected.append((facts_of(record), {}))
        else:
            expected[-1][1][record.task] = facts_of(record)
        if record.child is not None:
            check_history(record.child, told)
    own = [event for event in told if event.execution_id == execution.id]
    undone = [event for event in own if event.kind.startswith("compensation")]
    assert list(map(facts_of, undone)) == list(map(facts_of, execution.compensations))
    own = [event for event in own if event not in undone]
    for event in own:
        if event.outcome is None or event.kind.endswith("_retried"):
            continue
        if event.task is not None:
            tasks[event.task] = facts_of(event)
        else:
            found.append((facts_of(event), tasks))
            tasks = {}
    assert found == expected
    started = [event.step for event in own if event.kind == "step_started"]
    assert started == [step for (step, *_), _ in expected]
    assert own[-1].status is execution.status
    assert own[-1].duration == execution.duration


def facts_of(it):
    attempts = [(attempt.number, attempt.outcome) for attempt in it.attempts]
    return it.step, it.outcome, attempts, it.duration, repr(it.error)


PLACES = ["inline", "thread", "process", "threads of others", "processes of others"]


class Telling:
    """A listener that passes on, and after a kind of event tells others."""

    def __init__(self, listener, kind, *others):
        self.listener = listener
        self.kind = kind
        self.others = others

    def __call__(self, event):
        self.listener(event)
        if event.kind == self.kind:
            for facts in self.others:
                self.listener(event.replace(**facts))
