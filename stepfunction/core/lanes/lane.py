"""Lane: a thread of this process and the worker process that it has calls made in."""

from __future__ import annotations

import threading
from collections import deque
from concurrent.futures import Future
from functools import partial
from typing import Any

from stepfunction.core.clock import perf_counter
from stepfunction.core.envelope.answers import open_answer
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
from stepfunction.core.lanes.hearing import hear
from stepfunction.core.lanes.opening import Opening
from stepfunction.core.lanes.pace import Pace
from stepfunction.core.lanes.process import WorkerProcess
from stepfunction.core.logger import logger

# Before a worker is ready it imports the main script, which may be long in coming.
_SECONDS_TO_HELLO = 300.0
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
        opening: What each worker does before its first call; None for nothing.
        most_calls: After how many calls a worker is replaced; None for never.

    Attributes:
        has_left: Whether it has left for good, for there are others in its place.
    """

    def __init__(
        self,
        context: Any,
        backlog: Backlog,
        most: int,
        opening: Opening | None = None,
        most_calls: int | None = None,
    ) -> None:
        super().__init__(name="stepfunction-lane", daemon=True)
        this_process.lanes.add(self)
        self._context = context
        self._backlog = backlog
        self._most = most
        self._opening = opening
        self._most_calls = most_calls
        self._lock = threading.RLock()  # a signal handler may kill as well
        self._worker: WorkerProcess | None = None
        # The first has begun, or will before anything else; the others follow.
        self._calls: deque[LaneCall] = deque()
        self._is_killed = False
        self._pace = Pace()
        self._answered = 0.0
        self._claim = [None]
        self.has_left = False
        self._is_spent = False  # it had no worker

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
        while not this_process.is_ending:
            if self._is_spent:
                self._is_spent = False
                self.has_left = not self._backlog.rest(self._most)
                if self.has_left:
                    break
            call = self._backlog.take()
            if call is None:
                break
            is_taken = self._take_on(call)
            del call  # a lane keeps nothing alive that has ended
            if is_taken:
                self._serve()
            else:
                self._backlog.finish()
        if this_process.is_ending:
            # A handler at the exit may wait for them.
            for waiting in self._backlog.take_all():
                if waiting.future.watcher is None:
                    cancel([waiting])
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
        for call in waiting:
            call.future.wait_again()
            self._backlog.finish()
        return waiting

    def take_back(self) -> None:
        """Leave to others what waits for the worker."""
        with self._lock:
            waiting = self._take_back()
        self._backlog.hand_back(waiting)

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

    def _kill(self) -> None:
        self._is_killed = True
        if self._worker is not None:
            self._worker.kill()

    def _take_on(self, call: LaneCall) -> bool:
        with self._lock:  # from here on kill() finds it
            if not begin(call.future):
                return False
            if self._is_killed:
                self._discard()
            self._calls.append(call)
            self._is_killed = False
            return True

    def _serve(self) -> None:
        """Have a call made, and those that are given to the worker meanwhile."""
        try:
            worker = self._ready_worker(self._calls[0].future.label)
            self._note_beginning(self._calls[0])
            if self._give(worker, self._calls[0]):
                self._look_ahead()
            while self._calls:
                try:
                    message = worker.receive(self._patience())
                except TimeoutError:
                    self.take_back()
                    continue
                if message[:1] == messages.PACKED:
                    self._conclude(message)
                else:
                    hear(message, self._present())
        except BaseException as error:
            if type(error) is WorkerStartError and self._leaves(error):
                return
            self._end_all(error)
        if self._worker is not None and self._worker.calls == self._most_calls:
            self._let_go()

    def _give(self, worker: WorkerProcess, call: LaneCall) -> bool:
        """Give the idle worker a call, and say whether others may wait behind it."""
        self._answered = perf_counter()
        call.number = worker.offer(call.head, call.body, call.levels)
        if call.number:
            return True
        worker.send(call.head, call.body, call.levels)
        return False

    def _look_ahead(self) -> None:
        """Give the worker what it will need soon."""
        if not self._backlog.has_more:
            return
        most = self._pace.ahead - len(self._calls) + 1
        with self._lock:
            worker = self._worker
            if worker is None or self._is_killed:
                return
            if self._most_calls is not None:
                most = min(most, self._most_calls - worker.calls)
            if most <= 0:
                return
            calls = self._backlog.take_ahead(most, self._most)
            while calls and self._offer(worker, calls[0]):
                del calls[0]
        self._backlog.hand_back(calls)

    def _offer(self, worker: WorkerProcess, call: LaneCall) -> bool:
        """Give the worker a call that it does not need yet; say whether it has it."""
        if not begin(call.future):
            self._backlog.finish()
            return True
        call.future.counter = self
        call.number = worker.offer(call.head, call.body, call.levels)
        if call.number:
            self._calls.append(call)
        return bool(call.number)

    def _patience(self) -> float | None:
        """Give how long those who wait at the worker wait for its answer."""
        if len(self._calls) < 2:
            return None
        return max(0.0, self._answered + _LONGEST_WAIT - perf_counter())

    def _take_back(self) -> list[LaneCall]:
        """Take back the calls that wait for the worker, under the lock."""
        if self._worker is None or len(self._calls) < 2:
            return []
        numbers = self._worker.take_back()
        waiting = [call for call in self._calls if call.number in numbers]
        if len(waiting) == len(self._calls):  # not even the first, which is to stay
            first = waiting.pop(0)
            first.number = self._worker.offer(first.head, first.body, first.levels)
            if not first.number:
                self._worker.kill()  # it would wait for ever
        for call in waiting:
            # Never none, not for a moment: its thread looks without the lock.
            self._calls.remove(call)
        for call in self._calls:
            call.future.counter = None
        return waiting

    def _present(self) -> LaneCall:
        """Give the call that the worker has just been heard of."""
        with self._lock:  # what stood before it may just be taken back
            return self._calls[0]

    def _conclude(self, answer: Contents) -> None:
        """Take the answer of a call, and let the next begin."""
        call = self._present()
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
        try:
            if following is not None:
                self._note_beginning(following)
                self._look_ahead()
        finally:
            self._end(call, is_result, payload)
            del payload  # its traceback would keep this frame, and so the call, alive

    def _note_beginning(self, call: LaneCall) -> None:
        call.future.began = perf_counter()
        if call.future.watcher is not None:
            call.future.watcher.prepare()

    def _end(self, call: LaneCall, is_result: bool, payload: Any) -> None:
        self._backlog.finish()
        call.body = b""  # gone before whoever waits for the result goes on
        if this_process.is_ending and call.future.watcher is not None:
            return  # the execution ends too, and need not hear of it
        give(call.future, is_result, payload)
        del payload

    def _leaves(self, error: WorkerStartError) -> bool:
        """Leave the call to other lanes, if there are any, and be none for a while."""
        with self._lock:
            if self._is_killed or this_process.is_ending:
                return False
            self._is_spent = self._backlog.leave_to_others(self._calls[0])
            if self._is_spent:
                self._calls.clear()
        if self._is_spent:
            text = "there are fewer worker processes than asked for: %s"
            logger().warning(text, error)
        return self._is_spent

    def _ready_worker(self, label: str) -> WorkerProcess:
        worker = self._worker
        if worker is not None and worker.is_ready and worker.has_left(hear):
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
                hear(message)
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
                hear(message)
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

    def _end_all(self, error: BaseException) -> None:
        """End the call that has failed with the worker; others have the rest made."""
        worker, exitcode = self._worker, None
        has_died = isinstance(error, EOFError | OSError) and worker is not None
        if has_died and worker is not None:
            exitcode = worker.wait()
        with self._lock:
            numbers = [] if worker is None else worker.take_back()
            waiting = [call for call in self._calls if call.number in numbers]
            begun = [call for call in self._calls if call.number not in numbers]
            self._calls = deque()
            noted = None
            if worker is not None and has_died:
                if begun and not worker.has_begun_all():  # it was dying when it took it
                    waiting.insert(0, begun.pop())
                noted = worker.marks.noted if begun else 0
            if waiting and not begun and self._is_at_its_end(waiting[0]):
                begun.append(waiting.pop(0))
            failures: list[BaseException] = [error] * len(begun)
            if worker is not None and has_died:
                describe = killed if self._is_killed else crashed
                failures = [
                    describe(call.future.label, worker.pid, exitcode) for call in begun
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
            worker.has_left(hear)
            worker.let_go()
            with self._lock:
                self._worker = None  # it holds file descriptors
