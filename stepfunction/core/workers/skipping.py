"""Skipping: the loop of tasks whose pauses are skipped.

What they pause lapses at once, on a track for each. What would go on after a limit
waits for it, until all others have ended or wait too: then the limit comes, and finds
them as it would have.
"""

from __future__ import annotations

import threading
from bisect import bisect, insort
from functools import partial
from math import inf
from typing import Any

from stepfunction.core.cancellation import Cancellation
from stepfunction.core.clock import perf_counter
from stepfunction.core.history.journal import Journal
from stepfunction.core.lapse import AtLimit, Limit, Track, on, track_here
from stepfunction.core.outcomes import Outcome
from stepfunction.core.probes import tell_skipped
from stepfunction.core.waiting import LONGEST_WAIT, Latch
from stepfunction.core.workers.attempts import (
    WAITING,
    Letter,
    LiveAttempt,
    Part,
    Report,
)
from stepfunction.core.workers.loop import Agenda, Loop
from stepfunction.core.workers.places import Place
from stepfunction.core.workers.tasks import Task

__tracebackhide__ = True  # pytest shows the test and what is called, not us

_BETWEEN_LOOKS = 0.001


class SkippingLoop(Loop):
    """The way of all tasks of a step, by the clocks of their tracks."""

    pauses: _Pauses

    def __init__(self, tasks: Any, place: Place, *facts: Any) -> None:
        self.track = track_here() or Track()
        self.beside = _Beside(self.track, place, facts[0])
        self.parked: set[LiveAttempt] = set()  # with a worker, which waits for a limit
        self.held: dict[LiveAttempt, Report] = {}  # that ended after it
        self.quiet_since = inf
        super().__init__(tasks, place, *facts)

    def agenda_of_pauses(self) -> Agenda:
        return _Pauses()

    def run(self) -> None:
        outer, self.track.tasks = self.track.tasks, self.beside
        try:
            with on(self.track):
                super().run()
        finally:
            self.track.tasks = outer
            self.track.move_to(self.beside.latest)

    # --- pauses ----------------------------------------------------------------------

    def pause(self, task: Task, seconds: float) -> None:
        begin = self.beside.at(task)
        limit, due = self.track.first_limit(self.cancellation), begin + seconds
        if limit is not None and due >= limit.moment:
            seconds, due = max(0.0, limit.moment - begin), inf
        tell_skipped([(task.name, seconds)])
        self.beside.put(task, due)
        self.pauses.add(due, task)

    def take_what_is_due(self) -> None:
        """Let that task be next whose pause is the first to be over.

        What has not been attempted goes before it, if it can begin earlier.
        """
        if self.due or self.pauses.first == inf:
            return
        if self.has_others() and self.pauses.first > self.beside.next_begin():
            return
        if self.place.is_inline:
            self.track.move_to(self.pauses.first)
        self.due.append(self.pauses.take())

    def has_others(self) -> bool:
        """Whether there is what has not been attempted, here or with its place."""
        if self.waiting or self.source.has_more:
            return True
        # Where it is not known how many are made at once those may never be.
        return self.beside.workers is not None and any(
            it.state is WAITING and it.number == 1 for it in self.under_way
        )

    # --- limits ----------------------------------------------------------------------

    def see_to_next(self) -> None:
        if not self.is_stopping and self.inbox.empty() and self.is_at_rest():
            limit = self.track.first_limit(self.cancellation)
            if limit is not None:
                self.track.move_to(limit.moment)
                limit.come()
        super().see_to_next()

    def begin_some(self, limit: int | None) -> bool:
        is_full = super().begin_some(limit)
        if not (is_full or self.under_way or self.source.has_more):
            # The source has just run dry, and what pauses is no longer to wait for it.
            self.take_what_is_due()
            return super().begin_some(limit) if self.due else False
        return is_full

    def is_at_rest(self) -> bool:
        """Whether all that is left waits for a limit."""
        workers = self.beside.workers
        if workers is not None and len(self.parked) + len(self.held) >= workers:
            return True
        if self.due or self.pauses.first < inf:
            return False
        busy = self.under_way - self.parked - self.held.keys()
        if busy and self.parked and workers is None:
            # Which may wait for those workers that the others keep.
            now = perf_counter()
            self.quiet_since = min(self.quiet_since, now)
            return now - self.quiet_since > LONGEST_WAIT
        return not busy and bool(self.parked or self.held or self.pauses)

    def read(self, letter: Letter) -> None:
        self.quiet_since = inf
        if not isinstance(letter, Part) or type(letter.part) is not AtLimit:
            super().read(letter)
        elif letter.attempt in self.under_way:
            is_own, skipped = letter.part
            tell_skipped(skipped)
            self.stand_still(letter.attempt, is_own)

    def stand_still(self, attempt: LiveAttempt, is_own: bool) -> None:
        """Let an attempt wait for a limit, and come to its own if that is the first."""
        limit, timeout = self.track.first_limit(self.cancellation), attempt.task.timeout
        if is_own and timeout is not None:
            moment = self.beside.begin_of(attempt) + timeout
            if limit is None or moment < limit.moment:
                self.end_time_of(attempt)
                return
        self.parked.add(attempt)

    def end_time_of(self, attempt: LiveAttempt) -> None:
        """Give up an attempt whose own limit has come."""
        moment = min(limit for limit, *_ in attempt.limits())
        self.look_after(attempt, max(moment, perf_counter()))

    def settle(self, report: Report) -> None:
        attempt = report.attempt
        was_parked = attempt in self.parked
        self.parked.discard(attempt)
        was_held = self.held.pop(attempt, None) is not None
        if not was_held and report.outcome is not Outcome.SKIPPED:
            lapsed, is_cut = self.lapsed_elsewhere(report)
            begin, end = self.beside.end(attempt, report, lapsed)
            if not was_parked:  # else it was stopped before the limit came
                self.beside.latest = max(self.beside.latest, end)
            if not self.is_stopping and (is_cut or lapsed) and attempt.overdue is None:
                timeout = attempt.task.timeout
                limit = self.track.first_limit(self.cancellation)
                soonest = inf if limit is None else limit.moment
                is_own = timeout is not None and min(end, soonest) - begin >= timeout
                if is_own or is_cut or end >= soonest:
                    tell_skipped(report.payload.skipped)
                    report.payload.skipped = ()
                    self.held[attempt] = report
                    if is_own:
                        self.end_time_of(attempt)
                    return
        super().settle(report)

    def lapsed_elsewhere(self, report: Report) -> tuple[float, bool]:
        """Give what lapsed in another process, and whether a limit came there."""
        journal: Any = report.payload
        if type(journal) is not Journal or journal.graph is not None:
            return 0.0, False
        return journal.lapsed, journal.is_cut

    def stop(self) -> None:
        super().stop()
        held, self.held = self.held, {}
        for attempt, report in held.items():
            if attempt in self.under_way:
                if self.place.left_behind is Outcome.KILLED:  # as it would have been
                    report = report._replace(outcome=Outcome.KILLED, payload=None)
                super().settle(report)


