"""Run: what an outermost execution shares with all that is nested in it."""

from __future__ import annotations

from collections.abc import Callable
from threading import get_ident
from time import time
from typing import TYPE_CHECKING, Any, TypeAlias

from stepfunction.core.cancellation import Cancellation
from stepfunction.core.clock import perf_counter
from stepfunction.core.history.journal import Journal, Shared
from stepfunction.core.workers.workshop import Workshop

if TYPE_CHECKING:
    from stepfunction.core.watching.telling import Audience


class Run(Shared):
    """What one thread needs to run an execution, and those nested in it.

    Attributes:
        go: What runs a journal's workflow to its end.
        workshop: What chooses where tasks run.
        audience: Who is told; None where nobody listens.
        guard: Makes the calls of its thread; None where nobody has asked to.
        top: The journal of a workflow that runs in a task, which nobody else may be
            there to undo when it is stopped; None for an outermost one.
        is_plain: Whether none of its journals is stored, has a lineage or was given no
            input, which they are then not asked for.
    """

    __slots__ = ("go", "workshop", "audience", "guard", "top", "is_plain")

    def __init__(
        self,
        go: Go,
        workshop: Workshop,
        cancellation: Cancellation,
        epoch: float | None = None,
    ) -> None:
        # Not by way of the base, which every execution would pay for.
        self.epoch = time() - perf_counter() if epoch is None else epoch
        self.cancellation = cancellation
        self.thread = None
        self.go = go
        self.workshop = workshop
        self.audience: Audience | None = None
        self.guard: Callable[..., Any] | None = None
        self.top: Journal | None = None
        self.is_plain = True
        self.keeps_locals = False

    def apart(self, cancellation: Cancellation) -> Run:
        """Give what a workflow needs that is nested in a task.

        Args:
            cancellation: The request to stop the task.
        """
        run = Run(self.go, self.workshop, cancellation, self.epoch)
        run.thread = get_ident()
        run.is_plain = False
        run.keeps_locals = self.keeps_locals
        return run


Go: TypeAlias = Callable[[Journal, Run], None]
