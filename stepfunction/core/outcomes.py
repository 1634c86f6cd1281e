"""Outcomes: where an execution stands, and how steps, tasks and attempts end."""

from __future__ import annotations

from enum import StrEnum
from typing import TypeAlias


class Status(StrEnum):
    """Where an execution stands."""

    INITIALIZED = "INITIALIZED"
    RUNNING = "RUNNING"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"
    TIMED_OUT = "TIMED_OUT"


UNDER_WAY = (Status.INITIALIZED, Status.RUNNING)
STOPPED = (Status.CANCELLED, Status.TIMED_OUT)


class Outcome(StrEnum):
    """How a step, a task or an attempt ended; always exactly one."""

    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    TIMED_OUT = "TIMED_OUT"
    CANCELLED = "CANCELLED"  # before it began, or it gave up when told
    KILLED = "KILLED"  # stopped because of another
    CRASHED = "CRASHED"  # its worker process died
    ABANDONED = "ABANDONED"  # it may go on, but nobody waits for it
    SKIPPED = "SKIPPED"


# To look a member of an enum up takes its time: these are wanted all the time.
RUNNING, COMPLETED, SUCCEEDED = Status.RUNNING, Status.COMPLETED, Outcome.SUCCEEDED

# How an attempt ended, as the engine notes it: outcome, start, end, error. Times are
# readings of ``perf_counter``.
Ended: TypeAlias = tuple[Outcome, float, float, BaseException | None]
