"""Coroutines: an event loop runs them, and this thread what they use of the ORM."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Coroutine
from contextlib import suppress
from contextvars import copy_context
from typing import Any, TypeAlias

from asgiref.sync import AsyncToSync, SyncToAsync, async_to_sync
from django.utils import timezone, translation

from stepfunction.core.errors import WorkerStartError
from stepfunction.core.waiting import LONGEST_WAIT, Latch, join, start

Function: TypeAlias = Callable[[], Coroutine[Any, Any, None]]


def run_on(loop: asyncio.AbstractEventLoop, function: Function) -> None:
    """Run a coroutine on a loop of another thread, while this one waits.

    Raises:
        RuntimeError: If the loop is closed before the coroutine has ended.
    """
    watched = _Watched(loop)

    async def main() -> None:
        if watched.is_lost:  # and this runs elsewhere
            raise RuntimeError(_CLOSED)
        await function()

    # Where async_to_sync looks for the loop that it may run on.
    known: Any = SyncToAsync.threadlocal
    before = {name: known.__dict__.get(name) for name in _LOOP}
    known.main_event_loop, known.main_event_loop_pid = watched, os.getpid()
    try:
        async_to_sync(main)()
    finally:
        known.__dict__.update(before)
        _watched.discard(watched)
    if watched.is_lost:  # whatever the coroutine made of that
        raise RuntimeError(_CLOSED)


_LOOP = ("main_event_loop", "main_event_loop_pid")
_CLOSED = "the event loop was closed before its end"


class _Watched:
    """A loop as ``async_to_sync`` uses it, which would wait for ever for a closed one.

    Attributes:
        is_lost: Whether it was closed before the coroutine had ended.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.is_lost = False
        self._loop = loop
        self._coroutine: Any = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loop, name)

    def call_soon_threadsafe(self, call: Any, coroutine: Any) -> None:
        """Have a task made of the coroutine."""
        self._coroutine = coroutine
        self._loop.call_soon_threadsafe(call, coroutine)
        _watch(self)

    def end(self) -> None:
        """End the coroutine in the place of its loop."""
        if self._coroutine.cr_frame is None:  # it ended in time
            return
        self.is_lost = True
        if self._coroutine.cr_await is None:  # it has not begun
            asyncio.run(self._coroutine)
            return
        with suppress(BaseException):  # also that it has ended
            while True:
                self._coroutine.throw(RuntimeError(_CLOSED))


_watched: set[_Watched] = set()
_is_watching = False
_starting = threading.RLock()  # a signal handler may run a workflow too


def _watch(one: _Watched) -> None:
    global _is_watching
    with _starting:
        _watched.add(one)
        if not _is_watching:
            with suppress(WorkerStartError):  # what goes well needs nobody to watch
                name = "stepfunction-watch"
                start(threading.Thread(target=_keep_watch, name=name, daemon=True))
                _is_watching = True


def _keep_watch() -> None:
    global _is_watching
    while True:
        Latch().wait(LONGEST_WAIT)
        for one in list(_watched):
            if one.is_closed():
                _watched.discard(one)
                with suppress(WorkerStartError):
                    start(threading.Thread(target=one.end, daemon=True))
        with _starting:
            if not _watched:
                _is_watching = False
                return


def _forget_watch() -> None:
    """Drop, in a forked child, what is watched in the parent."""
    global _is_watching, _starting
    _starting, _is_watching = threading.RLock(), False
    _watched.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_watch)


def run_beside_loop(function: Function) -> None:
    """Run a coroutine while this thread, and the loop that runs in it, wait."""
    executor = getattr(AsyncToSync.executors, "current", None)
    language: str | None = translation.get_language()
    zone = getattr(timezone._active, "value", None)
    raised: list[BaseException] = []

    async def main() -> None:
        if executor is not None:
            AsyncToSync.executors.current = executor
        with translation.override(language), timezone.override(zone):
            await function()

    def work() -> None:
        try:
            asyncio.run(main())
        except BaseException as error:
            raised.append(error)

    variables = copy_context()
    thread = threading.Thread(target=variables.run, args=(work,), daemon=True)
    start(thread)
    while not join(thread):
        pass
    if raised:
        raise raised[0]
