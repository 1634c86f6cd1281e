from __future__ import annotations

import copy
import logging
import pickle
import re
import subprocess
import sys
import threading
from time import time

import pytest
from shared.calls import PaymentError, add_one, decline, make_lock
from shared.failures import failure_of

from stepfunction import (
    Attempt,
    Execution,
    Outcome,
    ParallelStepExecutionError,
    RetryPolicy,
    Status,
    StepExecutionError,
    StepFunction,
    StepRecord,
)

DURATION = r"[0-9.]+ (µs|ms|s)"


def describe(value):
    return str(value)


def one(func, **arguments):
    workflow = StepFunction("Shop").add_step("Pay", func, **arguments)
    return workflow.set_start_step("Pay")


def flaky(*outcomes):
    remaining = iter(outcomes)

    def trying(value):
        outcome = next(remaining)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    return trying


def facts(record):
    return {
        "step": record.step,
        "task": record.task,
        "outcome": record.outcome,
        "input": record.input,
        "output": record.output,
        "error": record.error,
        "attempts": [attempt.outcome for attempt in record.attempts],
        "next_step": record.next_step,
        "child": record.child and record.child.workflow,
    }


def succeeded(**changes):
    return {
        "step": "Pay",
        "task": None,
        "outcome": Outcome.SUCCEEDED,
        "input": 3,
        "output": 4,
        "error": None,
        "attempts": [Outcome.SUCCEEDED],
        "next_step": None,
        "child": None,
        **changes,
    }


# --- records ------------------------------------------------------------------------


@pytest.mark.parametrize("executor", [None, "inline", "thread", "process"])
def test_the_record_of_a_step_that_succeeded(executor):
    execution = one(add_one, executor=executor).execute(3)
    assert [facts(record) for record in execution.history] == [succeeded()]


async def add_one_later(value):
    return value + 1


def test_the_record_of_an_async_step():
    [record] = one(add_one_later).execute(3).history
    assert facts(record) == succeeded()


def test_the_record_of_a_step_with_a_context():
    [record] = one(lambda value, context: value + 1).execute(3).history
    assert facts(record) == succeeded()


def test_the_record_of_a_nested_workflow():
    [record] = one(one(add_one)).execute(3).history
    assert facts(record) == succeeded(child="Shop")


@pytest.mark.parametrize("executor", [None, "inline", "thread", "process"])
def test_the_record_of_a_step_that_failed(executor):
    [record] = failure_of(one(decline, executor=executor), 3).execution.history
    assert facts(record) == succeeded(
        outcome=Outcome.FAILED,
        output=None,
        error=record.error,
        attempts=[Outcome.FAILED],
    )
    assert type(record.error) is PaymentError
    assert record.attempts[0].error is record.error


@pytest.mark.parametrize("executor", [None, "inline", "thread"])
def test_each_attempt_is_in_the_record(executor):
    first, second = ConnectionError("first"), ConnectionError("second")
    retry = RetryPolicy(max_attempts=3, interval=0)
    workflow = one(flaky(first, second, 4), retry=retry, executor=executor)
    [record] = workflow.execute(3).history
    assert facts(record) == succeeded(
        attempts=[Outcome.FAILED, Outcome.FAILED, Outcome.SUCCEEDED]
    )
    assert [attempt.number for attempt in record.attempts] == [1, 2, 3]
    assert [attempt.error for attempt in record.attempts] == [first, second, None]


def test_the_attempts_of_a_step_that_failed_in_the_end():
    errors = [ConnectionError("first"), ConnectionError("second")]
    retry = RetryPolicy(max_attempts=2, interval=0)
    [record] = failure_of(one(flaky(*errors), retry=retry)).execution.history
    assert record.outcome is Outcome.FAILED
    assert record.error is errors[1]
    assert [attempt.error for attempt in record.attempts] == errors


