"""A database with a pool of connections, of which a request holds one."""

from __future__ import annotations

import pytest
from django.db import connections, transaction
from django.test import override_settings
from shared.django_shop import both, needs_postgres
from shop import steps
from shop.models import Car

pytestmark = needs_postgres


@pytest.fixture
def pooled(tables):
    """Give the connection of this thread, to a database with a pool of two."""
    connection = connections["postgres"]
    options = connection.settings_dict["OPTIONS"]
    connection.close()
    connection.settings_dict["OPTIONS"] = {
        **options,
        "pool": {"min_size": 0, "max_size": 2, "timeout": 2},
    }
    yield connection
    connection.close()
    connection.close_pool()
    connection.settings_dict["OPTIONS"] = options


def test_a_caller_gives_its_connection_back_before_a_fan_out(pooled):
    steps.count_cars("postgres")
    assert pooled.connection is not None
    assert both(lambda _: pooled.connection).execute().output["t0"] is None
    steps.count_cars("postgres")
    assert both(steps.count_cars).execute("postgres").output["t0"] == 0


def test_a_caller_keeps_its_connection_for_what_runs_inline(pooled):
    steps.count_cars("postgres")
    before = pooled.connection
    both(steps.count_cars, executor="inline").execute("postgres")
    assert pooled.connection is before


def test_a_caller_keeps_its_connection_in_a_transaction(pooled):
    with transaction.atomic("postgres"):
        Car.objects.using("postgres").create(name="Roadster")
        both(steps.touch_nothing).execute()
    assert steps.count_cars("postgres") == 1


def test_a_caller_keeps_its_connection_where_the_settings_say_so(pooled):
    steps.count_cars("postgres")
    before = pooled.connection
    with override_settings(STEPFUNCTION={"RELEASE": False}):
        both(steps.touch_nothing).execute()
    assert pooled.connection is before


def test_a_caller_keeps_the_connection_from_which_it_reads_row_by_row(pooled):
    cars = Car.objects.using("postgres")
    cars.bulk_create(Car(name=f"car {number}") for number in range(10))
    seen = []
    for car in cars.order_by("pk").iterator(chunk_size=2):
        seen.append(car.name)
        both(steps.touch_nothing).execute()
    assert len(seen) == 10
    both(steps.touch_nothing).execute()  # when that is over
    assert pooled.connection is None


def test_a_worker_process_keeps_no_connections_in_stock(pooled):
    output = both(tell_options, executor="process").execute().output
    assert output["t0"] == (None, 0)


def tell_options(_):
    counted = steps.count_cars("postgres")
    return connections["postgres"].settings_dict["OPTIONS"].get("pool"), counted