class _Pauses(Agenda):
    """Tasks that pause, by the clocks of their tracks; nobody is to wait for them.

    Attributes:
        first: When the first of them is over.
    """

    first = inf

    def add(self, due: float, what: Any) -> None:
        super().add(due, what)
        self.first, self.soonest = self[0][0], inf

    def take(self) -> Any:
        what = super().take()
        self.first, self.soonest = self.soonest, inf
        return what

    def clear(self) -> None:
        super().clear()
        self.first = inf


class _Beside:
    """Tasks beside each other, and where each is by its own clock.

    Args:
        track: What they part from.
        place: Where they run.
        cancellation: What stops them all.

    Attributes:
        latest: When the last of them ended.
    """

    def __init__(self, track: Track, place: Place, cancellation: Cancellation) -> None:
        self.latest = self._begin = track.now()
        self._track = track
        self._place = place
        self._cancellation = cancellation
        self._moments: dict[Task, float] = {}
        self._tracks: dict[LiveAttempt, tuple[float, Track]] = {}
        self._begun: dict[LiveAttempt, float] = {}  # in another process
        self._free: list[float] = []  # when each worker was that has made an attempt
        self._taken = 0  # how many workers have made one
        self._turns: list[LiveAttempt] = []  # that are to begin, in their order
        self._starting = 0  # how many of them just begin
        self._latches: list[Latch] = []  # by which others wait for that
        self._lock = threading.RLock()

    @property
    def workers(self) -> int | None:
        """How many attempts are made at once; None where that is not known."""
        return self._place.workers

    def at(self, task: Task) -> float:
        """Give when its last attempt ended."""
        return self._moments.get(task, self._track.now())

    def put(self, task: Task, moment: float) -> None:
        """Let a task go on at a moment."""
        self._moments[task] = moment

    def next_begin(self) -> float:
        """Give when the next attempt can begin."""
        workers, now = self.workers, self._track.now()
        if workers is None or self._taken < workers or not self._free:
            return now
        return max(now, self._free[0])

    def begin(self, attempt: LiveAttempt) -> float:
        """Give when an attempt begins, with a worker that is free as soon as any."""
        task = attempt.task
        began = task.began if attempt.number == 1 else attempt.began
        with self._lock:
            workers, free = self.workers, self._begin
            # It may have been asked for long after that, which is no time of its own.
            earliest = (began or perf_counter()) + self._track.seconds
            earliest = max(earliest, self._moments.get(task, 0.0))
            # The latest that is free then, for others may begin before.
            at = bisect(self._free, earliest)
            if workers is not None and at:
                free = self._free.pop(at - 1)
            elif workers is None or self._taken < workers:
                self._taken += 1
            elif self._free:
                free = self._free.pop(0)
            return max(earliest, free)

    def part(self, attempt: LiveAttempt) -> Track:
        """Give the track of an attempt that begins in this thread."""
        begin, task = self._begin_in_turn(attempt), attempt.task
        track = Track(begin - perf_counter())
        outer = self._track.first_limit(self._cancellation)
        for moment, is_own in (
            (None if outer is None else outer.moment, False),
            (None if task.timeout is None else begin + task.timeout, True),
        ):
            if moment is not None:
                tell = partial(attempt.report, AtLimit(is_own))
                track.limits.append(Limit(moment, attempt.cancellation, tell))
        with self._lock:
            self._tracks[attempt] = begin, track
            self._starting -= 1
            self._look_again()
        return track

    def _begin_in_turn(self, attempt: LiveAttempt) -> float:
        """Give when an attempt begins, once it is known who is the first to be free."""
        until = perf_counter() + LONGEST_WAIT  # they may wait for one another
        with self._lock:
            self._turns.append(attempt)
        while True:
            with self._lock:
                if self._is_next(attempt) or perf_counter() > until:
                    self._turns.remove(attempt)
                    self._starting += 1
                    return self.begin(attempt)
                latch = Latch()
                self._latches.append(latch)
            if attempt.cancellation.requested:
                until = 0.0
            else:
                latch.wait(_BETWEEN_LOOKS)  # for nobody tells of each pause

    def _is_next(self, attempt: LiveAttempt) -> bool:
        workers = self.workers
        if workers is not None and self._taken >= workers and not self._free:
            return False  # one has just been let go of
        moment = self.next_begin()
        tracks = (track for _, track in self._tracks.values())
        return (
            self._turns[0] is attempt
            and not self._starting
            and all(it.ended or it.now() >= moment for it in tracks)
        )

    def _look_again(self) -> None:
        for latch in self._latches:
            latch.open()
        self._latches.clear()

    def begin_of(self, attempt: LiveAttempt) -> float:
        """Give when an attempt has begun, which for another process is decided now."""
        if attempt in self._tracks:
            return self._tracks[attempt][0]
        if attempt not in self._begun:
            self._begun[attempt] = self.begin(attempt)
        return self._begun[attempt]

    def rejoin(self, track: Track) -> None:
        """Take note that the attempt of a track has ended in this thread."""
        with self._lock:
            if not track.ended:  # else it was given up
                track.ended = track.now()
                self._let_go(track.ended)

    def _let_go(self, moment: float) -> None:
        """Let a worker be free from a moment on."""
        with self._lock:
            insort(self._free, moment)
            self._look_again()

    def end(
        self, attempt: LiveAttempt, report: Report, lapsed: float
    ) -> tuple[float, float]:
        """Take note of how an attempt ended, and give when it began and did."""
        task, took = attempt.task, max(0.0, report.ended - report.began)
        parted = self._tracks.pop(attempt, None)
        if parted is not None:
            begin, track = parted
            self.rejoin(track)
            end = track.ended
        elif self._place.is_inline:
            begin = end = self._track.now()
        else:
            begin = self.begin_of(attempt)
            self._begun.pop(attempt, None)
            end = begin + took + lapsed
        if parted is None:
            if attempt.overdue is not None and task.timeout is not None:
                end = max(end, begin + task.timeout)
            self._let_go(end)
        self._moments[task] = end
        return begin, end
