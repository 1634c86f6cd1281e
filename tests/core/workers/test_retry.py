from __future__ import annotations

import asyncio
import pickle
import threading

import pytest
from shared.failures import failure_of
from shared.retried import AT_ONCE, Flaky, always, pauses_of, workflow_of

from stepfunction import (
    DefinitionError,
    ExecutionCancelledError,
    NoBranchMatchedError,
    Outcome,
    RetryPolicy,
    Status,
    StepExecutionError,
    StepFunction,
)
from stepfunction.core.workers.retry import Retries

# --- the policy ---------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments, problem",
    [
        *(
            (
                {"max_attempts": attempts},
                f"max_attempts is {attempts!r}; it counts all calls, so give a whole "
                "number from 1",
            )
            for attempts in (0, -1, 2.5, "3", None, True)
        ),
        *(
            ({"interval": interval}, f"interval is {interval!r}; give seconds from 0")
            for interval in (-1, -0.1, "1", None, True, float("nan"), float("inf"))
        ),
        *(
            ({"backoff_rate": rate}, f"backoff_rate is {rate!r}; give 1 or more")
            for rate in (0, 0.9, -2, "2", None, True, float("nan"), float("inf"))
        ),
        *(
            (
                {"max_delay": delay},
                f"max_delay is {delay!r}; give seconds, or None",
            )
            for delay in (-1, "10", True, float("nan"))
        ),
        *(
            ({"jitter": jitter}, f"jitter is {jitter!r}; give 'full' or None")
            for jitter in ("half", True, False, 0, ["full"])
        ),
        *(
            (
                {"retry_on": classes},
                f"retry_on is {classes!r}; give an exception class or a tuple of them",
            )
            for classes in (
                (),
                (int,),
                "ValueError",
                int,
                None,
                ValueError("one"),
                (ValueError, int),
            )
        ),
    ],
)
def test_a_policy_refuses_a_value_out_of_range(arguments, problem):
    with pytest.raises(DefinitionError) as raised:
        RetryPolicy(**arguments)

    assert str(raised.value) == f"RetryPolicy: {problem}"


def test_a_policy_names_every_mistake_at_once():
    with pytest.raises(DefinitionError) as raised:
        RetryPolicy(0, -1, 0, -1, "half", int)

    assert str(raised.value) == (
        "RetryPolicy: 6 problems\n"
        "  - max_attempts is 0; it counts all calls, so give a whole number from 1\n"
        "  - interval is -1; give seconds from 0\n"
        "  - backoff_rate is 0; give 1 or more\n"
        "  - max_delay is -1; give seconds, or None\n"
        "  - jitter is 'half'; give 'full' or None\n"
        "  - retry_on is <class 'int'>; give an exception class or a tuple of them"
    )


def test_a_policy_has_the_defaults_that_it_says():
    assert repr(RetryPolicy()) == (
        "RetryPolicy(max_attempts=3, interval=1, backoff_rate=2, max_delay=None, "
        "jitter='full', retry_on=<class 'Exception'>)"
    )


def test_the_repr_of_a_policy_shows_what_it_was_given():
    policy = RetryPolicy(5, 0.5, 1.5, 10, None, (KeyError, OSError))

    assert repr(policy) == (
        "RetryPolicy(max_attempts=5, interval=0.5, backoff_rate=1.5, max_delay=10, "
        "jitter=None, retry_on=(<class 'KeyError'>, <class 'OSError'>))"
    )


def test_a_policy_can_be_pickled():
    policy = RetryPolicy(max_attempts=5, jitter=None, retry_on=(KeyError, OSError))

    copy = pickle.loads(pickle.dumps(policy))

    assert copy == policy
    assert repr(copy) == repr(policy)


def test_equal_policies_are_equal():
    assert RetryPolicy(max_attempts=5) == RetryPolicy(5)
    assert RetryPolicy(max_attempts=5) != RetryPolicy(4)


def test_a_policy_is_frozen():
    with pytest.raises(AttributeError):
        RetryPolicy().max_attempts = 5


# --- attempts -----------------------------------------------------------------------


@pytest.mark.parametrize("attempts", [1, 2, 5])
def test_max_attempts_counts_all_calls(attempts):
    function = always(ValueError("no"))

    failure_of(workflow_of(function, RetryPolicy(attempts, interval=0)))

    assert function.calls == attempts


