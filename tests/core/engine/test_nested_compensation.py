from __future__ import annotations

import pickle
import threading
import time
from collections import Counter

import pytest
from shared.calls import PaymentError, decline, same
from shared.undoing import (
    ONCE_MORE,
    PLACES,
    book,
    books,
    cancel,
    executed,
    failure_of,
    records,
    recover,
    refuse,
    told_by,
)

from stepfunction import (
    CompensationError,
    ExecutionCancelledError,
    Outcome,
    Status,
    StepExecutionError,
    StepFunction,
    TransferError,
)
from stepfunction.core.history.execution import journal_of


def book_with_lock(value):
    return threading.Lock()


def fails_after_booking(undo=cancel):
    inner = StepFunction("Inner").set_start_step("Book")
    inner.add_step("Book", book, "Pay", compensate=undo)
    return inner.add_step("Pay", decline)


# --- nested workflows ---------------------------------------------------------------


def outer_of(inner, place=None, last=decline, **options):
    outer = StepFunction("Outer").set_start_step("Sub")
    outer.add_step("Sub", inner, "End", executor=place, **options)
    return outer.add_step("End", last)


def fan_out_of(inner, place, last=decline, **options):
    outer = StepFunction("Outer").set_start_step("Fan")
    tasks = {"sub": inner, "other": same}
    outer.add_step("Fan", tasks, "End", parallel=True, executor=place, **options)
    return outer.add_step("End", last)


@pytest.mark.parametrize("place", [None, *PLACES])
def test_a_nested_workflow_that_failed_has_undone_itself(place):
    execution = executed(outer_of(fails_after_booking(), place), "it")
    child = execution.children["Sub"]
    assert [it.output for it in child.compensations] == ["it booked, cancelled"]
    assert execution.compensations == ()


@pytest.mark.parametrize("place", [None, *PLACES])
def test_a_nested_workflow_is_undone_by_its_steps(place):
    execution = executed(outer_of(books(), place), "it")
    child = execution.children["Sub"]
    assert child.status is Status.COMPLETED
    (record,) = child.compensations
    assert (record.input, record.output) == ("it booked", "it booked, cancelled")
    assert execution.compensations == ()
    assert execution.failures[-1].step == "End"


@pytest.mark.parametrize("place", [None, *PLACES])
def test_a_nested_workflow_is_undone_by_what_its_step_says(place, undone):
    inner = books(refuse)
    execution = executed(outer_of(inner, place, compensate=undone.by("Sub")), "it")
    assert undone == [("Sub", "it booked")]
    assert execution.children["Sub"].compensations == ()
    assert records(execution) == [("Sub", None, "SUCCEEDED")]


@pytest.mark.parametrize("place", PLACES)
def test_a_nested_workflow_of_a_task_is_undone(place):
    execution = executed(fan_out_of(books(), place), "it")
    child = execution.children["Fan", "sub"]
    assert [it.output for it in child.compensations] == ["it booked, cancelled"]


@pytest.mark.parametrize("place", PLACES)
def test_a_nested_workflow_of_a_task_is_undone_by_what_its_step_says(place, undone):
    outer = fan_out_of(books(), place, compensate={"sub": undone.by("sub")})
    execution = executed(outer, "it")
    assert undone == [("sub", "it booked")]
    assert execution.children["Fan", "sub"].compensations == ()


def test_what_is_nested_is_undone_in_its_place(undone):
    inner = StepFunction("Inner").set_start_step("B")
    inner.add_step("B", same, "C", compensate=undone.by("B"))
    inner.add_step("C", same, compensate=undone.by("C"))
    outer = StepFunction("Outer").set_start_step("A")
    outer.add_step("A", same, "Sub", compensate=undone.by("A"))
    outer.add_step("Sub", inner, "D")
    outer.add_step("D", same, "End", compensate=undone.by("D"))
    outer.add_step("End", decline)
    executed(outer)
    assert undone.names == ["D", "C", "B", "A"]


