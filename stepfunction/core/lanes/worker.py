"""Worker: what runs in a worker process, from its start to its end."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from multiprocessing import connection as pipes
from multiprocessing import process as processes
from typing import Any

from stepfunction.core.envelope.answers import (
    perform,
    perform_within,
    prepare_call,
    unpack_part,
)
from stepfunction.core.envelope.envelope import pack, pack_parcel, unpack
from stepfunction.core.envelope.parcel import Contents, Parcel, receive, send
from stepfunction.core.lanes import messages
from stepfunction.core.lanes.hopper import Outlet
from stepfunction.core.lanes.logs import Levels, Sender
from stepfunction.core.lanes.marks import Marks
from stepfunction.core.lanes.opening import Opening
from stepfunction.core.variables import own_variables

_SIGNALS = signal.valid_signals()
# That of ``signal`` makes a member of an enum of each signal that was held, which takes
# longer than all the rest of a short call.
_own: Any = sys.modules.get("_signal", signal)
_set_mask: Any = getattr(_own, "pthread_sigmask", None)


def serve_lane(
    pipe: Any,
    outlet: Outlet | None,
    environment: dict[str, str] | None,
    levels: Levels,
    marks: Marks,
    opening: Opening | None,
) -> None:
    """Serve one lane until its other end is closed.

    Args:
        pipe: The worker's end of it.
        outlet: Where its small calls come from; None where they come by the pipe.
        environment: The parent's environment variables; None where it has them.
        levels: The levels of the parent's loggers.
        marks: What the parent can read when this process is dead.
        opening: What to do before the first call, when the lane says so.
    """
    parent = _become_a_group()
    marks.arrive()
    if environment is not None:
        os.environ.clear()
        for name, value in environment.items():
            # A program may be given names that nobody may set.
            with suppress(OSError, ValueError):
                os.environ[name] = value
    speaker = Speaker(pipe, marks)
    sender = Sender(speaker.log)
    sender.take_over(levels)
    if hasattr(os, "register_at_fork"):
        # A child that outlives this worker must not keep its lane waiting.
        os.register_at_fork(after_in_child=speaker.fall_silent)
        os.register_at_fork(after_in_child=sender.let_go)
    speaker.answer(messages.HELLO)
    with suppress(OSError):
        pipe.poll(None) if outlet is None else outlet.peek()
    # Not before: what the parent told this process when it started it came over the
    # same pipe, and must not count as its end.
    _die_with(parent)
    while _serve_next(pipe, outlet, speaker, sender, opening):
        pass
    if outlet is not None:
        outlet.close()


def _serve_next(
    pipe: Any,
    outlet: Outlet | None,
    speaker: Speaker,
    sender: Sender,
    opening: Opening | None,
) -> bool:
    """Do what the lane says next; tell whether it has not let this worker go."""
    call: tuple[bytes, Contents] | None = None
    try:
        if pipe.closed:
            return False
        if outlet is not None:
            call = outlet.take()
        head, body = call or (pipe.recv_bytes(), receive(pipe))
    except (EOFError, OSError):
        return False
    if head[:1] == messages.LEVELS:
        sender.adopt(unpack(head[1:]))
        return _serve_next(pipe, None, speaker, sender, opening)  # of the same packet
    if head == messages.OPEN and opening is not None:
        speaker.answer(_perform(opening.taken, opening.prepare))
        return True
    speaker.marks.begin_call()
    del call
    taken, head = messages.apart(head)
    prepare = partial(_prepare, speaker, head, body)
    answer = _perform(taken, prepare)
    del head, body, prepare  # who reads a large answer need not wait for their memory
    speaker.answer(answer)
    return True


def _perform(taken: bytes, prepare: Callable[[], Callable[[], Any]]) -> Parcel:
    if taken:
        return perform_within(taken, prepare, pack_parcel)
    return perform(prepare, pack_parcel)


def _prepare(speaker: Speaker, head: bytes, body: Contents) -> Callable[[], Any]:
    """Give a call, with a context that has a line to the parent."""
    parts = unpack_part("the function", head)
    if not body:
        function, args, keywords = parts
        return partial(own_variables().run, function, *args, **keywords)
    call, context, says_start = parts
    if context is not None:
        context._line = speaker.line()
    prepared = prepare_call(call, body, context)  # which may import much
    if says_start:
        speaker.say(messages.BEGAN)
    # Only now: what a module sets while it is imported is for all.
    return partial(own_variables().run, prepared)


class Speaker:
    """What this process has to say to its parent, whichever thread says it.

    Args:
        pipe: This end of the lane's.
        marks: What that can read when this process is dead.
    """

    def __init__(self, pipe: Any, marks: Marks) -> None:
        self.marks = marks
        self._pipe = pipe
        self._lock = threading.RLock()  # a function's own threads may speak too
        self._unsaid: deque[Parcel] = deque()
        self._is_sending = False
        self._call = 0  # counts them, so that none is kept alive by another's threads

    def say(self, message: Parcel) -> None:
        """Send a message, after the one that is just being sent.

        Raises:
            OSError: If the parent is gone.
        """
        with _signals_held(), self._lock:
            self._unsaid.append(message)
            if self._is_sending:  # what is collected while a message is sent may log
                return
            try:
                self._is_sending = True
                while self._unsaid:
                    send(self._pipe, self._unsaid.popleft())
            finally:
                self._is_sending = False

    def say_of(self, call: int, message: bytes) -> None:
        """Send a message of a call, unless that has ended."""
        with self._lock:
            if call == self._call:
                self.say(message)

    def log(self, record: bytes) -> None:
        """Send a packed log record, if anybody is there to have it."""
        with suppress(OSError):  # the lane has let this worker go
            self.say(messages.LOG + record)

    def answer(self, message: Parcel) -> None:
        """Send the answer of the present call, after which it has no more to say."""
        with self._lock:
            self._call += 1
            try:
                self.say(message)
            except OSError:  # who asked has gone, or shall not wait for the rest
                with suppress(OSError):
                    self._pipe.close()

    def note_of(self, call: int, number: int) -> None:
        """Mark what a call notes, unless that has ended."""
        if call == self._call:
            self.marks.note(number)

    def line(self) -> Line:
        """Give what the present call is heard of by."""
        return Line(self, self._call)

    def fall_silent(self) -> None:
        """In a forked child, say nothing, and wait for no thread that stayed behind."""
        self._lock = threading.RLock()
        self._call += 1
        self.marks.part()
        self._pipe.close()


class Line:
    """By which one call is heard of, from any thread of this process."""

    def __init__(self, speaker: Speaker, call: int) -> None:
        self._speaker = speaker
        self._call = call

    def live(self) -> None:
        """Say that it is alive."""
        self._speaker.say_of(self._call, messages.BEAT)

    def pass_on(self, event: Any) -> None:
        """Pass on what is told of an execution that is nested in it."""
        self._speaker.say_of(self._call, messages.EVENT + pack(event))

    def report(self, part: Any) -> None:
        """Report a part of what comes of it before the rest."""
        self._speaker.say_of(self._call, messages.PART + pack(part))

    def note(self, number: int) -> None:
        """Note a number where it can be read when this process is dead."""
        self._speaker.note_of(self._call, number)

    def noting(self) -> Any:
        """Give where to note many numbers quickly; None if nobody could read them."""
        return self._speaker.marks.noting()


@contextmanager
def _signals_held() -> Iterator[None]:
    """Keep the handlers of a task's signals from raising just now."""
    if _set_mask is None:
        yield
        return
    before = _set_mask(signal.SIG_BLOCK, _SIGNALS)
    try:
        yield
    finally:
        _set_mask(signal.SIG_SETMASK, before)


