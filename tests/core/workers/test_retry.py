from __future__ import annotations

import asyncio
import logging
import os
import pickle
import subprocess
import sys
import textwrap
import threading
from time import perf_counter

import pytest
import tenacity

from stepfunction import (
    DefinitionError,
    ExecutionCancelledError,
    NoBranchMatchedError,
    Outcome,
    ParallelStepExecutionError,
    RetryPolicy,
    Status,
    StepExecutionError,
    StepFunction,
    WorkerCrashedError,
)

AT_ONCE = RetryPolicy(max_attempts=3, interval=0)


class Flaky:
    def __init__(self, *failures, output="done"):
        self.failures = list(failures)
        self.output = output
        self.calls = 0

    def __call__(self, value=None):
        self.calls += 1
        if self.calls <= len(self.failures):
            raise self.failures[self.calls - 1]
        return self.output


def always(error):
    return Flaky(*[error] * 100)


def workflow_of(function, retry=AT_ONCE, **more):
    workflow = StepFunction("Orders").add_step("A", function, retry=retry, **more)
    return workflow.set_start_step("A")


def failure_of(workflow, value=None):
    with pytest.raises(StepExecutionError) as raised:
        workflow.execute(value)
    return raised.value


# --- the policy -----------------------------------------------------------------


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
                [ValueError],
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


# --- attempts -------------------------------------------------------------------


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


# --- pauses ---------------------------------------------------------------------


def pauses_of(retry):
    events = []
    with pytest.raises(StepExecutionError):
        workflow_of(always(ValueError("no")), retry).execute(listeners=[events.append])
    return [event.pause for event in events if event.kind == "step_retried"]


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


# --- what is retried ------------------------------------------------------------


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


# --- tenacity -------------------------------------------------------------------


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


# --- tasks ----------------------------------------------------------------------


@pytest.mark.parametrize("executor", ["inline", "thread"])
def test_each_task_is_retried_by_itself(executor):
    steady, slow, hopeless = Flaky(), Flaky(ValueError("no")), always(ValueError("no"))

    execution = workflow_of(
        {"Steady": steady, "Slow": slow, "Hopeless": hopeless},
        parallel=True,
        executor=executor,
    ).execute()

    assert (steady.calls, slow.calls, hopeless.calls) == (1, 2, 3)
    assert list(execution.output.failed) == ["Hopeless"]
    attempts = {r.task: [a.outcome for a in r.attempts] for r in execution.history[1:]}
    assert attempts == {
        "Steady": [Outcome.SUCCEEDED],
        "Slow": [Outcome.FAILED, Outcome.SUCCEEDED],
        "Hopeless": [Outcome.FAILED] * 3,
    }


def count_call(folder, name):
    calls = len(list(folder.glob(f"{name}-*")))
    folder.joinpath(f"{name}-{calls}").touch()
    return calls


def fails_twice(folder):
    calls = count_call(folder, "fails_twice")
    if calls < 2:
        raise ValueError("no")
    return calls


def crashes_once(folder):
    calls = count_call(folder, "crashes_once")
    if calls < 1:
        os._exit(3)
    return calls


def always_fails(folder, context):
    count_call(folder, "always_fails")
    raise ValueError(f"no {context.attempt}")


def test_each_task_in_a_process_is_retried_by_itself(tmp_path):
    execution = workflow_of(
        {"Twice": fails_twice, "Crash": crashes_once, "Always": always_fails},
        parallel=True,
        executor="process",
        max_workers=2,
    ).execute(tmp_path)

    assert execution.output["Twice"] == 2
    assert execution.output["Crash"] == 1
    assert str(execution.output["Always"]) == "no 3"
    attempts = {r.task: [a.outcome for a in r.attempts] for r in execution.history[1:]}
    assert attempts == {
        "Twice": [Outcome.FAILED, Outcome.FAILED, Outcome.SUCCEEDED],
        "Crash": [Outcome.CRASHED, Outcome.SUCCEEDED],
        "Always": [Outcome.FAILED] * 3,
    }
    crash = next(r for r in execution.history if r.task == "Crash").attempts[0]
    assert type(crash.error) is WorkerCrashedError


@pytest.mark.parametrize("executor", ["inline", "thread", "process"])
def test_a_step_with_an_executor_is_retried_there(executor, tmp_path):
    execution = workflow_of(fails_twice, executor=executor).execute(tmp_path)

    assert execution.output == 2
    assert len(execution.history[0].attempts) == 3


def test_tasks_that_used_up_their_attempts_fail_the_step():
    with pytest.raises(ParallelStepExecutionError) as raised:
        workflow_of(
            {"Slow": Flaky(ValueError("no")), "Hopeless": always(KeyError("no"))},
            parallel=True,
            stop_on_failure=True,
        ).execute()

    assert list(raised.value.errors) == ["Hopeless"]
    assert raised.value.outcomes["Hopeless"] is Outcome.FAILED


def test_an_attempt_that_fails_and_is_retried_does_not_stop_the_other_tasks():
    other_runs = threading.Event()
    retried = threading.Event()

    def slow(value, context):
        assert other_runs.wait(10)
        if context.attempt == 1:
            raise ValueError("no")
        retried.set()
        return "slow"

    def other(value, context):
        other_runs.set()
        assert retried.wait(10)
        return context.cancelled

    execution = workflow_of(
        {"Slow": slow, "Other": other}, parallel=True, stop_on_failure=True
    ).execute()

    assert execution.output == {"Slow": "slow", "Other": False}


class Signal(logging.Handler):
    def __init__(self, call):
        super().__init__()
        self.call = call

    def emit(self, record):
        if "is followed by another" in record.getMessage():
            self.call()


