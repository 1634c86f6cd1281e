"""Variables: the context variables that one call has for itself."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextvars import Context as Variables
from contextvars import copy_context
from typing import Any, TypeVar

_Result = TypeVar("_Result")


def own_variables(of: Variables | None = None) -> Variables:
    """Give a copy of context variables, so that what a call sets is its own.

    That goes for the context of ``decimal`` too: a copy of variables has the very same,
    in which a call may set its precision.

    Args:
        of: What to copy; None for those of this thread.
    """
    variables = copy_context() if of is None else of.copy()
    if variables and "decimal" in sys.modules and _has_arithmetic(variables):
        variables.run(_copy_arithmetic)
    return variables


def apart(call: Callable[[Any], _Result]) -> Callable[[Any], _Result]:
    """Have calls that are made from no variables made with those of now, each apart.

    Most often there are none, and a copy for each call costs as much as a short call:
    then whoever makes them need only see, after each, whether it has set any.
    """
    around = copy_context()
    if not around:
        return call
    if "decimal" in sys.modules and _has_arithmetic(around):
        return lambda value: own_variables(around).run(call, value)
    return lambda value: around.copy().run(call, value)


def _has_arithmetic(variables: Variables) -> bool:
    return any(variable.name == "decimal_context" for variable in variables)


def _copy_arithmetic() -> None:
    import decimal

    decimal.setcontext(decimal.getcontext().copy())
