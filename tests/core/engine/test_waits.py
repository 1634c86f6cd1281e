from __future__ import annotations

import signal
import threading
import time
from datetime import date, datetime, timedelta, timezone
from fractions import Fraction
from functools import partial

import pytest

from stepfunction import (
    DefinitionError,
    ExecutionCancelledError,
    ExecutionTimeoutError,
    Outcome,
    Status,
    StepExecutionError,
    StepFunction,
)

LONG = 600  # no test waits for that
SHORT = 0.05
UTC = timezone.utc

ACTIONS = "stepfunction.core.definition.actions"


def in_seconds(seconds):
    return datetime.now(UTC) + timedelta(seconds=seconds)


def napping(seconds=None, until=None, listeners=(), **more):
    workflow = StepFunction("Nap", listeners=listeners)
    options = {"seconds": seconds, "until": until, "next_step": "Wake", **more}
    workflow.add_wait_step("Wait", **options)
    workflow.add_step("Wake", lambda value: value)
    return workflow.set_start_step("Wait")


def waited(execution):
    (record,) = (r for r in execution.history if r.step == "Wait")
    return record.duration


def problems(**arguments):
    with pytest.raises(DefinitionError) as caught:
        StepFunction("Nap").add_wait_step("Wait", **arguments)
    return caught.value.problems


# --- how long -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "seconds",
    [SHORT, lambda value: SHORT, Fraction(1, 20), lambda value: Fraction(1, 20)],
)
def test_it_waits_so_many_seconds(seconds):
    execution = napping(seconds).execute()
    assert SHORT <= waited(execution) < LONG


@pytest.mark.parametrize(
    "until", [lambda: in_seconds(SHORT), lambda: lambda value: in_seconds(SHORT)]
)
def test_it_waits_until_a_moment(until):
    before = datetime.now(UTC)
    execution = napping(until=until()).execute()
    assert datetime.now(UTC) - before >= timedelta(seconds=SHORT)
    assert execution.status is Status.COMPLETED


def test_a_moment_may_be_of_any_zone():
    tokyo = timezone(timedelta(hours=9))
    moment = in_seconds(SHORT).astimezone(tokyo)
    assert SHORT / 2 < waited(napping(until=moment).execute()) < LONG


@pytest.mark.parametrize("seconds", [0, 0.0, lambda value: 0])
def test_it_may_wait_for_nothing(seconds):
    assert waited(napping(seconds).execute()) < LONG


@pytest.mark.parametrize(
    "moment", [in_seconds(-LONG), datetime.min.replace(tzinfo=UTC)]
)
def test_what_has_passed_is_not_waited_for(moment):
    assert waited(napping(until=moment).execute()) < LONG


def test_it_passes_its_input_on_as_it_is():
    value = object()
    execution = napping(seconds=0).execute(value)
    assert execution.output is value
    assert execution.context["Wait"] is value


def test_a_callable_is_given_the_input():
    given = []
    napping(lambda value: given.append(value) or 0).execute("order")
    napping(until=lambda value: given.append(value) or in_seconds(-1)).execute("order")
    assert given == ["order", "order"]


def test_the_record_has_one_attempt_that_took_so_long():
    record = napping(SHORT).execute("order").history[0]
    assert record.outcome is Outcome.SUCCEEDED
    assert (record.input, record.output) == ("order", "order")
    (attempt,) = record.attempts
    assert attempt.duration == record.duration >= SHORT


def test_what_is_longer_than_a_thread_can_wait_is_waited_for(monkeypatch):
    monkeypatch.setattr(threading, "TIMEOUT_MAX", SHORT / 4)
    assert waited(napping(SHORT).execute()) >= SHORT


def test_a_moment_is_waited_for_though_the_clock_goes_wrong(monkeypatch):
    monkeypatch.setattr(f"{ACTIONS}._LONGEST_TRUST", SHORT / 4)
    asked = []

    def seconds_until(moment):
        asked.append(moment)
        return 100 if len(asked) == 1 else max(0, 3 - len(asked))

    monkeypatch.setattr(f"{ACTIONS}.seconds_until", seconds_until)
    napping(until=in_seconds(0)).execute()
    assert len(asked) == 3


@pytest.mark.parametrize("executor", ["inline", "thread"])
def test_it_waits_in_the_calling_thread_whatever_the_executor(executor):
    threads = []
    workflow = napping(lambda value: threads.append(threading.current_thread()) or 0)
    workflow.execute(executor=executor)
    assert threads == [threading.current_thread()]


def test_it_may_end_the_workflow():
    workflow = StepFunction("Nap").set_start_step("Wait")
    workflow.add_wait_step("Wait", seconds=0, ends="failed")
    assert workflow.execute().status is Status.FAILED


def test_it_may_stand_in_a_loop():
    pauses = []
    workflow = StepFunction("Poll", max_steps=100).set_start_step("Ask")
    workflow.add_step("Ask", lambda n: n + 1, branch={4: "End"}, next_step="Wait")
    seconds = lambda n: pauses.append(n) or 0  # noqa: E731
    workflow.add_wait_step("Wait", seconds=seconds, next_step="Ask")
    workflow.add_step("End", str)
    assert workflow.execute(0).output == "4"
    assert pauses == [1, 2, 3]