@pytest.fixture
def when_pausing():
    logger, handlers = logging.getLogger("stepfunction"), []

    def add(call):
        handlers.append(Signal(call))
        logger.addHandler(handlers[-1])

    yield add
    for handler in handlers:
        logger.removeHandler(handler)


def test_a_pausing_task_does_not_hold_up_a_step_that_stops(when_pausing):
    is_pausing = threading.Event()
    when_pausing(is_pausing.set)
    pausing = always(ValueError("no"))

    def fails(value):
        assert is_pausing.wait(10)
        raise KeyError("enough")

    workflow = workflow_of(
        {"Pausing": pausing, "Failing": fails},
        RetryPolicy(3, interval=600, jitter=None, retry_on=ValueError),
        parallel=True,
        stop_on_failure=True,
    )

    failure = failure_of(workflow)

    assert pausing.calls == 1
    assert type(failure.__cause__) is KeyError
    assert failure.outcomes["Failing"] is Outcome.FAILED


def test_a_pausing_task_leaves_its_worker_to_the_others():
    turns = []

    def first(value, context):
        turns.append(("First", context.attempt))
        if context.attempt == 1:
            raise ValueError("no")

    def second(value):
        turns.append(("Second", 1))

    workflow_of(
        {"First": first, "Second": second},
        RetryPolicy(2, interval=0.01, jitter=None),
        parallel=True,
        max_workers=1,
    ).execute()

    assert turns == [("First", 1), ("Second", 1), ("First", 2)]


# --- nested workflows -----------------------------------------------------------


def nested_of(first, second):
    inner = StepFunction("Inner").add_step("X", first, next_step="Y")
    return inner.add_step("Y", second).set_start_step("X")


@pytest.mark.parametrize("is_parallel", [False, True])
@pytest.mark.parametrize("executor", ["inline", "thread"])
def test_a_nested_workflow_is_retried_whole(is_parallel, executor):
    first, second = Flaky(output="first"), Flaky(ValueError("no"), output="second")
    inner = nested_of(first, second)

    execution = workflow_of(
        {"T": inner} if is_parallel else inner, parallel=is_parallel, executor=executor
    ).execute()

    assert (first.calls, second.calls) == (2, 2)
    assert execution.output == ({"T": "second"} if is_parallel else "second")
    record = execution.history[-1]
    assert [attempt.outcome for attempt in record.attempts] == [
        Outcome.FAILED,
        Outcome.SUCCEEDED,
    ]


def test_each_attempt_of_a_nested_workflow_is_an_execution_of_its_own():
    inner = nested_of(Flaky(output="first"), Flaky(ValueError("no"), output="second"))

    execution = workflow_of(inner).execute()

    failed = execution.history[0].attempts[0].error.execution
    child = execution.children["A"]
    assert (failed.status, child.status) == (Status.FAILED, Status.COMPLETED)
    assert failed.id != child.id
    assert dict(child.context) == {"X": "first", "Y": "second"}


def test_the_retries_inside_a_nested_workflow_begin_afresh_with_each_of_its_own():
    function = always(ValueError("no"))
    inner = workflow_of(function, RetryPolicy(2, interval=0))

    failure_of(workflow_of(inner, RetryPolicy(3, interval=0)))

    assert function.calls == 6


def test_add_sub_step_function_takes_a_policy():
    first, second = Flaky(), Flaky(ValueError("no"), output="second")
    workflow = StepFunction("Orders").set_start_step("A")
    workflow.add_sub_step_function("A", nested_of(first, second), retry=AT_ONCE)

    assert workflow.execute().output == "second"
    assert first.calls == 2


def test_a_nested_workflow_in_a_process_is_retried_whole(tmp_path):
    inner = StepFunction("Inner").add_step("X", fails_twice).set_start_step("X")

    execution = workflow_of(inner, executor="process").execute(tmp_path)

    assert execution.output == 2
    assert len(execution.history[0].attempts) == 3
    assert execution.children["A"].status is Status.COMPLETED


# --- cancelling -----------------------------------------------------------------


@pytest.mark.parametrize("place", ["step", "thread", "task", "nested", "nested task"])
def test_a_pause_ends_when_the_execution_is_cancelled(place, when_pausing):
    function = always(ValueError("no"))
    policy = RetryPolicy(3, interval=600, jitter=None)
    workflow = {
        "step": lambda: workflow_of(function, policy),
        "thread": lambda: workflow_of(function, policy, executor="thread"),
        "task": lambda: workflow_of({"T": function}, policy, parallel=True),
        "nested": lambda: workflow_of(workflow_of(function, policy), None),
        "nested task": lambda: workflow_of(
            {"T": workflow_of(function, policy)}, None, parallel=True
        ),
    }[place]()

    async def main():
        loop, is_pausing = asyncio.get_running_loop(), asyncio.Event()
        when_pausing(lambda: loop.call_soon_threadsafe(is_pausing.set))
        running = asyncio.create_task(workflow.aexecute())
        await is_pausing.wait()
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running

    asyncio.run(main())

    assert workflow.status is Status.CANCELLED
    assert function.calls == 1


def test_a_cancelled_pause_is_not_taken_by_a_failure_step(when_pausing):
    apologise = Flaky()
    workflow = workflow_of(
        always(ValueError("no")),
        RetryPolicy(3, interval=600, jitter=None),
        on_failure="B",
    ).add_step("B", apologise)

    async def main():
        loop, is_pausing = asyncio.get_running_loop(), asyncio.Event()
        when_pausing(lambda: loop.call_soon_threadsafe(is_pausing.set))
        running = asyncio.create_task(workflow.aexecute())
        await is_pausing.wait()
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running

    asyncio.run(main())

    assert workflow.status is Status.CANCELLED
    assert apologise.calls == 0
