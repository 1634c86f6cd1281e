from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path

import pytest

from stepfunction import Execution, Outcome, ParallelStepExecutionError, RemoteError

DATA = Path(__file__).parents[2] / "data"


@pytest.fixture(scope="module")
def execution():
    text = (DATA / "transcript_of_version_1.json").read_text(encoding="utf-8")
    return Execution.from_json(text)


def test_an_older_transcript_tells_the_steps_and_what_came_of_them(execution):
    steps = ["Ask", "Wait", "Share", "Again", "Count", "Check", "Sorry", "Update"]
    assert list(dict.fromkeys(it.step for it in execution.history)) == steps
    assert {it.step for it in execution.failures} == {"Share", "Check", "Update"}
    assert execution.context["Sorry"] == (1, 2)


def test_an_older_transcript_has_attempts_children_and_compensations(execution):
    assert [it.outcome for it in execution.history[0].attempts] == [
        Outcome.FAILED,
        Outcome.SUCCEEDED,
    ]
    assert execution.children["Update", "count"].output == 1
    assert [it.output for it in execution.compensations] == ["released", "given back"]


def test_an_older_transcript_raises_what_the_execution_failed_with(execution):
    with pytest.raises(ParallelStepExecutionError, match="card declined") as caught:
        execution.raise_if_failed()
    assert caught.value.results == {"count": 1}
    assert isinstance(caught.value.errors["pay"], RemoteError)


def test_an_older_transcript_has_the_items_of_a_map_step_by_their_index(execution):
    shares = execution.context["Share"]
    assert shares[:2] == [12.0, 6.0]
    assert list(shares.failed) == [2]


def test_an_older_transcript_has_its_graph(execution):
    chart = execution.to_mermaid()
    assert "until 2020-01-01" in chart
    assert "for each item" in chart
    assert "a constant" in chart
    assert datetime(2020, 1, 1, tzinfo=timezone.utc).isoformat() not in chart


def test_an_older_transcript_says_that_its_last_failure_was_not_handled(execution):
    followed = 7  # from the beginning to the step, and none from there to the end
    assert execution.to_mermaid().count("==>") == followed


def test_an_older_transcript_is_written_as_a_new_one_is(execution):
    document = execution.to_dict()
    assert Execution.from_json(execution.to_json()).to_dict() == document
