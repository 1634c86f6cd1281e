"""Callables: what can be told of a user's function at a glance, without calling it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from types import CoroutineType, FunctionType
from typing import Any

# Flags of a code object, as ``inspect`` names them: VARARGS, VARKEYWORDS, COROUTINE,
# ITERABLE_COROUTINE, ASYNC_GENERATOR.
_UNUSUAL = 0x4 | 0x8 | 0x80 | 0x100 | 0x200

_GENERATOR = 0x20
# COROUTINE, ASYNC_GENERATOR.
_ASYNC = 0x80 | 0x200


def name_of(function: Any) -> str:
    """Give the name that a callable is known by in pictures and messages."""
    while isinstance(function, partial):
        function = function.func
    name = getattr(function, "__qualname__", None) or type(function).__qualname__
    return name.replace("<locals>.", "")


def takes_input_alone(function: Any) -> bool:
    """Tell the commonest functions at a glance; ``signatures`` reads all others.

    To read a signature takes long, and so does the import of what can.
    """
    if not _is_common(function):
        return False
    count: int = function.__code__.co_argcount
    return count > 0 and count - len(function.__defaults__ or ()) <= 1


def has_default(function: Any, name: str | None = None) -> bool:
    """Tell whether the parameter that takes an input has a default.

    Args:
        function: The callable.
        name: The name of the parameter; None for the first.
    """
    if name is None and _is_common(function):
        code, defaults = function.__code__, function.__defaults__ or ()
        return bool(0 < code.co_argcount == len(defaults))
    from inspect import Parameter, signature  # dear

    try:
        parameters = signature(function).parameters
    except (ValueError, TypeError):  # a builtin that does not tell
        return False
    if name is None:
        name = next(iter(parameters), "")
    found = parameters.get(name)
    # What takes all that is left over, or goes by name alone, takes no input.
    takes_one = (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)
    if found is None or found.kind not in takes_one:
        return False
    return found.default is not Parameter.empty


def takes_names_alone(function: Any, names: Iterable[str]) -> bool:
    """Tell the commonest functions that named inputs are all they need, likewise."""
    if not _is_common(function) or function.__code__.co_posonlyargcount:
        return False
    code, given = function.__code__, {*names}
    parameters = code.co_varnames[: code.co_argcount]
    required = parameters[: code.co_argcount - len(function.__defaults__ or ())]
    return given.issuperset(required) and given.issubset(parameters)


def _is_common(function: Any) -> bool:
    """Tell a function whose parameters are plain, none of them for the context."""
    if type(function) is not FunctionType or function.__dict__:
        return False
    code, annotations = function.__code__, function.__annotations__
    if (
        code.co_kwonlyargcount
        or code.co_flags & _UNUSUAL
        or "context" in code.co_varnames[: code.co_argcount]
    ):
        return False
    return not annotations or all(
        isinstance(it, type) and it.__name__ != "Context"
        for it in annotations.values()
    )


def misfit(function: Any, may_yield: bool = False) -> str | None:
    """Say why a callable cannot be asked about one value; None if it can.

    Args:
        function: The callable.
        may_yield: Whether a generator is an answer.
    """
    code = _code_of(function)
    flags = 0 if code is None else code.co_flags
    if flags & _ASYNC or (flags & _GENERATOR and not may_yield):
        kinds = "async" if may_yield else "async or a generator"
        return f"is {kinds}, which gives no answer when called"
    if takes_input_alone(function):
        return None
    from inspect import signature  # dear

    try:
        signature(function).bind(None)
    except ValueError:  # a builtin that does not tell
        return None
    except TypeError as error:
        return f"cannot be called with one value: {error}"
    return None


def answer(function: Callable[[Any], Any], value: Any) -> Any:
    """Ask a callable about a value.

    Raises:
        TypeError: If it answers with a coroutine.
        BaseException: Whatever it raises.
    """
    found = function(value)
    if type(found) is CoroutineType:
        found.close()
        raise TypeError(
            f"{name_of(function)} returned a coroutine, which nothing awaits here; "
            "return the answer itself"
        )
    return found


def _code_of(function: Any) -> Any:
    while isinstance(function, partial):
        function = function.func
    if not hasattr(function, "__code__") and not isinstance(function, type):
        function = getattr(function, "__func__", type(function).__call__)
    return getattr(function, "__code__", None)


def stray_coroutine(coroutine: CoroutineType[Any, Any, Any], name: str) -> TypeError:
    """Close a coroutine that nobody will await and give the error that says so."""
    coroutine.close()
    return TypeError(
        f"{name} is a plain function but returned a coroutine; "
        "define it with 'async def', or await inside it and return the result"
    )
