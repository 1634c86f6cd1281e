"""An execution that is cancelled by what comes between any two bytecodes."""

from __future__ import annotations

import gc
import random
import signal
import threading

import pytest

from stepfunction import ExecutionCancelledError, RetryPolicy, StepFunction

SHORT = 0.0002  # so that a signal often comes just before, or after, a wait
ON = {"next_step": "Again"}


def doze(value, context):
    context.sleep(SHORT)


def fail(value):
    raise ValueError(value)


async def nap(value):
    import asyncio

    await asyncio.sleep(SHORT)


def waiting(builder):
    builder.add_wait_step("A", seconds=SHORT, **ON)


def sleeping(builder):
    builder.add_step("A", doze, **ON)


def sleeping_in_a_thread(builder):
    builder.add_step("A", doze, executor="thread", **ON)


def retrying(builder):
    retry = RetryPolicy(3, interval=SHORT, jitter=None)
    builder.add_step("A", fail, retry=retry, on_failure="Again")


def awaiting(builder):
    builder.add_step("A", nap, **ON)


def in_parallel(builder):
    builder.add_step("A", {"one": doze, "two": doze}, parallel=True, **ON)


def timed(builder):
    builder.add_step("A", doze, executor="thread", timeout=20, **ON)


def nested(builder):
    inner = StepFunction("In").add_wait_step("B", seconds=SHORT).set_start_step("B")
    builder.add_sub_step_function("A", inner, timeout=20, **ON)


ALL = [
    waiting,
    sleeping,
    sleeping_in_a_thread,
    retrying,
    awaiting,
    in_parallel,
    timed,
    nested,
]


@pytest.fixture
def alarm():
    before = signal.getsignal(signal.SIGALRM)
    yield lambda handler: signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


def endless(add):
    builder = StepFunction("W", max_steps=10**6)
    add(builder)
    return builder.add_pass_step("Again", next_step="A").set_start_step("A")


@pytest.mark.parametrize("add", ALL)
def test_a_signal_handler_may_cancel_at_any_moment(alarm, add):
    workflow, running = endless(add), []

    def note(event):
        running.append(event.execution)

    alarm(lambda *_: [execution.cancel() for execution in running])
    moments = random.Random(13)
    for _ in range(30):
        running.clear()
        # Again and again, for one that comes before all would be lost.
        signal.setitimer(signal.ITIMER_REAL, moments.uniform(0.0005, 0.004), 0.003)
        with pytest.raises(ExecutionCancelledError):
            workflow.execute(1, listeners=[note])
        signal.setitimer(signal.ITIMER_REAL, 0)


class Collected:
    """What cancels an execution when it is collected, wherever that is."""

    def __init__(self, cancel):
        self.cancel = cancel
        self.circle = self

    def __del__(self):
        self.cancel()


@pytest.mark.parametrize("add", ALL)
def test_a_finalizer_may_cancel_at_any_moment(add):
    workflow = endless(add)
    thresholds = gc.get_threshold()
    for often in range(1, 30):

        def arm(event):
            if event.step is not None and event.what == "started":
                Collected(event.execution.cancel)
                gc.set_threshold(often, 1, 1)

        try:
            with pytest.raises(ExecutionCancelledError):
                workflow.execute(1, listeners=[arm])
        finally:
            gc.set_threshold(*thresholds)


def test_a_request_that_was_cut_short_is_made_again(alarm):
    from stepfunction.core.cancellation import Cancellation

    cancellation, told = Cancellation(), []

    def interrupt():
        if not told:
            told.append("interrupted")
            raise KeyboardInterrupt

    with cancellation.calling(interrupt), cancellation.calling(
        lambda: told.append("second")
    ):
        with pytest.raises(KeyboardInterrupt):
            cancellation.request()
        cancellation.request()
        cancellation.request()
    assert told == ["interrupted", "second"]


def test_whoever_waits_may_be_interrupted_at_any_moment(alarm):
    """An interrupt leaves no lock behind that the end would wait for."""
    workflow, go_on = StepFunction("W"), threading.Event()
    workflow.add_step("A", lambda value: go_on.wait(20)).set_start_step("A")
    moments = random.Random(13)

    def interrupt(*_):
        raise KeyboardInterrupt

    alarm(interrupt)
    execution = workflow.start(1)
    for _ in range(200):
        with pytest.raises(KeyboardInterrupt):
            signal.setitimer(signal.ITIMER_REAL, moments.uniform(1e-6, 0.0005))
            while True:
                execution.wait(SHORT)
    go_on.set()
    assert execution.wait(20)
