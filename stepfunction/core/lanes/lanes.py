"""ProcessLanes: worker processes that can be lost one at a time.

::

    submit() ──► queue ──► lane thread ══ pipe ══► worker process
                   │       lane thread ══ pipe ══► worker process
    future ◄───────┴──────────┘

Each lane is a thread of this process and a worker process of its own, which is
given one task at a time. So a worker that dies takes its own task with it and
nothing else, it is known which task that was, and stopping a task is killing its
worker. What crosses the pipe is packed by ``envelope``.
"""

from __future__ import annotations

import atexit
import multiprocessing
import os
import select
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future
from contextlib import contextmanager, nullcontext, suppress
from contextvars import copy_context
from functools import partial
from multiprocessing import connection as pipes
from multiprocessing import process as processes
from multiprocessing import resource_tracker
from queue import Empty, SimpleQueue
from time import perf_counter
from typing import Any, Protocol
from weakref import WeakSet, finalize

from stepfunction.core.envelope import main_module
from stepfunction.core.envelope.answers import open_answer
from stepfunction.core.envelope.envelope import pack, unpack
from stepfunction.core.envelope.parcel import Contents, Parcel, receive, send
from stepfunction.core.envelope.refusals import pack_call
from stepfunction.core.errors import (
    WorkerCrashedError,
    WorkerKilledError,
    WorkerStartError,
)
from stepfunction.core.lanes.deaths import crashed, killed
from stepfunction.core.lanes.logs import Levels, current_levels, replay
from stepfunction.core.lanes.worker import (
    BEAT,
    BEGAN,
    EVENT,
    HELLO,
    LEVELS,
    LOG,
    PART,
    serve_lane,
)
from stepfunction.core.logger import logger

_SECONDS_TO_END = 1.0  # for an idle worker, once it has been let go
_SECONDS_TO_LEAVE = 5.0  # for one that has been killed
_MOST_ASIDES = 300  # more than a full pipe holds
_WORKER_NAME = "stepfunction-worker"
NO_GUARD = 77
_NO_GUARD_TEXT = (
    "a worker process imports the script that started it, and this script then starts "
    "its workflow again; put what runs the workflow under the guard\n\n"
    '    if __name__ == "__main__":\n'
    "        main()"
)


class Watcher(Protocol):
    """Who wants to know when a call begins, and each time it says that it lives."""

    def prepare(self) -> None:
        """Take note that a worker was given the call, and may have to import for it."""

    def start(self) -> None:
        """Take note that the call begins now."""

    def live(self) -> None:
        """Take note of a sign of life."""

    def pass_on(self, event: Any) -> None:
        """Take note of what is told of an execution that is nested in the call."""

    def report(self, part: Any) -> None:
        """Take note of a part of what comes of the call."""


class LaneFuture(Future[Any]):
    """The future of a call on a lane.

    Attributes:
        label: What the call is, for messages.
        began: When a worker was given the call, as ``perf_counter``; 0.0 before.
    """

    def __init__(self, label: str, watcher: Watcher | None = None) -> None:
        super().__init__()
        self.label = label
        self.watcher = watcher
        self.began = 0.0


