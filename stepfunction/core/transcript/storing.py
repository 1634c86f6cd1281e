"""Storing: values and exceptions as fragments of JSON text, exactly, and back.

A fragment of a value that JSON has is the JSON of it, and is read without a look at its
parts. Where one of these is marked it is ``{"$": value}``, with ``"$errors"`` beside it
for the exceptions in it, and one that is large is ``{"$": {"$apart": name}}``. That of
an exception is a table, of which it is the first. What stands apart, large bytes too,
is known by the digest of its content, so that what is equal is there once.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from hashlib import blake2b
from itertools import chain
from json import encoder as _of_json
from typing import Any

from stepfunction.core.errors import (
    RemoteError,
    TranscriptError,
    UnstorableValueError,
)
from stepfunction.core.raised import is_a
from stepfunction.core.transcript.exceptions import text_of
from stepfunction.core.transcript.kinds import name_of
from stepfunction.core.transcript.parts import Part, Path
from stepfunction.core.transcript.refusals import what, where
from stepfunction.core.transcript.revival import ErrorTable, read_errors
from stepfunction.core.transcript.values import (
    DEEPEST,
    ValueReader,
    ValueWriter,
)
from stepfunction.core.wording import error_text

_LONGEST = 65_536  # characters of a fragment that stands in its row
_LONGEST_BYTES = 1_024
_LONGEST_TEXT = 10_000
_MOST = 20_000_000
_TOO_MANY = f"it has more than {_MOST:,} lists and dicts in one another"
_DIGITS = 4_300  # which Python reads, unless it is told to read more
_LEAVES = frozenset((str, int, float, bool, type(None)))
_PLAIN = _LEAVES | {dict, list}
_TEXT = frozenset((str,))
_encoder: Any = _of_json


def _jsoner(text: Callable[[str], str]) -> Callable[[Any], str]:
    """Give what writes plain data as JSON, without a look for what is in itself."""
    make = _encoder.c_make_encoder
    if make is None:
        return json.JSONEncoder(
            ensure_ascii=text is _encoder.encode_basestring_ascii,
            allow_nan=False,
            separators=(",", ":"),
        ).encode
    encode = make(None, _refuse, text, None, ":", ",", False, False, False)
    return lambda value: "".join(encode(value, 0))


def _refuse(value: Any) -> Any:
    raise TypeError(f"a {type(value).__qualname__} is no plain data")


_as_json = _jsoner(_encoder.encode_basestring_ascii)
_as_wide_json = _jsoner(_encoder.encode_basestring)


class Fragments:
    """Writes values and exceptions as texts, of which rows are made.

    Args:
        largest: How long a value may be, as it is stored; None for any length.

    Attributes:
        apart: What the fragments refer to that were made since ``take_apart()``.
    """

    def __init__(self, largest: int | None = None) -> None:
        self.apart: dict[str, bytes] | None = None
        self._largest = largest

    def take_apart(self) -> dict[str, bytes] | None:
        """Give what the fragments made since refer to; None for nothing."""
        apart, self.apart = self.apart, None
        return apart

    def value(self, value: Any) -> str:
        """Give the text of a value.

        Raises:
            UnstorableValueError: If it would not come back as it is.
        """
        return self._kept(*_text_of(value))

    def error(self, error: BaseException) -> str:
        """Give the text of an exception; of what it holds that cannot be, the repr."""
        try:
            return self._kept(*_text_of_error(error))
        except UnstorableValueError:  # it is too large, with what it comes from
            stand_in = RemoteError(
                error_text(error)[:_LONGEST_TEXT],
                name_of(type(error)),
                text_of(error)[:_LONGEST_TEXT],
            )
            return self._kept(*_text_of_error(stand_in), is_checked=False)

    def _kept(
        self, text: str, new: dict[str, bytes] | None, is_checked: bool = True
    ) -> str:
        """Give the text of a fragment, or what refers to it where it is large."""
        size = len(text)
        if new is not None:
            size += sum(map(len, new.values()))
        if is_checked and self._largest is not None and size > self._largest:
            raise UnstorableValueError(
                f"it is {size:,} bytes long as it is stored, and the store takes "
                f"{self._largest:,}; give a path or an id of it, or raise "
                "max_value_bytes"
            )
        if len(text) > _LONGEST:
            data = text.encode()
            name = _digest(data)
            new = {} if new is None else new
            new[name] = data
            text = '{"$":{"$apart":"%s"}}' % name
        if new is not None:
            if self.apart is None:
                self.apart = new
            else:
                self.apart.update(new)
        return text


class FragmentReader:
    """Reads what ``Fragments`` has written.

    Args:
        apart: Gives what stands apart by its name.
        is_exact: Whether values of classes without a codec are refused. Else an
            ``Omitted`` stands for each, as for one who only looks.
    """

    def __init__(
        self, apart: Callable[[str], bytes], is_exact: bool = True
    ) -> None:
        self._apart = apart
        self._is_exact = is_exact

    def value(self, data: Any) -> Any:
        """Give the value of a fragment, from what ``json.loads`` has made of that.

        Raises:
            TranscriptError: If it is none.
        """
        if type(data) is not dict or "$" not in data:
            return data
        data = self._whole(data)
        if type(data) is not dict or "$" not in data:
            return data
        it = Part(data, ("value",))
        try:
            reader = self._reader(it.part("$errors", list, []))
            return reader.read(it.part("$"))
        except RecursionError:
            raise TranscriptError("the value is nested too deep") from None

    def error(self, data: Any) -> BaseException:
        """Give the exception of a fragment, as ``value`` does.

        Raises:
            TranscriptError: If it is none.
        """
        if type(data) is dict:
            data = self._whole(data)
        table = Part(data, ("error",))
        if type(data) is not list or not data:
            table.refuse("is no table of exceptions")
        try:
            return self._reader(table).errors[0]
        except RecursionError:
            raise TranscriptError("the exception is nested too deep") from None

    def _whole(self, data: Any) -> Any:
        """Give what a fragment says, also where it stands apart."""
        inside = data.get("$")
        if type(inside) is not dict or list(inside) != ["$apart"]:
            return data
        contents = self._contents(Part(inside["$apart"], ("$apart",)))
        try:
            return json.loads(contents)
        except (ValueError, RecursionError) as error:
            raise TranscriptError(f"what stands apart is no JSON: {error}") from error

    def _reader(self, table: Part) -> _Reader:
        reader = _Reader(self._contents, self._is_exact)
        read_errors(table, reader)
        return reader

    def _contents(self, it: Part) -> bytes:
        if type(it.value) is not str:
            it.refuse("is no name")
        data = self._apart(it.value)
        if _digest(data) != it.value:
            it.refuse("names what is another than it was")
        return data


def digest_of(value: Any) -> str:
    """Give a digest of a value, the same wherever an equal one is made.

    Raises:
        UnstorableValueError: If it cannot be stored.
    """
    text, _ = _text_of(value)  # what stands apart is in it by a digest
    return _digest(text.encode())


def _digest(data: bytes) -> str:
    return blake2b(data, digest_size=16).hexdigest()


def _text_of(value: Any) -> tuple[str, dict[str, bytes] | None]:
    """Give the whole text of a value, and what it refers to."""
    try:
        text = _plain_text(value) if _is_plain(value) else None
        if text is not None:
            return text, None
        writer = _Writer()
        written = writer.write(value)
        text = _as_json(written)
        if writer.is_marked or (type(written) is dict and "$" in written):
            text = f'{{"$":{text}'
            if writer.errors is not None:
                text += f',"$errors":{_as_json(writer.errors.written())}'
            text += "}"
    except RecursionError as error:
        raise UnstorableValueError("it is nested too deep") from error
    except RuntimeError as error:  # another thread has changed a dict, or a set
        raise UnstorableValueError("it changes while it is stored") from error
    return text, writer.apart


def _text_of_error(error: BaseException) -> tuple[str, dict[str, bytes] | None]:
    """Give the whole text of an exception, and what it refers to."""
    writer = _Writer()
    writer.write(error)
    assert writer.errors is not None
    return _as_json(writer.errors.written()), writer.apart


def _is_plain(value: Any) -> bool:
    """Tell whether a value is of what JSON has, but for some numbers and texts."""
    kind = type(value)
    try:
        if kind is dict or kind is list:
            return _has_plain_parts(value)
        return kind in _LEAVES
    except UnstorableValueError:
        raise
    except Exception:  # as of a class that cannot be hashed, or what changes meanwhile
        return False


def _has_plain_parts(value: Any) -> bool:
    """Tell it of a dict or a list.

    All containers that are equally deep are looked at together, by C code alone.
    """
    dicts, lists = ([value], []) if type(value) is dict else ([], [value])
    is_root = True
    for _ in range(DEEPEST):
        if {*map(type, chain.from_iterable(dicts))} - _TEXT:
            return False
        if is_root and dicts and "$" in value:
            return False
        is_root = False
        kinds = {
            *map(type, chain.from_iterable(map(dict.values, dicts))),
            *map(type, chain.from_iterable(lists)),
        }
        if kinds <= _LEAVES:
            return True
        if not kinds <= _PLAIN:
            return False
        parts = [*chain.from_iterable(map(dict.values, dicts))]
        parts += chain.from_iterable(lists)
        if len(kinds) == 1:
            dicts, lists = (parts, []) if dict in kinds else ([], parts)
        else:
            dicts = [it for it in parts if type(it) is dict] if dict in kinds else []
            lists = [it for it in parts if type(it) is list] if list in kinds else []
        if len(dicts) + len(lists) > _MOST:
            raise UnstorableValueError(_TOO_MANY)
    return False


def _plain_text(value: Any) -> str | None:
    """Give the JSON of plain data; None where something in it is to be marked."""
    try:
        text = _as_json(value)
    except (TypeError, ValueError):  # as of a number that JSON has not
        return None
    if "\\ud" in text:
        try:
            _as_wide_json(value).encode()
        except UnicodeEncodeError:  # halves of characters, maybe one beside another
            return None
    if len(text) > _DIGITS and sys.get_int_max_str_digits() != _DIGITS:
        return None  # a number may be there that others do not read
    return text


class _Writer(ValueWriter):
    """Writes a value exactly, or says why it cannot be.

    Attributes:
        errors: The exceptions in it; None for none.
        apart: The bytes in it that stand apart.
        is_marked: Whether anything was marked.
    """

    def __init__(self) -> None:
        self.errors: ErrorTable | None = None
        super().__init__(None, self._number_of)
        self.apart: dict[str, bytes] | None = None
        self.is_marked = False
        self._is_exact = True
        self._count = 0

    def _number_of(self, error: BaseException, step: str) -> int | None:
        if self.errors is None:
            self.errors = ErrorTable(self._held)
        return self.errors.number(error)

    def _held(self, value: Any) -> Any:
        """Write what an exception holds."""
        self._is_exact = False
        return self.write(value)

    def other(self, value: Any, at: Path) -> Any:
        """Write what JSON has not."""
        self.is_marked = True
        if type(value) is tuple:
            return self._guarded(self.container, value, at)
        return super().other(value, at)

    def mapping(self, pairs: list[tuple[Any, Any]], at: Path) -> dict[str, Any]:
        """Give a dict, as its keys and what was written of their values."""
        written = super().mapping(pairs, at)
        self.is_marked = self.is_marked or "$dict" in written
        return written

    def container(self, value: Any, at: Path) -> Any:
        """Write what has other values inside."""
        self._count += 1
        if self._count > _MOST:
            raise UnstorableValueError(_TOO_MANY)
        return super().container(value, at)

    def blob(self, value: bytes, at: Path) -> Any:
        """Write bytes, or where they stand apart."""
        if len(value) <= _LONGEST_BYTES:
            return super().blob(value, at)
        name = _digest(value)
        if self.apart is None:
            self.apart = {}
        self.apart[name] = value
        return {"$bytes": {"$apart": name}}

    def lost(self, value: Any, at: Path) -> Any:
        """Refuse what would not come back as it was."""
        if not self._is_exact:
            return super().lost(value, at)
        raise UnstorableValueError(f"{where(at)} is {what(value)}")

    def unmade(self, value: Any, at: Path, error: Exception) -> Any:
        """Refuse a value which its codec could not encode."""
        if not self._is_exact:
            return super().lost(value, at)
        if is_a(error, UnstorableValueError):
            raise error
        raise UnstorableValueError(
            f"{where(at)} is a {type(value).__qualname__} which its codec cannot "
            f"encode: {error_text(error)}"
        ) from error

    def endless(self, value: Any, at: Path) -> Any:
        """Refuse a container in itself, or too deep in others."""
        if not self._is_exact:
            return super().endless(value, at)
        if id(value) in self._open:
            raise UnstorableValueError(f"{where(at)} contains itself")
        raise UnstorableValueError(f"it is nested more than {DEEPEST} deep")


class _Reader(ValueReader):
    def __init__(self, contents: Callable[[Part], bytes], is_exact: bool) -> None:
        super().__init__([])
        self._contents = contents
        self._is_exact = is_exact

    def blob(self, it: Part) -> bytes:
        """Give bytes, which may stand apart."""
        if type(it.value) is dict:
            return self._contents(it.part("$apart"))
        return super().blob(it)

    def unknown(self, name: Any, parts: Any, it: Part) -> Any:
        """Refuse a value of a class without a codec, unless one only looks."""
        if not self._is_exact:
            return super().unknown(name, parts, it)
        it.refuse(
            f"is a {name:.100}, of which no codec is known here; import the module "
            "that calls register_codec() for it first"
        )
