from __future__ import annotations

import gc
import json
import pickle
import sys
import threading
import time
import tracemalloc
import weakref

import pytest
from shared.calls import Oops, add_one

from stepfunction import (
    DefinitionError,
    Execution,
    Outcome,
    RetryPolicy,
    Status,
    StepExecutionError,
    StepFunction,
    StepLimitError,
    TranscriptError,
)
from stepfunction.core.history.execution import journal_of

END = 20


class Payload:
    pass


def loop(
    keep_history, end=END, add=add_one, max_steps=10**9, listeners=(), **of_the_step
):
    """Give First, then Add again and again until it gives the end, then Last."""
    workflow = StepFunction(
        "Loop", max_steps=max_steps, keep_history=keep_history, listeners=listeners
    )
    workflow.add_step("First", lambda value: value, next_step="Add")
    workflow.add_step("Add", add, branch={end: "Last"}, next_step="Add", **of_the_step)
    workflow.add_step("Last", lambda value: f"came to {value}")
    return workflow.set_start_step("First")


def facts(records):
    return [
        (r.step, r.task, r.outcome, r.input, r.output, r.error, r.next_step)
        for r in records
    ]


# 22 steps: First, 20 of Add, Last.
@pytest.mark.parametrize("keeps", [1, 2, 3, 7, 10, 11, 21, 22, 23, 100])
def test_the_history_is_the_end_of_what_it_would_be(keeps):
    whole = loop(None).execute(0)
    kept = loop(keeps).execute(0)
    assert facts(kept.history) == facts(whole.history)[-keeps:]
    assert kept.forgotten == max(0, 22 - keeps)


def test_an_execution_without_it_forgets_nothing():
    execution = loop(None).execute(0)
    assert execution.forgotten == 0
    assert len(execution.history) == 22


@pytest.mark.parametrize("keeps", [1, 2, 5, 30])
def test_the_context_keeps_the_latest_visit_of_every_step(keeps):
    execution = loop(keeps).execute(0)
    assert execution.context == {"First": 0, "Add": END, "Last": "came to 20"}
    assert execution.last_result == execution.output == "came to 20"


def test_records_say_when_and_how_long_as_without_it():
    execution = loop(3).execute(0)
    first, *_ = records = execution.history
    assert execution.started < first.started
    for record, follower in zip(records, records[1:]):
        end = record.started + record.duration
        assert end == pytest.approx(follower.started, abs=1e-6)
        assert record.duration >= 0
    assert [len(record.attempts) for record in records] == [1, 1, 1]
    assert first.attempts[0].duration == pytest.approx(first.duration)


def test_the_first_record_keeps_its_attempts():
    def second_time(value, context):
        if context.attempt == 1:
            raise Oops(value)
        return value + 1

    policy = RetryPolicy(max_attempts=2, interval=0)
    execution = loop(2, add=second_time, retry=policy).execute(0)
    record = execution.history[0]
    assert [attempt.outcome for attempt in record.attempts] == ["FAILED", "SUCCEEDED"]
    assert (record.input, record.output) == (19, 20)


def test_a_step_sees_all_that_is_in_the_context():
    seen = []

    def look(value, context):
        seen.append(dict(context))
        return value + 1

    loop(1, add=look, end=4).execute(0)
    assert seen == [
        {"First": 0},
        {"First": 0, "Add": 1},
        {"First": 0, "Add": 2},
        {"First": 0, "Add": 3},
    ]


@pytest.mark.parametrize("keeps", [1, 2, 3, 100])
@pytest.mark.parametrize("max_steps", [1, 2, 5, 6, 7])
def test_the_limit_counts_the_steps_that_are_forgotten(keeps, max_steps):
    workflow = loop(keeps, max_steps=max_steps)
    with pytest.raises(StepLimitError, match=f"has run {max_steps} steps") as caught:
        workflow.execute(0)
    execution = caught.value.execution
    assert len(execution.history) + execution.forgotten == max_steps
    assert execution.status is Status.FAILED


def test_a_run_may_take_max_steps_steps():
    assert loop(3, max_steps=22).execute(0).output == "came to 20"


def test_it_goes_without_loops_too():
    workflow = StepFunction("Chain", keep_history=2).set_start_step("a")
    for name, follower in zip("abcde", [*"bcde", None]):
        workflow.add_step(name, add_one, next_step=follower)
    execution = workflow.execute(0)
    assert [record.step for record in execution.history] == ["d", "e"]
    assert execution.context == dict(zip("abcde", range(1, 6)))


