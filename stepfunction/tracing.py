"""Tracing: an execution as OpenTelemetry spans. The only file that imports it.

Needs the extra ``otel``, which is OpenTelemetry's API. Where spans go is set up with
its SDK, as for everything else that a program traces.
"""

from __future__ import annotations

from contextvars import Token
from dataclasses import dataclass, field
from typing import TypeAlias
from weakref import finalize

from stepfunction import __version__
from stepfunction.core.history.records import Attempt
from stepfunction.core.outcomes import Outcome, Status
from stepfunction.core.watching.events import Event, path_text
from stepfunction.core.wording import error_text

try:
    from opentelemetry import trace
    from opentelemetry.context import Context, attach, detach
except ModuleNotFoundError as missing:
    raise ModuleNotFoundError(
        "stepfunction.tracing needs OpenTelemetry: pip install opentelemetry-api",
        name=missing.name,
    ) from missing

_Facts: TypeAlias = dict[str, str | int]
_Spans: TypeAlias = "dict[str | int | None, _Open]"  # by the last part of their places


class Tracing:
    """A listener that makes a span of each execution, step, task and attempt.

    Of the items of a map step those have spans that failed or were tried again, or run
    a workflow; the span of the step says how many have ended. What undoes a step or
    task has a span too.

    The span of an execution is a child of the span that is current where
    ``execute()`` is called; that of a nested one is a child of its step's or task's.
    Attempts have spans of their own where there was more than one. What failed has
    the status ERROR and its exception. One instance serves any number of executions
    at once.

    While a step runs in the thread that called ``execute()``, its span is the current
    one, so that spans which its function makes are children of it. Tasks in threads
    have a copy of that context: what they make are children of their step's span. In
    other processes nothing is known of it.

    Args:
        tracer_provider: Where the spans are made; None for OpenTelemetry's global
            provider.

    >>> from stepfunction import StepFunction
    >>> from stepfunction.tracing import Tracing
    >>> workflow = StepFunction("Sum", listeners=[Tracing()])
    >>> workflow.add_step("Add", sum).set_start_step("Add").execute([1, 2]).output
    3
    """

    def __init__(self, tracer_provider: trace.TracerProvider | None = None) -> None:
        if not isinstance(tracer_provider, trace.TracerProvider | None):
            raise TypeError(
                f"tracer_provider is a TracerProvider of OpenTelemetry, "
                f"not {tracer_provider!r}"
            )
        self._tracer = trace.get_tracer("stepfunction", __version__, tracer_provider)
        self._running: _Spans = {}  # of the outermost executions, by their ids

    def __call__(self, event: Event) -> None:
        """Begin or end the span that an event is about."""
        if event.subject == "compensation":
            self._add_compensation(event)
            return
        span = self._find(event, event.place)
        if event.what in ("started", "resumed"):
            if span is None or span.is_ended:
                self._begin(event, event.time)
            return
        if span is None and event.part is not None and event.attempts:
            # An item; or it was interrupted before its beginning could be told.
            span = self._begin(event, event.attempts[0].started)
        if span is None or span.is_ended:
            return
        if event.what == "progressed":
            span.note("items_done", event.done or 0)
            if event.total is not None:
                span.note("items_total", event.total)
        elif event.what == "retried":
            span.end_below(span.since(event.time))
            self._add_attempts(span, event.attempts)
        else:
            self._end(span, event)

    def _find(self, event: Event, place: tuple[str | int | None, ...]) -> _Open | None:
        found = self._running.get(event.root_id)
        for key in place:
            found = found and found.below.get(key)
        return found

    def _begin(self, event: Event, time: float) -> _Open | None:
        place = event.place
        outer = self._find(event, place[:-1]) if place else None
        if place and (outer is None or outer.is_ended):
            return None
        span = self._open(_name(event), _facts(event), time, outer)
        if outer is not None:
            outer.below[place[-1]] = span
        else:
            self._running[event.root_id] = span
            # Where an interrupt keeps us from being told of its end.
            forget = finalize(event.execution, self._running.pop, event.root_id, None)
            forget.atexit = False
        if span.is_here:
            span.enter(event)
        return span

    def _add_compensation(self, event: Event) -> None:
        """Make the span of what has undone something, in whatever is still open."""
        place = event.place
        around = (self._find(event, place[:length]) for length in range(len(place)))
        is_open = [it for it in around if it is not None and not it.is_ended]
        if is_open:
            began = event.time - (event.duration or 0.0)
            made = self._open(_name(event), _facts(event), began, is_open[-1])
            made.fail(event.outcome, event.error, made.since(event.time))
            made.end(made.since(event.time))

    def _open(
        self, name: str, facts: _Facts, time: float, outer: _Open | None
    ) -> _Open:
        context, began, is_here = None, _nanoseconds(time), True
        if outer is not None:
            context, began, is_here = outer.context, outer.since(time), outer.is_here
        span = self._tracer.start_span(
            name, context, attributes=facts, start_time=began
        )
        around = trace.set_span_in_context(span, context)
        return _Open(span, facts, began, around, is_here)

    def _add_attempts(self, span: _Open, attempts: tuple[Attempt, ...]) -> None:
        """Make the spans of attempts that have none, the first's with the second's."""
        if len(attempts) < 2:
            return
        for attempt in attempts[span.attempts :]:
            span.attempts = attempt.number
            facts: _Facts = {
                **span.facts,
                "stepfunction.kind": "attempt",
                "stepfunction.attempt": attempt.number,
                "stepfunction.outcome": attempt.outcome.value,
            }
            name = f"attempt {attempt.number}"
            made = self._open(name, facts, attempt.started, span)
            ended = made.since(attempt.started + attempt.duration)
            made.fail(attempt.outcome, attempt.error, ended)
            made.end(ended)

    def _end(self, span: _Open, event: Event) -> None:
        ended = span.since(event.time)
        span.end_below(ended)
        try:
            self._add_attempts(span, event.attempts)
            if event.outcome is not None:
                span.note("outcome", event.outcome.value)
                span.note("attempts", len(event.attempts))
            if event.status is not None:
                span.note("status", event.status.value)
            if event.next_step is not None:
                span.note("next_step", event.next_step)
            span.fail(event.outcome or event.status, event.error, ended)
        finally:  # an exception may fail to give its text
            span.end(ended)
            if not event.place:
                self._running.pop(event.root_id, None)


