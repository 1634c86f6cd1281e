"""Listening: what the app hears of the executions of this process.

That is everything while a signal has receivers, what fails where there is something to
be said of it, and else nothing, so that most executions pay nothing.
"""

from __future__ import annotations

import asyncio

from django.core.exceptions import SynchronousOnlyOperation

from stepfunction.contrib.django.errors import IN_A_LOOP
from stepfunction.contrib.django.signals import any_receivers, send
from stepfunction.core.errors import add_note
from stepfunction.core.watching.events import Event, Listener


def listener() -> tuple[Listener, bool] | None:
    """Give who is told of an execution that begins, and whether of all of it."""
    is_in_a_loop = asyncio._get_running_loop() is not None
    if any_receivers():
        return (_hear_in_a_loop if is_in_a_loop else send), True
    return (_advise, False) if is_in_a_loop else None


def _hear_in_a_loop(event: Event) -> None:
    _advise(event)
    send(event)


def _advise(event: Event) -> None:
    """Say what to do in the place of a query on an event loop."""
    error = event.error
    if error is None or not issubclass(type(error), SynchronousOnlyOperation):
        return  # an error of somebody else's may say anything of its class
    if not getattr(error, "__notes__", ()):
        add_note(error, IN_A_LOOP)