def test_the_text_of_an_execution_counts_all_steps():
    assert "after 22 steps" in repr(loop(3).execute(0))


# --- failures -----------------------------------------------------------------------


@pytest.mark.parametrize(("keeps", "failed"), [(3, []), (4, [4]), (7, [3, 4])])
def test_failures_are_those_of_the_history(keeps, failed):
    def fail_at_first(value):
        if value < 5:
            raise Oops(value)
        return value

    workflow = StepFunction("Loop", max_steps=100, keep_history=keeps)
    workflow.add_step("Try", fail_at_first, next_step="End", on_failure="Count")
    workflow.add_step("Count", lambda error: error.args[0] + 1, next_step="Try")
    workflow.add_step("End", str)
    execution = workflow.set_start_step("Try").execute(0)
    assert execution.status is Status.COMPLETED
    assert [record.error.args[0] for record in execution.failures] == failed


def failing(then, keeps):
    """Give a workflow that fails, and then goes through steps of failure for long."""

    def fail(value):
        raise Oops(value)

    workflow = StepFunction("Failing", max_steps=1000, keep_history=keeps)
    workflow.add_step("Charge", fail, on_failure="Begin")
    workflow.add_step("Begin", lambda error: 0, next_step="Repeat")
    workflow.add_step("Repeat", add_one, branch={50: "End"}, next_step="Repeat")
    workflow.add_step("End", then)
    return workflow.set_start_step("Charge")


@pytest.mark.parametrize("keeps", [1, 2, 10])
def test_the_failure_that_is_handled_is_not_forgotten(keeps):
    def tell(value, context):
        return context.failure

    execution = failing(tell, keeps).execute("order")
    record = execution.output
    assert (record.step, record.input) == ("Charge", "order")
    assert record.error is execution.error
    assert execution.status is Status.FAILED
    with pytest.raises(StepExecutionError, match="step 'Charge' of 'Failing' failed"):
        execution.raise_if_failed()


def test_a_later_failure_has_the_forgotten_one_as_its_context():
    def fail(value):
        raise KeyError(value)

    with pytest.raises(StepExecutionError, match="step 'End'") as caught:
        failing(fail, 1).execute("order")
    assert isinstance(caught.value.__cause__, KeyError)
    assert isinstance(caught.value.__cause__.__context__, Oops)
    assert isinstance(caught.value.execution.error, Oops)


def test_a_failure_in_the_first_record_that_is_kept_is_whole():
    def fail(value):
        raise Oops(value)

    outer = StepFunction("Outer", keep_history=2).set_start_step("Loop")
    outer.add_step("Loop", loop(1), next_step="Fail")
    outer.add_step("Fail", fail, on_failure="Sorry")
    outer.add_step("Sorry", lambda error: "sorry")
    execution = outer.execute(0)
    (record,) = execution.failures
    assert (record.step, record.input) == ("Fail", "came to 20")
    assert record.error is execution.error
    assert [attempt.outcome for attempt in record.attempts] == ["FAILED"]


# --- what is in a step --------------------------------------------------------------


def test_the_tasks_of_a_parallel_step_belong_to_it():
    tasks = {"one": add_one, "same": lambda value: value}
    workflow = StepFunction("Loop", max_steps=1000, keep_history=2)
    workflow.add_step("Take", lambda r: r["one"], branch={END: "End"}, next_step="Fan")
    workflow.add_step("Fan", tasks, parallel=True, next_step="Take")
    workflow.add_step("End", tasks, parallel=True)
    execution = workflow.set_start_step("Fan").execute(0)
    kept = [(record.step, record.task, record.input) for record in execution.history]
    assert kept == [
        ("Take", None, {"one": END, "same": END - 1}),
        ("End", None, END),
        ("End", "one", END),
        ("End", "same", END),
    ]


@pytest.mark.parametrize("keeps", [1, 4])
def test_the_executions_of_forgotten_steps_are_freed(keeps):
    inner = StepFunction("Inner").add_step("Add", add_one).set_start_step("Add")
    alive = weakref.WeakSet()
    most = []

    def tell(event):
        if event.workflow == "Inner" and event.kind == "execution_started":
            alive.add(journal_of(event.execution))
            most.append(len(alive))

    execution = loop(keeps, add=inner, listeners=[tell]).execute(0)
    gc.collect()
    assert len(most) == END
    assert max(most) <= 2 * keeps + 2
    assert len(alive) == keeps - 1  # the last step has none
    assert set(execution.children) == ({"Add"} if keeps > 1 else set())


