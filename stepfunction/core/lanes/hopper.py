"""Hopper: where a worker finds its next small calls, and its lane takes them back.

The system gives each packet in it to one taker and no other, whichever comes first: so
what was taken back was not begun, and what was not has been. Each has a number, for the
worker may take one while its lane takes those before and behind it.
"""

from __future__ import annotations

import _socket
import struct
from contextlib import suppress
from multiprocessing import reduction
from typing import Any

from stepfunction.core.envelope.parcel import Parcel

_LARGEST = 8192  # bytes of a call that may go through it
_HEADER = struct.Struct("IQ")  # the length of the packed call, and its number
_KIND: int | None = getattr(_socket, "SOCK_SEQPACKET", None)
_AT_ONCE = getattr(_socket, "MSG_DONTWAIT", 0) | getattr(_socket, "MSG_NOSIGNAL", 0)
# Says that the next call comes through the pipe: it has no length, and no number.
_BY_PIPE = _HEADER.pack(0, 0)

Call = tuple[bytes, bytes]  # a packed call, and what goes with it


class Outlet:
    """The end of a hopper that packets are taken from, by the worker or by its lane."""

    def __init__(self, end: Any) -> None:
        self._end = end

    def __reduce__(self) -> Any:
        # While a process is being started, to which it goes along.
        return _outlet, (reduction.DupFd(self._end.fileno()),)

    def peek(self) -> None:
        """Wait until there is something, or there will be nothing more."""
        self._end.recv(1, _socket.MSG_PEEK)

    def take(self) -> Call | None:
        """Wait for the next call; None says that it comes through the pipe.

        Raises:
            EOFError: If there will be none.
            OSError: The same.
        """
        packet = self._end.recv(_LARGEST + _HEADER.size)
        if not packet:
            raise EOFError
        if packet == _BY_PIPE:
            return None
        end = _HEADER.size + _HEADER.unpack_from(packet)[0]
        return packet[_HEADER.size : end], packet[end:]

    def drain(self) -> list[int]:
        """Take all that is there, and give the numbers that it had."""
        numbers: list[int] = []
        with suppress(OSError):
            while header := self._end.recv(_HEADER.size, _AT_ONCE):
                numbers.append(_HEADER.unpack(header)[1])
        return numbers

    def close(self) -> None:
        """Take nothing more."""
        with suppress(OSError):  # a task may have closed whatever was open
            self._end.close()


class Hopper:
    """A queue of calls to one worker."""

    def __init__(self, end: Any, outlet: Outlet) -> None:
        self._end = end
        self.outlet = outlet

    def put(self, head: bytes, body: Parcel, number: int) -> bool:
        """Add a call, and tell whether that was possible."""
        if not isinstance(body, bytes) or not is_small(head, body):
            return False
        return self._put(b"".join((_HEADER.pack(len(head), number), head, body)))

    def announce(self) -> None:
        """Say that a call comes through the pipe.

        Raises:
            OSError: If that cannot be said.
        """
        if not self._put(_BY_PIPE):
            raise OSError("the worker takes nothing more")

    def _put(self, packet: bytes) -> bool:
        try:
            self._end.send(packet, _AT_ONCE)
        except OSError:  # no room is left in it
            return False
        return True

    def close(self, is_forked: bool = False) -> None:
        """Put nothing more in; the worker of a fork keeps what it takes from."""
        self._end.close()
        if not is_forked:
            self.outlet.close()


def is_small(head: bytes, body: Parcel) -> bool:
    """Tell whether a call is small enough to go through a hopper."""
    return isinstance(body, bytes) and len(head) + len(body) <= _LARGEST


def new_hopper() -> Hopper | None:
    """Give a new one; None where the system has no such thing, or not another."""
    if _KIND is None:
        return None
    try:
        ends = _socket.socketpair(_socket.AF_UNIX, _KIND)
    except OSError:
        return None
    for end in ends:
        end.setblocking(True)  # whatever socket.setdefaulttimeout() was given
    return Hopper(ends[0], Outlet(ends[1]))


def _outlet(carried: Any) -> Outlet:
    end = _socket.socket(fileno=carried.detach())
    end.setblocking(True)
    return Outlet(end)
