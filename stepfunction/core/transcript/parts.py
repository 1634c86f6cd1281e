"""Document: data that somebody has written, of which each part is checked."""

from __future__ import annotations

from typing import Any

from stepfunction.core.errors import TranscriptError

NUMBER = int | float
_NUMBERS = (NUMBER, NUMBER | None)
_LARGEST = 1e300  # beyond which it may be infinite, or no float


def part(written: Any, at: str, key: str, kind: Any, default: Any = ...) -> Any:
    """Give a part of what was written, if it is of its kind."""
    place = f"{at}.{key}" if at else key
    if not isinstance(written, dict):
        raise TranscriptError(f"{at} of the transcript is {written!r:.60}, no object")
    value = written.get(key, default)
    if value is ...:
        raise TranscriptError(f"the transcript lacks {place}")
    if value is default:
        return value
    if (
        not isinstance(value, kind)
        or (isinstance(value, bool) and kind not in _ANY)
        or (kind in _NUMBERS and value is not None and not abs(value) < _LARGEST)
    ):
        raise TranscriptError(f"{place} of the transcript cannot be {value!r:.60}")
    return value


_ANY = (bool, object)


def parts(written: Any, at: str, key: str) -> list[tuple[str, Any]]:
    items = part(written, at, key, list, [])
    return [(f"{at}.{key}[{index}]", item) for index, item in enumerate(items)]


def pick(table: list[Any], number: int, at: str, key: str) -> Any:
    if not 0 <= number < len(table):
        raise TranscriptError(f"{at}.{key} of the transcript: there is no {number}")
    return table[number]


def member(kinds: Any, name: Any, at: str) -> Any:
    return kinds(one_of(name, tuple(kinds), at))


def one_of(value: Any, known: tuple[str, ...], at: str) -> Any:
    if value not in known:
        listed = ", ".join(known)
        raise TranscriptError(
            f"{at} of the transcript is {value!r:.60}, and none of {listed}"
        )
    return value