@pytest.mark.parametrize("executor", ["inline", "thread", "process"])
def test_the_records_of_a_parallel_step_are_followed_by_those_of_its_tasks(executor):
    workflow = one(
        {"add": add_one, "fail": decline, "text": describe},
        parallel=True,
        executor=executor,
        next_step="End",
    ).add_step("End", len)
    execution = workflow.execute(3)
    error = execution.context["Pay"]["fail"]
    assert [facts(record) for record in execution.history] == [
        succeeded(
            output={"add": 4, "fail": error, "text": "3"},
            attempts=[Outcome.SUCCEEDED],
            next_step="End",
        ),
        succeeded(task="add"),
        succeeded(
            task="fail",
            outcome=Outcome.FAILED,
            output=None,
            error=error,
            attempts=[Outcome.FAILED],
        ),
        succeeded(task="text", output="3"),
        succeeded(step="End", input=execution.context["Pay"], output=3),
    ]


def test_the_records_of_a_failed_parallel_step():
    workflow = one({"add": add_one, "fail": decline}, parallel=True, on_failure="Tell")
    execution = workflow.add_step("Tell", describe).execute(3)
    step, add, fail, tell = execution.history
    assert (step.task, step.outcome, step.output) == (None, Outcome.FAILED, None)
    assert type(step.error) is ParallelStepExecutionError
    assert step.next_step == "Tell"
    assert (add.task, add.outcome, add.output) == ("add", Outcome.SUCCEEDED, 4)
    assert (fail.task, fail.outcome) == ("fail", Outcome.FAILED)
    assert fail.error is step.error.__cause__
    assert tell.input is step.error


def test_the_record_of_a_task_that_never_began():
    workflow = one(
        {"fail": decline, "late": add_one},
        parallel=True,
        stop_on_failure=True,
        executor="inline",
    )
    late = failure_of(workflow, 3).execution.history[2]
    assert facts(late) == succeeded(
        task="late", outcome=Outcome.CANCELLED, output=None, attempts=[]
    )
    assert late.started is None
    assert late.duration == 0


def test_the_history_leads_from_step_to_step():
    workflow = one(decline, on_failure="Lend", next_step="End")
    workflow.add_step("Lend", describe, branch={"no money": "Check"})
    workflow.add_step("Check", describe, next_step="End").add_step("End", describe)
    history = workflow.execute("order").history
    assert [(record.step, record.next_step) for record in history] == [
        ("Pay", "Lend"),
        ("Lend", "Check"),
        ("Check", "End"),
        ("End", None),
    ]


def test_the_input_of_a_record_is_what_the_step_was_given():
    workflow = one(decline, on_failure="Lend")
    workflow.add_step("Lend", describe, next_step="End").add_step("End", describe)
    execution = workflow.execute("order")
    assert [record.input for record in execution.history] == [
        "order",
        execution.error,
        "no money",
    ]


def test_the_failures_are_the_records_of_what_failed():
    workflow = one({"fail": decline, "add": add_one}, parallel=True, next_step="Other")
    workflow.add_step("Other", describe, next_step="Last")
    workflow.add_step("Last", decline, on_failure="Tell").add_step("Tell", describe)
    failures = workflow.execute(3).failures
    assert [(record.step, record.task) for record in failures] == [
        ("Pay", "fail"),
        ("Last", None),
    ]
    assert {type(record) for record in failures} == {StepRecord}


def test_a_failed_parallel_step_and_its_failed_tasks_are_failures():
    workflow = one({"fail": decline, "add": add_one}, parallel=True, on_failure="Tell")
    failures = workflow.add_step("Tell", describe).execute(3).failures
    assert [(record.step, record.task) for record in failures] == [
        ("Pay", None),
        ("Pay", "fail"),
    ]


def test_a_record_cannot_be_changed():
    [record] = one(add_one).execute(3).history
    with pytest.raises(AttributeError):
        record.output = 5


# --- times --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments",
    [
        {"func": add_one},
        {"func": add_one, "executor": "thread"},
        {"func": add_one, "executor": "process"},
        {"func": {"a": add_one, "b": add_one}, "parallel": True},
        {"func": one(add_one)},
    ],
    ids=["plain", "thread", "process", "parallel", "nested"],
)
def test_the_times_of_records_lie_within_those_of_the_execution(arguments):
    before = time()
    execution = one(**arguments).execute(3)
    after = time()
    slack = 0.05  # the two clocks, and clocks of two processes, are not one
    ended = execution.started + execution.duration
    assert before - slack <= execution.started <= ended <= after + slack
    for record in execution.history:
        assert execution.started - slack <= record.started
        assert 0 <= record.duration
        assert record.started + record.duration <= ended + slack
        for attempt in record.attempts:
            assert type(attempt) is Attempt
            assert record.started - slack <= attempt.started
            assert 0 <= attempt.duration <= record.duration + slack


