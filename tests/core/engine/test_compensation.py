from __future__ import annotations

import asyncio
import pickle
import threading
from collections import Counter

import pytest

from stepfunction import (
    CompensationError,
    DefinitionError,
    Execution,
    ExecutionCancelledError,
    ExecutionTimeoutError,
    FailStepError,
    Outcome,
    ParallelStepExecutionError,
    RetryPolicy,
    Status,
    StepExecutionError,
    StepFunction,
    StepFunctionError,
    StepLimitError,
    TransferError,
)

PLACES = ["inline", "thread", "process"]
ONCE_MORE = RetryPolicy(max_attempts=2, interval=0)


class PaymentError(Exception):
    pass


class RefundError(Exception):
    pass


def same(value):
    return value


def decline(value):
    raise PaymentError("no money")


def recover(value):
    return "recovered"


# What process tasks do and undo; the undoing of one that failed there is in its record.
def book(value):
    return f"{value} booked"


def cancel(booking):
    return f"{booking}, cancelled"


def refuse(booking):
    raise RefundError(f"{booking} stays")


def book_with_lock(value):
    return threading.Lock()


def fails_after_booking(undo=cancel):
    inner = StepFunction("Inner").set_start_step("Book")
    inner.add_step("Book", book, "Pay", compensate=undo)
    return inner.add_step("Pay", decline)


def books(undo=cancel):
    inner = StepFunction("Inner").set_start_step("Book")
    inner.add_step("Book", book, "Pay", compensate=undo)
    return inner.add_step("Pay", same)


class Undone(list):
    def by(self, name):
        def undo(output):
            self.append((name, output))

        return undo

    @property
    def names(self):
        return [name for name, _ in self]


@pytest.fixture
def undone():
    return Undone()


def chain_of(*names, undone, last=decline, **options):
    workflow = StepFunction("Trip").set_start_step(names[0])
    for name, follower in zip(names, [*names[1:], "Last"]):
        give = f"{name} done".__str__
        workflow.add_step(name, give, follower, compensate=undone.by(name))
    return workflow.add_step("Last", last, **options)


def executed(workflow, value=None, **options):
    try:
        return workflow.execute(value, **options)
    except StepFunctionError as error:
        assert error.execution is not None
        return error.execution


def records(execution):
    return [(it.step, it.task, str(it.outcome)) for it in execution.compensations]


# --- order, and what is given ---------------------------------------------------------


def test_steps_are_undone_in_reverse_order_each_given_its_output(undone):
    with pytest.raises(StepExecutionError, match="no money"):
        chain_of("A", "B", "C", undone=undone).execute()
    assert undone == [("C", "C done"), ("B", "B done"), ("A", "A done")]


def test_nothing_is_undone_when_the_execution_completes(undone):
    execution = chain_of("A", "B", undone=undone, last=same).execute()
    assert execution.status is Status.COMPLETED
    assert (undone, execution.compensations) == ([], ())


def test_the_step_that_failed_is_not_undone(undone):
    workflow = StepFunction("W").set_start_step("A")
    workflow.add_step("A", decline, compensate=undone.by("A"))
    assert executed(workflow).compensations == () == tuple(undone)


def test_a_step_that_a_branch_left_out_is_not_undone(undone):
    workflow = StepFunction("W").set_start_step("A")
    workflow.add_step("A", same, branch={"b": "B", "c": "C"}, compensate=undone.by("A"))
    workflow.add_step("B", same, "End", compensate=undone.by("B"))
    workflow.add_step("C", same, "End", compensate=undone.by("C"))
    workflow.add_step("End", decline)
    executed(workflow, "c")
    assert undone.names == ["C", "A"]


def test_every_visit_of_a_loop_is_undone_the_latest_first(undone):
    workflow = StepFunction("W", max_steps=10).set_start_step("Add")
    branch = [(lambda value: value < 3, "Add")]
    workflow.add_step(
        "Add", lambda v: v + 1, "End", branch=branch, compensate=undone.by("Add")
    )
    workflow.add_step("End", decline)
    executed(workflow, 0)
    assert undone == [("Add", 3), ("Add", 2), ("Add", 1)]


