"""Registry: the workflows of the project, by ``"app.Name"``.

They are those at the top level of the module ``workflows`` of each installed app, as
the command line would list them: its StepFunctions, and its functions without required
parameters that are annotated to return one. ``Name`` is what the workflow calls itself.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any, NamedTuple

from django.apps import apps
from django.utils.module_loading import autodiscover_modules

from stepfunction.cli.targets import Source, TargetError, build, sources
from stepfunction.core.step_function import StepFunction
from stepfunction.core.wording import did_you_mean

MODULE = "workflows"
# What functions have returned, which are called but once.
_built: dict[Callable[..., Any], StepFunction] = {}


class Entry(NamedTuple):
    """A workflow that an app has.

    Attributes:
        app: The label of the app.
        source: Where it stands, as ``"shop.workflows:checkout"``.
        given: The workflow, or a function that returns it.
        workflow: The workflow; None where the function fails.
        problem: What it failed with.
    """

    app: str
    source: str
    given: Source
    workflow: StepFunction | None
    problem: TargetError | None = None

    @property
    def name(self) -> str:
        """What it is known by, or its source where nobody knows its name."""
        if self.workflow is None:
            return self.source
        return f"{self.app}.{self.workflow.name}"


def discover() -> None:
    """Import the module ``workflows`` of every app that has one."""
    autodiscover_modules(MODULE)


def entries(app: str | None = None) -> Iterator[Entry]:
    """Give every workflow of the project, or of an app.

    Args:
        app: The label of the app; None for all.
    """
    for config in apps.get_app_configs():
        module = sys.modules.get(f"{config.name}.{MODULE}")
        if module is not None and app in (None, config.label):
            yield from _entries_of(config.label, module)


def _entries_of(label: str, module: ModuleType) -> Iterator[Entry]:
    for name, given in sources(module).items():
        source = f"{module.__name__}:{name}"
        try:
            yield Entry(label, source, given, _workflow(source, given))
        except TargetError as error:
            yield Entry(label, source, given, None, error)


def _workflow(source: str, given: Source) -> StepFunction:
    if isinstance(given, StepFunction):
        return given
    if given not in _built:
        _built.setdefault(given, build(source, given))  # another thread may be first
    return _built[given]


def get_workflows() -> dict[str, StepFunction]:
    """Give all workflows of the project by their names, as ``"shop.Checkout"``."""
    found: dict[str, StepFunction] = {}
    for entry in entries():
        if entry.workflow is not None:
            found.setdefault(entry.name, entry.workflow)
    return found


def get_workflow(name: str) -> StepFunction:
    """Give the workflow of this name.

    Args:
        name: As ``"shop.Checkout"``.

    Raises:
        LookupError: If there is none.
    """
    known = get_workflows()
    if name not in known:
        raise LookupError(
            f"no app has a workflow {name!r}{did_you_mean(name, known)}; an app has "
            f"those of its module {MODULE!r}"
        )
    return known[name]