class ProcessLanes(Executor):
    """An executor whose worker processes each run one call at a time.

    A worker that dies fails only the call that it was running, with
    ``WorkerCrashedError``; the others go on and the worker is replaced. Workers are
    started as they are needed and stay warm until ``shutdown()``. Any number of
    threads may submit.

    Args:
        max_workers: How many processes run at most; None for one for each usable
            CPU.
        start_method: ``"forkserver"`` or ``"spawn"``, or ``"fork"`` where no other
            threads run; None for forkserver where there is one, else spawn.

    Raises:
        ValueError: If ``max_workers`` is below 1 or the start method is unknown.

    A long-running program keeps one open::

        with ProcessLanes(max_workers=4) as lanes:
            workflow.execute(order, executor=lanes)
    """

    def __init__(
        self, max_workers: int | None = None, *, start_method: str | None = None
    ) -> None:
        if max_workers is not None and max_workers < 1:
            raise ValueError(f"max_workers is {max_workers}; give 1 or more, or None")
        methods = multiprocessing.get_all_start_methods()
        if start_method is None:
            start_method = "forkserver" if "forkserver" in methods else "spawn"
        if start_method not in methods:
            raise ValueError(f"start_method is one of {methods}, not {start_method!r}")
        self.max_workers = max_workers or usable_cpus()
        self._context: Any = multiprocessing.get_context(start_method)
        self._forks = start_method == "fork"
        self._begin_empty()
        _executors.add(self)

    def _begin_empty(self) -> None:
        self._lock = threading.Lock()
        self._calls = _Calls()
        self._lanes: list[_Lane] = []
        self._is_shut = False
        # An executor that nobody holds any more lets its workers go.
        self._dismissal = finalize(self, _dismiss, self._calls, self._lanes)
        self._dismissal.atexit = False

    def __repr__(self) -> str:
        state = ", shut down" if self._is_shut else ""
        return f"<ProcessLanes: {len(self._lanes)} of {self.max_workers} lanes{state}>"

    def submit(
        self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any
    ) -> Future[Any]:
        """Schedule a call in a worker process.

        Args:
            fn: A function that can be imported by its name, with its arguments.

        Returns:
            The future of its result.

        Raises:
            TransferError: If the function or an argument cannot be pickled.
            WorkerStartError: If no worker process can be started here.
            RuntimeError: After ``shutdown()``.
        """
        label = getattr(fn, "__qualname__", repr(fn))
        head = pack_call(label, (fn, args, kwargs))
        return self.send(label, head, b"")

    def send(
        self,
        label: str,
        head: bytes,
        body: Parcel,
        watcher: Watcher | None = None,
        levels: Levels | None = None,
    ) -> LaneFuture:
        """Schedule a packed call ``(function, args, kwargs)``.

        Args:
            label: What the call is, for messages.
            head: The packed call.
            body: A packed value that goes before ``args``, packed once for many
                calls; empty for none.
            watcher: Who is told when a worker begins, and of its heartbeats.
            levels: The levels to log at there; None for those of now.

        Returns:
            The future of its result.

        Raises:
            WorkerStartError: If no worker process can be started here.
            RuntimeError: After ``shutdown()``.
        """
        refuse_where_processes_cannot_start()
        if self._forks:
            _refuse_beside_threads()
        future = LaneFuture(label, watcher)
        with self._lock:
            if self._is_shut:
                raise RuntimeError(
                    "cannot submit to ProcessLanes after shutdown(); "
                    "keep it open as long as it is used"
                )
            levels = levels or current_levels()
            unfinished = self._calls.put(_Work(future, head, body, levels))
            if len(self._lanes) < min(self.max_workers, unfinished):
                lane = _Lane(self._context, self._calls)
                if self._forks:  # here, for the lane would be a thread beside this
                    lane.launch()
                self._lanes.append(lane)  # first, for an interrupt may end start()
                lane.start()
        return future

    def kill(self, future: Future[Any]) -> bool:
        """Stop a call: one that waits is cancelled, one that runs loses its worker.

        The future of a killed call raises ``WorkerKilledError``.

        Args:
            future: What ``submit()`` gave.

        Returns:
            Whether there was anything to stop: False if the call has ended.
        """
        return future.cancel() or any(lane.kill(future) for lane in self._lanes)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Let the workers go once they have finished what was submitted.

        Args:
            wait: Whether to wait until they have gone.
            cancel_futures: Whether calls that have not begun are cancelled.
        """
        with self._lock:
            self._is_shut = True
            waiting = self._calls.take_all() if cancel_futures else []
            self._dismissal()
        for work in waiting:  # not under the lock, for callbacks may do anything
            work.future.cancel()
        if wait:
            for lane in self._lanes:
                with suppress(RuntimeError):  # one that never began
                    lane.join()

    def __exit__(self, *raised: Any) -> None:
        if raised[0] is not None and not issubclass(raised[0], Exception):
            self.kill_all()  # Ctrl-C waits for nothing
        super().__exit__(*raised)

    def kill_all(self) -> None:
        """Stop every call that runs, and cancel every call that waits."""
        for work in self._calls.take_all():
            work.future.cancel()
        for lane in self._lanes:
            lane.kill(None)


class _Calls:
    """The calls of one executor: those that wait, and how many are not finished."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._queue: SimpleQueue[_Work | None] = SimpleQueue()
        self._unfinished = 0

    def put(self, work: _Work) -> int:
        """Add a call, and give how many are not finished."""
        with self._lock:
            self._unfinished += 1
            self._queue.put(work)
            return self._unfinished

    def take(self) -> _Work | None:
        """Wait for a call; None says that there will be no more."""
        return self._queue.get()

    def finish(self) -> None:
        """Count a call as finished, before its result is known to anybody."""
        with self._lock:
            self._unfinished -= 1

    def end(self, lanes: int) -> None:
        """Say that there will be no more, to so many lanes."""
        for _ in range(lanes):
            self._queue.put(None)

    def take_all(self) -> list[_Work]:
        """Take all the calls that wait."""
        found = []
        try:
            while (work := self._queue.get_nowait()) is not None:
                found.append(work)
                self.finish()
            self._queue.put(None)  # it was for a lane
        except Empty:
            pass
        return found