@pytest.mark.parametrize("place", [None, *PLACES])
def test_what_is_nested_deeper_is_undone(place):
    middle = StepFunction("Middle").set_start_step("Deep").add_step("Deep", books())
    execution = executed(outer_of(middle, place), "it")
    child = execution.children["Sub"].children["Deep"]
    assert [it.output for it in child.compensations] == ["it booked, cancelled"]


def test_what_is_nested_is_undone_when_its_task_was_told_to_stop(undone):
    inner = StepFunction("Inner").set_start_step("Book")
    inner.add_step("Book", same, "Wait", compensate=undone.by("Book"))
    waiting = threading.Event()

    def wait(value, context):
        waiting.set()
        context.sleep(30)

    inner.add_step("Wait", wait)
    outer = StepFunction("Outer").set_start_step("Fan")
    tasks = {"sub": inner, "bank": lambda value: waiting.wait(30) and decline(value)}
    outer.add_step("Fan", tasks, parallel=True, stop_on_failure=True)
    execution = executed(outer)
    assert execution.children["Fan", "sub"].status is Status.CANCELLED
    assert undone.names == ["Book"]


def test_what_is_nested_is_undone_when_it_took_too_long(undone):
    inner = StepFunction("Inner").set_start_step("Book")
    inner.add_step("Book", same, "Wait", compensate=undone.by("Book"))
    inner.add_step("Wait", lambda value, context: context.sleep(30))
    execution = executed(outer_of(inner, timeout=0.05))
    assert execution.status is Status.FAILED
    assert undone.names == ["Book"]


def test_the_context_of_what_is_nested_knows_the_outer_failure(undone):
    seen = []
    inner = books(lambda output, context: seen.append(context))
    execution = executed(outer_of(inner))
    assert seen[0].execution_id == execution.children["Sub"].id
    assert seen[0].failure == execution.failures[0]
    assert [*seen[0]] == ["Book", "Pay"]


def test_a_nested_output_that_stayed_in_its_process_cannot_be_undone():
    inner = StepFunction("Inner").set_start_step("Book")
    inner.add_step("Book", book_with_lock, "Pay", compensate=cancel)
    inner.add_step("Pay", recover)
    error = failure_of(outer_of(inner, "process"))
    (failure,) = error.exceptions
    assert isinstance(failure, TransferError)
    assert str(failure).startswith("step 'Book' cannot be undone, for its output, <unl")


@pytest.mark.parametrize("place", [None, *PLACES])
@pytest.mark.parametrize("make", [fails_after_booking, books])
def test_failures_of_nested_compensations_are_raised_by_the_outermost(make, place):
    error = failure_of(outer_of(make(refuse), place))
    assert [str(it) for it in error.exceptions] == ["it booked stays"]
    assert str(error) == (
        "1 compensation of 'Outer' failed: step 'Book' of 'Inner': "
        "RefundError: it booked stays"
    )
    assert isinstance(error.__cause__, StepExecutionError)


@pytest.mark.parametrize("place", PLACES)
def test_failures_of_nested_compensations_are_raised_though_it_completed(place):
    outer = StepFunction("Outer").set_start_step("Fan")
    tasks = {"sub": fails_after_booking(refuse), "other": same}
    outer.add_step("Fan", tasks, parallel=True, executor=place)
    error = failure_of(outer)
    assert error.execution.status is Status.COMPLETED
    assert error.__cause__ is None
    assert len(error.exceptions) == 1
    with pytest.raises(CompensationError):
        error.execution.raise_if_failed()


def test_failures_of_nested_compensations_are_raised_though_it_was_cancelled():
    outer = StepFunction("Outer").set_start_step("Sub")
    outer.add_step("Sub", fails_after_booking(refuse), on_failure="Cancel")
    outer.add_step("Cancel", lambda value, context: outer._latest.cancel(), "Never")
    outer.add_step("Never", same)
    error = failure_of(outer)
    assert isinstance(error.__cause__, ExecutionCancelledError)


