"""Revival: exceptions as a store has them, and made again as what they were.

The class of an exception is looked for among what has been imported, and nothing is
imported for it. No Python code of it is called: it is made as the class of Python's own
that it comes from makes it, and what it had is put where it was. Where there is no such
class here, a ``RemoteError`` stands for it.
"""

from __future__ import annotations

import builtins
import sys
from collections.abc import Callable, Mapping
from types import ModuleType, NoneType
from typing import Any

from stepfunction.core import errors as ours
from stepfunction.core import raised
from stepfunction.core.errors import (
    ParallelStepExecutionError,
    RemoteError,
    RemoteTraceback,
    StepExecutionError,
    StepFunctionError,
)
from stepfunction.core.raised import is_a
from stepfunction.core.transcript.exceptions import text_of
from stepfunction.core.transcript.kinds import module_and_name
from stepfunction.core.transcript.parts import Part
from stepfunction.core.transcript.values import DEEPEST, ValueReader, repr_of
from stepfunction.core.wording import traceback_text

_RECORDED = "_recorded_traceback"  # where there is no place for a RemoteTraceback
# What the classes of Python's own keep elsewhere than in ``args`` and ``__dict__``.
_KNOWN: dict[type[BaseException], tuple[str, ...]] = {
    AttributeError: ("name",),
    ImportError: ("msg", "name", "path", "name_from"),
    NameError: ("name",),
    OSError: (
        *("errno", "strerror", "filename", "filename2", "winerror"),
        "characters_written",
    ),
    StopIteration: ("value",),
    SyntaxError: (
        *("msg", "filename", "lineno", "offset", "text", "end_lineno"),
        *("end_offset", "print_file_and_line"),
    ),
    SystemExit: ("code",),
    UnicodeDecodeError: ("encoding", "object", "start", "end", "reason"),
    UnicodeEncodeError: ("encoding", "object", "start", "end", "reason"),
    UnicodeTranslateError: ("object", "start", "end", "reason"),
}
# By id, for a class may have an equality of its own.
_FIELDS = {id(kind): names for kind, names in _KNOWN.items()}
_EXITS = {id(SystemExit), id(KeyboardInterrupt)}
_SPANS: tuple[tuple[type[Any], type[Any]], ...] = (
    (UnicodeDecodeError, bytes),
    (UnicodeEncodeError, str),
    (UnicodeTranslateError, str),
)
_HEAPTYPE = 1 << 9

_the: Any = vars(BaseException)
_args, _attributes = _the["args"], _the["__dict__"].__get__
_set_cause, _set_context = _the["__cause__"].__set__, _the["__context__"].__set__
_hides = _the["__suppress_context__"]
_base_of, _contents_of, _flags_of, _mro_of, _name_of = (
    vars(type)[it].__get__
    for it in ("__base__", "__dict__", "__flags__", "__mro__", "__name__")
)
_contents_of_module = vars(ModuleType)["__dict__"].__get__


class ErrorTable:
    """The exceptions that are found while a value, or one of them, is written.

    Args:
        write: Writes a value, and gives the ``repr`` of what cannot be.
    """

    def __init__(self, write: Callable[[Any], Any]) -> None:
        self._write = write
        self._found: list[tuple[BaseException, int]] = []  # and how deep in others
        self._numbers: dict[int, int] = {}  # by id
        self._deep = 0

    def number(self, error: BaseException | None) -> int | None:
        """Give the place of an exception; None for none, and beyond all bounds."""
        if error is None:
            return None
        number = self._numbers.get(id(error))
        if number is None and self._deep <= DEEPEST:
            number = self._numbers[id(error)] = len(self._found)
            self._found.append((error, self._deep))
        return number

    def written(self) -> list[dict[str, Any]]:
        """Give what is written of them, and of those that are found with them."""
        table: list[dict[str, Any]] = []
        for error, deep in self._found:  # which grows meanwhile
            self._deep = deep + 1
            table.append(self._facts(error))
        for number, key in _closing(table):
            table[number][key] = None
        return table

    def _facts(self, error: BaseException) -> dict[str, Any]:
        attributes = dict(_attributes(error))
        cause, trace = raised.cause_of(error), attributes.pop(_RECORDED, None)
        hides_context = _hides.__get__(error)
        if is_a(cause, RemoteTraceback):
            trace = trace or str(_args.__get__(cause)[:1] and cause.args[0])
            cause = raised.cause_of(cause)
            hides_context = cause is not None
        if type(trace) is not str:
            trace = None
            if raised.traceback_of(error) is not None:
                trace = traceback_text(error, chain=False)
        if is_a(error, StepFunctionError):
            attributes.pop("execution", None)
        args = _args.__get__(error)
        facts: dict[str, Any] = {
            "class": list(module_and_name(type(error))),
            "text": text_of(error),
            "args": list(map(self._kept, args)),
            "attributes": {
                key: self._attribute(part, args)
                for key, part in attributes.items()
                if type(key) is str
            },
            "fields": self._fields(error),
            "traceback": trace,
            "cause": self.number(cause),
            "context": self.number(None if hides_context else raised.context_of(error)),
            "hides": hides_context,
        }
        if is_a(error, BaseExceptionGroup):
            of_group: Any = vars(BaseExceptionGroup)
            inner = of_group["exceptions"].__get__(error)
            facts["message"] = self._kept(of_group["message"].__get__(error))
            facts["exceptions"] = list(map(self.number, inner))
        return facts

    def _fields(self, error: BaseException) -> dict[str, Any]:
        fields: dict[str, Any] = {}
        for kind in _mro_of(type(error)):
            for name, field in _fields_of(kind):
                try:
                    value = field.__get__(error)
                except AttributeError:  # it was never set
                    continue
                if value is not None:
                    fields[name] = self._kept(value)
        return fields

    def _attribute(self, value: Any, args: tuple[Any, ...]) -> Any:
        """Write an attribute; of one that is an argument which one that is."""
        if not is_a(value, (bool, int, float, str, NoneType)):
            for index, arg in enumerate(args):
                if arg is value:
                    return {"$arg": index}
        return self._kept(value)

    def _kept(self, value: Any) -> Any:
        try:
            return self._write(value)
        except Exception:  # what an exception holds may do anything
            return {"$repr": repr_of(value)}


