"""Test a workflow: no gateway, no waiting, and a readable account of what went wrong.

Run it as a script, with ``python -m unittest testing_a_workflow`` or with pytest.
"""

from __future__ import annotations

import unittest
from typing import Any

from stepfunction import RetryPolicy, StepFunction
from stepfunction.testing import (
    assert_path,
    detect_shared_mutation,
    dry_run,
    mock_steps,
    skip_waits,
)


def reserve(order: dict[str, Any]) -> dict[str, Any]:
    raise ConnectionError("there is no warehouse here")


def charge(order: dict[str, Any]) -> str:
    raise ConnectionError("there is no gateway here")


def total(order: dict[str, Any]) -> int:
    return sum(order["prices"])


def cheapest(order: dict[str, Any]) -> int:
    order["prices"].sort()  # the mistake that the last test finds
    prices: list[int] = order["prices"]
    return prices[0]


def send_mail(text: Any) -> str:
    return f"mail: {text}"


checkout = StepFunction("Checkout")
checkout.add_step("Reserve", reserve, "Charge")
checkout.add_step(
    "Charge",
    charge,
    branch={"paid": "Thank", "declined": "Apologise"},
    on_failure="Apologise",
    retry=RetryPolicy(max_attempts=3, interval=60, jitter=None),
)
checkout.add_step("Thank", send_mail)
checkout.add_step("Apologise", send_mail)
checkout.set_start_step("Reserve")

prices = StepFunction("Prices")
prices.add_step("Look", {"total": total, "cheapest": cheapest}, parallel=True)
prices.set_start_step("Look")


def view(order: dict[str, Any]) -> str:
    """Stand in for a Django view: it knows nothing of tests."""
    return str(checkout.execute(order).output)


class CheckoutTest(unittest.TestCase):
    def test_the_view_sends_a_mail(self) -> None:
        order = {"order": 17}
        with mock_steps(checkout, {"Reserve": order, "Charge": "paid"}) as mocks:
            self.assertEqual(view(order), "mail: paid")
        self.assertEqual(mocks["Charge"].calls, [order])

    def test_a_gateway_that_is_away_is_asked_again_for_minutes(self) -> None:
        away = ConnectionError("away")
        mocks = {"Reserve": 1, "Charge": [away, away, "paid"]}
        with mock_steps(checkout, mocks), skip_waits() as skipped:
            assert_path(checkout.execute(), ["Reserve", "Charge", "Thank"])
        self.assertEqual(skipped.total, 60 + 120)

    def test_who_cannot_pay_gets_an_apology(self) -> None:
        walked = dry_run(checkout, {"Charge": "declined"})
        assert_path(walked, ["Reserve", "Charge", "Apologise"])


def show_another_path() -> None:
    with mock_steps(checkout, {"Reserve": LookupError("sold out")}):
        try:
            checkout.execute()
        except Exception as error:
            print(error)
    try:
        assert_path(dry_run(checkout, {"Charge": OSError("away")}), ["Reserve", "Pay"])
    except AssertionError as error:
        print(error)


def show_shared_mutation() -> None:
    try:
        with detect_shared_mutation():
            prices.execute({"prices": [3, 1, 2]})
    except AssertionError as error:
        print(error)


def main() -> None:
    suite = unittest.defaultTestLoader.loadTestsFromTestCase(CheckoutTest)
    result = unittest.TestResult()
    suite.run(result)
    print(f"{result.testsRun} tests, {len(result.failures + result.errors)} failed\n")
    show_another_path()
    print()
    show_shared_mutation()


if __name__ == "__main__":
    main()
