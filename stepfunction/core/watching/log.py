"""Log: the listener that logs what the others are told."""

from __future__ import annotations

from stepfunction.core.errors import StepExecutionError
from stepfunction.core.logger import logger
from stepfunction.core.raised import is_a
from stepfunction.core.watching.events import Event
from stepfunction.core.wording import duration_text, error_text, progress_text, subject

_LEVELS = {
    "started": "INFO",
    "resumed": "INFO",
    "succeeded": "INFO",
    "ended": "INFO",
    "cancelled": "INFO",
    "killed": "INFO",
    "skipped": "INFO",
    "retried": "WARNING",
}


def log(event: Event) -> None:
    """Log an event: what starts and ends at INFO, what is retried at WARNING.

    What fails is logged at ERROR with its traceback, where it is not the failure of
    something inside that has been logged already. Tasks that start and end well are
    logged at DEBUG, and how far a map step has come.
    """
    import logging

    level = _LEVELS.get(event.what, "INFO" if event.error is None else "ERROR")
    if event.what == "progressed" or (event.subject == "task" and level == "INFO"):
        level = "DEBUG"
    number = logging.getLevelName(level)
    if not logger().isEnabledFor(number):
        return
    error = event.error
    is_own = level == "ERROR" and not is_a(error, StepExecutionError)
    logger().log(
        number,
        "%s",
        _text(event),
        exc_info=error if is_own else None,
        extra={
            "execution_id": event.execution_id,
            "workflow": event.workflow,
            "step": event.step,
            "task": event.task,
            "item": event.item,
        },
    )


def _text(event: Event) -> str:
    what = event.what
    name = "execution" if event.step is None else subject(event.step, event.part)
    where = f"{name} of {event.workflow!r}"
    if event.subject == "compensation":
        where = f"compensation of {where}"
    if what == "progressed":
        return f"{where}: {progress_text(event.done, event.total)}"
    if what in ("started", "resumed"):
        return f"{where} {what}"
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
