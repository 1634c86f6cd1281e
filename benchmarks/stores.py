"""What a row costs that a store keeps, beside SQLite by hand.

    python benchmarks/stores.py

By hand a row is begun, inserted and committed, in a file with a write-ahead log and
SQLite's other settings as they are. To open the files and to make their tables does not
count.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from measuring import MICRO, MILLI, Row, Times, compared, perf_counter, show, timed

from stepfunction.core.store import Head
from stepfunction.stores import SQLiteStore

FEW, MANY = 1_000, 100_000
TEXT = '["step","Validate",1795883074.123456,"Update",%d]'


def by_hand(path: Path, count: int, synchronous: str = "NORMAL") -> float:
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute(f"PRAGMA synchronous = {synchronous}")
    connection.execute("CREATE TABLE steps (number INTEGER PRIMARY KEY, value)")
    began = perf_counter()
    for number in range(count):
        connection.execute("BEGIN")
        connection.execute("INSERT INTO steps VALUES (?, ?)", (number, number))
        connection.execute("COMMIT")
    seconds = perf_counter() - began
    connection.close()
    return seconds / count


def begun(store: SQLiteStore, id: str = "id") -> int:
    head = Head(0, id, "Chain", "RUNNING", 1.0, None, "digest")
    return store.begin(head, "{}", "[]", None)


def kept(path: Path, count: int, synchronous: str = "NORMAL") -> float:
    with SQLiteStore(path, synchronous=synchronous) as store:
        key = begun(store)
        append = store.append
        began = perf_counter()
        for number in range(1, count + 1):
            append(key, number, TEXT % number)
        return (perf_counter() - began) / count


def read(path: Path, count: int) -> float:
    with SQLiteStore(path) as store:
        key = begun(store)
        for number in range(1, count + 1):
            store.append(key, number, TEXT % number)
        began = perf_counter()
        assert sum(1 for _ in store.rows(key)) == count + 1
        return perf_counter() - began


def begun_often(path: Path, count: int) -> float:
    with SQLiteStore(path) as store:
        begun(store)
        began = perf_counter()
        for number in range(count):
            store.release(begun(store, f"id-{number}"))
        return (perf_counter() - began) / count


def seconds(measure: Callable[..., float], *facts: Any) -> float:
    with TemporaryDirectory() as folder:
        return measure(Path(folder) / "runs.db", *facts)


def rows() -> Iterator[Row]:
    """Keep rows in a store of SQLite, and by hand."""
    for count, rounds, must, aim in ((FEW, 25, 1.0, 0.7), (MANY, 5, 1.5, 1.0)):
        times = Times([], [])
        for _ in range(rounds):
            times.baseline.append(seconds(by_hand, count))
            times.ours.append(seconds(kept, count))
        case = f"row of {count:,} in SQLiteStore"
        yield compared(case, "SQLite", times, must=must, aim=aim)
    times = Times([], [])
    for _ in range(5):
        times.baseline.append(seconds(by_hand, 200, "FULL"))
        times.ours.append(seconds(kept, 200, "FULL"))
    yield compared("  likewise, FULL", "SQLite", times, must=1.1, aim=1)


def readings() -> Iterator[Row]:
    """Read many rows, and begin many executions."""
    case = f"  reading {MANY:,} of them"
    read_all = [seconds(read, MANY) for _ in range(3)]
    yield timed(case, read_all, MILLI, must=300, aim=150)
    often = [seconds(begun_often, FEW) for _ in range(10)]
    yield timed("  beginning and releasing one", often, MICRO)


MEASURES = (rows, readings)

if __name__ == "__main__":
    show(*MEASURES)
