"""Sources: where a map step has its items from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from stepfunction.core.definition.callables import answer
from stepfunction.core.envelope.omitted import Omitted
from stepfunction.core.history.results import MapResults
from stepfunction.core.raised import is_a, short_repr


def items_of(value: Any, items: Any) -> Iterable[Any]:
    """Give the items of a map step.

    Args:
        value: Its input.
        items: What the step says of where they are in it.

    Raises:
        LookupError: If the input has no such key.
        TypeError: If there is nothing to take items from.
        BaseException: What a callable raises.
    """
    found, origin = value, "the input"
    if callable(items):
        found, origin = answer(items, value), "what items= gives"
    elif items is not None:
        origin = f"the input's {items!r}"
        try:
            found = value[items]
        except (LookupError, TypeError) as error:
            raise LookupError(
                f"items={items!r} is to be a key of the map step's input, but that is "
                f"{short_repr(value)}"
            ) from error
    is_one = is_a(found, (str, bytes, bytearray, Mapping))
    if is_a(found, Iterable) and not is_one:
        return found
    hint = "give items= a key of it, or a callable that gives an iterable"
    if items is not None:
        hint = "let items= be a callable that gives an iterable, as a dict's .items()"
    raise TypeError(
        f"{origin} of a map step is items, not {short_repr(found)}; {hint}"
        if items is None
        else f"{origin} is to be items, not {short_repr(found)}; {hint}"
    )


def known_items(value: Any, action: Any) -> Any:
    """Give the items of a map step, as far as nothing is to be called for that."""
    where = action.items
    if where is not None and not callable(where):
        try:
            value = value[where]
        except (LookupError, TypeError):
            return None
    return value if where is None or not callable(where) else None


def item_at(items: Any, index: int) -> Any:
    """Give an item of what ``known_items`` gave; an ``Omitted`` where it is unknown."""
    if type(items) in (list, tuple, MapResults) and index < len(items):
        return items[index]
    return _UNKNOWN


_UNKNOWN = Omitted("an item, which is not stored")
