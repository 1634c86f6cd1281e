"""Values: the one writer, and the one reader, of values as JSON.

JSON has no more than texts, numbers, lists and objects. What else Python has is marked:
an object with one key that begins with ``$``::

    {"$repr": text}            any other value, as its repr; cut where it is long
    {"$error": number}         an exception, by its place in the table
    {"$float": "nan"}          also "inf" and "-inf"
    {"$int": "-0xff"}          of more digits than Python reads
    {"$str": [text, …]}        pieces of a text, between halves of a character
    {"$bytes": text}           in base64
    {"$tuple": [value, …]}     so also $set and $frozenset, ordered by what is written
    {"$dict": [[key, value], …]}    other keys than text, or one that begins with $
    {"$results": [dict, error]}     the results of a parallel step
    {"$items": [list, error]}       the results of a map step
    {"$outcome": "SUCCEEDED"}       an ``Outcome``
    {"$value": [name, value]}       of a class with a codec: what that made of it

``kinds`` has more of them. A ``ValueWriter`` is lenient. All but a ``$repr``, which
``lost`` and ``endless`` write, comes back as it was: where nothing may be lost, these
two refuse. That of ``strictness`` has no marks at all: what JSON has not is noted with
its place.
"""

from __future__ import annotations

import json
import re
from binascii import a2b_base64, b2a_base64
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any, TypeAlias

from stepfunction.core.envelope.omitted import Omitted
from stepfunction.core.errors import (
    ParallelStepExecutionError,
    TranscriptError,
    add_note,
)
from stepfunction.core.history.results import MapResults, TaskResults
from stepfunction.core.outcomes import Outcome
from stepfunction.core.raised import is_a
from stepfunction.core.transcript import kinds
from stepfunction.core.transcript.parts import Part, Path, place, shown
from stepfunction.core.wording import error_text

# Of where a value stands, which begins with the step (a task as "step.task") and
# "input", "output", "error" or "traceback", and of the value.
Redact: TypeAlias = Callable[[Path, Any], Any]

DEEPEST = 100  # containers in one another
_LONGEST_REPR = 10_000
# Where two code points stand for a character together, which JSON reads as that one.
_PAIR = re.compile("(?<=[\ud800-\udbff])(?=[\udc00-\udfff])")


