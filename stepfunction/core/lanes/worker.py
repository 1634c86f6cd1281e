"""Lane worker: what runs in a worker process, from its start to its end."""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from multiprocessing import connection as pipes
from multiprocessing import process as processes
from typing import TYPE_CHECKING, Any

from stepfunction.core.envelope.answers import perform, prepare_call, prepare_packed
from stepfunction.core.envelope.envelope import pack, pack_parcel, unpack
from stepfunction.core.envelope.parcel import Contents, Parcel, receive, send
from stepfunction.core.lanes.logs import Levels, Sender, adopt

if TYPE_CHECKING:
    from stepfunction.core.context import Context
    from stepfunction.core.watching.events import Event

# What goes through the pipe beside packed calls and answers, which never begin so.
HELLO = b"hello"
BEGAN = b"began"
BEAT = b"beat"
LOG = b"log:"  # and a packed record
EVENT = b"event:"  # and a packed event
PART = b"part:"  # and a packed part of what comes of the call
LEVELS = b"levels:"  # and the packed levels of the parent's loggers

_pipe: Any = None
_call = 0  # counts the calls, so that none is kept alive by another's threads
_speaking = threading.RLock()  # a function's own threads may speak too
_unsaid: deque[Parcel] = deque()
_is_sending = False
_SIGNALS = signal.valid_signals()


@contextmanager
def _signals_held() -> Iterator[None]:
    """Keep the handlers of a task's signals from raising just now."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _say(message: Parcel) -> None:
    """Send a message to the parent, after the one that is just being sent."""
    global _is_sending
    with _signals_held(), _speaking:
        _unsaid.append(message)
        if _is_sending:  # what is collected while a message is sent may log
            return
        try:
            _is_sending = True
            while _unsaid:
                send(_pipe, _unsaid.popleft())
        finally:
            _is_sending = False


class _Line:
    """By which the present call is heard of, from any thread of this process."""

    def __init__(self) -> None:
        self._call = _call

    def live(self) -> None:
        self._say(BEAT)

    def pass_on(self, event: Event) -> None:
        self._say(EVENT + pack(event))

    def report(self, part: Any) -> None:
        self._say(PART + pack(part))

    def _say(self, message: bytes) -> None:
        with _speaking:
            if _call == self._call:
                _say(message)


def prepare_in_lane(
    body: Contents, call: bytes, context: Context | None, says_start: bool
) -> Callable[[], Any]:
    """Give a step's call, with a context that has a line to the parent."""
    if context is not None:
        context.line = _Line()
    prepared = prepare_call(call, body, context)  # which may import much
    if says_start:
        _say(BEGAN)
    return prepared


def _answer(message: Parcel) -> None:
    global _call
    with _speaking:
        _call += 1
        try:
            _say(message)
        except OSError:  # who asked has gone, or shall not wait for the rest
            with suppress(OSError):
                _pipe.close()


def _send_record(record: bytes) -> None:
    with suppress(OSError):  # the lane has let this worker go
        _say(LOG + record)


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
        # It was held back until now.
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    parent = processes.parent_process()
    assert parent is not None
    with _signals_held():  # for good, in the thread
        threading.Thread(target=_watch, args=(parent.sentinel,), daemon=True).start()
    os.environ.clear()
    os.environ.update(environment)
    global _pipe
    _pipe = pipe
    sender = Sender(_send_record)
    # A main script may have set up others, which are the parent's to use.
    for logger in list(logging.root.manager.loggerDict.values()):
        if isinstance(logger, logging.Logger):
            logger.handlers.clear()
            logger.propagate = True
    logging.root.handlers[:] = [sender]
    adopt(levels, None)

    def become_another() -> None:
        # A child that outlives this worker must not keep its lane waiting, nor wait
        # for a thread that stayed behind while it spoke.
        global _speaking, _call
        _speaking, _call = threading.RLock(), _call + 1
        pipe.close()
        logging.root.removeHandler(sender)

    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=become_another)
    _answer(HELLO)
    is_guarded = False
    while True:
        try:
            head = pipe.recv_bytes()
            if not is_guarded:
                # Not before: what the parent told this process when it started it came
                # over the same pipe, and must not count as its end.
                _die_with_parent(parent.sentinel)
                is_guarded = True
            if head.startswith(LEVELS):
                known, levels = levels, unpack(head.removeprefix(LEVELS))
                adopt(levels, known)
                continue
            body = receive(pipe)
        except (EOFError, OSError):
            return
        answer = perform(partial(prepare_packed, head, body), pack_parcel)
        del head, body  # an idle worker keeps no large input
        _answer(answer)
        del answer


def _die_with_parent(sentinel: Any) -> None:
    """Have the kernel kill this process group when its parent ends.

    The thread that watches cannot act while native code holds the GIL.
    """
    try:
        import fcntl

        fcntl.fcntl(sentinel, fcntl.F_SETOWN, -os.getpgrp())
        fcntl.fcntl(sentinel, fcntl.F_SETSIG, signal.SIGKILL)
        flags = fcntl.fcntl(sentinel, fcntl.F_GETFL)
        fcntl.fcntl(sentinel, fcntl.F_SETFL, flags | os.O_ASYNC)
    except (ImportError, AttributeError, OSError):
        return  # not Linux: the thread has to do


def _watch(sentinel: Any) -> None:
    pipes.wait([sentinel])
    if hasattr(os, "killpg"):
        os.killpg(os.getpgrp(), signal.SIGKILL)
    os._exit(1)
