"""Refusals: what a store says of what SQLite and the system refuse."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from errno import EDQUOT, ENOSPC
from typing import Any

from stepfunction.core.errors import ExecutionClaimedError, Problem, StoreError
from stepfunction.core.wording import error_text

# How long another process may keep the file to itself before that is an error.
PATIENCE = 30.0

_BUSY, _LOCKED, _CONSTRAINT = 5, 6, 19
# What to do about each of SQLite's codes.
_HINTS = {
    _BUSY: f"another process has kept the file to itself for {PATIENCE:.0f} s; end "
    "it, or what it is doing, and resume",
    _LOCKED: f"the file was locked for {PATIENCE:.0f} s; resume when it is free",
    7: "there is no memory for it; resume when there is",
    8: "the file, or its folder, cannot be written to; SQLite needs to write in both",
    10: "the disk, or a limit on the sizes of files, does not let it be read or "
    "written; what was kept before is safe; resume when it does",
    11: "the file is damaged; what can be read of it the sqlite3 shell's '.recover' "
    "writes to another",
    13: "the disk is full; what was kept before is safe; make room, and resume",
    14: "the file cannot be opened; its folder must be there, and be one that this "
    "process may write in",
    18: "it is longer than SQLite keeps, which is a thousand million bytes; keep what "
    "is large in a file of its own, and give its path",
    26: "the file is none of SQLite's, or is damaged",
}


def code_of(error: BaseException) -> int | None:
    """Give SQLite's code of an error, without what it says more exactly."""
    code = getattr(error, "sqlite_errorcode", None)
    return None if code is None else code & 0xFF


def is_busy(error: BaseException) -> bool:
    """Say whether another process is writing at this moment."""
    return code_of(error) in (_BUSY, _LOCKED)


def is_collision(error: BaseException) -> bool:
    """Say whether there was something in a place that takes one thing."""
    return code_of(error) == _CONSTRAINT


def refusal(path: str, error: BaseException) -> StoreError:
    """Give the error that a store raises for one of SQLite or of the system."""
    hint = _HINTS.get(code_of(error) or 0)
    if isinstance(error, MemoryError):
        hint = _HINTS[7]
    elif isinstance(error, (PermissionError, FileNotFoundError, NotADirectoryError)):
        hint = _HINTS[14]
    elif isinstance(error, OSError) and error.errno in (ENOSPC, EDQUOT):
        hint = _HINTS[13]
    elif isinstance(error, UnicodeError):
        hint = "the name cannot be written as UTF-8"
    elif isinstance(error, OverflowError) or type(error) is sqlite3.DataError:
        hint = _HINTS[18]
    said = error_text(error)
    return StoreError(f"store {path!r}: {said}" + (f"; {hint}" if hint else ""))


def damage(path: str, what: str) -> StoreError:
    """Give the error for what is not as it was written."""
    return StoreError(
        f"store {path!r} is damaged: {what}; nothing was changed; take the file from a "
        "backup, or look at it with the sqlite3 shell's 'PRAGMA integrity_check'"
    )


def host_name() -> str:
    """Give the name of this machine, as messages say it."""
    return os.uname().nodename if hasattr(os, "uname") else ""


def claimed(id: str, host: str | None, pid: int | None) -> ExecutionClaimedError:
    """Give the error for an execution that somebody else runs, or that runs here."""
    if pid == os.getpid():
        text = f"execution {id!r} runs already, in this process ({pid})"
    else:
        who = f"process {pid} on {host}" if pid else f"a process on {host}"
        text = f"execution {id!r} is run by {who}, and by no other meanwhile"
    text += "; wait until it has ended, and call again"
    return ExecutionClaimedError(text, id, host, pid or None)


def taken_over(id: str, host: str | None, pid: int | None) -> ExecutionClaimedError:
    """Give the error for an execution that another has gone on with."""
    who = f"process {pid} on {host}"
    if pid == os.getpid():
        who = f"another thread of this process ({pid})"
    text = f"execution {id!r} has been taken over by {who}, and goes on there"
    return ExecutionClaimedError(text, id, host, pid)


def argument_problems(
    path: Any, synchronous: Any, max_value_bytes: Any
) -> Iterator[Problem]:
    """Say what is wrong with the arguments of a store."""
    if isinstance(path, os.PathLike):
        path = os.fspath(path)
    if not isinstance(path, str) or not path or "\0" in path:
        text = f"path is the path of a file, or ':memory:', not {path!r}"
        yield Problem("path", text)
    if not isinstance(synchronous, str) or synchronous not in ("NORMAL", "FULL"):
        text = f"synchronous is 'NORMAL' or 'FULL', not {synchronous!r}"
        yield Problem("synchronous", text)
    if max_value_bytes is not None and (
        type(max_value_bytes) is not int or max_value_bytes < 1
    ):
        text = f"max_value_bytes is a number of bytes, or None, not {max_value_bytes!r}"
        yield Problem("max_value_bytes", text)
