"""Executors: what a step may say of where it runs."""

from __future__ import annotations

import sys
from concurrent.futures import Executor
from typing import Any, Literal, TypeAlias

ExecutorChoice: TypeAlias = Literal["inline", "thread", "process"] | Executor
NAMES = ("inline", "thread", "process")


def runs_in_processes(executor: Any) -> bool:
    """Tell an executor whose workers must import the functions they are sent."""
    # Whoever has made one of these has imported its module.
    pools = sys.modules.get("concurrent.futures.process")
    is_pool = pools is not None and isinstance(executor, pools.ProcessPoolExecutor)
    return executor == "process" or is_pool or is_lanes(executor)


def is_lanes(executor: Any) -> bool:
    """Tell our own process executor from everybody else's."""
    lanes = sys.modules.get("stepfunction.core.lanes")
    return lanes is not None and isinstance(executor, lanes.ProcessLanes)
