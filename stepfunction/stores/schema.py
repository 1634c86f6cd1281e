"""Schema: what tables a file of SQLite has, and how one is told from a foreign one.

A version is never edited once it was released: a later one adds to it.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import chain
from sqlite3 import Connection
from typing import Any

from stepfunction.core.errors import StoreError
from stepfunction.stores.refusals import damage

# "stpf": whose file it is, in its header.
APPLICATION = 0x73747066

# The id of a row is the key of its execution << 32 | its number, so that what is added
# comes last in one tree and nothing else is written. Rows between the first and
# ``since`` have been forgotten; ``length`` is how many there are, of what has ended.
# What stands apart is needed by the rows from ``since`` to ``until``. Host and pid are
# of who had the execution last.
#
# Sums are CRC-32, unsigned, of UTF-8: of a row, its id, a space and the text; of an
# execution, its columns before the sum, each in a line as Python's repr(); of a graph,
# its digest, a space and the text; of what is apart, its key, a space, the name and the
# data.
_VERSIONS: tuple[tuple[str, ...], ...] = (
    (
        """CREATE TABLE executions (
            key INTEGER PRIMARY KEY AUTOINCREMENT,
            root INTEGER NOT NULL,
            id TEXT NOT NULL,
            workflow TEXT NOT NULL,
            status TEXT NOT NULL,
            started REAL NOT NULL,
            ended REAL,
            graph TEXT NOT NULL,
            outside INTEGER,
            visit INTEGER NOT NULL,
            part TEXT NOT NULL,
            turn INTEGER NOT NULL,
            length INTEGER,
            since INTEGER NOT NULL,
            sum INTEGER NOT NULL,
            host TEXT,
            pid INTEGER
        )""",
        """CREATE UNIQUE INDEX outermost ON executions (id)
            WHERE outside IS NULL""",
        """CREATE UNIQUE INDEX places ON executions (outside, visit, part, turn)
            WHERE outside IS NOT NULL""",
        """CREATE INDEX latest ON executions (started)
            WHERE outside IS NULL""",
        """CREATE TABLE graphs (
            digest TEXT PRIMARY KEY,
            sum INTEGER NOT NULL,
            text TEXT NOT NULL
        )""",
        """CREATE TABLE rows (
            id INTEGER PRIMARY KEY,
            text TEXT NOT NULL,
            sum INTEGER NOT NULL
        )""",
        """CREATE TABLE apart (
            place INTEGER PRIMARY KEY,
            key INTEGER NOT NULL,
            name TEXT NOT NULL,
            since INTEGER NOT NULL,
            until INTEGER NOT NULL,
            sum INTEGER NOT NULL,
            UNIQUE (key, name)
        )""",
        """CREATE TABLE pieces (
            place INTEGER PRIMARY KEY,
            data BLOB NOT NULL
        )""",
    ),
)
VERSION = len(_VERSIONS)


def version_of(connection: Connection, path: str) -> int:
    """Give the version of a file's schema; 0 of a file that is empty.

    Raises:
        StoreError: If it is not a store's, or of a later version than is known.
    """
    application = _number(connection, "PRAGMA application_id")
    version = _number(connection, "PRAGMA user_version")
    if application != APPLICATION:
        if application or version or _number(connection, _COUNT):
            raise StoreError(
                f"{path!r} is a file of SQLite, but no store of stepfunction's; "
                "nothing was changed in it; give the path of another file"
            )
        return 0
    if 0 < version < VERSION + 1:
        tables = {text for (text,) in connection.execute(_TABLES)}
        if not tables.issuperset(chain(*_VERSIONS[:version])):
            raise damage(path, f"its tables are not those of schema {version}")
    else:
        raise StoreError(
            f"{path!r} has schema {version}, and this version of stepfunction knows "
            f"those to {VERSION}; it was written by a later one, which can read it"
        )
    return version


_COUNT = "SELECT count(*) FROM sqlite_master"
_TABLES = "SELECT sql FROM sqlite_master"


def migrate(
    connection: Connection, path: str, write: Callable[[Callable[..., Any]], Any]
) -> None:
    """Bring a file to the latest version, in one transaction.

    Args:
        connection: What it is open by.
        path: What messages call it.
        write: Calls what it is given in a transaction.
    """

    def work(execute: Callable[[str], Any]) -> None:
        # Another process may have done it meanwhile.
        found = version_of(connection, path)
        for statements in _VERSIONS[found:]:
            for statement in statements:
                execute(statement)
        execute(f"PRAGMA application_id = {APPLICATION}")
        execute(f"PRAGMA user_version = {VERSION}")

    if version_of(connection, path) < VERSION:
        write(work)


def _number(connection: Connection, question: str) -> int:
    (number,) = connection.execute(question).fetchone()
    return int(number)
