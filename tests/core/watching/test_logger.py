from __future__ import annotations

import logging
import re
import subprocess
import sys
import textwrap
import threading
from contextlib import suppress

import pytest
from shared.events import fail, nested_of, one, workflow_of

from stepfunction import (
    Event,
    RetryPolicy,
    StepFunction,
    StepFunctionError,
)
from stepfunction.core.watching.log import log

TOOK = r"[\d.]+ [mµ]?s"


def fail_once(value, context):
    if context.attempt == 1:
        raise ValueError("no")


def fan_out(tasks, **options):
    return workflow_of(tasks, parallel=True, **options)


# Execute and give what was logged: level and text.
@pytest.fixture
def logged(caplog):
    def logged(workflow, level=logging.DEBUG, **options):
        caplog.clear()
        with caplog.at_level(level, logger="stepfunction"):
            with suppress(StepFunctionError, KeyboardInterrupt):
                workflow.execute(**options)
        return [
            (record.levelname, re.sub(rf" in {TOOK}", " in …", record.getMessage()))
            for record in caplog.records
        ]

    return logged


# --- levels and texts ---------------------------------------------------------------


def test_starts_and_ends_are_logged_at_info(logged):
    workflow = workflow_of(next_step="B").add_step("B", one)

    assert logged(workflow, logging.INFO) == [
        ("INFO", "execution of 'W' started"),
        ("INFO", "step 'A' of 'W' started"),
        ("INFO", "step 'A' of 'W' succeeded in …"),
        ("INFO", "step 'B' of 'W' started"),
        ("INFO", "step 'B' of 'W' succeeded in …"),
        ("INFO", "execution of 'W' ended COMPLETED in …"),
    ]


def test_tasks_that_do_well_are_logged_at_debug(logged):
    workflow = fan_out({"t": one})

    assert logged(workflow)[2:4] == [
        ("DEBUG", "task 't' of step 'A' of 'W' started"),
        ("DEBUG", "task 't' of step 'A' of 'W' succeeded in …"),
    ]
    assert {level for level, _ in logged(workflow, logging.INFO)} == {"INFO"}


def test_a_failed_step_is_logged_at_error(logged):
    workflow = workflow_of(fail)

    assert logged(workflow, logging.INFO)[2:] == [
        ("ERROR", "step 'A' of 'W' failed in …: ValueError: no"),
        ("INFO", "execution of 'W' ended FAILED in …"),
    ]


def test_a_handled_failure_names_the_step_that_takes_it(logged):
    workflow = workflow_of(fail, on_failure="B").add_step("B", one)

    assert logged(workflow, logging.WARNING) == [
        ("ERROR", "step 'A' of 'W' failed in …, going on with 'B': ValueError: no")
    ]


def test_a_tolerated_failure_of_a_task_is_logged_at_error(logged):
    workflow = fan_out({"t": fail, "u": one})

    assert logged(workflow, logging.WARNING) == [
        ("ERROR", "task 't' of step 'A' of 'W' failed in …: ValueError: no")
    ]


@pytest.mark.parametrize(
    "action, name",
    [(fail_once, "step 'A' of 'W'"), ({"t": fail_once}, "task 't' of step 'A' of 'W'")],
    ids=["step", "task"],
)
def test_a_retry_is_logged_at_warning(logged, action, name):
    policy = RetryPolicy(2, interval=0.001, jitter=None)
    workflow = workflow_of(action, parallel=action is not fail_once, retry=policy)

    text = f"{name}: attempt 1 is followed by another in …: ValueError: no"
    assert logged(workflow, logging.WARNING) == [("WARNING", text)]


def test_the_number_of_attempts_is_logged_where_there_were_many(logged):
    workflow = workflow_of(fail, retry=RetryPolicy(3, 0))

    assert logged(workflow, logging.ERROR) == [
        ("ERROR", "step 'A' of 'W' failed in …, 3 attempts: ValueError: no")
    ]


def hang(value):
    threading.Event().wait()


