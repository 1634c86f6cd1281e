"""Places: where attempts are made.

In this thread, in threads of our own, in our process lanes, or on anybody's
``concurrent.futures.Executor``. A place makes attempts and reports how they ended; it
decides nothing.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import BrokenExecutor, CancelledError, Executor, Future
from contextvars import copy_context
from queue import Empty, SimpleQueue
from time import perf_counter
from typing import TYPE_CHECKING, Any

from stepfunction.core.errors import WorkerCrashedError, WorkerKilledError
from stepfunction.core.execution import Outcome
from stepfunction.core.workers import MakeContext, Place, Post, Report, Task, attempt

if TYPE_CHECKING:
    from stepfunction.core.lanes import LaneFuture, ProcessLanes

_MOST_THREADS = 32
_MOST_LANES = 1024


class Inline:
    """The calling thread: one task after the other.

    Args:
        isolate: Whether each task has context variables of its own, as in threads.
    """

    limit: int | None = 1
    left_behind = Outcome.CANCELLED

    def __init__(
        self, value: Any, make_context: MakeContext, isolate: bool = True
    ) -> None:
        self._value = value
        self._make_context = make_context
        self._isolate = isolate

    def begin(self, task: Task, post: Post) -> None:
        if self._isolate:
            task.variables = copy_context()
        # What is no Exception interrupts this very thread.
        post(attempt(task, self._value, self._make_context, catch=Exception))

    def halt(self, tasks: Iterable[Task]) -> list[Task]:
        return list(tasks)

    def close(self, wait: bool) -> None: ...


class Threads:
    """Daemon threads made for one step, so that no other step can wait for them."""

    limit: int | None = None
    left_behind = Outcome.ABANDONED

    def __init__(
        self, name: str, value: Any, make_context: MakeContext, most: int
    ) -> None:
        self._name = name
        self._value = value
        self._make_context = make_context
        self._most = most
        self._queue: SimpleQueue[tuple[Task, Post] | None] = SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._idle: list[None] = []  # one for each thread that waits; pop() is atomic

    def begin(self, task: Task, post: Post) -> None:
        task.variables = copy_context()  # one each: it cannot be entered twice at once
        self._queue.put((task, post))
        try:
            self._idle.pop()
        except IndexError:
            if len(self._threads) < self._most:
                name = f"{self._name}-{len(self._threads) + 1}"
                thread = threading.Thread(target=self._work, name=name, daemon=True)
                self._threads.append(thread)
                thread.start()

    def _work(self) -> None:
        queue = self._queue
        while True:
            try:
                item = queue.get_nowait()
            except Empty:
                self._idle.append(None)
                item = queue.get()
            if item is None:
                return
            task, post = item
            post(attempt(task, self._value, self._make_context))
            del task, post, item  # an idle thread keeps nothing alive

    def halt(self, tasks: Iterable[Task]) -> list[Task]:
        never_begun = []
        try:
            while (item := self._queue.get_nowait()) is not None:
                never_begun.append(item[0])
        except Empty:
            return never_begun
        return never_begun

    def close(self, wait: bool) -> None:
        for _ in self._threads:
            self._queue.put(None)
        if wait:
            for thread in self._threads:
                thread.join()


class Lanes:
    """Our worker processes, of this execution or kept open by the caller."""

    left_behind = Outcome.KILLED

    def __init__(
        self,
        lanes: ProcessLanes,
        name: str,
        tasks: Sequence[Task],
        value: Any,
        make_context: MakeContext,
        limit: int | None,
    ) -> None:
        from stepfunction.core.envelope import pack_call, pack_for

        self.limit = limit
        self._lanes = lanes
        self._make_context = make_context
        # All is packed before anything starts, and the input once for all tasks.
        self._calls = {task: pack_call(task.name, task.call) for task in tasks}
        self._body = pack_for(f"the input of step {name!r}", value)
        self._futures: dict[Task, LaneFuture] = {}

    def begin(self, task: Task, post: Post) -> None:
        from stepfunction.core.envelope import pack

        context = self._make_context(task) if task.wants_context else None
        head = pack((_call, (self._calls[task], context), {}))
        future = self._lanes.send(task.name, head, self._body)
        self._futures[task] = future
        future.add_done_callback(lambda _: post(_report(task, future, future.began)))

    def halt(self, tasks: Iterable[Task]) -> list[Task]:
        waiting = [task for task in tasks if self._futures[task].cancel()]
        for task in tasks:
            self._lanes.kill(self._futures[task])
        return waiting

    def close(self, wait: bool) -> None: ...


class Pool:
    """Somebody else's executor, which we never shut down."""

    left_behind = Outcome.ABANDONED

    def __init__(
        self,
        executor: Executor,
        name: str,
        value: Any,
        make_context: MakeContext,
        limit: int | None,
    ) -> None:
        from concurrent.futures import ThreadPoolExecutor

        self.limit = limit
        self._executor = executor
        self._value = value
        self._make_context = make_context
        self._futures: dict[Task, Future[Any]] = {}
        self._is_remote = not isinstance(executor, ThreadPoolExecutor)
        if self._is_remote:
            from stepfunction.core.envelope import pack_for

            self._body = pack_for(f"the input of step {name!r}", value)

    def begin(self, task: Task, post: Post) -> None:
        began = perf_counter()
        future = self._submit(task)
        self._futures[task] = future

        def done(future: Future[Any]) -> None:
            report = _report(task, future, began)
            if report.outcome is not Outcome.SUCCEEDED:
                post(report)
            elif not self._is_remote:
                post(report.payload)
            else:
                post(_open_report(report))

        future.add_done_callback(done)

    def _submit(self, task: Task) -> Future[Any]:
        if not self._is_remote:
            task.variables = copy_context()
            return self._executor.submit(
                attempt, task, self._value, self._make_context
            )
        from stepfunction.core.envelope import pack

        # Positional arguments alone, and a context whose ids make no two calls alike:
        # some executors swallow keywords, and some run equal calls once.
        context = pack(self._make_context(task))
        return self._executor.submit(_perform_elsewhere, task.call, self._body, context)

    def halt(self, tasks: Iterable[Task]) -> list[Task]:
        return [task for task in tasks if self._cancel(self._futures[task])]

    def _cancel(self, future: Future[Any]) -> bool:
        try:
            return future.cancel()
        except NotImplementedError:  # not every executor can
            return False

    def close(self, wait: bool) -> None: ...


