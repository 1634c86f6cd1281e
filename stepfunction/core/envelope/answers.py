"""Answers: what a worker makes of a call, and how its caller reads it."""

from __future__ import annotations

from collections.abc import Callable, Generator
from functools import partial
from typing import Any, TypeVar

from stepfunction.core.clock import perf_counter
from stepfunction.core.envelope import arrival
from stepfunction.core.envelope.envelope import unpack
from stepfunction.core.envelope.parcel import Contents, Parcel
from stepfunction.core.envelope.refusals import reason
from stepfunction.core.errors import (
    TransferError,
    WorkerStartError,
)
from stepfunction.core.raised import is_a
from stepfunction.core.surroundings import Taken, within
from stepfunction.core.tracebacks import forget_locals, without_our_frames
from stepfunction.core.wording import error_text

_Answer = TypeVar("_Answer", bound=Parcel)


def perform(
    prepare: Callable[[], Callable[[], Any]], pack_answer: Callable[[Any], _Answer]
) -> _Answer:
    """Make a call in a worker and pack its answer.

    Args:
        prepare: Gives the call; what it takes to unpack it is not counted.
        pack_answer: ``pack``, or ``pack_parcel`` for a process of this machine.

    Returns:
        The packed answer: whether it returned, what it returned or raised, and how
        many seconds it took.
    """
    began = perf_counter()
    try:
        arrival.begin()
        try:
            call = prepare()
        finally:
            arrival.end()
        began = perf_counter()
        output = call()
    except BaseException as raised:
        failure: BaseException | None = without_our_frames(raised)
    else:
        failure = None
    seconds = perf_counter() - began
    if failure is not None:
        forget_locals(failure)  # which cannot be sent
        return pack_answer((False, failure, seconds))
    try:
        return pack_answer((True, output, seconds))
    except Exception as error:
        return pack_answer((False, unsent_result(output, error), seconds))
    except BaseException as error:  # as of a result that exits
        return pack_answer((False, error, seconds))


def perform_within(
    taken: bytes,
    prepare: Callable[[], Callable[[], Any]],
    pack_answer: Callable[[Any], _Answer],
) -> _Answer:
    """Do the same within what surrounded whoever handed the call over.

    Args:
        taken: That, packed.
        prepare: As in ``perform``, but called when that has been entered.
        pack_answer: As in ``perform``; called before that is left, for what is lazy.
    """
    try:
        what = "what surrounds the task"
        packed, error, origin = unpack_part(what, taken)
        # Each when those before it have been entered, which may set up what it needs.
        parts = (unpack_part(what, part) for part in packed)
        surroundings = Taken(parts, error, origin)
        arrival.begin()
        try:
            answer: _Answer = within(surroundings, perform, prepare, pack_answer)
        finally:
            arrival.end()
        return answer
    except BaseException as error:
        without_our_frames(error)
        return pack_answer((False, error, 0.0))


def unsent_result(output: Any, error: Exception) -> TransferError:
    """Give the error of a result that cannot be packed, by why it cannot."""
    hint = ", for a generator list(…)" if is_a(output, Generator) else ""
    unsent = TransferError(
        f"the result, a {type(output).__name__}, cannot be sent back from its "
        f"process: {reason(error, output, 'result')}. "
        f"Return what can be pickled (plain data, an id, a path{hint})"
    )
    unsent.__cause__ = error
    return unsent


def prepare_call(
    call: Callable[[Any, Any], Any] | bytes, body: Contents, context: Any
) -> Callable[[], Any]:
    """Give the call of a step, from its parts as they were sent.

    Args:
        call: The packed call, or the call itself where another has unpacked it.
        body: Its packed input.
        context: Its context.

    Raises:
        TransferError: If the call or its input cannot be unpickled.
    """
    # The function first: its module may set up what the input needs.
    function = unpack_part("the function", call) if isinstance(call, bytes) else call
    return partial(function, unpack_part("the input", body), context)


def unpack_part(what: str, data: Contents) -> Any:
    """Give back a part of a call.

    Raises:
        TransferError: If it cannot be unpickled; the text says how that may come.
        WorkerStartError: If what it imports would start workers.
    """
    try:
        return unpack(data)
    except WorkerStartError:
        raise  # it would start workers while it is imported
    except Exception as error:
        hint = ""
        if "__mp_main__" in str(error):
            hint = "; define it at the top level of the script, outside the main guard"
        elif type(error).__name__ == "AppRegistryNotReady":
            hint = (
                " A worker process starts without Django: write 'import django; "
                "django.setup()' above the imports of models in the task's module"
            )
        raise TransferError(
            f"{what} cannot be unpickled in its process: {error_text(error)}{hint}"
        ) from error


def open_answer(label: str, answer: Contents) -> tuple[bool, Any, float]:
    """Give back what ``perform`` packed.

    Raises:
        TransferError: If the result cannot be unpickled here.
    """
    try:
        is_result, payload, seconds = unpack(answer)
    except Exception as error:
        raise unreadable_result(label, error) from error
    return is_result, payload, seconds


def unreadable_result(label: str, error: Exception) -> TransferError:
    """Give the error of a result that cannot be unpacked, by why it cannot."""
    unread = TransferError(
        f"the result of {label} came back from its process, but cannot be "
        f"unpickled here: {error_text(error)}"
    )
    unread.__cause__ = error
    return unread
