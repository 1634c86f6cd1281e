"""Main module: whether a worker process can import the program's main script.

A worker imports it to find the functions and classes in it. It cannot where there is
no file (a console, a notebook, ``python -c``, standard input). Where cloudpickle is
installed it also need not import a script without the ``__main__`` guard, which would
run a second time: what is in it is then sent by its code.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

_ORIGIN: tuple[str, ...] = ("__file__", "__spec__")


def is_importable() -> bool:
    """Whether a worker process is to import the main module."""
    file = getattr(sys.modules.get("__main__"), "__file__", None)
    return file is not None and _is_importable(os.path.abspath(file))


@cache
def _is_importable(file: str) -> bool:
    if not os.path.exists(file):
        return False
    with open(file, "rb") as script:
        if re.search(rb"^if\b.*\b__name__\b", script.read(), re.MULTILINE):
            return True
    return not can_send_by_value()


def can_send_by_value() -> bool:
    """Whether functions and classes can be sent by their code."""
    try:
        # The class, for another thread may just be finding the module unimportable.
        from stepfunction.core.by_value import ByValuePickler  # noqa: F401
    except ImportError:
        return False
    return True


@contextmanager
def shown_if_importable() -> Iterator[None]:
    """Let a process that is started here import the main module only if it is to.

    One thread at a time may.
    """
    if is_importable():
        yield
        return
    # multiprocessing goes by these attributes, and has no setting for it.
    names: dict[str, Any] = vars(sys.modules["__main__"])
    kept = {name: names[name] for name in _ORIGIN if name in names}
    names.update(dict.fromkeys(kept))
    try:
        yield
    finally:
        names.update(kept)
