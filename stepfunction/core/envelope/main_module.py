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
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from operator import attrgetter
from types import FunctionType
from typing import Any

from stepfunction.core.waiting import main_has_ended

_ORIGIN: tuple[str, ...] = ("__file__", "__spec__")
_main = sys.modules.get("__main__")
_file = getattr(_main, "__file__", None)


def keep() -> None:
    """Let the main module have the name of its file, which it loses when it has run.

    Workers that are started from then on import it too.
    """
    if _main is not None and _file is not None and sys.modules.get("__main__") is _main:
        vars(_main).setdefault("__file__", _file)


def is_importable() -> bool:
    """Whether a worker process is to import the main module."""
    main = sys.modules.get("__main__")
    file = getattr(main, "__file__", None)
    name = getattr(getattr(main, "__spec__", None), "name", "")
    if is_at_its_end():
        return True  # its name may be lost already, and nobody will import it
    if file is None or name.rpartition(".")[2] == "__main__":
        # A package that is run by its name, a console of Python 3.13 or newer:
        # multiprocessing imports neither.
        return False
    return _is_importable(os.path.abspath(file))


def is_at_its_end() -> bool:
    """Whether this is a handler that the interpreter calls when the program exits."""
    main = threading.main_thread()
    # Before it calls them it waits for other threads, as if this one had ended.
    return threading.current_thread() is main and main_has_ended()


def has_name(value: Any) -> bool:
    """Tell what a worker finds in the main module: a copy would be another class."""
    is_named = issubclass(type(value), (type, FunctionType))
    if not is_named or value.__module__ != "__main__":
        return False
    try:
        found = attrgetter(value.__qualname__)(sys.modules["__main__"])
    except AttributeError:
        return False
    return found is value and is_importable()


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
        from stepfunction.core.envelope.by_value import ByValuePickler  # noqa: F401
    except ImportError:
        return False
    return True


@contextmanager
def shown_if_importable() -> Iterator[None]:
    """Let a process that is spawned here import the main module only if it is to.

    One thread at a time may; to all others the module looks as if it had no file.
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
