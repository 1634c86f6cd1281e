"""Conf: the setting ``STEPFUNCTION``, a dict that is read whenever it is needed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.conf import settings

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
}


def setting(name: str) -> Any:
    """Give what holds just now for a key of ``DEFAULTS``."""
    given = getattr(settings, NAME, {})
    return given[name] if name in given else DEFAULTS[name]


def unknown_settings() -> list[str]:
    """Give the keys of the dict that mean nothing."""
    return [str(name) for name in getattr(settings, NAME, {}) if name not in DEFAULTS]
