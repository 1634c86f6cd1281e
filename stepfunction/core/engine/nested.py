"""Nested: a workflow as a call, and what its failure is to the step that made it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from stepfunction.core.cancellation import Cancellation
from stepfunction.core.context import Context, Line
from stepfunction.core.definition.graph import Graph, Step
from stepfunction.core.envelope.omitted import Omitted
from stepfunction.core.errors import (
    ExecutionCancelledError,
    StepExecutionError,
    StepTimeoutError,
    TransferError,
)
from stepfunction.core.history.execution import Execution, Status
from stepfunction.core.watching.telling import Reach
from stepfunction.core.wording import error_text
from stepfunction.core.workers.pauses import skipping
from stepfunction.core.workers.workshop import Workshop

_STOPPED = (Status.CANCELLED, Status.TIMED_OUT)


class NestedCall:
    """A nested workflow as a call: it gives its execution when that has ended.

    In another process it runs with workers of its own, and cannot be cancelled but by
    killing the process.
    """

    def __init__(
        self,
        graph: Graph,
        places: Workshop | None,
        title: str,
        timeout: float | None = None,
        override: str | None = None,
        begun: Callable[[Execution], None] | None = None,
        reach: Reach | None = None,
        skips: bool = False,
    ) -> None:
        self.graph = graph
        self.places = places
        self.title = title
        self.timeout = timeout
        self.override = override
        self.begun = begun
        self.reach = reach
        self.skips = skips  # whether its pauses are skipped, in another process too

    def __call__(self, value: Any, context: Context | None) -> Execution:
        assert context is not None
        places = self.places or Workshop(self.override)
        outer = context.cancellation or Cancellation()
        try:
            if self.timeout is None:
                return self._run(value, places, outer, context.line)
            with outer.dependent(self.timeout) as cancellation:
                child = self._run(value, places, cancellation, context.line)
        finally:
            if places is not self.places:
                places.close()
        if child.status is Status.TIMED_OUT and not outer.requested:
            # The limit of this attempt, which may be followed by another.
            child.error = StepTimeoutError(
                f"{self.title}: attempt {context.attempt} took longer than "
                f"{self.timeout:g} s",
                self.timeout,
            )
        return child

    def _run(
        self,
        value: Any,
        places: Workshop,
        cancellation: Cancellation,
        line: Line | None,
    ) -> Execution:
        from stepfunction.core.engine.walk import run

        child = Execution(self.graph, value, places, cancellation=cancellation)
        if self.reach is not None:
            self.reach.extend_to(child, line)
        if self.begun is not None:
            self.begun(child)
        if self.skips and skipping.get() is None:
            child._skipped = skipped = []
            token = skipping.set(lambda *pause: skipped.append(pause))
            try:
                run(child)
            finally:
                skipping.reset(token)
        else:
            run(child)
        return child

    def __reduce__(self) -> Any:
        override = self.places.override if self.places else self.override
        if not isinstance(override, str):
            override = None
        parts = (self.graph, None, self.title, self.timeout, override, None)
        return NestedCall, (*parts, self.reach, self.skips)


def output_of_child(step: Step, title: str, child: Execution) -> Any:
    """Give what a nested workflow gave, or fail as it failed."""
    error = _error_of_child(step, title, child)
    if error is not None:
        raise error
    return child.output


def _error_of_child(step: Step, title: str, child: Execution) -> Exception | None:
    """Give what a step fails with whose nested workflow did not complete."""
    if isinstance(child.error, StepTimeoutError) and child._blame is None:
        return child.error
    if child.status in _STOPPED:
        return ExecutionCancelledError(f"{title} was cancelled")
    if child._blame is not None:
        inner, error, _ = child._blame
        failure = StepExecutionError(
            f"{title}: nested workflow {child.workflow!r} failed at its step "
            f"{inner!r}: {error_text(error)}",
            step.name,
        )
        failure.execution = child
        failure.__cause__ = child.error
        return failure
    if isinstance(child.output, Omitted):
        return TransferError(
            f"{title}: the result of nested workflow {child.workflow!r}, "
            f"{child.output.text}, cannot be sent back from its process; "
            "let its last step return what can be pickled"
        )
    return None
