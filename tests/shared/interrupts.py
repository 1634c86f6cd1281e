"""Interrupts that come at a chosen moment, by the way that signals come."""

from __future__ import annotations

import concurrent.futures
import ctypes
import gc
import os
import signal
import sys
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

import stepfunction

ROOTS = tuple(
    os.path.dirname(str(module.__file__)) + end
    for module, end in (
        (stepfunction, "/"),
        (concurrent.futures, "/"),
        (threading, "/threading.py"),
    )
)
# It is called as a trace function, and notes a signal whose handler is then called
# where the interpreter looks for signals: a trace function of Python code would itself
# be what is interrupted.
_trip = ctypes.PYFUNCTYPE(None, *[ctypes.py_object] * 3)(
    ("PyErr_SetInterrupt", ctypes.pythonapi)
)


class Interrupt:
    """Has something done, as a signal handler does, at an opcode of this library.

    Those of the standard library's threads and futures count too.

    Args:
        number: Which opcode, counted from 1.
        act: What the signal handler does.

    Attributes:
        count: How many opcodes have been seen.
        chain: The names of the functions that it came in, the innermost first.
    """

    def __init__(self, number: int, act: Callable[[], object]) -> None:
        self.count = 0
        self.chain: list[str] = []
        self._number = number
        self._act = act

    def __enter__(self) -> Interrupt:
        self._before = signal.signal(signal.SIGINT, self._handle)
        self._tracing = sys.gettrace()
        # Python 3.12.1 crashes where garbage is collected while a generator is traced.
        self._collects = gc.isenabled() and sys.version_info[:2] == (3, 12)
        if self._collects:
            gc.disable()
        # Python 3.12 looks once, here, whether anybody wants to see opcodes.
        sys._getframe().f_trace_opcodes = True
        sys.settrace(self._call)
        return self

    def __exit__(self, *raised: Any) -> None:
        sys.settrace(self._tracing)
        signal.signal(signal.SIGINT, self._before)
        if self._collects:
            gc.enable()

    def _handle(self, number: int, frame: FrameType | None) -> None:
        sys.settrace(None)
        if frame is not None and frame.f_code.co_filename == __file__:
            return  # between two opcodes where the interpreter looks for none
        if not self.chain:
            while frame is not None:
                self.chain.append(frame.f_code.co_name)
                frame = frame.f_back
            self._act()

    def _call(self, frame: FrameType, event: str, argument: Any) -> Any:
        if not frame.f_code.co_filename.startswith(ROOTS):
            return None
        frame.f_trace_lines, frame.f_trace_opcodes = False, True
        return self._trace

    def _trace(self, frame: FrameType, event: str, argument: Any) -> Any:
        self.count += event == "opcode"
        return _trip if self.count >= self._number else self._trace


def raise_interrupt() -> None:
    raise KeyboardInterrupt
