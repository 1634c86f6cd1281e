from __future__ import annotations

import unittest

from shared.mocked import checkout, view

from stepfunction import Outcome
from stepfunction.testing import assert_path, mock_steps, skip_waits


class TestCheckout(unittest.TestCase):
    def setUp(self) -> None:
        self.mocks = self.enterContext(mock_steps(checkout, {"Pay": 1, "Notify": 2}))
        self.skipped = self.enterContext(skip_waits())

    def test_a_test_case_holds_mocks_for_the_whole_test(self) -> None:
        self.assertEqual(view(17), 2)
        self.assertEqual(self.mocks["Pay"].calls, [17])
        self.assertEqual(self.skipped.total, 0)

    def test_inline_is_for_tests_in_a_transaction(self) -> None:
        execution = checkout.execute(17, executor="inline")
        assert_path(execution, ["Pay", "Notify"])
        self.assertEqual(execution.history[0].outcome, Outcome.SUCCEEDED)


def test_after_the_test_case_the_workflow_is_as_before() -> None:
    case = TestCheckout("test_a_test_case_holds_mocks_for_the_whole_test")
    assert case.run().wasSuccessful()
    assert view(17) == "the real function was called"
