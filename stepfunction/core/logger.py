"""Logger: this library's own, loaded when there is something to say.

``logging`` takes a quarter of the time that the import of the library takes.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from stepfunction.core.errors import StepExecutionError, error_text
from stepfunction.core.history.records import duration_text

if TYPE_CHECKING:
    import logging

    from stepfunction.core.watching.events import Event

_ENDINGS = {
    "started": "INFO",
    "succeeded": "INFO",
    "ended": "INFO",
    "cancelled": "INFO",
    "killed": "INFO",
    "skipped": "INFO",
    "retried": "WARNING",
}


def logger() -> logging.Logger:
    """Give the logger ``stepfunction``; who sets nothing up hears nothing."""
    import logging

    found = logging.getLogger("stepfunction")
    if not found.handlers:
        found.addHandler(logging.NullHandler())
    return found


def hears(level: str) -> bool:
    """Tell whether any handler is told of what is logged at a level."""
    if "logging" not in sys.modules:
        return False  # nobody has set anything up
    import logging

    ours: logging.Logger | None = logger()
    if ours is None or not ours.isEnabledFor(logging.getLevelName(level)):
        return False
    if logging.Logger.callHandlers.__module__ != logging.__name__:
        return True  # somebody listens in, as Sentry does
    while ours is not None:
        if any(type(handler) is not logging.NullHandler for handler in ours.handlers):
            return True
        ours = ours.parent if ours.propagate else None
    return False


def log(event: Event) -> None:
    """Log an event: what starts and ends at INFO, what is retried at WARNING.

    What fails is logged at ERROR with its traceback, where it is not the failure of
    something inside that has been logged already. Tasks that start and end well are
    logged at DEBUG, and how far a map step has come.
    """
    import logging

    subject, _, what = event.kind.partition("_")
    level = _ENDINGS.get(what, "INFO" if event.error is None else "ERROR")
    if what == "progressed" or (subject == "task" and level == "INFO"):
        level = "DEBUG"
    number = logging.getLevelName(level)
    if not logger().isEnabledFor(number):
        return
    error = event.error
    is_own = level == "ERROR" and not isinstance(error, StepExecutionError)
    logger().log(
        number,
        "%s",
        _text(event, what),
        exc_info=error if is_own else None,
        extra={
            "execution_id": event.execution_id,
            "workflow": event.workflow,
            "step": event.step,
            "task": event.task,
        },
    )


def progress_text(done: int | None, total: int | None) -> str:
    """Say how far a map step has come."""
    if total is None:
        return f"{done or 0:,} item{'' if done == 1 else 's'} done"
    return f"{done or 0:,} of {total:,} items done"


def _text(event: Event, what: str) -> str:
    where = f"{event.workflow!r}"
    if event.step is not None:
        where = f"step {event.step!r} of {where}"
    if event.task is not None:
        where = f"task {event.task!r} of {where}"
    if event.step is None:
        where = f"execution of {where}"
    if event.kind.startswith("compensation"):
        where = f"compensation of {where}"
    if what == "progressed":
        return f"{where}: {progress_text(event.done, event.total)}"
    if what == "started":
        return f"{where} started"
    if what == "retried":
        reason = (
            "its result asks for it" if event.error is None else error_text(event.error)
        )
        return (
            f"{where}: attempt {len(event.attempts)} is followed by another "
            f"in {event.pause:.3g} s: {reason}"
        )
    text = f"{where} {what.replace('_', ' ')}"
    if event.status is not None:
        text += f" {event.status}"
    text += f" in {duration_text(event.duration or 0.0)}"
    if len(event.attempts) > 1:
        text += f", {len(event.attempts)} attempts"
    if event.step is not None and event.error is not None:
        if event.next_step is not None:
            text += f", going on with {event.next_step!r}"
        text += f": {error_text(event.error)}"
    return text
