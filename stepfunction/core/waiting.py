"""Waiting: how a thread waits for others, while signals come between two bytecodes.

What the standard library offers for it is written in Python: an interrupt may leave its
locks held for ever, and a signal handler that uses them may wait for its own thread.
What is here is held by no one but C code. No wait is long, for a signal that comes just
before one begins does not end it.
"""

from __future__ import annotations

import threading
from math import inf
from operator import ne
from typing import Any

from stepfunction.core.clock import perf_counter
from stepfunction.core.errors import WorkerStartError

# What is replaced where threads become greenlets; a debugger does with the first alone.
_KINDS = ("_start_joinable_thread", "_start_new_thread"), ("Lock",)
_kinds = [[vars(threading).get(name) for name in names] for names in _KINDS]
# How long a signal may go unheard.
LONGEST_WAIT = 0.5


class Latch:
    """What threads wait for, and anybody opens: a signal handler or finalizer too.

    Attributes:
        is_open: Whether it has been opened, which it then stays.
    """

    __slots__ = ("is_open", "_lock")

    def __init__(self) -> None:
        self.is_open = False
        self._lock = threading.Lock()
        self._lock.acquire()

    def open(self) -> None:
        """Let all go on who wait, and all who come."""
        self.is_open = True
        try:
            self._lock.release()
        except RuntimeError:
            pass  # it was open already

    def wait(self, seconds: float = inf) -> bool:
        """Wait until it is open.

        Args:
            seconds: How long to wait at most.

        Returns:
            Whether it is open.
        """
        now = perf_counter()
        while not self.is_open:
            if seconds <= 0:
                return False
            if self._lock.acquire(timeout=min(seconds, LONGEST_WAIT)):
                self.open()  # for the next who waits
            now, before = perf_counter(), now
            seconds -= now - before
        return True


class _Started(Latch):
    """Says that a thread has started, as the event that it has for that."""

    __slots__ = ()

    def is_set(self) -> bool:
        return self.is_open

    def set(self) -> None:
        self.open()

    def _at_fork_reinit(self) -> None: ...


def start(thread: threading.Thread) -> None:
    """Start a thread, which runs also where an interrupt ends this.

    Raises:
        WorkerStartError: If there can be no more threads.
    """
    now = [[vars(threading).get(name) for name in names] for names in _KINDS]
    if all(map(ne, _kinds, now)):
        raise WorkerStartError(
            "the module threading was patched after stepfunction had been imported, "
            "whose threads would wait for each other for ever; let gevent or eventlet "
            "patch first: at the top of the program (gunicorn: without --preload)"
        )
    # Else it might wait for ever for the lock of the event by which it says so, which
    # an interrupt of the wait for that leaves held.
    changed: Any = thread
    changed._started = _Started()
    try:
        thread.start()
    except (RuntimeError, MemoryError) as error:
        hint = (
            "the system gives no more (ulimit -u), or has no memory for it: have fewer "
            "run at once, or use executor='inline'"
        )
        if main_has_ended():
            hint = "the program is ending: use executor='inline', or execute it before"
        text = f"no thread {thread.name!r} can be started: {error}; {hint}"
        raise WorkerStartError(text) from error


def main_has_ended() -> bool:
    """Tell whether the main thread has come to its end, as the program then does."""
    main: Any = threading.main_thread()
    # Until Python 3.13 an interrupt of is_alive() makes a thread one that has ended.
    stopped: bool | None = getattr(main, "_is_stopped", None)
    return not main.is_alive() if stopped is None else stopped


def join(thread: threading.Thread, seconds: float = inf) -> bool:
    """Wait for a thread to end; of this one, and one that has not started, not at all.

    Args:
        thread: Which.
        seconds: How long to wait at most.

    Returns:
        Whether there was nothing to wait for any more.
    """
    if thread is threading.current_thread():
        return False
    now = perf_counter()
    while thread.is_alive() and seconds > 0:
        thread.join(min(seconds, LONGEST_WAIT))
        now, before = perf_counter(), now
        seconds -= now - before
    return not thread.is_alive()