def test_the_duration_of_a_step_is_how_long_it_took():
    pause = threading.Event()
    workflow = one(lambda: pause.wait(0.05), next_step="Quick")
    pay, quick = workflow.add_step("Quick", describe).execute().history
    assert pay.duration >= 0.05
    assert quick.started >= pay.started + 0.05


def test_the_duration_of_a_step_includes_the_pauses_between_its_attempts():
    retry = RetryPolicy(max_attempts=2, interval=0.05, jitter=None)
    [record] = one(flaky(ValueError(), 4), retry=retry).execute(3).history
    assert record.duration >= 0.05
    first, second = record.attempts
    assert second.started >= first.started + first.duration + 0.05


def test_the_duration_of_an_ended_execution_stands_still():
    execution = one(add_one).execute(3)
    assert execution.duration == execution.duration > 0


# --- ids ----------------------------------------------------------------------------


def test_ids_are_unique():
    workflow = one(add_one)
    ids = {workflow.execute(3).id for _ in range(1_000)}
    assert len(ids) == 1_000
    assert all(re.fullmatch("[0-9a-f]{32}", each) for each in ids)


# --- what a person reads ------------------------------------------------------------


def test_the_repr_of_an_execution():
    workflow = one(add_one, next_step="End").add_step("End", describe)
    assert re.fullmatch(
        rf"<Execution of 'Shop': COMPLETED after 2 steps in {DURATION}>",
        repr(workflow.execute(3)),
    )


def test_the_repr_of_an_execution_of_one_step():
    assert re.fullmatch(
        rf"<Execution of 'Shop': COMPLETED after 1 step in {DURATION}>",
        repr(one(add_one).execute(3)),
    )


@pytest.mark.parametrize("arguments", [{}, {"on_failure": "Tell"}])
def test_the_repr_of_a_failed_execution_names_the_step_and_the_error(arguments):
    workflow = one(decline, **arguments)
    if arguments:
        execution = workflow.add_step("Tell", describe).execute()
    else:
        execution = failure_of(workflow).execution
    assert re.fullmatch(
        r"<Execution of 'Shop': FAILED at 'Pay', PaymentError\('no money'\), "
        rf"after [12] steps? in {DURATION}>",
        repr(execution),
    )


@pytest.mark.parametrize(
    "arguments, text",
    [
        ({"func": add_one}, "'Pay' SUCCEEDED in #"),
        ({"func": decline}, "'Pay' FAILED in #: PaymentError('no money')"),
    ],
)
def test_the_repr_of_a_record(arguments, text):
    workflow = one(**arguments, on_failure="Tell").add_step("Tell", describe)
    record = workflow.execute(3).history[0]
    expected = re.escape(f"<StepRecord {text}>").replace(r"\#", DURATION)
    assert re.fullmatch(expected, repr(record))


def test_the_repr_of_the_record_of_a_task_with_attempts():
    retry = RetryPolicy(max_attempts=2, interval=0)
    workflow = one({"card": flaky(ValueError(), 4)}, parallel=True, retry=retry)
    record = workflow.execute(3).history[1]
    assert re.fullmatch(
        rf"<StepRecord 'Pay'\.'card' SUCCEEDED in {DURATION}, 2 attempts>", repr(record)
    )


@pytest.mark.parametrize(
    "seconds, text",
    [
        (0.0, "0 ms"),
        (0.00042, "420 µs"),
        (0.00099949, "999 µs"),
        (0.0009996, "1 ms"),
        (0.25, "250 ms"),
        (1.5, "1.5 s"),
        (42.0, "42 s"),
    ],
)
def test_a_duration_reads_well(seconds, text):
    [record] = one(add_one).execute(3).history
    assert repr(record.replace(duration=seconds)) == (
        f"<StepRecord 'Pay' SUCCEEDED in {text}>"
    )


