"""Tables: how what is kept stands in the tables of SQLite, and what their sums are."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from os import getpid
from sqlite3 import Cursor
from typing import Any, NamedTuple, TypeAlias
from zlib import crc32

from stepfunction.core.store import Head, Row
from stepfunction.core.wording import plain_text
from stepfunction.stores.refusals import damage, host_name

Execute: TypeAlias = "Callable[..., Cursor]"

# A row's place is its execution's key and its own number.
SHIFT = 32
LAST = (1 << SHIFT) - 1
CHUNK = 2_000  # how much is read at once, while nobody else has the connection
BATCH = 1_000  # executions that are lost at once

ADD_ROW = "INSERT INTO rows VALUES (?, ?, ?)"
ROWS = "SELECT id, text, sum FROM rows WHERE id BETWEEN ? AND ? ORDER BY id LIMIT ?"
_LOSE_ROWS = "DELETE FROM rows WHERE id BETWEEN ? AND ?"

APART = (
    "SELECT data, sum FROM apart JOIN pieces USING (place) WHERE key = ? AND name = ?"
)
_FIND_APART = "SELECT place FROM apart WHERE key = ? AND name = ?"
_ADD_APART = "INSERT INTO apart VALUES (NULL, ?, ?, ?, ?, ?)"
_ADD_PIECE = "INSERT INTO pieces VALUES (?, ?)"
_NEEDED_UNTIL = "UPDATE apart SET until = ? WHERE place = ?"
_NOT_NEEDED = "FROM apart WHERE key = ? AND since > ? AND until < ?"
_LOSE_PIECES = f"DELETE FROM pieces WHERE place IN (SELECT place {_NOT_NEEDED})"
_LOSE_APART = f"DELETE {_NOT_NEEDED}"

GRAPH = "SELECT text, sum FROM graphs WHERE digest = ?"
ADD_GRAPH = "INSERT INTO graphs VALUES (?, ?, ?) ON CONFLICT DO NOTHING"
LOSE_UNUSED_GRAPHS = (
    "DELETE FROM graphs WHERE digest NOT IN (SELECT graph FROM executions)"
)

LAST_KEY = (
    "SELECT max(ifnull((SELECT seq FROM sqlite_sequence WHERE name = 'executions'), 0),"
    " ifnull((SELECT max(key) FROM executions), 0))"
)
EXECUTION = "SELECT * FROM executions WHERE key = ?"
OUTERMOST = "SELECT * FROM executions WHERE id = ? AND outside IS NULL"
NESTED = "SELECT * FROM executions WHERE outside = ? ORDER BY visit, part, turn"
LATEST = (
    "SELECT * FROM executions WHERE outside IS NULL AND (started, key) < (?, ?)"
    " AND started >= ? ORDER BY started DESC, key DESC LIMIT ?"
)
OWN = "UPDATE executions SET host = ?, pid = ? WHERE key = ?"
_SET = (
    "UPDATE executions SET status = ?, ended = ?, length = ?, since = ?, sum = ?"
    " WHERE key = ?"
)
_LOSE_EXECUTION = "DELETE FROM executions WHERE key = ?"
_WITHIN = (
    "WITH RECURSIVE within (key) AS (SELECT key FROM executions WHERE {}"
    " UNION ALL SELECT executions.key FROM executions, within"
    " WHERE outside = within.key) SELECT key FROM within"
)
WITHIN = _WITHIN.format("outside = ?")
_WITHIN_EARLIER = _WITHIN.format("outside = ? AND visit < ?")
# What was left when whoever pruned what it was nested in died.
ORPHANS = (
    "SELECT key FROM executions WHERE outside IS NOT NULL AND root NOT IN"
    " (SELECT key FROM executions WHERE outside IS NULL)"
)


class Facts(NamedTuple):
    """An execution as it stands in its table; see ``schema`` and ``Head``."""

    key: int
    root: int
    id: str
    workflow: str
    status: str
    started: float
    ended: float | None
    graph: str
    outside: int | None
    visit: int
    part: str
    turn: int
    length: int | None
    since: int
    sum: int = 0
    host: str | None = None
    pid: int | None = None

    def summed(self) -> Facts:
        """Give the same with the sum that it has to have."""
        return self._replace(sum=checksum("\n".join(map(repr, self[:14]))))

    def head(self) -> Head:
        """Give what the port says of it."""
        return Head(self.key, *self[2:12])


def facts_of(head: Head, key: int, root: int) -> Facts:
    """Give how an execution that this process begins is to stand in its table."""
    return Facts(
        key,
        root,
        plain_text(head.id),
        plain_text(head.workflow),
        plain_text(head.status),
        float(head.started),
        None if head.ended is None else float(head.ended),
        head.graph,
        outside=head.outer,
        visit=head.visit,
        part=head.part,
        turn=head.turn,
        length=None,
        since=1,
        host=host_name(),
        pid=getpid(),
    )


_ADD_EXECUTION = (
    f"INSERT INTO executions VALUES ({', '.join('?' * len(Facts._fields))})"
    " ON CONFLICT DO NOTHING"
)


def add_execution(execute: Execute, facts: Facts) -> bool:
    """Add an execution, unless there is one of that id, or at that place."""
    return execute(_ADD_EXECUTION, facts.summed()).rowcount == 1


def change(execute: Execute, facts: Facts) -> None:
    """Change what may change of an execution."""
    it = facts.summed()
    execute(_SET, (it.status, it.ended, it.length, it.since, it.sum, it.key))


def add(execute: Execute, row: Row) -> None:
    """Add a row, and what it refers to unless that is there."""
    key, number, text, apart = row
    id = key << SHIFT | number
    execute(ADD_ROW, (id, text, checksum(f"{id} {text}")))
    for name, data in (apart or {}).items():
        found = one(execute, _FIND_APART, key, name)
        if found is not None:
            execute(_NEEDED_UNTIL, (number, found[0]))
            continue
        sum = apart_sum(key, name, data)
        place = execute(_ADD_APART, (key, name, number, number, sum)).lastrowid
        execute(_ADD_PIECE, (place, data))


def checked(
    path: str, facts: Facts, found: list[tuple[int, str, int]]
) -> Iterator[tuple[int, str]]:
    """Give the number and text of rows as they are to be, one after the other.

    Raises:
        StoreError: If one is not as it was, or not there.
    """
    expected = 0
    for id, text, sum in found:
        number = id & LAST
        if sum != crc32(f"{id} {text}".encode()):
            what = f"row {number} of execution {facts.id!r} is not as it was"
            raise damage(path, what)
        if number != expected:
            break
        yield number, text
        expected = expected + 1 if expected else facts.since
    else:
        if found and (facts.length is None or expected >= facts.length):
            return
    raise damage(path, f"row {expected} of execution {facts.id!r} is not there")


def forget(execute: Execute, facts: Facts, before: int, visit: int) -> None:
    """Lose what only rows between the first and another refer to, and these rows."""
    key = facts.key
    first = key << SHIFT
    before = max(before, facts.since)
    execute(_LOSE_ROWS, (first + 1, first + before - 1))
    _lose_apart(execute, key, 0, before)
    change(execute, facts._replace(since=before))
    for (nested,) in execute(_WITHIN_EARLIER, (key, visit)).fetchall():
        lose(execute, nested)


def lose(execute: Execute, key: int) -> None:
    """Lose an execution, its rows and what they refer to, but nothing nested."""
    first = key << SHIFT
    execute(_LOSE_ROWS, (first, first | LAST))
    _lose_apart(execute, key, -1, LAST)
    execute(_LOSE_EXECUTION, (key,))


def _lose_apart(execute: Execute, key: int, since: int, until: int) -> None:
    execute(_LOSE_PIECES, (key, since, until))
    execute(_LOSE_APART, (key, since, until))


def one(execute: Execute, question: str, *values: Any) -> Any:
    """Give the first of what answers a question; None where nothing does."""
    return execute(question, values).fetchone()


def checksum(text: str) -> int:
    """Give the sum of a text."""
    return crc32(text.encode())


def apart_sum(key: int, name: str, data: bytes) -> int:
    """Give the sum of what stands apart."""
    return crc32(data, checksum(f"{key} {name}"))
