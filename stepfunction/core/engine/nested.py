"""Nested: a workflow as a call, and what its failure is to the step that made it."""

from __future__ import annotations

import sys
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from stepfunction.core.cancellation import Cancellation
from stepfunction.core.context import Context, Line
from stepfunction.core.definition.graph import Graph
from stepfunction.core.engine.run import Go, Run
from stepfunction.core.envelope.omitted import Omitted
from stepfunction.core.errors import (
    ExecutionCancelledError,
    StepExecutionError,
    StepTimeoutError,
    TransferError,
    refusal_behind,
)
from stepfunction.core.history.journal import NOTHING, Journal
from stepfunction.core.keys import PartKey
from stepfunction.core.lapse import AtLimit, Limit, Track, on, parted, track_here
from stepfunction.core.outcomes import STOPPED, UNDER_WAY, Status
from stepfunction.core.probes import probed, skipping
from stepfunction.core.raised import is_a
from stepfunction.core.surroundings import guard, this_process
from stepfunction.core.tracebacks import forget_locals
from stepfunction.core.watching.telling import Reach
from stepfunction.core.wording import TOO_DEEP, error_text
from stepfunction.core.workers.workshop import Workshop

if TYPE_CHECKING:
    from stepfunction.core.engine.kept import KeptVisit

__tracebackhide__ = True  # pytest shows the test and what is called, not us


class Skipping(NamedTuple):
    """What another process must know where pauses are skipped.

    Attributes:
        process: The process that says so.
        around: In how many seconds the first limit comes of what is around the call.
        own: How many an attempt may take.
    """

    process: bytes
    around: float | None
    own: float | None


class NestedCall:
    """A nested workflow as a call: it gives its journal when that has ended.

    Args:
        graph: The workflow.
        run: What it shares with what it is nested in.
        title: What messages call the step or task.
        timeout: How many seconds an attempt may take, where nobody else looks after
            that.
        reach: By which it is told of; None where nobody listens.
        lineage: What the idempotency keys of its calls begin with.
        kept: What keeps the visit that it is part of; None for nothing.
        key: The task that it is, or the index of the item; None for the step itself.
        has_no_input: Whether its first step is to keep a default that it has.
        names_inputs: Whether its input is a dict of named inputs, which each attempt
            may change.
        limit: How many seconds an attempt may take, where others look after that.

    Attributes:
        journal: That of its latest run, from when it begins, in this process.
    """

    guards_itself = True

    def __init__(
        self,
        graph: Graph,
        run: Run,
        title: str,
        timeout: float | None = None,
        reach: Reach | None = None,
        lineage: str | None = None,
        kept: KeptVisit | None = None,
        key: PartKey | None = None,
        has_no_input: bool = False,
        names_inputs: bool = False,
        limit: float | None = None,
    ) -> None:
        self.graph = graph
        self.has_no_input = has_no_input
        self.names_inputs = names_inputs
        self.lineage = lineage
        self.kept = kept
        self.key = key
        self.run = run
        self.title = title
        self.timeout = timeout
        self.journal: Journal | None = None
        self.reach = reach
        self.limit = limit
        self._skips = skipping.get() is not None

    def __call__(self, value: Any, context: Context | None) -> Journal:
        if self._skips and context is not None:
            with parted(context._line):
                return self._call(value, context)
        return self._call(value, context)

    def _call(self, value: Any, context: Context | None) -> Journal:
        assert context is not None
        outer = context._cancellation or self.run.cancellation
        if self.has_no_input:
            value = NOTHING
        elif self.names_inputs:
            value = dict(value)
        if self.timeout is None:
            return self._run(value, outer, context._line)
        with outer.dependent() as cancellation:
            facts = value, cancellation, context._line
            journal = cancellation.within(self.timeout, self._run, *facts)
        if journal.status is Status.TIMED_OUT and not outer.requested:
            # The limit of this attempt, which may be followed by another.
            journal.error = StepTimeoutError(
                f"{self.title}: attempt {context.attempt} took longer than "
                f"{self.timeout:g} s",
                self.timeout,
            )
        return journal

    def stop(self, outer: Cancellation) -> None:
        """Let what is kept of it end as what was told to stop, in this thread.

        Args:
            outer: What stops the tasks of the step.
        """
        with outer.dependent() as cancellation:
            cancellation.request()
            self._run(None, cancellation, None)

    def _run(
        self, value: Any, cancellation: Cancellation, line: Line | None
    ) -> Journal:
        run = self.run.apart(cancellation)
        run.guard = guard()
        if self.kept is None:
            journal = Journal.given(self.graph, value, run)
            journal.lineage = self.lineage
        else:
            journal = self.kept.child(self.graph, value, run, self.key)
        if self.reach is not None:
            run.audience = self.reach.audience(journal, line)
        self.journal = run.top = journal
        try:
            if journal.status in UNDER_WAY:
                run.go(journal, run)
        finally:
            run.audience = None  # which may hold those it is nested in
            try:
                journal.end()
            except BaseException:  # an interrupt may have cut it short
                journal.end()
                raise
            finally:
                run.thread = run.top = None
        return journal

    def _skipping(self) -> Skipping | None:
        """Give what another process must know to skip pauses too; None for nothing."""
        if not self._skips:
            return None
        track, around = track_here(), None
        if track is not None:
            first = track.first_limit(self.run.cancellation)
            around = None if first is None else first.moment - track.now()
        return Skipping(this_process(), around, self.limit)

    def __reduce__(self) -> Any:
        override = self.run.workshop.override
        named = (self.title, self.timeout, self.reach, self.lineage)
        facts = (self.graph, self.run.go, *named)
        if not isinstance(override, str):
            override = None
        how = override, self._skipping(), self.has_no_input
        return partial, (_run_elsewhere, *facts, *how)


