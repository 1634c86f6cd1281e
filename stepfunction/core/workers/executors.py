"""Executors: what a step, or an execution, may say of where it runs."""

from __future__ import annotations

import os
import sys
import threading
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from stepfunction.core.errors import Problem
from stepfunction.core.raised import is_a
from stepfunction.core.wording import did_you_mean

if TYPE_CHECKING:
    from concurrent.futures import Executor

ExecutorChoice: TypeAlias = "Literal['inline', 'thread', 'process'] | Executor"
NAMES = ("inline", "thread", "process")
# The executors of others in one of whose threads this runs: a task that waited there
# for other tasks of the same executor could wait for ever.
around: ContextVar[tuple[Executor, ...]]
around = ContextVar("stepfunction_around", default=())


def is_executor(value: Any) -> bool:
    """Tell what a step may have as its executor."""
    return value in NAMES if isinstance(value, str) else is_object(value)


def executor_problem(value: Any) -> Problem:
    """Say what a step should have been given in the place of what is no executor."""
    text = "executor is 'inline', 'thread', 'process' or a concurrent.futures.Executor"
    if isinstance(value, type):
        text += f", not the class {value.__name__}"
        return Problem("executor", text, "; make one of it")
    hint = did_you_mean(value, NAMES)
    if hasattr(value, "get_executor"):  # as Dask's Client has
        hint = "; give its get_executor(pure=False)"
    elif "multiprocessing" in getattr(value, "__module__", ""):
        hint = "; use ProcessLanes, or concurrent.futures.ProcessPoolExecutor"
    return Problem("executor", f"{text}, not {value!r}", hint)


def is_object(executor: Any) -> bool:
    """Tell an executor from a name of one."""
    return isinstance(executor, _class("concurrent.futures", "Executor"))


def is_cancelled_error(error: Any) -> bool:
    """Tell what the result of a cancelled future raises."""
    return is_a(error, _class("concurrent.futures", "CancelledError"))


def runs_in_processes(executor: Any) -> bool:
    """Tell an executor whose workers must import the functions they are sent."""
    pool = _class("concurrent.futures.process", "ProcessPoolExecutor")
    return executor == "process" or isinstance(executor, pool) or is_lanes(executor)


def is_lanes(executor: Any) -> bool:
    """Tell our own process executor from everybody else's."""
    return isinstance(executor, _class("stepfunction.core.lanes.lanes", "ProcessLanes"))


def _class(module: str, name: str) -> Any:
    """Give a class, or none, which nobody can have an instance of, if it is not loaded.

    Its module is dear, and another thread may just be importing it.
    """
    return getattr(sys.modules.get(module), name, ())


def workers_of(executor: Executor) -> int | None:
    """Give how many calls an executor makes at once; None if that is not known."""
    # The standard library's pools, and those made after them, keep it there.
    most = getattr(executor, "_max_workers", None)
    return most if type(most) is int and most > 0 else None


def cancels_what_began(executor: Executor) -> bool:
    """Tell an executor whose ``cancel()`` succeeds on tasks that then go on."""
    return type(executor).__module__.partition(".")[0] == "distributed"


def was_left_by_fork(executor: Executor) -> bool:
    """Tell an executor whose workers belong to the process that this one came from.

    What is submitted to it would wait for ever.
    """
    # Nothing public says so. Another's executor may have none of these.
    threads = getattr(executor, "_threads", None)
    processes = getattr(executor, "_processes", None) or {}
    is_over = getattr(executor, "_shutdown", 0) or getattr(executor, "_broken", 0)
    if isinstance(threads, set) and threads and not is_over:
        # Not asked one by one: an interrupt of that makes a thread look as if dead.
        return threads.isdisjoint(threading.enumerate())
    return isinstance(processes, dict) and any(
        getattr(process, "_parent_pid", os.getpid()) != os.getpid()
        for process in list(processes.values())
    )
