"""Savepoints: what a failed attempt has done to the caller's transaction is undone."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack, suppress
from typing import Any

from django.db import Error, transaction

from stepfunction.contrib.django.databases import is_in_users_block, known
from stepfunction.core.errors import causes
from stepfunction.core.raised import cause_of, context_of, is_a


def guarded(call: Callable[..., Any], *args: Any) -> Any:
    """Make a call of this thread, with a savepoint of each transaction that it uses.

    Raises:
        BaseException: What the call raises, when that has been rolled back.
    """
    with ExitStack() as stack:
        for connection in known():
            if (
                connection.in_atomic_block
                and not connection.needs_rollback
                and connection.features.uses_savepoints
            ):
                stack.enter_context(_Savepoint(connection))
        return call(*args)


class _Savepoint:
    """A savepoint that is made when there is a first query.

    Args:
        connection: What the queries are made with.
    """

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self._block: Any = None

    def __enter__(self) -> None:
        self._connection.execute_wrappers.append(self._before)

    def _before(self, execute: Any, *query: Any) -> Any:
        connection = self._connection
        if self._block is None and not connection.needs_rollback:
            self._block = transaction.atomic(connection.alias)
            # A durable block of the user's may be opened in a test, as ever.
            self._block._from_testcase = not is_in_users_block(connection)
            self._block.__enter__()
        return execute(*query)

    def __exit__(self, kind: Any, error: BaseException | None, traceback: Any) -> None:
        connection, block = self._connection, self._block
        with suppress(ValueError):  # a step may have taken all of them out
            connection.execute_wrappers.remove(self._before)
        if block is None:
            return
        if error is None or (block._from_testcase and not _has_broken(error)):
            # In a test that is not to tell, what a failed attempt has written stays,
            # as it would if each query had been committed.
            wants_rollback = connection.needs_rollback
            block.__exit__(None, None, None)
            # The caller's whole transaction was meant, by set_rollback() or the like.
            connection.needs_rollback = connection.needs_rollback or wants_rollback
        else:
            block.__exit__(kind, error, traceback)


def _has_broken(error: BaseException) -> bool:
    """Tell an error after which a transaction may be of no more use."""
    return any(
        is_a(link, Error)
        for cause in causes(error)
        for link in _links(cause)
    )


def _links(error: BaseException) -> list[BaseException]:
    """Give what an error was raised from, or while it was handled."""
    found = [error]
    for link in found:
        for other in (cause_of(link), context_of(link)):
            if other is not None and not any(other is it for it in found):
                found.append(other)
    return found
