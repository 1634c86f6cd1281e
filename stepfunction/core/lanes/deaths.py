"""Blame: what is said of a worker process that died, and of what it died."""

from __future__ import annotations

import signal

from stepfunction.core.errors import WorkerCrashedError, WorkerKilledError


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
    if exitcode is not None and exitcode < 0:
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


_HINTS = {
    "SIGKILL": "; often that is the kernel, out of memory",
    "SIGSEGV": "; that is a fault in native code that it called",
    "SIGABRT": "; native code that it called gave up",
    "SIGBUS": "; often a mapped file was cut short, or shared memory is full",
}


def killed(label: str, pid: int, exitcode: int | None) -> WorkerCrashedError:
    """Give the error of a call whose worker was killed for it, as ``crashed`` does."""
    return WorkerKilledError(
        f"the worker process of {label} (pid {pid}) was killed on request",
        label,
        pid,
        exitcode,
    )
