"""Waits: retries and wait steps that take no time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from stepfunction.core.probes import probed, skipping
from stepfunction.core.wording import counted


class SkippedWait(NamedTuple):
    """A pause that was not made.

    Attributes:
        what: The step or task that would have paused: ``"step 'Fetch'"``.
        seconds: How long it would have been, at most to the limit that ends it.
    """

    what: str
    seconds: float


class SkippedWaits:
    """How long everything would have taken that was skipped.

    Attributes:
        waits: What was skipped, in order.
    """

    def __init__(self) -> None:
        self.waits: list[SkippedWait] = []

    @property
    def total(self) -> float:
        """The seconds of all pauses together, also of those side by side."""
        return sum(wait.seconds for wait in self.waits)

    def __repr__(self) -> str:
        return f"<SkippedWaits: {counted(len(self.waits), 'pause')}, {self.total:g} s>"


@contextmanager
def skip_waits() -> Iterator[SkippedWaits]:
    """Let the pauses between retries, and wait steps, take no time.

    It holds for what is executed by this thread, or by this task of an event loop,
    in its block: in the threads of its tasks, for workflows nested in process tasks,
    and for ``start()`` and ``aexecute()``. A thread that you start yourself pauses as
    ever. What a function does itself, as with ``time.sleep()`` or
    ``context.sleep()``, is not skipped. A ``tenacity.Retrying`` that stops after some
    seconds counts the pauses that it would have made.

    What is skipped counts for the limits that would have met it: for ``timeout`` of an
    execution, and of a step that runs a workflow. A pause that would go on after such
    a limit ends at it. Tasks beside each other pause at the same time; but where
    ``stop_on_failure`` stops them, it is not as far as they would have come by then.
    Records have the time that really passed.

    Yields:
        What was skipped. Of a workflow in another process it is known once that has
        ended, and not if the process was killed or died.

    >>> from stepfunction import StepFunction
    >>> nap = StepFunction("Nap").add_wait_step("Wait", seconds=3600)
    >>> _ = nap.set_start_step("Wait")
    >>> with skip_waits() as skipped:
    ...     execution = nap.execute()
    >>> skipped.waits, skipped.total
    ([SkippedWait(what="step 'Wait'", seconds=3600)], 3600)
    """
    skipped = SkippedWaits()

    def skip(what: str, seconds: float) -> None:
        skipped.waits.append(SkippedWait(what, seconds))

    with probed(skipping, skip):
        yield skipped
