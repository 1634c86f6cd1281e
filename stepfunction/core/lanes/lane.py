"""Lane: a thread of this process and the worker process that it has calls made in."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from time import perf_counter
from typing import Any

from stepfunction.core.envelope.answers import open_answer
from stepfunction.core.envelope.envelope import unpack
from stepfunction.core.envelope.parcel import Contents
from stepfunction.core.errors import WorkerCrashedError, WorkerKilledError
from stepfunction.core.lanes import messages
from stepfunction.core.lanes.backlog import Backlog, LaneCall, LaneFuture, Watcher
from stepfunction.core.lanes.deaths import crashed, killed, unready
from stepfunction.core.lanes.ends import this_process
from stepfunction.core.lanes.logs import replay
from stepfunction.core.lanes.pace import Pace
from stepfunction.core.lanes.process import WorkerProcess
from stepfunction.core.logger import logger

# How long calls that were given ahead of need wait for one that takes longer than was
# expected, before they are left to others.
_LONGEST_WAIT = 0.002
# How many workers may die of no call before one is blamed.
_MOST_LOSSES = 3


class Lane(threading.Thread):
    """Takes calls from a backlog, and replaces its worker when that dies.

    Its worker makes them one at a time. Short ones it is given before it needs them;
    these wait at it, and can be taken back. Only its thread hears the worker; any other
    may kill that or take back what waits, and what it must know for this is written
    under the lock: the worker, and the calls that it has.

    Args:
        context: Of multiprocessing, with the method to start workers by.
        backlog: The calls of its executor.
        most: How many lanes there are at most.
    """

    def __init__(self, context: Any, backlog: Backlog, most: int = 1) -> None:
        super().__init__(name="stepfunction-lane", daemon=True)
        this_process.lanes.add(self)
        self._context = context
        self._backlog = backlog
        self._most = most
        self._lock = threading.Lock()
        self._worker: WorkerProcess | None = None
        # The first has begun, or will before anything else; the others follow.
        self._calls: deque[LaneCall] = deque()
        self._is_killed = False
        self._pace = Pace()
        self._answered = 0.0

    def run(self) -> None:
        """Have calls made until there will be no more."""
        while not this_process.is_ending:
            call = self._backlog.take()
            if call is None:
                break
            if self._take_on(call):
                self._serve(call)
            else:
                self._backlog.finish()
            del call  # an idle lane keeps nothing alive
        self._let_go()
        this_process.lanes.discard(self)

    def kill(self, future: Future[Any] | None) -> bool:
        """Kill the worker if it makes the given call; None for whatever it does."""
        with self._lock:
            waiting = self._take_back()
            found = future is None or (
                bool(self._calls) and self._calls[-1].future is future
            )
            if found:
                self._kill()
        self._backlog.hand_back(waiting)
        return found

    def stop(self) -> list[LaneCall]:
        """Kill the worker, and give the calls that waited for it."""
        with self._lock:
            waiting = self._take_back()
            self._kill()
        return waiting

    def withdraw(self, future: LaneFuture) -> bool:
        """Take a call out that waits for the worker; say whether it is out."""
        with self._lock:
            waiting = self._take_back()
        others = [call for call in waiting if call.future is not future]
        self._backlog.hand_back(others)
        if len(others) == len(waiting):
            return False
        self._backlog.finish()
        return True

    def launch(self) -> WorkerProcess:
        """Start a worker process."""
        with this_process.starting:
            # Known before it starts, for if it is forked it is to forget itself.
            self._worker = worker = WorkerProcess(self._context)
            try:
                worker.start()
            except BaseException:
                self._worker = None
                raise
            with self._lock:
                if self._is_killed or this_process.is_ending:
                    worker.kill()
        return worker

    def forget(self) -> None:
        """In a forked child, close what would keep the parent's worker alive."""
        if self._worker is not None:
            self._worker.forget()

    def _kill(self) -> None:
        self._is_killed = True
        if self._worker is not None:
            self._worker.kill()

    def _take_on(self, call: LaneCall) -> bool:
        with self._lock:  # from here on kill() finds it
            if not call.future.set_running_or_notify_cancel():
                return False
            if self._is_killed:
                self._discard()
            self._calls.append(call)
            self._is_killed = False
            return True

    def _serve(self, call: LaneCall) -> None:
        """Have a call made, and those that are given to the worker meanwhile."""
        try:
            worker = self._ready_worker(call.future.label)
            self._note_beginning(call)
            if self._give(worker, call):
                self._look_ahead()
            while self._calls:
                message = worker.receive(self._patience())
                if message is None:
                    self.give_up_waiting()
                elif message[:1] == messages.PACKED:
                    self._conclude(message)
                else:
                    self._hear(message, self._calls[0])
        except BaseException as error:
            self._end_all(error)

    def _give(self, worker: WorkerProcess, call: LaneCall) -> bool:
        """Give the idle worker a call, and say whether others may wait behind it."""
        self._answered = perf_counter()
        if worker.offer(call.head, call.body, call.levels):
            return True
        worker.send(call.head, call.body, call.levels)
        return False

    def _look_ahead(self) -> None:
        """Give the worker what it will need soon."""
        most = self._pace.ahead - len(self._calls) + 1
        if most <= 0:
            return
        with self._lock:
            worker = self._worker
            if worker is None or self._is_killed:
                return
            calls = self._backlog.take_ahead(most, self._most)
            while calls and self._offer(worker, calls[0]):
                del calls[0]
        self._backlog.hand_back(calls)

    def _offer(self, worker: WorkerProcess, call: LaneCall) -> bool:
        """Give the worker a call that it does not need yet; say whether it has it."""
        if not call.future.set_running_or_notify_cancel():
            self._backlog.finish()
            return True
        call.future.counter = self
        if worker.offer(call.head, call.body, call.levels):
            self._calls.append(call)
            return True
        return False

    def _patience(self) -> float | None:
        """Give how long those who wait at the worker wait for its answer."""
        if len(self._calls) < 2:
            return None
        return max(0.0, self._answered + _LONGEST_WAIT - perf_counter())

    def give_up_waiting(self) -> None:
        """Leave to others what waits for a call that takes long."""
        with self._lock:
            waiting = self._take_back()
        self._backlog.hand_back(waiting)

    def _take_back(self) -> list[LaneCall]:
        """Take back the calls that wait for the worker, under the lock."""
        if self._worker is None or len(self._calls) < 2:
            return []
        count, others = self._worker.take_back(), len(self._calls) - 1
        # Never none, not for a moment: its thread looks without the lock.
        waiting = [self._calls.pop() for _ in range(min(count, others))]
        if count > others:  # not even the first had begun, which is to stay
            first = self._calls[0]
            self._worker.offer(first.head, first.body, first.levels)
        for call in self._calls:
            call.future.counter = None
        return waiting[::-1]

    def _conclude(self, answer: Contents) -> None:
        """Take the answer of a call, and let the next begin."""
        call = self._calls[0]
        self._answered = ended = perf_counter()
        try:
            is_result, payload, seconds = open_answer(call.future.label, answer)
            call.future.began = ended - seconds
            self._pace.learn(seconds)
        except BaseException as error:
            is_result, payload = False, BaseException.with_traceback(error, None)
        following = None
        with self._lock:
            self._calls.popleft()
            if self._calls:
                following = self._calls[0]
                following.future.counter = None
            elif self._is_killed:  # too late for this call, but not for its process
                self._discard()
        if following is not None:
            self._note_beginning(following)
            self._look_ahead()
        self._end(call, is_result, payload)
        del payload  # its traceback would keep this frame, and so the call, alive

    def _note_beginning(self, call: LaneCall) -> None:
        call.future.began = perf_counter()
        if call.future.watcher is not None:
            call.future.watcher.prepare()

    def _end(self, call: LaneCall, is_result: bool, payload: Any) -> None:
        self._backlog.finish()
        call.body = b""  # gone before whoever waits for the result goes on
        if this_process.is_ending:
            return  # whoever waits for it ends too, and need not hear of it
        if is_result:
            call.future.set_result(payload)
        else:
            call.future.set_exception(payload)
        del payload

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
        return worker

    def _await_hello(self, worker: WorkerProcess, label: str) -> None:
        try:
            while (message := worker.receive()) != messages.HELLO:
                if message is not None:
                    self._hear(message)
            worker.is_ready = True
            return
        except (EOFError, OSError):
            exitcode = worker.wait()
            with self._lock:
                death = self._died_of(label, worker, exitcode)
                self._discard()
        if isinstance(death, WorkerKilledError):
            raise death
        raise unready(death.exitcode)

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

    def _end_all(self, error: BaseException) -> None:
        """End the call that has failed with the worker; others have the rest made."""
        worker, exitcode = self._worker, None
        has_died = isinstance(error, EOFError | OSError) and worker is not None
        if has_died and worker is not None:
            exitcode = worker.wait()
        with self._lock:
            rest = 0 if worker is None else worker.take_back()
            begun, self._calls = self._calls, deque()
            waiting = [begun.pop() for _ in range(min(rest, len(begun)))][::-1]
            noted = None if worker is None else worker.noted(bool(begun))
            if not begun and self._is_at_its_end(waiting[0]):
                begun.append(waiting.pop(0))
            failures = [error] * len(begun)
            if worker is not None and has_died:
                failures = [
                    self._died_of(call.future.label, worker, exitcode) for call in begun
                ]
            self._discard()  # its answer must not pass for that of the next call
        self._backlog.hand_back(waiting)
        for call, failure in zip(begun, failures):
            if has_died and call.future.watcher is not None:
                call.future.watcher.note(noted)
            self._end(call, False, BaseException.with_traceback(failure, None))

    def _is_at_its_end(self, call: LaneCall) -> bool:
        """Tell whether a call is not to be made though it has not begun."""
        call.losses += 1
        return self._is_killed or call.losses >= _MOST_LOSSES

    def _died_of(
        self, label: str, worker: WorkerProcess, exitcode: int | None
    ) -> WorkerCrashedError:
        describe = killed if self._is_killed else crashed
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
