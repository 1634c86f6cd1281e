from __future__ import annotations

import logging

import pytest
from django.db import connections
from shared.django_shop import both, fan_out
from shop import steps
from shop.models import Car

from stepfunction import ProcessLanes, StepFunction
from stepfunction.contrib.django import MemoryDatabaseError


@pytest.fixture(scope="module")
def lanes():
    with ProcessLanes(1) as lanes:
        yield lanes


def test_a_process_task_uses_the_test_database(tables, alias, lanes):
    Car.objects.using(alias).create(name="Roadster")
    counted = fan_out(steps.count_cars, steps.tell_database, executor=lanes)
    execution = counted.execute(alias)
    assert execution.output["t0"] == 1
    assert "test_shop" in execution.output["t1"]


def test_django_is_set_up_before_a_task_is_unpickled(tables, lanes):
    # The function's own module imports models, and a model is what it is given.
    workflow = StepFunction("Name").add_step("Name", tell_name, executor=lanes)
    car = Car.objects.create(name="Roadster")
    assert workflow.set_start_step("Name").execute(car).output == "Roadster"


def tell_name(car):
    return car.name


def test_a_lazy_result_is_read_before_its_connection_is_closed(tables, alias, lanes):
    Car.objects.using(alias).create(name="Roadster")
    execution = both(steps.tell_lazily, executor=lanes).execute(alias)
    assert list(execution.output["t0"]) == ["Roadster"]


def test_what_is_submitted_to_lanes_is_surrounded_too(tables, lanes):
    Car.objects.create(name="Roadster")
    assert lanes.submit(steps.count_cars).result() == 1


def test_a_worker_leaves_no_connection_to_a_test_database(tables, alias, lanes):
    both(steps.count_cars, executor=lanes).execute(alias)
    assert lanes.submit(is_connected, alias).result() is False


def is_connected(alias):
    return connections[alias].connection is not None


def test_logging_is_not_configured_again_in_a_lane(caplog, lanes):
    # The record comes here, once, and is not handled there besides.
    with caplog.at_level(logging.INFO):
        handlers = lanes.submit(tell_handlers).result()
    assert handlers == ["Sender"]
    assert [it.getMessage() for it in caplog.records if it.name == "shop"] == ["here"]


def tell_handlers():
    logging.getLogger("shop").info("here")
    django = logging.getLogger("django")
    return [type(it).__name__ for it in (*logging.root.handlers, *django.handlers)]


def test_a_database_in_memory_is_refused_in_a_process(monkeypatch, lanes):
    settings = connections["default"].settings_dict
    monkeypatch.setitem(settings, "NAME", "file:memorydb_default?mode=memory")
    work = (steps.count_cars, steps.touch_nothing)
    tasks = fan_out(*work, executor=lanes, tolerated_failures=1)
    execution = tasks.execute("default")
    assert execution.output["t1"] == "nothing"
    assert isinstance(execution.output.failed["t0"], MemoryDatabaseError)
    assert "['TEST']['NAME']" in str(execution.output.failed["t0"])


def test_a_worker_goes_back_from_one_database_to_another(monkeypatch, tables, lanes):
    Car.objects.create(name="Roadster")
    settings = connections["default"].settings_dict
    monkeypatch.setitem(settings, "NAME", ":memory:")
    assert lanes.submit(steps.tell_database).result() == ":memory:"
    monkeypatch.undo()
    assert lanes.submit(steps.count_cars).result() == 1


def test_a_pool_of_another_library_is_surrounded_as_well(tables, alias):
    from concurrent.futures import ProcessPoolExecutor
    from multiprocessing import get_context

    Car.objects.using(alias).create(name="Roadster")
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        execution = both(steps.count_cars, executor=pool).execute(alias)
    assert execution.output["t0"] == 1
    assert execution.output["t1"] == 1
