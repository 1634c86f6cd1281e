"""Targets: what commands call the workflows of a project.

That is ``app.Name``, or the label of an app for all that it has; and all that the
command line knows.
"""

from __future__ import annotations

from django.apps import apps

from stepfunction.cli.targets import Places, Source, TargetError
from stepfunction.contrib.django.registry import entries, get_workflows
from stepfunction.core.step_function import StepFunction
from stepfunction.core.wording import closest


class AppPlaces(Places):
    """Where targets are looked for: first in the apps, then in modules and files."""

    def one(self, target: str) -> StepFunction:
        """Give the workflow of a target that ``expand`` gave.

        Raises:
            TargetError: If there is none.
        """
        found = get_workflows().get(target)
        if found is not None:
            return found
        return super().one(target)

    def expand(self, target: str) -> list[str]:
        """Give the target itself if it names a workflow, else all of its app or module.

        Raises:
            TargetError: If it is neither.
        """
        known = get_workflows()
        if target in known:
            return [target]
        if _is_label(target):
            found = list(self.inside(target))
            if not found:
                raise TargetError(f"the app {target} has no workflow")
            return found
        try:
            return super().expand(target)
        except TargetError as error:
            labels = [entry.app for entry in entries()]
            meant = closest(target, [*known, *labels])
            if meant is None or ":" in target:
                raise
            text = f"no app has a workflow {target!r} (did you mean {meant!r}?)"
            raise TargetError(text) from error.__cause__

    def inside(self, place: str | None) -> dict[str, Source]:
        """Give the targets of an app or a module, and what each stands for.

        Args:
            place: The label of an app, a module or a file; None for all apps.

        Raises:
            TargetError: If there is no such thing.
        """
        if place is not None and not _is_label(place):
            return super().inside(place)
        found: dict[str, Source] = {}
        for entry in entries(place):
            source = entry.given if entry.workflow is None else entry.workflow
            found.setdefault(entry.name, source)
        return found


def _is_label(text: str) -> bool:
    return any(text == config.label for config in apps.get_app_configs())
