"""Logs: how the log records of a worker process reach its parent's logging.

The worker is told the parent's levels, so that a record which nobody wants costs
nothing; the others are sent as they are made, and handled by the parent's loggers of
the same names.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import NamedTuple

from stepfunction.core.envelope.envelope import pack, unpack
from stepfunction.core.envelope.omitted import portable
from stepfunction.core.logger import logger as own_logger

_formatter = logging.Formatter()


class Levels(NamedTuple):
    """What this process logs: the levels of its loggers.

    Attributes:
        disabled: As ``logging.disable`` was given.
        root: The level of the root logger.
        named: Logger name to level, for those that have one of their own.
    """

    disabled: int
    root: int
    named: dict[str, int]


def current_levels() -> Levels:
    """Give the levels of now."""
    named = {
        name: int(logger.level)
        for name, logger in list(logging.root.manager.loggerDict.items())
        if isinstance(logger, logging.Logger) and logger.level
    }
    return Levels(int(logging.root.manager.disable), int(logging.root.level), named)


class Sender(logging.Handler):
    """Sends each record to the parent, at whose levels this process logs.

    Args:
        send: Sends a packed record.
    """

    def __init__(self, send: Callable[[bytes], object]) -> None:
        super().__init__()
        self._send = send
        self._named: dict[str, int] = {}

    def take_over(self, levels: Levels) -> None:
        """Let all records of this process be sent, and handled by nobody else here."""
        # A main script may have set up others, which are the parent's to use.
        for logger in list(logging.root.manager.loggerDict.values()):
            if isinstance(logger, logging.Logger):
                logger.handlers.clear()
                logger.propagate = True
        logging.root.handlers[:] = [self]
        self.adopt(levels)

    def let_go(self) -> None:
        """Let no more records be sent."""
        logging.root.removeHandler(self)

    def adopt(self, levels: Levels) -> None:
        """Log at these levels from now on."""
        logging.disable(levels.disabled)
        logging.root.setLevel(levels.root)
        for name in self._named.keys() - levels.named.keys():
            logging.getLogger(name).setLevel(logging.NOTSET)
        for name, level in levels.named.items():
            logging.getLogger(name).setLevel(level)
        self._named = levels.named

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._send(_packed(record))
        except Exception:  # as every handler does: told on stderr, and nothing breaks
            self.handleError(record)


def _packed(record: logging.LogRecord) -> bytes:
    facts = {**record.__dict__, "msg": record.getMessage(), "args": None}
    if record.exc_info:
        facts["exc_text"] = _formatter.formatException(record.exc_info)
        facts["exc_info"] = None
    try:
        return pack(facts)
    except Exception:  # what cannot go as itself goes as text
        return pack({name: portable(value, str) for name, value in facts.items()})


def replay(data: bytes) -> None:
    """Let the loggers of this process handle a record of another."""
    record = logging.makeLogRecord({})
    try:
        record = logging.makeLogRecord(unpack(data))
        own_logger()  # with which the record is heard of by nobody who did not ask
        logger = logging.getLogger(record.name)
        if logger.isEnabledFor(record.levelno):
            logger.handle(record)
    except Exception:  # a filter's own, which is no failure of the task
        logging.Handler().handleError(record)
