from __future__ import annotations

import asyncio
import threading

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
    trip,
)

from stepfunction import (
    DefinitionError,
    Execution,
    ExecutionCancelledError,
    ExecutionTimeoutError,
    FailStepError,
    Outcome,
    ParallelStepExecutionError,
    Status,
    StepExecutionError,
    StepFunction,
    StepLimitError,
)


def chain_of(*names, undone, last=decline, **options):
    workflow = StepFunction("Trip").set_start_step(names[0])
    for name, follower in zip(names, [*names[1:], "Last"]):
        give = f"{name} done".__str__
        workflow.add_step(name, give, follower, compensate=undone.by(name))
    return workflow.add_step("Last", last, **options)


# --- order, and what is given -------------------------------------------------------


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


# --- parallel steps -----------------------------------------------------------------


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


# --- how an execution ends ----------------------------------------------------------


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


# --- how it is called ---------------------------------------------------------------


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


# --- the record ---------------------------------------------------------------------


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
        history = [
            (it.step, it.task, it.outcome, it.input, it.output, it.next_step)
            for it in execution.history
        ]
        context = {step: repr(it) for step, it in execution.context.items()}
        facts = (execution.status, execution.output, repr(execution.error))
        return repr(history), context, facts, execution.last_result

    assert facts(cancel) == facts(None)


# --- events -------------------------------------------------------------------------


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


# --- what cannot be -----------------------------------------------------------------


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
