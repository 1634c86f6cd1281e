from __future__ import annotations

import threading
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from zoneinfo import ZoneInfo

import pytest
from django.db import connections
from django.test import override_settings
from django.utils import timezone, translation
from shared.django_shop import both
from shop import steps

from stepfunction import StepFunction


@pytest.mark.parametrize("executor", ["thread", "process"])
def test_tasks_have_the_language_and_the_time_zone_of_their_caller(executor):
    with translation.override("de"), timezone.override(ZoneInfo("Asia/Tokyo")):
        execution = both(steps.tell_surroundings, executor=executor).execute()
    for found in execution.output.values():
        assert found["thread"] != threading.get_ident() or executor == "process"
        assert (found["language"], found["zone"]) == ("de", "Asia/Tokyo")
        assert found["text"] == "Ja"


def test_tasks_of_somebody_elses_threads_have_them_too():
    with ThreadPoolExecutor(1) as pool, translation.override("de"):
        execution = both(steps.tell_surroundings, executor=pool).execute()
        assert execution.output["t0"]["language"] == "de"
        assert pool.submit(translation.get_language).result() == "en-us"


def test_a_workflow_that_was_started_has_the_language_of_its_caller():
    workflow = StepFunction("Tell").add_step("Tell", steps.tell_surroundings)
    with translation.override("de"):
        execution = workflow.set_start_step("Tell").start()
    execution.wait()
    assert execution.output["language"] == "de"


@pytest.mark.parametrize("executor", ["thread", "pool"])
def test_a_thread_closes_its_connections_when_its_task_has_ended(
    tables, alias, closed, executor
):
    with ThreadPoolExecutor(2) as pool:
        place = pool if executor == "pool" else executor
        both(lambda _: steps.count_cars(alias), executor=place).execute()
        assert len(closed) == 2
        assert threading.get_ident() not in closed


def test_the_callers_connection_stays_open(tables, alias):
    steps.count_cars(alias)
    before = connections[alias].connection
    both(lambda _: steps.count_cars(alias)).execute()
    both(lambda _: steps.count_cars(alias), executor="inline").execute()
    assert connections[alias].connection is before is not None


def test_a_workflow_that_was_started_closes_its_connections(tables, alias, closed):
    workflow = StepFunction("Count").add_step("Count", steps.count_cars)
    execution = workflow.set_start_step("Count").start(alias)
    execution.wait()
    assert execution.output == 0
    assert len(closed) == 1


def test_a_task_that_fails_leaves_no_connection_either(tables, alias, closed):
    def fail(_):
        steps.count_cars(alias)
        raise ValueError

    both(fail, tolerated_failures=2).execute()
    assert len(closed) == 2


class CallersThread(Executor):
    """What runs all in the thread that submits it, as some do for tests."""

    def submit(self, fn, /, *args, **keywords):
        future = Future()
        future.set_result(fn(*args, **keywords))
        return future


def test_an_executor_that_is_the_callers_thread_leaves_its_connection_open(tables):
    steps.count_cars()
    before = connections["default"].connection
    execution = both(steps.touch_nothing, executor=CallersThread()).execute()
    assert execution.output["t1"] == "nothing"
    assert connections["default"].connection is before


class Tenant:
    """What keeps something for each thread, as pghistory and others do."""

    now = threading.local()

    def take(self):
        return getattr(self.now, "name", None)

    def enter(self, taken):
        self.now.name = taken
        return translation.override("de")


def tell_tenant(_):
    return Tenant.now.name, translation.get_language()


@pytest.mark.parametrize("given", [Tenant, "test_threads.Tenant", Tenant()])
@pytest.mark.parametrize("executor", ["thread", "process"])
def test_the_settings_can_add_surroundings(given, executor, monkeypatch):
    monkeypatch.setattr(Tenant.now, "name", "acme", raising=False)
    with override_settings(STEPFUNCTION={"SURROUNDINGS": [given]}):
        execution = both(tell_tenant, executor=executor).execute()
    assert set(execution.output.values()) == {("acme", "de")}


def test_surroundings_that_cannot_be_found_fail_the_task(tables):
    with override_settings(STEPFUNCTION={"SURROUNDINGS": ["shop.nowhere.Tenant"]}):
        execution = both(steps.touch_nothing, tolerated_failures=2).execute()
    assert isinstance(execution.output.failed["t0"], ImportError)
