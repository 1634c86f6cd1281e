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
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from types import FunctionType, MethodType
from typing import Any, TypeVar

from stepfunction.core.envelope import main_module
from stepfunction.core.envelope.parcel import Contents, Parcel, Sink
from stepfunction.core.errors import RemoteError, RemoteTraceback, StepExecutionError
from stepfunction.core.raised import cause_of, is_a
from stepfunction.core.wording import error_text, traceback_text

_Sink = TypeVar("_Sink", io.BytesIO, Sink)

# An exception's way across: the pickled exception, its traceback, its packed cause.
PackedError = tuple[bytes, str | None, "PackedError | None"]


def pack(value: Any, reducers: Mapping[type, Callable[[Any], Any]] = {}) -> bytes:
    """Pickle a value, whatever exceptions it holds.

    Args:
        value: What to pickle.
        reducers: How to pickle the instances of some classes, but in exceptions.

    Raises:
        Exception: What pickle, or a ``__reduce__`` of the value, raises.
    """
    return _Packing(reducers).data(value)


def pack_each(
    values: Iterable[Any], instead: Callable[[int, Exception], Any]
) -> tuple[bytes, list[int]]:
    """Pickle values as ``pack`` does each, but faster.

    Args:
        values: The values.
        instead: Gives what to pickle in the place of one that cannot be, by its
            position and what was raised.

    Returns:
        The packed values, each after the other, and where each of them ends.
    """
    ends: list[int] = []
    sink = io.BytesIO()
    pickler = _Packing().pickler(sink)
    for position, value in enumerate(values):
        try:
            pickler.dump(value)
        except Exception:
            sink.seek(ends[-1] if ends else 0)
            sink.truncate()
            try:
                data = pack(value)
            except Exception as error:
                data = pack(instead(position, error))
            sink.write(data)
        pickler.clear_memo()
        ends.append(sink.tell())
    return sink.getvalue(), ends


def pack_once(value: Any) -> bytes:
    """Pickle a value as ``pack`` does, for one process of this machine.

    What processes can share goes along as between those of multiprocessing: pipes and
    sockets, and while a process is being started its locks and queues. They can be
    unpacked only once.

    Raises:
        Exception: What pickle, or a ``__reduce__`` of the value, raises.
    """
    return _Packing(_reducers_of_multiprocessing()).data(value)


def pack_parcel(value: Any) -> Parcel:
    """Pickle a value as ``pack`` does, large ones into a file.

    Raises:
        Exception: What pickle, or a ``__reduce__`` of the value, raises.
    """
    return _Packing().dump(value, Sink).parcel()


def unpack(data: Contents) -> Any:
    """Give back a packed value.

    Raises:
        Exception: What unpickling raises.
    """
    return pickle.loads(data)


class _Packing:
    """The packing of one value, which knows the exceptions that were met in it.

    Args:
        reducers: How to pickle the instances of some classes.
    """

    def __init__(self, reducers: Mapping[type, Callable[[Any], Any]] = {}) -> None:
        self._reducers = reducers
        # By id, for exceptions that hold each other, and with each of them, so that no
        # other comes to have its id. None stands for what is being packed.
        self._met: dict[int, tuple[BaseException, PackedError | None]] = {}

    def data(self, value: Any, itself: BaseException | None = None) -> bytes:
        """Pickle a value into memory, as ``dump`` does."""
        return self.dump(value, io.BytesIO, itself).getvalue()

    def dump(
        self,
        value: Any,
        open_sink: Callable[[], _Sink],
        itself: BaseException | None = None,
    ) -> _Sink:
        """Pickle a value, with cloudpickle where pickle cannot and it is installed.

        Args:
            value: What to pickle.
            open_sink: Gives where to write.
            itself: An exception to pickle by its own rules.
        """

        reduce = partial(self._reduce, itself)
        sink = open_sink()
        try:
            self.pickler(sink, itself).dump(value)
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

    def pickler(self, sink: Any, itself: BaseException | None = None) -> _Pickler:
        """Give what pickles values without the help of cloudpickle."""
        return _Pickler(sink, partial(self._reduce, itself), bool(self._reducers))

    def _reduce(self, itself: BaseException | None, part: Any) -> Any:
        if not is_a(part, BaseException):
            reducer = self._reducers.get(type(part))
            return NotImplemented if reducer is None else reducer(part)
        if part is itself:
            return NotImplemented
        return unpack_error, self._error(part)

    def _error(self, error: BaseException) -> PackedError:
        """Pack an exception so that it is certain to come back."""
        if id(error) in self._met:
            known = self._met[id(error)][1]
            return (_as_record(error), None, None) if known is None else known
        self._met[id(error)] = error, None
        cause = cause_of(error) if is_a(error, StepExecutionError) else None
        text = traceback_text(error) if cause is None else None
        hidden = None if cause is None else self._error(cause)
        done: PackedError = (self._alone(error), text, hidden)
        self._met[id(error)] = error, done
        return done

    def _alone(self, error: BaseException) -> bytes:
        reducers, self._reducers = self._reducers, {}  # it is tried by itself
        try:
            return self._tried(error)
        finally:
            self._reducers = reducers

    def _tried(self, error: BaseException) -> bytes:
        for way in (self._as_itself, self._without_init):
            try:
                data = way(error)
                copy = pickle.loads(data)
                if type(copy) is type(error) and str(copy) == str(error):
                    return data
            except Exception:  # any class may do anything here: the next way is tried
                continue
        return _as_record(error)

    def _as_itself(self, error: BaseException) -> bytes:
        return self.data(error, itself=error)

    def _without_init(self, error: BaseException) -> bytes:
        attributes = {}
        for name, value in getattr(error, "__dict__", {}).items():
            try:
                attributes[name] = self.data(value)
            except Exception:  # an attribute such as a lock stays behind
                continue
        args = _builtin_base(error).__reduce__(error)[1]
        return self.data(_Rebuilt(type(error), self.data(args), attributes))


class _Pickler(pickle.Pickler):
    """Pickles any value by what can be imported, and its exceptions as ``reduce`` says.

    Args:
        sink: Where to write.
        reduce: Asked how a value is to be pickled, or gives NotImplemented.
        is_asking: Whether it is asked of every value, and not of exceptions alone.
    """

    def __init__(
        self, sink: Any, reduce: Callable[[Any], Any], is_asking: bool
    ) -> None:
        super().__init__(sink, pickle.HIGHEST_PROTOCOL)
        self._reduce = reduce
        self._is_asking = is_asking

    def reducer_override(self, value: Any) -> Any:
        if issubclass(type(value), (type, FunctionType)):
            if value.__module__ == "__main__" and not main_module.is_importable():
                raise pickle.PicklingError(
                    f"{value.__qualname__} was defined in a console, a notebook, by "
                    "python -c, on standard input or in a package's __main__"
                )
        elif self._is_asking or is_a(value, BaseException):
            return self._reduce(value)
        return NotImplemented


def _reducers_of_multiprocessing() -> Mapping[type, Callable[[Any], Any]]:
    from multiprocessing import connection, reduction  # noqa: F401: it registers some

    known: dict[type, Callable[[Any], Any]]
    known = getattr(reduction.ForkingPickler, "_extra_reducers", {})
    return {it: reducer for it, reducer in known.items() if it not in _PLAIN}


# Which it registers too, though pickle does as well by itself.
_PLAIN = (MethodType, type(list.append), type(int.__add__), partial)


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
