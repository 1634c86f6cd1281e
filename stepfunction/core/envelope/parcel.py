"""Parcel: packed data on its way between this process and a worker.

What is small goes through the pipe. What is large is written once into a file without
a name, and only the open file goes through the pipe: each worker maps it, and the
system frees it with the last process that has it open, however that ends.
"""

from __future__ import annotations

import _socket
import mmap
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from tempfile import TemporaryFile
from typing import Any, TypeAlias
from weakref import finalize

LARGE = 8 * 2**20
_FILE_FOLLOWS = b"file"  # no pickle begins like this
_CAN_PASS_FILES = hasattr(socket, "send_fds")


class LargeParcel:
    """Packed data in a file without a name, which is closed with this object."""

    def __init__(self) -> None:
        self.descriptor = open_nameless()
        self.close = finalize(self, os.close, self.descriptor)

    def write(self, data: Any) -> int:
        rest = memoryview(data).cast("B")
        size = len(rest)
        while rest:
            rest = rest[os.write(self.descriptor, rest) :]
        return size


Parcel: TypeAlias = bytes | LargeParcel
Contents: TypeAlias = bytes | mmap.mmap


class Sink:
    """A file to pickle into, which becomes a parcel."""

    def __init__(self) -> None:
        self._memory = BytesIO()
        self._large: LargeParcel | None = None

    def write(self, data: Any) -> int:
        """Take more data, as any file does."""
        if self._large is not None:
            return self._large.write(data)
        size = memoryview(data).nbytes
        if self._memory.tell() + size <= LARGE or not _CAN_PASS_FILES:
            return self._memory.write(data)
        self._large = LargeParcel()
        self._large.write(self._memory.getbuffer())
        self._memory = BytesIO()
        return self._large.write(data)

    def close(self) -> None:
        """Close what will become no parcel."""
        if self._large is not None:
            self._large.close()

    def parcel(self) -> Parcel:
        """Give what has been written."""
        return self._memory.getvalue() if self._large is None else self._large


def send(pipe: Any, parcel: Parcel) -> None:
    """Send a parcel through a pipe to a process of this machine.

    Raises:
        OSError: If nobody is at the other end.
    """
    if isinstance(parcel, bytes):
        pipe.send_bytes(parcel)
    else:
        pipe.send_bytes(_FILE_FOLLOWS)
        with _as_socket(pipe) as line:
            socket.send_fds(line, [b"!"], [parcel.descriptor])


def receive(pipe: Any) -> Contents:
    """Receive what was sent through a pipe.

    Raises:
        EOFError: If nobody is at the other end.
        OSError: The same.
    """
    data: bytes = pipe.recv_bytes()
    if data != _FILE_FOLLOWS:
        return data
    with _as_socket(pipe) as line:
        _, (descriptor,), _, _ = socket.recv_fds(line, 1, 1)
    try:
        return mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ)
    finally:
        os.close(descriptor)


@contextmanager
def _as_socket(pipe: Any) -> Iterator[Any]:
    """Speak through a pipe's own descriptor: there may be none left for a copy."""
    # Not the class of the module socket: gevent's lets no descriptor block.
    line = _socket.socket(fileno=pipe.fileno())
    line.setblocking(True)  # whatever socket.setdefaulttimeout() was given
    try:
        yield line
    finally:
        line.detach()


def open_nameless(purpose: str = "stepfunction") -> int:
    """Open a file without a name; its purpose is what the system shows of it."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create(purpose)
    with TemporaryFile() as file:
        return os.dup(file.fileno())
