"""Transactions: attempts that are transactions, and workflows that follow one."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial, wraps
from inspect import iscoroutinefunction
from typing import Any, TypeVar, overload

from asgiref.sync import sync_to_async
from django.db import transaction

from stepfunction.core.history.execution import Execution
from stepfunction.core.history.journal import NOTHING
from stepfunction.core.step_function import StepFunction

_Function = TypeVar("_Function", bound=Callable[..., Any])


@overload
def transactional(using: _Function) -> _Function: ...


@overload
def transactional(using: str | None = None) -> Callable[[_Function], _Function]: ...


def transactional(using: Any = None) -> Any:
    """Have each attempt at a step be a transaction of its own, or a savepoint.

    What an attempt has written is rolled back when it fails, before it is tried again.
    For ``async def`` steps too, whose use of the ORM is on the step's own thread.

    Args:
        using: The alias of the database; None for the default one.

    Returns:
        A decorator of the step's function.

    Used as ``@transactional`` or ``@transactional(using="orders")``.
    """
    if callable(using):
        return _decorated(using, None)
    return partial(_decorated, using=using)


def _decorated(function: Any, using: str | None) -> Any:
    if iscoroutinefunction(function):

        @wraps(function)
        async def call_async(*args: Any, **keywords: Any) -> Any:
            block = transaction.atomic(using)
            leave = sync_to_async(block.__exit__)
            await sync_to_async(block.__enter__)()
            try:
                output = await function(*args, **keywords)
            except BaseException as error:
                await leave(type(error), error, error.__traceback__)
                raise
            await leave(None, None, None)
            return output

        return call_async

    @wraps(function)
    def call(*args: Any, **keywords: Any) -> Any:
        with transaction.atomic(using):
            return function(*args, **keywords)

    return call


def run_on_commit(
    workflow: StepFunction,
    initial_input: Any = NOTHING,
    *,
    using: str | None = None,
    robust: bool = False,
    **options: Any,
) -> Execution:
    """Run a workflow when the present transaction has been committed.

    It then runs to its end in this thread; at once where there is no transaction, and
    never where that is rolled back.

    Args:
        workflow: The workflow.
        initial_input: The first step's input; without one a default that its function
            has stays as it is, and what requires an input is given None.
        using: The alias of the database; None for the default one.
        robust: Whether what it raises is logged, as by ``on_commit``; else what else
            was to follow the commit does not.
        **options: ``executor``, ``timeout``, ``check``, ``listeners`` and
            ``surroundings``, which mean what they mean to ``StepFunction.execute``.

    Returns:
        The execution, whose ``id`` is known already. It stays INITIALIZED until then.

    Raises:
        DefinitionError: If the workflow or an option is not sound.
    """
    execution, run = workflow._later(initial_input, **options)
    transaction.on_commit(run, using=using, robust=robust)
    return execution