def _dismiss(calls: _Calls, lanes: list[_Lane]) -> None:
    calls.end(len(lanes))


class _Work:
    __slots__ = ("future", "head", "body", "levels", "variables")

    def __init__(
        self, future: LaneFuture, head: bytes, body: Parcel, levels: Levels
    ) -> None:
        self.future = future
        self.head = head
        self.body = body
        self.levels = levels
        self.variables = copy_context()


def _nothing(seconds: float | None) -> Sequence[Any]:
    return ()


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


class _Lane(threading.Thread):
    """A thread and its worker process. Only the thread replaces the process."""

    def __init__(self, context: Any, calls: _Calls) -> None:
        super().__init__(name="stepfunction-lane", daemon=True)
        _lanes.add(self)
        self._context = context
        self._calls = calls
        self._lock = threading.Lock()
        self._process: Any = None
        self._pipe: Any = None
        self._ready: Callable[[float | None], Sequence[Any]] = _nothing
        self._is_greeted = False  # whether the worker has said that it is ready
        self._levels: Levels | None = None  # as the worker knows them
        self._future: LaneFuture | None = None
        self._is_killed = False

    def run(self) -> None:
        while not _is_ending and (work := self._calls.take()) is not None:
            if self._take_on(work.future):
                self._serve(work)
            else:
                self._calls.finish()
            del work  # an idle lane keeps nothing alive
        self._let_go()
        _lanes.discard(self)

    def _take_on(self, future: LaneFuture) -> bool:
        with self._lock:  # from here on kill() finds it
            if not future.set_running_or_notify_cancel():
                return False
            if self._is_killed:
                self._discard()
            self._future, self._is_killed = future, False
            return True

    def _serve(self, work: _Work) -> None:
        future = work.future
        try:
            self._be_ready(future.label)
            future.began = perf_counter()
            if future.watcher is not None:
                future.watcher.prepare()
            answer = self._exchange(work)
            ended = perf_counter()
            is_result, payload, seconds = open_answer(future.label, answer)
            future.began = ended - seconds
        except BaseException as error:
            is_result, payload = False, error.with_traceback(None)
        with self._lock:
            self._future = None
            if self._is_killed:  # too late for this call, but not for its process
                self._discard()
        self._calls.finish()
        work.body = b""  # gone before whoever waits for the result goes on
        if _is_ending:
            return  # whoever waits for it ends too, and need not hear of it
        if is_result:
            future.set_result(payload)
        else:
            future.set_exception(payload)
        del payload  # its traceback would keep this frame, and so the work, alive

    def _exchange(self, work: _Work) -> Contents:
        try:
            if work.levels != self._levels:
                self._levels = work.levels
                self._pipe.send_bytes(LEVELS + pack(work.levels))
            self._pipe.send_bytes(work.head)
            send(self._pipe, work.body)
            while self._is_aside(message := self._receive(), work):
                pass
            return message
        except (EOFError, OSError):  # nobody is at the other end any more
            raise self._crash(work.future.label) from None
        except BaseException:
            with self._lock:
                self._discard()  # its answer must not pass for that of the next call
            raise

    def _receive(self) -> Contents:
        # The sentinel too, for a child of the worker may keep the pipe open.
        if self._pipe not in self._ready(None) and not self._pipe.poll():
            raise EOFError
        return receive(self._pipe)

    def _is_aside(self, message: Contents, work: _Work | None = None) -> bool:
        """Take what is no answer: a heartbeat, an event, a log record."""
        watcher = None if work is None else work.future.watcher
        if message == BEGAN:
            if watcher is not None:
                watcher.start()
            return True
        if message == BEAT:
            if watcher is not None:
                watcher.live()
            return True
        if message[: len(PART)] == PART:
            if watcher is not None:
                watcher.report(unpack(message[len(PART) :]))
            return True
        if message[: len(EVENT)] == EVENT:
            if watcher is not None:
                self._pass_on(message[len(EVENT) :], watcher)
            return True
        if message[: len(LOG)] == LOG:
            if work is None:
                replay(message[len(LOG) :])
            else:  # as if it were logged where the call comes from
                work.variables.run(replay, message[len(LOG) :])
            return True
        return False

    def _pass_on(self, event: Contents, watcher: Watcher) -> None:
        try:
            watcher.pass_on(unpack(event))
        except Exception:  # as of an error's class that only the worker has
            text = "an event of the worker process %d cannot be unpickled here"
            logger().warning(text, self._process.pid, exc_info=True)

    def _crash(self, label: str) -> WorkerCrashedError:
        process, is_killed = self._process, self._is_killed
        process.join(_SECONDS_TO_LEAVE)
        exitcode = process.exitcode
        with self._lock:
            self._discard()
        describe = killed if is_killed else crashed
        return describe(label, process.pid, exitcode)

    def _be_ready(self, label: str) -> None:
        if self._is_greeted and self._has_left():
            with self._lock:
                self._discard()
        if self._process is None:
            self.launch()
        if not self._is_greeted:
            self._greet(label)

    def _has_left(self) -> bool:
        """Take what an idle worker's threads had to say, and tell whether it died."""
        try:
            for _ in range(_MOST_ASIDES):  # its threads may never stop speaking
                ready = self._ready(0)
                if self._pipe not in ready:
                    return bool(ready)  # a child of the worker may hold the pipe
                self._is_aside(receive(self._pipe))
        except (EOFError, OSError):
            return True
        return False

    def launch(self) -> None:
        """Start a worker process."""
        with _starting:
            self._pipe, far_end = self._context.Pipe()
            self._levels = current_levels()
            process = self._process_class()(
                target=serve_lane,
                args=(far_end, dict(os.environ), self._levels),
                name=_WORKER_NAME,
            )
            with _interrupt_held(), self._main_shown():
                process.start()
            # Nobody but this lane polls it or waits for it: not whoever starts another,
            # and not a child of multiprocessing, which runs no atexit when it ends.
            processes._children.discard(process)  # type: ignore[attr-defined]
            far_end.close()
            with self._lock:
                self._process = process
                self._ready = _readiness([self._pipe, process.sentinel])
                if self._is_killed or _is_ending:
                    _kill_group(process)

    def _main_shown(self) -> Any:
        if self._context.get_start_method() != "spawn":
            return nullcontext()  # our fork server sees to it, and a fork has it
        return main_module.shown_if_importable()

    def _process_class(self) -> Any:
        if self._context.get_start_method() != "forkserver":
            return self._context.Process
        from stepfunction.core.lanes.fork_server import ServedProcess

        return ServedProcess

    def _greet(self, label: str) -> None:
        """Wait until the worker is ready."""
        try:
            while (message := self._receive()) != HELLO:
                self._is_aside(message)
            self._is_greeted = True
            return
        except (EOFError, OSError):
            crash = self._crash(label)
        if isinstance(crash, WorkerKilledError):
            raise crash
        if crash.exitcode == NO_GUARD:
            raise WorkerStartError(_NO_GUARD_TEXT)
        raise WorkerStartError(
            f"a worker process ended with exit code {crash.exitcode} before it was "
            "ready; what it said of that is above"
        )

    def kill(self, future: Future[Any] | None) -> bool:
        """Kill the worker if it runs the given call; None for whatever it does."""
        with self._lock:
            if future is not None and self._future is not future:
                return False
            self._is_killed = True
            if self._process is not None:
                _kill_group(self._process)
            return True

    def forget(self) -> None:
        """In a forked child, close what would keep the parent's worker alive."""
        if self._pipe is not None:
            with suppress(OSError):  # its thread was just closing it
                self._pipe.close()
        if self._process is not None:
            finalizer = getattr(self._process._popen, "finalizer", None)
            for end in getattr(finalizer, "_args", ()):
                with suppress(OSError):
                    os.close(end)

    def _discard(self) -> None:
        process, pipe = self._process, self._pipe
        self._process = self._pipe = None
        self._is_greeted = False
        if process is not None:
            _kill_group(process)
            pipe.close()
            process.join(_SECONDS_TO_LEAVE)

    def _let_go(self) -> None:
        process = self._process
        if process is not None:
            self._has_left()
            self._pipe.close()  # an idle worker that can hear nothing more leaves
            process.join(_SECONDS_TO_END)
            if process.exitcode is None:
                logger().warning(
                    "worker process %d is killed, for it does not end: a task may have "
                    "left a thread that is no daemon",
                    process.pid,
                )
                _kill_group(process)
                process.join(_SECONDS_TO_LEAVE)
            with self._lock:
                self._process = self._pipe = None  # they hold file descriptors


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