@pytest.mark.parametrize("seconds", [0.9996, 1234.5, 86_400.0, 5e-8])
def test_a_duration_is_never_written_with_an_exponent(seconds):
    [record] = one(add_one).execute(3).history
    text = repr(record.replace(duration=seconds))
    assert re.fullmatch(rf"<StepRecord 'Pay' SUCCEEDED in {DURATION}>", text)


@pytest.mark.parametrize(
    "count, text", [(0, "0 steps"), (1, "1 step"), (2, "2 steps")]
)
def test_the_repr_of_a_builder(count, text):
    workflow = StepFunction("Shop")
    for number in range(count):
        workflow.add_step(f"Step {number}", add_one)
    assert repr(workflow) == f"<StepFunction 'Shop': {text}>"


def test_the_repr_of_an_error_is_its_class_and_its_text():
    error = failure_of(one(decline))
    assert repr(error) == (
        "StepExecutionError(\"step 'Pay' of 'Shop' failed: PaymentError: no money\")"
    )


def test_the_repr_of_a_parallel_error_is_its_class_and_its_text():
    workflow = one({"card": decline}, parallel=True, stop_on_failure=True)
    assert repr(failure_of(workflow)) == (
        "ParallelStepExecutionError(\"1 of 1 tasks of step 'Pay' failed: "
        "'card': PaymentError: no money\")"
    )


# --- pickles ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "copied",
    [copy.deepcopy, lambda execution: pickle.loads(pickle.dumps(execution))],
    ids=["deepcopy", "pickle"],
)
def test_an_execution_pickles(copied):
    workflow = one({"add": add_one, "sub": one(add_one)}, parallel=True)
    execution = workflow.execute(3)
    twin = copied(execution)
    for name in ("id", "workflow", "status", "input", "output", "started", "duration"):
        assert getattr(twin, name) == getattr(execution, name)
    assert twin.context == execution.context
    assert [facts(record) for record in twin.history] == [
        facts(record) for record in execution.history
    ]
    assert twin.children["Pay", "sub"].id == execution.children["Pay", "sub"].id
    assert twin.raise_if_failed() is twin
    assert repr(twin) == repr(execution)


def test_a_failed_execution_pickles():
    execution = one(decline, on_failure="Tell").add_step("Tell", describe).execute()
    twin = pickle.loads(pickle.dumps(execution))
    assert twin.status is Status.FAILED
    assert repr(twin.error) == "PaymentError('no money')"
    assert [record.step for record in twin.failures] == ["Pay"]
    with pytest.raises(StepExecutionError) as caught:
        twin.raise_if_failed()
    assert str(caught.value) == "step 'Pay' of 'Shop' failed: PaymentError: no money"
    assert type(caught.value.__cause__) is PaymentError


def test_an_execution_whose_failure_was_unhandled_pickles():
    execution = failure_of(one(decline)).execution
    twin = pickle.loads(pickle.dumps(execution))
    assert twin.status is Status.FAILED
    assert repr(twin.error) == "PaymentError('no money')"


def test_values_that_cannot_be_pickled_are_left_out_of_a_pickled_execution():
    workflow = one(make_lock, next_step="End").add_step("End", lambda lock: "done")
    twin = pickle.loads(pickle.dumps(workflow.execute()))
    assert twin.output == "done"
    assert [record.step for record in twin.history] == ["Pay", "End"]


def test_a_record_pickles():
    execution = one(add_one).execute(3)
    assert pickle.loads(pickle.dumps(execution.history[0])) == execution.history[0]


# --- while it runs ------------------------------------------------------------------


@pytest.fixture
def held():
    reached, go_on = threading.Event(), threading.Event()

    def wait(value):
        reached.set()
        go_on.wait(30)
        return "waited"

    workflow = one(decline, on_failure="Lend")
    workflow.add_step("Lend", lambda error: "lent", next_step="Wait")
    workflow.add_step("Wait", wait)
    execution = workflow.start("order")
    assert reached.wait(30)

    def let_go():
        go_on.set()
        execution.wait()

    yield workflow, execution, let_go
    let_go()


def test_another_thread_reads_the_builders_properties_while_it_runs(held):
    workflow, _, let_go = held
    assert workflow.status is Status.RUNNING
    assert list(workflow.context) == ["Pay", "Lend"]
    assert workflow.last_result == "lent"
    let_go()
    assert workflow.last_result == "waited"


