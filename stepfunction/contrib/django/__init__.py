"""Django: an app with which workflows run right in views, commands and tests.

``"stepfunction.contrib.django"`` in ``INSTALLED_APPS`` is all that it takes. Executions
come in as they are; their tasks find the language, the databases and the rules of the
transaction that the caller has, and leave no connection behind.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stepfunction.contrib.django.errors import (
        AtomicBlockError,
        MemoryDatabaseError,
    )
    from stepfunction.contrib.django.registry import get_workflow, get_workflows
    from stepfunction.contrib.django.signals import (
        execution_ended,
        execution_started,
        step_ended,
    )
    from stepfunction.contrib.django.transactions import run_on_commit, transactional

# Found when they are asked for: Django imports this before there are settings.
_HOMES = {
    "AtomicBlockError": "errors",
    "MemoryDatabaseError": "errors",
    "execution_ended": "signals",
    "execution_started": "signals",
    "get_workflow": "registry",
    "get_workflows": "registry",
    "run_on_commit": "transactions",
    "step_ended": "signals",
    "transactional": "transactions",
}
__all__ = [
    "AtomicBlockError",
    "MemoryDatabaseError",
    "execution_ended",
    "execution_started",
    "get_workflow",
    "get_workflows",
    "run_on_commit",
    "step_ended",
    "transactional",
]


if not TYPE_CHECKING:  # which would take any name for one of these

    def __getattr__(name: str) -> Any:
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)

    def __dir__() -> list[str]:
        return list(__all__)
