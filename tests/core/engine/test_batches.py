"""How the items of a batch that has ended are shared out among those that go on."""

from __future__ import annotations

import pytest

from stepfunction.core.engine.batches import Shares, shares
from stepfunction.core.outcomes import Outcome

HERE = {"is_here": True, "is_timed": False}
ELSEWHERE = {"is_here": False, "is_timed": False}
TIMED = {"is_here": False, "is_timed": True}
LONG = 5_000
ALL, NONE = range(4), range(0)


@pytest.mark.parametrize(
    ("outcome", "done", "where", "expected"),
    [
        pytest.param("SUCCEEDED", 4, HERE, Shares(), id="all done"),
        pytest.param("SUCCEEDED", 1, HERE, Shares(together=ALL[1:]), id="told to end"),
        pytest.param("FAILED", 4, ELSEWHERE, Shares(), id="failed after the last"),
        pytest.param(
            "FAILED", 1, HERE, Shares((), ALL[1:2], NONE, ALL[2:]), id="failed here"
        ),
        pytest.param("FAILED", 0, ELSEWHERE, Shares(alone=ALL), id="not to be sent"),
        pytest.param("FAILED", 3, ELSEWHERE, Shares(alone=ALL[3:]), id="last not sent"),
        pytest.param("FAILED", 0, TIMED, Shares(alone=ALL), id="timed, not to be sent"),
        pytest.param("CRASHED", 1, ELSEWHERE, Shares(alone=ALL[1:]), id="crashed"),
        pytest.param("CRASHED", 3, ELSEWHERE, Shares(culprits=ALL[3:]), id="at last"),
        pytest.param(
            "CRASHED", 1, TIMED, Shares((), ALL[1:2], NONE, ALL[2:]), id="timed"
        ),
        pytest.param(
            "TIMED_OUT", 0, TIMED, Shares((), ALL[:1], NONE, ALL[1:]), id="overdue"
        ),
        pytest.param(
            "KILLED", 2, ELSEWHERE, Shares((), ALL[2:3], NONE, ALL[3:]), id="killed"
        ),
        pytest.param(
            "ABANDONED", 0, HERE, Shares((), ALL[:1], NONE, ALL[1:]), id="abandoned"
        ),
    ],
)
def test_the_rest_is_shared_out_by_how_the_batch_ended(outcome, done, where, expected):
    found = shares(4, done, (), Outcome(outcome), **where)
    assert [list(part) for part in found] == [list(part) for part in expected]


def test_items_that_failed_go_on_whatever_became_of_the_rest():
    found = shares(4, 3, [0, 2], Outcome.CRASHED, **ELSEWHERE)
    assert found == Shares([0, 2], culprits=range(3, 4), together=range(4, 4))


def test_of_a_long_batch_a_thousand_go_on_one_by_one_and_the_others_together():
    found = shares(LONG, 7, (), Outcome.CRASHED, **ELSEWHERE)
    assert found == Shares((), range(0), range(7, 1_007), range(1_007, LONG))


@pytest.mark.parametrize("outcome", list(Outcome))
@pytest.mark.parametrize("where", [HERE, ELSEWHERE, TIMED])
@pytest.mark.parametrize("done", range(5))
def test_each_item_that_was_not_done_goes_on_once(outcome, where, done):
    _, *rest = shares(4, done, (), outcome, **where)
    assert [at for part in rest for at in part] == list(range(done, 4))
