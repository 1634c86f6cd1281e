"""Sources: where tasks come from that are taken one by one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from stepfunction.core.clock import perf_counter
from stepfunction.core.workers.tasks import Task

__tracebackhide__ = True  # pytest shows the test and what is called, not us

# A source that takes longer for a task is not waited for before others begin.
_LONGEST_ASKING = 0.001


class Source:
    """Where tasks come from that are taken one by one.

    Attributes:
        has_more: Whether it may give another.
        is_slow: Whether the next may be long in coming.
        error: What it has raised.
    """

    def __init__(self, tasks: Iterable[Task], at_once: bool) -> None:
        self.has_more = isinstance(tasks, Iterator)
        self.is_slow = False
        self.error: Exception | None = None
        self._tasks: Iterator[Task] = iter(tasks)
        self._at_once = at_once

    @property
    def may_wait(self) -> bool:
        """Whether others are not to wait until it has given the next."""
        return self.is_slow or not self._at_once

    def next(self, is_first: bool) -> Task | None:
        """Take the next task; None if there is none.

        Args:
            is_first: Whether nothing is under way: more may come from what becomes
                of this one.
        """
        asked = perf_counter()
        try:
            task = next(self._tasks, None)
        except Exception as error:
            self.error, task = error, None
        self.is_slow = is_first or perf_counter() - asked > _LONGEST_ASKING
        if task is None:
            self.dry_up()
        return task

    def dry_up(self) -> None:
        """Give no more."""
        self.has_more, self._tasks = False, iter(())
