"""Stores: what a command line calls one, by the name of its file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from stepfunction.cli.complaints import Refusal

if TYPE_CHECKING:
    from stepfunction.stores.sqlite import SQLiteStore


def open_store(file: str) -> SQLiteStore:
    """Give a store that is there.

    Raises:
        Refusal: If it is not, for a mistyped name is to make no file.
    """
    if not Path(file).is_file():
        raise Refusal(f"there is no store {file!r}")
    return new_store(file)


def new_store(file: str) -> SQLiteStore:
    """Give a store, which is made if it is not there."""
    from stepfunction.stores import SQLiteStore

    return SQLiteStore(file)
