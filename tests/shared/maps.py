"""Map steps and what they do with their items."""

from __future__ import annotations

import threading

from shared.calls import double

from stepfunction import RetryPolicy, StepFunction

ONCE_MORE = RetryPolicy(max_attempts=2, interval=0)
HERE = ["inline", "thread"]
SIZES = [1, 3]


def tolerant(options):
    """Have a step tolerate all, where its options say nothing of failures."""
    says = {"tolerated_failures", "stop_on_failure", "on_failure"} & options.keys()
    return options if says else {**options, "tolerated_failures": "100%"}


def mapped(func, next_step=None, **options):
    workflow = StepFunction("Work")
    workflow.add_map_step("Map", func, next_step=next_step, **tolerant(options))
    return workflow.set_start_step("Map")


def fail(value):
    raise ValueError(f"cannot take {value}")


def fail_at_threes(value):
    return fail(value) if value % 3 == 0 else value


def tasks_of(execution):
    return [record for record in execution.history if record.item is not None]


class Live:
    """Knows the execution as soon as it has begun."""

    def __init__(self):
        self.execution = None
        self.events = []

    def __call__(self, event):
        self.execution = self.execution or event.execution
        self.events.append(event)

    def of_kind(self, *kinds):
        return [event for event in self.events if event.kind in kinds]


def threads_of(step):
    return [thread for thread in threading.enumerate() if step in thread.name]


def who(value, context):
    return context.step, context.item, context.attempt


def nested(func=double):
    inner = StepFunction("Inner").add_step("Check", func, "Done")
    return inner.add_step("Done", double).set_start_step("Check")
