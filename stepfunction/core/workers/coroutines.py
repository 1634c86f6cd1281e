"""Coroutines: how an ``async def`` step runs to its end in synchronous code."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Coroutine
from contextlib import suppress
from contextvars import ContextVar, copy_context
from typing import TYPE_CHECKING, Any, TypeAlias

from stepfunction.core.cancellation import Cancellation
from stepfunction.core.errors import ExecutionCancelledError
from stepfunction.core.surroundings import runner_of_coroutines

if TYPE_CHECKING:
    import asyncio
    from concurrent.futures import Future

# The loop that awaits aexecute(), which runs that execution's coroutines.
callers_loop: ContextVar[asyncio.AbstractEventLoop | None] = ContextVar(
    "stepfunction_callers_loop", default=None
)
# A coroutine may itself run a workflow and so block its loop: what that workflow
# awaits needs a loop of its own, one level down.
_level: ContextVar[int] = ContextVar("stepfunction_loop_level", default=0)
_loops: dict[int, asyncio.AbstractEventLoop] = {}
_starting = threading.Lock()


def run_to_end(
    coroutine: Coroutine[Any, Any, Any], cancellation: Cancellation | None = None
) -> Any:
    """Run a coroutine on an event loop in another thread and wait for its result.

    The loop is that of whoever awaits ``aexecute()``, else a private one, or what a
    framework says. Context variables reach the coroutine. It is cancelled when this
    thread is interrupted.

    Args:
        coroutine: What to run.
        cancellation: Requested by whoever wants the coroutine cancelled.

    Raises:
        ExecutionCancelledError: If that was requested and the coroutine gave up.
        BaseException: What the coroutine raises.
    """
    import asyncio
    from concurrent.futures import Future, wait

    host = runner_of_coroutines()
    inside = copy_context()
    inside.run(callers_loop.set, None)
    inside.run(_level.set, _level.get() + 1)
    done: Future[tuple[Any, BaseException | None]] = Future()
    cancellation = cancellation or Cancellation()
    if host is not None:
        guest = _Guest(coroutine, done, cancellation)
        guest.run(lambda main: inside.run(host.run_coroutine, main, callers_loop.get()))
        return _result(done, cancellation)
    loop = callers_loop.get() or _private_loop(_level.get())
    tasks: list[asyncio.Task[None]] = []

    def start() -> None:
        tasks.append(loop.create_task(_settle(coroutine, done)))

    def stop() -> None:
        # In the loop's thread, and after start(): a task is cancelled nowhere else.
        # After its first step too, without which it would end and settle nothing.
        loop.call_soon_threadsafe(lambda: loop.call_soon(tasks[0].cancel))

    inside.run(loop.call_soon_threadsafe, start)
    try:
        with cancellation.calling(stop):
            while not done.done():
                # Not one long wait, which a signal just before it would not end.
                wait((done,), timeout=0.5)
    except BaseException:
        stop()
        raise
    return _result(done, cancellation)


def _result(
    done: Future[tuple[Any, BaseException | None]], cancellation: Cancellation
) -> Any:
    """Give what a coroutine returned, or raise what it raised."""
    import asyncio
    from concurrent.futures import CancelledError

    value, error = done.result()
    if isinstance(error, asyncio.CancelledError):
        if cancellation.requested:
            raise ExecutionCancelledError("the coroutine was told to stop")
        raise CancelledError("the coroutine was cancelled by its own code") from error
    if error is not None:
        raise error
    return value


async def _settle(
    coroutine: Coroutine[Any, Any, Any],
    done: Future[tuple[Any, BaseException | None]],
) -> None:
    """Await a coroutine, and let not even SystemExit end the loop."""
    try:
        done.set_result((await coroutine, None))
    except BaseException as error:
        done.set_result((None, error))


_Main: TypeAlias = Callable[[], Coroutine[Any, Any, None]]


class _Guest:
    """A coroutine that a framework runs, and how it is told to stop.

    Args:
        coroutine: What to run.
        done: Told of its end.
        cancellation: Requested by whoever wants it cancelled.
    """

    def __init__(
        self,
        coroutine: Coroutine[Any, Any, Any],
        done: Future[tuple[Any, BaseException | None]],
        cancellation: Cancellation,
    ) -> None:
        self._coroutine = coroutine
        self._done = done
        self._cancellation = cancellation
        self._lock = threading.RLock()  # a signal handler may stop it at any moment
        self._is_stopped = False
        self._task: tuple[asyncio.AbstractEventLoop, asyncio.Task[Any]] | None = None

    def run(self, run: Callable[[_Main], None]) -> None:
        """Have it run, by what is given an async function."""
        import asyncio

        try:
            with self._cancellation.calling(self.stop):
                run(self._main)
        except BaseException as error:
            is_cancelled = isinstance(error, asyncio.CancelledError)
            if not (is_cancelled and self._done.done()):
                self.stop()
                raise
        finally:
            self._coroutine.close()  # if it never began

    async def _main(self) -> None:
        import asyncio

        task = asyncio.current_task()
        assert task is not None
        with self._lock:
            self._task = asyncio.get_running_loop(), task
            if self._is_stopped:
                task.cancel()
        await _settle(self._coroutine, self._done)

    def stop(self) -> None:
        """Have it cancelled. Any thread may."""
        with self._lock:
            self._is_stopped = True
            if self._task is None or self._done.done():
                return
            loop, task = self._task
        with suppress(RuntimeError):  # the loop has been closed
            loop.call_soon_threadsafe(task.cancel)


def _private_loop(level: int) -> asyncio.AbstractEventLoop:
    import asyncio

    with _starting:
        if level not in _loops:
            loop = asyncio.new_event_loop()
            threading.Thread(
                target=loop.run_forever, name=f"stepfunction-loop-{level}", daemon=True
            ).start()
            _loops[level] = loop
        return _loops[level]


def _forget_loops() -> None:
    """Drop, in a forked child, the loops whose threads stayed with the parent."""
    global _starting
    _starting = threading.Lock()
    _loops.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_loops)