def _fields_of(kind: type[Any]) -> list[tuple[str, Any]]:
    """Give what an exception has of a class that is not in its ``__dict__``."""
    contents = _contents_of(kind)
    names = _FIELDS.get(id(kind), ())
    if not names and _flags_of(kind) & _HEAPTYPE:
        names = contents.get("__slots__", ())
        names = (names,) if type(names) is str else names
        if type(names) not in (tuple, list, dict):
            return []
    found = [(it, contents.get(it)) for it in names if type(it) is str]
    return [(name, it) for name, it in found if type(it) in _C_FIELDS]


_C_FIELDS = (
    type(vars(OSError)["errno"]),
    type(vars(OSError)["characters_written"]),
)


def _closing(table: list[dict[str, Any]]) -> list[tuple[int, str]]:
    """Give the causes and contexts that lead back to where they come from."""
    found: list[tuple[int, str]] = []
    done: set[int] = set()
    for start in range(len(table)):
        path = [(start, iter(("cause", "context")))]
        around = {start}
        while path:
            number, keys = path[-1]
            key = None if number in done else next(keys, None)
            if key is None:
                done.add(number)
                around.discard(number)
                path.pop()
                continue
            following = table[number][key]
            if following in around:
                found.append((number, key))
            elif following is not None and following not in done:
                around.add(following)
                path.append((following, iter(("cause", "context"))))
    return found


def read_errors(table: Part, values: ValueReader) -> None:
    """Make the exceptions of a table, and put them into that of a reader of values.

    Raises:
        TranscriptError: If it is none that ``ErrorTable`` has written.
    """
    parts = list(table.parts())
    for it in parts:
        for key in ("cause", "context"):
            it.pick(key, parts)
    for number, key in _closing([it.value for it in parts]):
        parts[number].part(key).refuse("is a cause of itself")
    made = _Maker(parts)
    for number in range(len(parts)):
        made.make(number)
    values.errors += made.errors
    for error, it in zip(values.errors, parts):
        if not is_a(error, RemoteError) or _is_of(it, RemoteError):
            _fill(error, it, values)
        elif "__notes__" in it.get("attributes", dict):
            notes = it.part("attributes").part("__notes__")
            _attributes(error)["__notes__"] = values.read(notes)
        _link(error, it, values)


def _is_of(it: Part, kind: type[Any]) -> bool:
    name: list[str] = it.get("class", list)
    return name == list(module_and_name(kind))