def test_a_step_whose_result_leads_nowhere_is_undone_given_that_result(undone):
    workflow = StepFunction("W").set_start_step("A")
    workflow.add_step("A", same, branch={"b": "B"}, compensate=undone.by("A"))
    workflow.add_step("B", same)
    executed(workflow, "x")
    assert undone == [("A", "x")]


def test_a_step_that_succeeded_when_tried_again_is_undone(undone):
    failures = iter([PaymentError(), None])

    def flaky(value):
        failure = next(failures)
        if failure:
            raise failure
        return "at last"

    workflow = StepFunction("W").set_start_step("A")
    workflow.add_step("A", flaky, "B", retry=ONCE_MORE, compensate=undone.by("A"))
    workflow.add_step("B", decline)
    executed(workflow)
    assert undone == [("A", "at last")]


# --- parallel steps -------------------------------------------------------------------


def in_turn(*names):
    """Give tasks that end in the order of their names, whatever threads do."""
    ended = [threading.Event() for _ in range(len(names) + 1)]
    ended[0].set()

    def task(number, name):
        def work(value):
            assert ended[number].wait(30)
            threading.Timer(0.01, ended[number + 1].set).start()
            return f"{name} done"

        return work

    return {name: task(number, name) for number, name in enumerate(names)}


def test_tasks_are_undone_in_the_reverse_order_in_which_they_ended(undone):
    tasks = in_turn("c", "a", "b")
    workflow = StepFunction("W").set_start_step("Fan")
    workflow.add_step(
        "Fan",
        {name: tasks[name] for name in "abc"},
        "End",
        parallel=True,
        compensate={name: undone.by(name) for name in "abc"},
    )
    workflow.add_step("End", decline)
    execution = executed(workflow)
    assert undone == [("b", "b done"), ("a", "a done"), ("c", "c done")]
    assert records(execution) == [("Fan", name, "SUCCEEDED") for name in "bac"]


@pytest.mark.parametrize("place", PLACES)
def test_tasks_that_succeeded_are_undone_though_the_parallel_step_failed(place):
    workflow = StepFunction("W").set_start_step("Fan")
    workflow.add_step(
        "Fan",
        {"hotel": book, "bank": decline, "car": book},
        parallel=True,
        tolerated_failures=0,
        executor=place,
        compensate={"hotel": cancel, "bank": cancel},
    )
    execution = executed(workflow, "it")
    assert execution.status is Status.FAILED
    (record,) = execution.compensations
    assert (record.step, record.task) == ("Fan", "hotel")
    assert (record.input, record.output) == ("it booked", "it booked, cancelled")


def test_one_callable_undoes_a_parallel_step_as_a_whole(undone):
    workflow = StepFunction("W").set_start_step("Fan")
    workflow.add_step(
        "Fan", {"a": same, "b": str}, "End", parallel=True, compensate=undone.by("Fan")
    )
    workflow.add_step("End", decline)
    executed(workflow, 1)
    assert undone == [("Fan", {"a": 1, "b": "1"})]


def test_one_callable_leaves_a_parallel_step_alone_that_failed(undone):
    workflow = StepFunction("W").set_start_step("Fan")
    workflow.add_step(
        "Fan",
        {"a": same, "b": decline},
        parallel=True,
        stop_on_failure=True,
        compensate=undone.by("Fan"),
    )
    assert executed(workflow).status is Status.FAILED
    assert undone == []


def test_a_tolerated_failure_is_not_undone(undone):
    workflow = StepFunction("W").set_start_step("Fan")
    compensate = {"a": undone.by("a"), "b": undone.by("b")}
    workflow.add_step(
        "Fan", {"a": same, "b": decline}, "End", parallel=True, compensate=compensate
    )
    workflow.add_step("End", decline)
    executed(workflow, 1)
    assert undone == [("a", 1)]


# --- how an execution ends ------------------------------------------------------------


def failed_by_an_unhandled_failure(undo):
    return booked_before("Last", undo).add_step("Last", decline)


def failed_by_a_failure_step(undo):
    workflow = booked_before("Last", undo).add_step("Last", decline, on_failure="Tell")
    return workflow.add_step("Tell", same)


def failed_by_a_fail_step(undo):
    return booked_before("Stop", undo).add_fail_step("Stop", "NoRooms", "all full")


def failed_by_its_end(undo):
    return booked_before("Last", undo).add_step("Last", same, ends="failed")


