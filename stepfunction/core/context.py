"""Context: what a step's function may ask of its execution."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from threading import TIMEOUT_MAX
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from stepfunction.core.cancellation import Cancellation
from stepfunction.core.durations import to_wait
from stepfunction.core.envelope.omitted import portable
from stepfunction.core.errors import ExecutionCancelledError, TransferError
from stepfunction.core.history.records import StepRecord
from stepfunction.core.keys import OfPart, PartKey
from stepfunction.core.wording import did_you_mean, subject

if TYPE_CHECKING:
    from datetime import timedelta

    from stepfunction.core.watching.events import Event


# Of which the first number can be read when its process is dead.
Noted: TypeAlias = "memoryview[int] | list[int]"


class Line(Protocol):
    """What an attempt may say while it is made, from any thread of its process."""

    def live(self) -> None:
        """Say that it is alive."""

    def pass_on(self, event: Event) -> None:
        """Pass on what is told of an execution that is nested in it."""

    def report(self, part: Any) -> None:
        """Report a part of what comes of it before the rest."""

    def note(self, number: int) -> None:
        """Note a number where it can be read when its process is dead."""

    def noting(self) -> Noted | None:
        """Give where to note many numbers quickly; None if nobody could read them."""


class Pausing(Protocol):
    """What keeps when a wait step goes on."""

    def pause(self, seconds: float) -> float:
        """Keep it, and give how long that still is."""

    def left_of_wait(self) -> float | None:
        """Give how long to wait still; None where that was not kept."""


# As those of Stripe, the longest that services take.
_LONGEST_KEY = 255


class Context(OfPart, Mapping[str, Any]):
    """A read-only mapping of step name to output, or exception, so far.

    A step's function is given one for a parameter that is annotated ``Context``,
    or is named ``context`` and does not take the step's input.

    Attributes:
        execution_id: The ``id`` of the execution.
        step: The name of the step.
        part: The name of the task, or the index of the item; None outside parallel
            steps and map steps.
        attempt: Which call of the function this is, counted from 1.
        failure: The record of the failed step that led here by ``on_failure``, with
            its ``input``, ``attempts`` and ``error``; None on the main path. Where a
            compensation is called, of what the execution failed with.
    """

    __slots__ = (
        "execution_id",
        "step",
        "part",
        "attempt",
        "failure",
        "_cancellation",
        "_line",
        "_kept",
        "_results",
        "_execution_key",
        "_visit",
    )

    def __init__(
        self,
        execution_id: str,
        step: str,
        part: PartKey | None = None,
        attempt: int = 1,
        failure: StepRecord | None = None,
        cancellation: Cancellation | None = None,
        results: Mapping[str, Any] | None = None,
        line: Line | None = None,
        execution_key: str = "",
        visit: int = 0,
        kept: Pausing | None = None,
    ) -> None:
        self.execution_id = execution_id
        self.step = step
        self.part = part
        self.attempt = attempt
        self.failure = failure
        self._cancellation = cancellation
        self._results = results
        self._line = line
        self._kept = kept
        self._execution_key = execution_key
        self._visit = visit

    @property
    def failed(self) -> StepRecord:
        """The record of the failed step that led here, in a failure step.

        As ``failure``, which is for steps that the main path leads to as well.

        Raises:
            AttributeError: On the main path, where nothing has failed.
        """
        if self.failure is None:
            raise AttributeError(
                f"no failure led to {subject(self.step, self.part)}, so there is no "
                "context.failed; a step that is on the main path too asks "
                "context.failure, which is None there"
            )
        return self.failure

    @property
    def idempotency_key(self) -> str:
        """What a service can know a repeated call by, in at most 255 characters.

        It is the same for every attempt of this call, also after ``resume()``, and
        another for every other visit of the step, and for every other task and item.
        """
        part = "" if self.part is None else f"/{self.part}"
        whole = f"{self._execution_key or self.execution_id}/{self._visit}{part}"
        if len(whole) <= _LONGEST_KEY:
            return whole
        from hashlib import sha256  # dear

        return sha256(whole.encode("utf-8", "surrogatepass")).hexdigest()

    @property
    def cancelled(self) -> bool:
        """Whether to stop, as a sibling failed, time ran out, or somebody cancelled.

        Always False in another process, which is killed instead.
        """
        return self._cancellation is not None and self._cancellation.requested

    def check_cancelled(self) -> None:
        """Raise if the step should stop; call it now and then in long work.

        Raises:
            ExecutionCancelledError: If ``cancelled``. Let it pass: the task is then
                CANCELLED, and not FAILED.
        """
        if self.cancelled:
            what = subject(self.step, self.part)
            raise ExecutionCancelledError(f"{what} was told to stop")

    def sleep(self, seconds: float | timedelta) -> None:
        """Sleep, but wake at once when the step should stop.

        Args:
            seconds: How long to sleep, as seconds or a ``timedelta``.

        Raises:
            ExecutionCancelledError: If the step should stop.
        """
        if self._cancellation is None:
            time.sleep(min(max(0.0, to_wait(seconds)), TIMEOUT_MAX))
        else:
            self._cancellation.sleep(to_wait(seconds))
            self.check_cancelled()

    def heartbeat(self) -> None:
        """Give a sign of life, which a step with ``heartbeat=`` must do in time.

        Raises:
            ExecutionCancelledError: If the step should stop.
        """
        self.check_cancelled()
        if self._line is not None:
            self._line.live()

    def __getitem__(self, step: str) -> Any:
        results = self._here(step)
        try:
            return results[step]
        except KeyError:
            hint = did_you_mean(step, results)
            raise KeyError(f"no step {step!r} has ended yet{hint}") from None

    def __bool__(self) -> bool:
        return True  # also where no step has ended yet

    def __iter__(self) -> Iterator[str]:
        return iter(tuple(self._here("…")))

    def __len__(self) -> int:
        return len(self._here("…"))

    def __repr__(self) -> str:
        where = repr(self.step) if self.part is None else f"{self.step!r}.{self.part!r}"
        return f"<Context of {where}, attempt {self.attempt}>"

    def _here(self, step: str) -> Mapping[str, Any]:
        if self._results is None:
            raise TransferError(
                f"context[{step!r}] is not to be had in another process, which is sent "
                f"the input of step {self.step!r} alone; name what it needs with "
                f"inputs={{'…': {step!r}}}, or use executor='thread'"
            )
        return self._results

    def __reduce__(self) -> Any:
        failure = self.failure
        if failure is not None:
            failure = failure.replace(input=portable(failure.input), child=None)
        return Context, (
            self.execution_id,
            self.step,
            self.part,
            self.attempt,
            failure,
            None,
            None,
            None,
            self._execution_key,
            self._visit,
        )


def context_of_item(context: Context, index: int) -> Context:
    """Give the context of one of several items that an attempt is for."""
    return Context(
        context.execution_id,
        context.step,
        index,
        context.attempt,
        context.failure,
        context._cancellation,
        context._results,
        context._line,
        context._execution_key,
        context._visit,
    )
