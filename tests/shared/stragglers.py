"""Workflows that listeners are told of: a fan-out, and one that is left behind."""

from __future__ import annotations

import threading

from stepfunction import RetryPolicy, StepFunction


def fan(tasks, **options):
    workflow = StepFunction("Fan").add_step("All", tasks, parallel=True, **options)
    return workflow.set_start_step("All")


class Straggler:
    """A workflow whose first attempt ends while the second runs."""

    def __init__(self):
        self.may_end, self.has_ended = threading.Event(), threading.Event()
        self.calls = 0
        slow = StepFunction("Slow").add_step("Hang", self.hang, "More")
        slow.add_step("More", str).set_start_step("Hang")
        retry = RetryPolicy(max_attempts=2, interval=0, jitter=None)
        self.workflow = fan({"slow": slow}, timeout=1, retry=retry)

    def hang(self, _):
        self.calls += 1
        if self.calls == 1:
            assert self.may_end.wait(20)
            self.has_ended.set()
        else:
            self.may_end.set()
            assert self.has_ended.wait(20)


def alone(function, name="Only", **options):
    workflow = StepFunction("Alone").add_step(name, function, **options)
    return workflow.set_start_step(name)


def double(number):
    return 2 * number


def refuse(_):
    raise ValueError("no room left")


def interrupt(_):
    raise KeyboardInterrupt