def _kill_group(process: Any) -> None:
    """Kill a worker and, once it has a process group of its own, its children."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except (AttributeError, ProcessLookupError, PermissionError):
        process.kill()


def usable_cpus() -> int:
    """Give the number of CPUs that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def refuse_where_processes_cannot_start() -> None:
    """Raise where starting a worker process would only break.

    Raises:
        WorkerStartError: In a worker that is still importing the main script, and
            in a daemonic process.
    """
    current = processes.current_process()
    if getattr(current, "_inheriting", False):
        if current.name == _WORKER_NAME:
            os._exit(NO_GUARD)  # whoever started this worker will say it
        raise WorkerStartError(_NO_GUARD_TEXT)
    if current.daemon:
        raise WorkerStartError(
            "this process is daemonic (a worker of Celery or multiprocessing.Pool), so "
            "it may not start others; use executor='thread', or workers that are not "
            "daemonic (concurrent.futures, Celery with --pool threads or solo)"
        )


def _refuse_beside_threads() -> None:
    """Raise where a fork could copy a lock that another thread holds just then.

    Raises:
        WorkerStartError: If a thread other than this one and the lanes runs.
    """
    others = {*threading.enumerate()} - {threading.current_thread(), *_lanes}
    if others:
        names = ", ".join(sorted(repr(thread.name) for thread in others))
        raise WorkerStartError(
            f"start_method='fork' copies this process while other threads run in it "
            f"({names}); a lock that one of them holds stays locked in the copy for "
            "ever. Use 'forkserver' or 'spawn'"
        )


# --- the ends of this process ---------------------------------------------------

_executors: WeakSet[ProcessLanes] = WeakSet()
_lanes: set[_Lane] = set()
_is_ending = False
# Held while a worker is started, and by whoever forks this process: a child that is
# forked half way through would find locks and imports that nobody finishes.
_starting = threading.RLock()


def _kill_at_exit() -> None:
    """End every worker before multiprocessing would wait for the busy ones."""
    global _is_ending
    _is_ending = True
    # One that is just being started would be left with half of what it is told.
    _starting.acquire(timeout=_SECONDS_TO_LEAVE)
    for lane in list(_lanes):
        lane.kill(None)


def _begin_anew() -> None:
    """In a forked child, let every executor begin again with workers of its own."""
    global _starting
    _starting = threading.RLock()
    for lane in list(_lanes):
        lane.forget()
    _lanes.clear()
    for executor in list(_executors):
        executor._dismissal.detach()
        executor._begin_empty()


atexit.register(_kill_at_exit)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=lambda: _starting.acquire(),
        after_in_parent=lambda: _starting.release(),
        after_in_child=_begin_anew,
    )
