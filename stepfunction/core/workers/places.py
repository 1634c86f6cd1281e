"""Places: where attempts are made.

In this thread, in threads of our own, or by the executors of ``futures``. A place makes
attempts and reports how they ended; it decides nothing.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable
from contextlib import suppress
from itertools import count
from math import inf
from queue import Empty, SimpleQueue
from typing import Any, Protocol

from stepfunction.core.clock import perf_counter
from stepfunction.core.errors import WorkerStartError
from stepfunction.core.logger import logger
from stepfunction.core.outcomes import Outcome
from stepfunction.core.surroundings import Taken
from stepfunction.core.variables import own_variables
from stepfunction.core.waiting import join, start
from stepfunction.core.workers.attempts import LiveAttempt, Work, make_attempt

# So many are started at once; others one by one, while attempts end, at such intervals.
_FIRST_THREADS = 4
_BETWEEN_STARTS = 0.001
# The work that may wait for each thread, in seconds, where tasks are taken one by one.
_WORK_AHEAD = 0.001
_BETWEEN_LOOKS = 15  # of attempts, at how long one takes
_SHORTEST = 1e-6


class Place(Protocol):
    """Where attempts are made.

    Attributes:
        limit: How many attempts may be under way at once; None where the place
            itself sees to that.
        left_behind: The outcome of an attempt that is not waited for; ``ABANDONED``
            where none reports that was given up.
        is_here: Whether attempts are made in this process, and share its objects.
        hears_parts: Whether the loop is told of each part of what comes of them.
        is_inline: Whether some may be made by ``begin`` itself.
        workers: How many are made at once; None where that is not known.
    """

    limit: int | None
    left_behind: Outcome
    is_here: bool
    hears_parts: bool
    is_inline: bool

    @property
    def workers(self) -> int | None: ...

    def begin(self, attempt: LiveAttempt) -> None:
        """Make an attempt, here or elsewhere, and have it report its end once.

        One that is timed also says when it begins.
        """

    def staff(self) -> bool:
        """See to it that somebody makes the attempts; say whether to ask again soon.

        Raises:
            WorkerStartError: If there is nobody who could.
        """

    def halt(self, attempts: Iterable[LiveAttempt]) -> list[LiveAttempt]:
        """Stop what can be stopped; give the attempts that had not begun."""

    def give_up(self, attempt: LiveAttempt) -> None:
        """Stop an attempt that took too long; if it cannot, let go of it."""

    def close(self, wait: bool) -> None:
        """Let go of what was started for these tasks."""


class Inline:
    """The calling thread: one task after the other.

    Args:
        work: What its tasks have in common.
        isolate: Whether each task has context variables of its own, as in threads.
    """

    limit: int | None = 1
    left_behind = Outcome.CANCELLED
    is_here = True
    hears_parts = False
    is_inline = True
    workers: int | None = 1

    def __init__(self, work: Work, isolate: bool = True) -> None:
        self._work = work
        self._isolate = isolate

    def begin(self, attempt: LiveAttempt) -> None:
        if attempt.of_step.requested:
            attempt.skip()
            return
        if self._isolate:
            attempt.variables = own_variables()
        # What is no Exception interrupts this very thread.
        attempt.end(make_attempt(attempt, self._work, Exception))

    def staff(self) -> bool:
        return False

    def halt(self, attempts: Iterable[LiveAttempt]) -> list[LiveAttempt]:
        return []

    def give_up(self, attempt: LiveAttempt) -> None:
        pass  # here a limit is measured, and not enforced

    def close(self, wait: bool) -> None: ...


# Stands in a queue for what goes before all that is in it.
_INSTEAD: Any = object()


class Threads:
    """Daemon threads made for one step, so that no other step can wait for them.

    Args:
        work: What its tasks have in common.
        most: How many threads there are at most.
        ahead: How many attempts may wait for a thread at most, where a little work is
            to be ahead of them; None for any number.
        taken: What surrounds each attempt; None for nothing.
    """

    left_behind = Outcome.ABANDONED
    is_here = True
    hears_parts = False
    is_inline = False

    def __init__(
        self,
        work: Work,
        most: int,
        ahead: int | None = None,
        taken: Taken | None = None,
    ) -> None:
        self._ahead = ahead
        self._work = work
        self._taken = taken
        self._most = most
        self._numbers = count(1)
        # What waits, and those of it that go first, in whose place something else is in
        # the queue; None lets a thread go.
        self._queue: SimpleQueue[LiveAttempt | None] = SimpleQueue()
        self._ahead_of_all: deque[LiveAttempt] = deque()
        self._threads: set[threading.Thread] = set()
        self._looked = 0  # how often somebody was to be found for what waits
        self._ended = self._seen = 0  # how many attempts, and when one was started last
        self._started = 0.0
        self._working: dict[LiveAttempt, threading.Thread] = {}
        self._seconds = inf  # that an attempt takes, of late
        self.limit: int | None = None
        self._set_limit()

    def _set_limit(self) -> None:
        if self._ahead is None:
            return
        # One more than there are threads, by which more are seen to be needed.
        threads = min(max(_FIRST_THREADS, len(self._threads) + 1), self._most)
        # What waits cannot be taken back from its source, and is not to be much work.
        work = max(1, _WORK_AHEAD / max(self._seconds, _SHORTEST))
        self.limit = threads + min(int(threads * work), self._ahead)

    @property
    def workers(self) -> int | None:
        return self._most

    def begin(self, attempt: LiveAttempt) -> None:
        # A copy for each: a context cannot be entered twice at once.
        attempt.variables = own_variables()
        attempt.taken = self._taken
        if attempt.number == 1:
            self._queue.put(attempt)
        else:
            self._ahead_of_all.append(attempt)
            self._queue.put(_INSTEAD)

    def staff(self) -> bool:
        # Short tasks are done before a second thread has started, and computing ones
        # gain nothing by more than a few; where they wait, none ends meanwhile.
        self._looked += 1
        if self._looked & _BETWEEN_LOOKS == 0:
            self._set_limit()
        while len(self._threads) < self._most and not self._queue.empty():
            now = perf_counter()
            if (
                len(self._threads) >= _FIRST_THREADS
                and self._ended != self._seen
                and now - self._started < _BETWEEN_STARTS
            ):
                return True
            self._started, self._seen = now, self._ended
            name = f"{self._work.name}-{next(self._numbers)}"
            thread = threading.Thread(target=self._serve, name=name, daemon=True)
            self._threads.add(thread)
            try:
                start(thread)
            except WorkerStartError as error:
                self._threads.discard(thread)
                if not self._threads:
                    raise
                self._most = len(self._threads)
                text = "step %r goes on with fewer threads than asked for: %s"
                logger().warning(text, self._work.name, error)
            self._set_limit()
        return False

    def _serve(self) -> None:
        queue, thread = self._queue, threading.current_thread()
        while thread in self._threads:
            found = queue.get()
            if found is None:
                return
            attempt = self._first_of_all(found) if self._ahead_of_all else found
            del found  # an idle thread keeps nothing alive
            if attempt is None or attempt is _INSTEAD:
                continue  # it was taken back
            self._working[attempt] = thread
            if attempt.of_step.requested:
                self._working.pop(attempt, None)
                attempt.skip()
                del attempt
                continue
            report = make_attempt(attempt, self._work)
            self._working.pop(attempt, None)
            # Another thread's may get lost: it is seen to change.
            self._ended = ended = self._ended + 1
            if self._ahead and ended & _BETWEEN_LOOKS == 1:
                self._note(report.ended - report.began)
            attempt.end(report)
            del attempt, report

    def _note(self, seconds: float) -> None:
        before = self._seconds
        self._seconds = seconds if before == inf else (before + seconds) / 2

    def _first_of_all(self, found: LiveAttempt) -> LiveAttempt | None:
        """Give what goes before what was found, which is then the next that does."""
        if found is not _INSTEAD:
            self._ahead_of_all.append(found)
        try:
            return self._ahead_of_all.popleft()
        except IndexError:
            return None  # it was taken back

    def halt(self, attempts: Iterable[LiveAttempt]) -> list[LiveAttempt]:
        never_begun = []
        with suppress(Empty):
            while (found := self._queue.get_nowait()) is not None:
                attempt = self._first_of_all(found)
                if attempt is not None:
                    never_begun.append(attempt)
        return never_begun

    def give_up(self, attempt: LiveAttempt) -> None:
        thread = self._working.pop(attempt, None)
        if thread is not None:
            # It may go on, but takes no other attempt; one of its kind does.
            self._threads.discard(thread)
            self.staff()

    def close(self, wait: bool) -> None:
        for _ in self._threads:
            self._queue.put(None)
        if wait:
            for thread in self._threads:
                join(thread)
