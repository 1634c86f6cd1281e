"""SQLite: a store in one file, which needs nothing but the standard library."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator
from functools import partial
from os import getpid
from typing import Any, TypeVar
from zlib import crc32

from stepfunction.core.errors import DefinitionError, StoreError
from stepfunction.core.misspelling import did_you_mean_arguments
from stepfunction.core.outcomes import Status
from stepfunction.core.store import Apart, Head, Row
from stepfunction.core.wording import plain_text
from stepfunction.stores.claims import opening
from stepfunction.stores.face import Face, StoredExecution
from stepfunction.stores.link import MEMORY, Link, opened, patiently
from stepfunction.stores.refusals import (
    argument_problems,
    claimed,
    damage,
    host_name,
    is_collision,
    refusal,
    taken_over,
)
from stepfunction.stores.tables import (
    ADD_GRAPH,
    ADD_ROW,
    APART,
    BATCH,
    CHUNK,
    EXECUTION,
    GRAPH,
    LAST,
    LAST_KEY,
    LATEST,
    LOSE_UNUSED_GRAPHS,
    NESTED,
    ORPHANS,
    OUTERMOST,
    OWN,
    ROWS,
    SHIFT,
    WITHIN,
    Execute,
    Facts,
    add,
    add_execution,
    apart_sum,
    change,
    checked,
    checksum,
    facts_of,
    forget,
    lose,
    one,
)

_T = TypeVar("_T")


class SQLiteStore(Face):
    """Keeps executions in one file of SQLite, for any number of threads and processes.

    It is opened when it is first used, and made if it is not there, for its owner
    alone. One store serves all threads, and opens the file anew in a forked child.

    Who runs an execution has a lock on one byte of ``<path>.lock``, which ends with the
    process. Leave that file where it is, and keep both on a local disk: network file
    systems have no reliable locks. A process that uses the store must not open either
    by other means, not even to copy it: where it closes them, the system ends the locks
    that it has in them. The command ``sqlite3 <path> ".backup <copy>"`` is safe.

    Args:
        path: The file; ``":memory:"`` for none, as tests want it: what is kept so is
            lost with the store.
        synchronous: ``"NORMAL"``: what is kept survives the death of the process, but
            the last of it may be lost where the machine loses its power, and is then
            done again. ``"FULL"``: it survives that too, and every step waits for the
            disk.
        max_value_bytes: How long a value may be, written as JSON; None for any length.

    Raises:
        DefinitionError: If an argument is none of these.

    >>> from stepfunction.stores import SQLiteStore
    >>> with SQLiteStore(":memory:") as store:
    ...     store.list()
    []
    """

    @did_you_mean_arguments(
        database="path",
        db="path",
        file="path",
        filename="path",
        max_bytes="max_value_bytes",
        url="path",
    )
    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        synchronous: str = "NORMAL",
        max_value_bytes: int | None = None,
    ) -> None:
        problems = [*argument_problems(path, synchronous, max_value_bytes)]
        if problems:
            raise DefinitionError("SQLiteStore", problems)
        name = plain_text(os.fspath(path))
        self.max_value_bytes = max_value_bytes
        # The working directory may be another one when it is opened.
        self._path = name if name == MEMORY else os.path.abspath(name)
        self._synchronous = synchronous
        self._link: Link | None = None
        self._is_closed = False

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._path!r})"

    def __reduce__(self) -> Any:
        if self._path == MEMORY:
            raise TypeError(
                "a store in memory is of one process, and cannot be pickled"
            )
        # The file is opened anew where it is needed.
        largest = self.max_value_bytes
        make = partial(
            type(self), synchronous=self._synchronous, max_value_bytes=largest
        )
        return make, (self._path,)

    # --- what executions ask ------------------------------------------------------

    def find(self, id: str) -> Head | None:
        """Give the head of the outermost execution of an ``id``; None without one."""
        name = plain_text(id)
        found = self._read(lambda execute: one(execute, OUTERMOST, name))
        if found is None:
            return None
        facts = self._facts(found)
        if facts.id != name:
            raise damage(self._path, f"the execution {name!r} is called {facts.id!r}")
        return facts.head()

    def nested(self, key: int) -> list[Head]:
        """Give those nested in an execution, by visit, part and turn."""
        found = self._read(lambda execute: execute(NESTED, (key,)).fetchall())
        return [self._facts(each).head() for each in found]

    def begin(self, head: Head, graph: str, text: str, apart: Apart | None) -> int:
        """Keep a new execution with its first row; see ``Store``."""
        link = self._linked()
        self._try(Link.refuse_another_file)
        taken: list[int] = []

        def work(execute: Execute) -> int:
            (last,) = one(execute, LAST_KEY)
            key: int = last + 1
            root = key if head.outer is None else self._outermost(execute, head.outer)
            if head.outer is not None and not link.claims.has(root):
                raise self._claimed(execute, root)
            if not add_execution(execute, facts_of(head, key, root)):
                return 0
            sum = checksum(f"{head.graph} {graph}")
            execute(ADD_GRAPH, (head.graph, sum, graph))
            add(execute, Row(key, 0, text, apart))
            if head.outer is not None:
                link.claims.adopt(key, root)
                return key
            holder = link.claims.take(key, taken)
            if holder is not None:
                raise claimed(head.id, host_name(), holder)
            return key

        try:
            return self._write(work, link)
        except BaseException:
            link.claims.give_all(taken)
            raise

    def claim(self, key: int) -> None:
        """Let nobody else run an execution, until ``release``; see ``Store``."""
        link = self._linked()
        self._try(Link.refuse_another_file)
        taken: list[int] = []
        try:
            holder = self._try(lambda link: link.claims.take(key, taken), link)
            if holder is not None:
                raise self._read(lambda execute: self._claimed(execute, key, holder))
            self._write(lambda execute: execute(OWN, (host_name(), getpid(), key)))
        except BaseException:
            link.claims.give_all(taken)
            raise

    def release(self, key: int) -> None:
        """Let others run an execution again that this process has claimed."""
        link = self._link
        if link is not None and link.pid == getpid():
            link.claims.give(key)

    def append(
        self, key: int, number: int, text: str, apart: Apart | None = None
    ) -> None:
        """Keep one row; see ``Store``."""
        link = self._link
        if apart is None and link is not None and link.pid == getpid():
            try:
                with link.lock:
                    if key in link.claims.writable and link.is_settled():
                        id = key << SHIFT | number
                        sum = crc32(f"{id} {text}".encode())
                        link.execute(ADD_ROW, (id, text, sum))
                        return
            except (sqlite3.Error, MemoryError, OverflowError, UnicodeError):
                pass  # which the long way says better
        self._keep(Row(key, number, text, apart))

    def turn(self, row: Row, status: str, ended: float | None) -> None:
        """Keep a row together with what the execution's status is from then on."""
        at = None if ended is None else float(ended)
        length = None if ended is None else row.number + 1
        name = plain_text(status)
        self._try(Link.refuse_another_file)

        def work(execute: Execute, facts: Facts) -> None:
            now = facts._replace(status=name, ended=at, length=length)
            change(execute, now)

        self._keep(row, work)

    def forget(self, row: Row, before: int, visit: int) -> None:
        """Keep a row, and lose others for it, in one; see ``Store``."""
        self._keep(row, lambda execute, facts: forget(execute, facts, before, visit))

    def rows(self, key: int) -> Iterator[tuple[int, str]]:
        """Give the rows of an execution, as number and text; see ``Store``."""
        facts = self._facts_at(key)
        while True:
            found = self._rows_at(key)
            # Those that are forgotten meanwhile are not missed.
            before, facts = facts, self._facts_at(key)
            if facts.since == before.since:
                yield from checked(self._path, before, found)
                return

    def _rows_at(self, key: int) -> list[tuple[int, str, int]]:
        found: list[tuple[int, str, int]] = []
        at, last = key << SHIFT, key << SHIFT | LAST
        while True:
            asked = (at, last, CHUNK)
            chunk = self._read(lambda execute: execute(ROWS, asked).fetchall())
            found += chunk
            if len(chunk) < CHUNK:
                return found
            at = chunk[-1][0] + 1

    def apart(self, key: int, name: str) -> bytes:
        """Give what a row of an execution refers to; see ``Store``."""
        found = self._read(lambda execute: one(execute, APART, key, name))
        if found is None:
            raise damage(self._path, f"the value {name!r} is not there")
        data, sum = found
        if type(data) is not bytes or sum != apart_sum(key, name, data):
            raise damage(self._path, f"the value {name!r} is not as it was")
        return data

    def graph(self, digest: str) -> str:
        """Give the text of a graph."""
        found = self._read(lambda execute: one(execute, GRAPH, digest))
        if found is None:
            raise damage(self._path, f"the graph {digest!r} is not there")
        text, sum = found
        if sum != checksum(f"{digest} {text}"):
            raise damage(self._path, f"the graph {digest!r} is not as it was")
        return str(text)

    # --- what users ask -----------------------------------------------------------

    def close(self) -> None:
        """End the connection to the file; what is kept stays there.

        An execution that is under way is stopped by it, as by a full disk, and can be
        resumed. A store in memory is lost.
        """
        self._is_closed = True
        link = self._link
        if link is not None:
            link.close()

    def _listed(self, since: float) -> Iterator[StoredExecution]:
        started, key = float("inf"), 0
        while True:
            asked = (started, key, since, CHUNK)
            chunk = self._read(lambda execute: execute(LATEST, asked).fetchall())
            for found in chunk:
                facts = self._facts(found)
                started, key = facts.started, facts.key
                holder = self._try(lambda link: link.claims.holder(key))
                yield StoredExecution(
                    *(facts.id, facts.workflow, Status(facts.status), started),
                    *(facts.ended, holder is not None, facts.host, holder or facts.pid),
                )
            if len(chunk) < CHUNK:
                return

    def _lose(self, id: str, is_old: Callable[[float | None], bool]) -> bool:
        head, link = self.find(id), self._linked()
        if head is None:
            return False
        key = head.key
        taken: list[int] = []

        def work(execute: Execute) -> bool:
            found = one(execute, EXECUTION, key)
            if found is None or not is_old(self._facts(found).ended):
                return False
            lose(execute, key)
            return True

        try:
            try:
                self._try(lambda link: link.claims.take(key, taken), link)
                if not taken:
                    return False
                nested = self._read(lambda execute: execute(WITHIN, (key,)).fetchall())
                if is_lost := self._write(work):
                    self._lose_all(nested)
                return is_lost
            finally:
                link.claims.give_all(taken)
        finally:
            # Again, for an interrupt may have cut it short.
            link.claims.give_all(taken)

    def _tidy(self) -> None:
        orphans = self._read(lambda execute: execute(ORPHANS).fetchall())
        self._lose_all(orphans)
        self._write(lambda execute: execute(LOSE_UNUSED_GRAPHS))

    def _lose_all(self, keys: list[tuple[int]]) -> None:
        """Lose so many at once that others who write need not wait for long."""

        def work(execute: Execute, batch: list[tuple[int]]) -> None:
            for (key,) in batch:
                lose(execute, key)

        for at in range(0, len(keys), BATCH):
            self._write(partial(work, batch=keys[at : at + BATCH]))

    # --- how ----------------------------------------------------------------------

    def _keep(
        self,
        row: Row,
        work: Callable[[Execute, Facts], None] | None = None,
    ) -> None:
        link = self._linked()

        def keep(execute: Execute) -> None:
            if row.key not in link.claims.writable:
                self._adopt(execute, link, row.key)
            try:
                add(execute, row)
            except sqlite3.IntegrityError as error:
                if not is_collision(error):
                    raise
                raise self._taken_over(execute, row.key) from error
            if work is not None:
                work(execute, self._facts(one(execute, EXECUTION, row.key)))

        self._write(keep, link)

    def _adopt(self, execute: Execute, link: Link, key: int) -> None:
        """Let rows be added to what is nested in what this process has claimed."""
        root = self._outermost(execute, key)
        if not link.claims.adopt(key, root):
            raise self._claimed(execute, root)

    def _outermost(self, execute: Execute, key: int) -> int:
        found = one(execute, EXECUTION, key)
        if found is None:
            raise StoreError(
                f"store {self._path!r}: the execution is not there; it was pruned, or "
                "is in the memory of another process"
            )
        return self._facts(found).root

    def _claimed(
        self, execute: Execute, key: int, holder: int | None = None
    ) -> StoreError:
        found = one(execute, EXECUTION, key)
        if found is None:
            return damage(self._path, f"there is no execution of the key {key}")
        facts = self._facts(found)
        return claimed(facts.id, facts.host, holder or facts.pid)

    def _taken_over(self, execute: Execute, key: int) -> StoreError:
        facts = self._facts(one(execute, EXECUTION, self._outermost(execute, key)))
        return taken_over(facts.id, facts.host, facts.pid)

    def _facts_at(self, key: int) -> Facts:
        found = self._read(lambda execute: one(execute, EXECUTION, key))
        if found is None:
            raise damage(self._path, f"there is no execution of the key {key}")
        return self._facts(found)

    def _facts(self, found: Any) -> Facts:
        if found is None:
            raise damage(self._path, "an execution is not there")
        facts = Facts(*found)
        if facts != facts.summed():
            raise damage(self._path, f"execution {facts.id!r} is not as it was")
        return facts

    def _linked(self) -> Link:
        link = self._link
        if link is not None and link.is_open:
            return link
        with opening():
            link = self._link
            if self._is_closed:
                raise StoreError(f"store {self._path!r} has been closed")
            if link is None or not link.is_open:
                path = self._path
                if path != MEMORY:
                    path = os.path.realpath(path)
                link = self._link = opened(path, self._synchronous)
            return link

    def _write(self, work: Callable[[Execute], _T], link: Link | None = None) -> _T:
        return self._try(lambda link: link.write(work), link)

    def _read(self, work: Callable[[Execute], _T]) -> _T:
        return self._try(lambda link: link.read(work))

    def _try(self, work: Callable[[Link], _T], link: Link | None = None) -> _T:
        link = link or self._linked()
        try:
            return patiently(partial(work, link))
        except sqlite3.ProgrammingError as error:
            if self._is_closed:
                raise StoreError(f"store {self._path!r} has been closed") from error
            raise refusal(self._path, error) from error
        except (sqlite3.Error, OSError, MemoryError, OverflowError, UnicodeError) as e:
            raise refusal(self._path, e) from e
