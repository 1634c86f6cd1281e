"""Fixtures of the Django tests: a project that is set up, with its test databases.

Tests may use Django's own test classes, or functions with the fixture ``tables``.
"""

from __future__ import annotations

import atexit
import os
import shutil
import sys
import tempfile
import threading

import django
import pytest
from shared.django_shop import HERE, SETTINGS, needs_postgres

from stepfunction.core.surroundings import register_surroundings
from stepfunction.core.watching import telling


def set_up_project():
    """Set Django up with the project, and leave no trace; give who listens in it."""
    sys.path.insert(0, str(HERE))
    own = os.environ["SHOP_DIR"] = tempfile.mkdtemp(prefix="stepfunction-shop-")
    atexit.register(shutil.rmtree, own, ignore_errors=True)
    before = os.environ.pop("DJANGO_SETTINGS_MODULE", None)
    os.environ["DJANGO_SETTINGS_MODULE"] = SETTINGS
    try:
        django.setup()
        heard = telling._everywhere
        end_of(surroundings())
        return heard
    finally:
        del os.environ["DJANGO_SETTINGS_MODULE"]
        if before is not None:
            os.environ["DJANGO_SETTINGS_MODULE"] = before


def surroundings():
    from stepfunction.contrib.django.surroundings import surroundings

    return surroundings


def end_of(registered) -> None:
    """Let no other test be of a process that has the app installed."""
    register_surroundings(registered)()
    telling._everywhere = ()


heard = set_up_project()


@pytest.fixture(scope="session", autouse=True)
def databases():
    """Make the test databases once, and drop them in the end."""
    from django.test.utils import (
        setup_databases,
        setup_test_environment,
        teardown_databases,
        teardown_test_environment,
    )

    setup_test_environment()
    old = setup_databases(verbosity=0, interactive=False)
    yield
    teardown_databases(old, verbosity=0)
    teardown_test_environment()


@pytest.fixture(autouse=True)
def project(monkeypatch, databases):
    """Let what a test starts find the project, as ``manage.py`` would."""
    paths = filter(None, (str(HERE), os.environ.get("PYTHONPATH")))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(paths))
    monkeypatch.setenv("DJANGO_SETTINGS_MODULE", SETTINGS)
    # As when the app is ready.
    register_surroundings(surroundings())
    telling._everywhere = heard
    yield
    end_of(surroundings())


def pytest_generate_tests(metafunc):
    """Run what asks for an ``alias`` on each kind of database."""
    if "alias" in metafunc.fixturenames:
        postgres = pytest.param("postgres", marks=needs_postgres)
        metafunc.parametrize("alias", ["default", postgres])


@pytest.fixture
def tables(project):
    """Let a test commit to all databases, which are emptied after it."""
    from django.core.management import call_command
    from django.db import connections

    yield
    for alias in connections:
        call_command("flush", verbosity=0, interactive=False, database=alias)
        connections[alias].close()


@pytest.fixture
def closed(monkeypatch):
    """Give the threads in which connections were closed that had been open."""
    from django.db.backends.base.base import BaseDatabaseWrapper

    threads = []
    close = BaseDatabaseWrapper.close

    def note(self):
        if self.connection is not None:
            threads.append(threading.get_ident())
        close(self)

    monkeypatch.setattr(BaseDatabaseWrapper, "close", note)
    return threads