def test_what_forgotten_steps_gave_is_freed():
    alive = weakref.WeakSet()
    counts = []

    def make(_):
        payload = Payload()
        alive.add(payload)
        counts.append(len(alive))
        return END if len(counts) == END else payload

    loop(2, add=make).execute(0)
    assert max(counts) <= 6
    assert len(counts) == END


def test_memory_does_not_grow_with_the_steps():
    def peak(end):
        workflow = loop(10, end=end + 10**6)
        workflow.validate()
        tracemalloc.start()
        try:
            workflow.execute(10**6)
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    peak(30_000)  # fills what the interpreter keeps for its next tuples
    assert peak(20_000) < peak(2_000) + 20_000


# --- who looks ----------------------------------------------------------------------


def test_listeners_hear_of_every_step():
    heard = []
    loop(1, listeners=[heard.append]).execute(0)
    ended = [event.step for event in heard if event.kind == "step_succeeded"]
    assert ended == ["First", *["Add"] * END, "Last"]


def test_a_listener_finds_the_step_that_it_hears_of_in_the_history():
    found = []

    def tell(event):
        if event.kind == "step_succeeded":
            record = event.execution.history[-1]
            found.append((record.step == event.step, len(event.execution.history)))

    loop(3, listeners=[tell]).execute(0)
    assert found == [(True, 1), (True, 2), *[(True, 3)] * 20]


def test_failures_are_logged_once_each(caplog):
    def fail_twice(value):
        if value in (7, 8):
            raise Oops(value)
        return value + 1

    workflow = loop(1, add=fail_twice, on_failure="Skip")
    workflow.add_step("Skip", lambda error: error.args[0] + 1, next_step="Add")
    workflow.execute(0)
    errors = [record for record in caplog.records if record.levelname == "ERROR"]
    assert [record.getMessage()[-7:] for record in errors] == ["Oops: 7", "Oops: 8"]


def pausing(frame, event, argument):
    # The execution goes on between any two lines of who looks at it.
    if frame.f_globals["__name__"] == "stepfunction.core.history.execution":
        time.sleep(0.0005)
    return pausing


def test_another_thread_sees_a_whole_picture_at_any_time():
    # Tick is so rare that the history seldom has it.
    workflow = StepFunction("Loop", max_steps=10**6, keep_history=2)
    workflow.add_step("Tick", add_one, next_step="Add")
    branch = [(lambda n: n == 100_000, "End"), (lambda n: n % 10 == 0, "Tick")]
    workflow.add_step("Add", add_one, branch=branch, next_step="Add")
    workflow.add_step("End", str)
    execution = workflow.set_start_step("Tick").start(0)
    wrong = []

    def look_at_the_history():
        sys.settrace(pausing)
        while not execution.wait(0):
            inputs = [r.input for r in execution.history if r.step != "End"]
            if inputs and inputs != list(range(inputs[0], inputs[0] + len(inputs))):
                wrong.append(inputs)

    def look_at_the_context():
        sys.settrace(pausing)
        while not execution.wait(0):
            context = execution.context
            if context.get("Tick", 0) < context.get("Add", 0) - 10:
                wrong.append(context)

    looks = [look_at_the_history, look_at_the_context]
    watchers = [threading.Thread(target=look) for look in looks]
    for watcher in watchers:
        watcher.start()
    for watcher in watchers:
        watcher.join()
    execution.wait()
    assert wrong == []
    assert execution.output == "100000"


@pytest.mark.parametrize("value", [0, threading.Lock()], ids=["plain", "not to pickle"])
def test_a_pickle_has_what_the_execution_has(value):
    workflow = StepFunction("Loop", max_steps=100, keep_history=2)
    workflow.add_step("Make", lambda _: value, next_step="Zero")
    workflow.add_step("Zero", lambda _: 0, next_step="Add")
    workflow.add_step("Add", add_one, branch={5: "End"}, next_step="Add")
    workflow.add_step("End", str)
    execution = workflow.set_start_step("Make").execute()
    copy = pickle.loads(pickle.dumps(execution))
    assert facts(copy.history) == facts(execution.history)
    assert copy.forgotten == execution.forgotten == 6
    assert list(copy.context) == ["Make", "Zero", "Add", "End"]
    assert (copy.context["Zero"], copy.context["Add"]) == (0, 5)
    if value == 0:
        assert copy.context == execution.context
    else:
        assert copy.context["Make"].text == repr(value)
    assert repr(copy) == repr(execution)