class ValueWriter:
    """Writes values as data that JSON can hold, and marks what JSON has not.

    Args:
        redact: Gives what to write in the place of each value.
        number: Gives the place of an exception in a table, of one that was met in a
            step; None for one that has none.
    """

    largest = 10**4_000  # Python reads no number of more than 4,300 digits

    def __init__(
        self,
        redact: Redact | None = None,
        number: Callable[[BaseException, str], int | None] | None = None,
    ) -> None:
        self._redact = redact
        self._number = number
        self._open: set[int] = set()  # the containers around what is being written

    def write(self, value: Any, at: Path = ()) -> Any:
        """Give what is to be written of a value that stands at a place."""
        return self._plain(self.redacted(value, at), at)

    def redacted(self, value: Any, at: Path) -> Any:
        """Give what is to be seen of a value."""
        if self._redact is None:
            return value
        try:
            return self._redact(at, value)
        except Exception as error:
            add_note(error, f"raised by redact(where, value), where {at!r}")
            raise

    def _plain(self, value: Any, at: Path) -> Any:
        kind = type(value)
        if value is None or kind is bool:
            return value
        if kind is str:
            if value.isascii() or not _PAIR.search(value):
                return value
        elif kind is int or kind is float:
            if abs(value) < self.largest:
                return value
        elif kind is list or kind is dict:
            return self.inside(value, at)
        return self.other(value, at)

    def other(self, value: Any, at: Path) -> Any:
        """Write what JSON has not."""
        kind = type(value)
        if kind is float:
            return {"$float": repr(value)}
        if kind is int:
            return {"$int": hex(value)}
        if kind is str:
            return {"$str": _PAIR.split(value)}
        if kind is Omitted:
            return {"$repr": value.text}
        if kind is Outcome:
            return {"$outcome": value.value}
        if kind is bytes:
            return self.blob(value, at)
        if is_a(value, BaseException) and self._number is not None:
            number = self._number(value, str(at[0]) if at else "")
            return self.lost(value, at) if number is None else {"$error": number}
        if id(kind) in _MARKED:
            return self.inside(value, at)
        known = kinds.of(kind)
        if known is not None:
            return self._guarded(partial(self._of_kind, known), value, at)
        if self._redact is not None and issubclass(kind, (dict, list, tuple)):
            return self.inside(value, at)  # for its repr would tell all
        return self.lost(value, at)

    def blob(self, value: bytes, at: Path) -> Any:
        """Write bytes."""
        if len(value) > _LONGEST_REPR:
            return self.lost(value, at)
        return {"$bytes": b2a_base64(value, newline=False).decode()}

    def _of_kind(self, kind: kinds.Kind, value: Any, at: Path) -> Any:
        """Write what a value is made of."""
        try:
            parts = kind.encode(value)
        except Exception as error:  # a codec may do anything
            return self.unmade(value, at, error)
        if kind.name:  # what is to be hidden of it may be plain only now
            return {kind.mark: [kind.name, self.write(parts, at)]}
        return {kind.mark: self._plain(parts, at)}

    def unmade(self, value: Any, at: Path, error: Exception) -> Any:
        """Write a value which its codec could not encode."""
        return self.lost(value, at)

    def lost(self, value: Any, at: Path) -> Any:
        """Write what will not come back as it was; an exact writer refuses it here."""
        return {"$repr": repr_of(value)}

    def inside(self, value: Any, at: Path) -> Any:
        """Write a container, unless it stands in itself, or too deep in others."""
        return self._guarded(self.container, value, at)

    def _guarded(
        self, write: Callable[[Any, Path], Any], value: Any, at: Path
    ) -> Any:
        around, key = self._open, id(value)
        if key in around or len(around) >= DEEPEST:
            return self.endless(value, at)
        around.add(key)
        try:
            return write(value, at)
        finally:
            around.discard(key)

    def endless(self, value: Any, at: Path) -> Any:
        """Write a container in itself, or too deep in others."""
        return {"$repr": "…"}

    def container(self, value: Any, at: Path) -> Any:
        """Write what has other values inside."""
        # Not by isinstance(), nor by methods of its own, which may say anything.
        kind = type(value)
        if kind is TaskResults or kind is MapResults:
            return self._results(value, at)
        if issubclass(kind, dict):
            return self.mapping(self._parts(list(dict.items(value)), at), at)
        base: Any = next(it for it in _SEQUENCES if issubclass(kind, it))
        items = [it for _, it in self._parts(enumerate(base.__iter__(value)), at)]
        if base is set or base is frozenset:
            # Their own order is another in each process.
            items.sort(key=json.dumps)
        return items if base is list else {f"${base.__name__}": items}

    def _parts(
        self, pairs: Iterable[tuple[Any, Any]], at: Path
    ) -> list[tuple[Any, Any]]:
        write, may_skip = self.write, self._redact is None
        return [
            (key, part)
            if may_skip and _is_leaf(part)
            else (key, write(part, (*at, key)))
            for key, part in pairs
        ]

    def mapping(self, pairs: list[tuple[Any, Any]], at: Path) -> dict[str, Any]:
        """Give a dict, as its keys and what was written of their values."""
        is_plain = all(
            type(key) is str and (key.isascii() or not _PAIR.search(key))
            for key, _ in pairs
        )
        if is_plain and not (len(pairs) == 1 and pairs[0][0][:1] == "$"):
            return dict(pairs)
        # Keys are not redacted.
        return {"$dict": [[self._plain(key, at), it] for key, it in pairs]}

    def _results(self, value: Any, at: Path) -> dict[str, list[Any]]:
        is_tasks = type(value) is TaskResults
        pairs = value.items() if is_tasks else enumerate(value)
        results = []
        for key, result in list(pairs):
            where: Path = (*at, key)
            if at[1:] == ("output",):  # so that a task is met at the same place
                where = (f"{at[0]}.{key}", "output")
            results.append((key, self.write(result, where)))
        failure = value._failure
        if failure is not None:
            step = str(at[0]) if at else ""
            failure = self._number and self._number(failure, step)
        if is_tasks:
            return {"$results": [self.mapping(results, at), failure]}
        return {"$items": [[it for _, it in results], failure]}