# --- what is wrong ------------------------------------------------------------------

NUMBER = "seconds is a number from 0, not "
AWARE = "until is a datetime with a time zone, not "
NAIVE = datetime(2030, 1, 1)
NO_ZONE = (
    "until is datetime.datetime(2030, 1, 1, 0, 0), which has no time zone; give it "
    "one, as in datetime(…, tzinfo=timezone.utc), or until.astimezone() for local time"
)
NO_SECONDS = [
    (-1, NUMBER + "-1"),
    (-0.5, NUMBER + "-0.5"),
    (True, NUMBER + "True"),
    (float("nan"), NUMBER + "nan"),
    (float("inf"), NUMBER + "inf"),
    (10**400, NUMBER + "100000000000000000...0000000000000000000"),
    ("5", NUMBER + "'5'"),
    ([5], NUMBER + "[5]"),
]
NO_MOMENT = [
    (NAIVE, NO_ZONE),
    (date(2030, 1, 1), AWARE + "datetime.date(2030, 1, 1)"),
    (17, AWARE + "17"),
    ("2030-01-01T00:00:00Z", AWARE + "'2030-01-01T00:00:00Z'"),
]


@pytest.mark.parametrize(("seconds", "problem"), NO_SECONDS)
def test_what_cannot_be_waited_for_is_refused(seconds, problem):
    assert problems(seconds=seconds) == (problem,)


@pytest.mark.parametrize(("until", "problem"), NO_MOMENT)
def test_what_is_no_moment_is_refused(until, problem):
    assert problems(until=until) == (problem,)


@pytest.mark.parametrize("given", [(1,), (1, None, "Ask"), ("Ask",)])
def test_all_that_a_wait_step_is_given_after_its_name_goes_by_name(given):
    with pytest.raises(TypeError, match="positional"):
        StepFunction("W").add_wait_step("Wait", *given)


@pytest.mark.parametrize(("seconds", "problem"), [*NO_SECONDS, (None, NUMBER + "None")])
def test_a_callable_that_gives_no_seconds_fails_the_step(seconds, problem):
    with pytest.raises(StepExecutionError) as caught:
        napping(lambda value: seconds).execute()
    assert isinstance(caught.value.__cause__, ValueError)
    assert str(caught.value.__cause__) == f"step 'Wait' cannot wait: {problem}"


@pytest.mark.parametrize(("until", "problem"), [*NO_MOMENT, (None, AWARE + "None")])
def test_a_callable_that_gives_no_moment_fails_the_step(until, problem):
    with pytest.raises(StepExecutionError) as caught:
        napping(until=lambda value: until).execute()
    assert str(caught.value.__cause__) == f"step 'Wait' cannot wait: {problem}"


def raise_key_error(value):
    raise KeyError("no pause")


@pytest.mark.parametrize(
    ("callee", "error_class"),
    [(raise_key_error, KeyError), (lambda value: "soon", ValueError)],
)
def test_on_failure_takes_what_a_callable_does_wrong(callee, error_class):
    workflow = napping(callee, on_failure={error_class: "Sorry"})
    workflow.add_step("Sorry", lambda error, context: context.failure.input)
    assert workflow.execute("order").output == "order"


@pytest.mark.parametrize("both", [{}, {"seconds": 1, "until": in_seconds(1)}])
def test_it_waits_for_one_thing(both):
    assert problems(**both) == ("give seconds, or until; one of the two",)


async def later(value):
    return 1


def each(value):
    yield 1


def two(value, more):
    return 1


def none():
    return 1


LATE = "is async or a generator, which gives no answer when called"


@pytest.mark.parametrize("what", ["seconds", "until"])
@pytest.mark.parametrize(
    ("callee", "problem"),
    [
        (later, f"later, which {LATE}"),
        (each, f"each, which {LATE}"),
        (partial(later), f"later, which {LATE}"),
        (two, "two, which cannot be called with one value: missing a required "),
        (none, "none, which cannot be called with one value: too many positional "),
    ],
)
def test_a_callable_takes_the_input_and_answers_at_once(what, callee, problem):
    (found,) = problems(**{what: callee})
    assert found.startswith(f"{what} is {problem}")


def test_a_callable_that_answers_with_a_coroutine_fails_the_step():
    with pytest.raises(StepExecutionError) as caught:
        napping(lambda value: later(value)).execute()
    assert str(caught.value.__cause__).endswith(
        "returned a coroutine, which nothing awaits here; return the answer itself"
    )


# --- to stop ------------------------------------------------------------------------


class Began:
    """Says when an execution has come to its wait step, and which it is."""

    def __init__(self):
        self.event = threading.Event()
        self.execution = None

    def __call__(self, event):
        if event.kind == "step_started" and event.step == "Wait":
            self.execution = event.execution
            self.event.set()


