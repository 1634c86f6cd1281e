"""Texts: names, values and errors as a report shows them.

They are escaped, and no longer than there is room for: a value may be very large.
"""

from __future__ import annotations

from html import escape
from pprint import pformat
from typing import Any, NamedTuple

from stepfunction.core.envelope.omitted import Omitted
from stepfunction.core.raised import is_a
from stepfunction.core.transcript.exceptions import text_of, type_name

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
    if isinstance(value, Omitted):
        text = value.text
    elif isinstance(value, str):
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
    if isinstance(value, dict):
        found: dict[Any, Any] = {}
        for key, item in value.items():
            if room[0] <= 0:
                found[_Text("…")] = _Text(f"{len(value) - len(found):,} more")
                break
            found[_trimmed(key, room)] = _trimmed(item, room)
        return found
    if isinstance(value, list | tuple):
        items: list[Any] = []
        for item in value:
            if room[0] <= 0:
                items.append(_Text(f"… {len(value) - len(items):,} more"))
                break
            items.append(_trimmed(item, room))
        return items if isinstance(value, list) else tuple(items)
    if isinstance(value, Omitted):
        shown: Any = _Text(value.text)
    elif is_a(value, BaseException):
        name = type_name(value).removeprefix("builtins.")
        shown = _Text(f"<{name}: {text_of(value)}>")
    else:
        shown = value[: room[0]] + "…" * (len(value) > room[0]) if (
            isinstance(value, str)
        ) else value
    room[0] -= len(str(shown)) + 4
    return shown
