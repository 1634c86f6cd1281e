"""Workflows that the app is found to have."""

from stepfunction import StepFunction


def price(order):
    return {"total": 2 * order["amount"]}


def refuse(order):
    raise ValueError(f"no stock for {order['car']}")


FUNCTIONS = {"quoted": price}  # of documents
quote = StepFunction("Quote").add_step("Price", price).set_start_step("Price")
sale = StepFunction("Sale").add_step("Reserve", refuse).set_start_step("Reserve")


def nightly() -> StepFunction:
    return StepFunction("Nightly").add_step("Sweep", str).set_start_step("Sweep")
