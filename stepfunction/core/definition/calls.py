"""Call: a user's function, and how it is called."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import CoroutineType, MappingProxyType
from typing import TYPE_CHECKING, Any

from stepfunction.core.definition.actions import Callee
from stepfunction.core.definition.callables import (
    has_default,
    name_of,
    stray_coroutine,
)
from stepfunction.core.definition.likeness import deep_copy
from stepfunction.core.definition.params import for_one_call
from stepfunction.core.errors import add_note
from stepfunction.core.frozen import Frozen

if TYPE_CHECKING:
    from stepfunction.core.context import Context

__tracebackhide__ = True  # pytest shows the test and what is called, not us


class Call(Frozen, Callee):
    """A function and what it is to be given.

    Attributes:
        function: The user's callable.
        takes_input: Whether it is given the step's input.
        input_name: The parameter that takes the input as a keyword; None if the
            input goes first.
        context_name: The parameter that takes the ``Context``; None without one.
        params: Keyword arguments that the workflow's author fixed. Each call is given
            lists and the like of its own.
        is_async: Whether it returns a coroutine that is to be run to its end.
        named_inputs: The keys of the input that it takes as keyword arguments, where
            the input is a dict of named inputs.
    """

    __slots__ = ()
    __deepcopy__ = deep_copy
    kind = "call"
    is_one_call = True

    function: Callable[..., Any]
    takes_input: bool = True
    input_name: str | None = None
    context_name: str | None = None
    params: Mapping[str, Any] = MappingProxyType({})
    is_async: bool = False
    named_inputs: tuple[str, ...] = ()

    def __reduce__(self) -> Any:
        function, takes_input, name, context, params, *others = self._values
        return type(self), (function, takes_input, name, context, dict(params), *others)

    @property
    def name(self) -> str:
        """The function's own name, for pictures and messages."""
        return name_of(self.function)

    @property
    def wants_context(self) -> bool:
        """Whether it must be given the context: a coroutine is cancelled through it."""
        return self.context_name is not None or self.is_async

    @property
    def plain(self) -> Callable[[Any], Any] | None:
        """What to call with the input alone: mostly the function itself."""
        if self.context_name is not None or self.is_async:
            return None
        if not self.takes_input or self.input_name is not None or self.params:
            return self.__call__
        return self.function

    def is_given(self, name: str | None) -> bool:
        """Tell whether it is given an input."""
        return self.takes_input or name in self.named_inputs

    def taken_of(self, inputs: Mapping[str, Any]) -> Mapping[str, Any]:
        """Give those of a step's named inputs that it is given."""
        names = self.named_inputs
        if self.takes_input or len(names) == len(inputs):
            return inputs
        return {name: inputs[name] for name in names}

    def without_input(self) -> Call:
        """Give the call that leaves a default of what takes the input alone."""
        if not self.takes_input or not has_default(self.function, self.input_name):
            return self
        return self.replace(takes_input=False, input_name=None)

    def __call__(self, value: Any, context: Context | None = None) -> Any:
        """Call the function with a step's input, and the context if it wants it.

        Raises:
            TypeError: If a plain function returns a coroutine.
            BaseException: Whatever the function raises.
        """
        function, takes_input, input_name, context_name, params, is_async, names = (
            self._values
        )
        keywords = {name: for_one_call(it) for name, it in params.items()}
        for name in names:
            keywords[name] = value[name]
        if context_name is not None:
            keywords[context_name] = context
        if not takes_input:
            output = function(**keywords)
        elif input_name is None:
            output = function(value, **keywords)
        else:
            keywords[input_name] = value
            output = function(**keywords)
        if is_async:
            from stepfunction.core.workers.coroutines import run_to_end

            cancellation = None if context is None else context._cancellation
            return run_to_end(output, cancellation)
        if type(output) is CoroutineType:
            raise stray_coroutine(output, self.name)
        return output


class CallWithContextForInput(Call):
    """A call whose input goes to a parameter that is called ``context``.

    Who wrote it may have meant the ``Context``, so what fails then says what it was.
    """

    __slots__ = ()

    @property
    def plain(self) -> Callable[[Any], Any] | None:
        """What to call with the input alone: it itself, to say so."""
        return None if self.wants_context else self.__call__

    def __call__(self, value: Any, context: Context | None = None) -> Any:
        """Call the function, as any other."""
        try:
            return super().__call__(value, context)
        except (AttributeError, TypeError, LookupError) as error:
            if self.takes_input:
                kind = type.__repr__(type(value))[8:-2]
                add_note(
                    error,
                    f"{self.name} was given its input, a value of the class "
                    f"{kind}, as 'context', its first free parameter; annotate it "
                    "Context to be given the Context",
                )
            raise