@dataclass(slots=True, eq=False)
class _Open:
    """A span, and what is below it: what has ended counts no more, but for tasks."""

    span: trace.Span
    facts: _Facts
    began: int
    context: Context
    is_here: bool  # whether what is nested in it runs in the calling thread
    attempts: int = 0  # how many of them have spans
    below: _Spans = field(default_factory=dict)
    token: Token[Context] | None = None
    is_ended: bool = False

    def since(self, time: float) -> int:
        """Give a time in nanoseconds, but none before it began."""
        return max(self.began, _nanoseconds(time))

    def enter(self, event: Event) -> None:
        """Make it the current one, for its functions run in this thread."""
        self.token = attach(self.context)
        graph = None if event.execution is None else event.execution.graph
        if event.step is not None and graph is not None:
            step = graph.table[event.step]
            self.is_here = step.executor is None

    def note(self, name: str, value: str | int) -> None:
        self.span.set_attribute(f"stepfunction.{name}", value)

    def fail(
        self, end: Outcome | Status | None, error: BaseException | None, time: int
    ) -> None:
        """Note what it failed with, if it did."""
        if error is not None:
            self.span.record_exception(error, timestamp=time)
        is_cancelled = end in (Outcome.CANCELLED, Status.CANCELLED)
        if not is_cancelled and (error is not None or end is Status.TIMED_OUT):
            text = str(end) if error is None else error_text(error)
            self.span.set_status(trace.Status(trace.StatusCode.ERROR, text))

    def end(self, time: int) -> None:
        """End it, and all below it, which nobody will be told of any more."""
        if self.is_ended:
            return
        self.is_ended = True
        self.end_below(time)
        if self.token is not None:
            detach(self.token)
        self.span.end(max(self.began, time))

    def end_below(self, time: int) -> None:
        for inner in self.below.values():
            inner.end(time)
        self.below.clear()


def _name(event: Event) -> str:
    if event.subject == "compensation":
        return f"compensation {path_text((), event.step, event.part)}"
    names = (event.part, event.step, event.workflow)
    return f"{event.subject} {next(it for it in names if it is not None)}"


def _facts(event: Event) -> _Facts:
    facts: _Facts = {
        "stepfunction.kind": event.subject,
        "stepfunction.root_id": event.root_id,
        "stepfunction.execution_id": event.execution_id,
        "stepfunction.workflow": event.workflow,
    }
    if event.path:
        facts["stepfunction.path"] = path_text(event.path)
    if event.step is not None:
        facts["stepfunction.step"] = event.step
    if event.task is not None:
        facts["stepfunction.task"] = event.task
    if event.item is not None:
        facts["stepfunction.item"] = event.item
    return facts


def _nanoseconds(time: float) -> int:
    return round(time * 1e9)