def failed_by_too_many_steps(undo):
    return booked_before("Last", undo, max_steps=2).add_step("Last", same, "A")


def booked_before(follower, undo, **options):
    workflow = StepFunction("W", **options).set_start_step("A")
    return workflow.add_step("A", book, follower, compensate=undo)


@pytest.mark.parametrize(
    ("make", "step", "error"),
    [
        (failed_by_an_unhandled_failure, "Last", PaymentError),
        (failed_by_a_failure_step, "Last", PaymentError),
        (failed_by_a_fail_step, "Stop", FailStepError),
        (failed_by_its_end, "Last", StepExecutionError),
        (failed_by_too_many_steps, "A", StepLimitError),
    ],
)
def test_an_execution_that_failed_is_undone_and_told_why(make, step, error):
    contexts = []
    execution = executed(make(lambda booking, context: contexts.append(context)))
    assert execution.status is Status.FAILED
    (context,) = contexts
    assert context.failure.step == step
    assert context.failure.error is execution.error
    assert type(execution.error) is error


def test_a_failure_step_that_succeeded_is_undone_too(undone):
    workflow = chain_of("A", undone=undone, on_failure="Tell")
    workflow.add_step("Tell", same, compensate=undone.by("Tell"))
    executed(workflow)
    assert undone.names == ["Tell", "A"]


def test_a_failure_step_runs_before_anything_is_undone(undone):
    workflow = chain_of("A", undone=undone, on_failure="Tell")
    workflow.add_step("Tell", lambda error: undone.append(("Tell", None)))
    executed(workflow)
    assert undone.names == ["Tell", "A"]


def test_a_failure_that_was_recovered_from_undoes_nothing(undone):
    workflow = chain_of("A", undone=undone, on_failure="Tell")
    workflow.add_step("Tell", recover, ends="completed")
    assert workflow.execute().status is Status.COMPLETED
    assert undone == []


def test_a_cancelled_execution_is_not_undone(undone):
    workflow = chain_of("A", undone=undone, last=lambda _: workflow._latest.cancel())
    with pytest.raises(ExecutionCancelledError):
        workflow.execute()
    assert undone == []


def test_an_execution_that_took_too_long_is_not_undone(undone):
    workflow = StepFunction("W").set_start_step("A")
    workflow.add_step("A", same, "B", compensate=undone.by("A"))
    workflow.add_step("B", lambda value, context: context.sleep(30))
    with pytest.raises(ExecutionTimeoutError):
        workflow.execute(timeout=0.05)
    assert undone == []


def test_check_makes_no_difference_to_what_is_undone(undone):
    workflow = chain_of("A", undone=undone, on_failure="Tell").add_step("Tell", same)
    with pytest.raises(StepExecutionError, match="step 'Last'"):
        workflow.execute(check=True)
    assert undone.names == ["A"]


def test_what_is_asked_to_stop_while_it_is_undone_is_undone_to_its_end(undone):
    def undo(output, context):
        workflow._latest.cancel()
        context.sleep(0)
        undone.append((context.step, context.cancelled))

    workflow = trip(A=undo, B=undo)
    with pytest.raises(StepExecutionError):
        workflow.execute("it")
    assert workflow.status is Status.FAILED
    assert undone == [("B", False), ("A", False)]


# --- how it is called -----------------------------------------------------------------


def test_it_is_called_by_its_signature(undone):
    def without():
        undone.append(("without", None))

    def by_keyword(*, context):
        undone.append(("keyword", context["A"]))

    async def waiting(output):
        await asyncio.sleep(0)
        undone.append(("async", output))

    workflow = StepFunction("W").set_start_step("A")
    workflow.add_step("A", same, "B", compensate=without)
    workflow.add_step("B", same, "C", compensate=by_keyword)
    workflow.add_step("C", same, "D", compensate=waiting)
    workflow.add_step("D", decline)
    executed(workflow, 7)
    assert undone == [("async", 7), ("keyword", 7), ("without", None)]


def test_its_context_says_whose_it_is_and_why(undone):
    seen = {}

    def undo(output, context):
        seen[context.step, context.task] = context

    workflow = StepFunction("W").set_start_step("A")
    workflow.add_step("A", {"t": same}, "B", parallel=True, compensate={"t": undo})
    workflow.add_step("B", same, "C", compensate=undo)
    workflow.add_step("C", decline)
    execution = executed(workflow, 1)
    assert [*seen] == [("B", None), ("A", "t")]
    for context in seen.values():
        assert context.execution_id == execution.id
        assert context.failure == execution.failures[0]
        assert context.attempt == 1
        assert isinstance(context["C"], PaymentError)


