"""Naming: what functions and exception classes are called in documents, both ways."""

from __future__ import annotations

import builtins
from collections.abc import Callable, Iterable
from typing import Any

from stepfunction.core import errors
from stepfunction.core.wording import closest, did_you_mean
from stepfunction.declarative.importing import NoSuchName, import_string, imported
from stepfunction.declarative.registry import FunctionRegistry

_WAY_OUT = "; register it: registry.register('name', function)"


class Names:
    """The names that a document may use.

    A registered name comes first. Exception classes of Python and of ours are known by
    their own. All else is an import string.

    Args:
        registry: Name to function, or exception class.
        allowed: The packages that may be imported to find one.
    """

    def __init__(self, registry: FunctionRegistry, allowed: Iterable[str] = ()) -> None:
        self._registry = registry
        self._allowed = tuple(allowed)
        self._names: dict[int, str] = {}  # of what the workflow keeps alive
        self._found: dict[object, Any] = {}

    def of(self, function: Any) -> str:
        """Give the name of a function.

        Raises:
            NoSuchName: If it has none.
        """
        name = self._names.get(id(function))
        if name is None:
            name = self._registry.name_of(function)
            if name is None:
                try:
                    name = import_string(function)
                except NoSuchName as reason:
                    raise NoSuchName(f"{reason}{_WAY_OUT}") from None
                self._refuse_if_taken(name)
            self._names[id(function)] = name
        return name

    def of_error(self, error: type[BaseException]) -> str:
        """Give the name of an exception class.

        Raises:
            NoSuchName: If it has none.
        """
        name = error.__name__
        if _known_error(name) is not error or self._registry.name_of(error) is not None:
            return self.of(error)
        self._refuse_if_taken(name)
        return name

    def function(self, name: str) -> Any:
        """Give the function that a name stands for.

        Raises:
            NoSuchName: If it stands for none.
        """
        return self._once(name, self._function)

    def error(self, name: str) -> Any:
        """Give the exception class that a name stands for.

        Raises:
            NoSuchName: If it stands for none.
        """
        known = None if name in self._registry else _known_error(name)
        found = self._once(name, self._error) if known is None else known
        if not isinstance(found, type) or not issubclass(found, BaseException):
            raise NoSuchName(f"{name!r} is no exception class")
        return found

    def _once(self, name: str, find: Callable[[str], Any]) -> Any:
        # What cannot be imported is not tried again either.
        key = name if ":" in name else (find, name)
        if key not in self._found:
            try:
                self._found[key] = find(name)
            except NoSuchName as reason:
                self._found[key] = reason
        found = self._found[key]
        if isinstance(found, NoSuchName):
            raise NoSuchName(str(found))
        return found

    def _function(self, name: str) -> Any:
        if name in self._registry:
            return self._registry[name]
        if ":" in name:
            return imported(name, self._allowed)
        if closest(name, self._registry) is not None:
            hint = did_you_mean(name, self._registry)
        elif "." in name:
            hint = "; an import string is 'package.module:function'"
        elif not self._registry:
            hint = "; give a registry that has it, to a command by --registry"
        else:
            hint = "; the registry has no such name"
        raise NoSuchName(f"unknown function {name!r}{hint}")

    def _error(self, name: str) -> Any:
        if name in self._registry or ":" in name:
            return self._function(name)
        ours = (*vars(errors), *vars(builtins))
        known = [it for it in ours if _known_error(it) is not None]
        hint = did_you_mean(name, [*known, *self._registry])
        raise NoSuchName(f"unknown exception class {name!r}{hint}")

    def _refuse_if_taken(self, name: str) -> None:
        if name in self._registry:
            raise NoSuchName(f"{name!r} is what something else is registered as")


def _known_error(name: str) -> type[BaseException] | None:
    """Give an exception class that everybody knows by its bare name."""
    for module in (errors, builtins):
        found = getattr(module, name, None)
        if isinstance(found, type) and issubclass(found, BaseException):
            return found if found.__name__ == name else None  # IOError is OSError
    return None
