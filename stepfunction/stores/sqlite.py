"""SQLite: a store in one file, which needs nothing but the standard library."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from os import getpid
from typing import Any, TypeVar
from zlib import crc32

from stepfunction.core.errors import (
    DefinitionError,
    StoreError,
)
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
    ADD_EXECUTION,
    ADD_GRAPH,
    ADD_ROW,
    ALL_WITHIN,
    APART,
    CHUNK,
    END,
    ENDED,
    EXECUTION,
    GRAPH,
    LAST,
    LAST_KEY,
    LATEST,
    LENGTH,
    LOSE_UNUSED_GRAPHS,
    NESTED,
    OUTERMOST,
    OWN,
    ROWS,
    SHIFT,
    STATUS,
    SUMMED,
    Execute,
    add,
    apart_sum,
    checksum,
    forget,
    lose,
    one,
    sum_of,
)

_T = TypeVar("_T")


class SQLiteStore(Face):
    """Keeps executions in one file of SQLite, for any number of threads and processes.

    It is opened when it is first used, and made if it is not there, for its owner
    alone. One store serves all threads, and opens the file anew in a forked child.

    Who runs an execution has a lock on one byte of ``<path>.lock``, which ends with the
    process. Leave that file where it is, and keep both on a local disk: network file
    systems have no reliable locks.

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

    # --- what executions ask ------------------------------------------------------

    def find(self, id: str) -> Head | None:
        """Give the head of the outermost execution of an ``id``; None without one."""
        found = self._read(lambda execute: one(execute, OUTERMOST, plain_text(id)))
        if found is None:
            return None
        head = self._head(found)
        if head.id != id:
            raise damage(self._path, f"the execution {id!r} is called {head.id!r}")
        return head

    def nested(self, key: int) -> list[Head]:
        """Give those nested in an execution, by visit, part and turn."""
        found = self._read(lambda execute: execute(NESTED, (key,)).fetchall())
        return [self._head(each) for each in found]

    def begin(self, head: Head, graph: str, text: str, apart: Apart | None) -> int:
        """Keep a new execution with its first row; see ``Store``."""
        link = self._linked()
        self._try(Link.refuse_another_file)
        taken: list[int] = []

        def work(execute: Execute) -> int:
            last = one(execute, LAST_KEY)
            key: int = last[0] + 1 if last else 1
            outer, root = head.outer, key
            if outer is not None:
                root = self._outermost(execute, outer)
                if not link.claims.has(root):
                    raise self._claimed(execute, root)
            facts: tuple[Any, ...] = (
                *(key, root, plain_text(head.id), plain_text(head.workflow)),
                *(plain_text(head.status), float(head.started)),
                *(None if head.ended is None else float(head.ended), head.graph),
                *(outer, head.visit, head.part, head.turn, None),
            )
            values = (*facts, sum_of(facts), host_name(), getpid())
            if not execute(ADD_EXECUTION, values).rowcount:
                return 0
            kept = (head.graph, checksum(f"{head.graph} {graph}"), graph)
            execute(ADD_GRAPH, kept)
            add(execute, Row(key, 0, text, apart))
            if outer is None:
                taken.append(key)
                holder = link.claims.take(key)
                if holder is not None:
                    raise claimed(head.id, host_name(), holder)
            else:
                link.claims.adopt(key, root)
            return key

        try:
            return self._write(work, link)
        except BaseException:
            for key in taken:
                link.claims.give(key)
            raise

    def claim(self, key: int) -> None:
        """Let nobody else run an execution, until ``release``; see ``Store``."""
        link = self._linked()
        self._try(Link.refuse_another_file)
        holder = self._try(lambda link: link.claims.take(key))
        if holder is not None:
            raise self._read(lambda execute: self._claimed(execute, key, holder))
        try:
            self._write(lambda execute: execute(OWN, (host_name(), getpid(), key)))
        except BaseException:
            link.claims.give(key)
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
                    if (
                        key in link.claims.writable
                        and not link.connection.in_transaction
                    ):
                        id = key << SHIFT | number
                        sum = crc32(f"{id} {text}".encode())
                        link.execute(ADD_ROW, (id, text, sum))
                        return
            except (sqlite3.Error, MemoryError, OverflowError, UnicodeError):
                pass  # which the long way says better
        self.append_all([Row(key, number, text, apart)])

    def append_all(self, rows: Iterable[Row]) -> None:
        """Keep rows together: all of them, or none; see ``Store``."""
        rows = [*rows]
        if rows:
            self._keep(rows)

    def turn(self, row: Row, status: str, ended: float | None) -> None:
        """Keep a row together with what the execution's status is from then on."""

        def work(execute: Execute) -> None:
            found = [*one(execute, EXECUTION, row.key)]
            self._head(found)
            found[STATUS] = plain_text(status)
            found[ENDED] = None if ended is None else float(ended)
            found[LENGTH] = None if ended is None else row.number + 1
            changed = (found[STATUS], found[ENDED], found[LENGTH])
            execute(END, (*changed, sum_of(found[SUMMED]), row.key))

        self._keep([row], work)

    def forget(self, row: Row, visit: int) -> None:
        """Keep a row that says all that those before it said, and lose these."""
        self._keep([row], lambda execute: forget(execute, row, visit))

    def rows(self, key: int) -> Iterator[tuple[int, str]]:
        """Give the rows of an execution, as number and text, in their order.

        Where earlier ones were forgotten, the first is followed by the one that says
        all that they said.
        """
        found = self._read(lambda execute: one(execute, EXECUTION, key))
        if found is None:
            raise damage(self._path, f"there is no execution of the key {key}")
        self._head(found)
        id, length = found[2], found[LENGTH]
        at, last = key << SHIFT, key << SHIFT | LAST
        expected = 0
        while True:
            asked = (at, last, CHUNK)
            chunk = self._read(lambda execute: execute(ROWS, asked).fetchall())
            for at, text, sum in chunk:
                number = at & LAST
                if sum != checksum(f"{at} {text}"):
                    if sum != checksum(f"{at}! {text}") or not expected:
                        what = f"row {number} of execution {id!r} is not as it was"
                        raise damage(self._path, what)
                elif number != expected:
                    raise self._gap(id, expected)
                yield number, text
                expected = number + 1
            if len(chunk) < CHUNK:
                break
            at += 1
        if not expected or length is not None and expected < length:
            raise self._gap(id, expected)

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

    def _listed(
        self, workflow: str | None, status: str | None, since: float
    ) -> Iterator[StoredExecution]:
        started, key = float("inf"), 0
        while True:
            asked = (started, key, since, CHUNK)
            chunk = self._read(lambda execute: execute(LATEST, asked).fetchall())
            for found in chunk:
                head = self._head(found)
                started, key = head.started, head.key
                if workflow is None or head.workflow == workflow:
                    if status is None or head.status == status:
                        yield self._summary(head, *found[-2:])
            if len(chunk) < CHUNK:
                return

    def _summary(
        self, head: Head, host: str | None, pid: int | None
    ) -> StoredExecution:
        holder = self._try(lambda link: link.claims.holder(head.key))
        return StoredExecution(
            *(head.id, head.workflow, Status(head.status), head.started, head.ended),
            *(holder is not None, host, holder or pid),
        )

    def _lose(self, id: str, is_old: Callable[[float | None], bool]) -> bool:
        link = self._linked()
        head = self.find(id)
        if head is None:
            return False
        outermost = head.key
        if self._try(lambda link: link.claims.take(outermost)) is not None:
            return False

        def work(execute: Execute) -> bool:
            found = one(execute, EXECUTION, outermost)
            if found is None or not is_old(found[ENDED]):
                return False
            for (key,) in execute(ALL_WITHIN, (outermost,)).fetchall():
                lose(execute, key)
            return True

        try:
            return self._write(work)
        finally:
            link.claims.give(outermost)

    def _tidy(self) -> None:
        self._write(lambda execute: execute(LOSE_UNUSED_GRAPHS))

    # --- how ----------------------------------------------------------------------

    def _keep(
        self, rows: list[Row], work: Callable[[Execute], None] | None = None
    ) -> None:
        link = self._linked()

        def keep(execute: Execute) -> None:
            for row in rows:
                if row.key not in link.claims.writable:
                    self._adopt(execute, link, row.key)
                try:
                    add(execute, row)
                except sqlite3.IntegrityError as error:
                    if not is_collision(error):
                        raise
                    root = self._outermost(execute, row.key)
                    raise self._taken_over(execute, root) from error
            if work is not None:
                work(execute)

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
        self._head(found)
        root: int = found[1]
        return root

    def _claimed(
        self, execute: Execute, key: int, holder: int | None = None
    ) -> StoreError:
        found = one(execute, EXECUTION, key)
        if found is None:
            return damage(self._path, f"there is no execution of the key {key}")
        return claimed(found[2], found[-2], holder or found[-1])

    def _taken_over(self, execute: Execute, key: int) -> StoreError:
        found = one(execute, EXECUTION, key)
        return taken_over(found[2], found[-2], found[-1])

    def _head(self, found: Any) -> Head:
        if found[13] != sum_of(found[SUMMED]):
            raise damage(self._path, f"execution {found[2]!r} is not as it was")
        key, _, *facts = found[:LENGTH]
        return Head(key, *facts)

    def _gap(self, id: str, number: int) -> StoreError:
        return damage(self._path, f"row {number} of execution {id!r} is not there")

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
