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
from stepfunction.core.watching.events import Event, key_text
from stepfunction.core.wording import error_text

try:
    from opentelemetry import trace
    from opentelemetry.context import Context, attach, detach
except ModuleNotFoundError as missing:
    raise ModuleNotFoundError(
        "stepfunction.tracing needs OpenTelemetry: install stepfunction with its "
        "extra 'otel', or the package opentelemetry-api",
        name=missing.name,
    ) from missing

# Where a span stands: the id of the outermost execution, then the name of a step, of
# a task of it, or None for the execution that is nested in either, and so on.
_Place: TypeAlias = tuple[str | None, ...]
_Facts: TypeAlias = dict[str, str | int]


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
        self._running: dict[str | None, _Open] = {}  # the outermost, by their ids

    def __call__(self, event: Event) -> None:
        """Begin or end the span that an event is about."""
        if event.kind.startswith("compensation"):
            self._add_compensation(event)
            return
        place = _place(event)
        subject, what = self._find(place), event.kind.partition("_")[2]
        if subject is not None and subject.execution_id != event.execution_id:
            subject = None  # that of another attempt
        if what == "started":
            if subject is None:
                self._begin(place, event, event.time)
            return
        if subject is None and event.task is not None and event.attempts:
            # It was interrupted before its beginning could be told.
            subject = self._begin(place, event, event.attempts[0].started)
        if subject is None or subject.is_ended:
            return
        if what == "progressed":
            subject.note("items_done", event.done or 0)
            if event.total is not None:
                subject.note("items_total", event.total)
        elif what == "retried":
            subject.end_below(subject.since(event.time))
            self._add_attempts(subject, event.attempts)
        else:
            self._end(subject, event)
            if event.task is None:  # a task is kept, and so known to have ended
                self._below(place).pop(place[-1], None)

    def _add_compensation(self, event: Event) -> None:
        """Make the span of what has undone something, in whatever is still open."""
        place = _place(event)
        around = (self._find(place[:length]) for length in range(1, len(place)))
        is_open = [it for it in around if it is not None and not it.is_ended]
        if not is_open:
            return
        facts = {**_facts(event), "stepfunction.kind": "compensation"}
        name = event.step if event.task is None else f"{event.step}.{event.task}"
        began = event.time - (event.duration or 0.0)
        made = self._open(f"compensation {name}", facts, began, is_open[-1])
        made.fail(event.outcome, event.error, made.since(event.time))
        made.end(made.since(event.time))

    def _find(self, place: _Place) -> _Open | None:
        found, below = None, self._running
        for key in place:
            found = below.get(key)
            if found is None:
                return None
            below = found.below
        return found

    def _below(self, place: _Place) -> dict[str | None, _Open]:
        outer = self._find(place[:-1])
        return self._running if outer is None else outer.below

    def _begin(self, place: _Place, event: Event, time: float) -> _Open | None:
        if len(place) == 1:
            subject = self._open(_name(event), _facts(event), time)
            self._running[event.root_id] = subject
            # Where an interrupt keeps us from being told of its end.
            assert event.execution is not None
            forget = finalize(event.execution, self._running.pop, event.root_id, None)
            forget.atexit = False
        else:
            outer = self._outer(place, event)
            if outer is None:
                return None
            subject = self._open(_name(event), _facts(event), time, outer)
            outer.put(place[-1], subject)
        subject.execution_id = event.execution_id
        subject.enter(event, place)
        return subject

    def _outer(self, place: _Place, event: Event) -> _Open | None:
        """Give what an event's subject is in, if anybody still waits for that."""
        outer = self._find(place[:-1])
        if outer is None and event.step is None and isinstance(event.path[-1], tuple):
            # In the calling thread a task's own beginning is told later.
            step = self._find(place[:-2])
            if step is None:
                return None
            facts = {**step.facts, "stepfunction.kind": "task"}
            facts["stepfunction.task"] = event.path[-1][1]
            outer = self._open(f"task {event.path[-1][1]}", facts, event.time, step)
            outer.execution_id = step.execution_id
            step.put(place[-2], outer)
        if outer is None or outer.is_ended:
            return None
        is_of_another = outer.execution_id != event.execution_id
        return None if event.step is not None and is_of_another else outer

    def _open(
        self, name: str, facts: _Facts, time: float, outer: _Open | None = None
    ) -> _Open:
        context, began = None, _nanoseconds(time)
        if outer is not None:
            context, began = outer.context, outer.since(time)
        span = self._tracer.start_span(
            name, context, attributes=facts, start_time=began
        )
        return _Open(span, facts, began, trace.set_span_in_context(span, context))

    def _add_attempts(self, subject: _Open, attempts: tuple[Attempt, ...]) -> None:
        """Make the spans of attempts that have none, the first's with the second's."""
        if len(attempts) < 2:
            return
        for attempt in attempts[subject.attempts :]:
            subject.attempts = attempt.number
            facts: _Facts = {
                **subject.facts,
                "stepfunction.kind": "attempt",
                "stepfunction.attempt": attempt.number,
                "stepfunction.outcome": attempt.outcome.value,
            }
            name = f"attempt {attempt.number}"
            made = self._open(name, facts, attempt.started, subject)
            ended = made.since(attempt.started + attempt.duration)
            made.fail(attempt.outcome, attempt.error, ended)
            made.end(ended)

    def _end(self, subject: _Open, event: Event) -> None:
        ended = subject.since(event.time)
        subject.end_below(ended)
        try:
            self._add_attempts(subject, event.attempts)
            if event.outcome is not None:
                subject.note("outcome", event.outcome.value)
                subject.note("attempts", len(event.attempts))
            if event.status is not None:
                subject.note("status", event.status.value)
            if event.next_step is not None:
                subject.note("next_step", event.next_step)
            subject.fail(event.outcome or event.status, event.error, ended)
        finally:  # an exception may fail to give its text
            subject.end(ended)


