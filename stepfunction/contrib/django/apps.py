"""Apps: what Django is told of the app, and what is done when it is ready."""

from __future__ import annotations

from django.apps import AppConfig


class StepFunctionConfig(AppConfig):
    """The app, under the label ``stepfunction``."""

    name = "stepfunction.contrib.django"
    label = "stepfunction"
    verbose_name = "Workflows"

    def ready(self) -> None:
        """Have tasks find what their callers have."""
        from stepfunction.contrib.django.surroundings import surroundings
        from stepfunction.core.surroundings import register

        register(surroundings)
