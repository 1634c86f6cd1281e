"""Refusals: what is said of a value that cannot cross, and of which part of it."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any, TypeVar

from stepfunction.core.envelope import main_module
from stepfunction.core.envelope.envelope import pack
from stepfunction.core.envelope.parcel import Parcel
from stepfunction.core.errors import TransferError
from stepfunction.core.members import members, suffix
from stepfunction.core.surroundings import Taken

_Packed = TypeVar("_Packed", bound=Parcel)
_DEEPEST = 50


def pack_input(
    label: str, value: Any, pack_value: Callable[[Any], _Packed]
) -> _Packed:
    """Pack the input of a step or task, or say why it cannot be sent.

    Args:
        label: What messages call the step or task.
        value: Its input.
        pack_value: ``pack``, or ``pack_parcel`` for a process of this machine.

    Raises:
        TransferError: If it cannot be pickled.
    """
    try:
        return pack_value(value)
    except Exception as error:
        raise TransferError(
            f"the input of {label} cannot be sent to another process: "
            f"{reason(error, value, 'input')}. Pass on what can be pickled (plain "
            "data, an id, a path) and open the rest in the step, or use "
            "executor='thread'"
        ) from error


def pack_call(
    label: str, call: Any, pack_value: Callable[[Any], bytes] = pack
) -> bytes:
    """Pickle a function with what it is to be given, or say why it cannot be sent.

    Args:
        label: What messages call it.
        call: The function, alone or with its arguments.
        pack_value: ``pack``, or ``pack_once`` for one process of this machine.

    Raises:
        TransferError: If it cannot be pickled.
    """
    try:
        return pack_value(call)
    except Exception as error:
        raise TransferError(
            f"the function of {label} cannot be sent to another process: "
            f"{reason(error, call, 'call')}. {_way_out(error).capitalize()}"
        ) from error


def pack_taken(taken: Taken | None, label: str) -> bytes:
    """Pickle what is to surround a task, or say why it cannot be sent; nothing if none.

    Raises:
        TransferError: If it cannot be pickled.
    """
    if taken is None:
        return b""
    parts = []
    for part in taken.parts:
        try:
            parts.append(pack(part))
        except Exception as error:
            raise TransferError(
                f"{label} cannot have its surroundings in another process, for a "
                f"{type(part[0]).__name__} and what its take() gave cannot be sent "
                f"there: {reason(error, part, 'surroundings')}"
            ) from error
    return pack((parts, taken.error, taken.origin))


def obstacle(call: Any) -> str | None:
    """Say why a function cannot be sent to another process; None if it can."""
    try:
        pack(call)
    except Exception as error:
        why = reason(error, call, "call")
        return f"cannot be sent to a process ({why}); {_way_out(error)}"
    return None


def _way_out(error: Exception) -> str:
    # pickle's own errors for what has no name to import it by.
    if isinstance(error, pickle.PicklingError | AttributeError):
        if not main_module.can_send_by_value():
            return (
                "a process imports functions by name: define it at the top level of a "
                "module, pip install cloudpickle, or use executor='thread'"
            )
    return "leave out what cannot be pickled, or use executor='thread'"


def reason(error: Exception, value: Any, root: str) -> str:
    """Give pickle's own reason, and which part of the value it is about.

    Args:
        error: What packing raised.
        value: What could not be packed.
        root: What to call it.
    """
    if isinstance(error.__cause__ or error, RecursionError):
        return f"the {root} is nested too deep for pickle ({error})"
    way = _way_to_fault(value, root)
    if way in (root, "call.function"):
        return str(error)
    return f"{way.removeprefix('call.')}: {error}"


def _way_to_fault(value: Any, root: str) -> str:
    """Give the way to the innermost part of a value that cannot be packed.

    Args:
        value: What cannot be packed.
        root: What the value is called: ``"input"``.

    Returns:
        An expression such as ``"input.connection['lock']"``; the root alone if it is
        the value itself, or if its parts say nothing.
    """
    way, met = root, [value]  # which is kept, for by identity alone they are compared
    for _ in range(_DEEPEST):
        try:
            for key, part in members(value):
                if all(part is not one for one in met) and _fails(part):
                    way, value = way + suffix(key), part
                    met.append(part)
                    break
            else:
                return way
        except Exception:  # a reduce, a repr or a mapping of the user's own fails
            return way
    return root  # nested too deep: that itself is what is wrong


def _fails(part: Any) -> bool:
    try:
        pack(part)
    except Exception:
        return True
    return False
