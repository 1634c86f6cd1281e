"""Importing: what ``package.module:name`` stands for, and what has such a name.

Nothing is looked up in a way that could run code: no ``__getattr__`` of a module, no
property, no descriptor of the user's. To import a module runs its top level, which is
why only what the caller has allowed is imported.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from functools import partial
from types import MethodType, ModuleType
from typing import Any

from stepfunction.core.errors import DefinitionError
from stepfunction.core.wording import did_you_mean, error_text


class NoSuchName(Exception):
    """Something has no name, or a name stands for nothing; the text says why."""


def import_string(thing: Any) -> str:
    """Give the import string that leads to a function or a class.

    Raises:
        NoSuchName: If there is none.
    """
    module, path = _home(thing), getattr(thing, "__qualname__", None)
    if isinstance(thing, partial):
        raise NoSuchName("a functools.partial has no name")
    if not isinstance(path, str) or not isinstance(module, str):
        raise NoSuchName(f"{_short(thing)} has no name")
    if path.rpartition(".")[2] == "<lambda>":
        raise NoSuchName("a lambda has no name")
    if "<locals>" in path:
        name = path.replace("<locals>.", "")
        raise NoSuchName(f"{name} is defined inside a function, so it has no name")
    owner = getattr(thing, "__self__", None)
    if not isinstance(owner, type | ModuleType | None):
        raise NoSuchName(f"{path} is a method of {_short(owner)}, so it has no name")
    if module == "__main__":
        raise NoSuchName(
            f"{path} is defined in the script that runs, and no import finds it there"
        )
    try:
        found = _look_up(sys.modules.get(module), path)
    except NoSuchName:
        found = None
    # A classmethod is a new object each time that it is asked for.
    if found is not thing and not (type(thing) is MethodType and found == thing):
        raise NoSuchName(f"{module}:{path} is not what is used here, though it says so")
    return f"{module}:{path}"


def _home(thing: Any) -> Any:
    """Give the name of the module that something was defined in."""
    module = getattr(thing, "__module__", None)
    if module is None:  # as of str.upper
        module = getattr(getattr(thing, "__objclass__", None), "__module__", None)
    return module


def checked_imports(allowed: Any) -> tuple[str, ...]:
    """Give the packages that may be imported.

    Raises:
        DefinitionError: If they are no names of packages.
    """
    names: Iterable[Any] = (allowed,) if isinstance(allowed, str) else allowed
    if isinstance(allowed, str) or not isinstance(names, Iterable):
        problem = f"allow_imports is a list of names of packages, not {allowed!r}"
        raise DefinitionError("from_dict", [problem])
    names = tuple(names)
    problems = [
        f"allow_imports has {name!r}, which is no name of a package or module"
        for name in names
        if not isinstance(name, str) or not _is_dotted(name)
    ]
    if problems:
        raise DefinitionError("from_dict", problems)
    return names


def imported(name: str, allowed: Iterable[str]) -> Any:
    """Import a module, if that is allowed, and give what the import string names.

    Args:
        name: The import string: ``"package.module:function"``.
        allowed: The packages, and modules, that may be imported.

    Raises:
        NoSuchName: If it names nothing, or what is not allowed.
    """
    place, _, path = name.partition(":")
    if not _is_dotted(place) or not _is_dotted(path):
        raise NoSuchName(
            f"{name!r} is no import string: 'package.module:function'"
            + ("; give code a name, and the name here" if " " in name else "")
        )
    if not _is_under(place, allowed):
        raise NoSuchName(
            f"{name!r} is not imported, since allow_imports does not name "
            f"{place.partition('.')[0]!r}"
        )
    found = _look_up(_import(place), path)
    home = _home(found)
    if not callable(found) or isinstance(found, ModuleType):
        raise NoSuchName(f"{name!r} is {_short(found)}, which cannot be called")
    if not isinstance(home, str) or not _is_under(home, allowed):
        raise NoSuchName(
            f"{name!r} is not defined there but in {home!r}, which allow_imports does "
            "not name"
        )
    return found


def _import(place: str) -> Any:
    from importlib import import_module

    try:
        return import_module(place)
    except (Exception, SystemExit) as error:
        text = f"{place!r} cannot be imported: {error_text(error)}"
        raise NoSuchName(text) from error


def _look_up(owner: Any, path: str) -> Any:
    """Follow a dotted path through a module and its classes, running nothing."""
    for name in path.split("."):
        if isinstance(owner, ModuleType):
            found, where = vars(owner), owner.__name__
            value = found.get(name, _MISSING)
        elif isinstance(owner, type):
            found, where = {}, owner.__qualname__
            for one in reversed(type.mro(owner)):
                found |= type.__getattribute__(one, "__dict__")
            value = _of_class(owner, found.get(name, _MISSING))
        else:
            raise NoSuchName(f"{_short(owner)} has no parts that can be named")
        if value is _MISSING:
            hint = did_you_mean(name, (it for it in found if it[:2] != "__"))
            raise NoSuchName(f"{where} has no {name!r}{hint}")
        if isinstance(value, ModuleType):
            raise NoSuchName(
                f"{where} only imports {name!r}; before the colon name the module that "
                "defines it"
            )
        owner = value
    return owner


def _of_class(owner: type, value: Any) -> Any:
    """Give what an attribute of a class is when it is asked for, unless code runs."""
    if type(value) is staticmethod:
        return value.__func__
    if type(value) is classmethod:
        return MethodType(value.__func__, owner)
    return value


def _is_dotted(name: str) -> bool:
    return all(part.isidentifier() for part in name.split("."))


def _is_under(module: str, packages: Iterable[str]) -> bool:
    return any(f"{module}.".startswith(f"{package}.") for package in packages)


def _short(value: Any) -> str:
    kind = type(value).__qualname__
    return f"{'an' if kind[:1] in 'AEIOUaeiou' else 'a'} {kind}"


_MISSING = object()
