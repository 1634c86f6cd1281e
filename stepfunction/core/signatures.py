"""Signatures: how a function is to be called, decided by its parameters.

The decision is made once, when a step is added, and never by calling the function
to see what happens.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from functools import partial
from inspect import Parameter
from typing import Any, get_args

from stepfunction.core.calls import Call, name_of
from stepfunction.core.context import Context
from stepfunction.core.errors import did_you_mean

_BY_POSITION = (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)
_BY_KEYWORD = (Parameter.POSITIONAL_OR_KEYWORD, Parameter.KEYWORD_ONLY)


def bind(function: Any, params: Mapping[str, Any] | None = None) -> Call | list[str]:
    """Decide how a function is to be called.

    Args:
        function: Any callable.
        params: Keyword arguments that bind before anything else.

    Returns:
        The call; or what stands against it, one sentence each.
    """
    params = dict(params or {})
    if not callable(function):
        return [f"func is {function!r}, which cannot be called"]
    if inspect.isasyncgenfunction(_innermost(function)):
        return [
            f"{name_of(function)} is an async generator; a step returns one result, "
            "so collect the items and return them"
        ]
    parameters = _parameters(function)
    if parameters is None:
        return Call(function, params=params)

    free = [p for p in parameters if p.name not in params]
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
        *_unusable(function, parameters, params),
        *(
            f"{name_of(function)} also requires {p.name!r}; {_way_out(p)}"
            for p in missing
        ),
    ]
    by_keyword = {*params, takes_context.name} if takes_context else {*params}
    if takes_input is not None and takes_input.kind is Parameter.VAR_POSITIONAL:
        problems += [
            f"{name_of(function)} takes {p.name!r} before *{takes_input.name}, which "
            "takes the step's input; wrap it in a function that says what goes where"
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


def _parameters(function: Any) -> list[Parameter] | None:
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (ValueError, TypeError):  # a builtin that does not tell
        return None
    if any("Context" in p.annotation for p in parameters if type(p.annotation) is str):
        try:
            evaluated = inspect.signature(function, eval_str=True)
        except Exception:  # a name that only the type checker knows: read the text
            return parameters
        return list(evaluated.parameters.values())
    return parameters


def _means_context(annotation: Any) -> bool:
    if isinstance(annotation, str):
        return annotation.rpartition(".")[2] == "Context"
    return annotation is Context or Context in get_args(annotation)


def _is_required(parameter: Parameter) -> bool:
    return parameter.default is Parameter.empty and parameter.kind not in (
        Parameter.VAR_POSITIONAL,
        Parameter.VAR_KEYWORD,
    )


def _way_out(parameter: Parameter) -> str:
    if parameter.kind is Parameter.POSITIONAL_ONLY:
        return "it is positional only, so wrap the function in one that gives it"
    return f"fix it with params={{{parameter.name!r}: …}}"


def _unusable(
    function: Any, parameters: list[Parameter], params: Mapping[str, Any]
) -> Iterator[str]:
    if any(p.kind is Parameter.VAR_KEYWORD for p in parameters):
        return
    usable = [p.name for p in parameters if p.kind in _BY_KEYWORD]
    for name in params:
        if name not in usable:
            yield (
                f"params has {name!r}, but {name_of(function)} has no parameter "
                f"of that name to give by keyword{did_you_mean(name, usable)}"
            )


def _is_async(function: Any) -> bool:
    return inspect.iscoroutinefunction(_innermost(function))


def _innermost(function: Any) -> Any:
    """Look behind partials, and behind an object for its ``__call__``."""
    while isinstance(function, partial):
        function = function.func
    if inspect.isroutine(function) or inspect.isclass(function):
        return function
    return getattr(type(function), "__call__", function)