def test_a_timeout_is_logged_in_words(logged, lanes):
    workflow = workflow_of(hang, executor=lanes, timeout=0.1)

    assert logged(workflow, logging.ERROR) == [
        (
            "ERROR",
            "step 'A' of 'W' timed out in …: StepTimeoutError: "
            "step 'A': attempt 1 took longer than 0.1 s",
        )
    ]


def test_tasks_that_were_stopped_are_no_errors(logged):
    workflow = fan_out({"t": fail, "u": one}, executor="inline", stop_on_failure=True)

    found = logged(workflow)

    assert ("DEBUG", "task 'u' of step 'A' of 'W' cancelled in …") in found
    assert [level for level, _ in found].count("ERROR") == 2  # the task and its step


def test_a_cancelled_execution_logs_no_error(logged):
    def interrupt(value):
        raise KeyboardInterrupt

    assert logged(workflow_of(interrupt), logging.INFO)[2:] == [
        ("INFO", "step 'A' of 'W' cancelled in …: KeyboardInterrupt"),
        ("INFO", "execution of 'W' ended CANCELLED in …"),
    ]


def test_what_is_logged_at_error_does_not_depend_on_the_level(logged):
    released = threading.Event()
    workflow = fan_out({"t": lambda value: released.wait(10)})

    all_of_it = logged(workflow, logging.INFO, timeout=0.1)
    errors_only = logged(workflow, logging.ERROR, timeout=0.1)
    released.set()

    assert [found for found in all_of_it if found[0] == "ERROR"] == errors_only


def test_the_steps_of_a_nested_workflow_are_logged_under_its_name(logged):
    assert logged(workflow_of(nested_of()), logging.INFO)[2:6] == [
        ("INFO", "execution of 'Inner' started"),
        ("INFO", "step 'X' of 'Inner' started"),
        ("INFO", "step 'X' of 'Inner' succeeded in …"),
        ("INFO", "execution of 'Inner' ended COMPLETED in …"),
    ]


# --- what a record holds ------------------------------------------------------------


def test_a_record_says_what_it_is_about(caplog):
    with caplog.at_level(logging.DEBUG, logger="stepfunction"):
        execution = fan_out({"t": nested_of()}).execute()

    child = execution.children["A", "t"]
    found = {(it.execution_id, it.workflow, it.step, it.task) for it in caplog.records}
    assert found == {
        (execution.id, "W", None, None),
        (execution.id, "W", "A", None),
        (execution.id, "W", "A", "t"),
        (child.id, "Inner", None, None),
        (child.id, "Inner", "X", None),
    }
    assert {record.name for record in caplog.records} == {"stepfunction"}


def test_a_retry_and_a_failure_say_so_too(caplog):
    with suppress(StepFunctionError):
        fan_out({"t": fail}, retry=RetryPolicy(2, 0)).execute()

    assert [(it.levelname, it.step, it.task) for it in caplog.records] == [
        ("WARNING", "A", "t"),
        ("ERROR", "A", "t"),
    ]


def test_a_failure_is_logged_with_the_users_traceback(caplog):
    workflow_of(fail, on_failure="B").add_step("B", one).execute()

    (record,) = caplog.records
    assert isinstance(record.exc_info[1], ValueError)
    frames = []
    traceback = record.exc_info[2]
    while traceback is not None:
        frames.append(traceback.tb_frame.f_code.co_name)
        traceback = traceback.tb_next
    assert frames == ["fail"]
    assert "in fail\n" in caplog.text


def test_a_failure_in_a_lane_is_logged_with_the_workers_traceback(caplog, lanes):
    fan_out({"t": fail}, executor=lanes).execute()

    (record,) = caplog.records
    assert record.exc_info[1].args == ("no",)
    assert "in fail\n" in caplog.text


def test_the_failure_of_something_inside_has_one_traceback(caplog):
    workflow = fan_out({"t": nested_of(fail)}, tolerated_failures=0, on_failure="B")
    workflow.add_step("B", one).execute()

    assert [(it.workflow, it.step, it.task) for it in caplog.records] == [
        ("Inner", "X", None),
        ("W", "A", "t"),
        ("W", "A", None),
    ]
    assert [bool(it.exc_info) for it in caplog.records] == [True, False, False]
    assert isinstance(caplog.records[0].exc_info[1], ValueError)


