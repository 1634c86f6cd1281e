"""Values: the one writer, and the one reader, of values as JSON.

JSON has no more than texts, numbers, lists and objects. What else Python has is marked:
an object with one key that begins with ``$``::

    {"$repr": text}            any other value, as its repr; cut where it is long
    {"$error": number}         an exception, by its place in the table
    {"$float": "nan"}          also "inf" and "-inf"
    {"$tuple": [value, …]}
    {"$dict": [[key, value], …]}    other keys than text, or one that begins with $
    {"$results": [dict, error]}     the results of a parallel step
    {"$items": [list, error]}       the results of a map step
    {"$outcome": "SUCCEEDED"}       an ``Outcome``

A ``ValueWriter`` is lenient. All but a ``$repr``, which ``lost`` and ``endless`` write,
comes back as it was: where nothing may be lost, these two refuse. A ``StrictWriter``
has no marks at all: what JSON has not is noted with its place.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeAlias

from stepfunction.core.envelope.omitted import Omitted
from stepfunction.core.errors import (
    ParallelStepExecutionError,
    Problem,
    TranscriptError,
    add_note,
)
from stepfunction.core.history.results import MapResults, TaskResults
from stepfunction.core.outcomes import Outcome
from stepfunction.core.raised import is_a
from stepfunction.core.transcript.parts import Part, Path, Repeated, shown
from stepfunction.core.wording import error_text

# Of where a value stands, which begins with the step (a task as "step.task") and
# "input", "output", "error" or "traceback", and of the value.
Redact: TypeAlias = Callable[[Path, Any], Any]

DEEPEST = 100  # containers in one another
_LONGEST_REPR = 10_000


class ValueWriter:
    """Writes values as data that JSON can hold, and marks what JSON has not.

    Args:
        redact: Gives what to write in the place of each value.
        number: Gives the place of an exception in a table, of one that was met in a
            step.
    """

    largest = 2**10_000  # Python reads no number of more than 4,300 digits

    def __init__(
        self,
        redact: Redact | None = None,
        number: Callable[[BaseException, str], int] | None = None,
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
        if value is None or kind is bool or kind is str:
            return value
        if kind is int or kind is float:
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
        if kind is Omitted:
            return {"$repr": value.text}
        if kind is Outcome:
            return {"$outcome": value.value}
        if is_a(value, BaseException) and self._number is not None:
            return {"$error": self._number(value, str(at[0]))}
        if isinstance(value, dict | list | tuple) and (
            kind in _MARKED or self._redact is not None  # for its repr would tell all
        ):
            return self.inside(value, at)
        return self.lost(value, at)

    def lost(self, value: Any, at: Path) -> Any:
        """Write what will not come back as it was; an exact writer refuses it here."""
        return {"$repr": repr_of(value)}

    def inside(self, value: Any, at: Path) -> Any:
        """Write a container, unless it stands in itself, or too deep in others."""
        if id(value) in self._open or len(self._open) >= DEEPEST:
            return self.endless(value, at)
        self._open.add(id(value))
        try:
            return self.container(value, at)
        finally:
            self._open.discard(id(value))

    def endless(self, value: Any, at: Path) -> Any:
        """Write a container in itself, or too deep in others."""
        return {"$repr": "…"}

    def container(self, value: Any, at: Path) -> Any:
        """Write what has other values inside."""
        if isinstance(value, TaskResults | MapResults):
            return self._results(value, at)
        if isinstance(value, dict):
            pairs = list(value.items())
            written = {key: self.write(part, (*at, key)) for key, part in pairs}
            return self.mapping(written, at)
        items = [self.write(part, (*at, index)) for index, part in enumerate(value)]
        return {"$tuple": items} if isinstance(value, tuple) else items

    def mapping(self, written: dict[Any, Any], at: Path) -> dict[str, Any]:
        """Give a dict whose values have been written already."""
        is_plain = all(type(key) is str for key in written)
        if is_plain and not (len(written) == 1 and next(iter(written))[:1] == "$"):
            return written
        keys = (self._plain(key, at) for key in written)  # which are not redacted
        return {"$dict": [[key, it] for key, it in zip(keys, written.values())]}

    def _results(self, value: Any, at: Path) -> dict[str, list[Any]]:
        pairs = value.items() if isinstance(value, dict) else enumerate(value)
        results = {}
        for key, result in list(pairs):
            where: Path = (*at, key)
            if at[1:] == ("output",):  # so that a task is met at the same place
                where = (f"{at[0]}.{key}", "output")
            results[key] = self.write(result, where)
        failure = value._failure
        if failure is not None:
            failure = self._number and self._number(failure, str(at[0]))
        if isinstance(value, dict):
            return {"$results": [self.mapping(results, at), failure]}
        return {"$items": [list(results.values()), failure]}


_MARKED = (tuple, TaskResults, MapResults)


def repr_of(value: Any) -> str:
    """Give the repr of any value, cut where it is long."""
    if isinstance(value, bytes | bytearray) and len(value) > _LONGEST_REPR:
        text = f"{bytes(value[:_LONGEST_REPR])!r}"[:_LONGEST_REPR]
        return f"{text}… ({len(value)} bytes in all)"
    try:
        text = repr(value)
    except Exception as error:  # any class may do anything here
        return f"<{type(value).__qualname__}, whose repr failed: {error_text(error)}>"
    if len(text) <= _LONGEST_REPR:
        return text
    return f"{text[:_LONGEST_REPR]}… ({len(text)} characters in all)"


class StrictWriter(ValueWriter):
    """Copies a value that JSON can hold, and notes why it cannot.

    Attributes:
        problems: What JSON could not hold, or not as it is, and where.
        is_readable: Whether what has these can be read, and shown, all the same.
    """

    largest = 10**300  # beyond which other readers of JSON would have infinity

    def __init__(self) -> None:
        super().__init__()
        self.problems: list[Problem] = []
        self.is_readable = True
        self._written: dict[int, Any] = {}  # what is met in many places, by its id

    def container(self, value: Any, at: Path) -> Any:
        """Copy a dict, or a list."""
        if id(value) not in self._written:
            self._written[id(value)] = super().container(value, at)
            for key in getattr(value, "keys_twice", ()):
                self._refuse(at, f"the key {key!r} is there more than once")
        return self._written[id(value)]

    def mapping(self, written: dict[Any, Any], at: Path) -> Any:
        """Give a dict, all keys of which are to be texts."""
        for key in written:
            if type(key) is not str:
                self._refuse(at, f"the key {shown(key)} is no text")
        return written

    def endless(self, value: Any, at: Path) -> Any:
        """Note a container in itself, or too deep in others."""
        self.is_readable = False
        is_inside = id(value) in self._open
        deep = f"it is nested more than {DEEPEST} deep"
        self._refuse(at, "it contains itself" if is_inside else deep)

    def other(self, value: Any, at: Path) -> Any:
        """Note what JSON has not."""
        kind = type(value)
        if kind is Repeated:
            return self.inside(value, at)
        if kind is int or kind is float:
            self.is_readable = self.is_readable and kind is not int
            self._refuse(at, f"JSON cannot hold {shown(value)}")
        elif kind is tuple:
            hint = f"{shown(value)} would come back as a list, give one"
            self._refuse(at, f"JSON has no tuples; {hint}")
        elif kind.__name__ == "datetime":
            hint = f"give the text {str(value.isoformat())!r}"
            self._refuse(at, f"JSON has no datetimes; {hint}")
        else:
            what = f"{shown(value)}, of type {kind.__name__!r}, as what it is"
            self._refuse(at, f"JSON cannot hold {what}")

    def _refuse(self, at: Path, text: str) -> None:
        self.problems.append(Problem(at, text))


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
        inside = it.value
        if mark == "$repr" and isinstance(inside, str):
            return Omitted(inside)
        if mark == "$float" and inside in ("nan", "inf", "-inf"):
            return float(inside)
        if mark == "$outcome" and inside in tuple(Outcome):
            return Outcome(inside)
        if mark == "$error" and type(inside) is int:
            return it.picked(self.errors)
        if isinstance(inside, list):
            if mark == "$tuple":
                return tuple(self.read(it))
            if mark == "$dict":
                return self._dict(it)
            if mark in ("$results", "$items") and len(inside) == 2:
                return self._results(mark, it)
        it.refuse("is not a value that to_json() writes")

    def _dict(self, it: Part) -> dict[Any, Any]:
        try:
            return dict(self.read(it))
        except (TypeError, ValueError) as error:
            if isinstance(error, TranscriptError):
                raise
            it.refuse(f"is no dict: {error}")

    def _results(self, mark: str, it: Part) -> TaskResults | MapResults:
        written, number = it.value
        results = self.read(Part(written, it.path))
        failure = None if number is None else Part(number, it.path).picked(self.errors)
        if isinstance(failure, ParallelStepExecutionError | None):
            if mark == "$results" and isinstance(results, dict):
                return TaskResults(results, failure)
            if mark == "$items" and isinstance(results, list):
                return MapResults(results, failure)
        it.refuse("is not a value that to_json() writes")


_LEAVES = (str, int, float, bool, type(None))
