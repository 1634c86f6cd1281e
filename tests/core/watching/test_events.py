from __future__ import annotations

import pickle
from time import time

import pytest
from shared.events import (
    Told,
    check_pairs,
    fail,
    fan_out,
    nested_of,
    one,
    tell,
    workflow_of,
)

from stepfunction import (
    Event,
    Outcome,
    Status,
    StepExecutionError,
    StepFunction,
    StepLimitError,
)

# --- each kind of event -------------------------------------------------------------


def test_a_sequence_tells_of_each_step_in_order():
    workflow = workflow_of(next_step="B").add_step("B", one)

    told = tell(workflow)

    assert [(event.kind, event.step) for event in told] == [
        ("execution_started", None),
        ("step_started", "A"),
        ("step_succeeded", "A"),
        ("step_started", "B"),
        ("step_succeeded", "B"),
        ("execution_ended", None),
    ]


def test_a_listener_is_told_before_the_next_step_runs():
    told = Told()
    seen = []
    workflow = workflow_of(lambda value: seen.append(told.kinds), next_step="B")
    workflow.add_step("B", lambda value: seen.append(told.kinds))

    workflow.execute(listeners=[told])

    first = ["execution_started", "step_started"]
    assert seen == [first, [*first, "step_succeeded", "step_started"]]


def test_every_event_says_which_execution_it_is_of():
    told = Told()
    execution = workflow_of().execute(listeners=[told])

    for event in told:
        assert event.root_id == event.execution_id == execution.id
        assert (event.workflow, event.path) == ("W", ())
        assert event.execution is execution
        assert (event.task, event.tasks, event.pause) == (None, (), None)


def test_an_event_has_the_time_at_which_it_happened():
    before = time()
    told = Told()
    execution = workflow_of(next_step="B").add_step("B", one).execute(listeners=[told])
    after = time()

    times = [event.time for event in told]
    assert times == sorted(times)
    assert before - 0.1 <= times[0] and times[-1] <= after + 0.1
    assert times[0] == execution.started
    (first, _) = execution.history
    assert told.of("step_succeeded")[0].time == first.started + first.duration


def test_the_end_of_an_execution_has_its_status_and_duration():
    told = Told()
    execution = workflow_of().execute(listeners=[told])

    end = told.only("execution_ended")
    assert (end.status, end.error, end.outcome) == (Status.COMPLETED, None, None)
    assert end.duration == execution.duration
    assert told[0].status is told[0].duration is None


def test_a_listener_finds_the_execution_as_it_stands():
    seen = []

    def look(event):
        execution = event.execution
        seen.append((execution.status, len(execution.history), execution.output))

    workflow_of().execute(listeners=[look])

    assert seen == [
        (Status.RUNNING, 0, None),
        (Status.RUNNING, 1, None),  # which is under way
        (Status.RUNNING, 1, None),
        (Status.COMPLETED, 1, 1),
    ]


def test_the_end_of_a_step_has_its_outcome_and_attempt():
    told = Told()
    execution = workflow_of().execute(listeners=[told])

    end, (record,) = told.only("step_succeeded"), execution.history
    assert end.outcome is Outcome.SUCCEEDED
    assert (end.attempts, end.duration) == (record.attempts, record.duration)
    assert end.error is end.next_step is end.status is None


def test_only_the_steps_on_the_branch_that_is_taken_are_told_of():
    workflow = workflow_of(branch={1: "B", 2: "C"})
    workflow.add_step("B", one).add_step("C", one)

    assert [event.step for event in tell(workflow).of("step_started")] == ["A", "B"]


def test_a_failed_step_names_the_step_that_takes_the_failure():
    workflow = workflow_of(fail, on_failure="B").add_step("B", one)
    told = Told()

    execution = workflow.execute(listeners=[told])

    failed, end = told.only("step_failed"), told[-1]
    assert failed.error is execution.failures[0].error
    assert (failed.outcome, failed.next_step) == (Outcome.FAILED, "B")
    assert told.kinds[3:] == ["step_started", "step_succeeded", "execution_ended"]
    assert (end.status, end.error) == (Status.FAILED, failed.error)


