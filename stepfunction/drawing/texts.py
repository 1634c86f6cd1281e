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
        return cut_text(value.text, most)
    if isinstance(value, str):
        if "\n" in value:
            return cut_text(value, most)
        more = len(value) - most
        if more <= 0:
            return escape(repr(value))
        return escape(f"{value[:most]!r}… ({more:,} characters left out)")
    text = pformat(_seen(value, most), width=_WIDTH, compact=True, sort_dicts=False)
    # How much more there is it may not have any more.
    return escape(text if len(text) <= most else f"{text[:most]}… (there is more)")


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


def _seen(value: Any, most: int) -> Any:
    """Give a value as it is to be shown, which was shortened when it was written."""
    if isinstance(value, dict):
        return {_seen(key, most): _seen(item, most) for key, item in value.items()}
    if isinstance(value, list | tuple):
        items = [_seen(item, most) for item in value[:most]]
        if len(value) > most:
            items.append(_Text(f"… {len(value) - most:,} more"))
        return items if isinstance(value, list) else tuple(items)
    if isinstance(value, Omitted):
        return _Text(value.text)
    if is_a(value, BaseException):
        name = type_name(value).removeprefix("builtins.")
        return _Text(f"<{name}: {text_of(value)}>")
    if isinstance(value, str):
        return value[:most] + "…" * (len(value) > most)
    return value
