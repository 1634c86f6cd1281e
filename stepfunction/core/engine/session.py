"""Session: what an outermost execution and those nested in it share of their store."""

from __future__ import annotations

import os
from collections.abc import Callable
from threading import RLock
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar
from weakref import finalize

from stepfunction.core.errors import ExecutionClaimedError, StoreError

if TYPE_CHECKING:
    from stepfunction.core.definition.graph import Graph
    from stepfunction.core.engine.run import Run
    from stepfunction.core.history.journal import Journal
    from stepfunction.core.store import Head, Store

Given = TypeVar("Given")
# Of the session, what the store says of a nested execution, its workflow, its run, and
# whether what failed is done again, and of an item the digest: its journal; None where
# it is to begin anew.
GoOn: TypeAlias = (
    "Callable[[Session, Head, Graph, Run, bool, str | None], Journal | None]"
)


class Session:
    """What an outermost execution and those nested in it share of their store.

    Any thread may use it.

    Attributes:
        store: The store.
        id: The ``id`` of the outermost execution.
        is_closed: Whether nothing is noted any more, for this process lets go of it.
        error: What the store has failed with: nothing can be noted after that.
        go_on: What gives the journal of a nested execution that is to go on.
        allow_changed: Whether an item may be another than it was.
    """

    __slots__ = (
        "store",
        "id",
        "is_closed",
        "error",
        "go_on",
        "allow_changed",
        "_lock",
        "_pid",
        "_held",
        "_release",
        "__weakref__",
    )

    def __init__(
        self, store: Store, id: str, go_on: GoOn, allow_changed: bool = False
    ) -> None:
        self.store = store
        self.id = id
        self.go_on = go_on
        self.is_closed = False
        self.error: StoreError | None = None
        self.allow_changed = allow_changed
        self._lock = RLock()  # for a signal handler may end it
        self._pid = os.getpid()
        # An interrupt may keep it from being run, or from being let go of.
        self._held: list[int] = []
        self._release = finalize(self, _release, store, self._held)

    @property
    def is_holding(self) -> bool:
        """Whether there is an execution that it lets go of at its end."""
        return bool(self._held)

    def hold(self, key: int) -> None:
        """Have an execution let go of at the end of this at the latest."""
        self._held.append(key)

    def let_go_of_begun(self, head: Head) -> None:
        """Let go of what was begun just now, also if an interrupt hid its key."""
        if not self._held:
            found = self.store.find(head.id)
            if found is not None and found.started == head.started:
                self._held.append(found.key)
        self.let_go()

    def keep(self, how: Callable[..., Given], *facts: Any) -> Given | None:
        """Have the store keep something, unless this process has let go of it.

        Args:
            how: The store's method.
            *facts: What it is given.

        Returns:
            What that gives; None where nothing was kept.

        Raises:
            StoreError: If it cannot be, or could not be before.
        """
        if os.getpid() != self._pid:  # which has no claim, and may find the lock held
            text = f"execution {self.id!r} is run by the process that forked this one"
            raise ExecutionClaimedError(text, self.id, None, self._pid)
        with self._lock:
            if self.is_closed or self.error is not None:
                self.may_note()
                return None
            try:
                return how(*facts)
            except StoreError as error:
                self.error = error
                raise

    def let_go(self) -> None:
        """Keep nothing more, and let others have the execution."""
        with self._lock:
            self.is_closed = True
        self._release()

    def may_note(self) -> bool:
        """Say whether to note anything.

        Raises:
            StoreError: If the store has failed before.
        """
        if self.error is not None:
            raise self.error
        return not self.is_closed


def _release(store: Store, held: list[int]) -> None:
    for key in held:
        store.release(key)