def _perform_elsewhere(
    call: Callable[[Any, Any], Any], body: bytes, context: bytes
) -> bytes:
    from stepfunction.core.envelope import perform

    return perform(_call, body, (call, context))


def _call(value: Any, call: Any, context: Any) -> Any:
    """Make a call in a worker; what came packed is opened first."""
    from stepfunction.core.envelope import unpack

    if isinstance(context, bytes):
        context = unpack(context)
    if isinstance(call, bytes):
        call = unpack(call)
    return call(value, context)


def _report(task: Task, future: Future[Any], began: float) -> Report:
    ended = perf_counter()
    if future.cancelled():
        return Report(task, Outcome.CANCELLED, CancelledError(), ended, ended)
    error = future.exception()
    if error is None:
        return Report(task, Outcome.SUCCEEDED, future.result(), began, ended)
    outcome = Outcome.FAILED
    if isinstance(error, WorkerKilledError):
        outcome = Outcome.KILLED
    elif isinstance(error, WorkerCrashedError | BrokenExecutor):
        outcome = Outcome.CRASHED
    return Report(task, outcome, error, began, ended)


def _open_report(report: Report) -> Report:
    from stepfunction.core.envelope import open_answer

    try:
        is_result, payload, seconds = open_answer(report.task.name, report.payload)
    except Exception as error:
        return report._replace(outcome=Outcome.FAILED, payload=error)
    outcome = Outcome.SUCCEEDED if is_result else Outcome.FAILED
    return Report(report.task, outcome, payload, report.ended - seconds, report.ended)


class Workers:
    """Where the tasks of one execution, and of all that is nested in it, run.

    Args:
        override: The executor of every step that has one; None to leave it to them.
    """

    def __init__(self, override: Any = None) -> None:
        self.override = override
        self._lock = threading.Lock()
        self._lanes: ProcessLanes | None = None

    def place(
        self,
        executor: Any,
        name: str,
        tasks: Sequence[Task],
        value: Any,
        make_context: MakeContext,
        max_workers: int | None = None,
    ) -> Place:
        """Give the place where a step's tasks are to run.

        Raises:
            TransferError: If they must go to another process and cannot.
        """
        if self.override is not None:
            executor = self.override
        if executor == "inline":
            return Inline(value, make_context)
        if executor == "thread":
            most = max_workers or min(len(tasks), _MOST_THREADS)
            return Threads(name, value, make_context, most)
        if executor == "process":
            from stepfunction.core.lanes import usable_cpus

            limit = max_workers or min(len(tasks), usable_cpus())
            executor = self._open_lanes()
            return Lanes(executor, name, tasks, value, make_context, limit)
        if hasattr(executor, "send") and hasattr(executor, "kill"):
            return Lanes(executor, name, tasks, value, make_context, max_workers)
        return Pool(executor, name, value, make_context, max_workers)

    def _open_lanes(self) -> ProcessLanes:
        from stepfunction.core.lanes import ProcessLanes

        with self._lock:
            if self._lanes is None:
                # Steps limit themselves, and lanes are made as they are needed.
                self._lanes = ProcessLanes(max_workers=_MOST_LANES)
            return self._lanes

    def close(self, kill: bool = False) -> None:
        """Let go of the worker processes, or kill what they do."""
        if self._lanes is not None:
            if kill:
                self._lanes.kill_all()
            self._lanes.shutdown(wait=True)
