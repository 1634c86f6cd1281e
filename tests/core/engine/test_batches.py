"""How the items of a batch that has ended are shared out among those that go on."""

from __future__ import annotations

import pytest

from stepfunction.core.engine.batches import Shares, shares
from stepfunction.core.outcomes import Outcome

LONG = 5_000
ALL, NONE = range(4), range(0)


@pytest.mark.parametrize(
    ("outcome", "done", "begun", "expected"),
    [
        pytest.param("SUCCEEDED", 4, 4, Shares(), id="all done"),
        pytest.param("SUCCEEDED", 1, 2, Shares(together=ALL[1:]), id="told to end"),
        pytest.param("FAILED", 4, None, Shares(), id="failed after the last"),
        pytest.param(
            "FAILED", 1, 2, Shares(culprits=ALL[1:2], together=ALL[2:]), id="failed"
        ),
        pytest.param("FAILED", 0, 0, Shares(alone=ALL), id="not to be sent"),
        pytest.param("CRASHED", 3, 3, Shares(alone=ALL[3:]), id="between two"),
        pytest.param(
            "CRASHED", 1, 2, Shares(culprits=ALL[1:2], together=ALL[2:]), id="crashed"
        ),
        pytest.param("CRASHED", 3, 4, Shares(culprits=ALL[3:]), id="at last"),
        pytest.param(
            "CRASHED",
            0,
            3,
            Shares(ended=ALL[:2], culprits=ALL[2:3], together=ALL[3:]),
            id="ended unheard of",
        ),
        pytest.param("CRASHED", 1, None, Shares(culprits=ALL[1:]), id="not known"),
        pytest.param(
            "TIMED_OUT", 0, 1, Shares(culprits=ALL[:1], together=ALL[1:]), id="overdue"
        ),
        pytest.param(
            "KILLED", 2, 3, Shares(culprits=ALL[2:3], together=ALL[3:]), id="killed"
        ),
        pytest.param("ABANDONED", 0, None, Shares(culprits=ALL), id="abandoned"),
    ],
)
def test_the_rest_is_shared_out_by_how_the_batch_ended(outcome, done, begun, expected):
    found = shares(4, done, (), Outcome(outcome), begun)
    assert [list(part) for part in found] == [list(part) for part in expected]


def test_items_that_failed_go_on_whatever_became_of_the_rest():
    found = shares(4, 3, [0, 2], Outcome.CRASHED, 4)
    assert [list(part) for part in found] == [[0, 2], [], [3], [], []]


def test_of_a_long_batch_a_thousand_go_on_one_by_one_and_the_others_together():
    found = shares(LONG, 7, (), Outcome.FAILED, 0)
    assert found == Shares(alone=range(7, 1_007), together=range(1_007, LONG))


@pytest.mark.parametrize("outcome", list(Outcome))
@pytest.mark.parametrize("begun", [None, *range(5)])
@pytest.mark.parametrize("done", range(5))
def test_each_item_that_was_not_done_goes_on_once(outcome, begun, done):
    _, *rest = shares(4, done, (), outcome, begun)
    assert sorted(at for part in rest for at in part) == list(range(done, 4))
