"""Executors, and futures, that do what those of the standard library do not."""

from __future__ import annotations

from concurrent.futures import Executor, Future, ThreadPoolExecutor

import pytest

from stepfunction import (
    Outcome,
    RetryPolicy,
    Status,
    StepExecutionError,
    StepFunction,
)

AT = 2  # the call at which each is odd


def same(value):
    return value


class Odd(BaseException):
    """No Exception, and no interrupt either."""


class OddFuture:
    """A future that is odd in one way."""

    def __init__(self, **ways):
        self._ways = ways

    def __getattr__(self, name):
        if name in ("_condition", "_state"):
            raise AttributeError(name)
        return self._ways.get(name, lambda *given, **named: None)

    def add_done_callback(self, callback):
        self._ways.get("calls_back", lambda callback, future: callback(future))(
            callback, self
        )


def raising(error):
    def fail(*given, **named):
        raise error

    return fail


def done(result=None, error=None):
    future = Future()
    if error is None:
        future.set_result(result)
    else:
        future.set_exception(error)
    return future


def cancelled():
    future = Future()
    future.cancel()
    return future


def called_back_twice(callback, future):
    callback(future)
    callback(future)


# What the second submit() gives, or raises, and the class of what its task fails with.
ODD = {
    "submit raises": (raising(ValueError("full")), ValueError),
    "submit gives nothing": (lambda: None, TypeError),
    "submit gives a number": (lambda: 7, TypeError),
    "the future has another result": (lambda: done("hello"), Exception),
    "the future has an error": (lambda: done(error=KeyError("k")), KeyError),
    "the future has no Exception": (lambda: done(error=Odd("odd")), Odd),
    "the future is cancelled": (cancelled, Exception),
    "it takes no callback": (
        lambda: OddFuture(calls_back=raising(OSError("no"))),
        OSError,
    ),
    "it calls back twice": (
        lambda: OddFuture(calls_back=called_back_twice),
        Exception,
    ),
    "cancelled() raises": (lambda: OddFuture(cancelled=raising(OSError())), OSError),
    "exception() raises": (lambda: OddFuture(exception=raising(OSError())), OSError),
    "result() raises": (lambda: OddFuture(result=raising(OSError())), Exception),
}


class OddExecutor(Executor):
    def __init__(self, odd):
        self.odd, self.calls = odd, 0
        self.pool = ThreadPoolExecutor(2)

    def submit(self, function, /, *given, **named):
        self.calls += 1
        if self.calls == AT:
            return self.odd()
        return self.pool.submit(function, *given, **named)

    def shutdown(self, wait=True, *, cancel_futures=False):
        self.pool.shutdown(wait)


def fan(executor, **options):
    workflow = StepFunction("W").set_start_step("Fan")
    tasks = {"one": same, "two": same, "three": same}
    return workflow.add_step("Fan", tasks, parallel=True, executor=executor, **options)


def outcomes(execution):
    return {it.task: it.outcome for it in execution.history if it.task is not None}


@pytest.mark.parametrize("how", ODD)
def test_it_is_the_failure_of_that_task_alone(how):
    odd, kind = ODD[how]
    with OddExecutor(odd) as executor:
        execution = fan(executor).start(4)
        assert execution.wait(20)
        assert execution.status is Status.COMPLETED
        assert (execution.output["one"], execution.output["three"]) == (4, 4)
        assert isinstance(execution.output["two"], kind)


def test_it_may_be_tried_again():
    with OddExecutor(raising(ValueError("full"))) as executor:
        retry = RetryPolicy(max_attempts=2, interval=0)
        execution = fan(executor, retry=retry).execute(4)
        assert dict(execution.output) == {"one": 4, "two": 4, "three": 4}


class FirstAtOnce(OddExecutor):
    """Makes its first call in submit(), and is odd at its second."""

    def submit(self, function, /, *given, **named):
        if self.calls == 0:
            self.calls += 1
            return done(function(*given, **named))
        return super().submit(function, *given, **named)


@pytest.mark.parametrize(
    "error",
    [RuntimeError("cannot schedule new futures after shutdown"), KeyboardInterrupt()],
)
def test_what_had_succeeded_stays_so_where_it_takes_no_more(error):
    undone = []
    with FirstAtOnce(raising(error)) as executor:
        workflow = fan(executor, compensate={"one": undone.append})
        with pytest.raises((StepExecutionError, KeyboardInterrupt)):
            workflow.execute(4)
    assert outcomes(workflow._latest) == {
        "one": Outcome.SUCCEEDED,
        "two": Outcome.CANCELLED,
        "three": Outcome.CANCELLED,
    }
    is_failure = isinstance(error, Exception)
    assert workflow._latest.status is (
        Status.FAILED if is_failure else Status.CANCELLED
    )
    assert undone == ([4] if is_failure else [])


def test_a_future_that_cannot_be_cancelled_is_waited_for():
    with OddExecutor(lambda: OddFuture(cancel=raising(OSError("no")))) as executor:
        execution = fan(executor, stop_on_failure=True, on_failure="Caught")
        execution.add_step("Caught", same)
        started = execution.start(4)
        assert started.wait(20)
