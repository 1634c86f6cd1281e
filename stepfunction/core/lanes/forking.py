"""Forking: what our fork server does, and what begins in the process that it forks.

It is a process of its own, which has imported this and what a worker needs, and waits
for requests: a message with nothing but descriptors. Nobody finds it by a name, so
that nothing lies in the folder of temporary files, and nobody else can speak to it.
"""

from __future__ import annotations

import _socket
import array
import atexit
import errno
import os
import select
import signal
import socket
import struct
import sys
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from multiprocessing import forkserver, resource_tracker, spawn, util
from typing import Any

_MESSAGE = struct.Struct("=cq")
# What is said of a process: its number, by itself; the number of the error for which
# it could not be forked; its exit code.
BORN, REFUSED, ENDED = b"b", b"r", b"e"
_MOST = 256  # descriptors in a message

# Set by ``fork_server``, which a worker needs that has workers of its own.
adopt: Callable[[int, int], None] = lambda line, alive: None


def serve(line: int, alive: int) -> None:
    """Fork processes until nobody is left who may ask for one.

    Args:
        line: Where requests come from.
        alive: A pipe that ends when nobody is left.
    """
    _open_standard_ones()
    util._close_stdin()  # type: ignore[attr-defined]
    woken, wake = os.pipe()
    os.set_blocking(woken, False)
    os.set_blocking(wake, False)
    handlers = {
        # Not ignored, for else nobody could wait for the processes.
        signal.SIGCHLD: signal.signal(signal.SIGCHLD, lambda *_: None),
        signal.SIGINT: signal.signal(signal.SIGINT, signal.SIG_IGN),
    }
    signal.set_wakeup_fd(wake)
    requests = _socket.socket(fileno=line)
    children: dict[int, int] = {}  # and where to tell how they have ended
    poll = select.poll()
    for descriptor in (line, alive, woken):
        poll.register(descriptor, select.POLLIN)
    while True:
        found = {descriptor for descriptor, _ in poll.poll()}
        if woken in found:
            with suppress(BlockingIOError):
                os.read(woken, 65536)
            _bury(children)
        if line in found:
            given = _receive(requests)
            if given is None:
                requests.detach()
                return
            if _fork(given, children):
                break
        elif alive in found:
            requests.detach()
            return
    code = 1
    try:
        signal.set_wakeup_fd(-1)
        for number, handler in handlers.items():
            signal.signal(number, handler)
        requests.detach()
        _close_all([line, alive, woken, wake, *children.values()])
        code = _become_worker(given)
    except Exception:
        sys.excepthook(*sys.exc_info())
        sys.stderr.flush()
    finally:
        os._exit(code)


def is_readable(descriptor: int, seconds: float | None) -> bool:
    """Wait until there is something to read, or the other end is closed."""
    return _is_ready(descriptor, select.POLLIN, seconds)


def is_writable(descriptor: int, seconds: float) -> bool:
    """Wait until there is room to write, or the other end is closed."""
    return _is_ready(descriptor, select.POLLOUT, seconds)


def _is_ready(descriptor: int, event: int, seconds: float | None) -> bool:
    poll = select.poll()
    poll.register(descriptor, event)
    return bool(poll.poll(None if seconds is None else seconds * 1000))


def read(descriptor: int) -> tuple[bytes, int]:
    """Read what is said of a process.

    Raises:
        EOFError: If nobody will say more.
    """
    data = b""
    while len(data) < _MESSAGE.size:
        more = os.read(descriptor, _MESSAGE.size - len(data))
        if not more:
            raise EOFError
        data += more
    kind, number = _MESSAGE.unpack(data)
    return kind, number


def _say(descriptor: int, kind: bytes, number: int) -> None:
    with suppress(OSError):  # who asked has gone
        os.write(descriptor, _MESSAGE.pack(kind, number))  # too short to be cut


def _open_standard_ones() -> None:
    """See to it that no descriptor of ours passes for one of the standard streams."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(descriptor)


def _bury(children: dict[int, int]) -> None:
    """Say of the processes that have ended how they did."""
    with suppress(ChildProcessError):
        while (ended := os.waitpid(-1, os.WNOHANG))[0]:
            pid, status = ended
            if (told := children.pop(pid, None)) is not None:
                _say(told, ENDED, os.waitstatus_to_exitcode(status))
                os.close(told)


def _receive(requests: Any) -> list[int] | None:
    """Give the descriptors of a request; None when nobody is left to make one.

    There are none where not all have come.
    """
    passed = array.array("i")
    room = socket.CMSG_SPACE(_MOST * passed.itemsize)
    message, parts, *_ = requests.recvmsg(1, room)
    for _, _, data in parts:
        passed.frombytes(data[: len(data) - len(data) % passed.itemsize])
    if not message:
        return None
    given = list(passed)
    if len(given) < message[0]:  # as many files are open as may be
        if given:
            _say(given[0], REFUSED, errno.EMFILE)
        _close_all(given)
        given.clear()
    return given


def _fork(given: list[int], children: dict[int, int]) -> bool:
    """Fork a process; tell whether this is that process."""
    if not given:
        return False
    told, *others = given
    try:
        pid = os.fork()
    except OSError as error:
        _say(told, REFUSED, error.errno or errno.EAGAIN)
        _close_all(given)
        return False
    if pid == 0:
        return True
    children[pid] = told
    _close_all(others)
    return False


def _become_worker(given: list[int]) -> int:
    """Be the process that was asked for, and give its exit code."""
    told, work, alive, line, tracker, *passed = given
    # By itself, for the server may just be killed.
    _say(told, BORN, os.getpid())
    # It is kept open, so that its end is not mistaken for that of this process when
    # the server is killed; a child of this process does not keep it.
    os.register_at_fork(after_in_child=partial(_close_all, [told]))
    adopt(line, alive)
    resource_tracker._resource_tracker._fd = tracker  # type: ignore[attr-defined]
    forkserver._forkserver._inherited_fds = passed  # type: ignore[attr-defined]
    if sys.version_info >= (3, 13):  # where multiprocessing does so
        atexit._clear()
        atexit.register(util._exit_function)  # type: ignore[attr-defined]
    parent = os.dup(work)
    code: int = spawn._main(work, parent)
    if sys.version_info >= (3, 13):
        atexit._run_exitfuncs()
    return code


def _close_all(descriptors: Iterable[int]) -> None:
    for descriptor in descriptors:
        with suppress(OSError):
            os.close(descriptor)
