"""Coroutines: how an ``async def`` step runs to its end in synchronous code."""

from __future__ import annotations

import os
import threading
from collections.abc import Coroutine
from contextlib import suppress
from contextvars import Context as Variables
from contextvars import ContextVar, copy_context
from typing import TYPE_CHECKING, Any

from stepfunction.core.cancellation import Cancellation
from stepfunction.core.clock import perf_counter
from stepfunction.core.errors import ExecutionCancelledError, WorkerStartError
from stepfunction.core.raised import is_a
from stepfunction.core.surroundings import Host, host
from stepfunction.core.waiting import LONGEST_WAIT, Latch, start

if TYPE_CHECKING:
    import asyncio

# The loop that awaits aexecute(), which runs that execution's coroutines.
callers_loop: ContextVar[asyncio.AbstractEventLoop | None] = ContextVar(
    "stepfunction_callers_loop", default=None
)
# A coroutine may itself run a workflow and so block its loop: what that workflow
# awaits needs a loop of its own, one level down.
_level: ContextVar[int] = ContextVar("stepfunction_loop_level", default=0)
_loops: dict[int, asyncio.AbstractEventLoop] = {}
_starting = threading.RLock()  # a signal handler may run a workflow too


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
        WorkerStartError: If there can be no thread for the loop.
        BaseException: What the coroutine raises.
    """
    import asyncio
    from concurrent.futures import CancelledError

    framework = host()
    inside = copy_context()
    inside.run(callers_loop.set, None)
    inside.run(_level.set, _level.get() + 1)
    cancellation = cancellation or Cancellation()
    awaited: _Awaited
    if framework is not None:
        hosted = awaited = _Hosted(coroutine)
        with cancellation.calling(awaited.stop):
            hosted.run(framework, callers_loop.get(), inside)
    else:
        loop = callers_loop.get()
        if loop is None or loop.is_closed():  # whoever awaited it has gone
            loop = _own_loop(coroutine)
        awaited = _Awaited(coroutine, loop)
        try:
            inside.run(loop.call_soon_threadsafe, awaited.begin)
            with cancellation.calling(awaited.stop):
                while not awaited.done.wait(LONGEST_WAIT):
                    if loop.is_closed():
                        raise RuntimeError("the event loop was closed before its end")
        except BaseException:
            awaited.stop()
            raise
    error = awaited.error
    if is_a(error, asyncio.CancelledError):
        if cancellation.requested:
            raise ExecutionCancelledError("the coroutine was told to stop")
        raise CancelledError("the coroutine was cancelled by its own code") from error
    if error is not None:
        if framework is not None:
            framework.advise(error)
        raise error
    return awaited.value


def _own_loop(coroutine: Coroutine[Any, Any, Any]) -> asyncio.AbstractEventLoop:
    try:
        return _private_loop(_level.get())
    except BaseException:
        coroutine.close()  # else it would be said that nobody awaits it
        raise


class _Awaited:
    """A coroutine that a loop in another thread awaits, and what came of it.

    Attributes:
        done: Opened when it has ended.
        value: What it returned.
        error: What it raised.
    """

    def __init__(
        self,
        coroutine: Coroutine[Any, Any, Any],
        loop: asyncio.AbstractEventLoop | None,
    ) -> None:
        self.done = Latch()
        self.value: Any = None
        self.error: BaseException | None = None
        self._coroutine = coroutine
        self._loop: Any = loop
        self._task: asyncio.Task[None] | None = None

    def begin(self) -> None:
        """Have it awaited. Only the loop's thread may."""
        self._task = self._loop.create_task(self._settle())

    def stop(self) -> None:
        """Cancel it. Any thread may."""
        # In the loop's thread, and after begin(): a task is cancelled nowhere else.
        with suppress(RuntimeError):  # the loop was closed
            self._loop.call_soon_threadsafe(self._cancel)

    def _cancel(self) -> None:
        if self._task is not None:
            # After its first step, without which it would settle nothing.
            self._loop.call_soon(self._task.cancel)
        else:
            self._coroutine.close()  # an interrupt came before it was handed over

    async def _settle(self) -> None:
        try:
            self.value = await self._coroutine
        except BaseException as error:  # not even SystemExit is to end the loop
            self.error = error
        self.done.open()


class _Hosted(_Awaited):
    """A coroutine that a framework runs, on whatever loop."""

    def __init__(self, coroutine: Coroutine[Any, Any, Any]) -> None:
        super().__init__(coroutine, None)
        self._is_stopped = False

    def run(self, host: Host, loop: Any, inside: Variables) -> None:
        """Have it run to its end, while this thread waits.

        Args:
            host: The framework.
            loop: The event loop of whoever awaits the execution; None if nobody does.
            inside: The context variables for it.
        """
        import asyncio

        try:
            inside.run(host.run_coroutine, self._main, loop)
        except BaseException as error:
            # Of its task, which it may have left by a cancellation that came too late.
            if not (self.done.is_open and is_a(error, asyncio.CancelledError)):
                self.stop()
                raise
        finally:
            if self._task is None:
                self._coroutine.close()

    async def _main(self) -> None:
        import asyncio

        self._loop = asyncio.get_running_loop()
        self._task = asyncio.current_task()
        if self._is_stopped:
            self.stop()
        await self._settle()

    def stop(self) -> None:
        """Cancel it, also before it has begun. Any thread may."""
        self._is_stopped = True
        if self._task is not None and not self.done.is_open:
            super().stop()


def _private_loop(level: int) -> asyncio.AbstractEventLoop:
    import asyncio

    with _starting:
        if level not in _loops:
            loop = asyncio.new_event_loop()
            with suppress(AttributeError):  # the loop of a package, with its own clock
                loop.time = perf_counter  # type: ignore[method-assign]
            name = f"stepfunction-loop-{level}"
            try:
                start(threading.Thread(target=loop.run_forever, name=name, daemon=True))
            except WorkerStartError:
                loop.close()
                raise
            _loops[level] = loop
        return _loops[level]


def _forget_loops() -> None:
    """Drop, in a forked child, the loops whose threads stayed with the parent."""
    global _starting
    _starting = threading.RLock()
    _loops.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_loops)
