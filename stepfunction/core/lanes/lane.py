"""Lane: a thread of this process and the worker process that it has calls made in."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from time import perf_counter
from typing import Any

from stepfunction.core.envelope.answers import open_answer
from stepfunction.core.envelope.envelope import unpack
from stepfunction.core.envelope.parcel import Contents
from stepfunction.core.errors import (
    TransferError,
    WorkerCrashedError,
    WorkerKilledError,
    WorkerStartError,
)
from stepfunction.core.lanes import messages
from stepfunction.core.lanes.backlog import (
    Backlog,
    LaneCall,
    LaneFuture,
    Watcher,
    begin,
    cancel,
    give,
)
from stepfunction.core.lanes.deaths import (
    crashed,
    init_failed,
    killed,
    refused,
    silent,
    unready,
)
from stepfunction.core.lanes.ends import this_process
from stepfunction.core.lanes.logs import replay
from stepfunction.core.lanes.opening import Opening
from stepfunction.core.lanes.process import WorkerProcess
from stepfunction.core.logger import logger

# Before a worker is ready it imports the main script, which may be long in coming.
_SECONDS_TO_HELLO = 300.0


class Lane(threading.Thread):
    """Takes calls from a backlog, one at a time, and replaces its worker when it dies.

    Only its thread speaks with the worker; any other thread may kill that, and what it
    must know for this is written under the lock: the worker, and the call that it has.

    Args:
        context: Of multiprocessing, with the method to start workers by.
        backlog: The calls of its executor.
        opening: What each worker does before its first call; None for nothing.
        most_calls: After how many calls a worker is replaced; None for never.

    Attributes:
        has_left: Whether it has left its calls to others, for it has no worker.
    """

    def __init__(
        self,
        context: Any,
        backlog: Backlog,
        opening: Opening | None = None,
        most_calls: int | None = None,
    ) -> None:
        super().__init__(name="stepfunction-lane", daemon=True)
        this_process.lanes.add(self)
        self._context = context
        self._backlog = backlog
        self._opening = opening
        self._most_calls = most_calls
        self._lock = threading.RLock()  # a signal handler may kill as well
        self._worker: WorkerProcess | None = None
        self._future: LaneFuture | None = None
        self._is_killed = False
        self._claim = [None]
        self.has_left = False

    def claim(self) -> bool:
        """Tell whether its thread has not begun, which then does nothing.

        An interrupt of whoever starts it leaves that open.
        """
        try:
            self._claim.pop()
        except IndexError:
            return False
        return True

    @property
    def is_idle(self) -> bool:
        """Whether there is nothing to do for any lane of its executor."""
        return self._backlog.is_idle

    def dismiss_worker(self) -> None:
        """Let its worker leave, which is idle, as all of its executor."""
        self._backlog.end()

    def dismiss(self) -> None:
        """Let go of it, where its thread never begins."""
        with self._lock:
            self._discard()
        this_process.lanes.discard(self)

    def run(self) -> None:
        """Have calls made until there will be no more."""
        if not self.claim():
            return
        while not this_process.is_ending and not self.has_left:
            call = self._backlog.take()
            if call is None:
                break
            if self._take_on(call.future):
                self._serve(call)
            else:
                self._backlog.finish()
            del call  # an idle lane keeps nothing alive
        if this_process.is_ending:
            # A handler at the exit may wait for them.
            for waiting in self._backlog.take_all():
                if waiting.future.watcher is None:
                    cancel([waiting])
        self._let_go()
        this_process.lanes.discard(self)

    def kill(self, future: Future[Any] | None) -> bool:
        """Kill the worker if it runs the given call; None for whatever it does."""
        with self._lock:
            if future is not None and self._future is not future:
                return False
            self._is_killed = True
            if self._worker is not None:
                self._worker.kill()
            return True

    def launch(self) -> WorkerProcess:
        """Start a worker process.

        Raises:
            WorkerStartError: If that is not possible.
        """
        with this_process.starting:
            worker: WorkerProcess | None = None
            try:
                # Known before it starts, for if it is forked it is to forget itself.
                self._worker = worker = WorkerProcess(self._context, self._opening)
                worker.start()
            except BaseException as error:
                self._worker = worker = None
                if not isinstance(error, Exception):
                    raise
                raise refused(error) from error
            with self._lock:
                if self._is_killed or this_process.is_ending:
                    worker.kill()
        return worker

    def forget(self) -> None:
        """In a forked child, close what would keep the parent's worker alive."""
        if self._worker is not None:
            self._worker.forget()

    def _take_on(self, future: LaneFuture) -> bool:
        with self._lock:  # from here on kill() finds it
            if not begin(future):
                return False
            if self._is_killed:
                self._discard()
            self._future, self._is_killed = future, False
            return True

    def _serve(self, call: LaneCall) -> None:
        future = call.future
        try:
            worker = self._ready_worker(future.label)
            future.began = perf_counter()
            if future.watcher is not None:
                future.watcher.prepare()
            answer = self._exchange(worker, call)
            ended = perf_counter()
            is_result, payload, seconds = open_answer(future.label, answer)
            future.began = ended - seconds
        except BaseException as error:
            if type(error) is WorkerStartError and self._leaves(call, error):
                return
            is_result, payload = False, BaseException.with_traceback(error, None)
        with self._lock:
            self._future = None
            if self._is_killed:  # too late for this call, but not for its process
                self._discard()
        self._backlog.finish()
        call.body = b""  # gone before whoever waits for the result goes on
        if this_process.is_ending and future.watcher is not None:
            return  # the execution ends too, and need not hear of it
        give(future, is_result, payload)
        del payload  # its traceback would keep this frame, and so the call, alive
        worker_now = self._worker
        if worker_now is not None and worker_now.calls == self._most_calls:
            self._let_go()

    def _leaves(self, call: LaneCall, error: WorkerStartError) -> bool:
        """Leave a call to other lanes, if there are any, and be none any more."""
        with self._lock:
            if self._is_killed or this_process.is_ending:
                return False
            self.has_left = self._backlog.leave_to_others(call)
            if self.has_left:
                self._future = None
        if self.has_left:
            text = "there are fewer worker processes than asked for: %s"
            logger().warning(text, error)
        return self.has_left

    def _ready_worker(self, label: str) -> WorkerProcess:
        worker = self._worker
        if worker is not None and worker.is_ready and worker.has_left(self._hear):
            with self._lock:
                self._discard()
            worker = None
        if worker is None:
            worker = self.launch()
        if not worker.is_ready:
            self._await_hello(worker, label)
            if self._opening is not None:
                self._await_opening(worker, label, self._opening)
        return worker

    def _await_hello(self, worker: WorkerProcess, label: str) -> None:
        end = perf_counter() + _SECONDS_TO_HELLO
        try:
            worker.tell(_SECONDS_TO_HELLO)
            while True:
                message = worker.receive(max(0.0, end - perf_counter()))
                if message == messages.HELLO:
                    break
                self._hear(message)
            worker.is_ready = True
            return
        except TimeoutError:
            with self._lock:
                self._discard()
            raise silent(_SECONDS_TO_HELLO) from None
        except (EOFError, OSError):
            death = self._death_of(worker, label)
        if isinstance(death, WorkerKilledError):
            raise death
        raise unready(death.exitcode)

    def _await_opening(
        self, worker: WorkerProcess, label: str, opening: Opening
    ) -> None:
        """Have the worker do what comes before its first call.

        Raises:
            WorkerInitError: If that fails; nothing more is to run on these lanes then.
        """
        error: BaseException
        try:
            worker.open()
            while (message := worker.receive())[:1] != messages.PACKED:
                self._hear(message)
            is_done, error, _ = open_answer(opening.label, message)
            if is_done:
                return
            self._let_go()
        except TransferError as unreadable:
            error = unreadable
            self._let_go()
        except (EOFError, OSError):
            error = self._death_of(worker, label if self._is_killed else opening.label)
            if isinstance(error, WorkerKilledError):
                raise error from None
        failure = partial(init_failed, opening.label, error)
        self._backlog.break_off(failure)
        raise failure()

    def _exchange(self, worker: WorkerProcess, call: LaneCall) -> Contents:
        """Send a call, and give its answer."""
        try:
            worker.send(call.head, call.body, call.levels)
            while (message := worker.receive())[:1] != messages.PACKED:
                self._hear(message, call)
            return message
        except (EOFError, OSError):  # nobody is at the other end any more
            death = self._death_of(worker, call.future.label)
            if call.future.watcher is not None:
                calls, noted = worker.marks.calls, worker.marks.noted
                if calls and calls != worker.calls:
                    noted = 0  # by the call before: this one never began
                call.future.watcher.note(noted)
            raise death from None
        except BaseException:
            with self._lock:
                self._discard()  # its answer must not pass for that of the next call
            raise

    def _hear(self, message: Contents, call: LaneCall | None = None) -> None:
        """Take what is no answer, of a call or of a thread that one left behind."""
        kind, contents = message[:1], message[1:]
        if kind == messages.LOG and call is None:
            replay(contents)
        elif call is None:
            return
        elif kind == messages.LOG:  # as if it were logged where the call comes from
            call.variables.run(replay, contents)
        elif call.future.watcher is not None:
            _TELL[kind](call.future.watcher, contents, call.future.label)

    def _death_of(self, worker: WorkerProcess, label: str) -> WorkerCrashedError:
        describe = killed if self._is_killed else crashed
        exitcode = worker.wait()
        with self._lock:
            self._discard()
        return describe(label, worker.pid, exitcode)

    def _discard(self) -> None:
        """End the worker, under the lock: nobody may kill its number after that."""
        worker, self._worker = self._worker, None
        if worker is not None:
            worker.end()

    def _let_go(self) -> None:
        worker = self._worker
        if worker is not None:
            worker.has_left(self._hear)
            worker.let_go()
            with self._lock:
                self._worker = None  # it holds file descriptors


def _pass_on(watcher: Watcher, event: bytes, label: str) -> None:
    try:
        watcher.pass_on(unpack(event))
    except Exception:  # as of an error's class that only the worker has
        text = "an event of %s cannot be unpickled here"
        logger().warning(text, label, exc_info=True)


_TELL: dict[bytes, Callable[[Watcher, bytes, str], None]] = {
    messages.BEGAN: lambda watcher, *_: watcher.start(),
    messages.BEAT: lambda watcher, *_: watcher.live(),
    messages.PART: lambda watcher, part, _: watcher.report(unpack(part)),
    messages.EVENT: _pass_on,
}