# --- from workers -------------------------------------------------------------------


@pytest.mark.parametrize("executor", ["inline", "thread", "process"])
def test_what_is_nested_in_a_task_is_logged_once(executor, logged):
    workflow = fan_out({"t": nested_of(fail)}, executor=executor)

    found = logged(workflow)

    inner = [text for _, text in found if "'Inner'" in text.partition(":")[0]]
    assert inner == [
        "execution of 'Inner' started",
        "step 'X' of 'Inner' started",
        "step 'X' of 'Inner' failed in …: ValueError: no",
        "execution of 'Inner' ended FAILED in …",
    ]


def test_what_is_nested_in_a_lane_is_logged_by_this_process(caplog, lanes):
    with caplog.at_level(logging.INFO, logger="stepfunction"):
        fan_out({"t": nested_of()}, executor=lanes).execute()

    assert len({record.process for record in caplog.records}) == 1
    assert len({record.thread for record in caplog.records}) == 1
    assert caplog.records[0].thread == threading.get_ident()


# --- only what is wanted is made ----------------------------------------------------


def test_with_the_log_at_warning_only_failures_and_retries_are_made(made, caplog):
    workflow = fan_out(
        {"t": nested_of(fail), "u": one}, next_step="B", retry=RetryPolicy(2, 0)
    )
    workflow.add_step("B", fail, on_failure="C").add_step("C", one)
    with caplog.at_level(logging.WARNING, logger="stepfunction"):
        workflow.execute()

    assert made == [
        "step_failed",
        "task_retried",
        "step_failed",
        "task_failed",
        "step_failed",
    ]
    assert len(caplog.records) == 5


def test_with_the_log_at_warning_a_good_execution_makes_no_event(made, caplog):
    with caplog.at_level(logging.WARNING, logger="stepfunction"):
        fan_out({"t": nested_of()}, next_step="B").add_step("B", one).execute()

    assert made == caplog.records == []


def test_with_the_log_above_errors_there_is_no_event(made, caplog):
    with caplog.at_level(logging.CRITICAL, logger="stepfunction"):
        workflow_of(fail, on_failure="B").add_step("B", one).execute()

    assert made == caplog.records == []


def test_with_logging_disabled_there_is_no_event(made, caplog):
    logging.disable(logging.CRITICAL)
    try:
        workflow_of(fail, on_failure="B").add_step("B", one).execute()
    finally:
        logging.disable(logging.NOTSET)

    assert made == []


def test_a_listener_makes_no_log_of_what_the_level_leaves_out(caplog):
    with caplog.at_level(logging.WARNING, logger="stepfunction"):
        workflow_of().execute(listeners=[lambda event: None])

    assert caplog.records == []


def test_a_handler_of_the_users_own_logger_hears_what_it_asks_for():
    seen = []
    handler = logging.Handler(logging.INFO)
    handler.emit = lambda record: seen.append(record.levelname)
    logger = logging.getLogger("stepfunction")
    logger.addHandler(handler)
    level = logger.level
    logger.setLevel(logging.INFO)
    try:
        workflow_of().execute()
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)

    assert seen == ["INFO"] * 4


# --- where logging is not set up ----------------------------------------------------


def run(script):
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        capture_output=True,
        text=True,
        timeout=50,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout, done.stderr


WORKFLOW = """\
from stepfunction import RetryPolicy, StepFunction
def fail(value):
    raise ValueError("no")
def broken(event):
    raise RuntimeError
workflow = StepFunction("W")
workflow.add_step(
    "A", {"t": fail}, parallel=True, next_step="B", retry=RetryPolicy(2, 0)
)
workflow.add_step("B", fail, on_failure="C").add_step("C", str).set_start_step("A")
"""


