"""Workflows whose real functions must not be called."""

from __future__ import annotations

from typing import Any

from shared.calls import double

from stepfunction import Context, RetryPolicy, StepFunction

HOURS = RetryPolicy(max_attempts=3, interval=3600, backoff_rate=2, jitter=None)


def forbidden(*args: Any, **keywords: Any) -> None:
    raise AssertionError("the real function was called")


def forbidden_for(value: Any) -> None:
    raise AssertionError("the real function was called")


def chain(*names: str, **settings: Any) -> StepFunction:
    workflow = StepFunction("Chain")
    for name, follower in zip(names, [*names[1:], None]):
        workflow.add_step(name, forbidden_for, follower, **settings)
    return workflow.set_start_step(names[0])


def parallel(*names: str, **settings: Any) -> StepFunction:
    workflow = StepFunction("Shop")
    tasks = dict.fromkeys(names, forbidden_for)
    workflow.add_step("Update", tasks, parallel=True, **settings)
    return workflow.set_start_step("Update")


def around(inner: StepFunction, step: str = "Payment", **settings: Any) -> StepFunction:
    workflow = StepFunction("Outer")
    workflow.add_sub_step_function(step, inner, **settings)
    return workflow.set_start_step(step)


checkout = StepFunction("Checkout")
checkout.add_step("Pay", forbidden_for, "Notify", on_failure="Apologise")
checkout.add_step("Notify", forbidden_for)
checkout.add_step("Apologise", str)
checkout.set_start_step("Pay")


def view(order: int) -> Any:
    return checkout.execute(order).output


def undo(output: Any) -> None:
    raise AssertionError("really undone")


def undoable() -> StepFunction:
    inner = StepFunction("Inner").add_step("Charge", double, compensate=undo)
    inner.set_start_step("Charge")
    workflow = StepFunction("W").add_step("Pay", double, "Update", compensate=undo)
    tasks = {"a": double, "b": double, "nested": inner}
    compensate = {"a": undo, "b": undo}
    workflow.add_step("Update", tasks, parallel=True, compensate=compensate)
    return workflow.set_start_step("Pay")


def fail_twice(value: Any, context: Context) -> str:
    if context.attempt < 3:
        raise OSError("not yet")
    return "there"


def sleepy() -> StepFunction:
    workflow = StepFunction("Sleepy")
    workflow.add_wait_step("Wait", seconds=1800, next_step="Try")
    workflow.add_step("Try", fail_twice, retry=HOURS)
    return workflow.set_start_step("Wait")


def negative(item: int) -> int:
    return -item