@dataclass(slots=True, eq=False)
class _Open:
    """A span that has not ended, and what is open below it."""

    span: trace.Span
    facts: _Facts
    began: int
    context: Context
    execution_id: str = ""
    attempts: int = 0  # how many of them have spans
    below: dict[str | None, _Open] = field(default_factory=dict)
    is_here: bool = False  # whether what is nested in it runs in the calling thread
    token: Token[Context] | None = None
    is_ended: bool = False

    def since(self, time: float) -> int:
        """Give a time in nanoseconds, but none before it began."""
        return max(self.began, _nanoseconds(time))

    def put(self, key: str | None, inner: _Open) -> None:
        """Let a span be below this one, in the place of an earlier attempt's."""
        earlier = self.below.get(key)
        if earlier is not None:
            earlier.end(inner.began)
        inner.is_here = self.is_here
        self.below[key] = inner

    def enter(self, event: Event, place: _Place) -> None:
        """Make it the current one, if its functions run in this thread."""
        if len(place) == 1:
            self.is_here = True
        if not self.is_here or event.execution is None:
            return
        self.token = attach(self.context)
        if event.step is not None and event.execution.graph is not None:
            step = event.execution.graph.table[event.step]
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


def _place(event: Event) -> _Place:
    keys: list[str | None] = [event.root_id]
    for key in event.path:
        keys += (key, None) if isinstance(key, str) else (*key, None)
    keys += (name for name in (event.step, event.task) if name is not None)
    return tuple(keys)


def _name(event: Event) -> str:
    if event.task is not None:
        return f"task {event.task}"
    if event.step is not None:
        return f"step {event.step}"
    return f"execution {event.workflow}"


def _facts(event: Event) -> _Facts:
    facts: _Facts = {
        "stepfunction.kind": event.kind.partition("_")[0],
        "stepfunction.root_id": event.root_id,
        "stepfunction.execution_id": event.execution_id,
        "stepfunction.workflow": event.workflow,
    }
    if event.path:
        facts["stepfunction.path"] = " / ".join(map(key_text, event.path))
    if event.step is not None:
        facts["stepfunction.step"] = event.step
    if event.task is not None:
        facts["stepfunction.task"] = event.task
    return facts


def _nanoseconds(time: float) -> int:
    return round(time * 1e9)
