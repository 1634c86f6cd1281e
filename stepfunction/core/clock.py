"""The clock: what all here waits and measures by, also where a test has stopped time.

``freezegun`` puts a stopped clock in the place of ``time.perf_counter``, and of every
module's global that is that very function. The one here is another: that of a second
copy of the module ``time``, made whether or not time is stopped at that moment. The
time of day (``time.time``) is to follow a stopped clock, and is read as ever.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

_spec: Any = time.__spec__
_own: Any = time
try:
    _own = _spec.loader.create_module(_spec)
    _spec.loader.exec_module(_own)
except (AttributeError, ImportError):  # an interpreter that makes no second one
    _own = time

perf_counter: Callable[[], float] = _own.perf_counter
