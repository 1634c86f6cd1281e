"""Surroundings: what the caller's thread has of Django, wherever its tasks run."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from collections.abc import Callable, Coroutine, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from contextvars import ContextVar
from types import MappingProxyType
from typing import Any

import django
from asgiref.sync import async_to_sync, sync_to_async
from django.apps import apps
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured, SynchronousOnlyOperation
from django.utils import timezone, translation
from django.utils.module_loading import import_string

from stepfunction.contrib.django import databases
from stepfunction.contrib.django.conf import setting
from stepfunction.contrib.django.coroutines import run_beside_loop, run_on
from stepfunction.contrib.django.errors import IN_A_COROUTINE, atomic_block_error
from stepfunction.contrib.django.savepoints import guarded
from stepfunction.core.envelope.envelope import pack, unpack
from stepfunction.core.errors import add_note
from stepfunction.core.lanes.logs import Sender
from stepfunction.core.raised import is_a
from stepfunction.core.surroundings import Host, surroundings_problem, this_process


class DjangoSurroundings(Host):
    """What surrounds all tasks once the app is installed."""

    def __reduce__(self) -> str:
        return "surroundings"  # there is one in each process

    def take(self) -> _Scene:
        """Take the caller's language, time zone and transactions, and what is set.

        It gives connections back to their pool, for those who need one now.
        """
        if setting("RELEASE"):
            databases.release()
        refused = {*_refused_here.get()}
        if setting("IN_ATOMIC") == "error":
            refused |= {
                it.alias for it in databases.known() if databases.is_in_users_block(it)
            }
        language: str | None = translation.get_language()
        if language == settings.LANGUAGE_CODE:
            language = _AS_SET
        # None where none is active; to ask for the present one asks for the default.
        zone = getattr(timezone._active, "value", None)
        others = tuple((one, one.take()) for one in _others())
        return _Scene(language, zone, frozenset(refused), others)

    def enter(self, taken: _Scene) -> AbstractContextManager[None]:
        """Make that hold here, and leave no connection behind."""
        return _LEAVING if taken.is_plain else self._enter(taken)

    @contextmanager
    def _enter(self, taken: _Scene) -> Iterator[None]:
        if taken.is_abroad and not set_up(taken.settings_module):
            yield  # a script's own settings, which the task itself has to bring
            return
        refused: dict[str, Any] = dict.fromkeys(taken.refused, atomic_block_error)
        leave = databases.close_all
        if taken.is_abroad:
            if not databases.point_to(taken.names):
                leave = databases.renew
            refused |= databases.in_memory(taken.names)
            databases.renew()
        token = _refused_here.set(taken.refused)
        try:
            with ExitStack() as stack:
                stack.callback(leave)
                if taken.language != _AS_SET:
                    stack.enter_context(translation.override(taken.language))
                if taken.zone is not None:
                    stack.enter_context(timezone.override(taken.zone))
                if refused:
                    stack.enter_context(databases.refusing(refused))
                for one, what in taken.others():
                    stack.enter_context(one.enter(what))
                yield
        finally:
            _refused_here.reset(token)

    def keeps_here(self) -> bool:
        """Tell a thread in a test case's transaction, or one that is set to be kept."""
        if not databases.any_in_block():
            return False
        return setting("IN_ATOMIC") == "inline" or any(
            map(databases.is_in_test, databases.known())
        )

    def guard(self) -> Callable[..., Any] | None:
        """Give what makes calls with savepoints, in a thread inside ``atomic()``."""
        return guarded if databases.any_in_block() else None

    def run_coroutine(
        self, function: Callable[[], Coroutine[Any, Any, Any]], loop: Any
    ) -> None:
        """Run a coroutine whose use of the ORM comes back to this thread.

        In the thread of an event loop, which cannot be used so, it goes where all use
        of the ORM goes that is awaited there.
        """
        if asyncio._get_running_loop() is not None:
            run_beside_loop(function)
        elif loop is None:
            async_to_sync(function)()
        else:
            run_on(loop, function)

    def advise(self, error: BaseException) -> None:
        """Say what to do in the place of a query in a coroutine."""
        if is_a(error, SynchronousOnlyOperation):
            add_note(error, IN_A_COROUTINE)

    async def runs_beside(self, work: Callable[[], None]) -> bool:
        """Run it on the test's thread, if that is inside its transaction."""
        testing = sys.modules.get("django.test.utils")
        state = getattr(testing, "_TestState", None)
        if not hasattr(state, "saved_data"):
            return False  # no test is under way

        def run() -> bool:
            if not self.keeps_here():
                return False
            work()
            return True

        ran: bool = await sync_to_async(run, thread_sensitive=True)()
        return ran


