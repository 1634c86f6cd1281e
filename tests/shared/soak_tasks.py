"""What the tasks of the soak test do; worker processes import this, so it is light."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import threading
import time
import urllib.error
from contextvars import ContextVar
from pathlib import Path
from typing import Any, NamedTuple

from shared.awkward_errors import (
    KeywordOnly,
    LinesAndNumbers,
    ReduceRaises,
    TwoArguments,
    local,
)

LONG = 600  # nothing here takes that long: it is killed, told or released before
gates: dict[int, threading.Event] = {}  # plan to what ends its threads; here alone
mark: ContextVar[str] = ContextVar("mark")  # what one call sets is no other's


class Order(NamedTuple):
    """What one task is told to do.

    Attributes:
        plan: The number of the plan that it is part of.
        number: Its own number there.
        deed: What to do, a key of ``DEEDS``.
        times: In how many first attempts; later ones just give.
        folder: Where to say that it has begun, if anybody wants to know.
    """

    plan: int
    number: int
    deed: str
    times: int
    folder: str

    def __repr__(self):
        return f"<order {self.number}: {self.deed!r}, {self.times} times>"


def obey(order: Order, value: Any, context: Any) -> Any:
    """Do what the order says, and else give the number and the size of the input."""
    word = word_of(order, context.attempt)
    logging.getLogger("soak").info(word)
    assert mark.get(None) is None, f"{word} was given the variables of {mark.get()}"
    mark.set(word)
    if context.attempt <= order.times:
        DEEDS[order.deed](order, context)
        if order.deed in RESULTS:
            return RESULTS[order.deed]()
    return [order.number, len(value) if isinstance(value, bytes) else 0]


def obey_item(order: Order, context: Any) -> Any:
    """Do what the order says, which is an item of a map step."""
    return obey(order, None, context)


def word_of(order: Order, attempt: int) -> str:
    """Give what is logged at the beginning of an attempt."""
    return f"{order.plan} {order.number} {attempt}"


# --- exceptions -----------------------------------------------------------------


class WithLock(Exception):
    def __init__(self, text):
        super().__init__(text)
        self.lock = threading.Lock()


def noted():
    error = ValueError("noted")
    error.add_note("seen in line 3")
    return error


ERRORS = {
    "required arguments": lambda: TwoArguments(7, "no luck"),
    "keyword-only": lambda: KeywordOnly(field="age"),
    "lock": lambda: WithLock("locked"),
    "reduce": lambda: ReduceRaises("still itself"),
    "local": local,
    "notes": noted,
    "file": lambda: FileNotFoundError(2, "No such file", "/none"),
    "os subclass": lambda: LinesAndNumbers(5, "bad line", 17),
    "decode": lambda: UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid"),
    "subprocess": lambda: subprocess.CalledProcessError(3, ["ls"], b"out", b"err"),
    "json": lambda: json.JSONDecodeError("Expecting value", "{]", 1),
    "http": lambda: urllib.error.HTTPError("http://x/", 404, "Not Found", {}, None),
    "group": lambda: ExceptionGroup("all", [TwoArguments(1, "one"), KeyError("two")]),
    "stop": lambda: StopIteration(4),
    "memory": lambda: MemoryError(),
    "exit": lambda: SystemExit(3),  # no Exception, and so not tried again
    "interrupt": lambda: KeyboardInterrupt(),
}


# --- deeds ----------------------------------------------------------------------


def just_give(order, context):
    context.heartbeat()


def fail(order, context):
    if order.deed == "memory":
        bytearray(2**62)
    raise ERRORS[order.deed]()


def hang(order, context):
    gates.get(order.plan, threading.Event()).wait(LONG)


def beat_and_hang(order, context):
    context.heartbeat()
    hang(order, context)


def wait_to_be_told(order, context):
    Path(order.folder, str(order.number)).touch()
    context.sleep(LONG)


def leave(order, context):
    os._exit(3)


def leave_a_child(order, context):
    subprocess.Popen(["sleep", str(LONG)])
    os._exit(4)


def kill_itself(order, context):
    os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(LONG)


def fault(order, context):
    import ctypes
    import resource

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    ctypes.string_at(0)


CRASHES = {
    "os._exit": (leave, 3),
    "child": (leave_a_child, 4),
    "SIGKILL": (kill_itself, -signal.SIGKILL),
    "segfault": (fault, -signal.SIGSEGV),
}


class CannotBeUnpickled:
    def __reduce__(self):
        return refuse_elsewhere, (os.getpid(),)


def refuse_elsewhere(home):
    if os.getpid() != home:
        raise RuntimeError("no unpickling here")


RESULTS = {"unpicklable": threading.Lock, "not unpicklable": CannotBeUnpickled}

DEEDS = {
    "give": just_give,
    "hang": hang,
    "mute": beat_and_hang,
    "wait": wait_to_be_told,
    **dict.fromkeys(RESULTS, just_give),
    **dict.fromkeys(ERRORS, fail),
    **{name: deed for name, (deed, _) in CRASHES.items()},
}