def test_another_thread_reads_the_execution_while_it_runs(held):
    _, execution, let_go = held
    assert execution.status is Status.RUNNING
    *ended, present = execution.history
    assert [record.step for record in ended] == ["Pay", "Lend"]
    assert (present.step, present.outcome, present.output) == ("Wait", None, None)
    assert present.input == "lent" and present.duration > 0 == len(present.attempts)
    assert repr(present).startswith("<StepRecord 'Wait' under way for ")
    assert execution.context["Lend"] == execution.last_result == "lent"
    assert [record.step for record in execution.failures] == ["Pay"]
    assert execution.output is None
    assert dict(execution.children) == {}
    let_go()
    assert [record.step for record in execution.history] == ["Pay", "Lend", "Wait"]


def test_the_repr_of_an_execution_that_runs(held):
    _, execution, _ = held
    assert re.fullmatch(
        rf"<Execution of 'Shop': RUNNING after 2 steps in {DURATION}>", repr(execution)
    )


def test_the_duration_of_an_execution_that_runs_goes_on(held):
    _, execution, _ = held
    first = execution.duration
    assert execution.duration > first > 0


def test_an_execution_that_runs_pickles_as_it_stands(held):
    _, execution, _ = held
    twin = pickle.loads(pickle.dumps(execution))
    assert twin.id == execution.id
    assert [record.step for record in twin.history] == ["Pay", "Lend"]


def test_a_context_that_was_read_while_it_ran_does_not_change(held):
    _, execution, let_go = held
    context = execution.context
    let_go()
    assert list(context) == ["Pay", "Lend"]
    assert list(execution.context) == ["Pay", "Lend", "Wait"]


def test_reading_from_other_threads_does_not_disturb_a_run():
    wrong, ended, may_begin = [], threading.Event(), threading.Event()

    def count(value, context):
        may_begin.wait(30)
        if context.get("Count", 0) != value:
            wrong.append(("context", value, context.get("Count")))
        return value + 1

    workflow = StepFunction("Loop", max_steps=10_000).set_start_step("Count")
    workflow.add_step(
        "Count",
        count,
        branch=lambda value: "End" if value == 500 else "Count",
        branch_targets=["End", "Count"],
    )
    workflow.add_step("End", describe)

    def read():
        while not ended.is_set():
            history = execution.history
            seen = [it.output for it in history if it.outcome is not None]
            if seen[:500] != [*range(1, len(seen) + 1)][:500]:
                wrong.append(("history", seen))
            if execution.failures:
                wrong.append(("failures", execution.failures))
            may_begin.set()
            execution.context, execution.last_result

    execution = workflow.start(0)
    readers = [threading.Thread(target=read) for _ in range(2)]
    switching = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for reader in readers:
            reader.start()
        execution.wait()
    finally:
        sys.setswitchinterval(switching)
        ended.set()
        for reader in readers:
            reader.join()
    assert wrong == []
    assert execution.context == {"Count": 500, "End": "500"}


# --- silence ------------------------------------------------------------------------

NOISY = """
from stepfunction import RetryPolicy, StepExecutionError, StepFunction

def fail(value):
    raise ValueError("loud")

def one(func, **arguments):
    workflow = StepFunction("Shop").add_step("Pay", func, **arguments)
    return workflow.set_start_step("Pay")

retry = RetryPolicy(max_attempts=2, interval=0)
one(fail, on_failure="Tell", retry=retry).add_step("Tell", str).execute()
one({"a": fail, "b": str}, parallel=True).execute()
try:
    one(fail).execute()
except StepExecutionError:
    pass
"""


def test_the_library_prints_nothing():
    ended = subprocess.run(
        [sys.executable, "-W", "error", "-c", NOISY],
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    assert (ended.stdout, ended.stderr) == ("", "")


def test_the_logger_of_the_library_has_a_null_handler():
    handlers = logging.getLogger("stepfunction").handlers
    assert logging.NullHandler in [type(handler) for handler in handlers]


def test_an_execution_is_what_execute_returns():
    execution = one(add_one).execute(3)
    assert type(execution) is Execution
    assert (execution.workflow, execution.input, execution.output) == ("Shop", 3, 4)