class _Maker:
    """Makes the exceptions of a table, without what they hold but that of groups."""

    def __init__(self, parts: list[Part]) -> None:
        self._parts = parts
        self._open: set[int] = set()
        self.errors: list[Any] = [None] * len(parts)

    def make(self, number: int) -> BaseException:
        """Give an exception of the table."""
        if self.errors[number] is None:
            it = self._parts[number]
            if number in self._open or len(self._open) > DEEPEST:
                it.refuse("is a part of itself")
            self._open.add(number)
            self.errors[number] = self._made(it)
            self._open.discard(number)
        error: BaseException = self.errors[number]
        return error

    def _made(self, it: Part) -> BaseException:
        names, text = it.part("class", list), it.get("text", str)
        if len(names.value) != 2 or not all(type(name) is str for name in names.value):
            names.refuse("is no module and name")
        kind = _loaded(*names.value)
        inner = [
            None if one.value is None else self.make(self._index(one))
            for one in it.each("exceptions")
        ]
        if kind is not None and all(one is not None for one in inner):
            base = _base(kind)
            is_group = issubclass(base, BaseExceptionGroup)
            args = (it.get("message", str), inner) if is_group else ()
            try:
                error: BaseException = base.__new__(kind, *args)
                if type(error) is kind:
                    return error
            except Exception:  # a class in C code that is made in its own way alone
                pass
        name = ".".join(names.value)
        return RemoteError(f"{name}: {text}" if text else name, name, text)

    def _index(self, it: Part) -> int:
        it.picked(self._parts)
        index: int = it.value
        return index


def _loaded(module: str, name: str) -> Any:
    """Give a class of exceptions that has been imported; None if there is none."""
    if module == ours.__name__ and name in ours._LOSSES:
        getattr(ours, name)  # which is not there until it is asked for
    found: Any = sys.modules.get(module)
    if not issubclass(type(found), ModuleType):
        return None
    contents: Any = _contents_of_module(found)
    for part in name.split("."):
        found = contents.get(part)
        if not issubclass(type(found), type):
            return None
        contents = _contents_of(found)
    family = {*map(id, _mro_of(found))}
    if id(BaseException) not in family:
        return None
    return None if family & _EXITS and id(found) not in _EXITS else found


def _base(kind: type[Any]) -> Any:
    """Give the class of Python's own that makes the exceptions of a class."""
    base: Any = kind
    while vars(builtins).get(_name_of(base)) is not base:
        base = _base_of(base)
    return base


def _fill(error: BaseException, it: Part, values: ValueReader) -> None:
    """Put into an exception what it had."""
    args = [values.read(one) for one in it.part("args", list).parts()]
    attributes = {
        one.path[-1]: _attribute(one, args, values)
        for one in it.part("attributes", dict).parts()
    }
    fields = it.part("fields", dict)
    read = {one.path[-1]: values.read(one) for one in fields.parts()}
    for kind, of in _SPANS:
        if is_a(error, kind) and not _is_span(read, of):
            fields.refuse("are of no text")
    if vars(ours).get(_name_of(type(error))) is type(error):
        _check(error, attributes, it)
    _args.__set__(error, tuple(args))
    _attributes(error).update(attributes)
    for kind in _mro_of(type(error)):
        for name, field in _fields_of(kind):
            if name in read:
                try:
                    field.__set__(error, read.pop(name))
                except (TypeError, ValueError, OverflowError, AttributeError):
                    fields.part(name).refuse("is of another type")


def _check(error: BaseException, attributes: dict[str, Any], it: Part) -> None:
    """Refuse an error of ours that lacks what others ask it for."""
    code = getattr(type(error).__init__, "__code__", None)
    for name in () if code is None else code.co_varnames[2 : code.co_argcount]:
        if name not in attributes:
            it.part("attributes").refuse(f"lack {name}")
    if is_a(error, ParallelStepExecutionError):
        for name in ("outcomes", "results", "errors"):
            if not isinstance(attributes[name], Mapping):
                it.part("attributes").refuse(f"have {name} that are none")


def _is_span(fields: dict[str, Any], kind: type[Any]) -> bool:
    """Tell whether an error of Unicode has all it says, as its text takes for granted.

    One that was made without its ``__init__`` has none of it.
    """
    if not fields:
        return True
    names = ("object", "start", "end", "reason", "encoding")
    found: list[Any] = [fields.get(it) for it in names]
    text, start, end, *said = found
    return (
        type(text) is kind
        and type(start) is type(end) is int
        and 0 <= start <= end <= len(text)
        and all(type(it) is str for it in said if it is not None)
    )


def _attribute(it: Part, args: list[Any], values: ValueReader) -> Any:
    written = it.value
    if type(written) is dict and list(written) == ["$arg"]:
        return it.part("$arg", int).picked(args)
    return values.read(it)


def _link(error: BaseException, it: Part, values: ValueReader) -> None:
    cause, context = (it.pick(key, values.errors) for key in ("cause", "context"))
    trace = it.get("traceback", str | None)
    if trace is not None:
        if cause is None and context is None and not is_a(error, StepExecutionError):
            cause = RemoteTraceback(trace)
        else:
            _attributes(error)[_RECORDED] = trace
    _set_context(error, context)
    if cause is not None:
        _set_cause(error, cause)
    if it.get("hides", bool):
        _hides.__set__(error, True)
