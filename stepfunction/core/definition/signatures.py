"""Signatures: how a function is to be called, decided by its parameters.

The decision is made once, when a step is added, and never by calling the function
to see what happens.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from inspect import Parameter
from types import FunctionType, MappingProxyType, MethodType, UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from stepfunction.core.context import Context
from stepfunction.core.definition.callables import name_of
from stepfunction.core.definition.calls import Call
from stepfunction.core.errors import Problem
from stepfunction.core.wording import did_you_mean

_CONTEXT = r"(?:\w+\.)*Context"
_CONTEXT_TEXT = re.compile(
    rf"\s*(?:{_CONTEXT}|{_CONTEXT}\s*\|\s*None|None\s*\|\s*{_CONTEXT}"
    rf"|(?:\w+\.)*Optional\[{_CONTEXT}\])\s*"
)
_BY_POSITION = (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)
_BY_KEYWORD = (Parameter.POSITIONAL_OR_KEYWORD, Parameter.KEYWORD_ONLY)


def bind(
    function: Any, params: Mapping[str, Any] | None = None
) -> Call | list[Problem]:
    """Decide how a function is to be called.

    Args:
        function: Any callable.
        params: Keyword arguments that bind before anything else.

    Returns:
        The call; or what stands against it, one sentence each.
    """
    params = MappingProxyType(dict(params or {}))
    if problem := _uncallable(function):
        return [problem]
    parameters = _parameters(function)
    if parameters is None:
        return Call(function, params=params)

    free = [p for p in parameters if p.name not in params or p.kind not in _BY_KEYWORD]
    annotated = [p for p in free if _means_context(p.annotation)]
    takes_input = next(
        (
            p
            for p in free
            if p not in annotated
            and p.kind in (*_BY_POSITION, Parameter.VAR_POSITIONAL)
        ),
        None,
    )
    named = [p for p in free if p.name == "context" and p is not takes_input]
    takes_context = next((p for p in annotated + named if p.kind in _BY_KEYWORD), None)
    given = (takes_input, takes_context)
    missing = [p for p in free if p not in given and _is_required(p)]
    problems = [
        *(_out_of_reach(function, annotated + named) if not takes_context else ()),
        *_unusable(function, parameters, params, "params"),
        *(_missing(function, p) for p in missing),
    ]
    by_keyword = {*params, takes_context.name} if takes_context else {*params}
    if takes_input is not None and takes_input.kind is Parameter.VAR_POSITIONAL:
        problems += [
            Problem(
                "func",
                f"{name_of(function)} takes {p.name!r} before *{takes_input.name}, "
                "which takes the step's input",
                "; wrap it in a function that says what goes where",
            )
            for p in parameters
            if p.name in by_keyword and p.kind in _BY_POSITION
        ]
    if problems:
        return problems
    goes_first = takes_input is None or (
        takes_input is parameters[0] or takes_input.kind is Parameter.VAR_POSITIONAL
    )
    return Call(
        function,
        takes_input=takes_input is not None,
        input_name=None if goes_first or takes_input is None else takes_input.name,
        context_name=takes_context.name if takes_context else None,
        params=params,
        is_async=_is_async(function),
    )


def bind_named(
    function: Any,
    params: Mapping[str, Any] | None,
    inputs: Iterable[str],
    is_task: bool = False,
) -> Call | list[Problem]:
    """Decide how a function is to be called with named inputs.

    Args:
        function: Any callable.
        params: Further keyword arguments.
        inputs: The names of the inputs.
        is_task: Whether it is given only those that it has parameters for.

    Returns:
        As ``bind``.
    """
    params = MappingProxyType(dict(params or {}))
    names = tuple(inputs)
    if problem := _uncallable(function):
        return [problem]
    parameters = _parameters(function)
    if parameters is None:
        return Call(function, takes_input=False, params=params, named_inputs=names)
    usable = _by_keyword(parameters)
    if is_task and usable is not None:
        names = tuple(name for name in names if name in usable)

    bound = {*params, *names}
    free = [p for p in parameters if p.name not in bound or p.kind not in _BY_KEYWORD]
    contexts = [p for p in free if _means_context(p.annotation)]
    contexts += (p for p in free if p.name == "context" and p not in contexts)
    # A template's **context is no Context, but what it is filled with.
    contexts = [p for p in contexts if p.kind is not Parameter.VAR_KEYWORD]
    takes_context = next((p for p in contexts if p.kind in _BY_KEYWORD), None)
    missing = [p for p in free if p is not takes_context and _is_required(p)]
    problems = [
        *(_out_of_reach(function, contexts) if takes_context is None else ()),
        *_unusable(function, parameters, params, "params"),
        *_unusable(function, parameters, names, "inputs"),
        *(
            Problem(
                "inputs",
                f"inputs has {p.name!r}, but {name_of(function)} is given the Context "
                "for it",
                "; leave it out",
            )
            for p in parameters
            if p.name in names and _means_context(p.annotation)
        ),
        *(_missing(function, p, True) for p in missing),
    ]
    if problems:
        return problems
    return Call(
        function,
        takes_input=False,
        context_name=takes_context.name if takes_context else None,
        params=params,
        is_async=_is_async(function),
        named_inputs=names,
    )


def keywords_of(function: Any) -> set[str] | None:
    """Give which names a callable takes by keyword; None if it may be any."""
    parameters = _parameters(function)
    return None if parameters is None else _by_keyword(parameters)


def _by_keyword(parameters: list[Parameter]) -> set[str] | None:
    if any(p.kind is Parameter.VAR_KEYWORD for p in parameters):
        return None
    return {p.name for p in parameters if p.kind in _BY_KEYWORD}


def _uncallable(function: Any) -> Problem | None:
    """Say why no step can call it; None if one can."""
    if not callable(function):
        return Problem("func", f"func is {function!r}, which cannot be called")
    if _is_function(innermost := _innermost(function)) and inspect.isasyncgenfunction(
        innermost
    ):
        return Problem(
            "func",
            f"{name_of(function)} is an async generator",
            "; a step returns one result, so collect the items and return them",
        )
    return None


def _parameters(function: Any) -> list[Parameter] | None:
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (ValueError, TypeError):  # a builtin that does not tell
        return None
    if any(type(p.annotation) is str for p in parameters):
        try:
            evaluated = inspect.signature(function, eval_str=True)
        except Exception:  # a name that only the type checker knows: read the text
            return parameters
        return list(evaluated.parameters.values())
    return parameters


def _means_context(annotation: Any) -> bool:
    if isinstance(annotation, str):
        return _CONTEXT_TEXT.fullmatch(annotation) is not None
    origin = get_origin(annotation)
    return annotation is Context or (
        origin in (Union, UnionType, Annotated) and Context in get_args(annotation)
    )


def _is_required(parameter: Parameter) -> bool:
    return parameter.default is Parameter.empty and parameter.kind not in (
        Parameter.VAR_POSITIONAL,
        Parameter.VAR_KEYWORD,
    )


def _out_of_reach(
    function: Any, contexts: Iterable[Parameter]
) -> Iterator[Problem]:
    for p in contexts:
        if p.kind not in _BY_KEYWORD and not _is_required(p):
            yield Problem(
                "func",
                f"{name_of(function)} takes the context as {p.name!r}, which is "
                "positional only",
                "; remove the '/' after it",
            )


def _missing(function: Any, parameter: Parameter, has_inputs: bool = False) -> Problem:
    name = parameter.name
    text = f"{name_of(function)} also requires {name!r}"
    if parameter.kind is Parameter.POSITIONAL_ONLY:
        hint = "; it is positional only, so wrap the function in one that gives it"
        return Problem("func", text, hint)
    hint = f"give it with params={{{name!r}: …}}"
    if has_inputs:
        hint = f"name a step for it in inputs, or {hint}"
    if name == "ctx":
        hint += ", or annotate it Context to be given the context"
    return Problem("params", text, f"; {hint}")


def _unusable(
    function: Any, parameters: list[Parameter], names: Iterable[str], what: str
) -> Iterator[Problem]:
    usable = _by_keyword(parameters)
    if usable is None:
        return
    for name in names:
        if name not in usable:
            yield Problem(
                what,
                f"{what} has {name!r}, but {name_of(function)} has no parameter "
                "of that name to give by keyword",
                did_you_mean(name, usable),
            )


def _is_async(function: Any) -> bool:
    # A mock of an async function is no function, but says that it is awaited.
    while isinstance(function, partial):
        function = function.func
    asyncio = sys.modules.get("asyncio")
    tell = inspect.iscoroutinefunction
    if asyncio is not None and sys.version_info < (3, 13):
        tell = asyncio.iscoroutinefunction
    try:
        return tell(function) or tell(_innermost(function))
    except TypeError:  # a mock that imitates a function badly
        return False


def _is_function(value: Any) -> bool:
    return type(value) in (FunctionType, MethodType)  # a mock lies to isinstance


def _innermost(function: Any) -> Any:
    """Look behind partials, and behind an object for its ``__call__``."""
    while isinstance(function, partial):
        function = function.func
    if inspect.isroutine(function) or inspect.isclass(function):
        return function
    return getattr(type(function), "__call__", function)
