"""Conf: the setting ``STEPFUNCTION``, a dict that is read whenever it is needed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.conf import settings
from django.utils.module_loading import import_string

NAME = "STEPFUNCTION"
# What may be in the dict, and what holds where it is not.
DEFAULTS: Mapping[str, Any] = {
    # What else surrounds tasks: surroundings, or the dotted paths of some.
    "SURROUNDINGS": (),
    # Whether a caller with a connection from a pool gives it back before a fan-out.
    "RELEASE": True,
    # What a task elsewhere may do to a database of which its caller is in a
    # transaction: "error", "inline" (tasks then run in the caller's thread), "allow".
    "IN_ATOMIC": "error",
    # What pages show in the place of values: a callable as ``report(redact=…)`` takes
    # it, or the dotted path of one.
    "REDACT": None,
}


# What some of them may be.
CHOICES: Mapping[str, tuple[Any, ...]] = {
    "IN_ATOMIC": ("error", "inline", "allow"),
    "RELEASE": (True, False),
}


def setting(name: str) -> Any:
    """Give what holds just now for a key of ``DEFAULTS``."""
    given = _given()
    return given[name] if name in given else DEFAULTS[name]


def _given() -> Mapping[str, Any]:
    # As getattr(settings, NAME, {}), which takes longest where nothing is set.
    holder: Any = settings._wrapped
    while holder is not None:
        own = getattr(holder, "__dict__", {})
        if NAME in own:
            return own[NAME] if isinstance(own[NAME], Mapping) else {}
        holder = own.get("default_settings")
    return {}


def called(name: str) -> Any:
    """Give the callable that a setting is, or is the dotted path of; None for none."""
    found = setting(name)
    return import_string(found) if isinstance(found, str) else found


def unknown_settings() -> list[str]:
    """Give the keys of the dict that mean nothing."""
    return [str(name) for name in _given() if name not in DEFAULTS]
