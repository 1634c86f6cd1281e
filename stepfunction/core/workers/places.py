"""Places: where attempts are made.

In this thread, in threads of our own, or by the executors of ``futures``. A place makes
attempts and reports how they ended; it decides nothing.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from contextvars import copy_context
from itertools import count
from queue import Empty, SimpleQueue
from time import perf_counter
from typing import Any

from stepfunction.core.outcomes import Outcome
from stepfunction.core.workers.tasks import LiveAttempt, MakeContext, make_attempt

# So many are started at once; others one by one, while attempts end, at such intervals.
_FIRST_THREADS = 4
_BETWEEN_STARTS = 0.001


class Inline:
    """The calling thread: one task after the other.

    Args:
        isolate: Whether each task has context variables of its own, as in threads.
    """

    limit: int | None = 1
    left_behind = Outcome.CANCELLED
    is_here = True
    hears_parts = False

    def __init__(
        self, value: Any, make_context: MakeContext, isolate: bool = True
    ) -> None:
        self._value = value
        self._make_context = make_context
        self._isolate = isolate

    def begin(self, attempt: LiveAttempt) -> None:
        if attempt.of_step.requested:
            attempt.skip()
            return
        if self._isolate:
            attempt.variables = copy_context()
        # What is no Exception interrupts this very thread.
        report = make_attempt(attempt, self._value, self._make_context, Exception)
        attempt.end(*report[1:])

    def staff(self) -> bool:
        return False

    def halt(self, attempts: Iterable[LiveAttempt]) -> list[LiveAttempt]:
        return []

    def give_up(self, attempt: LiveAttempt) -> bool:
        return True  # here a limit is measured, and not enforced

    def close(self, wait: bool) -> None: ...


class Threads:
    """Daemon threads made for one step, so that no other step can wait for them."""

    left_behind = Outcome.ABANDONED
    is_here = True
    hears_parts = False

    def __init__(
        self,
        name: str,
        value: Any,
        make_context: MakeContext,
        most: int,
        limit: int | None = None,
    ) -> None:
        self.limit = limit
        self._name = name
        self._value = value
        self._make_context = make_context
        self._most = most
        self._numbers = count(1)
        self._queue: SimpleQueue[LiveAttempt | None] = SimpleQueue()
        self._threads: set[threading.Thread] = set()
        self._ended = self._seen = 0  # how many attempts, and when one was started last
        self._started = 0.0
        self._working: dict[LiveAttempt, threading.Thread] = {}

    def begin(self, attempt: LiveAttempt) -> None:
        # A copy for each: a context cannot be entered twice at once.
        attempt.variables = copy_context()
        self._queue.put(attempt)

    def staff(self) -> bool:
        # Short tasks are done before a second thread has started, and computing ones
        # gain nothing by more than a few; where they wait, none ends meanwhile.
        while len(self._threads) < self._most and not self._queue.empty():
            now = perf_counter()
            if (
                len(self._threads) >= _FIRST_THREADS
                and self._ended != self._seen
                and now - self._started < _BETWEEN_STARTS
            ):
                return True
            self._started, self._seen = now, self._ended
            name = f"{self._name}-{next(self._numbers)}"
            thread = threading.Thread(target=self._work, name=name, daemon=True)
            self._threads.add(thread)
            thread.start()
        return False

    def _work(self) -> None:
        queue, thread = self._queue, threading.current_thread()
        while thread in self._threads:
            attempt = queue.get()
            if attempt is None:
                return
            self._working[attempt] = thread
            if attempt.of_step.requested:
                self._working.pop(attempt, None)
                attempt.skip()
                continue
            report = make_attempt(attempt, self._value, self._make_context)
            self._working.pop(attempt, None)
            self._ended += 1  # another thread's may get lost: it is seen to change
            attempt.end(*report[1:])
            del attempt, report  # an idle thread keeps nothing alive

    def halt(self, attempts: Iterable[LiveAttempt]) -> list[LiveAttempt]:
        never_begun = []
        try:
            while (attempt := self._queue.get_nowait()) is not None:
                never_begun.append(attempt)
        except Empty:
            pass
        return never_begun

    def give_up(self, attempt: LiveAttempt) -> bool:
        thread = self._working.pop(attempt, None)
        if thread is not None:
            # It may go on, but takes no other attempt; one of its kind does.
            self._threads.discard(thread)
            self.staff()
        return False

    def close(self, wait: bool) -> None:
        for _ in self._threads:
            self._queue.put(None)
        if wait:
            for thread in self._threads:
                thread.join()
