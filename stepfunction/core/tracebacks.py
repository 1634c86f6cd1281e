"""Tracebacks: the way that an error took, as much of it as is to be kept.

A traceback has the frames of all functions that the error came through. These have
their variables, and what called them, up to where the program began. Of a failure that
nobody is to debug the text and the lines are kept, by frames that only stand in.
"""

from __future__ import annotations

import sys
from collections.abc import Generator
from contextlib import suppress
from types import CodeType, FrameType, FunctionType, TracebackType
from typing import Any, NamedTuple, TypeVar

from stepfunction.core.errors import ParallelStepExecutionError
from stepfunction.core.raised import (
    cause_of,
    context_of,
    is_a,
    parts_of,
    traceback_of,
)

Error = TypeVar("Error", bound=BaseException)

_ROOMS = frozenset(
    f"{__package__}{room}"
    for room in (
        "",
        ".definition",
        ".engine",
        ".envelope",
        ".history",
        ".lanes",
        ".transcript",
        ".watching",
        ".workers",
    )
) | {"stepfunction.contrib.django"}


def without_our_frames(error: Error) -> Error:
    """Give an error with its traceback from the user's function on.

    What is raised by this library itself keeps the traceback that it has.
    """
    traceback = rest = traceback_of(error)
    while rest is not None and _is_ours(rest.tb_frame):
        rest = rest.tb_next
    _put(error, rest or traceback)
    return error


def forget_locals(error: BaseException, is_from_here: bool = False) -> None:
    """Let an error, and all that it hides, keep no frame of those it came through.

    Their tracebacks read as before. What this thread is handling just now is left
    alone, for whoever does may raise it again.

    Args:
        error: The error, which nobody is to debug.
        is_from_here: Whether its traceback begins with a frame of ours, which is not
            kept either unless it is all.
    """
    way = traceback_of(error)
    if is_from_here and way is not None:
        way = way.tb_next or way
    try:
        if (
            cause_of(error) is not None
            or context_of(error) is not None
            or issubclass(type(error), BaseExceptionGroup)
        ):
            _put(error, way)
            for one in _with_all_hidden(error):
                _put(one, _bare(traceback_of(one)))
        elif way is not None and way.tb_next is None:
            # As below, but with fewer calls: each handled failure waits for this.
            frame = way.tb_frame
            stand_in = _stand_ins.get(id(frame.f_code)) or _made_for(frame)
            bare, is_real, may_wait, _, _ = stand_in
            if is_real:  # else that has been done
                if may_wait:
                    _clear(frame, stand_in)
                else:
                    try:
                        frame.clear()
                    except RuntimeError:
                        pass
                line = way.tb_lineno  # which may be another than that of the code
                line = -1 if line is None else line
                way = TracebackType(None, bare, way.tb_lasti, line)
            _put(error, way)
        else:
            _put(error, _bare(way))
    except Exception:  # as for want of memory: then they are kept
        pass


def forget_our_locals(error: BaseException) -> None:
    """Let the frames of ours that are past keep nothing by an error that is raised.

    They are in the tracebacks of it and of all that it hides, or have called those who
    are. For them the execution would be in a cycle with its error.
    """
    with suppress(Exception):
        for one in _with_all_hidden(error):
            way = traceback_of(one)
            caller = None if way is None else way.tb_frame.f_back
            while way is not None:
                if _is_ours(way.tb_frame):
                    _clear(way.tb_frame)
                way = way.tb_next
            while caller is not None and _is_ours(caller) and _clear(caller):
                caller = caller.f_back


# A class may have a way of its own to take one.
_put = BaseException.with_traceback


# The variables of a module may be a dict of a class with ways of its own.
_has: Any = dict.__contains__
_get: Any = dict.get


def _is_ours(frame: FrameType) -> bool:
    package = _get(frame.f_globals, "__package__")
    return type(package) is str and package in _ROOMS


def _with_all_hidden(error: BaseException) -> list[BaseException]:
    """Give an error, and what it hides that this thread is not handling."""
    handled = sys.exc_info()[1]
    known = {id(error)}
    if handled is not None:
        known.update(map(id, _reached_from(handled, set())))
    return _reached_from(error, known)


