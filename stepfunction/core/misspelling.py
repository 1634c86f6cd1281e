"""Misspelling: names of arguments and methods that there are not, and what is meant."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import wraps
from typing import Any, TypeVar, cast

from stepfunction.core.wording import closest, did_you_mean

F = TypeVar("F", bound=Callable[..., Any])


def did_you_mean_arguments(**meant: str) -> Callable[[F], F]:
    """Let a method say, of an argument that it has not, which one may be meant.

    Args:
        meant: By names that other libraries have, the argument, or what to write.
    """

    def decorate(method: F) -> F:
        known = _arguments(method)

        @wraps(method)
        def call(*args: Any, **named: Any) -> Any:
            __tracebackhide__ = True
            for name in named:
                if name not in known:
                    raise unknown_argument(args[0], method, named, meant)
            return method(*args, **named)

        return cast(F, call)

    return decorate


def unknown_argument(
    owner: Any, method: Any, named: Iterable[str], meant: dict[str, str]
) -> TypeError:
    """Give the error of a method that was given an argument that it has not.

    Args:
        owner: The object whose method it is.
        method: The function.
        named: The names of the arguments that were given, one of them unknown.
        meant: By names that other libraries have, the argument, or what to write.
    """
    known = _arguments(method)
    name = next(name for name in named if name not in known)
    what = f"{type(owner).__name__}.{method.__name__}"
    return TypeError(_text(what, name, known, meant))


def _arguments(method: Any) -> tuple[str, ...]:
    code = method.__code__
    known: tuple[str, ...] = code.co_varnames
    return known[1 : code.co_argcount + code.co_kwonlyargcount]


def _text(what: str, name: str, known: Any, meant: dict[str, str]) -> str:
    # What was written may be near to what is called otherwise elsewhere.
    fit = {it: way for it, way in meant.items() if "(" in way or way in known}
    close = name if name in fit else closest(name, {**dict.fromkeys(known), **fit})
    way = fit.get(str(close), close)
    hint = ""
    if way is not None:
        hint = f"; write {way}" if "(" in way else f" (did you mean {way!r}?)"
    what = what.removesuffix(".__init__")
    return f"{what}() got an unexpected keyword argument {name!r}{hint}"


def no_attribute(kind: type[Any], name: str, meant: dict[str, str]) -> AttributeError:
    """Give the error of an object that has not this attribute."""
    hint = ""
    if name[:1] != "_":  # which are asked for by copies, notebooks and the like
        known = [it for it in dir(kind) if it[:1] != "_"]
        hint = did_you_mean(name, known)
        if name in meant:
            hint = f" (did you mean {meant[name]!r}?)"
            if "(" in meant[name]:
                hint = f"; write {meant[name]}"
    return AttributeError(f"{kind.__name__!r} object has no attribute {name!r}{hint}")
