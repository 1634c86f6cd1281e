"""Process: a worker process as its parent has it, from its start to its end."""

from __future__ import annotations

import _socket
import os
import select
import signal
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from functools import partial
from itertools import count
from multiprocessing import connection as pipes
from multiprocessing import context as contexts
from multiprocessing import process as processes
from multiprocessing import resource_tracker
from typing import Any

from stepfunction.core.envelope import main_module
from stepfunction.core.envelope.envelope import pack
from stepfunction.core.envelope.parcel import Contents, Parcel, receive, send
from stepfunction.core.lanes.hopper import new_hopper
from stepfunction.core.lanes.logs import Levels, current_levels
from stepfunction.core.lanes.marks import Marks
from stepfunction.core.lanes.messages import LEVELS, OPEN
from stepfunction.core.lanes.opening import Opening
from stepfunction.core.lanes.worker import serve_lane
from stepfunction.core.logger import logger

WORKER_NAME = "stepfunction-worker"
_OURS = "stepfunction.core.lanes.fork_server"
_SECONDS_TO_END = 1.0  # for an idle worker, once it has been let go
_SECONDS_TO_LEAVE = 5.0  # for one that has been killed
_numbers = count(1)  # of what is offered
_MOST_WORDS = 300  # more than a full pipe holds


class WorkerProcess:
    """A worker process and this end of its pipe.

    Only the thread of its lane speaks with it and waits for it; any other may kill it
    as long as that has not seen it end.

    Args:
        context: Of multiprocessing, with the method to start it by.
        opening: What it does before its first call; None for nothing.

    Attributes:
        pid: Its number; 0 until it has started.
        is_ready: Whether it has said so.
        calls: How many it was given, but for those that were taken back.
        marks: What it leaves readable when it is dead.
    """

    def __init__(self, context: Any, opening: Opening | None = None) -> None:
        self.pid = 0
        self.is_ready = False
        self.calls = 0
        self._levels = current_levels()  # as the worker knows them
        self._context = context
        self._pipe, self._far_end = _open_pipe(context)
        self.marks = Marks()
        self._hopper = new_hopper()
        outlet = None if self._hopper is None else self._hopper.outlet
        # A server has the environment of when it was started; others have this one.
        is_served = context.get_start_method() == "forkserver"
        environment = dict(os.environ) if is_served else None
        self._process = _process_class(context)(
            target=serve_lane,
            args=(
                self._far_end,
                outlet,
                environment,
                self._levels,
                self.marks,
                opening,
            ),
            name=WORKER_NAME,
        )

    def start(self) -> None:
        """Start it; nobody else may start one meanwhile.

        Raises:
            Exception: What refuses it; nothing is left open then.
        """
        try:
            shown = _main_shown(self._context, self._process)
            with _standard_ones_taken(), _interrupt_held(), shown:
                self._process.start()
            self.pid = self._process.pid
            # Nobody but its lane polls it or waits for it: not whoever starts another,
            # and not a child of multiprocessing, which runs no atexit when it ends.
            processes._children.discard(self._process)  # type: ignore[attr-defined]
            self._far_end.close()
            self.marks.close()
            self._ready = _readiness([self._pipe, self._process.sentinel])
        except BaseException:
            self._abandon()
            raise

    def _abandon(self) -> None:
        """Leave nothing behind of a start that was not completed."""
        self._close()
        self._far_end.close()
        self.marks.close()
        popen = self._process._popen
        if popen is not None:
            processes._children.discard(self._process)  # type: ignore[attr-defined]
            self._process.kill()
            if popen.finalizer is not None:
                popen.finalizer()

    def tell(self, seconds: float) -> None:
        """Tell it what it is for, where that was not said when it was started.

        Args:
            seconds: How long it may take to listen.

        Raises:
            TimeoutError: If it does not.
            OSError: If it is not there any more.
        """
        tell = getattr(self._process._popen, "tell", None)
        if tell is not None:
            tell(seconds)

    def send(self, head: bytes, body: Parcel, levels: Levels) -> None:
        """Send an idle worker a call, and before it the levels if it has others.

        Raises:
            OSError: If it is not there any more.
        """
        self._announce()
        if levels != self._levels:
            self._levels = levels
            self._pipe.send_bytes(LEVELS + pack(levels))
            send(self._pipe, b"")
        self.calls += 1
        self._pipe.send_bytes(head)
        send(self._pipe, body)

    def open(self) -> None:
        """Have it do what comes before its first call, and answer.

        Raises:
            OSError: If it is not there any more.
        """
        self._announce()
        self._pipe.send_bytes(OPEN)
        send(self._pipe, b"")

    def _announce(self) -> None:
        if self._hopper is not None:
            self._hopper.announce()

    def offer(self, head: bytes, body: Parcel, levels: Levels) -> int:
        """Leave a call where it can be taken back.

        Returns:
            The number that it then has; 0 where that is not possible.
        """
        hopper, number = self._hopper, next(_numbers)
        if hopper is None or levels != self._levels:
            return 0
        if not hopper.put(head, body, number):
            return 0
        self.calls += 1
        return number

    def take_back(self) -> list[int]:
        """Take back what was offered and has not begun; give the numbers that it had.

        One that comes through the pipe has the number 0.
        """
        numbers = [] if self._hopper is None else self._hopper.outlet.drain()
        self.calls -= len(numbers)
        return numbers

    def has_begun_all(self) -> bool:
        """Tell whether it has begun all that it was given, when it is dead."""
        return self.marks.calls in (None, self.calls)

    def receive(self, seconds: float | None = None) -> Contents:
        """Wait for what it says.

        Args:
            seconds: How long at most; None for as long as it takes.

        Raises:
            TimeoutError: If that was too long.
            EOFError: If it is not there any more.
            OSError: The same.
        """
        # The sentinel too, for a child of the worker may keep the pipe open.
        ready = self._ready(seconds)
        if not ready:
            raise TimeoutError
        if self._pipe not in ready and not self._pipe.poll():
            raise EOFError
        return receive(self._pipe)

    def has_left(self, hear: Callable[[Contents], object]) -> bool:
        """Tell whether it died while it was idle, and what its threads had to say."""
        try:
            for _ in range(_MOST_WORDS):  # its threads may never stop speaking
                ready = self._ready(0)
                if self._pipe not in ready:
                    return bool(ready)  # a child of the worker may hold the pipe
                hear(receive(self._pipe))
        except (EOFError, OSError):
            return True
        return False

    def wait(self) -> int | None:
        """Wait for it to end, and give its exit code; None if it does not."""
        self._process.join(_SECONDS_TO_LEAVE)
        exitcode: int | None = self._process.exitcode
        return exitcode

    def kill(self) -> None:
        """Kill it and, once it has a process group of its own, its children."""
        if not self.pid:
            return
        try:
            os.killpg(self.pid, signal.SIGKILL)
        except (AttributeError, ProcessLookupError, PermissionError):
            self._process.kill()

    def end(self) -> None:
        """Kill it, and wait for it to end."""
        self.kill()
        self._close()
        self._process.join(_SECONDS_TO_LEAVE)

    def let_go(self) -> None:
        """Let it end, which is idle."""
        self._close()  # an idle worker that can hear nothing more leaves
        self._process.join(_SECONDS_TO_END)
        if self._process.exitcode is None:
            logger().warning(
                "worker process %d is killed, for it does not end: a task may have "
                "left a thread that is no daemon",
                self.pid,
            )
            self.end()

    def _close(self) -> None:
        self._pipe.close()
        if self._hopper is not None:
            self._hopper.close()

    def forget(self) -> None:
        """In a forked child, close what would keep the parent's worker alive."""
        with suppress(OSError):  # its lane was just closing it
            self._pipe.close()
        if self._hopper is not None:  # this may be the very worker, which takes from it
            self._hopper.close(is_forked=not self.pid)
        finalizer = getattr(self._process._popen, "finalizer", None)
        for end in getattr(finalizer, "_args", ()):
            with suppress(OSError):
                os.close(end)