@pytest.mark.parametrize("place", ["thread", "process"])
def test_it_is_called_by_the_thread_that_runs_the_workflow(place):
    threads = []
    workflow = StepFunction("W").set_start_step("A")
    undo = lambda output: threads.append(threading.get_ident())  # noqa: E731
    workflow.add_step("A", book, "B", executor=place, compensate=undo)
    workflow.add_step("B", decline, executor=place)
    executed(workflow, "it")
    assert threads == [threading.get_ident()]


def test_the_execution_still_runs_while_it_is_undone():
    seen = []
    workflow = StepFunction("W").set_start_step("A")
    workflow.add_step("A", same, "B", compensate=lambda _: seen.append(workflow.status))
    workflow.add_step("B", decline)
    executed(workflow)
    assert (seen, workflow.status) == ([Status.RUNNING], Status.FAILED)


# --- the record -----------------------------------------------------------------------


def test_the_record_says_what_was_undone(undone):
    workflow = StepFunction("W").set_start_step("A")
    workflow.add_step("A", book, "B", compensate=cancel)
    workflow.add_step("B", decline)
    execution = executed(workflow, "it")
    (record,) = execution.compensations
    assert (record.step, record.task, record.outcome) == ("A", None, Outcome.SUCCEEDED)
    assert (record.input, record.output) == ("it booked", "it booked, cancelled")
    assert record.error is None
    assert [attempt.number for attempt in record.attempts] == [1]
    failed = execution.history[-1]
    assert failed.started + failed.duration <= record.started
    assert record.started + record.duration <= execution.started + execution.duration


def test_all_else_stays_as_it_is_without_compensations(undone):
    def facts(undo):
        workflow = StepFunction("W").set_start_step("A")
        workflow.add_step("A", book, "B", compensate=undo)
        workflow.add_step("B", decline, on_failure="C").add_step("C", repr)
        execution = executed(workflow, "it")
        history = [it[:5] + (it.next_step,) for it in execution.history]
        context = {step: repr(it) for step, it in execution.context.items()}
        facts = (execution.status, execution.output, repr(execution.error))
        return repr(history), context, facts, execution.last_result

    assert facts(cancel) == facts(None)


# --- failures -------------------------------------------------------------------------


def trip(**undos):
    workflow = StepFunction("Trip").set_start_step("A")
    for step, follower in ("AB", "BC", "CD"):
        workflow.add_step(step, book, follower, compensate=undos.get(step, cancel))
    return workflow.add_step("D", decline)


def failure_of(workflow, value="it", **options):
    with pytest.raises(CompensationError) as caught:
        workflow.execute(value, **options)
    return caught.value


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
    assert (str(copy), copy.execution) == (str(error), None)
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


@pytest.mark.parametrize("interrupt", [KeyboardInterrupt, SystemExit])
def test_an_interrupt_goes_on_to_the_caller(interrupt, undone):
    def undo(booking):
        raise interrupt

    workflow = trip(A=undone.by("A"), B=undo, C=undone.by("C"))
    with pytest.raises(interrupt):
        workflow.execute("it")
    assert workflow.status is Status.CANCELLED
    assert undone.names == ["C"]
    assert records(workflow._latest) == [
        ("C", None, "SUCCEEDED"),
        ("B", None, "CANCELLED"),
    ]


# --- nested workflows -----------------------------------------------------------------


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


def test_an_inner_interrupt_in_a_thread_leaves_the_rest_as_it_is(undone):
    def stop(booking):
        raise SystemExit("enough")

    inner = StepFunction("Inner").set_start_step("A")
    inner.add_step("A", same, "B", compensate=undone.by("A"))
    inner.add_step("B", same, "C", compensate=stop).add_step("C", decline)
    outer = StepFunction("Outer").set_start_step("Fan")
    outer.add_step("Fan", {"sub": inner}, "End", parallel=True)
    execution = executed(outer.add_step("End", decline))
    assert records(execution.children["Fan", "sub"]) == [("B", None, "CANCELLED")]
    assert undone == []


