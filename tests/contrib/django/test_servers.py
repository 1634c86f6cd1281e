"""The shop on real servers, with PostgreSQL and many customers at a time."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest
from shared.django_servers import environment_of, processes_of, serving, wait_for
from shared.django_shop import needs_postgres
from shared.processes import is_gone

pytestmark = needs_postgres


@pytest.fixture(scope="module")
def database():
    """Give a database of its own to the servers: host, port, user and name."""
    import psycopg

    host, port, user = os.environ["SHOP_POSTGRES"].split(":")
    with psycopg.connect(host=host, port=port, user=user, dbname="shop") as own:
        own.autocommit = True
        command = "-m", "django", "migrate", "--run-syncdb", "--verbosity=0"
        subprocess.run([sys.executable, *command], env=environment_of(), check=True)
        yield own


@pytest.fixture
def stock(database):
    database.execute("TRUNCATE shop_order, shop_car CASCADE")
    database.execute(
        "INSERT INTO shop_car (id, name, in_stock) VALUES (1, 'Roadster', 160)"
    )


def connections_of(database):
    query = "SELECT count(*) FROM pg_stat_activity WHERE datname = 'shop'"
    return database.execute(query).fetchone()[0]


def sell(ask, path, count=200, customers=6):
    """Sell cars to many customers at a time; give how often each status came."""
    # A request has up to four of the 30 connections, and ended ones take a moment.
    with ThreadPoolExecutor(customers) as pool:
        answers = list(pool.map(lambda _: ask(path), range(count)))
    assert {status for status, _ in answers} <= {200, 409}, answers[0]
    return Counter(status for status, _ in answers)


@pytest.mark.parametrize(
    "server, path",
    [
        ("sync", "sell"),
        ("sync", "sell-async-steps"),
        ("gthread", "sell"),
        ("gthread", "sell-async-steps"),
        ("uvicorn", "sell"),
        ("uvicorn", "sell-async"),
        ("uvicorn", "sell-async-steps"),
        ("uvicorn", "sell-async-async-steps"),
    ],
)
def test_all_checkouts_are_answered_and_leave_no_connection(
    database, stock, server, path
):
    with serving(server) as (ask, _):
        before = connections_of(database)
        assert sell(ask, path) == {200: 160, 409: 40}
        wait_for(lambda: connections_of(database) <= before, 1)
    sold = database.execute("SELECT in_stock FROM shop_car").fetchone()
    assert sold == (0,)


@pytest.mark.parametrize("path", ["sell", "sell-async-steps"])
def test_no_request_waits_for_a_pool_that_all_requests_hold(database, stock, path):
    longest = []
    with serving("one", "pool") as (ask, _):
        assert ask("threads")[0] == 200

        def timed(path):
            began = time.perf_counter()
            answer = ask(path)
            longest.append(time.perf_counter() - began)
            return answer

        assert sell(timed, path, 100, 4) == {200: 100}
    assert max(longest) < 2, max(longest)  # it would be 30


def end_all_connections(database):
    query = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE "
    database.execute(query + "datname = 'shop' AND pid <> pg_backend_pid()")


@pytest.mark.parametrize("path", ["sell", "sell-async", "sell-async-async-steps"])
def test_a_request_works_when_the_server_has_ended_all_connections(
    database, stock, path
):
    with serving("uvicorn") as (ask, _):
        for _ in range(3):
            assert sell(ask, path, 4, 2) == {200: 4}
            end_all_connections(database)


@pytest.mark.parametrize("age", ["0", "60"])
def test_a_warm_worker_works_when_the_server_has_ended_all_connections(
    database, stock, monkeypatch, age
):
    monkeypatch.setenv("SHOP_MAX_AGE", age)
    with serving("one") as (ask, _):
        for _ in range(3):
            assert ask("count-in-a-process") == (200, '{"orders": 0}')
            # A worker keeps its connection as long as any thread of a server does.
            wait_for(lambda: connections_of(database) == 1 + (age != "0"), 2)
            end_all_connections(database)


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGHUP])
def test_a_server_that_is_told_to_end_leaves_no_process(database, stock, end):
    with serving("gthread") as (ask, process):
        assert sell(ask, "sell", 8) == {200: 8}
        children = set(processes_of(process)) - {process.pid}
        assert children
        process.send_signal(end)
        if end == signal.SIGTERM:
            process.wait(5)
        assert all(is_gone(pid, 20) for pid in children)
