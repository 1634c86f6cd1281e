from __future__ import annotations

import asyncio
import pickle

import pytest
from shared.calls import PaymentError, decline, same
from shared.undoing import RefundError, book, failure_of, records, refuse, trip

from stepfunction import CompensationError, Status, StepExecutionError, StepFunction


def test_a_compensation_that_fails_does_not_stop_the_others():
    execution = failure_of(trip(B=refuse)).execution
    assert records(execution) == [
        ("C", None, "SUCCEEDED"),
        ("B", None, "FAILED"),
        ("A", None, "SUCCEEDED"),
    ]
    assert isinstance(execution.compensations[1].error, RefundError)


def test_failures_are_raised_together_in_their_order():
    error = failure_of(trip(A=refuse, C=refuse))
    texts = ["it booked booked booked stays", "it booked stays"]
    assert [str(it) for it in error.exceptions] == texts
    assert str(error) == (
        "2 compensations of 'Trip' failed: step 'C': RefundError: it booked booked "
        "booked stays; step 'A': RefundError: it booked stays"
    )
    assert repr(error) == f"CompensationError({str(error)!r})"


def test_each_failure_says_what_it_was_to_undo():
    error = failure_of(trip(A=refuse))
    assert error.exceptions[0].__notes__ == ["raised while step 'A' was undone"]


def test_what_execute_would_else_have_raised_is_the_cause():
    error = failure_of(trip(A=refuse))
    assert isinstance(error.__cause__, StepExecutionError)
    assert isinstance(error.__cause__.__cause__, PaymentError)
    assert error.execution is error.__cause__.execution
    assert error.execution.status is Status.FAILED


def test_it_is_raised_also_where_a_failure_step_took_the_failure():
    workflow = StepFunction("W").set_start_step("A")
    workflow.add_step("A", book, "B", compensate=refuse)
    workflow.add_step("B", decline, on_failure="C").add_step("C", same)
    error = failure_of(workflow)
    assert isinstance(error.__cause__, StepExecutionError)
    with pytest.raises(CompensationError):
        error.execution.raise_if_failed()


def test_an_execution_of_start_raises_it_when_asked():
    execution = trip(A=refuse).start("it")
    assert execution.wait(30)
    with pytest.raises(CompensationError, match="step 'A'"):
        execution.raise_if_failed()


def test_aexecute_raises_it():
    with pytest.raises(CompensationError, match="step 'A'"):
        asyncio.run(trip(A=refuse).aexecute("it"))


def test_its_parts_can_be_handled_apart():
    def misplace(booking):
        raise LookupError("lost")

    handled = []
    try:
        trip(A=refuse, C=misplace).execute("it")
    except* RefundError as group:
        handled.append(group)
    except* LookupError as group:
        handled.append(group)
    for group, expected in zip(handled, [RefundError, LookupError], strict=True):
        assert type(group) is CompensationError
        assert [type(it) for it in group.exceptions] == [expected]
        assert group.execution.status is Status.FAILED
        assert isinstance(group.__cause__, StepExecutionError)


def test_it_survives_pickling():
    error = failure_of(trip(A=refuse))
    copy = pickle.loads(pickle.dumps(error))
    assert str(copy) == str(error)
    assert not hasattr(copy, "execution")
    assert [repr(it) for it in copy.exceptions] == [repr(it) for it in error.exceptions]
    assert copy.exceptions[0].__notes__ == error.exceptions[0].__notes__


def test_an_exception_that_is_frozen_is_raised_too():
    class Frozen(Exception):
        def __setattr__(self, name, value):
            raise AttributeError("frozen")

    def undo(booking):
        raise Frozen("no")

    (failure,) = failure_of(trip(A=undo)).exceptions
    assert failure.__notes__ == ["raised while step 'A' was undone"]


INTERRUPTS = [KeyboardInterrupt, SystemExit, asyncio.CancelledError]


@pytest.mark.parametrize("interrupt", INTERRUPTS)
def test_an_interrupt_goes_on_to_the_caller_when_all_has_been_tried(interrupt, undone):
    def undo(booking):
        raise interrupt

    workflow = trip(A=undone.by("A"), B=undo, C=undone.by("C"))
    with pytest.raises(interrupt):
        workflow.execute("it")
    assert workflow.status is Status.CANCELLED
    assert undone.names == ["C", "A"]
    assert records(workflow._latest) == [
        ("C", None, "SUCCEEDED"),
        ("B", None, "CANCELLED"),
        ("A", None, "SUCCEEDED"),
    ]


def test_of_several_interrupts_the_first_goes_on():
    def undo(booking):
        raise SystemExit(3)

    def stop(booking):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        trip(A=undo, B=stop).execute("it")


class Silent(Exception):
    """Refuses whatever one adds to an exception."""

    with_traceback = None
    __notes__ = 5

    def add_note(self, note):
        raise TypeError("no notes")


def test_an_exception_that_takes_no_notes_keeps_no_other_from_being_undone(undone):
    def undo(booking):
        raise Silent("no")

    (failure,) = failure_of(trip(A=undone.by("A"), B=undo)).exceptions
    assert type(failure) is Silent
    assert undone.names == ["A"]