WAITS = [
    {"seconds": LONG},
    {"seconds": 1e300},
    {"seconds": lambda value: LONG},
    {"until": in_seconds(LONG)},
    {"until": datetime.max.replace(tzinfo=UTC)},
]
WAIT_IDS = ["seconds", "for ever", "callable", "until", "the end of time"]


@pytest.mark.parametrize("wait", WAITS, ids=WAIT_IDS)
def test_cancel_ends_it_at_once(wait):
    began = Began()
    execution = napping(**wait, listeners=[began]).start()
    assert began.event.wait(LONG)
    execution.cancel()
    execution.wait()
    assert execution.status is Status.CANCELLED
    (record,) = execution.history
    assert (record.step, record.outcome) == ("Wait", Outcome.CANCELLED)


@pytest.mark.parametrize("wait", WAITS, ids=WAIT_IDS)
def test_a_deadline_ends_it(wait):
    with pytest.raises(ExecutionTimeoutError) as caught:
        napping(**wait).execute(timeout=SHORT)
    assert caught.value.execution.status is Status.TIMED_OUT
    assert "Wake" not in caught.value.execution.context


def test_stopping_is_no_failure_of_the_step():
    workflow = napping(LONG, on_failure="Sorry").add_step("Sorry", print)
    with pytest.raises(ExecutionTimeoutError) as caught:
        workflow.execute(timeout=SHORT)
    assert caught.value.execution.failures == ()


def test_ctrl_c_ends_it():
    began = Began()
    workflow = napping(LONG, listeners=[began])

    def interrupt():
        began.event.wait(LONG)
        time.sleep(SHORT)  # in the wait itself, if the machine is quick
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        workflow.execute()
    thread.join()
    assert began.execution.status is Status.CANCELLED


@pytest.mark.parametrize("executor", [None, "inline", "thread"])
def test_cancel_ends_the_wait_of_a_nested_workflow(executor):
    began = Began()
    outer = StepFunction("Outer", listeners=[began]).set_start_step("Sub")
    outer.add_sub_step_function("Sub", napping(LONG), executor=executor)
    execution = outer.start()
    assert began.event.wait(LONG)
    execution.cancel()
    execution.wait()
    assert execution.status is Status.CANCELLED


def test_the_timeout_of_a_nested_workflow_ends_its_wait():
    outer = StepFunction("Outer").set_start_step("Sub")
    outer.add_sub_step_function("Sub", napping(LONG), timeout=SHORT)
    with pytest.raises(StepExecutionError, match="took longer than 0.05 s"):
        outer.execute()


def test_a_failed_task_ends_the_wait_of_its_sibling():
    began = Began()

    def fail(value):
        began.event.wait(LONG)
        raise KeyError(value)

    outer = StepFunction("Outer", listeners=[began]).set_start_step("Fan")
    tasks = {"nap": napping(LONG), "fail": fail}
    outer.add_step("Fan", tasks, parallel=True, stop_on_failure=True)
    with pytest.raises(StepExecutionError, match="'fail': KeyError"):
        outer.execute()


def half_a_tenth(value):
    return SHORT


def test_it_waits_in_a_process():
    nap = StepFunction("Nap").set_start_step("Wait")
    nap.add_wait_step("Wait", seconds=half_a_tenth)
    outer = StepFunction("Outer").set_start_step("Sub")
    outer.add_sub_step_function("Sub", nap, executor="process")
    execution = outer.execute("order")
    assert execution.output == "order"
    assert waited(execution.children["Sub"]) >= SHORT


def test_a_deadline_ends_the_wait_in_a_process():
    nap = StepFunction("Nap").set_start_step("Wait").add_wait_step("Wait", seconds=LONG)
    outer = StepFunction("Outer").set_start_step("Sub")
    outer.add_sub_step_function("Sub", nap, executor="process")
    with pytest.raises(ExecutionTimeoutError):
        outer.execute(timeout=1)


def test_what_a_callable_is_cannot_always_be_sent():
    nap = StepFunction("Nap").set_start_step("Wait")
    nap.add_wait_step("Wait", seconds=lambda value: 1)
    outer = StepFunction("Outer").set_start_step("Sub")
    outer.add_sub_step_function("Sub", nap, executor="process")
    with pytest.raises(DefinitionError, match="step 'Sub': workflow 'Nap' .*<lambda>"):
        outer.validate()


def test_who_is_cancelled_before_it_does_not_wait():
    workflow = StepFunction("Nap").set_start_step("Cancel")
    workflow.add_step("Cancel", lambda _: workflow_cancel(), next_step="Wait")
    workflow.add_wait_step("Wait", seconds=LONG)
    running = []
    workflow_cancel = lambda: running[0].cancel()  # noqa: E731
    with pytest.raises(ExecutionCancelledError):
        workflow.execute(listeners=[lambda event: running.append(event.execution)])


# --- what is told -------------------------------------------------------------------


def test_its_start_and_its_end_are_told():
    heard = []
    napping(0, listeners=[heard.append]).execute()
    kinds = [event.kind for event in heard if event.step == "Wait"]
    assert kinds == ["step_started", "step_succeeded"]
