"""Stores of tests: one in memory, and one that dies at a chosen row."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import Any

from stepfunction import ExecutionClaimedError, StoreError


@dataclass
class Kept:
    """An execution as it is kept."""

    head: Any
    graph: str
    rows: dict[int, str] = field(default_factory=dict)
    apart: dict[str, bytes] = field(default_factory=dict)


class MemoryStore:
    """Keeps executions in a dict, as the port says and no more."""

    max_value_bytes = None

    def __init__(self):
        self.executions = {}
        self.claimed = set()
        self._lock = threading.RLock()

    def find(self, id):
        with self._lock:
            for kept in self.executions.values():
                if kept.head.id == id and kept.head.outer is None:
                    return kept.head
        return None

    def nested(self, key):
        with self._lock:
            heads = [it.head for it in self.executions.values() if it.head.outer == key]
        return sorted(heads, key=lambda head: (head.visit, head.part, head.turn))

    def begin(self, head, graph, text, apart):
        with self._lock:
            if self._is_taken(head):
                return 0
            key = len(self.executions) + 1
            kept = Kept(head._replace(key=key), graph, {0: text}, dict(apart or {}))
            self.executions[key] = kept
            if head.outer is None:
                self.claimed.add(key)
            return key

    def _is_taken(self, head):
        if head.outer is None:
            return self.find(head.id) is not None
        place = head[-4:]
        return any(it.head[-4:] == place for it in self.executions.values())

    def claim(self, key):
        with self._lock:
            if key in self.claimed:
                id = self.executions[key].head.id
                raise ExecutionClaimedError(f"{id!r} is claimed", id)
            self.claimed.add(key)

    def release(self, key):
        with self._lock:
            self.claimed.discard(key)

    def append(self, key, number, text, apart=None):
        with self._lock:
            kept = self.executions[key]
            if number in kept.rows:
                id = kept.head.id
                raise ExecutionClaimedError(f"row {number} of {id!r} is there", id)
            if number and number - 1 not in kept.rows:
                raise StoreError(f"row {number - 1} lacks")
            kept.rows[number] = text
            kept.apart.update(apart or {})

    def turn(self, row, status, ended):
        with self._lock:
            self.append(*row)
            kept = self.executions[row.key]
            kept.head = kept.head._replace(status=status, ended=ended)

    def forget(self, row, before, visit):
        with self._lock:
            self.append(*row)
            rows = self.executions[row.key].rows
            for number in [it for it in rows if 0 < it < before]:
                del rows[number]
            for head in self.nested(row.key):
                if head.visit < visit:
                    self._lose(head.key)

    def _lose(self, key):
        for head in self.nested(key):
            self._lose(head.key)
        del self.executions[key]

    def rows(self, key):
        with self._lock:
            return iter(sorted(self.executions[key].rows.items()))

    def apart(self, key, name):
        return self.executions[key].apart[name]

    def graph(self, digest):
        with self._lock:
            for kept in self.executions.values():
                if kept.head.graph == digest:
                    return kept.graph
        raise StoreError(f"there is no graph {digest}")


class Death(BaseException):
    """The process is no more, as far as the store can tell."""


class DyingStore:
    """Keeps what another store does, until so much has been kept.

    From then on nothing is kept, as of a process that has died, and its claims are
    gone. With ``error`` the store fails then, and goes on failing, as a full disk.
    """

    def __init__(self, store, commits, error=None):
        self.store = store
        self.left = commits
        self.error = error
        self._lock = threading.RLock()

    def __getattr__(self, name):
        return getattr(self.store, name)

    @property
    def is_dead(self):
        return self.left < 0

    def _commit(self, method, *arguments):
        with self._lock:
            if self.left <= 0 and self.error is not None:
                self.left = -1
                raise self.error
            if self.left < 0:
                raise Death
            self.left -= 1
            kept = getattr(self.store, method)(*arguments)
            if self.left == 0 and self.error is None:
                self.left = -1
                self.store.claimed.clear()
                raise Death
            return kept

    def begin(self, head, graph, text, apart):
        return self._commit("begin", head, graph, text, apart)

    def claim(self, key):
        if self.is_dead:
            raise Death
        self.store.claim(key)

    def append(self, key, number, text, apart=None):
        self._commit("append", key, number, text, apart)

    def turn(self, row, status, ended):
        self._commit("turn", row, status, ended)

    def forget(self, row, before, visit):
        self._commit("forget", row, before, visit)
