"""Loop: what brings all tasks of a step to their ends.

It hands attempts to a place (``places`` has them), is told in its inbox how each ended,
has failed tasks tried again, gives up what takes too long, and stops the rest when it
is enough. Workers compute; the loop, in the thread that called it, records.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable, Iterable
from itertools import count
from math import inf
from queue import Empty, SimpleQueue
from typing import Any

from stepfunction.core.cancellation import Cancellation
from stepfunction.core.clock import perf_counter
from stepfunction.core.errors import refusal_behind, stop_behind
from stepfunction.core.outcomes import Outcome
from stepfunction.core.raised import is_a
from stepfunction.core.tracebacks import forget_locals
from stepfunction.core.workers.attempts import (
    RUNNING,
    Letter,
    LiveAttempt,
    Part,
    Report,
)
from stepfunction.core.workers.places import Place
from stepfunction.core.workers.sources import Source
from stepfunction.core.workers.tasks import Kept, Task

__tracebackhide__ = True  # pytest shows the test and what is called, not us

# To look a member of an enum up takes its time.
_SKIPPED = Outcome.SKIPPED
# A signal that comes just before a wait begins does not end it: Ctrl-C would be heard
# only with the next report.
_LONGEST_WAIT = 0.5
_SOON = 0.001
# So many are read before others begin, for which there may be room.
_MOST_LETTERS = 8
# Of tasks that are taken one by one, so that failures do not pile up in memory.
_MOST_PAUSING = 1000
_numbers = count()  # for what is due at the same time


class Agenda(list[tuple[float, int, Any]]):
    """A heap of what is to be seen to at its time, the soonest first.

    Attributes:
        soonest: When the first of it is due, as ``perf_counter``.
    """

    soonest = inf

    def add(self, due: float, what: Any) -> None:
        heapq.heappush(self, (due, next(_numbers), what))
        self.soonest = self[0][0]

    def take(self) -> Any:
        """Take out the first."""
        what = heapq.heappop(self)[2]
        self.soonest = self[0][0] if self else inf
        return what

    def clear(self) -> None:
        super().clear()
        self.soonest = inf


class Loop:
    """The way of all tasks of a step.

    A task is waiting, here or at its source; or an attempt at it is under way; or it
    pauses before the next. It is open until it has ended.
    """

    def __init__(
        self,
        tasks: Iterable[Task],
        place: Place,
        cancellation: Cancellation,
        is_enough: Callable[[Task], bool],
        ended: Callable[[Task], None],
        at_once: bool,
        taken: dict[Task, None],
        kept: Kept | None,
        keeps_locals: bool,
    ) -> None:
        self.place = place
        self.cancellation = cancellation
        self.is_enough = is_enough
        self.ended = ended
        self.source = Source(tasks, at_once)
        self.waiting: deque[Task] = deque()
        self.due: deque[Task] = deque()  # after a pause, before all that waits
        self.under_way: set[LiveAttempt] = set()
        self.pauses = self.agenda_of_pauses()  # of tasks
        self.limits = Agenda()  # of attempts
        self.open = taken
        self.kept = kept
        self.keeps_locals = keeps_locals
        self.untold: list[Task] = []  # that have ended, and are to be kept first
        self.inbox: SimpleQueue[Letter] = SimpleQueue()
        self.is_understaffed = False  # whether more may be needed to make attempts
        self.is_stopping = False
        self.refusal: Exception | None = None  # why no task can run here
        for task in () if self.source.has_more else tasks:
            self.admit(task)

    def agenda_of_pauses(self) -> Agenda:
        return Agenda()

    def run(self) -> None:
        """Bring all tasks to their ends."""
        source, is_done = self.source, False
        try:
            with self.cancellation.calling(self.call_to_stop):
                while (
                    self.waiting
                    or self.due
                    or self.under_way
                    or self.pauses
                    or source.has_more
                ):
                    self.begin_what_may()
                    if self.under_way or self.pauses:
                        self.see_to_next()
            is_done = True
        except BaseException as error:
            if not is_a(error, Exception):
                self.cancellation.interrupted()
            raise
        finally:
            try:
                if not is_done:
                    self.stop()
                    self.leave_behind()
            finally:
                try:
                    self.place.close(wait=is_done)
                except BaseException:
                    self.place.close(wait=False)  # an interrupt may have cut it short
                    raise
                finally:
                    for task in tuple(self.open):
                        self.end(task)
                    self.keep()
        if self.refusal is not None:
            raise self.refusal
        if source.error is not None:
            raise source.error

    # What is next.

    def begin_what_may(self) -> None:
        place, is_full = self.place, True
        while is_full:
            limit = place.limit
            is_full = self.begin_some(limit)
            self.is_understaffed = place.staff()
            is_full = is_full and place.limit != limit  # there may be room for more now

    def begin_some(self, limit: int | None) -> bool:
        """Begin what may, and say whether more would if there were room for it."""
        under_way, place = self.under_way, self.place
        while limit is None or len(under_way) < limit:
            if self.pauses:
                self.take_what_is_due()
            if self.due:
                task: Task | None = self.due.popleft()
            else:
                task = self.waiting.popleft() if self.waiting else self.next_of_source()
            if task is None:
                return False
            if place.is_inline and self.untold:
                self.keep()  # for this call may take its time
            attempt = LiveAttempt(task, self.cancellation, self.inbox)
            under_way.add(attempt)
            try:
                place.begin(attempt)
            except Exception as error:  # it takes no task at all
                self.refuse(attempt, error)
                return False
            # What was made in this very thread may be the last, or be followed by a
            # second attempt.
            has_ended = place.is_inline and attempt.has_reported
            if has_ended or (self.source.is_slow and self.has_news()):
                return False
        return True

    def refuse(self, attempt: LiveAttempt, error: Exception) -> None:
        """Begin no other, and raise that once what is under way has ended."""
        if self.refusal is None:
            self.refusal = error
        self.under_way.discard(attempt)
        self.leave_out(attempt.task)
        self.stop()
        self.end(attempt.task)

    def next_of_source(self) -> Task | None:
        source = self.source
        if not source.has_more or len(self.pauses) >= _MOST_PAUSING:
            return None
        if source.may_wait:
            self.place.staff()  # what was taken goes on, however long this may take
        task = source.next(is_first=not self.under_way)
        if task is not None:
            self.open[task] = None
        elif source.error is not None:
            self.stop()
        return task

    def admit(self, task: Task) -> None:
        """Take on a task; one that has been attempted goes on from there."""
        self.open[task] = None
        if task.attempts:
            self.go_on(task)
        elif self.is_stopping:
            self.leave_out(task)
        else:
            self.waiting.append(task)

    # What is due.

    def has_news(self) -> bool:
        """Tell whether there is something that need not be waited for."""
        soonest = min(self.pauses.soonest, self.limits.soonest)
        return not self.inbox.empty() or soonest <= perf_counter()

    def see_to_next(self) -> None:
        """Read some letters, or see to what has become due."""
        if not self.inbox.empty():
            for _ in range(_MOST_LETTERS):
                self.read(self.inbox.get())
                if self.inbox.empty():
                    return
            return
        now = perf_counter()
        if self.pauses.soonest <= now:
            self.take_what_is_due()
            return
        if self.limits.soonest <= now:
            self.look_after(self.limits.take(), now)
            return
        longest = _SOON if self.is_understaffed else _LONGEST_WAIT
        soonest = min(self.pauses.soonest, self.limits.soonest)
        self.keep()
        try:
            letter = self.inbox.get(timeout=min(soonest - now, longest))
        except Empty:
            return
        self.read(letter)

    def take_what_is_due(self) -> None:
        """Let the tasks be next whose pauses are over."""
        now = perf_counter()
        while self.pauses.soonest <= now:
            self.due.append(self.pauses.take())

    def read(self, letter: Letter) -> None:
        if letter is None:
            self.stop()
        elif isinstance(letter, LiveAttempt):
            self.watch(letter)
            if letter.state is RUNNING:
                letter.task.tell_start(letter.began)
        elif letter.attempt not in self.under_way:
            return  # it was given up, and speaks late
        elif isinstance(letter, Report):
            self.settle(letter)
        elif isinstance(letter, Part):
            letter.attempt.task.take(letter.part)
        elif (told := letter.attempt.task.told) is not None:
            told.pass_on(letter.event)

    def watch(self, attempt: LiveAttempt) -> None:
        """See to it that an attempt is looked after when its time may be over."""
        is_live = attempt in self.under_way and attempt.overdue is None
        if attempt.task.is_timed and is_live:
            self.limits.add(min(limit for limit, *_ in attempt.limits()), attempt)

    def look_after(self, attempt: LiveAttempt, now: float) -> None:
        """Give up an attempt whose time is over, unless it was heard of since."""
        if attempt not in self.under_way or attempt.overdue is not None:
            return
        if not attempt.is_over(now):
            self.watch(attempt)
            return
        attempt.cancellation.request(is_overdue=True)
        self.place.give_up(attempt)
        outcome = self.place.left_behind
        if outcome is Outcome.ABANDONED:
            attempt.is_left_behind = True
            now = perf_counter()
            self.settle(Report(attempt, outcome, attempt.overdue, attempt.began, now))

    # What has ended.

    def settle(self, report: Report) -> None:
        attempt, task = report.attempt, report.attempt.task
        self.under_way.remove(attempt)
        if report.outcome is _SKIPPED:
            self.stop()
            self.leave_out(task)
            return
        is_stopping = self.is_stopping or attempt.cancellation.requested
        task.settle(attempt.judge(report), is_stopping)
        self.go_on(task)

    def go_on(self, task: Task) -> None:
        """See to what follows from an attempt: another, heirs, or the task's end."""
        refusal: Exception | None = None
        if task.error is not None:
            refusal = refusal_behind(task.error)
            if refusal is None and self.kept is not None:
                refusal = stop_behind(task.error)
        if refusal is not None and not self.is_stopping:
            self.refusal = refusal  # no task has failed: none can run here
            self.stop()
        heirs = task.heirs()
        if heirs is not None:
            self.end(task)
            for heir in heirs:
                self.admit(heir)
            return
        if not self.is_stopping:
            is_known = task.is_recalled  # then that was kept, and told of
            pause = None if task.retry is None else task.pause_before_next()
            if pause is not None:
                if not is_known:
                    if self.kept is not None:
                        self.kept.retried(task, pause)
                    task.tell_retried(pause)
                    if task.error is not None and not self.keeps_locals:
                        forget_locals(task.error)
                self.pause(task, pause)
                return
            if task.error is not None and self.is_enough(task):
                self.stop()
        self.end(task)

    def pause(self, task: Task, seconds: float) -> None:
        """Have a task wait before its next attempt."""
        self.pauses.add(perf_counter() + seconds, task)

    def end(self, task: Task) -> None:
        """Let it be known that a task has ended, once."""
        if task in self.open:
            del self.open[task]
            task.has_ended = True
            if self.kept is None:
                self.tell_end(task)
                self.ended(task)
                return
            self.kept.ended(task)
            self.ended(task)
            self.untold.append(task)
            if self.kept.is_due:
                self.keep()

    def keep(self) -> None:
        """Have kept what has ended, and tell of it then."""
        if self.untold and self.kept is not None:
            untold, self.untold = self.untold, []
            self.kept.flush()
            for task in untold:
                self.tell_end(task)

    def tell_end(self, task: Task) -> None:
        task.tell_end()
        if not self.keeps_locals:
            task.forget_locals()

    # Stopping.

    def call_to_stop(self) -> None:
        """Let these tasks be stopped. Any thread may."""
        for attempt in tuple(self.under_way):
            attempt.task.halt()  # now, for the loop may be making that very attempt
            if attempt.cancellation is not self.cancellation:
                attempt.cancellation.request(self.cancellation.is_overdue)
        self.inbox.put(None)

    def stop(self) -> None:
        """Begin nothing more, stop what can be stopped, and tell the others."""
        if not self.is_stopping:
            self.is_stopping = True
            self.cancellation.request()
            for attempt in self.under_way:
                attempt.cancellation.request(self.cancellation.is_overdue)
                attempt.task.halt()
            self.source.dry_up()
            never_begun = self.place.halt(self.under_way)
            self.under_way.difference_update(never_begun)
            for task in (*self.waiting, *(attempt.task for attempt in never_begun)):
                self.leave_out(task)
            self.waiting.clear()
            self.due.clear()  # as those that pause
            self.pauses.clear()
        if self.cancellation.is_overdue and self.place.left_behind is Outcome.ABANDONED:
            self.leave_behind()

    def leave_out(self, task: Task) -> None:
        """Let a task end before its next attempt: with how the last ended, if any."""
        if not task.attempts:
            task.outcome = Outcome.CANCELLED

    def leave_behind(self) -> None:
        """Wait no longer for what is under way, but read what has been reported."""
        while not self.inbox.empty():
            letter = self.inbox.get()
            if isinstance(letter, Report):
                self.read(letter)
        now, outcome = perf_counter(), self.place.left_behind
        for attempt in self.under_way:
            attempt.is_left_behind = True
            attempt.cancellation.request(is_overdue=True)
            self.place.give_up(attempt)
            # It may only be about to begin.
            began = min(attempt.began, now) if attempt.state is RUNNING else now
            attempt.task.settle(Report(attempt, outcome, None, began, now))
            self.go_on(attempt.task)
        self.under_way.clear()
