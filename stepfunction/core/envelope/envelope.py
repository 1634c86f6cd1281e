"""The envelope: how values and exceptions cross between processes.

Plain pickle loses an exception whose ``__init__`` wants other arguments than it
passes on, and with it the pool that carried it. So every exception, wherever it
stands in a value, is packed by the first of three ways that brings back its type
and its text: as itself; rebuilt without ``__init__``; as a ``RemoteError`` with its
type's name and its text. The traceback always comes along, as text.
"""

from __future__ import annotations

import io
import pickle
import traceback
from collections.abc import Callable
from types import FunctionType
from typing import Any, TypeAlias, TypeVar

from stepfunction.core.envelope import main_module
from stepfunction.core.envelope.parcel import Contents, Parcel, Sink
from stepfunction.core.envelope.whereabouts import locate
from stepfunction.core.errors import (
    RemoteError,
    RemoteTraceback,
    StepExecutionError,
    TransferError,
)
from stepfunction.core.wording import error_text

_Sink = TypeVar("_Sink", io.BytesIO, Sink)
_Packed = TypeVar("_Packed", bound=Parcel)


class _Pickler(pickle.Pickler):
    """Pickles any value by what can be imported, and its exceptions as ``reduce`` says.

    Args:
        sink: Where to write.
        reduce: Asked first how a value is to be pickled, or gives NotImplemented.
    """

    def __init__(self, sink: Any, reduce: Callable[[Any], Any]) -> None:
        super().__init__(sink, pickle.HIGHEST_PROTOCOL)
        self._reduce = reduce

    def reducer_override(self, value: Any) -> Any:
        if isinstance(value, type | FunctionType):
            if value.__module__ == "__main__" and not main_module.is_importable():
                raise pickle.PicklingError(
                    f"{value.__qualname__} was defined in a console, a notebook, by "
                    "python -c, on standard input or in a package's __main__"
                )
        elif isinstance(value, BaseException):
            return self._reduce(value)
        return NotImplemented


def pack(value: Any) -> bytes:
    """Pickle a value, whatever exceptions it holds.

    Raises:
        Exception: What pickle, or a ``__reduce__`` of the value, raises.
    """
    return _pack(value, {})


def pack_parcel(value: Any) -> Parcel:
    """Pickle a value as ``pack`` does, large ones into a file.

    Raises:
        Exception: What pickle, or a ``__reduce__`` of the value, raises.
    """
    return _dump(value, Sink, {}).parcel()


# The exceptions that have been packed already, by id, for those that hold each other;
# None stands for one that is being packed.
_Memo: TypeAlias = "dict[int, PackedError | None]"


def _pack(value: Any, packed: _Memo, itself: BaseException | None = None) -> bytes:
    return _dump(value, io.BytesIO, packed, itself).getvalue()


def _dump(
    value: Any,
    open_sink: Callable[[], _Sink],
    packed: _Memo,
    itself: BaseException | None = None,
) -> _Sink:
    """Pickle a value, with cloudpickle where pickle cannot and it is installed.

    Args:
        value: What to pickle.
        open_sink: Gives where to write.
        packed: The exceptions that have been packed.
        itself: An exception to pickle by its own rules.
    """

    def reduce(part: Any) -> Any:
        if not isinstance(part, BaseException) or part is itself:
            return NotImplemented
        return unpack_error, _pack_error(part, packed)

    sink = open_sink()
    try:
        _Pickler(sink, reduce).dump(value)
    except Exception as error:
        sink.close()
        try:
            from stepfunction.core.envelope.by_value import ByValuePickler
        except ImportError:
            raise error from None
        sink = open_sink()
        try:
            ByValuePickler(sink, reduce, main_module.has_name).dump(value)
        except Exception as final:
            sink.close()
            raise final from None
    return sink


def unpack(data: Contents) -> Any:
    """Give back a packed value.

    Raises:
        Exception: What unpickling raises.
    """
    return pickle.loads(data)


def pack_input(label: str, value: Any, pack: Callable[[Any], _Packed]) -> _Packed:
    """Pack the input of a step or task, or say why it cannot be sent.

    Args:
        label: What messages call the step or task.
        value: Its input.
        pack: ``pack``, or ``pack_parcel`` for a process of this machine.

    Raises:
        TransferError: If it cannot be pickled.
    """
    try:
        return pack(value)
    except Exception as error:
        raise TransferError(
            f"the input of {label} cannot be sent to another process: "
            f"{reason(error, value, 'input')}. Pass on what can be pickled (plain "
            "data, an id, a path) and open the rest in the step, or use "
            "executor='thread'"
        ) from error


def pack_call(label: str, call: Any) -> bytes:
    """Pickle a function with what it is to be given, or say why it cannot be sent.

    Raises:
        TransferError: If it cannot be pickled.
    """
    try:
        return pack(call)
    except Exception as error:
        raise TransferError(
            f"the function of {label} cannot be sent to another process: "
            f"{reason(error, call, 'call')}. {_way_out(error).capitalize()}"
        ) from error


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
    way = locate(value, root, pack)
    if way in (root, "call.function"):
        return str(error)
    return f"{way.removeprefix('call.')}: {error}"


# An exception's way across: the pickled exception, its traceback, its packed cause.
PackedError = tuple[bytes, str | None, "PackedError | None"]


def _pack_error(
    error: BaseException, packed: _Memo
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
    # tblib, which Dask brings, makes tracebacks travel: rebuilt ones keep alive the
    # frames that unpickled them, and all that these hold.
    BaseException.with_traceback(error, None)
    BaseException.__setattr__(error, "__context__", None)
    if cause is not None:
        BaseException.__setattr__(error, "__cause__", unpack_error(*cause))
    else:
        BaseException.__setattr__(error, "__cause__", RemoteTraceback(traceback_text))
    return error


def _pack_alone(error: BaseException, packed: _Memo) -> bytes:
    for reduce in (_as_itself, _without_init):
        try:
            data = reduce(error, packed)
            copy = pickle.loads(data)
            if type(copy) is type(error) and str(copy) == str(error):
                return data
        except Exception:  # any class may do anything here: the next way is tried
            continue
    return _as_record(error)


def _as_itself(error: BaseException, packed: _Memo) -> bytes:
    return _pack(error, packed, itself=error)


def _without_init(error: BaseException, packed: _Memo) -> bytes:
    attributes = {}
    for name, value in getattr(error, "__dict__", {}).items():
        try:
            attributes[name] = _pack(value, packed)
        except Exception:  # an attribute such as a lock stays behind
            continue
    args = _builtin_base(error).__reduce__(error)[1]
    rebuilt = _Rebuilt(type(error), _pack(args, packed), attributes)
    return _pack(rebuilt, packed)


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
