"""The shop on real servers, with PostgreSQL and many customers at a time."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest
from shared.django_shop import HERE, SETTINGS, needs_postgres

pytestmark = needs_postgres

GUNICORN = ["-m", "gunicorn", "shop.wsgi", "--bind={address}", "--log-level=warning"]
UVICORN = ["-m", "uvicorn", "shop.asgi:application", "--host={host}", "--port={port}"]
SERVERS = {
    "sync": [*GUNICORN, "--workers=4", "--preload"],
    "gthread": [*GUNICORN, "--workers=2", "--threads=4", "--worker-class=gthread"],
    "one": [*GUNICORN, "--workers=1", "--threads=4", "--worker-class=gthread"],
    "uvicorn": [*UVICORN, "--log-level=warning"],
}


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


def environment_of(default="postgres"):
    paths = filter(None, (str(HERE), os.environ.get("PYTHONPATH")))
    project = {"PYTHONPATH": os.pathsep.join(paths), "DJANGO_SETTINGS_MODULE": SETTINGS}
    return {**os.environ, **project, "SHOP_DEFAULT": default}


def wait_for(is_so, seconds=20.0):
    """Wait until something is so."""
    end = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < end, "it never came to be so"
        time.sleep(0.01)


@pytest.fixture
def stock(database):
    database.execute("TRUNCATE shop_order, shop_car CASCADE")
    database.execute(
        "INSERT INTO shop_car (id, name, in_stock) VALUES (1, 'Roadster', 160)"
    )


@contextmanager
def serving(server, default="postgres"):
    """Start a server; give how to ask it, and the process."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        host, port = probe.getsockname()
    facts = {"host": host, "port": port, "address": f"{host}:{port}"}
    command = [part.format(**facts) for part in SERVERS[server]]
    command = [sys.executable, *command]
    process = subprocess.Popen(command, env=environment_of(default))

    def ask(path, timeout=25):
        try:
            url = f"http://{host}:{port}/{path}"
            with urllib.request.urlopen(url, timeout=timeout) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def is_up():
        with socket.socket() as client:
            return client.connect_ex((host, port)) == 0

    try:
        wait_for(is_up)
        yield ask, process
    finally:
        process.terminate()
        process.wait(20)


def connections_of(database):
    query = "SELECT count(*) FROM pg_stat_activity WHERE datname = 'shop'"
    return database.execute(query).fetchone()[0]


def sell(ask, path, count=200, customers=8):
    """Sell cars to many customers at a time; give how often each status came."""
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
        children = children_of(process.pid)
        assert children
        process.send_signal(end)
        if end == signal.SIGTERM:
            process.wait(5)
        wait_for(lambda: not any(is_alive(pid) for pid in children))


def children_of(pid):
    with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as file:
        return [int(child) for child in file.read().split()]


def is_alive(pid):
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
