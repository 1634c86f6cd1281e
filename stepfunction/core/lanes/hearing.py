"""Hearing: what is done with what a worker says that is no answer."""

from __future__ import annotations

from collections.abc import Callable

from stepfunction.core.envelope.envelope import unpack
from stepfunction.core.envelope.parcel import Contents
from stepfunction.core.lanes import messages
from stepfunction.core.lanes.backlog import LaneCall, Watcher
from stepfunction.core.lanes.logs import replay
from stepfunction.core.logger import logger


def hear(message: Contents, call: LaneCall | None = None) -> None:
    """Take a message of a call, or of a thread that one left behind.

    Args:
        message: What the worker said.
        call: What it makes; None if it is idle.
    """
    kind, contents = message[:1], message[1:]
    if kind == messages.LOG and call is None:
        replay(contents)
    elif call is None:
        return
    elif kind == messages.LOG:  # as if it were logged where the call comes from
        call.variables.run(replay, contents)
    elif call.future.watcher is not None:
        _TELL[kind](call.future.watcher, contents, call.future.label)


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