def _become_a_group() -> Any:
    """Leave the terminal to the parent, and end with it; give what tells its end."""
    if hasattr(os, "setpgid"):
        os.setpgid(0, 0)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "pthread_sigmask"):
        # It was held back until now.
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    parent = processes.parent_process()
    assert parent is not None
    with _signals_held():  # for good, in the thread
        threading.Thread(target=_watch, args=(parent.sentinel,), daemon=True).start()
    return parent.sentinel


def _watch(sentinel: Any) -> None:
    pipes.wait([sentinel])
    if hasattr(os, "killpg"):
        os.killpg(os.getpgrp(), signal.SIGKILL)
    os._exit(1)


def _die_with(sentinel: Any) -> None:
    """Have the kernel kill this process group when its parent ends.

    The thread that watches cannot act while native code holds the GIL.
    """
    try:
        import fcntl

        fcntl.fcntl(sentinel, fcntl.F_SETOWN, -os.getpgrp())
        fcntl.fcntl(sentinel, fcntl.F_SETSIG, signal.SIGKILL)
        flags = fcntl.fcntl(sentinel, fcntl.F_GETFL)
        fcntl.fcntl(sentinel, fcntl.F_SETFL, flags | os.O_ASYNC)
    except (ImportError, AttributeError, OSError):
        return  # not Linux: the thread has to do
