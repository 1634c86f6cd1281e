"""Wording: how messages, records and pictures say what recurs in all of them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from contextlib import suppress
from functools import partial
from itertools import islice
from typing import Any

from stepfunction.core.raised import repr_of, traceback_of

# What is said of workflows, or of what they did.
TOO_DEEP = (
    "nested too deep in one another for this interpreter, whose limit "
    "sys.setrecursionlimit() sets"
)
# Of an execution that is executed again after it FAILED or was stopped.
GIVEN_BACK = "nothing is called again; resume it to go on from where it failed"


def plain_text(name: str) -> str:
    """Give the text of a name, which may be a member of an enum of texts."""
    return name if type(name) is str else str.__str__(name)


def one_line(text: str) -> str:
    """Give a text of somebody else's with escapes for what would end its line.

    Or what a terminal would take for an order, or show in another place.
    """
    if text.isprintable():
        return text
    return "".join(it if it.isprintable() else repr(it)[1:-1] for it in text)


def subject(step: str, task: str | int | None = None) -> str:
    """Give what messages call a step, a task of it, or an item by its index."""
    if task is None:
        return f"step {step!r}"
    what = "item" if type(task) is int else "task"
    return f"{what} {task!r} of step {step!r}"


def location(step: str, task: str | None) -> str:
    """Give where in a workflow a problem is that follows."""
    return f"step {step!r}" if task is None else f"step {step!r}, task {task!r}"


def label_of(function: Any) -> str:
    """Give what messages call a function, or what else is called."""
    with suppress(Exception):  # it may be anything
        while isinstance(function, partial):
            function = function.func
        name = getattr(function, "__qualname__", None)
        if isinstance(name, str) and name:
            return name
    return type(function).__qualname__


def duration_text(seconds: float) -> str:
    """Give a duration as a person would say it."""
    if seconds < 0.000001:
        return "0 ms"
    if seconds < 0.0009995:
        return f"{seconds * 1_000_000:.3g} µs"
    if seconds < 0.9995:
        return f"{seconds * 1000:.3g} ms"
    return f"{seconds:.3g} s" if seconds < 99.95 else f"{seconds:.0f} s"


def progress_text(done: int | None, total: int | None) -> str:
    """Say how far a map step has come."""
    if total is None:
        return f"{counted(done or 0, 'item')} done"
    return f"{done or 0:,} of {total:,} items done"


def counted(count: int, one: str, many: str = "") -> str:
    """Give how many there are of something, as ``"1 step"`` or ``"12,000 steps"``."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def listed(
    things: Collection[Any],
    most: int,
    between: str = ", ",
    text: Callable[[Any], str] = str,
) -> str:
    """Give the texts of the first so many, and how many more there are."""
    names = between.join(map(text, islice(things, most)))
    more = len(things) - most
    # As in "a, b and 3 more", but "a; b; and 3 more".
    return f"{names}{between.lstrip(',')}and {more:,} more" if more > 0 else names


def error_text(error: BaseException) -> str:
    """Give an error's class and message in one line, as a traceback ends."""
    try:
        text = str(error)
    except Exception as unprintable:
        text = f"(its text cannot be had: {repr_of(unprintable)})"
    name = type.__repr__(type(error))[8:-2].rpartition(".")[2]
    return f"{name}: {text}" if text else name


def traceback_text(error: BaseException, chain: bool = True) -> str:
    """Give an error as Python shows it, with those that it comes from or alone."""
    import traceback  # dear

    try:
        return "".join(traceback.format_exception(error, chain=chain))
    except Exception:  # as of one that has no truth value, for which it is asked
        frames = "".join(traceback.format_tb(traceback_of(error)))
        return f"Traceback (most recent call last):\n{frames}{error_text(error)}\n"


def closest(name: object, known: Iterable[str]) -> str | None:
    """Give the known name that a mistyped one resembles most, if any does."""
    from difflib import get_close_matches

    by_lower = {text.lower(): text for text in known}
    close = get_close_matches(str(name).lower(), by_lower, n=1)
    return by_lower[close[0]] if close else None


def did_you_mean(name: object, known: Iterable[str]) -> str:
    """Give the end of a message that offers the known name closest to this one."""
    close = closest(name, known)
    return "" if close is None else f" (did you mean {close!r}?)"
