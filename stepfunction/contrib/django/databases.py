"""Databases: the connections of this thread, and what may be done with them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

from django.db import connections

from stepfunction.contrib.django.errors import memory_database_error


def known() -> list[Any]:
    """Give the connections that this thread has made use of."""
    own = getattr(_kept, "__dict__", _WITH_LOOP)
    if "cvar" not in own:  # there has never been an event loop in this thread
        return list(own.values())
    found: list[Any] = connections.all(initialized_only=True)
    return found


# Where Django keeps them, for to ask it takes as long as a short step does.
_kept: Any = getattr(connections._connections, "_storage", None)
_WITH_LOOP = {"cvar": None}


def any_in_block() -> bool:
    """Tell whether this thread is inside ``atomic()`` anywhere, as soon as it can."""
    own = getattr(_kept, "__dict__", _WITH_LOOP)
    if not own:
        return False
    for connection in known() if "cvar" in own else [*own.values()]:
        if connection.in_atomic_block:
            return True
    return False


def is_in_test(connection: Any) -> bool:
    """Tell a connection that is in a test case's own transaction."""
    return connection.in_atomic_block and any(
        block._from_testcase for block in connection.atomic_blocks
    )


def is_in_users_block(connection: Any) -> bool:
    """Tell a connection that is inside an ``atomic()`` other than a test case's own."""
    return connection.in_atomic_block and not all(
        block._from_testcase for block in connection.atomic_blocks
    )


def close_all() -> None:
    """Close all connections of this thread but those that are inside ``atomic()``."""
    for connection in known():
        if not connection.in_atomic_block:
            with suppress(Exception):  # what cannot be closed is gone already
                connection.close()


def release() -> None:
    """Give connections of this thread back to their pools, where nothing is lost."""
    for connection in known():
        if (
            connection.connection is not None
            and connection.settings_dict["OPTIONS"].get("pool")
            and connection.autocommit
            and not connection.in_atomic_block
            and not _has_open_cursors(connection)
        ):
            connection.close()


def _has_open_cursors(connection: Any) -> bool:
    """Tell a connection from which somebody is just reading rows bit by bit."""
    if not getattr(connection, "_named_cursor_idx", 0):
        return False
    with connection.cursor() as cursor:
        cursor.execute("SELECT EXISTS (SELECT FROM pg_cursors WHERE name <> '')")
        return bool(cursor.fetchone()[0])


@contextmanager
def refusing(refused: Mapping[str, Callable[[str], Exception]]) -> Iterator[None]:
    """Refuse queries of this thread while the block lasts.

    Args:
        refused: The alias of a database to what gives the error of its first query.
    """
    connected = [
        (connections[alias], alias, error)
        for alias, error in refused.items()
        if alias in connections.settings
    ]
    before = [connection.__dict__.get(_DOOR) for connection, _, _ in connected]
    for connection, alias, error in connected:
        setattr(connection, _DOOR, _refusal(error, alias))
    try:
        yield
    finally:
        for (connection, _, _), door in zip(connected, before):
            if door is None:
                connection.__dict__.pop(_DOOR, None)
            else:
                setattr(connection, _DOOR, door)


# What every query goes through, whether there is a connection yet or not.
_DOOR = "ensure_connection"


def _refusal(error: Callable[[str], Exception], alias: str) -> Callable[[], None]:
    def refuse() -> None:
        raise error(alias)

    return refuse


def names() -> dict[str, Any]:
    """Give the name of each database, which is another one in a test."""
    return {alias: connections.settings[alias].get("NAME") for alias in connections}


def point_to(caller: Mapping[str, Any]) -> bool:
    """Let this process use the databases of its caller's.

    Args:
        caller: The alias of each database to its name there.

    Returns:
        Whether they are others than the settings say: those of a test.
    """
    is_foreign = False
    for alias, name in caller.items():
        database = connections.settings.get(alias)
        if database is None:
            continue
        own = _own_names.setdefault(alias, database["NAME"])
        is_foreign = is_foreign or str(name) != str(own)
        # A worker makes one call at a time, and needs no connections in stock.
        if database["OPTIONS"].get("pool"):
            database["OPTIONS"] = {**database["OPTIONS"], "pool": None}
        if str(name) != str(database["NAME"]):
            for connection in known():
                if connection.alias == alias:
                    connection.close()
            database["NAME"] = name
    return is_foreign


_own_names: dict[str, Any] = {}  # as the settings say


def in_memory(caller: Mapping[str, Any]) -> dict[str, Callable[[str], Exception]]:
    """Give what is to be refused of a caller's databases in another process."""
    return {
        alias: memory_database_error
        for alias, name in caller.items()
        if alias in connections.settings
        and "sqlite" in connections.settings[alias]["ENGINE"]
        and (":memory:" in str(name) or "mode=memory" in str(name))
    }


def renew() -> None:
    """Have what is no longer usable replaced, at the latest at its next query."""
    for connection in known():
        with suppress(Exception):  # as when the server has just gone
            connection.close_if_unusable_or_obsolete()
        connection.health_check_enabled = True
