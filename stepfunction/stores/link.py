"""Link: the connection of this process to a file of SQLite.

One for all threads, which take turns: that was measured to be quicker than one each,
and to let nobody wait as long.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from functools import partial
from threading import RLock, get_ident
from typing import Any, TypeVar
from weakref import finalize, ref

from stepfunction.core.clock import perf_counter
from stepfunction.core.errors import StoreError
from stepfunction.stores.claims import (
    Claims,
    Identity,
    claims_beside,
    create,
    leave,
    opening,
)
from stepfunction.stores.refusals import PATIENCE, is_busy, refusal
from stepfunction.stores.schema import migrate
from stepfunction.stores.tables import Execute

MEMORY = ":memory:"

_T = TypeVar("_T")

# How long to wait for other threads where it would be wrong to wait for ever.
_LONG = 5.0
# SQLite waits in C code, where no signal is heard.
_PAUSE = 0.25
# Each commit writes whole pages, and the pages of a checkpoint once for all their
# commits: small pages and rare checkpoints made a step a third quicker.
_PAGE = 2048
_CHECKPOINT = 16 * 1024 * 1024  # bytes


class Link:
    """A connection, the lock that threads take turns by, and the claims.

    Attributes:
        pid: The process that it belongs to. No other must touch it, not even to close
            it: SQLite's locks, and what it knows of the file, are that process's.
        execute: Executes a statement; for who has the lock and has called ``settle``.
        lock: The turn of a thread.
        claims: What this process has claimed in the file.
    """

    def __init__(self, path: str, synchronous: str) -> None:
        self.pid = os.getpid()
        self.lock = RLock()
        self._path = path
        self._is_writing = False
        if path == MEMORY:
            self.claims = Claims(None, None)
        else:
            create(path)
            self.claims = claims_beside(path, self.lock)
        try:
            self.connection = sqlite3.connect(
                path, timeout=_PAUSE, isolation_level=None, check_same_thread=False
            )
            self.execute: Execute = self.connection.execute
            self._end = finalize(
                self, _end, self.connection, self.pid, self.lock, self.claims
            )
        except BaseException:
            leave(self.claims, self.lock)
            raise
        try:
            _links[id(self)] = ref(self, partial(_forget, id(self)))
            self._set_up(synchronous)
            self._identity = self._identity_now()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """End the connection; what is claimed stays so until it is let go."""
        self._end()

    @property
    def is_open(self) -> bool:
        """Whether it can be used, by this process."""
        return self._end.alive and self.pid == os.getpid()

    def is_settled(self) -> bool:
        """Say whether no transaction is open, which a statement would be part of."""
        return not self.connection.in_transaction

    def settle(self) -> None:
        """Undo what an interrupt has left half done; for who has the lock."""
        if self.connection.in_transaction:
            if self._is_writing:
                raise StoreError(
                    f"store {self._path!r} is being written to by the very thread that "
                    "asks for it: a signal handler has interrupted it; let handlers "
                    "leave the store alone"
                )
            self.execute("ROLLBACK")

    def write(self, work: Callable[[Execute], _T]) -> _T:
        """Call something whose statements are kept together, or none of them."""
        with self.lock:
            self.settle()
            before = self._is_writing
            try:
                try:
                    self._is_writing = True
                    self.execute("BEGIN IMMEDIATE")
                    given = work(self.execute)
                    self.execute("COMMIT")
                finally:
                    self._leave(before)
            finally:
                # Again, for an interrupt may have cut it short.
                self._leave(before)
        return given

    def read(self, work: Callable[[Execute], _T]) -> _T:
        """Call something that executes one statement, whatever that does."""
        with self.lock:
            self.settle()
            return work(self.execute)

    def _leave(self, before: bool) -> None:
        if self.connection.in_transaction:
            self.execute("ROLLBACK")
        self._is_writing = before

    def refuse_another_file(self) -> None:
        """Refuse to go on with a file that others do not find.

        Raises:
            StoreError: If it was removed or replaced since it was opened.
        """
        if self._identity != self._identity_now():
            raise StoreError(
                f"{self._path!r} was removed or replaced while it was open, and what "
                "would be written now nobody would find; close the store, or start "
                "this process again"
            )

    def _identity_now(self) -> Identity | None:
        if self._path == MEMORY:
            return None
        try:
            file = os.stat(self._path)
        except FileNotFoundError:
            return 0, 0
        return file.st_dev, file.st_ino

    def _set_up(self, synchronous: str) -> None:
        # What a file says of itself is nothing to act upon.
        self.execute("PRAGMA trusted_schema = OFF")
        self.execute("PRAGMA cell_size_check = ON")
        self.execute(f"PRAGMA page_size = {_PAGE}")
        patiently(lambda: self._set_up_file(synchronous))

    def _set_up_file(self, synchronous: str) -> None:
        migrate(self.connection, self._path, self.write)
        (mode,) = self.execute("PRAGMA journal_mode = WAL").fetchone()
        if mode != "wal" and self._path != MEMORY:
            raise StoreError(
                f"store {self._path!r}: SQLite cannot keep a write-ahead log here, as "
                "on some file systems; keep the file on a local disk"
            )
        self.execute(f"PRAGMA synchronous = {synchronous}")
        if synchronous == "NORMAL":
            self.execute(f"PRAGMA wal_autocheckpoint = {_CHECKPOINT // _PAGE}")
        # Else the disk is waited for, and that takes twice as long while the log grows
        # as where it is written over after a checkpoint.
        self.execute(f"PRAGMA journal_size_limit = {_CHECKPOINT}")


def opened(path: str, synchronous: str) -> Link:
    """Open a file, and make it if it is not there.

    Raises:
        StoreError: If that cannot be.
    """
    try:
        return Link(path, synchronous)
    except (sqlite3.Error, OSError, MemoryError, ValueError) as error:
        raise refusal(path, error) from error


def patiently(work: Callable[[], _T]) -> _T:
    """Call something again as long as another process is writing, but not for ever."""
    until: float | None = None
    while True:
        try:
            return work()
        except sqlite3.Error as error:
            if not is_busy(error):
                raise
            now = perf_counter()
            if until is None:
                until = now + PATIENCE
            if now >= until:
                raise


def _end(connection: sqlite3.Connection, pid: int, lock: Any, claims: Claims) -> None:
    if pid != os.getpid():
        _leave_open(connection)
        return
    has_turn = lock.acquire(timeout=_LONG)
    try:
        connection.close()
    finally:
        if has_turn:
            lock.release()
        leave(claims, lock)


def _leave_open(connection: sqlite3.Connection) -> None:
    """See to it that a connection of the parent is never closed in this process."""
    from ctypes import py_object, pythonapi

    pythonapi.Py_IncRef(py_object(connection))


# --- forking ----------------------------------------------------------------------

# SQLite has locks for the whole process. A child that is forked while another thread
# holds one can never use SQLite. So who forks has all turns meanwhile.
_links: dict[int, ref[Link]] = {}
_turns: dict[int, list[list[Any]]] = {}  # by thread, one in another


def _forget(id: int, _: object) -> None:
    _links.pop(id, None)


def _take_turns() -> None:
    taken: list[Any] = []
    _turns.setdefault(get_ident(), []).append(taken)
    until = perf_counter() + _LONG
    found = [each() for each in tuple(_links.values())]
    own = [it.lock for it in found if it is not None and it.pid == os.getpid()]
    # Who opens a file may wait for none of the others.
    for lock in (*own, opening()):
        if lock.acquire(timeout=max(0, until - perf_counter())):
            taken.append(lock)


def _give_turns() -> None:
    for lock in _turns[get_ident()].pop():
        lock.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_take_turns, after_in_parent=_give_turns, after_in_child=_turns.clear
    )
