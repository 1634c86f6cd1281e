"""The envelope: how values and exceptions cross between processes.

Plain pickle loses an exception whose ``__init__`` wants other arguments than it
passes on, and with it the pool that carried it. So every exception, wherever it
stands in a value, is packed by the first of three ways that brings back its type
and its text: as itself; rebuilt without ``__init__``; as a ``RemoteError`` with its
type's name and its text. The traceback always comes along, as text.
"""

from __future__ import annotations

import io
import os
import pickle
import sys
import traceback
from collections.abc import Callable, Mapping
from time import perf_counter
from types import MappingProxyType
from typing import Any

from stepfunction.core.errors import (
    RemoteError,
    RemoteTraceback,
    StepExecutionError,
    TransferError,
    error_text,
    users_traceback,
)


class _Pickler(pickle.Pickler):
    """Pickles any value, and the exceptions in it by the rules above.

    Args:
        buffer: Where to write.
        packed: The exceptions that have been packed already, by ``id``, for those
            that hold each other; None stands for one that is being packed.
        itself: An exception to pickle by its own rules.
    """

    def __init__(
        self,
        buffer: io.BytesIO,
        packed: dict[int, PackedError | None],
        itself: BaseException | None = None,
    ) -> None:
        super().__init__(buffer, pickle.HIGHEST_PROTOCOL)
        self._packed = packed
        self._itself = itself

    def reducer_override(self, value: Any) -> Any:
        if not isinstance(value, BaseException) or value is self._itself:
            return NotImplemented
        return unpack_error, _pack_error(value, self._packed)


def pack(value: Any) -> bytes:
    """Pickle a value, whatever exceptions it holds.

    Raises:
        Exception: What pickle, or a ``__reduce__`` of the value, raises.
    """
    return _pack(value, {})


def _pack(
    value: Any,
    packed: dict[int, PackedError | None],
    itself: BaseException | None = None,
) -> bytes:
    buffer = io.BytesIO()
    _Pickler(buffer, packed, itself).dump(value)
    return buffer.getvalue()


def unpack(data: bytes) -> Any:
    """Give back a packed value.

    Raises:
        Exception: What unpickling raises.
    """
    return pickle.loads(data)


def perform(
    function: Callable[..., Any],
    body: bytes,
    args: tuple[Any, ...] = (),
    kwargs: Mapping[str, Any] = MappingProxyType({}),
) -> bytes:
    """Make a call in a worker and pack its answer.

    Args:
        function: What to call.
        body: A packed value that goes before ``args``; empty for none.
        args: Its other arguments.
        kwargs: Its keyword arguments.

    Returns:
        The packed answer: whether it returned, what it returned or raised, and how
        many seconds it took.
    """
    began = perf_counter()
    try:
        if body:
            args = (_unpack_in_worker("the input", body), *args)
        began = perf_counter()
        output = function(*args, **kwargs)
    except BaseException as error:
        error.with_traceback(users_traceback(error))
        return pack((False, error, perf_counter() - began))
    seconds = perf_counter() - began
    try:
        return pack((True, output, seconds))
    except Exception as error:
        unsent = TransferError(
            f"the result, a {type(output).__name__}, cannot be sent back from its "
            f"process: {error}. Return what can be pickled (plain data, an id, a path)"
        )
        unsent.__cause__ = error
        return pack((False, unsent, seconds))


def perform_packed(head: bytes, body: bytes) -> bytes:
    """Make a packed call ``(function, args, kwargs)`` as ``perform`` does."""
    try:
        function, args, kwargs = _unpack_in_worker("the function", head)
    except TransferError as error:
        return pack((False, error, 0.0))
    return perform(function, body, args, kwargs)


def _unpack_in_worker(what: str, data: bytes) -> Any:
    try:
        return unpack(data)
    except Exception as error:
        raise TransferError(
            f"{what} cannot be unpickled in its process: {error_text(error)}"
        ) from error


def open_answer(label: str, answer: bytes) -> tuple[bool, Any, float]:
    """Give back what ``perform`` packed.

    Raises:
        TransferError: If the result cannot be unpickled here.
    """
    try:
        is_result, payload, seconds = unpack(answer)
    except Exception as error:
        raise TransferError(
            f"the result of {label} came back from its process, but cannot be "
            f"unpickled here: {error_text(error)}"
        ) from error
    return is_result, payload, seconds


def pack_for(purpose: str, value: Any, way_out: str = "") -> bytes:
    """Pickle a value, or say for whom it could not be done.

    Args:
        purpose: What the value is, for the message: "the input of step 'Pay'".
        value: Anything.
        way_out: What to do if it cannot be pickled.

    Raises:
        TransferError: If the value cannot be pickled.
    """
    try:
        return pack(value)
    except Exception as error:
        raise TransferError(
            f"{purpose} cannot be sent to another process: {error}. "
            + (way_out or _SEND_DATA)
        ) from error