@pytest.mark.parametrize("failures", [0, 1, 2])
def test_a_call_is_made_again_until_it_succeeds(failures):
    function = Flaky(*[ValueError("no")] * failures)

    execution = workflow_of(function).execute()

    assert (execution.status, execution.output) == (Status.COMPLETED, "done")
    assert function.calls == failures + 1


def test_the_last_failure_is_the_one_that_counts():
    errors = [ValueError("first"), KeyError("second"), OSError("third")]

    failure = failure_of(workflow_of(Flaky(*errors)))

    assert failure.__cause__ is errors[2]
    assert str(failure) == "step 'A' of 'Orders' failed: OSError: third"


def test_every_attempt_is_given_the_steps_input():
    seen = []

    def function(value):
        seen.append(value)
        if len(seen) < 3:
            raise ValueError("no")

    workflow_of(function).execute("given")

    assert seen == ["given"] * 3


def test_the_context_counts_the_attempts_from_one():
    seen = []

    def function(value, context):
        seen.append(context.attempt)
        if len(seen) < 3:
            raise ValueError("no")

    workflow_of(function).execute()

    assert seen == [1, 2, 3]


def test_each_attempt_is_in_the_record():
    errors = [ValueError("first"), KeyError("second")]

    (record,) = workflow_of(Flaky(*errors)).execute().history

    assert (record.outcome, record.error, record.output) == (
        Outcome.SUCCEEDED,
        None,
        "done",
    )
    assert [(a.number, a.outcome, a.error) for a in record.attempts] == [
        (1, Outcome.FAILED, errors[0]),
        (2, Outcome.FAILED, errors[1]),
        (3, Outcome.SUCCEEDED, None),
    ]
    starts = [attempt.started for attempt in record.attempts]
    assert starts == sorted(starts) and record.started == starts[0]


def test_each_attempt_of_a_step_that_failed_is_in_the_record():
    failure = failure_of(workflow_of(always(ValueError("no"))))

    (record,) = failure.execution.history
    assert record.outcome is Outcome.FAILED
    assert [attempt.outcome for attempt in record.attempts] == [Outcome.FAILED] * 3


def test_a_failure_that_was_retried_away_is_no_failure_of_the_execution():
    execution = workflow_of(Flaky(ValueError("no"))).execute()

    assert execution.failures == ()
    assert execution.error is None


def test_a_failure_step_runs_when_the_attempts_are_used_up():
    function = always(ValueError("no"))
    workflow = workflow_of(function, on_failure="B")
    workflow.add_step("B", lambda error: str(error))

    execution = workflow.execute()

    assert (function.calls, execution.output) == (3, "no")
    assert execution.context["A"] is function.failures[0]


def test_a_failure_step_is_told_of_every_attempt():
    def apologise(error, context):
        return len(context.failure.attempts)

    workflow = workflow_of(always(ValueError("no")), on_failure="B")

    assert workflow.add_step("B", apologise).execute().output == 3


def test_a_failure_step_has_retries_of_its_own():
    apologise = Flaky(ValueError("not yet"), output="sorry")
    workflow = workflow_of(always(ValueError("no")), None, on_failure="B")

    assert workflow.add_step("B", apologise, retry=AT_ONCE).execute().output == "sorry"
    assert apologise.calls == 2


def test_an_async_function_is_awaited_anew_for_each_attempt():
    calls = []

    async def function():
        calls.append(None)
        await asyncio.sleep(0)
        if len(calls) < 3:
            raise ValueError("no")
        return "done"

    assert workflow_of(function).execute().output == "done"
    assert len(calls) == 3


def test_each_execution_has_attempts_of_its_own():
    function = Flaky(*[ValueError("no")] * 2, output="first")
    workflow = workflow_of(function)
    assert workflow.execute().output == "first"

    function.calls = 0

    assert len(workflow.execute().history[0].attempts) == 3


