"""Workflows for the tests of the command line."""

import atexit
import os
import sys
import threading
import time
from pathlib import Path

from stepfunction import RetryPolicy, StepFunction

STARTED = os.environ.get("ORDERS_STARTED", "")


def validate(order):
    print("validating")
    return "valid" if order["total"] > 0 else "invalid"


def pay(order):
    raise ValueError("card declined")


def ship(order):
    return "shipped"


def square(number):
    os.write(1, b"from the worker\n")
    return number * number


def apologise(error):
    return f"sorry: {error}"


def hang(value=None):
    Path(STARTED).touch()
    while True:  # a signal that comes right before a sleep does not end it
        time.sleep(0.1)


def hold_and_hang(value):
    atexit.register(Path(f"{STARTED}.over").touch)
    threading.Thread(target=time.sleep, args=[600]).start()
    hang()


def leave(value):
    sys.exit(7)


def peculiar(value):
    return {"tuple": (1, 2), "set": {3}, "nan": float("nan"), "deep": [value]}


checkout = (
    StepFunction("Checkout")
    .add_step("Validate", validate, branch={"valid": "Ship", "invalid": "Tell"})
    .add_step("Ship", ship, next_step="Tell", retry=RetryPolicy(2))
    .add_step("Tell", str.upper)
    .set_start_step("Validate")
)
declined = StepFunction("Declined").add_step("Pay", pay).set_start_step("Pay")
handled = (
    StepFunction("Handled")
    .add_step("Pay", pay, on_failure="Apologise")
    .add_step("Apologise", apologise)
    .set_start_step("Pay")
)
tolerant = (
    StepFunction("Tolerant")
    .add_step("Update", {"pay": pay, "ship": ship}, parallel=True)
    .set_start_step("Update")
)
strict = (
    StepFunction("Strict")
    .add_step(
        "Update",
        {"pay": pay, "ship": ship},
        parallel=True,
        stop_on_failure=True,
        executor="process",
    )
    .set_start_step("Update")
)
outer = StepFunction("Outer").add_step("Inner", strict).set_start_step("Inner")
squares = (
    StepFunction("Squares")
    .add_step("Both", {"a": square, "b": square}, parallel=True, executor="process")
    .set_start_step("Both")
)
echo = StepFunction("Echo").add_step("Say", lambda it: it).set_start_step("Say")
odd = StepFunction("Odd").add_step("Say", peculiar).set_start_step("Say")
leaving = StepFunction("Leaving").add_step("Leave", leave).set_start_step("Leave")
hanging = (
    StepFunction("Hanging")
    .add_step("Hang", {"a": hang, "b": hang}, parallel=True, executor="process")
    .set_start_step("Hang")
)
hanging_thread = (
    StepFunction("Hanging thread")
    .add_step("Hang", {"a": hang}, parallel=True)
    .set_start_step("Hang")
)
_holding = StepFunction("Holding").add_step("Hold", hold_and_hang)
_holding.set_start_step("Hold")
broken = (
    StepFunction("Broken")
    .add_step("Start", ship, next_step="Shipp")
    .add_step("Ship", ship)
    .add_step("Lost", ship)
    .set_start_step("Start")
)
unsendable = (
    StepFunction("Unsendable")
    .add_step("Say", lambda it: it, executor="process")
    .set_start_step("Say")
)
RATE = 0.2


def build() -> StepFunction:
    return StepFunction("Built").add_step("Ship", ship).set_start_step("Ship")


def build_for(customer) -> StepFunction:
    raise NotImplementedError


def build_nothing():
    return 17


def fail_to_build():
    raise KeyError("no settings")


if __name__ == "__main__":
    raise SystemExit("this must not run")
