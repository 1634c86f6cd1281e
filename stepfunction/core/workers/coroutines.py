"""Coroutines: how an ``async def`` step runs to its end in synchronous code."""

from __future__ import annotations

import os
import threading
from collections.abc import Coroutine
from contextlib import suppress
from contextvars import ContextVar, copy_context
from typing import TYPE_CHECKING, Any

from stepfunction.core.cancellation import Cancellation
from stepfunction.core.errors import ExecutionCancelledError

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

    The loop is that of whoever awaits ``aexecute()``, else a private one. Context
    variables reach the coroutine. It is cancelled when this thread is interrupted.

    Args:
        coroutine: What to run.
        cancellation: Requested by whoever wants the coroutine cancelled.

    Raises:
        ExecutionCancelledError: If that was requested and the coroutine gave up.
        BaseException: What the coroutine raises.
    """
    import asyncio
    from concurrent.futures import CancelledError, Future, wait

    loop = callers_loop.get()
    if loop is None or loop.is_closed():  # and whoever awaited it is gone
        loop = _private_loop(_level.get())
    inside = copy_context()
    inside.run(callers_loop.set, None)
    inside.run(_level.set, _level.get() + 1)
    done: Future[tuple[Any, BaseException | None]] = Future()
    tasks: list[asyncio.Task[None]] = []

    def start() -> None:
        tasks.append(loop.create_task(_settle(coroutine, done)))

    def stop() -> None:
        # In the loop's thread, and after start(): a task is cancelled nowhere else.
        # After its first step too, without which it would end and settle nothing.
        with suppress(RuntimeError):  # the loop was closed
            loop.call_soon_threadsafe(lambda: loop.call_soon(tasks[0].cancel))

    inside.run(loop.call_soon_threadsafe, start)
    cancellation = cancellation or Cancellation()
    try:
        with cancellation.calling(stop):
            while not done.done():
                # Not one long wait, which a signal just before it would not end.
                if not wait((done,), timeout=0.5).done and loop.is_closed():
                    raise RuntimeError("the event loop was closed under a coroutine")
            value, error = done.result()
    except BaseException:
        stop()
        raise
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
