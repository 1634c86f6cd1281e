"""Project: Django set up for a program that is none of its own, as the command line."""

from __future__ import annotations

from stepfunction.cli.targets import Places

APP = "stepfunction.contrib.django"


def set_up() -> Places | None:
    """Set Django up with the settings that the environment names, if it is there.

    Returns:
        Where a command line looks for targets; None where the app is not installed.

    Raises:
        Exception: What Django, the settings or an app raises.
    """
    try:
        import django
    except ModuleNotFoundError as error:
        if error.name != "django":  # something that it needs
            raise
        return None
    from django.apps import apps

    if not apps.ready:  # else logging would be configured again
        django.setup()
    if not apps.is_installed(APP):
        return None
    from stepfunction.contrib.django.targets import AppPlaces

    return AppPlaces()