_SEND_DATA = (
    "Pass on what can be pickled (plain data, an id, a path) and open the rest in the "
    "step, or use executor='thread'"
)
_SEND_BY_NAME = (
    "a process imports functions by name: define it at the top level of a module, "
    "or use executor='thread'"
)


def obstacle(call: Any) -> str | None:
    """Say why a function cannot be sent to another process; None if it can."""
    function = getattr(call, "function", call)
    main = sys.modules.get("__main__")
    if getattr(function, "__module__", None) == "__main__" and not os.path.exists(
        getattr(main, "__file__", None) or ""
    ):
        return (
            "cannot be sent to a process: it was defined in a console, a notebook, by "
            "python -c or on standard input; put it into a file that can be imported, "
            "or use executor='thread'"
        )
    try:
        pack(call)
    except Exception as error:
        return f"cannot be sent to a process ({error}); {_SEND_BY_NAME}"
    return None


def pack_call(purpose: str, call: Any) -> bytes:
    """Pickle a function with what it is to be given, or say why it cannot be sent."""
    return pack_for(f"the function of {purpose}", call, _SEND_BY_NAME.capitalize())


# An exception's way across: the pickled exception, its traceback, its packed cause.
PackedError = tuple[bytes, str | None, "PackedError | None"]


def _pack_error(
    error: BaseException, packed: dict[int, PackedError | None]
) -> PackedError:
    """Pack an exception so that it is certain to come back."""
    known = packed.get(id(error))
    if known is not None:
        return known
    if id(error) in packed:  # it is inside itself
        return _as_record(error), None, None
    packed[id(error)] = None
    cause = error.__cause__ if isinstance(error, StepExecutionError) else None
    text = "".join(traceback.format_exception(error)) if cause is None else None
    hidden = None if cause is None else _pack_error(cause, packed)
    done: PackedError = (_pack_alone(error, packed), text, hidden)
    packed[id(error)] = done
    return done


def unpack_error(
    data: bytes, traceback_text: str | None, cause: PackedError | None
) -> BaseException:
    """Give back a packed exception, with its traceback as its ``__cause__``."""
    error: BaseException = pickle.loads(data)
    if cause is not None:
        BaseException.__setattr__(error, "__cause__", unpack_error(*cause))
    else:
        BaseException.__setattr__(error, "__cause__", RemoteTraceback(traceback_text))
    return error


def _pack_alone(error: BaseException, packed: dict[int, PackedError | None]) -> bytes:
    for reduce in (_as_itself, _without_init):
        try:
            data = reduce(error, packed)
            copy = pickle.loads(data)
            if type(copy) is type(error) and str(copy) == str(error):
                return data
        except Exception:  # any class may do anything here: the next way is tried
            continue
    return _as_record(error)


def _as_itself(error: BaseException, packed: dict[int, PackedError | None]) -> bytes:
    return _pack(error, packed, itself=error)


def _without_init(error: BaseException, packed: dict[int, PackedError | None]) -> bytes:
    attributes = {}
    for name, value in getattr(error, "__dict__", {}).items():
        try:
            attributes[name] = _pack(value, packed)
        except Exception:  # an attribute such as a lock stays behind
            continue
    args = _builtin_base(error).__reduce__(error)[1]
    return pickle.dumps(_Rebuilt(type(error), _pack(args, packed), attributes))


def _as_record(error: BaseException) -> bytes:
    name = f"{type(error).__module__}.{type(error).__qualname__}"
    text = error_text(error).removeprefix(type(error).__name__).removeprefix(": ")
    return pickle.dumps(RemoteError(f"{name}: {text}", name, text))


def _builtin_base(error: BaseException) -> Any:
    """Give the class of Python's own that an exception's class comes from."""
    return next(base for base in type(error).__mro__ if base.__module__ == "builtins")


class _Rebuilt:
    """Pickles as an exception that is made again without its ``__init__``."""

    def __init__(self, *parts: Any) -> None:
        self._parts = parts

    def __reduce__(self) -> Any:
        return _rebuild, self._parts


def _rebuild(
    error_type: type[BaseException], args: bytes, attributes: dict[str, bytes]
) -> BaseException:
    values = unpack(args)
    error = error_type.__new__(error_type, *values)
    _builtin_base(error).__init__(error, *values)
    for name, value in attributes.items():
        error.__dict__[name] = unpack(value)
    return error
