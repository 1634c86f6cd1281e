"""Arrival: what a worker process imports for a call, before it makes it.

What a module does while it is imported, each worker would do that imports it, and so
would the workers that it starts: there would be no end of them.
"""

from __future__ import annotations

import sys
import threading
from multiprocessing import process as processes
from threading import get_ident
from typing import Any
from weakref import WeakSet

_active: dict[int, Any] = vars(threading)["_active"]  # the threads, by their idents
_born: WeakSet[Any] = WeakSet()  # those that such modules have started
_here = 0  # the thread in which a call arrives
_known: set[int] = set()  # those that there were before
_modules = 0


def begin() -> None:
    """Say that a call arrives, in this thread."""
    global _here, _known, _modules
    _known, _modules, _here = set(_active), len(sys.modules), get_ident()


def end() -> None:
    """Say that it has arrived, or never will."""
    global _here
    _here = 0
    if len(sys.modules) != _modules:
        new = [ident for ident in tuple(_active) if ident not in _known]
        _born.update(filter(None, map(_active.get, new)))


def is_under_way() -> bool:
    """Whether what this thread does is done for a call that has not arrived."""
    if processes.parent_process() is None:
        return False  # this is no worker, and imports what it likes
    if threading.current_thread() in _born:
        return True
    return _here != 0 and (get_ident() == _here or get_ident() not in _known)
