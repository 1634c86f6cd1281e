"""Logger: this library's own, loaded when there is something to say.

``logging`` takes a quarter of the time that the import of the library takes.
"""

from __future__ import annotations

import sys
from contextlib import suppress
from functools import cache
from types import FunctionType
from typing import TYPE_CHECKING, Any, Literal

from stepfunction.core.raised import traceback_of
from stepfunction.core.wording import error_text, one_line

if TYPE_CHECKING:
    import logging


class _OneLine:
    """What a message has of others, which may end no line and give a terminal no order.

    It is written as late as ``logging`` would.
    """

    __slots__ = ("_it",)

    def __init__(self, it: object) -> None:
        self._it = it

    def __str__(self) -> str:
        return one_line(str(self._it))

    def __repr__(self) -> str:
        return one_line(repr(self._it))


def _calm(it: object) -> object:
    kind = type(it)
    if kind is int or kind is float or (type(it) is str and it.isprintable()):
        return it
    return _OneLine(it)


def _facts(given: BaseException | Literal[True]) -> tuple[Any, Any, Any]:
    """Give class, exception and traceback, for an exception is asked for its truth.

    Of one that cannot be shown it is one that says so.
    """
    from traceback import TracebackException  # dear

    error = sys.exception() if given is True else given
    if error is None:
        return None, None, None
    trace = traceback_of(error)
    try:
        TracebackException(type(error), error, None, limit=0)
    except Exception:  # as of one whose notes cannot be had
        error = RuntimeError(error_text(error))
    return type(error), error, trace


class Careful:
    """The logger ``stepfunction``, of whose handlers and filters none breaks anything.

    What one raises is shown on standard error, as ``logging`` itself shows what its
    own handlers fail with.
    """

    __slots__ = ("_logger",)

    def __init__(self, logger: logging.Logger) -> None:
        self._logger = logger

    def isEnabledFor(self, level: int) -> bool:
        """Tell whether anything is logged at a level."""
        return self._logger.isEnabledFor(level)

    def log(self, level: int, text: str, *args: object, **more: Any) -> None:
        """Log, as a logger does."""
        import logging

        # As if whoever called this had called the logger.
        more["stacklevel"] = more.get("stacklevel", 1) + 1
        try:
            if more.get("exc_info") is not None:
                more["exc_info"] = _facts(more["exc_info"])
            self._logger.log(level, text, *map(_calm, args), **more)
        except Exception:
            if logging.raiseExceptions:
                from traceback import print_exc

                with suppress(Exception):  # there may be no standard error
                    print_exc()

    def debug(self, text: str, *args: object, **more: Any) -> None:
        """Log at ``DEBUG``."""
        self.log(10, text, *args, stacklevel=2, **more)

    def warning(self, text: str, *args: object, **more: Any) -> None:
        """Log at ``WARNING``."""
        self.log(30, text, *args, stacklevel=2, **more)

    def error(self, text: str, *args: object, **more: Any) -> None:
        """Log at ``ERROR``."""
        self.log(40, text, *args, stacklevel=2, **more)

    def exception(self, text: str, *args: object) -> None:
        """Log at ``ERROR``, with what is just being handled."""
        self.log(40, text, *args, stacklevel=2, exc_info=True)


def logger() -> Careful:
    """Give the logger ``stepfunction``; who sets nothing up hears nothing."""
    return Careful(_logger())


def _logger() -> logging.Logger:
    import logging

    found = _ours()
    if not found.handlers:
        found.addHandler(logging.NullHandler())
    return found


@cache
def _ours() -> logging.Logger:
    import logging

    return logging.getLogger("stepfunction")


_own_call: Any = None  # of handlers, by a logger that nobody listens in to


def _is_listened_to() -> bool:
    """Tell whether somebody has put a call of theirs there, as Sentry does."""
    global _own_call
    import logging

    call: Any = logging.Logger.callHandlers
    # One that wraps it may give itself its name and module, and may be any object.
    if type(call) is FunctionType and call.__globals__ is vars(logging):
        _own_call = call
    return call is not _own_call


def hears(level: int) -> bool:
    """Tell whether any handler is told of what is logged at a level."""
    logging: Any = sys.modules.get("logging")  # asked at every execution
    if logging is None:
        return False  # nobody has set anything up
    ours: Any = _ours()
    if not ours.isEnabledFor(level):
        return False
    if ours.filters:
        return True  # of which one may only look on
    if logging.Logger.callHandlers is not _own_call and _is_listened_to():
        return True
    while ours is not None:
        for handler in ours.handlers:
            if type(handler) is not logging.NullHandler:
                return True
        ours = ours.parent if ours.propagate else None
    return False
