"""Listening: what the app hears of every execution of this process.

That is everything while a signal has receivers, else what fails alone.
"""

from __future__ import annotations

import asyncio

from django.core.exceptions import SynchronousOnlyOperation

from stepfunction.contrib.django.signals import any_receivers, send
from stepfunction.core.errors import add_note
from stepfunction.core.watching.events import Event, Listener

_IN_A_LOOP = (
    "execute() was called on an event loop, where Django allows no queries: in an "
    "async view, write: await workflow.aexecute(…)"
)
_IN_A_COROUTINE = (
    "an async def step may use the async methods of the ORM alone, as aget(), asave() "
    "and async for; or make it a plain function"
)


def listener() -> tuple[Listener, bool]:
    """Give who is told of an execution that begins, and whether of all of it."""
    return (_hear, True) if any_receivers() else (_advise, False)


def _hear(event: Event) -> None:
    _advise(event)
    send(event)


def _advise(event: Event) -> None:
    """Say what to do in the place of a query on an event loop."""
    error = event.error
    if not issubclass(type(error), SynchronousOnlyOperation):
        return
    assert error is not None
    try:
        asyncio.get_running_loop()
        advice = _IN_A_LOOP
    except RuntimeError:
        advice = _IN_A_COROUTINE
    if advice not in getattr(error, "__notes__", ()):
        add_note(error, advice)