@pytest.mark.parametrize("place", [None, *PLACES])
def test_failures_of_earlier_attempts_are_raised_too(place):
    inner = fails_after_booking(refuse)
    error = failure_of(outer_of(inner, place, retry=ONCE_MORE))
    assert [str(it) for it in error.exceptions] == ["it booked stays"] * 2


def test_a_nested_step_fails_as_usual_when_a_compensation_failed():
    outer = StepFunction("Outer").set_start_step("Sub")
    on_failure = {PaymentError: "Told"}
    outer.add_step("Sub", fails_after_booking(refuse), on_failure=on_failure)
    outer.add_step("Told", recover)
    execution = failure_of(outer).execution
    assert execution.last_result == "recovered"
    assert isinstance(execution.error, StepExecutionError)


def test_a_nested_execution_raises_its_own(undone):
    error = failure_of(outer_of(fails_after_booking(refuse)))
    with pytest.raises(CompensationError, match="1 compensation of 'Inner'"):
        error.execution.children["Sub"].raise_if_failed()


def test_a_pickled_execution_remembers_what_was_undone():
    execution = failure_of(outer_of(books(refuse))).execution
    copy = pickle.loads(pickle.dumps(execution))
    assert records(copy.children["Sub"]) == [("Book", None, "FAILED")]
    with pytest.raises(CompensationError, match="step 'Book' of 'Inner'"):
        copy.raise_if_failed()


def test_an_execution_is_pickled_without_what_cannot_be():
    workflow = StepFunction("W").set_start_step("A")
    workflow.add_step("A", book_with_lock, "B", compensate=same)
    workflow.add_step("B", decline)
    (record,) = pickle.loads(pickle.dumps(executed(workflow))).compensations
    assert type(record.input) is type(record.output) is not type(threading.Lock())
    assert record.outcome is Outcome.SUCCEEDED


def test_an_inner_interrupt_in_a_thread_keeps_no_other_from_being_undone(undone):
    def stop(booking):
        raise SystemExit("enough")

    inner = StepFunction("Inner").set_start_step("A")
    inner.add_step("A", same, "B", compensate=undone.by("A"))
    inner.add_step("B", same, "C", compensate=stop).add_step("C", decline)
    outer = StepFunction("Outer").set_start_step("Fan")
    outer.add_step("Fan", {"sub": inner}, "End", parallel=True)
    execution = executed(outer.add_step("End", decline))
    assert records(execution.children["Fan", "sub"]) == [
        ("B", None, "CANCELLED"),
        ("A", None, "SUCCEEDED"),
    ]
    assert undone.names == ["A"]


# --- events -------------------------------------------------------------------------


@pytest.mark.parametrize("place", [None, *PLACES])
@pytest.mark.parametrize("make", [fails_after_booking, books])
def test_listeners_are_told_of_what_is_nested_wherever_it_ran(make, place):
    execution, events = told_by(outer_of(make(), place))
    kinds = Counter(event.kind for event in events)
    (event,) = (it for it in events if it.kind == "compensation_succeeded")
    assert (event.path, event.step, event.workflow) == (("Sub",), "Book", "Inner")
    assert event.execution_id == execution.children["Sub"].id
    assert event.root_id == execution.id
    assert kinds["execution_started"] == kinds["execution_ended"] == 2


def test_what_is_nested_as_deep_as_can_be_is_undone(undone):
    workflow, depth = books(undone.by("Book")), 400
    for _ in range(depth):
        outer = StepFunction("Outer").set_start_step("Sub")
        workflow = outer.add_step("Sub", workflow)
    executed(outer_of(workflow), "it")
    assert undone == [("Book", "it booked")]


def test_nobody_is_told_of_a_nested_execution_when_it_has_been_undone():
    execution, _ = told_by(outer_of(books()))
    assert journal_of(execution.children["Sub"]).run.audience is None


# --- of what is stopped in its task -------------------------------------------------


