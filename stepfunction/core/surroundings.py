"""Surroundings: what tasks find around them wherever they run.

What a thread keeps for itself (a language, a tenant, an audit user) is not there in the
threads and processes that its tasks run in. ``take()`` is asked in the thread that
hands work over, ``enter(taken)`` is around that where it runs. Where nobody has any,
there is nothing to do and nothing to pay.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Coroutine, Iterable, Iterator
from contextlib import (
    AbstractContextManager,
    ExitStack,
    contextmanager,
    nullcontext,
    suppress,
)
from contextvars import ContextVar
from itertools import count
from typing import Any


class Surroundings:
    """What is to be around tasks that run in another thread or process.

    They are registered for all executions with ``register_surroundings()``, or given to
    ``StepFunction`` or ``execute`` as ``surroundings=[…]``. Any object that has both
    methods will do. For tasks in processes it is pickled together with what it took.
    What runs in the caller's own thread finds the caller's, and nothing is entered.

    >>> from contextlib import contextmanager
    >>> from threading import local
    >>> from stepfunction import StepFunction
    >>> here = local()
    >>> class Tenant(Surroundings):
    ...     def take(self):
    ...         return here.tenant
    ...     @contextmanager
    ...     def enter(self, taken):
    ...         here.tenant = taken
    ...         yield
    >>> tasks = {"pay": lambda order: (order, here.tenant)}
    >>> workflow = StepFunction("Checkout", surroundings=[Tenant()])
    >>> _ = workflow.add_parallel_step("Work", tasks).set_start_step("Work")
    >>> here.tenant = "acme"
    >>> workflow.execute(17).output["pay"]
    (17, 'acme')
    """

    def take(self) -> Any:
        """Give what the present thread has, as it hands work over.

        What it raises is the failure of the task.
        """

    def enter(self, taken: Any) -> AbstractContextManager[Any]:
        """Give a context manager for the work, in the thread where that runs.

        In a worker process it is entered before the task is unpickled, and left when
        its result has been pickled.

        Args:
            taken: What ``take()`` gave.
        """
        return nullcontext()


class Host(Surroundings):
    """What a framework has to say in besides, once it is registered."""

    def keeps_here(self) -> bool:
        """Whether what is to run elsewhere must run in this very thread."""
        return False

    def guard(self) -> Callable[..., Any] | None:
        """Give what makes calls here whose failures something may follow; or None.

        It is asked in the thread that runs an execution, when that begins, and is
        given the call and its arguments.
        """
        return None

    def run_coroutine(
        self, function: Callable[[], Coroutine[Any, Any, Any]], loop: Any
    ) -> None:
        """Run a coroutine of a step to its end.

        Args:
            function: Gives the coroutine.
            loop: The event loop of whoever awaits the execution; None if nobody does.
        """
        raise NotImplementedError

    def advise(self, error: BaseException) -> None:
        """Add to an error of a coroutine what can be said of it."""

    async def runs_beside(self, work: Callable[[], None]) -> bool:
        """Run the work of an ``aexecute()`` where it must run; tell whether it did."""
        return False


# What all executions have around their tasks, in the order in which it is entered.
registered: tuple[Any, ...] = ()
hosts: tuple[Host, ...] = ()
# What the present execution has instead: that, and what it was given itself.
_in_force: ContextVar[tuple[Any, ...] | None]
_in_force = ContextVar("stepfunction_surroundings", default=None)
_is_kept: ContextVar[bool] = ContextVar("stepfunction_is_kept", default=False)
_changing = threading.Lock()


def register_surroundings(surroundings: Any) -> Callable[[], None]:
    """Have all executions of this process surround their tasks with something.

    Args:
        surroundings: A ``Surroundings``, or what has its two methods. To register it
            again changes nothing.

    Returns:
        What takes it back when it is called.

    Raises:
        TypeError: If it lacks a method.
    """
    global registered
    problem = surroundings_problem(surroundings)
    if problem is not None:
        raise TypeError(problem)
    with _changing:
        if not any(it is surroundings for it in registered):
            registered = (*registered, surroundings)
            _find_hosts()

    def take_back() -> None:
        global registered
        with _changing:
            registered = tuple(it for it in registered if it is not surroundings)
            _find_hosts()

    return take_back


def _find_hosts() -> None:
    global hosts
    hosts = tuple(it for it in registered if isinstance(it, Host))


def surroundings_problem(value: Any) -> str | None:
    """Say why something cannot be surroundings; None if it can."""
    if isinstance(value, type):
        return f"surroundings are an object, not the class {value.__name__}"
    for name in ("take", "enter"):
        if not callable(getattr(value, name, None)):
            return f"surroundings have a method {name}(), and {value!r} has none"
    return None


def using(own: tuple[Any, ...]) -> AbstractContextManager[None]:
    """Have what is executed in the block surround its tasks with something more."""
    # An interrupt may leave what is set for good, so for nothing nothing is set.
    return _using(own) if own else nullcontext()


@contextmanager
def _using(own: tuple[Any, ...]) -> Iterator[None]:
    token = _in_force.set((*_now(), *own))
    try:
        yield
    finally:
        with suppress(ValueError):  # a coroutine whose loop is gone ends elsewhere
            _in_force.reset(token)


def checked_surroundings(given: Any, problems: list[str]) -> tuple[Any, ...]:
    """Give surroundings, and say what is wrong with them."""
    if not isinstance(given, Iterable) or isinstance(given, str):
        problems.append(f"surroundings is a list of Surroundings, not {given!r}")
        return ()
    found = tuple(given)
    for one in found:
        problem = surroundings_problem(one)
        if problem is not None:
            problems.append(problem)
    return found


def _now() -> tuple[Any, ...]:
    own = _in_force.get()
    return registered if own is None else own


class Taken:
    """What was taken in one thread, and is entered in another.

    Attributes:
        parts: Each surroundings, and what they gave; each is looked at when those
            before it have been entered.
        error: What one of them raised instead; None if none did.
        origin: The thread that it was taken in.
    """

    __slots__ = ("parts", "error", "origin")

    def __init__(
        self,
        parts: Iterable[tuple[Any, Any]],
        error: BaseException | None = None,
        origin: tuple[bytes, int] | None = None,
    ) -> None:
        self.parts = parts
        self.error = error
        self.origin = _here() if origin is None else origin

    @property
    def is_here(self) -> bool:
        """Whether this is the very thread that it was taken in."""
        return self.error is None and self.origin == _here()


class _Known(threading.local):
    number: int | None = None


_threads = _Known()
_numbers = count()


_process = b""  # what this process is known by


def _here() -> tuple[bytes, int]:
    """Tell this thread from all others: later ones, other processes, other machines."""
    if _threads.number is None:
        _threads.number = next(_numbers)
    return _process, _threads.number


def this_process() -> bytes:
    """Tell this process from all others, also from those of other machines."""
    return _process


def _begin_process() -> None:
    global _process
    _process = os.urandom(12)


_begin_process()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_process)


def take() -> Taken | None:
    """Take what is to surround what this thread hands over; None for nothing."""
    surroundings = _now()
    if not surroundings:
        return None
    parts = []
    try:
        for one in surroundings:
            parts.append((one, one.take()))
    except Exception as error:  # the task's, and not that of who hands it over
        return Taken((), error)
    return Taken(tuple(parts))


def within(taken: Taken, call: Callable[..., Any], *args: Any) -> Any:
    """Make a call within what was taken; at once in the thread that this is from.

    Raises:
        BaseException: What the call raises, or taking, entering or leaving did.
    """
    if taken.error is not None:
        raise taken.error
    if taken.is_here:  # an executor that is no more than its caller's thread
        return call(*args)
    raised: BaseException | None = None
    entered: list[Any] = []
    stack: ExitStack[bool] = ExitStack()
    try:
        with stack:
            for one, what in taken.parts:
                stack.enter_context(one.enter(what))
                entered.append(one)
            token = _in_force.set(tuple(entered))
            try:
                return call(*args)
            except BaseException as error:
                raised = error
                raise
            finally:
                _in_force.reset(token)
        assert raised is not None
        raise raised  # which none of them may keep to itself
    finally:
        del raised


def keeps_here() -> bool:
    """Tell whether what is to run elsewhere must run in this very thread."""
    return _is_kept.get() or (bool(hosts) and hosts[0].keeps_here())


@contextmanager
def keeping_here() -> Iterator[None]:
    """Have what is executed in the block run in the threads that execute it."""
    token = _is_kept.set(True)
    try:
        yield
    finally:
        _is_kept.reset(token)


def guard() -> Callable[..., Any] | None:
    """Give what is to make calls in this thread; None for nobody."""
    return hosts[0].guard() if hosts else None


def host() -> Host | None:
    """Give the framework that has registered itself; None for none."""
    return hosts[0] if hosts else None


async def runs_beside(work: Callable[[], None]) -> bool:
    """Run the work of an ``aexecute()`` where it must run; tell whether it did."""
    return bool(hosts) and await hosts[0].runs_beside(work)