def test_a_pickle_of_a_running_execution_has_what_the_execution_had():
    copies = []

    def copy(value, context):
        copies.append(pickle.loads(pickle.dumps(running[0])))
        return value + 1

    running = []
    workflow = loop(3, add=copy, listeners=[lambda e: running.append(e.execution)])
    workflow.execute(0)
    lengths = [(len(each.history), each.forgotten) for each in copies]
    assert lengths == [(1, 0), (2, 0), *((3, n) for n in range(18))]
    assert [each.context.get("Add") for each in copies] == [None, *range(1, 20)]


def counted(n):
    return n + 1


def test_a_nested_loop_in_a_process_keeps_its_end():
    inner = StepFunction("Inner", max_steps=1000, keep_history=2)
    inner.add_step("Add", counted, branch={40: "End"}, next_step="Add")
    inner.add_step("End", str).set_start_step("Add")
    outer = StepFunction("Outer").set_start_step("Sub")
    outer.add_sub_step_function("Sub", inner, executor="process")
    child = outer.execute(0).children["Sub"]
    assert [(r.step, r.input) for r in child.history] == [("Add", 39), ("End", 40)]
    assert child.forgotten == 39
    assert child.context == {"Add": 40, "End": "40"}


# --- definition ---------------------------------------------------------------------


@pytest.mark.parametrize("keeps", [0, -1, True, 1.5, "10"])
def test_what_is_no_count_is_refused(keeps):
    with pytest.raises(DefinitionError) as caught:
        StepFunction("Loop", keep_history=keeps)
    assert str(caught.value) == (
        f"StepFunction: keep_history is a whole number from 1, not {keeps!r}"
    )


def test_a_step_that_may_have_to_be_undone_is_refused():
    workflow = loop(5, compensate=print)
    with pytest.raises(DefinitionError) as caught:
        workflow.validate()
    assert caught.value.problems == (
        "step 'Add' can be undone only with its output, which keep_history forgets; "
        "leave out compensate or keep_history",
    )


def test_so_is_a_nested_workflow_with_such_a_step():
    inner = StepFunction("Inner").set_start_step("Pay")
    inner.add_step("Pay", add_one, compensate=print)
    with pytest.raises(DefinitionError, match="step 'Add' can be undone only with"):
        loop(5, add=inner).validate()
    assert loop(None, add=inner).execute(0).output == "came to 20"


def test_an_outcome_that_was_cancelled_is_kept_whole():
    running = []
    workflow = loop(
        1,
        add=lambda value: (running[0].cancel(), value + 1)[1],
        executor="thread",
        listeners=[lambda event: running.append(event.execution)],
    )
    execution = workflow.start(0)
    execution.wait()
    assert execution.status is Status.CANCELLED
    (record,) = execution.history
    assert (record.step, record.outcome) == ("Add", Outcome.SUCCEEDED)
    assert execution.forgotten == 1


def test_a_transcript_keeps_what_the_execution_remembers():
    workflow = StepFunction("Count", max_steps=50, keep_history=3)
    workflow.add_step("Begin", lambda _: 0, next_step="Add").set_start_step("Begin")
    workflow.add_step("Add", lambda n: n + 1, branch={9: "Raise"}, next_step="Add")
    workflow.add_step("Raise", lambda n: n / 0, on_failure="Sorry")
    workflow.add_step("Sorry", repr)
    execution = workflow.execute()

    copy = Execution.from_json(execution.to_json())

    assert copy.forgotten == execution.forgotten == 9
    assert [record.step for record in copy.history] == ["Add", "Raise", "Sorry"]
    assert copy.history[0].input == 8
    assert list(copy.context) == ["Begin", "Add", "Raise", "Sorry"]
    assert (copy.context["Begin"], copy.context["Add"]) == (0, 9)
    assert copy.to_dict() == execution.to_dict()


def test_a_transcript_with_a_negative_count_of_forgotten_steps_is_refused():
    workflow = StepFunction("One").add_step("A", str).set_start_step("A")
    document = workflow.execute().to_dict()
    document["execution"]["forgotten"] = -1
    with pytest.raises(TranscriptError, match="execution.forgotten of the transcript"):
        Execution.from_json(json.dumps(document))