def _reached_from(error: BaseException, known: set[int]) -> list[BaseException]:
    """Give an error and all that it hides, each once, but for what is known."""
    found = [error]
    known.add(id(error))
    for one in found:
        others: list[Any] = [cause_of(one), context_of(one), *parts_of(one)]
        if type(one) is ParallelStepExecutionError:
            others += one.errors.values()
        for other in others:
            if id(other) not in known and is_a(other, BaseException):
                known.add(id(other))
                found.append(other)
    return found


def _bare(traceback: TracebackType | None) -> TracebackType | None:
    """Give a traceback that reads the same, of frames that hold nothing."""
    passed: list[TracebackType] = []
    while traceback is not None:
        passed.append(traceback)
        traceback = traceback.tb_next
    for one in reversed(passed):
        frame = one.tb_frame
        stand_in = _stand_ins.get(id(frame.f_code)) or _made_for(frame)
        if stand_in.is_real:
            _clear(frame, stand_in)
        line = -1 if one.tb_lineno is None else one.tb_lineno
        traceback = TracebackType(traceback, stand_in.frame, one.tb_lasti, line)
    return traceback


def _clear(frame: FrameType, stand_in: _StandIn | None = None) -> bool:
    """Clear what a frame holds, for that, or somebody else, may hold it; if it may."""
    if stand_in is not None and stand_in.may_wait:
        if stand_in.code.co_code[frame.f_lasti] == _YIELD_VALUE:
            return False  # until Python 3.13 that would end what waits there
    try:
        frame.clear()
    except RuntimeError:  # it goes on
        return False
    return True


class _StandIn(NamedTuple):
    """The frame that stands in for all frames of some code.

    Attributes:
        frame: That of a generator that never begins, so it has no variables, and
            nobody has called it.
        is_real: Whether the others are not such themselves.
        may_wait: Whether they may wait, as those of generators and coroutines.
        code: The code, which must not go, for it is known by its ``id``.
        generator: The generator, which must not go, for that would run it.
    """

    frame: FrameType
    is_real: bool
    may_wait: bool
    code: CodeType
    generator: object


_stand_ins: dict[int, _StandIn] = {}
_MOST = 4096  # then all are made again, for code may be made without end too


def _pause() -> Generator[None, None, None]:
    yield


_PAUSE = _pause.__code__
_waiting: Any = _pause()
next(_waiting)
_YIELD_VALUE = _PAUSE.co_code[_waiting.gi_frame.f_lasti]
_waiting.close()
_SUSPENDABLE = 0x20 | 0x80 | 0x200  # CO_GENERATOR, CO_COROUTINE, CO_ASYNC_GENERATOR
# What those who show a traceback, or cut one, look for in the globals of a frame.
_ASKED = (
    "__name__",
    "__package__",
    "__file__",
    "__loader__",
    "__spec__",
    "__tracebackhide__",
    "__unittest",
)


def _made_for(frame: FrameType) -> _StandIn:
    """Make the frame that stands in for those of the code of this one."""
    code, known = frame.f_code, frame.f_globals
    times = len(code.co_code) // len(_PAUSE.co_code) + 1
    like = _PAUSE.replace(
        co_code=_PAUSE.co_code * times,  # as long, lest the table of lines be cut off
        co_linetable=code.co_linetable,
        co_filename=code.co_filename,
        co_firstlineno=code.co_firstlineno,
        co_name=code.co_name,
        co_qualname=code.co_qualname,
    )
    names = {it: _get(known, it) for it in _ASKED if _has(known, it)}
    generator: Any = FunctionType(like, names)()
    stand_in, may_wait = generator.gi_frame, bool(code.co_flags & _SUSPENDABLE)
    made = _StandIn(stand_in, True, may_wait, code, generator)
    if len(_stand_ins) >= _MOST:
        _stand_ins.clear()
    # Also for itself, where an error is forgotten that had been before.
    _stand_ins[id(like)] = _StandIn(stand_in, False, False, like, generator)
    _stand_ins[id(code)] = made
    return made