class Trip:
    """A nested workflow that books, and then waits to be told to stop."""

    def __init__(self, listens=True):
        self.waits, self.go_on = threading.Event(), threading.Event()
        self.undone, self.is_undone = [], threading.Event()
        self.workflow = StepFunction("Trip").set_start_step("Book")
        self.workflow.add_step("Book", same, "Wait", compensate=self.undo)
        self.workflow.add_step("Wait", self.wait if listens else self.work)

    def wait(self, value, context):
        self.waits.set()
        context.sleep(30)

    def work(self, value):
        self.waits.set()
        self.go_on.wait(30)

    def undo(self, output, context):
        thread = threading.current_thread()
        self.undone.append((output, context.failure.step, thread))
        self.is_undone.set()


def fan(trip, **options):
    outer = StepFunction("Outer").set_start_step("Fan")
    return outer.add_step("Fan", {"trip": trip.workflow}, parallel=True, **options)


@pytest.mark.parametrize("listeners", [(), [lambda event: time.sleep(0.001)]])
@pytest.mark.parametrize("tolerated", [0, 1])
@pytest.mark.parametrize("listens", [True, False])
def test_what_was_abandoned_undoes_itself_in_its_own_thread(
    listens, tolerated, listeners
):
    trip = Trip(listens)
    workflow = fan(trip, timeout=0.05, tolerated_failures=tolerated)
    execution = executed(workflow, "it", listeners=listeners)
    status = Status.COMPLETED if tolerated else Status.FAILED
    assert execution.status is status
    trip.go_on.set()
    assert trip.is_undone.wait(20)
    ((output, step, thread),) = trip.undone
    assert (output, step) == ("it", "Wait")
    assert thread is not threading.current_thread()


def test_what_was_told_to_stop_undoes_itself_once_though_that_is_tolerated():
    trip = Trip()
    outer = StepFunction("Outer").set_start_step("Fan")

    def bank(value):
        assert trip.waits.wait(30)
        decline(value)

    tasks = {"trip": trip.workflow, "bank": bank}
    outer.add_step(
        "Fan", tasks, parallel=True, stop_on_failure=True, on_failure="Recover"
    )
    outer.add_step("Recover", recover, ends="completed")
    execution = executed(outer, "it")
    assert execution.status is Status.COMPLETED
    assert len(trip.undone) == 1
    child = execution.children["Fan", "trip"]
    assert records(child) == [("Book", None, "SUCCEEDED")]


@pytest.mark.parametrize("place", ["inline", "thread"])
def test_what_took_too_long_undoes_itself_where_it_runs(place):
    trip = Trip()
    outer = StepFunction("Outer").set_start_step("Sub")
    outer.add_step("Sub", trip.workflow, timeout=0.05, on_failure="Recover")
    outer.add_step("Recover", recover, ends="completed")
    execution = executed(outer, "it", executor=None if place == "inline" else place)
    assert execution.status is Status.COMPLETED
    assert len(trip.undone) == 1


def test_nothing_is_undone_when_all_is_cancelled():
    trip = Trip()
    execution = fan(trip).start("it")
    assert trip.waits.wait(20)
    execution.cancel()
    assert execution.wait(20)
    assert execution.status is Status.CANCELLED
    assert trip.undone == []


def test_nothing_is_undone_when_all_took_too_long():
    trip = Trip()
    execution = executed(fan(trip), "it", timeout=0.1)
    assert execution.status is Status.TIMED_OUT
    assert not trip.is_undone.wait(0.05)


def test_nothing_is_undone_when_all_is_interrupted():
    trip = Trip()
    outer = StepFunction("Outer").set_start_step("Fan")

    def items(value):
        yield "it"
        assert trip.waits.wait(20)
        raise KeyboardInterrupt

    outer.add_map_step("Fan", trip.workflow, items=items)
    with pytest.raises(KeyboardInterrupt):
        outer.execute("it")
    assert outer._latest.status is Status.CANCELLED
    assert not trip.is_undone.wait(0.05)
