"""Ends: what becomes of the workers when this process is forked, and when it ends."""

from __future__ import annotations

import atexit
import os
import sys
import threading
from contextlib import suppress
from time import sleep
from typing import Any
from weakref import WeakSet

from stepfunction.core.envelope import main_module
from stepfunction.core.lanes.backlog import owed
from stepfunction.core.logger import logger
from stepfunction.core.waiting import join

_SECONDS_TO_GO_ON = 2.0  # for what was submitted, once this process ends
_SECONDS_TO_LEAVE = 1.0  # for idle workers, once this process ends
_NAP = 0.01
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

    def finish(self) -> None:
        """Wait for what was submitted, as long as something comes of it.

        A ``ProcessPoolExecutor`` waits for all of it, and so for ever if it hangs.
        """
        main_module.keep()
        if issubclass(getattr(sys, "last_type", object), KeyboardInterrupt):
            return  # who ended this program waits for nothing
        # Not what comes later, for that may have no end.
        rest = [*owed.copy()]
        before, waited = None, 0.0
        while waited < _SECONDS_TO_GO_ON:
            rest = [one for one in rest if one in owed and not one.cancelled()]
            if not rest:
                return
            now = {(id(future), future.began) for future in rest}
            is_starting = not any(future.began for future in rest)
            if now != before:
                before, waited = now, 0.0
            elif is_starting:
                waited += _NAP * _SECONDS_TO_GO_ON / _SECONDS_TO_START
            else:
                waited += _NAP
            sleep(_NAP)
        logger().warning(
            "this process ends, and %d calls that were submitted to ProcessLanes are "
            "killed, for none has ended in %g s; leave its with block, or call "
            "shutdown(), to wait for them",
            len(rest),
            _SECONDS_TO_GO_ON,
        )

    def end(self) -> None:
        """Kill every worker before multiprocessing would wait for the busy ones.

        Those that are idle leave, for they may have output to flush.
        """
        self.is_ending = True
        # One that is just being started would be left with half of what it is told.
        self.starting.acquire(timeout=_SECONDS_TO_START)
        idle = []
        for lane in list(self.lanes):
            if lane.is_idle:
                lane.dismiss_worker()
                idle.append(lane)
            else:
                lane.kill(None)
        left = all(join(lane, _SECONDS_TO_LEAVE) for lane in idle)
        for lane in () if left else idle:
            lane.kill(None)

    def begin_anew(self) -> None:
        """In a forked child, let every executor begin with workers of its own."""
        self.starting = threading.RLock()
        for lane in list(self.lanes):
            lane.forget()
        self.lanes.clear()
        owed.clear()
        for executor in list(self.executors):
            executor._begin_anew()


this_process = ThisProcess()
atexit.register(this_process.end)
# Before the threads are waited for, as concurrent.futures does it.
with suppress(AttributeError, RuntimeError):  # of another Python, or too late
    threading._register_atexit(this_process.finish)  # type: ignore[attr-defined]
if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=lambda: this_process.starting.acquire(),
        after_in_parent=lambda: this_process.starting.release(),
        after_in_child=this_process.begin_anew,
    )