surroundings = DjangoSurroundings()
_AS_SET = "as the settings say"
# Where this runs inside a task, the databases that it may not query.
_refused_here: ContextVar[frozenset[str]]
_refused_here = ContextVar("stepfunction_refused", default=frozenset())


class _Leaving(AbstractContextManager[None]):
    """What is around a task where nothing has to be made to hold."""

    def __exit__(self, *_: object) -> None:
        databases.close_all()


_LEAVING = _Leaving()


class _Scene:
    """What was taken in one thread, for others and for other processes.

    Attributes:
        language: The language; None where none is active, and ``_AS_SET``.
        zone: The time zone; None for that of the settings.
        refused: The aliases of the databases that are not to be queried.
        is_abroad: Whether this is another process.
        settings_module: The name of the settings there; None if they have none.
        names: The alias of each database to its name there.
    """

    is_abroad = False
    settings_module: str | None = None
    names: Mapping[str, Any] = MappingProxyType({})

    def __init__(
        self, language: str | None, zone: Any, refused: frozenset[str], others: Any
    ) -> None:
        self.language = language
        self.zone = zone
        self.refused = refused
        self._others = others

    @property
    def is_plain(self) -> bool:
        """Whether all of it holds in any thread of this process."""
        is_as_set = self.language == _AS_SET and self.zone is None
        return is_as_set and not (self.is_abroad or self.refused or self._others)

    def others(self) -> Iterator[tuple[Any, Any]]:
        """Give what the settings add, each with what it took."""
        for other in self._others:
            # Not before there is Django, for it may stand beside models.
            yield unpack(other) if isinstance(other, bytes) else other

    def __reduce__(self) -> Any:
        others = [pack(other) for other in self._others]
        facts = (self.language, self.zone, self.refused, others)
        return _arrive, (facts, this_process(), _settings_module(), databases.names())


def _arrive(
    facts: Any, process: bytes, settings_module: str | None, names: Mapping[str, Any]
) -> _Scene:
    scene = _Scene(*facts)
    scene.is_abroad = process != this_process()
    scene.settings_module, scene.names = settings_module, names
    return scene


def _settings_module() -> str | None:
    """Give the name of the settings, also where a test overrides some of them."""
    holder: Any = settings._wrapped
    while holder is not None:
        name: str | None = getattr(holder, "SETTINGS_MODULE", None)
        if name is not None:
            return name
        holder = holder.__dict__.get("default_settings")
    return None


def _others() -> Iterator[Any]:
    """Give the surroundings that the settings add."""
    for given in setting("SURROUNDINGS"):
        one = import_string(given) if isinstance(given, str) else given
        if isinstance(one, type):
            if one not in _made:
                _made[one] = one()
            one = _made[one]
        problem = surroundings_problem(one)
        if problem is not None:
            raise ImproperlyConfigured(f"STEPFUNCTION['SURROUNDINGS']: {problem}")
        yield one


_made: dict[type, Any] = {}  # one of each class


def set_up(settings_module: str | None) -> bool:
    """Set Django up in a worker process; tell whether there are settings.

    Args:
        settings_module: The name of the caller's; None if they have none.
    """
    if apps.ready:
        return True
    if settings_module is not None:
        os.environ.setdefault("DJANGO_SETTINGS_MODULE", settings_module)
    elif not settings.configured:
        return False
    config = settings.LOGGING_CONFIG
    if any(isinstance(handler, Sender) for handler in logging.root.handlers):
        # What is logged in a lane is handled by its caller, as is set there.
        settings.LOGGING_CONFIG = None
    try:
        django.setup()
    finally:
        settings.LOGGING_CONFIG = config
    return True
