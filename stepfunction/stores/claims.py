"""Claims: which executions of a file this process runs, and no other.

A claim is a POSIX record lock: one byte of a file beside the store's, at the key of the
execution. The system ends it with the process, whatever that dies of, keeps it while
the process is merely stopped, and gives none to forked children. But it knows processes
alone, so there is a register for the threads of this one; and it is lost as soon as any
descriptor of the file is closed, so there is one of each file, which all stores share.
"""

from __future__ import annotations

import os
import struct
import sys
from threading import RLock
from typing import Any, TypeAlias

from stepfunction.core.errors import StoreError

try:
    import fcntl

    _HAS_LOCKS = True
except ImportError:  # as on Windows
    _HAS_LOCKS = False

# How the system lays out what it says of a lock: type, whence, start, length, pid.
_IS_LINUX = sys.platform.startswith("linux")
_LAYOUT = "hhqqi" if _IS_LINUX else "qqihh"

Identity: TypeAlias = "tuple[int, int]"  # of a file, whatever it is called


class Claims:
    """The claims that this process has in one file.

    Attributes:
        writable: The keys of what is claimed, and of what is nested in it: what this
            process may add rows to.
    """

    def __init__(self, path: str | None, descriptor: int | None) -> None:
        self.writable: set[int] = set()
        self._held: dict[int, set[int]] = {}  # outermost key to itself and all nested
        self._path = path
        self._descriptor = descriptor
        self._users: set[object] = set()
        self._lock = RLock()

    def take(self, key: int, taken: list[int]) -> int | None:
        """Claim an outermost execution.

        Args:
            key: The key of the execution.
            taken: Is given the key if that has worked, for who calls may be interrupted
                before anything is returned.

        Returns:
            None if that has worked; else the process that has it, 0 for one unknown.

        Raises:
            StoreError: If claims cannot be had on this system, or are lost on others.
        """
        with self._lock:
            if key in self._held:
                return os.getpid()
            if self._path is not None and not _HAS_LOCKS:
                raise StoreError(
                    "an execution cannot be claimed on this system, which has no "
                    "record locks (no module 'fcntl'), so two processes could run it "
                    'at once; SQLiteStore(":memory:") needs none'
                )
            has_it = False
            try:
                self._refuse_another_file()
                self._held[key] = {key}
                taken.append(key)
                has_it = self._lock_byte(key)
                self.writable.add(key)
            finally:
                if not has_it:
                    self.give(key)
                    taken.clear()
        return None if has_it else self.holder(key) or 0

    def give(self, key: int) -> None:
        """Let go of an outermost execution; of another, or none, do nothing."""
        with self._lock:
            try:
                try:
                    self.writable.difference_update(self._held.get(key, ()))
                finally:
                    self._unlock(key)
            finally:
                # Again, for an interrupt may have cut it short.
                self._unlock(key)
        if not self._users and not self._held:
            _close(self)

    def give_all(self, taken: list[int]) -> None:
        """Let go of what ``take`` has said that it has taken."""
        while taken:
            self.give(taken[-1])
            taken.pop()

    def adopt(self, key: int, outermost: int) -> bool:
        """Let rows be added to an execution if what it is nested in is claimed."""
        with self._lock:
            nested = self._held.get(outermost)
            if nested is None:
                return False
            nested.add(key)
            self.writable.add(key)
        return True

    def has(self, key: int) -> bool:
        """Say whether this process has an outermost execution."""
        return key in self._held

    def holder(self, key: int) -> int | None:
        """Give the process that has an outermost execution; None for nobody.

        It is 0 where that is hidden, as that of another container is.
        """
        if key in self._held:
            return os.getpid()
        if self._descriptor is None:
            return None
        kind, whence, length = fcntl.F_WRLCK, os.SEEK_SET, 1
        parts = (kind, whence, key, length, 0)
        if not _IS_LINUX:
            parts = (key, length, 0, kind, whence)
        asked = struct.pack(_LAYOUT, *parts)
        said = struct.unpack(
            _LAYOUT, fcntl.fcntl(self._descriptor, fcntl.F_GETLK, asked)
        )
        kind, pid = (said[0], said[4]) if _IS_LINUX else (said[3], said[2])
        return None if kind == fcntl.F_UNLCK else max(pid, 0)

    def _unlock(self, key: int) -> None:
        if key in self._held:
            if self._descriptor is not None:
                fcntl.lockf(self._descriptor, fcntl.LOCK_UN, 1, key)
            self._held.pop(key)

    def _lock_byte(self, key: int) -> bool:
        if self._descriptor is None:
            return True
        try:
            fcntl.lockf(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, key)
        except (BlockingIOError, PermissionError):
            return False
        return True

    def _refuse_another_file(self) -> None:
        if self._descriptor is None or self._path is None:
            return
        try:
            is_same = _identity(os.stat(self._path)) == _identity(
                os.fstat(self._descriptor)
            )
        except FileNotFoundError:
            is_same = False
        if not is_same:
            raise StoreError(
                f"{self._path!r} was removed or replaced while it was in use, so no "
                "other process would see a claim in it; leave that file alone, and "
                "start this process again"
            )


_opening = RLock()
_open: dict[Identity, Claims] = {}
# What was opened as a second descriptor of a file that is open. It must stay.
_stray: list[int] = []


def opening() -> Any:
    """Give the lock of a thread that opens a file, or what belongs to it."""
    return _opening


def create(path: str) -> None:
    """Make a file that is not there, for its owner alone: inputs may be private.

    SQLite gives the same mode to those beside it.
    """
    # To close a descriptor ends all record locks of this process in the file, SQLite's
    # too. So nobody else here may have opened it before this one is closed.
    with _opening:
        try:
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        except FileExistsError:
            pass


def claims_beside(path: str, user: object) -> Claims:
    """Give the claims of this process in the file beside a store's.

    Args:
        path: The store's file.
        user: Who uses them, until it says ``leave``.

    Raises:
        OSError: If the file cannot be opened.
    """
    name = f"{path}.lock"
    if not _HAS_LOCKS:
        return Claims(name, None)
    with _opening:
        try:
            found = _open.get(_identity(os.stat(name)))
        except FileNotFoundError:
            found = None
        if found is None:
            flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
            descriptor = os.open(name, flags, 0o600)
            identity = _identity(os.fstat(descriptor))
            found = _open.get(identity)
            if found is None:
                found = _open[identity] = Claims(name, descriptor)
            else:
                _stray.append(descriptor)
        found._users.add(user)
        return found


def leave(claims: Claims, user: object) -> None:
    """Say that a store needs its claims no more; what is still claimed stays so."""
    with _opening:
        claims._users.discard(user)
        if not claims._users and not claims._held:
            _close(claims)


def _close(claims: Claims) -> None:
    with _opening:
        descriptor = claims._descriptor
        if claims._users or claims._held or descriptor is None:
            return
        claims._descriptor = None
        _open.pop(_identity(os.fstat(descriptor)), None)
        os.close(descriptor)


def _identity(file: os.stat_result) -> Identity:
    return file.st_dev, file.st_ino


def _begin_anew() -> None:
    """Forget in a forked child what its parent has claimed: it has none of it."""
    global _opening
    _opening = RLock()
    for claims in _open.values():
        if claims._descriptor is not None:
            os.close(claims._descriptor)
            claims._descriptor = None
    _open.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_anew)
