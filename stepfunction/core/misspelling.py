"""Misspelling: names of arguments and methods that there are not, and what is meant."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar, cast

from stepfunction.core.wording import did_you_mean

F = TypeVar("F", bound=Callable[..., Any])


def did_you_mean_arguments(**meant: str) -> Callable[[F], F]:
    """Let a method say, of an argument that it has not, which one may be meant.

    Args:
        meant: By names that other libraries have, the argument, or what to write.
    """

    def decorate(method: F) -> F:
        code: Any = method.__code__
        known = code.co_varnames[1 : code.co_argcount + code.co_kwonlyargcount]

        @wraps(method)
        def call(*args: Any, **named: Any) -> Any:
            __tracebackhide__ = True
            for name in named:
                if name not in known:
                    what = f"{type(args[0]).__name__}.{method.__name__}"
                    raise TypeError(_text(what, name, known, meant))
            return method(*args, **named)

        return cast(F, call)

    return decorate


def _text(what: str, name: str, known: Any, meant: dict[str, str]) -> str:
    if name not in meant:
        hint = did_you_mean(name, known)
    elif "=" in meant[name]:
        hint = f"; write {meant[name]}"
    else:
        hint = f" (did you mean {meant[name]!r}?)"
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
    return AttributeError(f"{kind.__name__!r} object has no attribute {name!r}{hint}")