def test_an_unhandled_failure_names_no_step():
    told = Told()
    with pytest.raises(StepExecutionError) as caught:
        workflow_of(fail).execute(listeners=[told])

    failed = told.only("step_failed")
    assert failed.error is caught.value.__cause__
    assert (failed.next_step, told[-1].status) == (None, Status.FAILED)


def test_a_branch_that_leads_nowhere_is_a_failure_of_its_step():
    told = tell(workflow_of(branch={2: "B"}).add_step("B", one))

    assert told.steps == [("step_started", "A"), ("step_failed", "A")]


def test_an_execution_that_takes_too_many_steps_ends_after_its_last():
    workflow = StepFunction("W", max_steps=2).add_step("A", one, next_step="A")

    told = tell(workflow.set_start_step("A"))

    assert told.steps == [("step_started", "A"), ("step_succeeded", "A")] * 2
    assert type(told[-1].error) is StepLimitError


def test_each_visit_of_a_loop_is_told_of():
    numbers = iter([True, True, False])
    workflow = StepFunction("W", max_steps=9).set_start_step("A")
    workflow.add_step("A", lambda: next(numbers), branch={True: "A", False: "B"})
    workflow.add_step("B", one)

    told = tell(workflow)

    assert [event.step for event in told.of("step_started")] == ["A", "A", "A", "B"]
    check_pairs(told)


# --- the event itself ---------------------------------------------------------------


def test_an_event_cannot_be_changed():
    (event, *_) = tell(workflow_of())

    with pytest.raises(AttributeError):
        event.what = "other"


def test_an_event_says_what_happened_to_what():
    told = tell(fan_out({"t": fail}))

    assert [(event.subject, event.what) for event in told] == [
        ("execution", "started"),
        ("step", "started"),
        ("task", "started"),
        ("task", "failed"),
        ("step", "succeeded"),
        ("execution", "ended"),
    ]
    assert all(event.kind == f"{event.subject}_{event.what}" for event in told)


def test_a_beginning_and_its_end_have_one_place():
    told = tell(fan_out({"t": nested_of()}))

    assert [(event.what, event.place) for event in told] == [
        ("started", ()),
        ("started", ("A",)),
        ("started", ("A", "t")),
        ("started", ("A", "t", None)),
        ("started", ("A", "t", None, "X")),
        ("succeeded", ("A", "t", None, "X")),
        ("ended", ("A", "t", None)),
        ("succeeded", ("A", "t")),
        ("succeeded", ("A",)),
        ("ended", ()),
    ]


def test_an_event_is_no_tuple_and_can_be_replaced_with_another():
    (event, *_) = tell(workflow_of())

    assert not isinstance(event, tuple)
    assert event.replace(what="ended").kind == "execution_ended"
    with pytest.raises(TypeError, match="did you mean 'what'"):
        event.replace(wha="ended")


def test_an_event_comes_out_of_a_pickle_without_its_execution():
    told = tell(fan_out({"t": fail}))

    for event in told:
        copy = pickle.loads(pickle.dumps(event))
        assert type(copy) is Event
        assert copy.execution is None
        same = {"error": None, "attempts": (), "execution": None}
        assert copy.replace(**same) == event.replace(**same)


@pytest.mark.parametrize(
    "kind, text",
    [
        ("execution_ended", "<Event execution_ended: 'Inner' at A.t>"),
        ("step_started", "<Event step_started: 'X' of 'Inner' at A.t>"),
        ("task_started", "<Event task_started: 't' of 'A' of 'W'>"),
    ],
)
def test_the_repr_of_an_event_says_what_and_where(kind, text):
    assert text in map(repr, tell(fan_out({"t": nested_of()})).of(kind))


def test_an_execution_that_was_listened_to_can_be_pickled():
    execution = fan_out({"t": nested_of()}).execute(listeners=[lambda event: None])

    copy = pickle.loads(pickle.dumps(execution))

    assert copy.id == execution.id
    assert copy.children["A", "t"].id == execution.children["A", "t"].id
