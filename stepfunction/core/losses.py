"""Losses: the errors of calls whose worker process is gone.

Who waits for a call of a ``ProcessPoolExecutor`` catches its ``BrokenProcessPool``, so
that is what these are too. It is dear to import, so ``errors``, where all errors are
found, gets them from here when one is asked for.
"""

from __future__ import annotations

from concurrent.futures.process import BrokenProcessPool

from stepfunction.core.errors import StepFunctionError, WorkerStartError

_HOME = "stepfunction.core.errors"  # which stands in pickles and transcripts


class WorkerCrashedError(StepFunctionError, BrokenProcessPool):
    """A worker process died while it ran a task; the others go on.

    It is a ``BrokenProcessPool``, as what a ``ProcessPoolExecutor`` raises then.

    Attributes:
        task: What it was running.
        pid: The process that died.
        exitcode: As ``multiprocessing.Process.exitcode``: negative for a signal.
    """

    __module__ = _HOME

    def __init__(self, message: str, task: str, pid: int, exitcode: int | None) -> None:
        super().__init__(message, task, pid, exitcode)
        self.task = task
        self.pid = pid
        self.exitcode = exitcode


class WorkerKilledError(WorkerCrashedError):
    """A worker process was killed with its task because somebody asked for it."""

    __module__ = _HOME


class WorkerInitError(WorkerStartError, BrokenProcessPool):
    """The ``initializer`` of a ``ProcessLanes`` failed, or its process died in it.

    What it raised is the ``__cause__``. Nothing more runs on that executor.
    """

    __module__ = _HOME