def _open_pipe(context: Any) -> tuple[Any, Any]:
    """Give both ends of a pipe that blocks, even where gevent has patched sockets."""
    if not hasattr(socket, "AF_UNIX"):
        return context.Pipe()  # type: ignore[no-any-return]
    ends = _socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    for end in ends:
        end.setblocking(True)  # whatever socket.setdefaulttimeout() was given
    near, far = (pipes.Connection(end.detach()) for end in ends)
    return near, far


def _process_class(context: Any) -> Any:
    if context.Process is getattr(contexts, "ForkServerProcess", None):
        from stepfunction.core.lanes.fork_server import ServedProcess

        return ServedProcess
    return context.Process  # which may be somebody's own


def _main_shown(context: Any, process: Any) -> Any:
    # Our fork server sees to it, and a fork has it.
    if context.get_start_method() == "fork" or type(process).__module__ == _OURS:
        return nullcontext()
    return main_module.shown_if_importable()


@contextmanager
def _standard_ones_taken() -> Iterator[None]:
    """Keep what is opened here from passing for a standard stream that was closed."""
    taken: list[int] = []
    try:
        while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
            taken.append(descriptor)
        os.close(descriptor)
        yield
    finally:
        for descriptor in taken:
            os.close(descriptor)


@contextmanager
def _interrupt_held() -> Iterator[None]:
    """Keep the terminal's interrupt from what is started here, until it ignores it."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    resource_tracker.ensure_running()  # it lets go of the signal when it starts
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _readiness(ends: Sequence[Any]) -> Callable[[float | None], Sequence[Any]]:
    """Give what waits for ends of pipes, as ``multiprocessing.connection.wait``.

    That looks all over again for what to wait for each time, which takes three times
    as long as to wait for what is there.
    """
    if not hasattr(select, "poll"):
        return partial(pipes.wait, ends)
    poll = select.poll()
    by_number = {}
    for end in ends:
        number = end if isinstance(end, int) else end.fileno()
        by_number[number] = end
        poll.register(number, select.POLLIN)

    def ready(seconds: float | None) -> Sequence[Any]:
        found = poll.poll(None if seconds is None else seconds * 1000)
        return [by_number[number] for number, _ in found]

    return ready
