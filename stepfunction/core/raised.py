"""Raised: what is asked of an exception of the user's, which may refuse to be asked.

Its class may have a way of its own for each attribute, for its class too, that gives
anything or raises. So it is asked as the interpreter asks when it raises it. The same
goes for any value of the user's.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeGuard, TypeVar

T = TypeVar("T")

_given: Any = vars(BaseException)
_hides_context = _given["__suppress_context__"].__get__
_parts: Any = vars(BaseExceptionGroup)["exceptions"].__get__
# The traceback of an exception, what it was raised from, and what was being handled
# when it was raised: None if there is none. No functions, for failures wait for them.
traceback_of: Callable[[BaseException], Any] = _given["__traceback__"].__get__
cause_of: Callable[[BaseException], BaseException | None] = _given["__cause__"].__get__
context_of: Callable[[BaseException], BaseException | None]
context_of = _given["__context__"].__get__


def is_a(value: object, kind: type[T] | tuple[type[T], ...]) -> TypeGuard[T]:
    """Tell whether a value, or an exception, is of a class, or of one of several."""
    return issubclass(type(value), kind)


def parts_of(error: BaseException) -> tuple[BaseException, ...]:
    """Give the exceptions of a group; none of any other."""
    if not is_a(error, BaseExceptionGroup):
        return ()
    found: tuple[BaseException, ...] = _parts(error)
    return found


def shown_context_of(error: BaseException) -> BaseException | None:
    """Give the same, where Python would show it."""
    return None if _hides_context(error) else context_of(error)


def repr_of(error: BaseException | None) -> str:
    """Give the ``repr`` of an exception, or of one without one its class."""
    try:
        return repr(error)
    except Exception:
        return _without_repr(error)


def short_repr(value: Any) -> str:
    """Give the ``repr`` of a value, shortened, or of one without one its class."""
    from reprlib import repr  # seldom needed

    try:
        return repr(value)
    except Exception:
        return _without_repr(value)


def _without_repr(value: object) -> str:
    return f"<{type.__repr__(type(value))[8:-2]} without a repr>"