@pytest.mark.parametrize("listeners", ["[]", "[broken]"])
@pytest.mark.parametrize("first", ["", "import logging\n"])
def test_nothing_is_printed_where_logging_is_not_set_up(first, listeners):
    call = f"workflow.execute(listeners={listeners})\n"

    assert run(first + WORKFLOW + call) == ("", "")


def test_logging_is_not_imported_for_failures_that_nobody_reads():
    look = "import sys; print('logging' in sys.modules)\n"
    script = WORKFLOW.replace(", retry=RetryPolicy(2, 0)", "")  # tenacity imports it

    before, after = run(f"{look}{script}workflow.execute()\n{look}")[0].split()

    assert before == after


def test_what_is_set_up_before_an_execution_is_heard():
    out, err = run(
        WORKFLOW + "import logging; logging.basicConfig()\nworkflow.execute()\n"
    )

    assert out == ""
    assert err.startswith(
        "WARNING:stepfunction:task 't' of step 'A' of 'W': attempt 1 is followed by"
    )
    assert err.count("ERROR:stepfunction:") == 2
    assert err.count("Traceback (most recent call last):") == 2


def told(caplog, **facts):
    event = Event(
        time=0.0, root_id="r", execution_id="e", workflow="W", step="A", **facts
    )
    with caplog.at_level(logging.DEBUG, logger="stepfunction"):
        log(event)
    (record,) = caplog.records
    return record.levelname, record.getMessage(), record.exc_info


@pytest.mark.parametrize(
    ("done", "total", "said"),
    [(500, 1000, "500 of 1,000 items done"), (1, None, "1 item done")],
)
def test_how_far_a_map_step_has_come_is_logged_at_debug(caplog, done, total, said):
    found = told(caplog, subject="step", what="progressed", done=done, total=total)
    assert found == ("DEBUG", f"step 'A' of 'W': {said}", None)


def test_a_compensation_that_succeeded_is_logged_at_info(caplog):
    facts = {"subject": "compensation", "what": "succeeded", "part": "t"}
    found = told(caplog, **facts, duration=2.0)
    what = "compensation of task 't' of step 'A' of 'W'"
    assert found == ("INFO", f"{what} succeeded in 2 s", None)


def test_a_compensation_that_failed_is_logged_at_error_with_its_traceback(caplog):
    error = OSError("closed")
    level, text, trace = told(
        caplog, subject="compensation", what="failed", duration=2.0, error=error
    )
    assert level == "ERROR"
    assert text == "compensation of step 'A' of 'W' failed in 2 s: OSError: closed"
    assert trace[1] is error


def test_a_fail_step_is_logged_as_the_failure_that_it_is(logged):
    workflow = StepFunction("W").add_fail_step("Stop", "Refused", "too late")
    levels = dict(map(reversed, logged(workflow.set_start_step("Stop"))))
    text = "step 'Stop' of 'W' failed in …: FailStepError: Refused: too late"
    assert levels[text] == "ERROR"


EVIL = "no\nERROR:root:the vault was opened\x1b[2J\x1b]0;owned\x07\r\u2028\u202e"


@pytest.mark.parametrize("level", ["DEBUG", "INFO", "WARNING", "ERROR"])
def test_a_text_of_others_stays_in_its_line_of_the_log(caplog, level):
    def fail(value):
        raise ValueError(EVIL)

    workflow = StepFunction(f"W {EVIL}").set_start_step(EVIL)
    retry = RetryPolicy(2, interval=0)
    workflow.add_step(EVIL, fail, on_failure="Sorry", retry=retry)
    with caplog.at_level(level, "stepfunction"):
        workflow.add_step("Sorry", repr).execute()
    assert caplog.messages
    assert all(message.isprintable() for message in caplog.messages)
    assert any("the vault was opened" in message for message in caplog.messages)


def test_what_a_listener_of_any_name_fails_with_stays_in_its_line(caplog):
    class Listener:
        def __call__(self, event):
            raise ValueError

        def __repr__(self):
            return EVIL

    workflow = StepFunction("W").add_step("A", repr).set_start_step("A")
    workflow.execute(listeners=[Listener()])
    assert caplog.messages
    assert all(message.isprintable() for message in caplog.messages)
