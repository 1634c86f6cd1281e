"""Refusals: where a start of a worker process would only break, and what to do."""

from __future__ import annotations

import os
import threading
from multiprocessing import process as processes

from stepfunction.core.envelope import arrival, main_module
from stepfunction.core.errors import WorkerStartError
from stepfunction.core.lanes.deaths import UNGUARDED, unguarded
from stepfunction.core.lanes.ends import this_process
from stepfunction.core.lanes.process import WORKER_NAME


def refuse_where_processes_cannot_start() -> None:
    """Raise where starting a worker process would only break.

    Raises:
        WorkerStartError: In a worker that is still importing the main script, or what
            its call needs, in a daemonic process, and in one that ends.
    """
    if this_process.is_ending or main_module.is_at_its_end():
        raise WorkerStartError(
            "this program is ending, and its worker processes have ended; execute it "
            "before, or with executor='inline'"
        )
    current = processes.current_process()
    if getattr(current, "_inheriting", False):
        if current.name == WORKER_NAME:
            os._exit(UNGUARDED)  # whoever started this worker will say it
        raise unguarded()
    if arrival.is_under_way():
        raise WorkerStartError(
            "a worker process imports a module for its task, and while it is imported "
            "this module executes steps in processes, of which each would import it "
            "again; put what executes them into a function that the program calls, or "
            'under the guard if __name__ == "__main__"'
        )
    if current.daemon:
        raise WorkerStartError(
            "this process is daemonic (a worker of Celery or multiprocessing.Pool), so "
            "it may not start others; use executor='thread', or workers that are not "
            "daemonic (concurrent.futures, Celery with --pool threads or solo)"
        )


def refuse_beside_threads() -> None:
    """Raise where a fork could copy a lock that another thread holds just then.

    Raises:
        WorkerStartError: If a thread other than this one and the lanes runs.
    """
    own = {threading.current_thread(), *this_process.lanes}
    others = {*threading.enumerate()} - own
    if others:
        names = ", ".join(sorted(repr(thread.name) for thread in others))
        raise WorkerStartError(
            f"start_method='fork' copies this process while other threads run in it "
            f"({names}); a lock that one of them holds stays locked in the copy for "
            "ever. Use 'forkserver' or 'spawn'"
        )
