"""Errors: what the app refuses at a task's first query."""

from __future__ import annotations

from stepfunction.core.errors import TransferError

IN_A_LOOP = (
    "execute() was called on an event loop, where Django allows no queries: in an "
    "async view, write: await workflow.aexecute(…)"
)
IN_A_COROUTINE = (
    "an async def step may use the async methods of the ORM alone, as aget(), asave() "
    "and async for; or make it a plain function"
)


class AtomicBlockError(TransferError):
    """A task elsewhere queried a database on which its caller is inside ``atomic()``.

    It would not see what the caller has written there, might wait for ever for a row
    that the caller has changed, and would not be rolled back with it.

    Attributes:
        alias: The alias of the database.
    """

    def __init__(self, message: str, alias: str) -> None:
        super().__init__(message, alias)
        self.alias = alias


class MemoryDatabaseError(TransferError):
    """A task in another process queried a database that is in its caller's memory.

    Attributes:
        alias: The alias of the database.
    """

    def __init__(self, message: str, alias: str) -> None:
        super().__init__(message, alias)
        self.alias = alias


def atomic_block_error(alias: str) -> AtomicBlockError:
    """Give the error, with the ways out."""
    return AtomicBlockError(
        f"a task in another thread or process would query the database {alias!r}, on "
        "which its caller is inside atomic(): it would not see what the caller has "
        "written, nor be rolled back with it, and could wait for the caller's rows "
        "for ever. Run it in the caller's thread (executor='inline', or "
        "STEPFUNCTION = {'IN_ATOMIC': 'inline'}), run the workflow after the commit "
        "(run_on_commit), take the view out of ATOMIC_REQUESTS "
        "(@transaction.non_atomic_requests), or, where it touches none of the "
        "caller's rows, set {'IN_ATOMIC': 'allow'}",
        alias,
    )


def memory_database_error(alias: str) -> MemoryDatabaseError:
    """Give the error, with the ways out."""
    return MemoryDatabaseError(
        f"a task in another process would query the database {alias!r}, which is in "
        "the memory of its caller's process. Give DATABASES"
        f"[{alias!r}]['TEST']['NAME'] the name of a file, or run it with "
        "executor='inline' or 'thread'",
        alias,
    )
