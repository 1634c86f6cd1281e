"""The tests of a shop under pytest-django, and under Django's own runner."""

from __future__ import annotations

import os
import random
import subprocess
import sys

import pytest
from shared.django_shop import needs_postgres

SUITE = '''
import random
import threading

import pytest
from django.test import TestCase, TransactionTestCase
from shop import steps, views
from shop.models import Car
from stepfunction import ProcessLanes, StepFunction

lanes = ProcessLanes(1)


def both(function, **options):
    workflow = StepFunction("Both")
    workflow.add_parallel_step("Both", {"a": function, "b": function}, **options)
    return workflow.set_start_step("Both")


def count(_):
    return Car.objects.count()


def sell(client):
    Car.objects.create(name="Roadster", in_stock=1)
    assert client.get("/sell").status_code == 200
    assert client.get("/sell").status_code == 409
    assert Car.objects.get().in_stock == 0


@pytest.mark.parametrize("number", range(6))
def test_with_db(db, client, number):
    sell(client)
    counted = both(steps.count_cars, executor="process").execute("default")
    assert counted.output["a"] == 1


@pytest.mark.parametrize("number", range(6))
def test_with_transactional_db(transactional_db, client, number):
    sell(client)
    counted = both(steps.count_cars, executor=lanes).execute("default")
    assert counted.output["a"] == 1
    threads = both(steps.tell_surroundings).execute().output
    assert threads["a"]["thread"] != threading.get_ident()


class InATransaction(TestCase):
    def test_sale(self):
        sell(self.client)

    def test_start(self):
        execution = both(steps.count_cars).start("default")
        assert execution.output == {"a": 0, "b": 0}

    async def test_async_view(self):
        await Car.objects.acreate(name="Roadster", in_stock=1)
        ask = self.async_client.get
        assert (await ask("/sell-async")).status_code == 200
        assert (await ask("/sell-async")).status_code == 409
        assert (await ask("/sell-async-async-steps")).status_code == 409

    def test_async_steps(self):
        Car.objects.create(name="Roadster", in_stock=1)
        assert self.client.get("/sell-async-steps").status_code == 200
        assert self.client.get("/sell-async-async-steps").status_code == 409


class WithoutATransaction(TransactionTestCase):
    def test_sale(self):
        sell(self.client)

    def test_start(self):
        execution = both(steps.count_cars).start("default")
        assert execution.wait(20)
        assert execution.output == {"a": 0, "b": 0}

    async def test_async_view(self):
        await Car.objects.acreate(name="Roadster", in_stock=1)
        ask = self.async_client.get
        assert (await ask("/sell-async")).status_code == 200
        assert (await ask("/sell-async-async-steps")).status_code == 409


for kind in (InATransaction, WithoutATransaction):
    for number in range(10):
        def test(self):
            sell(self.client)
        setattr(kind, f"test_{number}", test)
del kind, test
'''
ANY_ORDER = """
import os
import random


def pytest_collection_modifyitems(items):
    random.Random(int(os.environ["ORDER"])).shuffle(items)
"""


@pytest.fixture
def run(tmp_path):
    (tmp_path / "test_shop.py").write_text(SUITE, encoding="utf-8")
    (tmp_path / "conftest.py").write_text(ANY_ORDER, encoding="utf-8")

    own = {"SHOP_NAME": "other", "SHOP_DIR": str(tmp_path)}

    def run(*command, **environment):
        done = subprocess.run(
            [sys.executable, "-W", "error", *command],
            cwd=tmp_path,
            env={**os.environ, **own, **environment},
            capture_output=True,
            text=True,
            timeout=100,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    return run


@pytest.mark.parametrize(
    "database", ["", pytest.param("postgres", marks=needs_postgres)]
)
@pytest.mark.timeout(120)
def test_pytest_django_in_any_order(run, database):
    order = str(random.randrange(1000))
    print("order", order)
    found = run("-m", "pytest", "-q", ORDER=order, SHOP_DEFAULT=database)
    assert "39 passed" in found
    assert "ResourceWarning" not in found


@pytest.mark.parametrize(
    "database", ["", pytest.param("postgres", marks=needs_postgres)]
)
@pytest.mark.timeout(120)
def test_the_runner_of_django(run, database):
    arguments = "-m", "django", "test", "--shuffle", "--settings=shop.settings"
    found = run(*arguments, SHOP_DEFAULT=database)
    assert "Ran 27 tests" in found
    assert "ResourceWarning" not in found
