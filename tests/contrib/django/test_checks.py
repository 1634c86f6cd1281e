from __future__ import annotations

import multiprocessing
from concurrent.futures import ProcessPoolExecutor

import pytest
from django.apps import apps
from django.conf import settings
from django.core.checks import run_checks
from django.db import connections
from django.test import override_settings
from django.test.utils import CaptureQueriesContext
from shop import workflows

from stepfunction import ProcessLanes, StepFunction


@pytest.fixture
def add(monkeypatch):
    """Give the app another workflow, and what the checks then say."""

    def add(workflow, name="added"):
        monkeypatch.setattr(workflows, name, workflow, raising=False)
        return checked()

    return add


def checked(**options):
    return [it for it in run_checks(**options) if it.id.startswith("stepfunction")]


def ids(messages):
    return [it.id.removeprefix("stepfunction.") for it in messages]


@pytest.fixture
def database(monkeypatch):
    """Give the project another database, which nobody connects to."""

    def database(**options):
        facts = {"ENGINE": "django.db.backends.postgresql", "NAME": "x", **options}
        monkeypatch.setitem(settings.DATABASES, "other", facts)

    return database


def tasks(count, **options):
    workflow = StepFunction("Many")
    named = {f"t{number}": str for number in range(count)}
    return workflow.add_parallel_step("All", named, **options).set_start_step("All")


def test_a_sound_project_has_nothing_to_be_said_of():
    assert checked() == []


def test_the_checks_make_no_query():
    with CaptureQueriesContext(connections["default"]) as queries:
        checked()
    assert len(queries) == 0


def test_every_problem_of_an_unsound_workflow_is_an_error(add):
    workflow = StepFunction("W").add_step("A", str, "B").add_step("Lost", str)
    found = add(workflow.set_start_step("A"))
    assert ids(found) == ["E001", "E001"]
    assert {it.obj for it in found} == {"shop.W"}
    assert all(it.hint for it in found)


def test_a_function_that_gives_no_workflow_is_an_error(add):
    def broken() -> StepFunction:
        raise OSError("no key")

    broken.__module__ = workflows.__name__
    (found,) = add(broken)
    assert ids([found]) == ["E001"]
    assert "OSError: no key" in found.msg


def test_every_function_that_gives_no_workflow_is_an_error(add):
    def broken() -> StepFunction:
        raise OSError("no key")

    def empty() -> StepFunction:
        return None

    broken.__module__ = empty.__module__ = workflows.__name__
    add(broken, "broken")
    assert ids(add(empty, "empty")) == ["E001", "E001"]


def test_what_a_process_cannot_be_sent_is_an_error(add):
    workflow = StepFunction("W").add_step("A", lambda it: it, executor="process")
    (found,) = add(workflow.set_start_step("A"))
    assert ids([found]) == ["E002"]
    assert "cannot be sent to a process" in found.msg


def test_what_a_process_cannot_be_sent_is_known_however_deep_it_is_nested(add):
    inner = StepFunction("I").add_step("A", lambda it: it, executor="process")
    outer = StepFunction("O").add_step("In", inner.set_start_step("A"))
    (found,) = add(outer.set_start_step("In"))
    assert ids([found]) == ["E002"]
    assert found.msg.startswith("step 'In': nested workflow 'I': step 'A': ")


def test_two_workflows_of_one_name_are_an_error(add):
    (found,) = add(StepFunction("Quote").add_step("A", str).set_start_step("A"))
    assert ids([found]) == ["E003"]
    assert "shop.workflows:quote, shop.workflows:added" in found.msg


def test_a_workflow_that_has_two_names_in_its_module_is_none(add):
    assert add(workflows.quote) == []


@pytest.mark.parametrize(
    ("name", "hint"),
    [("RELAESE", "Did you mean 'RELEASE'? "), ("xyz", "The settings are ")],
)
def test_an_unknown_setting_is_an_error_with_what_may_be_meant(name, hint):
    with override_settings(STEPFUNCTION={name: 1}):
        (found,) = checked()
    assert ids([found]) == ["E004"]
    assert found.hint.startswith(hint)


