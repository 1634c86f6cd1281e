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
        return cut_text(value.text, most)
    if kind is str:
        if "\n" in value:
            return cut_text(value, most)
        more = len(value) - most
        if more <= 0:
            return escape(repr(value))
        return escape(f"{value[:most]!r}… ({more:,} characters left out)")
    text = pformat(_seen(value, most), width=_WIDTH, compact=True, sort_dicts=False)
    # How much more there is it may not have any more.
    return escape(text if len(text) <= most else f"{text[:most]}… (there is more)")


def said_text(description: str, most: int) -> str:
    """Give what the author of a step, or a workflow, has said of it."""
    lines = cut_text(description, most).splitlines()
    return f'<p class="sf-said">{"<br>".join(lines)}</p>'


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
    kind = type(value)
    if kind is dict or kind is TaskResults:
        return {_seen(key, most): _seen(item, most) for key, item in value.items()}
    if kind is set or kind is frozenset:
        items = ", ".join(repr(_seen(item, most)) for item in value)
        inside = f"{{{items}}}" if value else ""
        return _Text(inside if value and kind is set else f"{kind.__name__}({inside})")
    if kind in _SEQUENCES:
        seen = [_seen(item, most) for item in value[:most]]
        if len(value) > most:
            seen.append(_Text(f"… {len(value) - most:,} more"))
        return tuple(seen) if kind is tuple else seen
    return _leaf(value, most)


def _leaf(value: Any, most: int) -> Any:
    kind = type(value)
    if kind is str:
        return value[:most] + "…" * (len(value) > most)
    if kind is Omitted:
        return _Text(value.text)
    if is_a(value, BaseException):
        name = type_name(value).removeprefix("builtins.")
        return _Text(f"<{name}: {text_of(value)}>")
    if kind is int and abs(value) >= _LARGEST:  # which Python may refuse to write
        return _Text(f"{hex(value)[:most]}…")
    return _Text(repr_of(value))  # which a class of the user's may refuse


_SEQUENCES = (list, tuple, MapResults)
_LARGEST = 10**1_000
