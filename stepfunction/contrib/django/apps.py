"""Apps: what Django is told of the app, and what is done when it is ready."""

from __future__ import annotations

from django.apps import AppConfig
from django.core import checks

from stepfunction.core.surroundings import register_surroundings


class StepFunctionConfig(AppConfig):
    """The app, under the label ``stepfunction``."""

    name = "stepfunction.contrib.django"
    label = "stepfunction"
    verbose_name = "Workflows"

    def ready(self) -> None:
        """Import the workflows of all apps, and have them run as Django needs it."""
        from stepfunction.contrib.django.checks import TAG, check_workflows
        from stepfunction.contrib.django.listening import listen
        from stepfunction.contrib.django.registry import discover
        from stepfunction.contrib.django.surroundings import surroundings

        register_surroundings(surroundings)
        checks.register(check_workflows, TAG)
        listen()
        discover()
