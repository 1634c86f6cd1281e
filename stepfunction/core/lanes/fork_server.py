"""Fork server: the process that worker processes are forked from, seen from outside.

multiprocessing has one for the whole program. Ours has what a worker needs imported
already, is deaf to the interrupt of the terminal, needs no folder where it is found,
and is replaced if it has died. What it does itself is in ``forking``.
"""

from __future__ import annotations

import _socket
import array
import io
import multiprocessing
import os
import signal
import socket
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from multiprocessing import (
    context,
    popen_forkserver,
    process,
    reduction,
    resource_tracker,
    spawn,
    util,
)
from multiprocessing.context import ForkServerProcess
from typing import Any

from stepfunction.core.clock import perf_counter
from stepfunction.core.envelope import main_module
from stepfunction.core.lanes import forking

_ORIGINAL_DIR: str | None = vars(process)["ORIGINAL_DIR"]
UNKNOWN = 255  # the exit code of a worker that outlived its server; CPython's too
_MOST_SERVERS = 3  # are tried, for somebody may kill one
_SECONDS_TO_ANSWER = 60.0  # for a server, which may just have been started
# Begins like what multiprocessing gives its own server, for by that a frozen program
# knows what to run instead of itself.
_PROGRAM = (
    "from multiprocessing.forkserver import main; import sys; sys.path[:] = {path!r}; "
    "import stepfunction.core.lanes.fork_server, stepfunction.core.lanes.worker; "
    "from stepfunction.core.lanes.forking import serve; serve({line}, {alive})"
)


class _Refused(Exception):
    """The server could not fork; the argument is the number of its error."""


class ServerLost(Exception):
    """The server could not be started, ended, or did not answer."""


class ServedProcess(ForkServerProcess):
    """A process that is forked from our server."""

    @staticmethod
    def _Popen(process_obj: Any) -> Any:
        return _Popen(process_obj)


class _Popen(popen_forkserver.Popen):
    """A worker process as multiprocessing wants to have it."""

    _fds: list[int]

    def __init__(self, process_obj: Any) -> None:
        self._polling = threading.Lock()
        self._fds = []
        self.returncode: int | None = None
        self.finalizer: Any = None
        self._launch(process_obj)

    def _launch(self, process_obj: Any) -> None:
        message = io.BytesIO()
        context.set_spawning_popen(self)
        try:
            reduction.dump(_facts(process_obj.name), message)
            reduction.dump(process_obj, message)
        finally:
            context.set_spawning_popen(None)
        self._message = memoryview(message.getvalue())
        self.pid, self.sentinel, self._told = _server.fork(self._fds)
        self.finalizer = util.Finalize(self, _close, (self._told, self.sentinel))

    def tell(self, seconds: float) -> None:
        """Tell it what to do.

        Args:
            seconds: How long it may take to listen.

        Raises:
            TimeoutError: If it does not.
            OSError: If it is not there any more.
        """
        # The pipe stays open as long as this process lives: by this the worker knows.
        os.set_blocking(self._told, False)
        end = perf_counter() + seconds
        while self._message:
            if not forking.is_writable(self._told, max(0.0, end - perf_counter())):
                raise TimeoutError
            with suppress(BlockingIOError):
                self._message = self._message[os.write(self._told, self._message) :]

    def poll(self, flag: int = os.WNOHANG) -> int | None:
        """Give the exit code, which can be read but once: by one thread of many."""
        with self._polling:
            if self.returncode is None:
                longest = 0.0 if flag == os.WNOHANG else None
                if not forking.is_readable(self.sentinel, longest):
                    return None
                try:
                    _, self.returncode = forking.read(self.sentinel)
                except (OSError, EOFError):
                    self.returncode = UNKNOWN
            return self.returncode


def _facts(name: str) -> dict[str, Any]:
    """Give what a process has to know before it unpickles anything.

    As ``multiprocessing.spawn.get_preparation_data``, which fails in a folder that is
    gone and settles the start method of the program for good.
    """
    path = [_ORIGINAL_DIR if entry == "" else entry for entry in sys.path]
    facts: dict[str, Any] = {
        "name": name,
        "authkey": process.current_process().authkey,
        "log_to_stderr": util._log_to_stderr,  # type: ignore[attr-defined]
        "sys_path": [entry for entry in path if entry is not None],
        "sys_argv": sys.argv,
        "orig_dir": _ORIGINAL_DIR,
    }
    if util._logger is not None:  # type: ignore[attr-defined]
        facts["log_level"] = util.get_logger().getEffectiveLevel()
    with suppress(OSError):
        facts["dir"] = os.getcwd()
    method = multiprocessing.get_start_method(allow_none=True)
    if method is not None:
        facts["start_method"] = method
    if main_module.is_importable():
        main = sys.modules["__main__"]
        spec = getattr(main, "__spec__", None)
        if spec is not None:
            facts["init_main_from_name"] = spec.name
        else:
            file = os.path.join(_ORIGINAL_DIR or "", str(main.__file__))
            facts["init_main_from_path"] = os.path.normpath(file)
    return facts


