"""Kinds: values that JSON has not, each with its mark, and the codecs of the user's.

A kind says what plainer parts a value is made of, and makes it again of these. It is
known by its exact class, so that nothing of a subclass is lost. Where a class is of a
module that is dear to import it is looked for when that module is there: else there is
no value of it either.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

from stepfunction.core.errors import Problem
from stepfunction.core.history.records import Attempt, StepRecord
from stepfunction.core.history.results import ItemOutcomes, ItemResults
from stepfunction.core.outcomes import Outcome, Status

OWN = "$value"  # of which the name of a codec is the first part


class Kind(NamedTuple):
    """How the values of a class are written.

    Attributes:
        type: The class.
        mark: The key that they are known by.
        name: The name of the class, of a codec of the user's; empty for all else.
        encode: Gives what a value is made of.
        decode: Makes it again; raises an Exception where that cannot be.
    """

    type: type[Any]
    mark: str
    name: str
    encode: Callable[[Any], Any]
    decode: Callable[[Any], Any]


_by_type: dict[int, Kind] = {}  # by id, for a class may have an equality of its own
_by_name: dict[str, Kind] = {}  # the codecs of the user's
_by_mark: dict[str, Callable[[Any], Any]] = {}
# What JSON has, or what is marked without a kind: it needs no codec.
_HELD = (
    *(type(None), bool, int, float, str, bytes, list, tuple, dict, set, frozenset),
    *(Outcome, Status),
)


def register_codec(
    type: type[Any], encode: Callable[[Any], Any], decode: Callable[[Any], Any]
) -> None:
    """Say how the values of a class are stored, and written into transcripts.

    It is for this process, and for this class alone, not for its subclasses. A class
    that was registered before under the same name is forgotten. The name of the class
    is stored with its values, and nothing is imported because of it: whoever reads
    them registers the codec too, best in the module of the class.

    Args:
        type: The class: an enum, a dataclass, a named tuple, or any other.
        encode: Given a value of it, gives what that is made of: plain data, or values
            that are stored themselves.
        decode: Given what ``encode`` gave, makes the value again.

    Raises:
        TypeError: If ``type`` is no class, or one that is stored without a codec.
    """
    if not isinstance(type, _class_of):
        raise TypeError(f"register_codec() takes a class, not {type!r:.80}")
    if not (callable(encode) and callable(decode)):
        raise TypeError("encode and decode are to be called with one value each")
    if any(type is it for it in _HELD) or issubclass(type, BaseException):
        raise TypeError(f"{type.__qualname__} is stored without a codec")
    known = of(type)
    if known is not None and not known.name:
        raise TypeError(f"{type.__qualname__} is stored without a codec")
    name = name_of(type)
    before = _by_name.get(name)
    _by_type[id(type)] = _by_name[name] = Kind(type, OWN, name, encode, decode)
    if before is not None and before.type is not type:
        _by_type.pop(id(before.type), None)


_class_of: Any = type  # where that is the name of an argument


def name_of(kind: type[Any]) -> str:
    """Give the name that a class is stored by."""
    module, name = module_and_name(kind)
    return f"{module}.{name}"


def module_and_name(kind: type[Any]) -> tuple[str, str]:
    """Give the module of a class and its qualified name, whatever its metaclass says.

    The script that was started has one name in all its processes.
    """
    module, name = _module_of(kind), _name_of(kind)
    if type(module) is not str:
        module = "?"
    return "__main__" if module == "__mp_main__" else module, name


_module_of, _name_of = (
    vars(type)[it].__get__ for it in ("__module__", "__qualname__")
)


def of(kind: type[Any]) -> Kind | None:
    """Give the kind of a class; None if it has none."""
    found = _by_type.get(id(kind))
    if found is None and _add_loaded():
        found = _by_type.get(id(kind))
    if found is None and _module_of(kind) == "freezegun.api":
        true = _unfrozen(kind)  # which is what its values are once the clock goes on
        return None if true is kind else of(true)
    return found


def codec_of(name: object) -> Kind | None:
    """Give the codec that is registered for a class of a name; None for none."""
    return _by_name.get(name) if isinstance(name, str) else None


def decoder_of(mark: str) -> Callable[[Any], Any] | None:
    """Give what makes values of what stands under a mark; None if there is none."""
    found = _by_mark.get(mark)
    if found is None and mark in _HOMES:
        import importlib

        # A module of the standard library, which this table names and not the text.
        importlib.import_module(_HOMES[mark])
        _add_loaded()
        found = _by_mark.get(mark)
    return found


def _add(
    type: type[Any],
    mark: str,
    encode: Callable[[Any], Any],
    decode: Callable[[Any], Any],
) -> None:
    _by_mark[mark] = decode
    _by_type[id(type)] = Kind(type, mark, "", encode, decode)


def _add_loaded() -> bool:
    """Add the kinds of the modules that have been imported meanwhile, if any."""
    new = [name for name in _waiting if name in sys.modules]
    if new:
        from importlib import import_module

        for name in new:
            add = _waiting.get(name)
            if add is not None:
                add(import_module(name))  # another thread may just be doing so
                _waiting.pop(name, None)
    return bool(new)


def _exactly(type: type[Any], value: Any) -> Any:
    """Give a part that is of a class, as what was written has it.

    Raises:
        TypeError: If it is of another.
    """
    if _class_of(value) is not type:
        raise TypeError(f"a {_class_of(value).__name__} is no {type.__name__}")
    return value


def _pair(value: Any, *types: Any) -> list[Any]:
    """Give parts that are as many as classes, and each of one of its classes."""
    parts = _exactly(list, value)
    if len(parts) != len(types):
        raise ValueError(f"{len(parts)} parts are not {len(types)}")
    for part, kind in zip(parts, types):
        if not isinstance(part, kind):
            raise TypeError(f"a part is a {_class_of(part).__name__}")
    return list(parts)


def _add_datetimes(module: Any) -> None:
    # While freezegun has replaced the classes these come from the true ones.
    true = _unfrozen(module.datetime), _unfrozen(module.date)
    datetime, date, timedelta = *true, module.timedelta
    time, timezone, tzinfo = module.time, module.timezone, module.tzinfo

    def parts_of(value: Any) -> Any:
        kind = datetime if isinstance(value, datetime) else time
        text = kind.isoformat(kind.replace(value, tzinfo=None))
        if value.tzinfo is None and not value.fold:
            return text
        return [text, value.fold, value.tzinfo]

    def made(kind: Any, parts: Any) -> Any:
        fold, zone = 0, None
        if type(parts) is list:
            parts, fold, zone = _pair(parts, str, int, tzinfo | None)
        value = kind.fromisoformat(_exactly(str, parts))
        if value.tzinfo is not None or kind.isoformat(value) != parts:
            raise ValueError(f"{parts!r:.60} is no {kind.__name__}")
        return value.replace(fold=fold, tzinfo=zone)

    def zone_of(parts: Any) -> Any:
        offset, name = _pair(parts, timedelta, str | None)
        if name is None:
            return timezone(offset)
        return timezone(offset, name)

    def parts_of_zone(zone: Any) -> Any:
        offset, *name = zone.__getinitargs__()
        return [offset, *(name or [None])]

    def day(parts: Any) -> Any:
        return date.fromisoformat(_exactly(str, parts))

    def span(parts: Any) -> Any:
        return timedelta(*_pair(parts, int, int, int))

    _add(datetime, "$datetime", parts_of, lambda it: made(datetime, it))
    _add(time, "$time", parts_of, lambda it: made(time, it))
    _add(date, "$date", date.isoformat, day)
    _add(
        timedelta, "$timedelta", lambda it: [it.days, it.seconds, it.microseconds], span
    )
    _add(timezone, "$timezone", parts_of_zone, zone_of)


def _unfrozen(kind: type[Any]) -> type[Any]:
    """Give the class of the standard library that a class is, or comes from."""
    true = (it for it in kind.__mro__ if it.__module__ == "datetime")
    return next(true, kind)


def _add_zones(module: Any) -> None:
    def key_of(zone: Any) -> str:
        if zone.key is None:
            raise ValueError("it comes from a file, and has no key")
        return _exactly(str, zone.key)  # type: ignore[no-any-return]

    def zone(key: Any) -> Any:
        # A key is looked for in folders, and in a package.
        if not _ZONE.fullmatch(_exactly(str, key)):
            raise ValueError(f"there is no zone {key!r:.60}")
        return module.ZoneInfo(key)

    _add(module.ZoneInfo, "$zone", key_of, zone)


_ZONE = re.compile(r"[A-Za-z0-9_+-]+(/[A-Za-z0-9_+-]+)*")


def _add_decimals(module: Any) -> None:
    # A context may ask for a small "e".
    _add(
        module.Decimal,
        "$decimal",
        lambda it: str(it).replace("e", "E"),
        lambda it: module.Decimal(_exactly(str, it)),
    )


def _add_uuids(module: Any) -> None:
    def parts_of(value: Any) -> Any:
        safe = value.is_safe.value
        return value.hex if safe is None else [value.hex, safe]

    def made(parts: Any) -> Any:
        text, safe = _pair(parts, str, int) if type(parts) is list else (parts, None)
        return module.UUID(hex=_exactly(str, text), is_safe=module.SafeUUID(safe))

    _add(module.UUID, "$uuid", parts_of, made)


def _add_paths(module: Any) -> None:
    names = ("PosixPath", "WindowsPath", "PurePosixPath", "PureWindowsPath")
    classes = {name: getattr(module, name) for name in names}

    def parts_of(path: Any) -> list[str]:
        return [type(path).__name__, str(path)]

    def made(parts: Any) -> Any:
        name, text = _pair(parts, str, str)
        return classes[name](text)

    for kind in classes.values():
        _add(kind, "$path", parts_of, made)


# What looks at a module when it is there, and the module of each mark.
_waiting: dict[str, Callable[[Any], None]] = {
    "datetime": _add_datetimes,
    "decimal": _add_decimals,
    "pathlib": _add_paths,
    "uuid": _add_uuids,
    "zoneinfo": _add_zones,
}
_HOMES = {
    "$date": "datetime",
    "$datetime": "datetime",
    "$decimal": "decimal",
    "$path": "pathlib",
    "$time": "datetime",
    "$timedelta": "datetime",
    "$timezone": "datetime",
    "$uuid": "uuid",
    "$zone": "zoneinfo",
}


def _attempt(parts: Any) -> Attempt:
    error = BaseException | None
    return Attempt._of(tuple(_pair(parts, int, Outcome, *_TIMES, error)))


def _record(parts: Any) -> StepRecord:
    error = BaseException | None
    kinds = (str, str | int | None, Outcome | None, object, object, error)
    times = (float | int | None, float | int)
    values = _pair(parts, *kinds, *times, tuple, str | None, type(None))
    for it in values[8]:
        if type(it) is not Attempt:  # it is as the engine notes it
            _pair(list(_exactly(tuple, it)), Outcome, *_TIMES, error)
    return StepRecord(*values)


def _outcomes(parts: Any) -> ItemOutcomes:
    count, others = _pair(parts, int, dict)
    return ItemOutcomes(count, others)


def _results(parts: Any) -> ItemResults:
    results, others = _pair(parts, list, list)
    return ItemResults(results, dict.fromkeys(others))


def _problem(parts: Any) -> Problem:
    return Problem(*_pair(parts, tuple, str, str))


_TIMES = (float | int, float | int)

_add(
    complex,
    "$complex",
    lambda it: [it.real, it.imag],
    lambda it: complex(*_pair(it, float, float)),
)
_add(bytearray, "$bytearray", bytes, lambda it: bytearray(_exactly(bytes, it)))
_add(
    range,
    "$range",
    lambda it: [it.start, it.stop, it.step],
    lambda it: range(*_pair(it, int, int, int)),
)
_add(Problem, "$problem", lambda it: [it.path, it.text, it.hint], _problem)
_add(Status, "$status", lambda it: it.value, lambda it: Status(_exactly(str, it)))
_add(Attempt, "$attempt", lambda it: list(it._values), _attempt)
_add(StepRecord, "$record", lambda it: list(it._values), _record)
_add(ItemOutcomes, "$outcomes", lambda it: [it._count, dict(it._others)], _outcomes)
_add(
    ItemResults, "$item_results", lambda it: [list(it._results), list(it._others)],
    _results,
)
