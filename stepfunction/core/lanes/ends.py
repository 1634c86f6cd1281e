"""Ends: what becomes of the workers when this process is forked, and when it ends."""

from __future__ import annotations

import atexit
import os
import threading
from typing import Any
from weakref import WeakSet

_SECONDS_TO_START = 5.0  # for a worker, once this process ends


class ThisProcess:
    """What must be ended with this process, or begun again in a child of it.

    Attributes:
        lanes: Those that may have a worker.
        executors: Those that are in use.
        is_ending: Whether this process is.
        starting: Held while a worker is started, and by whoever forks this process: a
            child that is forked half way through would find locks and imports that
            nobody finishes.
    """

    def __init__(self) -> None:
        self.lanes: set[Any] = set()
        self.executors: WeakSet[Any] = WeakSet()
        self.is_ending = False
        self.starting = threading.RLock()

    def end(self) -> None:
        """Kill every worker before multiprocessing would wait for the busy ones."""
        self.is_ending = True
        # One that is just being started would be left with half of what it is told.
        self.starting.acquire(timeout=_SECONDS_TO_START)
        for lane in list(self.lanes):
            lane.kill(None)

    def begin_anew(self) -> None:
        """In a forked child, let every executor begin with workers of its own."""
        self.starting = threading.RLock()
        for lane in list(self.lanes):
            lane.forget()
        self.lanes.clear()
        for executor in list(self.executors):
            executor.begin_anew()


this_process = ThisProcess()
atexit.register(this_process.end)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=lambda: this_process.starting.acquire(),
        after_in_parent=lambda: this_process.starting.release(),
        after_in_child=this_process.begin_anew,
    )
