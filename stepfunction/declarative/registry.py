"""Registry: names of functions, by which a workflow is written and read."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from types import BuiltinMethodType, MethodType, ModuleType
from typing import Any, TypeVar, overload

from stepfunction.core.errors import DefinitionError

Named = TypeVar("Named", bound=Callable[..., Any])


class FunctionRegistry(Mapping[str, Callable[..., Any]]):
    """The functions that documents of workflows call by a name.

    Functions, predicates, choosers and exception classes have one set of names. It is
    read like a mapping of name to function.

    Args:
        functions: Name to function, to begin with.

    Raises:
        DefinitionError: If a name is none, or what it stands for cannot be called.

    >>> registry = FunctionRegistry({"shout": str.upper})
    >>> @registry.register
    ... def whisper(text: str) -> str:
    ...     return text.lower()
    >>> list(registry)
    ['shout', 'whisper']
    """

    def __init__(self, functions: Mapping[str, Any] | None = None):
        self._functions: dict[str, Callable[..., Any]] = {}
        self._names: dict[object, str] = {}
        if functions is not None and not isinstance(functions, Mapping):
            raise DefinitionError(
                "FunctionRegistry",
                [f"functions is a mapping of name to function, not {functions!r}"],
            )
        for name, function in (functions or {}).items():
            self._add(name, function)

    @overload
    def register(self, name: Named, function: None = None) -> Named: ...

    @overload
    def register(
        self, name: str, function: None = None
    ) -> Callable[[Named], Named]: ...

    @overload
    def register(self, name: str, function: Named) -> Named: ...

    def register(self, name: Any, function: Any = None) -> Any:
        """Give a function a name: as a call, or as a decorator with or without one.

        ::

            registry.register("is_large", lambda order: order["total"] > 1000)

            @registry.register
            def charge(order): ...

            @registry.register("ship")
            def ship_by_sea(order): ...

        Args:
            name: The name; or the function, which is then registered by its own.
            function: The function, or an exception class.

        Returns:
            The function; of a name alone what registers a function by it.

        Raises:
            DefinitionError: If the name is taken, or is none; or if the function
                cannot be called, or has no name of its own and is given none.
        """
        if function is not None:
            return self._add(name, function)
        if isinstance(name, str):
            return lambda function: self._add(name, function)
        if callable(name):
            own = getattr(name, "__name__", None)
            if not isinstance(own, str) or not own.isidentifier():  # as "<lambda>"
                raise _refusal(
                    f"{name!r} has no name of its own; give it one with "
                    "register('name', function)"
                )
            return self._add(own, name)
        raise _refusal(f"{name!r} is no name, and no function either")

    def name_of(self, function: object) -> str | None:
        """Give the first name that a function was registered by; None without one.

        Args:
            function: Any callable.
        """
        return self._names.get(_identity(function))

    def _add(self, name: Any, function: Any) -> Any:
        if not isinstance(name, str) or not name:
            raise _refusal(f"the name of a function is a text, not {name!r}")
        if not callable(function):
            raise _refusal(f"{name!r} is to be {function!r}, which cannot be called")
        if name in self._functions:
            raise _refusal(
                f"{name!r} is registered already, as {self._functions[name]!r}; give "
                "each function a name of its own"
            )
        self._functions[name] = function
        self._names.setdefault(_identity(function), name)
        return function

    def __getitem__(self, name: str) -> Callable[..., Any]:
        return self._functions[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._functions)

    def __len__(self) -> int:
        return len(self._functions)

    def __reduce__(self) -> Any:
        # What tells functions apart is of this process, and of these very objects.
        return type(self), (dict(self._functions),)

    def __repr__(self) -> str:
        return f"<FunctionRegistry of {', '.join(self._functions) or 'nothing'}>"


# Any, for the values of a dict of unlike functions are of no common type to mypy.
Functions = FunctionRegistry | Mapping[str, Any] | None


def as_registry(functions: Functions) -> FunctionRegistry:
    """Give a registry of what stands for one.

    Raises:
        DefinitionError: If it stands for none.
    """
    if isinstance(functions, FunctionRegistry):
        return functions
    return FunctionRegistry(functions)


def _refusal(problem: str) -> DefinitionError:
    return DefinitionError("FunctionRegistry", [problem])


def _identity(function: Any) -> object:
    """Give what tells a function from all others, which need be neither hashable.

    A method is a new object each time that it is asked for.
    """
    if isinstance(function, MethodType):
        return id(function.__self__), id(function.__func__)
    if isinstance(function, BuiltinMethodType):
        if not isinstance(function.__self__, ModuleType | None):
            return id(function.__self__), function.__name__
    return id(function)
