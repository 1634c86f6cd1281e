"""Deaths: what is said of a worker process that died, and of what it died."""

from __future__ import annotations

import errno
import signal
from multiprocessing import spawn

from stepfunction.core.errors import (
    WorkerCrashedError,
    WorkerInitError,
    WorkerKilledError,
    WorkerStartError,
)
from stepfunction.core.wording import error_text

_FEWER = "have fewer run at once (max_workers=), or use executor='thread'"
_NO_PROCESS = "executor='thread' needs no process"
_REMEDIES = {
    errno.ENOMEM: f"the system has no memory for another process: {_FEWER}",
    errno.EAGAIN: f"there may be no more processes or threads (ulimit -u): {_FEWER}",
    errno.EMFILE: f"this process has too many files open (ulimit -n): {_FEWER}",
    errno.ENFILE: f"the system has too many files open: {_FEWER}",
    errno.ENOSPC: "a disk is full",
    errno.E2BIG: "os.environ or sys.path is too large to be given to a program",
}
UNGUARDED = 77  # the exit code of a worker whose main script would start others
_UNGUARDED_TEXT = (
    "a worker process imports the script that started it, and this script then starts "
    "its workflow again; put what runs the workflow under the guard\n\n"
    '    if __name__ == "__main__":\n'
    "        main()"
)
_HINTS = {
    "SIGKILL": "; often that is the kernel, out of memory",
    "SIGSEGV": "; that is a fault in native code that it called",
    "SIGABRT": "; native code that it called gave up",
    "SIGBUS": "; often a mapped file was cut short, or shared memory is full",
}


def crashed(label: str, pid: int, exitcode: int | None) -> WorkerCrashedError:
    """Give the error of a call whose worker is gone.

    Args:
        label: What the call is.
        pid: The worker.
        exitcode: How it ended; None if it was still there.
    """
    reason = f"ended with exit code {exitcode}"
    hint = ""
    if exitcode is None:
        reason = "no longer answered, though it did not end"
    elif exitcode == 0:
        hint = "; something that it called closed its pipe, or called os._exit(0)"
    elif exitcode < 0:
        try:
            name = signal.Signals(-exitcode).name
        except ValueError:
            name = f"signal {-exitcode}"
        reason = f"was killed by {name}"
        hint = _HINTS.get(name, "")
    return WorkerCrashedError(
        f"the worker process of {label} (pid {pid}) {reason}{hint}",
        label,
        pid,
        exitcode,
    )


def killed(label: str, pid: int, exitcode: int | None) -> WorkerCrashedError:
    """Give the error of a call whose worker was killed for it, as ``crashed`` does."""
    return WorkerKilledError(
        f"the worker process of {label} (pid {pid}) was killed on request",
        label,
        pid,
        exitcode,
    )


def init_failed(label: str, cause: BaseException) -> WorkerInitError:
    """Give the error of an initializer, by what it raised or how its worker died."""
    error = WorkerInitError(
        f"{label} failed, so nothing more runs on its ProcessLanes: {error_text(cause)}"
    )
    error.__cause__ = cause
    return error


def unready(exitcode: int | None) -> WorkerStartError:
    """Give the error of a worker that ended before it was ready."""
    if exitcode == UNGUARDED:
        return unguarded()
    return WorkerStartError(
        f"a worker process ended with exit code {exitcode} before it was ready; what "
        f"it said of that is above, on standard error. {_program()}"
    )


def silent(seconds: float) -> WorkerStartError:
    """Give the error of a worker that was not ready after so many seconds."""
    return WorkerStartError(
        f"a worker process was not ready after {seconds:.0f} s, and was killed. Before "
        "that it imports the main script, and what sitecustomize and PYTHONSTARTUP "
        "say: see what of these may wait for a network, a lock or a debugger"
    )


def refused(error: Exception) -> WorkerStartError:
    """Give the error of a worker process that this system or program refuses."""
    import traceback  # dear

    # A start that was broken off keeps open what its frames hold.
    traceback.clear_frames(error.__traceback__)
    text = error_text(error)
    hint = _REMEDIES.get(getattr(error, "errno", None) or 0)
    if isinstance(error, MemoryError):
        hint = _REMEDIES[errno.ENOMEM]
    elif hint is None and isinstance(error, RuntimeError):
        hint = _REMEDIES[errno.EAGAIN]
    if type(error).__name__ == "ServerLost" or not spawn.get_executable():
        hint = f"what it said is above, on standard error. {_program()}"
    return WorkerStartError(
        f"no worker process can be started: {text}; {hint or _NO_PROCESS}"
    )


def _program() -> str:
    return (
        f"Processes run {spawn.get_executable()!r}, which has to be a Python that "
        "finds what this one finds; multiprocessing.set_executable() names another"
    )


def unguarded() -> WorkerStartError:
    """Give the error of a main script that starts a workflow when it is imported."""
    return WorkerStartError(_UNGUARDED_TEXT)