def _close(*descriptors: int) -> None:
    for descriptor in descriptors:
        os.close(descriptor)


class Server:
    """A fork server, as a process knows it that has others forked."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._line: Any = None
        self._alive = -1
        self._pid = 0  # where it is a child of this process
        self._left: list[int] = []  # those that it had before

    def fork(self, passed: Sequence[int]) -> tuple[int, int, int]:
        """Have a process forked.

        Args:
            passed: The descriptors that it is to be given.

        Returns:
            Its number; the descriptor that is readable when it has ended, and gives its
            exit code; and the one of the pipe by which it is told what to do.

        Raises:
            OSError: If there is no more of something.
            ServerLost: If a server cannot be started, or does nothing.
        """
        with self._lock:
            servers = _MOST_SERVERS
            while True:
                servers -= 1
                if self._line is None:
                    self._start()
                try:
                    return self._ask(passed)
                except ServerLost as lost:  # somebody has killed it
                    why = self._let_go(lost)
                    if not servers:
                        raise ServerLost(why) from None
                except _Refused as refused:  # it may have less than this process now
                    self._leave()
                    if not servers:
                        number = refused.args[0]
                        raise OSError(number, os.strerror(number)) from None

    def adopt(self, line: int, alive: int) -> None:
        """Take over the server that forked this process."""
        self._line = _socket.socket(fileno=line)
        self._alive = alive

    def forget(self) -> None:
        """In a forked child, leave the server to the parent, whose child it is."""
        self._lock = threading.Lock()
        self._pid = 0
        self._leave()
        self._left.clear()

    def _start(self) -> None:
        for pid in self._left:
            with suppress(OSError):
                os.waitpid(pid, os.WNOHANG)
        executable: Any = spawn.get_executable()
        path = [entry for entry in sys.path if isinstance(entry, str)]
        kind = getattr(socket, "SOCK_SEQPACKET", socket.SOCK_DGRAM)
        # Not those of the module socket, which others patch.
        line, theirs = _socket.socketpair(socket.AF_UNIX, kind)
        try:
            listening, self._alive = os.pipe()
            try:
                program = _PROGRAM.format(
                    path=path, line=theirs.fileno(), alive=listening
                )
                flags = vars(util)["_args_from_interpreter_flags"]()
                arguments = [executable, *flags, "-c", program]
                passed = [theirs.fileno(), listening]
                self._pid = util.spawnv_passfds(executable, arguments, passed)
            except BaseException:
                os.close(self._alive)
                raise
            finally:
                os.close(listening)
        except BaseException:
            line.close()
            raise
        finally:
            theirs.close()
        line.setblocking(True)  # whatever socket.setdefaulttimeout() was given
        self._line = line

    def _ask(self, passed: Sequence[int]) -> tuple[int, int, int]:
        tracker: Any = resource_tracker.getfd()
        sentinel, theirs = os.pipe()
        opened = [sentinel]
        try:
            try:
                work, told = os.pipe()
                opened.append(told)
                try:
                    line = self._line.fileno()
                    self._send([theirs, work, self._alive, line, tracker, *passed])
                finally:
                    os.close(work)
            finally:
                os.close(theirs)
            if not forking.is_readable(sentinel, _SECONDS_TO_ANSWER):
                raise ServerLost(f"it was silent for {_SECONDS_TO_ANSWER:.0f} s")
            try:
                kind, pid = forking.read(sentinel)
            except EOFError:
                raise ServerLost("it ended") from None
            if kind == forking.REFUSED:
                raise _Refused(pid)
            if kind == forking.ENDED:
                raise ServerLost(f"a process of it ended at once, with code {pid}")
        except BaseException:
            _close(*opened)
            raise
        return pid, sentinel, told

    def _send(self, descriptors: Sequence[int]) -> None:
        rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))
        message = bytes([len(descriptors)])
        try:
            flags = getattr(socket, "MSG_DONTWAIT", 0)
            self._line.sendmsg([message], [rights], flags)
        except (ConnectionError, BlockingIOError) as error:
            raise ServerLost(f"it hears nothing ({error})") from None

    def _leave(self) -> None:
        """Let a server end with the last of its workers."""
        if self._line is not None:
            self._line.close()
            os.close(self._alive)
        if self._pid:
            self._left.append(self._pid)
        self._line, self._alive, self._pid = None, -1, 0

    def _let_go(self, why: object = "") -> str:
        """Let go of a server that is of no use; say what became of it."""
        pid, self._pid = self._pid, 0
        self._leave()
        said = str(why)
        if pid:
            with suppress(OSError):
                os.kill(pid, signal.SIGKILL)
            with suppress(OSError):  # another may have waited for it
                status = os.waitpid(pid, 0)[1]
                said += f", with exit code {os.waitstatus_to_exitcode(status)}"
        return said


_server = Server()
forking.adopt = _server.adopt
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_server.forget)
