"""Stores: what keeps executions, so that they survive the process that runs them.

In come rows of JSON text, by the port of ``core.store``; they are safe when it returns.
Out come the same rows, or a ``StoreError``, and what is there to look at.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stepfunction.stores.face import Recovered, StoredExecution
    from stepfunction.stores.sqlite import SQLiteStore

__all__ = ["Recovered", "SQLiteStore", "StoredExecution"]

_homes = {"Recovered": "face", "SQLiteStore": "sqlite", "StoredExecution": "face"}


if not TYPE_CHECKING:  # which would take any name for one of these

    def __getattr__(name: str) -> Any:
        # SQLite is imported by who asks for it.
        home = _homes.get(name)
        if home is None:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from importlib import import_module

        found = getattr(import_module(f"{__name__}.{home}"), name)
        globals()[name] = found
        return found

    def __dir__() -> list[str]:
        return list(__all__)