def _run_elsewhere(
    graph: Graph,
    go: Go,
    title: str,
    timeout: float | None,
    reach: Reach | None,
    lineage: str | None,
    override: str | None,
    skips: Skipping | None,
    has_no_input: bool,
    value: Any,
    context: Context | None,
) -> Journal:
    """Do the same in another process, with workers of its own.

    It cannot be cancelled but by killing the process.
    """
    workshop = Workshop(override)
    run = Run(go, workshop, Cancellation())
    named = (title, timeout, reach, lineage)
    call = NestedCall(graph, run, *named, has_no_input=has_no_input)
    try:
        if skips is None or skips.process == this_process():
            journal = call(value, context)
        else:
            journal = _call_skipping(call, skips, value, context)
    finally:
        workshop.close()
    if journal.error is not None:
        forget_locals(journal.error)  # which cannot be sent
    return journal


def _call_skipping(
    call: NestedCall, skips: Skipping, value: Any, context: Context | None
) -> Journal:
    """Make a call whose pauses are skipped, and give what that was with its journal."""
    cancellation, track = call.run.cancellation, Track()
    heard = None if context is None else context._line
    skipped: list[tuple[str, float]] = []
    is_cut = False

    def stop(is_own: bool) -> None:
        nonlocal is_cut
        if heard is not None:  # whoever hears of it ends this process
            heard.report(AtLimit(is_own, tuple(skipped)))
        else:
            is_cut = True
            cancellation.request(is_overdue=True)

    for seconds, is_own in ((skips.around, False), (skips.own, True)):
        if seconds is not None:
            moment, tell = track.now() + seconds, partial(stop, is_own)
            track.limits.append(Limit(moment, cancellation, tell))
    with on(track), probed(skipping, lambda *pause: skipped.append(pause)):
        journal = call(value, context)
    journal.skipped, journal.lapsed, journal.is_cut = skipped, track.seconds, is_cut
    return journal


def output_of_child(step: str, title: str, child: Journal) -> Any:
    """Give what a nested workflow gave, or fail as it failed."""
    error = _error_of_child(step, title, child)
    if error is not None:
        raise error
    return child.output


def _error_of_child(step: str, title: str, child: Journal) -> Exception | None:
    """Give what a step fails with whose nested workflow did not complete."""
    if is_a(child.error, StepTimeoutError) and child.blame is None:
        return child.error
    if child.status in STOPPED:
        return ExecutionCancelledError(f"{title} was cancelled")
    if child.blame is not None:
        inner, error = child.blame.step, child.blame.error
        failure = StepExecutionError(
            f"{title}: nested workflow {child.workflow!r} failed at its step "
            f"{inner!r}: {_told(error)}",
            step,
        )
        failure.execution = child.execution
        # A worker that cannot be had is no failure, also after one that a step took.
        failure.__cause__ = refusal_behind(error) or child.error
        return failure
    if is_a(child.output, Omitted):
        return TransferError(
            f"{title}: the result of nested workflow {child.workflow!r}, "
            f"{child.output.text}, cannot be sent back from its process; "
            "let its last step return what can be pickled"
        )
    return None


def _told(error: BaseException) -> str:
    text = error_text(error)
    if type(error) is RecursionError and _is_deep():
        return f"{text}; the workflows are {TOO_DEEP}"
    if len(text) > _LONGEST and is_a(error, StepExecutionError):
        # Of workflows that are nested deep, which all say where they failed.
        return f"{text[:_LONGEST // 2]} … {text[-_LONGEST // 2:]}"
    return text


def _is_deep() -> bool:
    """Tell whether it is what nests workflows that has used up the interpreter's stack.

    Below this frame there is what called and nested them, and nothing of the user's
    that calls itself.
    """
    frame, count = sys._getframe(), 0
    while frame.f_back is not None:
        frame, count = frame.f_back, count + 1
    return count > sys.getrecursionlimit() // 2


_LONGEST = 2_000
