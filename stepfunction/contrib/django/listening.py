"""Listening: what the app has to say of executions that fail.

That is asked for on an event loop alone, so that all others pay nothing.
"""

from __future__ import annotations

import asyncio

from django.core.exceptions import SynchronousOnlyOperation

from stepfunction.contrib.django.errors import IN_A_LOOP
from stepfunction.core.errors import add_note
from stepfunction.core.watching.events import Event
from stepfunction.core.watching.telling import listen_everywhere


def listen() -> None:
    """Have what fails on an event loop advised from now on."""
    listen_everywhere(_advise, False, asyncio._get_running_loop)


def _advise(event: Event) -> None:
    """Say what to do in the place of a query on an event loop."""
    error = event.error
    if error is None or not issubclass(type(error), SynchronousOnlyOperation):
        return  # an error of somebody else's may say anything of its class
    if not getattr(error, "__notes__", ()):
        add_note(error, IN_A_LOOP)