# --- events ---------------------------------------------------------------------------


def told_by(workflow, value="it", **options):
    events, threads = [], set()

    def listen(event):
        events.append(event)
        threads.add(threading.get_ident())

    execution = executed(workflow, value, listeners=[listen], **options)
    assert threads == {threading.get_ident()}
    return execution, events


def test_listeners_are_told_after_the_last_step_and_before_the_end():
    execution, events = told_by(trip(B=refuse))
    told = [(event.kind, event.step) for event in events]
    assert told[-5:] == [
        ("step_failed", "D"),
        ("compensation_succeeded", "C"),
        ("compensation_failed", "B"),
        ("compensation_succeeded", "A"),
        ("execution_ended", None),
    ]
    failed = events[-3]
    record = execution.compensations[1]
    assert failed.error is record.error is not None
    assert (failed.duration, failed.outcome) == (record.duration, Outcome.FAILED)
    assert failed.attempts == record.attempts
    assert failed.time == record.started + record.duration


def test_listeners_are_told_of_tasks():
    workflow = StepFunction("W").set_start_step("Fan")
    workflow.add_step(
        "Fan", {"t": book}, "End", parallel=True, compensate={"t": cancel}
    )
    workflow.add_step("End", decline)
    event = told_by(workflow)[1][-2]
    assert (event.kind, event.step, event.task) == (
        "compensation_succeeded",
        "Fan",
        "t",
    )


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
    assert execution.children["Sub"]._audience is None


# --- what cannot be -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("compensate", "problem"),
    [
        (3, "compensate is 3, which cannot be called"),
        ("Undo", "compensate is 'Undo', which cannot be called; give the function its"),
        (lambda a, b: a, "also requires 'b'; bind it with functools.partial, or"),
        ({"a": same}, "compensate is a mapping of task to what undoes it, which goes"),
    ],
)
def test_what_cannot_undo_a_step_is_refused(compensate, problem):
    with pytest.raises(DefinitionError, match=problem):
        StepFunction("W").add_step("A", same, compensate=compensate)


@pytest.mark.parametrize(
    ("compensate", "problem"),
    [
        ({"paymnt": same}, r"'paymnt', which is no task \(did you mean 'payment'\?\)"),
        ({}, "compensate is empty"),
        ({"payment": 3}, r"compensate\['payment'\] is 3, which cannot be called"),
    ],
)
def test_what_cannot_undo_tasks_is_refused(compensate, problem):
    workflow = StepFunction("W")
    with pytest.raises(DefinitionError, match=problem):
        workflow.add_step("A", {"payment": same}, parallel=True, compensate=compensate)


def test_tasks_whose_names_are_no_texts_are_no_hint_to_what_undoes_one():
    tasks, undo = {1: same, "payment": same}, {"paymnt": same}
    with pytest.raises(DefinitionError) as caught:
        StepFunction("W").add_step("A", tasks, parallel=True, compensate=undo)
    assert caught.value.problems == (
        "the name of a task is a text, not 1",
        "compensate names 'paymnt', which is no task (did you mean 'payment'?)",
    )


def test_items_whose_results_are_not_kept_cannot_be_undone():
    with pytest.raises(DefinitionError, match="keep_results=False does not keep"):
        StepFunction("W").add_map_step("A", same, keep_results=False, compensate=same)


def test_a_graph_knows_whether_there_is_anything_to_undo():
    nested = StepFunction("Outer").set_start_step("A").add_step("A", books())
    plain = StepFunction("Plain").set_start_step("A").add_step("A", same)
    assert nested.compile().has_compensations
    assert not plain.compile().has_compensations


def test_an_execution_that_did_not_fail_is_returned():
    assert isinstance(books().execute("it").raise_if_failed(), Execution)


def test_all_that_failed_in_parallel_is_the_cause():
    workflow = StepFunction("W").set_start_step("Fan")
    workflow.add_step(
        "Fan",
        {"a": book, "b": decline},
        parallel=True,
        stop_on_failure=True,
        executor="inline",
        compensate={"a": refuse},
    )
    error = failure_of(workflow)
    assert isinstance(error.__cause__, ParallelStepExecutionError)
    (note,) = error.exceptions[0].__notes__
    assert note == "raised while task 'a' of step 'Fan' was undone"
