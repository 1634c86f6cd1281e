"""Lane worker: what runs in a worker process, from its start to its end."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from multiprocessing import connection as pipes
from multiprocessing import process as processes
from typing import Any

from stepfunction.core.envelope import perform_packed

HELLO = b"hello"
BEAT = b"beat"

_pipe: Any = None
_call = 0  # counts the calls, so that none is kept alive by another's threads
_speaking = threading.Lock()  # a function's own threads may give heartbeats too


def heart() -> Callable[[], None]:
    """Give what gives signs of life for the present call, from any thread."""
    mine = _call

    def beat() -> None:
        with _speaking:
            if _call == mine:
                _pipe.send_bytes(BEAT)

    return beat


def _answer(message: bytes) -> None:
    global _call
    with _speaking:
        _call += 1
        _pipe.send_bytes(message)


def serve_lane(pipe: Any, environment: dict[str, str]) -> None:
    """Serve one lane until its other end is closed."""
    if hasattr(os, "setpgid"):
        os.setpgid(0, 0)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _die_with_parent()
    os.environ.clear()
    os.environ.update(environment)
    global _pipe
    _pipe = pipe
    if hasattr(os, "register_at_fork"):
        # A child that outlives this worker must not keep its lane waiting.
        os.register_at_fork(after_in_child=pipe.close)
    _answer(HELLO)
    while True:
        try:
            head, body = pipe.recv_bytes(), pipe.recv_bytes()
        except (EOFError, OSError):
            return
        _answer(perform_packed(head, body))


def _die_with_parent() -> None:
    """Make sure that no worker outlives the process that started it."""
    parent = processes.parent_process()
    assert parent is not None
    threading.Thread(target=_watch, args=(parent.sentinel,), daemon=True).start()
    try:
        import fcntl

        # A thread cannot act while native code holds the GIL, but the kernel can: it
        # kills this process group when the other end of the sentinel closes.
        fcntl.fcntl(parent.sentinel, fcntl.F_SETOWN, -os.getpgrp())
        fcntl.fcntl(parent.sentinel, fcntl.F_SETSIG, signal.SIGKILL)
        flags = fcntl.fcntl(parent.sentinel, fcntl.F_GETFL)
        fcntl.fcntl(parent.sentinel, fcntl.F_SETFL, flags | os.O_ASYNC)
    except (ImportError, AttributeError, OSError):
        return  # not Linux: the thread has to do


def _watch(sentinel: Any) -> None:
    pipes.wait([sentinel])
    if hasattr(os, "killpg"):
        os.killpg(os.getpgrp(), signal.SIGKILL)
    os._exit(1)