def _is_leaf(value: Any) -> bool:
    """Tell whether a value is written as it is, for most in a large one are."""
    kind = type(value)
    is_plain: bool = value is None or kind is bool
    if kind is str:
        is_plain = value.isascii()
    elif kind is int:
        is_plain = -_SMALL < value < _SMALL
    elif kind is float:
        is_plain = value - value == 0  # which nan and inf are not
    return is_plain


_SMALL = 2**63
_SEQUENCES = (list, tuple, set, frozenset)
# By id, for a class may have an equality of its own too.
_MARKED = {id(it) for it in (tuple, set, frozenset, TaskResults, MapResults)}


def repr_of(value: Any) -> str:
    """Give the repr of any value, cut where it is long."""
    kind = type(value)
    if (kind is bytes or kind is bytearray) and len(value) > _LONGEST_REPR:
        text = f"{bytes(value[:_LONGEST_REPR])!r}"[:_LONGEST_REPR]
        return f"{text}… ({len(value)} bytes in all)"
    try:
        text = str.__str__(repr(value))
    except Exception as error:  # any class may do anything here
        _, name = kinds.module_and_name(kind)
        return f"<{name}, whose repr failed: {error_text(error)}>"
    if len(text) <= _LONGEST_REPR:
        return text
    return f"{text[:_LONGEST_REPR]}… ({len(text)} characters in all)"


