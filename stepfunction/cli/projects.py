"""Projects: what is set up before a target is imported.

That is Django, where the environment names settings of it, as for ``manage.py``.
"""

from __future__ import annotations

import os
from importlib import import_module
from typing import cast

from stepfunction.cli.targets import Places, TargetError, look_first_in
from stepfunction.core.wording import error_text


def places_of_project() -> Places | None:
    """Set up the project that the environment names, if it names one.

    Returns:
        Where targets are looked for then; None for modules and files alone.

    Raises:
        TargetError: If it cannot be set up.
    """
    name = os.environ.get("DJANGO_SETTINGS_MODULE")
    if not name:
        return None
    look_first_in(os.getcwd())
    try:
        # By its name, for it stands on this house.
        found = import_module("stepfunction.contrib.django.project").set_up()
    except (Exception, SystemExit) as error:
        text = (
            f"DJANGO_SETTINGS_MODULE is {name!r}, and Django cannot be set up with it: "
            f"{error_text(error)}; correct it, or unset it to do without Django"
        )
        missing = str(getattr(error, "name", None)) + "."
        is_told = isinstance(error, ImportError) and f"{name}.".startswith(missing)
        raise TargetError(text) from (None if is_told else error)
    return cast("Places | None", found)
