"""Fork server: the process that worker processes are forked from.

multiprocessing has one for the whole program. Ours is another of the same kind, with
what a worker needs imported already, and deaf to the interrupt of the terminal, which
is for this process alone to hear; neither may be done to what others start.
"""

from __future__ import annotations

import io
import os
import sys
import threading
from multiprocessing import context, forkserver, popen_forkserver, reduction, spawn
from multiprocessing.context import ForkServerProcess
from multiprocessing.util import Finalize
from typing import Any

from stepfunction.core.envelope import main_module


class ServedProcess(ForkServerProcess):
    """A process that is forked from our server."""

    @staticmethod
    def _Popen(process_obj: Any) -> Any:
        return _Popen(process_obj)


class _Popen(popen_forkserver.Popen):
    _fds: list[int]

    def __init__(self, process_obj: Any) -> None:
        self._polling = threading.Lock()
        super().__init__(process_obj)

    def poll(self, flag: int = os.WNOHANG) -> int | None:
        """Give the exit code, which can be read but once: by one thread of many."""
        with self._polling:
            return super().poll(flag)

    def _launch(self, process_obj: Any) -> None:
        message = io.BytesIO()
        context.set_spawning_popen(self)
        try:
            facts = spawn.get_preparation_data(process_obj.name)
            if not main_module.is_importable():
                facts.pop("init_main_from_path", None)
                facts.pop("init_main_from_name", None)
            reduction.dump(facts, message)
            reduction.dump(process_obj, message)
        finally:
            context.set_spawning_popen(None)
        self.sentinel, told = _present_server().connect_to_new_process(self._fds)
        # Open for as long as this process lives: by this the worker knows.
        alive = os.dup(told)
        self.finalizer = Finalize(self, _close, (alive, self.sentinel))
        with open(told, "wb") as pipe:
            pipe.write(message.getbuffer())
        self.pid = forkserver.read_signed(self.sentinel)


def _close(*descriptors: int) -> None:
    for descriptor in descriptors:
        os.close(descriptor)


def _present_server() -> Any:
    if forkserver.get_inherited_fds() is not None:
        # This is a worker itself, and has the server that it came from.
        return forkserver._forkserver
    return _server


class _Modules(list[str]):
    """The modules to import, which find them where this process would.

    Until CPython 3.14 the server is not given the path in time. It is given the
    ``repr`` of this list, as a part of its program.
    """

    def __repr__(self) -> str:
        path = [entry for entry in sys.path if isinstance(entry, str)]
        set_path = f"__import__('sys').path.__setitem__(slice(None), {path!r})"
        return f"({set_path}, {list(self)!r})[1]"


def _new_server() -> Any:
    server = forkserver.ForkServer()
    server.set_forkserver_preload(_Modules(["stepfunction.core.lanes.worker"]))
    return server


def _forget_server() -> None:
    """In a forked child, leave the server to the parent, whose child it is."""
    global _server
    if _server._forkserver_alive_fd is not None:
        os.close(_server._forkserver_alive_fd)
    _server = _new_server()


_server = _new_server()
os.register_at_fork(after_in_child=_forget_server)
