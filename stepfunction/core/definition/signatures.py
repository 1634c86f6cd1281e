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
from stepfunction.core.definition.calls import Call, CallWithContextForInput
from stepfunction.core.errors import Problem
from stepfunction.core.wording import did_you_mean

_CONTEXT = r"(?:\w+\.)*Context"
_CONTEXT_TEXT = re.compile(
    rf"\s*(?:{_CONTEXT}|{_CONTEXT}\s*\|\s*None|None\s*\|\s*{_CONTEXT}"
    rf"|(?:\w+\.)*Optional\[{_CONTEXT}\])\s*"
)
_BY_POSITION = (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)
_FOR_INPUT = (*_BY_POSITION, Parameter.VAR_POSITIONAL)
_BY_KEYWORD = (Parameter.POSITIONAL_OR_KEYWORD, Parameter.KEYWORD_ONLY)


def bind(
    function: Any,
    params: Mapping[str, Any] | None = None,
    names: Iterable[str] | None = None,
    is_task: bool = False,
) -> Call | list[Problem]:
    """Decide how a function is to be called.

    Args:
        function: Any callable.
        params: Keyword arguments that bind before anything else.
        names: The names of the inputs that it takes by keyword; None where it takes
            the input of the step.
        is_task: Whether it is given only those that it has parameters for.

    Returns:
        The call; or what stands against it, one sentence each.
    """
    params = MappingProxyType(dict(params or {}))
    inputs = () if names is None else tuple(names)
    if problem := _uncallable(function):
        return [problem]
    parameters = _parameters(function)
    if parameters is None:
        return Call(function, names is None, params=params, named_inputs=inputs)
    if is_task and (usable := _by_keyword(parameters)) is not None:
        inputs = tuple(name for name in inputs if name in usable)

    bound = {*params, *inputs}
    free = [p for p in parameters if p.name not in bound or p.kind not in _BY_KEYWORD]
    contexts = [p for p in free if _means_context(p.annotation)]
    takes_input = None
    if names is None:
        takes_input = next(
            (p for p in free if p not in contexts and p.kind in _FOR_INPUT), None
        )
    contexts += (p for p in free if p.name == "context" and p not in contexts)
    # A template's **context is no Context, but what it is filled with.
    contexts = [
        p
        for p in contexts
        if p is not takes_input and p.kind is not Parameter.VAR_KEYWORD
    ]
    takes_context = next((p for p in contexts if p.kind in _BY_KEYWORD), None)
    given = (takes_input, takes_context)
    problems = [
        *(_out_of_reach(function, contexts) if takes_context is None else ()),
        *_unusable(function, parameters, params, "params"),
        *_unusable(function, parameters, inputs, "inputs"),
        *_in_the_place_of_context(function, parameters, inputs),
        *(
            _missing(function, p, names is not None)
            for p in free
            if p not in given and _is_required(p)
        ),
    ]
    is_rest = takes_input is not None and takes_input.kind is Parameter.VAR_POSITIONAL
    if takes_input is not None and is_rest:
        by_keyword = {*params, takes_context.name} if takes_context else {*params}
        before = [p for p in parameters if p.name in by_keyword]
        problems += _before_the_rest(function, before, takes_input)
    if problems:
        return problems
    goes_first = takes_input is None or is_rest or takes_input is parameters[0]
    is_taken_for_context = takes_input is not None and takes_input.name == "context"
    kind = CallWithContextForInput if is_taken_for_context and not is_rest else Call
    return kind(
        function,
        takes_input=takes_input is not None,
        input_name=None if goes_first or takes_input is None else takes_input.name,
        context_name=takes_context.name if takes_context else None,
        params=params,
        is_async=_is_async(function),
        named_inputs=inputs,
    )


def _in_the_place_of_context(
    function: Any, parameters: Iterable[Parameter], inputs: Iterable[str]
) -> Iterator[Problem]:
    for p in parameters:
        if p.name in inputs and _means_context(p.annotation):
            yield Problem(
                "inputs",
                f"inputs has {p.name!r}, but {name_of(function)} is given the Context "
                "for it",
                "; leave it out",
            )


def _before_the_rest(
    function: Any, by_keyword: Iterable[Parameter], rest: Parameter
) -> Iterator[Problem]:
    for p in by_keyword:
        if p.kind in _BY_POSITION:
            yield Problem(
                "func",
                f"{name_of(function)} takes {p.name!r} before *{rest.name}, which "
                "takes the step's input",
                "; wrap it in a function that says what goes where",
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
    parts = (annotation,)
    if get_origin(annotation) in (Union, UnionType, Annotated):
        parts = get_args(annotation)
    return any(part is Context for part in parts)


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
    tell = inspect.iscoroutinefunction
    if sys.version_info < (3, 13):
        # Who has such a mock has imported it; another thread may just be doing so.
        tell = getattr(sys.modules.get("asyncio"), "iscoroutinefunction", tell)
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