class ValueReader:
    """Reads values that a ``ValueWriter`` has written.

    Args:
        errors: The table of exceptions.
    """

    def __init__(self, errors: list[BaseException]) -> None:
        self.errors = errors

    def read(self, it: Part) -> Any:
        """Give the value of a part.

        Raises:
            TranscriptError: If it is none that is written so.
        """
        written, path = it.value, it.path
        if isinstance(written, list):
            return self._each(enumerate(written), path)
        if isinstance(written, dict) and all(type(key) is str for key in written):
            key = next(iter(written), "")
            if len(written) == 1 and key.startswith("$"):
                return self._marked(key, it.part(key))
            return dict(zip(written, self._each(written.items(), path)))
        if type(written) not in _LEAVES:
            it.refuse(f"cannot be {shown(written)}")
        return written

    def _each(self, pairs: Iterable[tuple[Any, Any]], path: Path) -> list[Any]:
        return [
            it if type(it) in _LEAVES else self.read(Part(it, (*path, at)))
            for at, it in pairs
        ]

    def _marked(self, mark: str, it: Part) -> Any:
        make = _SIMPLE.get(mark)
        if make is not None:
            return self._made(make, it.value, it)
        if mark == "$error" and type(it.value) is int:
            return it.picked(self.errors)
        if mark == "$bytes":
            return self.blob(it)
        if mark in _LISTED:
            if type(it.value) is list:
                read: Any = _LISTED[mark]
                return read(self, mark, it)
        else:
            decode = kinds.decoder_of(mark)
            if decode is not None:
                return self._made(decode, self.read(it), it)
        it.refuse("is not a value that to_json() writes")

    def blob(self, it: Part) -> bytes:
        """Give the bytes of a text."""
        try:
            return a2b_base64(it.value, strict_mode=True)
        except (TypeError, ValueError) as error:
            it.refuse(f"is no base64: {error}")

    def _tuple(self, mark: str, it: Part) -> tuple[Any, ...]:
        return tuple(self.read(it))

    def _hashed(self, mark: str, it: Part) -> Any:
        parts = self.read(it)
        if mark == "$dict":
            if not all(type(pair) is list and len(pair) == 2 for pair in parts):
                it.refuse("is no list of pairs")
        kind: Any = {"$dict": dict, "$set": set, "$frozenset": frozenset}[mark]
        made = self._made(kind, parts, it)
        # What stands for values that did not come along may be alike.
        if len(made) != len(parts) and '"$repr"' not in json.dumps(it.value):
            it.refuse("has something twice")
        return made

    def _own(self, mark: str, it: Part) -> Any:
        if len(it.value) != 2 or type(it.value[0]) is not str:
            it.refuse("names no class")
        name, parts = it.value[0], self.read(Part(it.value[1], (*it.path, 1)))
        codec = kinds.codec_of(name)
        if codec is None:
            return self.unknown(name, parts, it)
        made = self._made(codec.decode, parts, it)
        if type(made) is not codec.type:
            it.refuse(f"has become a {type(made).__qualname__}, and no {name:.100}")
        return made

    def unknown(self, name: str, parts: Any, it: Part) -> Any:
        """Give what stands for a value of a class without a codec here."""
        return Omitted(f"{name} of {repr_of(parts)}")

    def _made(self, make: Callable[[Any], Any], parts: Any, it: Part) -> Any:
        try:
            return make(parts)
        except (MemoryError, RecursionError, TranscriptError):
            raise
        except Exception as error:  # a codec may do anything, and a hash
            text = f"{place(it.path)} of the transcript cannot be made again: "
            raise TranscriptError(text + error_text(error)) from error

    def _results(self, mark: str, it: Part) -> TaskResults | MapResults:
        if len(it.value) != 2:
            it.refuse("is not a value that to_json() writes")
        written, number = it.value
        results = self.read(Part(written, it.path))
        failure = None if number is None else Part(number, it.path).picked(self.errors)
        if isinstance(failure, ParallelStepExecutionError | None):
            if mark == "$results" and isinstance(results, dict):
                return TaskResults(results, failure)
            if mark == "$items" and isinstance(results, list):
                return MapResults(results, failure)
        it.refuse("is not a value that to_json() writes")


def _omitted(text: Any) -> Omitted:
    return Omitted(_text(text))


def _number(text: Any) -> float:
    if text not in ("nan", "inf", "-inf"):
        raise ValueError(f"{shown(text)} is no such number")
    return float(text)


def _integer(text: Any) -> int:
    if not _HEX.fullmatch(_text(text)):
        raise ValueError(f"{shown(text)} is no such number")
    return int(text, 16)


def _joined(pieces: Any) -> str:
    if type(pieces) is not list:
        raise TypeError(f"{shown(pieces)} is no list")
    return "".join(map(_text, pieces))


def _text(value: Any) -> str:
    if type(value) is not str:
        raise TypeError(f"{shown(value)} is no text")
    return value


_LEAVES = (str, int, float, bool, type(None))
_HEX = re.compile("-?0x[0-9a-f]+")
# What stands for itself, and what is a list of values that are read first.
_SIMPLE: Mapping[str, Callable[[Any], Any]] = {
    "$float": _number,
    "$int": _integer,
    "$outcome": Outcome,
    "$repr": _omitted,
    "$str": _joined,
}
_LISTED: Mapping[str, Callable[[ValueReader, str, Part], Any]] = {
    "$dict": ValueReader._hashed,
    "$frozenset": ValueReader._hashed,
    "$items": ValueReader._results,
    "$results": ValueReader._results,
    "$set": ValueReader._hashed,
    "$tuple": ValueReader._tuple,
    kinds.OWN: ValueReader._own,
}
