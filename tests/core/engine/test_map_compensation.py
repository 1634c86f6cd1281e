from __future__ import annotations

import threading

import pytest
from shared.calls import same
from shared.maps import tolerant

from stepfunction import (
    CompensationError,
    Status,
    StepExecutionError,
    StepFunction,
    StepFunctionError,
)

PLACES = ["inline", "thread", "process"]


def book(item):
    if item < 0:
        raise ValueError(f"no room for {item}")
    return f"room {item}"


def decline(value):
    raise ValueError("no money")


def cancel(booking):
    return f"no {booking}"


def refuse(booking):
    raise LookupError(f"where is {booking}?")


def rooms(func=book, last=decline, **options):
    workflow = StepFunction("Rooms").set_start_step("Book")
    workflow.add_map_step("Book", func, next_step="Pay", **tolerant(options))
    return workflow.add_step("Pay", last)


def booking(undo=cancel):
    inner = StepFunction("Booking").set_start_step("Reserve")
    inner.add_step("Reserve", book, "Confirm", compensate=undo)
    return inner.add_step("Confirm", same)


def executed(workflow, value):
    with pytest.raises(StepFunctionError) as caught:
        workflow.execute(value)
    return caught.value.execution


def undone(execution):
    return [(it.step, it.item, it.input, it.output) for it in execution.compensations]


@pytest.mark.parametrize("batch_size", [1, 2])
@pytest.mark.parametrize("place", PLACES)
def test_each_item_is_undone_given_its_result_the_last_first(place, batch_size):
    workflow = rooms(executor=place, batch_size=batch_size, compensate=cancel)
    assert undone(executed(workflow, [1, 2, 3])) == [
        ("Book", 2, "room 3", "no room 3"),
        ("Book", 1, "room 2", "no room 2"),
        ("Book", 0, "room 1", "no room 1"),
    ]


@pytest.mark.parametrize("batch_size", [1, 2])
def test_an_item_whose_failure_was_tolerated_is_not_undone(batch_size):
    workflow = rooms(batch_size=batch_size, compensate=cancel)
    execution = executed(workflow, [1, -2, 3])
    assert [it.item for it in execution.compensations] == [2, 0]


@pytest.mark.parametrize("batch_size", [1, 2])
def test_the_items_that_succeeded_are_undone_though_the_map_step_failed(batch_size):
    options = {"tolerated_failures": 0, "batch_size": batch_size}
    execution = executed(rooms(compensate=cancel, **options), [1, -2, 3])
    assert execution.error.step == "Book"
    assert undone(execution) == [
        ("Book", 2, "room 3", "no room 3"),
        ("Book", 0, "room 1", "no room 1"),
    ]


@pytest.mark.parametrize("batch_size", [1, 2])
def test_items_are_undone_when_there_was_an_end_to_taking_them(batch_size):
    def items(value):
        yield from [1, 2]
        raise OSError("no more can be read")

    options = {"executor": "inline", "batch_size": batch_size}
    execution = executed(rooms(items=items, compensate=cancel, **options), None)
    assert [it.item for it in execution.compensations] == [1, 0]


def test_all_items_are_undone_when_there_was_an_end_to_taking_many():
    def items(value):
        yield from range(1200)
        raise OSError("no more can be read")

    workflow = rooms(items=items, executor="inline", compensate=cancel)
    assert len(executed(workflow, None).compensations) == 1200


@pytest.mark.parametrize("place", ["inline", "thread"])
@pytest.mark.parametrize("batch_size", [1, 2])
def test_items_are_undone_when_their_nested_workflow_was_stopped(place, batch_size):
    gone, is_there = [], threading.Event()

    def until_told(item, context):
        if item == 5:
            is_there.set()
            context.sleep(20)
        return item

    def fail(value):
        assert is_there.wait(20)
        raise ValueError("no money")

    options = {"executor": place, "batch_size": batch_size, "max_workers": 1}
    inner = rooms(until_told, compensate=gone.append, **options)
    outer = StepFunction("Outer").set_start_step("Inner")
    tasks = {"inner": inner, "fail": fail}
    outer.add_step("Inner", tasks, parallel=True, stop_on_failure=True)
    executed(outer, range(8))
    assert gone == [4, 3, 2, 1, 0]


@pytest.mark.parametrize("batch_size", [1, 2])
def test_a_map_step_that_failed_has_no_output(batch_size):
    workflow = rooms(tolerated_failures=0, batch_size=batch_size, compensate=cancel)
    assert executed(workflow, [1, -2]).history[0].output is None


def test_items_are_undone_when_their_results_lead_nowhere():
    workflow = StepFunction("W").set_start_step("Book")
    branch = [(lambda results: False, "End")]
    workflow.add_map_step("Book", book, branch=branch, compensate=cancel)
    workflow.add_step("End", same)
    assert len(executed(workflow, [1, 2]).compensations) == 2


def test_nothing_is_undone_when_all_is_well():
    execution = rooms(last=same, compensate=cancel).execute([1, 2])
    assert (execution.status, execution.compensations) == (Status.COMPLETED, ())


def test_an_item_that_cannot_be_undone_does_not_stop_the_others():
    def undo(booking):
        return refuse(booking) if booking == "room 2" else cancel(booking)

    execution = executed(rooms(compensate=undo), [1, 2, 3])
    with pytest.raises(CompensationError, match="item 1 of step 'Book'"):
        execution.raise_if_failed()
    assert [it.output for it in execution.compensations] == [
        "no room 3",
        None,
        "no room 1",
    ]


@pytest.mark.parametrize("place", PLACES)
def test_the_nested_workflow_of_each_item_is_undone_by_its_steps(place):
    execution = executed(rooms(booking(), executor=place), [1, 2])
    assert execution.compensations == ()
    for index, result in enumerate(["no room 1", "no room 2"]):
        child = execution.children["Book", index]
        assert [it.output for it in child.compensations] == [result]


def test_the_nested_workflow_of_each_item_is_undone_by_what_its_step_says():
    execution = executed(rooms(booking(refuse), compensate=cancel), [1, 2])
    assert [it.output for it in execution.compensations] == ["no room 2", "no room 1"]
    assert execution.children["Book", 0].compensations == ()


def test_every_nested_workflow_is_undone_however_many_there_are():
    numbers = []
    workflow = rooms(booking(numbers.append))
    with pytest.raises(StepExecutionError):
        workflow.execute(range(1_100))
    assert numbers == [f"room {number}" for number in reversed(range(1_100))]
