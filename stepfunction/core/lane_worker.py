"""Lane worker: what runs in a worker process, from its start to its end."""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Callable
from contextlib import suppress
from multiprocessing import connection as pipes
from multiprocessing import process as processes
from typing import TYPE_CHECKING, Any

from stepfunction.core.envelope import call_packed, perform_packed, unpack
from stepfunction.core.logs import Levels, Sender, adopt
from stepfunction.core.parcel import Parcel, receive, send

if TYPE_CHECKING:
    from stepfunction.core.context import Context

# What goes through the pipe beside packed calls and answers, which never begin so.
HELLO = b"hello"
BEAT = b"beat"
LOG = b"log:"  # and a packed record
LEVELS = b"levels:"  # and the packed levels of the parent's loggers

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


def call_in_lane(value: Any, call: bytes, context: Context | None) -> Any:
    """Make a step's packed call, with a context whose heartbeats are heard."""
    if context is not None:
        context._beat = heart()
    return call_packed(value, call, context)


def _answer(message: Parcel) -> None:
    global _call
    with _speaking:
        _call += 1
        send(_pipe, message)


def _send_record(record: bytes) -> None:
    with _speaking:
        _pipe.send_bytes(LOG + record)


def serve_lane(pipe: Any, environment: dict[str, str], levels: Levels) -> None:
    """Serve one lane until its other end is closed.

    Args:
        pipe: The worker's end of it.
        environment: The parent's environment variables.
        levels: The levels of the parent's loggers.
    """
    if hasattr(os, "setpgid"):
        os.setpgid(0, 0)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "pthread_sigmask"):
        # It was held back until now. What tasks start may be interrupted again.
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    _die_with_parent()
    os.environ.clear()
    os.environ.update(environment)
    global _pipe
    _pipe = pipe
    sender = Sender(_send_record)
    logging.root.handlers[:] = [sender]  # a main script may have set up others
    adopt(levels, None)

    def become_another() -> None:
        # A child that outlives this worker must not keep its lane waiting.
        pipe.close()
        logging.root.removeHandler(sender)

    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=become_another)
    with suppress(OSError):  # who started this may have gone
        _answer(HELLO)
    while True:
        try:
            head = pipe.recv_bytes()
            if head.startswith(LEVELS):
                known, levels = levels, unpack(head.removeprefix(LEVELS))
                adopt(levels, known)
                continue
            call = head, receive(pipe)
        except (EOFError, OSError):
            return
        answer = perform_packed(*call)
        del call  # an idle worker keeps no large input
        _answer(answer)
        del answer


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