def test_executions_at_once_do_not_share_their_attempts():
    barrier = threading.Barrier(4)
    executions = []

    def function(value, context):
        if context.attempt < 3:
            barrier.wait(10)
            raise ValueError("no")
        return value

    workflow = workflow_of(function)
    threads = [
        threading.Thread(target=lambda n=n: executions.append(workflow.execute(n)))
        for n in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(execution.output for execution in executions) == [0, 1, 2, 3]
    assert [len(e.history[0].attempts) for e in executions] == [3] * 4


# --- pauses -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "policy, pauses",
    [
        (RetryPolicy(4, 0.001, 1, jitter=None), [0.001, 0.001, 0.001]),
        (RetryPolicy(4, 0.001, 2, jitter=None), [0.001, 0.002, 0.004]),
        (RetryPolicy(4, 0.001, 3, jitter=None), [0.001, 0.003, 0.009]),
        (RetryPolicy(4, 0.001, 1.5, jitter=None), [0.001, 0.0015, 0.00225]),
        (RetryPolicy(5, 0.001, 2, 0.003, None), [0.001, 0.002, 0.003, 0.003]),
        (RetryPolicy(3, 0.001, 2, 0, None), [0, 0]),
        (RetryPolicy(3, 0, 2, jitter=None), [0, 0]),
        (RetryPolicy(1, 60, jitter=None), []),
    ],
)
def test_without_jitter_the_pauses_are_exact(policy, pauses):
    assert pauses_of(policy) == pytest.approx(pauses)


def test_the_pauses_are_waited_for():
    policy = RetryPolicy(3, interval=0.01, backoff_rate=2, jitter=None)

    failure = failure_of(workflow_of(always(ValueError("no")), policy))

    (record,) = failure.execution.history
    ends = [attempt.started + attempt.duration for attempt in record.attempts]
    starts = [attempt.started for attempt in record.attempts]
    assert starts[1] - ends[0] >= 0.0099
    assert starts[2] - ends[1] >= 0.0199
    assert record.duration >= 0.0299


def test_full_jitter_draws_each_pause_from_zero_to_its_full_length():
    policy = RetryPolicy(60, interval=0.0001, backoff_rate=2, max_delay=0.0004)

    pauses = pauses_of(policy)

    full = [0.0001, 0.0002, *[0.0004] * 57]
    assert all(0 <= pause <= most for pause, most in zip(pauses, full, strict=True))
    assert len(set(pauses)) > 50
    assert min(pauses[2:]) < 0.0001 and max(pauses[2:]) > 0.0003


def test_each_retry_is_logged_with_its_pause_and_the_failure(caplog):
    workflow_of(Flaky(ValueError("no")), RetryPolicy(2, 0.001, jitter=None)).execute()

    (record,) = caplog.records
    assert (record.name, record.levelname) == ("stepfunction", "WARNING")
    assert record.getMessage() == (
        "step 'A' of 'Orders': attempt 1 is followed by another in 0.001 s: "
        "ValueError: no"
    )


def test_the_retry_of_a_task_is_logged_with_its_name(caplog):
    workflow_of({"T": Flaky(ValueError("no"))}, parallel=True).execute()

    assert [record.getMessage() for record in caplog.records] == [
        "task 'T' of step 'A' of 'Orders': attempt 1 is followed by another in 0 s: "
        "ValueError: no"
    ]


# --- what is retried ----------------------------------------------------------------


@pytest.mark.parametrize(
    "retry_on, error, calls",
    [
        (Exception, ValueError("no"), 3),
        (ValueError, ValueError("no"), 3),
        (LookupError, KeyError("no"), 3),
        (KeyError, LookupError("no"), 1),
        (KeyError, ValueError("no"), 1),
        ((KeyError, ValueError), ValueError("no"), 3),
        ((KeyError, OSError), ValueError("no"), 1),
        (TimeoutError, TimeoutError("late"), 3),
        (Exception, TimeoutError("late"), 3),
    ],
)
def test_only_what_retry_on_names_is_retried(retry_on, error, calls):
    function = always(error)

    failure = failure_of(workflow_of(function, RetryPolicy(3, 0, retry_on=retry_on)))

    assert function.calls == calls
    assert failure.__cause__ is error


def test_attempts_end_with_the_first_failure_that_is_not_to_be_retried():
    function = Flaky(KeyError("again"), ValueError("enough"), KeyError("never"))

    failure = failure_of(workflow_of(function, RetryPolicy(9, 0, retry_on=KeyError)))

    assert (function.calls, str(failure.__cause__)) == (2, "enough")


def test_a_cause_that_is_not_our_own_wrapping_is_not_looked_behind():
    def function():
        calls.append(None)
        raise ValueError("no") from KeyError("behind")

    calls = []
    failure_of(workflow_of(function, RetryPolicy(3, 0, retry_on=KeyError)))

    assert len(calls) == 1


@pytest.mark.parametrize("retry_on, calls", [(KeyError, 3), (OSError, 1)])
@pytest.mark.parametrize("depth", [1, 2])
def test_retry_on_looks_at_the_cause_of_a_nested_workflows_failure(
    retry_on, calls, depth
):
    function = always(KeyError("no"))
    inner = workflow_of(function, None)
    for _ in range(depth - 1):
        inner = workflow_of(inner, None)

    failure_of(workflow_of(inner, RetryPolicy(3, 0, retry_on=retry_on)))

    assert function.calls == calls


