"""Tables: how what is kept stands in the tables of SQLite, and what their sums are."""

from __future__ import annotations

from collections.abc import Callable
from sqlite3 import Cursor
from typing import Any, TypeAlias
from zlib import crc32

from stepfunction.core.store import Row

Execute: TypeAlias = "Callable[..., Cursor]"

ADD_ROW = "INSERT INTO rows VALUES (?, ?, ?)"
ADD_APART = "INSERT INTO apart VALUES (NULL, ?, ?, ?, ?, ?)"
APART = "SELECT data, sum FROM apart WHERE key = ? AND name = ?"
HAS_APART = "SELECT 1 FROM apart WHERE key = ? AND name = ?"
GRAPH = "SELECT text, sum FROM graphs WHERE digest = ?"
LATER_APART = "SELECT place, name FROM apart WHERE key = ? AND number > 0"
ADD_GRAPH = "INSERT INTO graphs VALUES (?, ?, ?) ON CONFLICT DO NOTHING"
ADD_EXECUTION = (
    "INSERT INTO executions VALUES "
    "(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING"
)
LAST_KEY = "SELECT seq FROM sqlite_sequence WHERE name = 'executions'"
EXECUTION = "SELECT * FROM executions WHERE key = ?"
OUTERMOST = "SELECT * FROM executions WHERE id = ? AND outside IS NULL"
NESTED = "SELECT * FROM executions WHERE outside = ? ORDER BY visit, part, turn"
LATEST = (
    "SELECT * FROM executions WHERE outside IS NULL AND (started, key) < (?, ?)"
    " AND started >= ? ORDER BY started DESC, key DESC LIMIT ?"
)
END = "UPDATE executions SET status = ?, ended = ?, length = ?, sum = ? WHERE key = ?"
OWN = "UPDATE executions SET host = ?, pid = ? WHERE key = ?"
ROWS = "SELECT id, text, sum FROM rows WHERE id BETWEEN ? AND ? ORDER BY id LIMIT ?"
WITHIN = (
    "WITH RECURSIVE within (key) AS (SELECT key FROM executions WHERE {}"
    " UNION ALL SELECT executions.key FROM executions, within"
    " WHERE outside = within.key) SELECT key FROM within"
)
ALL_WITHIN = WITHIN.format("key = ?")
WITHIN_EARLIER = WITHIN.format("outside = ? AND visit < ?")
LOSE_UNUSED_GRAPHS = (
    "DELETE FROM graphs WHERE digest NOT IN (SELECT graph FROM executions)"
)

# A row's place is its execution's key and its own number.
SHIFT = 32
LAST = (1 << SHIFT) - 1
CHUNK = 2_000  # rows that are read at once
# The columns of an execution that its sum is of, and where some of them are.
SUMMED, STATUS, ENDED, LENGTH = slice(0, 13), 4, 6, 12


def add(execute: Execute, row: Row) -> None:
    """Add a row, and what it refers to unless that is there."""
    key, number, text, apart = row
    id = key << SHIFT | number
    execute(ADD_ROW, (id, text, checksum(f"{id} {text}")))
    for name, data in (apart or {}).items():
        if execute(HAS_APART, (key, name)).fetchone() is None:
            kept = (key, name, number, apart_sum(key, name, data), data)
            execute(ADD_APART, kept)


def lose(execute: Execute, key: int) -> None:
    """Lose an execution, its rows and what they refer to, but nothing nested."""
    first = key << SHIFT
    execute("DELETE FROM rows WHERE id BETWEEN ? AND ?", (first, first | LAST))
    execute("DELETE FROM apart WHERE key = ?", (key,))
    execute("DELETE FROM executions WHERE key = ?", (key,))


def forget(execute: Execute, row: Row, visit: int) -> None:
    """Lose the rows between the first and one that says all that they say.

    What these refer to is lost with them, and what was nested in earlier visits too.
    """
    first = row.key << SHIFT
    id = first | row.number
    execute("DELETE FROM rows WHERE id > ? AND id < ?", (first, id))
    sum = checksum(f"{id}! {row.text}")
    execute("UPDATE rows SET sum = ? WHERE id = ?", (sum, id))
    needed = row.apart or {}
    for place, name in execute(LATER_APART, (row.key,)).fetchall():
        if name not in needed:
            execute("DELETE FROM apart WHERE place = ?", (place,))
    for (key,) in execute(WITHIN_EARLIER, (row.key, visit)).fetchall():
        lose(execute, key)


def one(execute: Execute, question: str, *values: Any) -> Any:
    """Give the first of what answers a question; None where nothing does."""
    return execute(question, values).fetchone()


def checksum(text: str) -> int:
    """Give the sum of a text."""
    return crc32(text.encode())


def sum_of(columns: Any) -> int:
    """Give the sum of an execution, of its columns as far as ``LENGTH``."""
    return checksum("\n".join(map(str, columns)))


def apart_sum(key: int, name: str, data: bytes) -> int:
    """Give the sum of what stands apart."""
    return crc32(data, checksum(f"{key} {name}"))
