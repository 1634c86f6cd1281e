"""Texts: names, values and errors as a report shows them.

They are escaped, and no longer than there is room for: a value may be very large.
"""

from __future__ import annotations

from html import escape
from pprint import pformat
from typing import Any, NamedTuple

from stepfunction.core.envelope.omitted import Omitted
from stepfunction.core.history.results import MapResults, TaskResults
from stepfunction.core.raised import is_a
from stepfunction.core.transcript.exceptions import text_of, type_name
from stepfunction.core.transcript.values import repr_of

_WIDTH = 96  # of values, in characters


def name_text(name: str) -> str:
    """Give a name so that it is seen, also where it is nothing but space."""
    return escape(name) if name.strip() else f"<i>{escape(repr(name))}</i>"


def error_text(error: BaseException, most: int) -> str:
    """Give the class and the message of an error."""
    name = type_name(error).removeprefix("builtins.")
    name = name.removeprefix("stepfunction.core.errors.")
    text = cut_text(text_of(error), most)
    return f"<b>{escape(name)}</b>" + (f": {text}" if text else "")


def value_text(value: Any, most: int) -> str:
    """Give a value as Python would write it, and not much more of it than is shown."""
    kind = type(value)
    if kind is Omitted:
        text = value.text
    elif kind is str:
        text = value if "\n" in value else repr(value[: most + 1])
    else:
        trimmed = _trimmed(value, [most])
        text = pformat(trimmed, width=_WIDTH, compact=True, sort_dicts=False)
    return cut_text(text, most)


def cut_text(text: str, most: int, from_end: bool = False) -> str:
    """Cut a text; a traceback at its beginning, since its end says most."""
    if len(text) <= most:
        return escape(text)
    left = f"… ({len(text) - most:,} characters left out)"
    return escape(f"{left}\n{text[-most:]}" if from_end else f"{text[:most]}{left}")


class _Text(NamedTuple):
    """Is shown as it is."""

    text: str

    def __repr__(self) -> str:
        return self.text


def _trimmed(value: Any, room: list[int]) -> Any:
    """Give a value without what there is no room for: it may be very large."""
    kind = type(value)
    if kind is dict or kind is TaskResults:
        found: dict[Any, Any] = {}
        for key, item in value.items():
            if room[0] <= 0:
                found[_Text("…")] = _Text(f"{len(value) - len(found):,} more")
                break
            found[_trimmed(key, room)] = _trimmed(item, room)
        return found
    if kind in _SEQUENCES:
        items: list[Any] = []
        for item in value:
            if room[0] <= 0:
                items.append(_Text(f"… {len(value) - len(items):,} more"))
                break
            items.append(_trimmed(item, room))
        if kind is tuple:
            return tuple(items)
        if kind is not set and kind is not frozenset:
            return items
        inside = f"{{{', '.join(map(repr, items))}}}" if items else ""
        return _Text(inside if items and kind is set else f"{kind.__name__}({inside})")
    shown = _leaf(value, room[0])
    room[0] -= len(str(shown)) + 4
    return shown


def _leaf(value: Any, room: int) -> Any:
    kind = type(value)
    if kind is str:
        return value[:room] + "…" * (len(value) > room)
    if kind is Omitted:
        return _Text(value.text)
    if is_a(value, BaseException):
        name = type_name(value).removeprefix("builtins.")
        return _Text(f"<{name}: {text_of(value)}>")
    if kind is int and abs(value) >= _LARGEST:  # which Python may refuse to write
        return _Text(f"{hex(value)[:room]}…")
    return _Text(repr_of(value))  # which a class of the user's may refuse


_SEQUENCES = (list, tuple, set, frozenset, MapResults)
_LARGEST = 10**1_000