def test_retry_on_looks_at_the_first_failure_of_a_nested_parallel_step():
    function = always(KeyError("no"))
    inner = workflow_of({"T": function}, None, parallel=True, stop_on_failure=True)

    failure_of(workflow_of(inner, RetryPolicy(3, 0, retry_on=KeyError)))

    assert function.calls == 3


@pytest.mark.parametrize(
    "error",
    [
        DefinitionError("workflow 'Other'", ["no start step"]),
        NoBranchMatchedError("nothing matches", "A", 3, ()),
        ExecutionCancelledError("the execution was cancelled"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_what_another_call_cannot_mend_is_not_retried(error):
    function = always(error)

    failure = failure_of(workflow_of(function))

    assert function.calls == 1
    assert failure.__cause__ is error


def test_a_result_that_leads_nowhere_is_not_retried():
    function = Flaky(output="sideways")
    workflow = workflow_of(function, branch={"on": "B"}).add_step("B", str)

    failure = failure_of(workflow)

    assert type(failure.__cause__) is NoBranchMatchedError
    assert function.calls == 1


def test_a_nested_workflow_whose_result_leads_nowhere_is_not_retried():
    function = Flaky(output="sideways")
    inner = workflow_of(function, None, branch={"on": "B"}).add_step("B", str)

    failure_of(workflow_of(inner))

    assert function.calls == 1


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_an_interrupt_of_the_calling_thread_is_not_retried(error):
    function = always(error())

    with pytest.raises(error):
        workflow_of(function).execute()

    assert function.calls == 1


class Stop(BaseException):
    pass


@pytest.mark.parametrize("error", [SystemExit, Stop])
def test_an_interrupt_inside_a_task_is_its_failure_under_a_policy_too(error):
    function = always(error())

    execution = workflow_of({"T": function, "U": Flaky()}, parallel=True).execute()

    assert type(execution.output["T"]) is error
    assert execution.output["U"] == "done"
    assert function.calls == 1


@pytest.mark.parametrize(
    "options",
    [
        {"interval": 0},
        {"interval": 0, "jitter": None},
        {"interval": 1e-9, "max_delay": 1e-9},
        {"interval": 1e-9, "max_delay": 0, "jitter": None},
    ],
)
def test_a_policy_of_very_many_attempts_does_not_wait_for_ever(options):
    calls = []

    def flaky(value):
        calls.append(value)
        if len(calls) < 1_100:
            raise ConnectionError("not yet")
        return len(calls)

    workflow = StepFunction("Poll")
    workflow.add_step("Ask", flaky, retry=RetryPolicy(2_000, **options))
    execution = workflow.set_start_step("Ask").execute(1, timeout=30)
    assert execution.output == len(execution.history[0].attempts) == 1_100


def test_a_pause_is_a_year_at_most():
    retries = Retries(RetryPolicy(9_999, interval=1, jitter=None), "call", 0.0)
    pauses = [retries.after(None, ValueError())[0] for _ in range(1_200)]
    assert pauses[0] == 1 and pauses[-1] == 365 * 24 * 3600


@pytest.mark.parametrize("argument", ["interval", "backoff_rate", "max_delay"])
def test_a_number_beyond_all_floats_is_refused_in_few_words(argument):
    with pytest.raises(DefinitionError) as caught:
        RetryPolicy(3, **{argument: 10**400})
    assert str(caught.value).startswith(f"RetryPolicy: {argument} is 1000")
    assert len(str(caught.value)) < 120


class Empty(Exception):
    """An error that holds nothing, as collections say it."""

    def __len__(self):
        return 0


class Untestable(Exception):
    def __bool__(self):
        raise AssertionError("nobody is to ask")


@pytest.mark.parametrize("error_class", [Empty, Untestable])
def test_an_error_is_not_asked_for_its_truth(error_class):
    error = error_class("no")

    def fail(value):
        raise error

    builder = StepFunction("Awkward")
    builder.add_step("A", fail, retry=RetryPolicy(3, interval=0))
    builder.set_start_step("A")
    with pytest.raises(StepExecutionError) as caught:
        builder.execute(1)
    assert caught.value.__cause__ is error
    assert error.__cause__ is error.__context__ is None
    (record,) = caught.value.execution.history
    assert len(record.attempts) == 3
