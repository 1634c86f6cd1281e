from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from shared import reference
from shared.calls import Oops
from shared.random_workflows import MOSTLY, ONE_IN, TOLERATED, examples, executed

from stepfunction import Context, Event, RetryPolicy, StepFunction

pytestmark = pytest.mark.usefixtures("quiet")


def fail_so_often(item: tuple[int, int], context: Context) -> int:
    value, failures = item
    if context.attempt <= failures:
        raise Oops(value)
    return value


ITEMS = st.lists(st.tuples(st.integers(0, 99), st.sampled_from([0, 0, 0, 1, 2, 3])))
MAP_STEPS = st.fixed_dictionaries(
    {
        "batch_size": st.integers(1, 5),
        "attempts": st.integers(1, 3),
        "stop": ONE_IN[2],
        "tolerated": TOLERATED,
        "is_counted": ONE_IN[2],
        "keeps": MOSTLY,
        "timeout": st.sampled_from([None, None, 60]),
        "max_workers": st.sampled_from([1, 2, None]),
    }
)


def check_map(items: Any, step: Any, executor: Any) -> None:
    workflow = StepFunction("w").set_start_step("a")
    workflow.add_map_step(
        "a",
        fail_so_often,
        batch_size=step["batch_size"],
        stop_on_failure=step["stop"],
        tolerated_failures=step["tolerated"],
        keep_results=step["keeps"],
        retry=RetryPolicy(step["attempts"], interval=0),
        timeout=step["timeout"],
        max_workers=step["max_workers"],
    )
    source = items if step["is_counted"] else iter(items)
    events: list[Event] = []
    execution, raised = executed(
        workflow, source, executor=executor, listeners=[events.append]
    )
    expected = reference.run_map(items, step)
    assert (raised is not None) == expected["has_failed"]
    races = expected["has_failed"] and step["stop"]
    if races and executor == "inline" and step["attempts"] == 1:
        races = False
    check_ends(execution, raised, items, step, expected, races)
    progress = [event for event in events if event.kind == "step_progressed"]
    assert progress[-1].done == progress[-1].total or races or expected["has_failed"]
    assert [event.done for event in progress] == sorted(e.done for e in progress)


def check_ends(
    execution: Any, raised: Any, items: Any, step: Any, expected: Any, races: bool
) -> None:
    ends, records = expected["ends"], execution.history[1:]
    for record in records:
        value, failures = items[record.item]
        assert record.input == (value, failures)
        if record.outcome == "SUCCEEDED":
            assert (record.output, len(record.attempts)) == (value, failures + 1)
        elif record.error is not None:
            assert (str(record.error), record.output) == (str(value), None)
            assert 1 <= len(record.attempts) <= min(failures, step["attempts"])
        else:
            assert races or not record.attempts
    failed = {record.item for record in records if record.error is not None}
    if races:
        assert len(failed) > expected["tolerated"]
        return
    assert failed == {at for at, end in enumerate(ends) if end["outcome"] == "FAILED"}
    noted = {it.item: (str(it.outcome), len(it.attempts)) for it in records}
    is_alone = step["batch_size"] == 1
    for at, end in enumerate(ends):
        has_trouble = end["attempts"] > 1 or end["outcome"] == "FAILED"
        if is_alone:
            has_trouble |= end["outcome"] != "SUCCEEDED"
        if has_trouble or (is_alone and step["keeps"]):
            if is_alone or end["outcome"] != "CANCELLED":
                assert noted[at] == (end["outcome"], end["attempts"])
    check_output(execution, raised, step, ends)


def check_output(execution: Any, raised: Any, step: Any, ends: Any) -> None:
    counts = Counter(end["outcome"] for end in ends)
    if raised is not None:
        outcomes = Counter(str(outcome) for outcome in raised.outcomes.values())
        assert outcomes == (counts if step["keeps"] else {"FAILED": counts["FAILED"]})
        succeeded = {
            at: end["value"]
            for at, end in enumerate(ends)
            if end["outcome"] == "SUCCEEDED"
        }
        assert dict(raised.results) == (succeeded if step["keeps"] else {})
    elif step["keeps"]:
        assert [str(result) for result in execution.output] == [
            str(end["value"]) for end in ends
        ]
        failed = [at for at, end in enumerate(ends) if end["outcome"] == "FAILED"]
        assert sorted(execution.output.failed) == failed
        assert all(type(execution.output[at]) is Oops for at in failed)
    else:
        told = {str(outcome): count for outcome, count in execution.output.items()}
        assert told == {"SUCCEEDED": 0, **counts}


@examples(400)
@given(ITEMS, MAP_STEPS)
def test_an_inline_map_comes_to_what_the_reference_says(items, step):
    check_map(items, step, "inline")


@examples(100)
@given(ITEMS, MAP_STEPS)
def test_a_map_on_threads_comes_to_what_the_reference_says(items, step):
    check_map(items, step, "thread")


@examples(60)
@given(items=ITEMS, step=MAP_STEPS)
def test_a_map_in_processes_comes_to_what_the_reference_says(lanes, items, step):
    check_map(items, step, lanes)
