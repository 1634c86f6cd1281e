from __future__ import annotations

import subprocess
import sys
import textwrap
from time import perf_counter

import pytest
import tenacity
from shared.failures import failure_of
from shared.retried import Flaky, always, pauses_of, workflow_of

from stepfunction import Outcome, Status, StepFunction


def test_a_retrying_of_tenacity_decides_when_to_stop():
    function = always(ValueError("no"))

    failure = failure_of(
        workflow_of(function, tenacity.Retrying(stop=tenacity.stop_after_attempt(4)))
    )

    assert function.calls == 4
    assert type(failure.__cause__) is ValueError


def test_a_retrying_of_tenacity_decides_how_long_to_wait():
    retry = tenacity.Retrying(
        stop=tenacity.stop_after_attempt(3),
        wait=tenacity.wait_chain(
            tenacity.wait_fixed(0.001), tenacity.wait_fixed(0.003)
        ),
    )

    assert pauses_of(retry) == [0.001, 0.003]


def test_a_retrying_of_tenacity_decides_what_is_retried():
    function = Flaky(KeyError("again"), ValueError("enough"), KeyError("never"))
    retry = tenacity.Retrying(retry=tenacity.retry_if_exception_type(KeyError))

    failure = failure_of(workflow_of(function, retry))

    assert (function.calls, str(failure.__cause__)) == (2, "enough")


def test_a_retrying_of_tenacity_may_ask_a_predicate_of_its_own():
    seen = []

    def is_worth_another(state):
        seen.append((state.attempt_number, state.outcome.failed))
        return state.attempt_number < 3

    function = always(ValueError("no"))

    failure_of(workflow_of(function, tenacity.Retrying(retry=is_worth_another)))

    assert (function.calls, seen) == (3, [(1, True), (2, True), (3, True)])


def counting_up():
    numbers = iter(range(100))
    return lambda value: next(numbers)


def test_a_retrying_of_tenacity_may_retry_a_result():
    retry = tenacity.Retrying(retry=tenacity.retry_if_result(lambda n: n < 3))

    execution = workflow_of(counting_up(), retry).execute()

    (record,) = execution.history
    assert execution.output == 3
    assert [(a.outcome, a.error) for a in record.attempts] == [
        (Outcome.SUCCEEDED, None)
    ] * 4


def test_a_retried_result_is_logged(caplog):
    retry = tenacity.Retrying(retry=tenacity.retry_if_result(lambda n: n < 1))

    workflow_of(counting_up(), retry).execute()

    assert [record.getMessage() for record in caplog.records] == [
        "step 'A' of 'Orders': attempt 1 is followed by another in 0 s: "
        "its result asks for it"
    ]


def test_a_result_that_is_still_refused_at_the_end_fails_the_step():
    retry = tenacity.Retrying(
        retry=tenacity.retry_if_result(lambda n: True),
        stop=tenacity.stop_after_attempt(3),
    )

    failure = failure_of(workflow_of(counting_up(), retry))

    (record,) = failure.execution.history
    assert type(failure.__cause__) is tenacity.RetryError
    assert failure.__cause__.last_attempt.result() == 2
    assert (record.outcome, len(record.attempts)) == (Outcome.FAILED, 3)


def test_a_retry_error_callback_gives_the_output():
    retry = tenacity.Retrying(
        stop=tenacity.stop_after_attempt(2),
        retry_error_callback=lambda state: f"gave up after {state.attempt_number}",
    )

    execution = workflow_of(always(ValueError("no")), retry).execute()

    assert (execution.status, execution.output) == (
        Status.COMPLETED,
        "gave up after 2",
    )
    assert execution.history[0].outcome is Outcome.SUCCEEDED
    assert execution.failures == ()


def test_an_error_of_a_retry_error_callback_is_the_steps():
    def give_up(state):
        raise KeyError("gave up")

    retry = tenacity.Retrying(
        stop=tenacity.stop_after_attempt(2), retry_error_callback=give_up
    )

    failure = failure_of(workflow_of(always(ValueError("no")), retry))

    assert type(failure.__cause__) is KeyError


def test_an_error_of_a_predicate_is_the_steps():
    def is_worth_another(state):
        raise KeyError("cannot tell")

    failure = failure_of(
        workflow_of(always(ValueError("no")), tenacity.Retrying(retry=is_worth_another))
    )

    assert type(failure.__cause__) is KeyError


def test_a_retrying_of_tenacity_has_its_own_hooks_called():
    told = []
    retry = tenacity.Retrying(
        stop=tenacity.stop_after_attempt(2),
        after=lambda state: told.append(("after", state.attempt_number)),
        before_sleep=lambda state: told.append(("sleep", state.attempt_number)),
    )

    failure_of(workflow_of(always(ValueError("no")), retry))

    assert told == [("after", 1), ("sleep", 1), ("after", 2)]


def test_the_time_of_the_first_attempt_counts_for_a_stop_after_a_delay():
    seconds = []

    def stop(state):
        seconds.append(state.seconds_since_start)
        return True

    def function():
        until = perf_counter() + 0.01
        while perf_counter() < until:
            pass
        raise ValueError("no")

    failure_of(workflow_of(function, tenacity.Retrying(stop=stop)))

    assert seconds[0] >= 0.01


def test_the_users_retrying_is_left_as_it_was():
    retry = tenacity.Retrying(stop=tenacity.stop_after_attempt(2))

    failure_of(workflow_of(always(ValueError("no")), retry))

    assert retry.statistics == {}
    assert retry.reraise is False


def test_a_policy_on_a_step_that_does_not_fail_imports_no_tenacity():
    program = textwrap.dedent("""
        import sys
        from stepfunction import RetryPolicy, StepFunction

        inner = StepFunction("Inner").set_start_step("X")
        inner.add_step("X", str.upper, retry=RetryPolicy())
        workflow = StepFunction("Orders").set_start_step("A")
        workflow.add_step("A", str.upper, "B", retry=RetryPolicy())
        workflow.add_step("B", inner, "C", retry=RetryPolicy())
        workflow.add_step("C", {"T": len}, parallel=True, retry=RetryPolicy())
        print(workflow.execute("given").output, "tenacity" in sys.modules)
        """)

    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )

    assert done.stdout == "{'T': 5} False\n"


@pytest.mark.parametrize(
    "where", ["before", "after", "before_sleep", "stop", "wait", "retry"]
)
def test_what_a_callback_raises_is_the_failure_of_its_task_alone(where):
    def broken(state):
        raise ZeroDivisionError("callback")

    options = {"stop": tenacity.stop_after_attempt(3), "wait": tenacity.wait_none()}
    retry = tenacity.Retrying(**{**options, where: broken})
    tasks = {"one": str, "bad": always(ValueError("no")), "two": str}
    workflow = StepFunction("W").add_step("All", tasks, parallel=True, retry=retry)
    output = workflow.set_start_step("All").execute(1).output

    assert (output["one"], output["two"]) == ("1", "1")
    assert type(output["bad"]) is ZeroDivisionError


def test_a_result_that_cannot_be_judged_stands(caplog):
    def broken(state):
        raise ZeroDivisionError("cannot tell")

    workflow = workflow_of(lambda value: "made", tenacity.Retrying(retry=broken))
    assert workflow.execute().output == "made"
    assert "its result stands" in caplog.text
