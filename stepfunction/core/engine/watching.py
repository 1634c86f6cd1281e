"""Watching: who looks on while the tasks of a step share its input."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextvars import ContextVar
from typing import Any

# Told of each parallel step before its tasks run, which then do so one at a time: the
# workflow's name, the step's name, its ``workers.Task`` objects, whose calls it may
# replace, and their input. None where nobody looks on. Tests set it.
watching: ContextVar[Callable[[str, str, Sequence[Any], Any], None] | None]
watching = ContextVar("stepfunction_watching", default=None)
