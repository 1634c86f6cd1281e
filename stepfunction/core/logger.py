"""Logger: this library's own, loaded when there is something to say.

``logging`` takes a quarter of the time that the import of the library takes.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import logging


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
