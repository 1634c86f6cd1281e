"""Fixtures of stores: one in a file, one in memory, and executions to keep."""

from __future__ import annotations

import subprocess
import sys
from itertools import count
from pathlib import Path

import pytest

from stepfunction.core.store import Head
from stepfunction.stores import SQLiteStore

PRELUDE = """\
import os, sys, time
from stepfunction import ExecutionClaimedError, StoreError
from stepfunction.core.store import Head, Row
from stepfunction.stores import SQLiteStore
path = sys.argv[1]
store = SQLiteStore(path)
def begin(id, store=store):
    head = Head(0, id, "Chain", "RUNNING", time.time(), None, "digest")
    return store.begin(head, "{}", '["begin"]', None)
"""


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "runs.db")


@pytest.fixture
def store(path):
    with SQLiteStore(path) as store:
        yield store


@pytest.fixture(params=["file", "memory"])
def any_store(request, path):
    with SQLiteStore(path if request.param == "file" else ":memory:") as store:
        yield store


@pytest.fixture
def begin():
    """Begin an execution, nested in another where ``outer`` says so."""
    numbers = count(1)

    def begin(store, id=None, *, graph="digest", apart=None, **facts):
        parts = {"workflow": "Chain", "status": "RUNNING", "started": 100.0}
        head = Head(
            0,
            id or f"id-{next(numbers)}",
            graph=graph,
            ended=None,
            **{**parts, **facts},
        )
        return store.begin(head, "{}", '["begin"]', apart)

    return begin


@pytest.fixture
def program(tmp_path, path):
    """Start a program with a store at the path, and give its process."""
    started = []

    def program(code, *arguments):
        script = tmp_path / f"program_{len(started)}.py"
        script.write_text(PRELUDE + code)
        process = subprocess.Popen(
            [sys.executable, "-W", "error", str(script), path, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[2],
        )
        started.append(process)
        return process

    yield program
    for process in started:
        process.kill()
        process.communicate()