@pytest.mark.parametrize(
    ("name", "value"), [("IN_ATOMIC", "inlien"), ("RELEASE", "no"), ("RELEASE", 0)]
)
def test_a_setting_that_cannot_be_is_an_error(name, value):
    with override_settings(STEPFUNCTION={name: value}):
        (found,) = checked()
    assert ids([found]) == ["E004"]
    assert repr(value) in found.msg


@pytest.mark.parametrize(
    ("name", "value"), [("REDACT", "shop.no.hide"), ("SURROUNDINGS", ["shop.no.one"])]
)
def test_a_path_that_leads_nowhere_is_an_error(name, value):
    with override_settings(STEPFUNCTION={name: value}):
        (found,) = checked()
    assert ids([found]) == ["E004"]
    assert "No module named 'shop.no'" in found.msg


@pytest.mark.parametrize("given", [None, ["RELEASE"], "RELEASE"])
def test_settings_that_are_no_dict_are_an_error(given):
    with override_settings(STEPFUNCTION=given):
        (found,) = checked()
    assert ids([found]) == ["E004"]
    assert "dict" in found.msg


def test_tasks_on_threads_meet_requests_in_a_transaction(add, database):
    database(ATOMIC_REQUESTS=True)
    (found,) = add(tasks(2))
    assert ids([found]) == ["W001"]
    assert "step 'All' run outside" in found.msg
    assert "non_atomic_requests" in found.hint


def test_tasks_that_may_be_in_a_transaction_are_no_matter(add, database):
    database(ATOMIC_REQUESTS=True)
    with override_settings(STEPFUNCTION={"IN_ATOMIC": "inline"}):
        assert add(tasks(2)) == []


def test_steps_of_the_callers_thread_are_no_matter(add, database):
    database(ATOMIC_REQUESTS=True)
    assert add(tasks(2, executor="inline")) == []


@pytest.mark.parametrize(
    ("pool", "count", "expected"),
    [
        ({"max_size": 4}, 5, ["W002"]),
        ({"max_size": 4}, 4, []),
        ({"min_size": 6}, 6, []),
        ({"min": 1, "max": 4}, 5, ["W002"]),
        (True, 5, ["W002"]),
        (True, 4, []),
        (False, 40, []),
        ({"max_size": 32}, 100, []),
    ],
)
def test_more_tasks_at_once_than_the_pool_has_connections(
    add, database, pool, count, expected
):
    database(OPTIONS={"pool": pool})
    assert ids(add(tasks(count))) == expected


def test_a_step_that_keeps_to_the_size_of_the_pool_is_no_matter(add, database):
    database(OPTIONS={"pool": {"max_size": 4}})
    assert add(tasks(40, max_workers=4)) == []


def test_forked_processes_are_warned_of(add):
    with ProcessPoolExecutor(1, multiprocessing.get_context("fork")) as pool:
        assert ids(add(tasks(2, executor=pool))) == ["W003"]
    with ProcessLanes(1, start_method="fork") as lanes:
        assert ids(add(tasks(2, executor=lanes))) == ["W003"]


def test_processes_that_are_not_forked_are_no_matter(add):
    with ProcessLanes(1) as lanes:
        assert add(tasks(2, executor=lanes)) == []
    assert add(tasks(2, executor="process")) == []


def test_only_the_apps_that_are_asked_for_are_checked(add):
    workflow = StepFunction("W").add_step("A", str, "B").set_start_step("A")
    add(workflow)
    assert checked(app_configs=[apps.get_app_config("auth")]) == []
    assert ids(checked(app_configs=[apps.get_app_config("shop")])) == ["E001"]


def test_the_checks_can_be_run_by_their_tag(add):
    add(StepFunction("W").add_step("A", str, "B").set_start_step("A"))
    assert ids(checked(tags=["stepfunction"])) == ["E001"]
