"""Checks: what ``manage.py check`` says of the workflows of a project.

Nothing here makes a query, starts a process or runs a step.
"""

from __future__ import annotations

import multiprocessing
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, Warning
from django.utils.module_loading import import_string

from stepfunction.contrib.django.conf import (
    CHOICES,
    DEFAULTS,
    NAME,
    setting,
    unknown_settings,
)
from stepfunction.contrib.django.registry import Entry, entries
from stepfunction.core.definition.graph import Graph, Step
from stepfunction.core.errors import DefinitionError, Problem
from stepfunction.core.wording import closest, counted, listed
from stepfunction.core.workers.executors import runs_in_processes

TAG = "stepfunction"
_MOST_NAMED = 5
_MOST_THREADS = 32  # of a step that names no max_workers
_POOL_SIZE = 4  # of a pool of psycopg that is given none


def check_workflows(app_configs: Any = None, **kwargs: Any) -> list[CheckMessage]:
    """Say all that is wrong with the workflows of some apps, and with the settings.

    Args:
        app_configs: The apps; None for all.
        kwargs: What else Django says, which changes nothing.
    """
    found: list[CheckMessage] = list(_settings_problems())
    labels = None if app_configs is None else {it.label for it in app_configs}
    mine = [it for it in entries() if labels is None or it.app in labels]
    found += _doubles(mine)
    seen: list[Any] = []
    for entry in mine:
        if any(entry.given is it for it in seen):  # which another app imports
            continue
        seen.append(entry.given)
        graph, problems = _compiled(entry)
        found += problems
        if graph is not None:
            found += _warnings(entry, graph)
    return found


def _compiled(entry: Entry) -> tuple[Graph | None, list[CheckMessage]]:
    if entry.workflow is None:
        hint = "Correct the function; it is called once, without arguments."
        error = Error(str(entry.problem), hint, entry.name, f"{TAG}.E001")
        return None, [error]
    try:
        return entry.workflow.compile(), []
    except DefinitionError as error:
        return None, [_unsound(entry.name, problem) for problem in error.problems]


def _unsound(name: str, problem: str) -> Error:
    text, hint, number = str(problem), "", 1
    if isinstance(problem, Problem):
        text, hint = problem.text, problem.hint.lstrip("; ")
        if problem.argument == "executor":
            number, hint = 2, hint or _SENDING_HINT
    hint = hint[:1].upper() + hint[1:] or _UNSOUND_HINT
    return Error(text, hint, name, f"{TAG}.E00{number}")


_UNSOUND_HINT = "Correct the step; until then nobody can execute the workflow."
_SENDING_HINT = (
    "A process is sent functions by their names, and values as pickles: give it a "
    "function at the top level of a module, and the ids of rows; or run the step with "
    "executor='thread'."
)


def _doubles(found: Sequence[Entry]) -> Iterator[CheckMessage]:
    by_name: dict[str, list[Entry]] = defaultdict(list)
    for entry in found:
        if all(entry.workflow is not it.workflow for it in by_name[entry.name]):
            by_name[entry.name].append(entry)
    for name, several in by_name.items():
        if len(several) > 1:
            places = ", ".join(entry.source for entry in several)
            yield Error(
                f"{counted(len(several), 'workflow')} are known by one name: {places}",
                "Give each a name of its own; commands find the first alone.",
                name,
                f"{TAG}.E003",
            )


def _settings_problems() -> Iterator[CheckMessage]:
    given = getattr(settings, NAME, {})
    if not isinstance(given, Mapping):
        text = f"{NAME} is a dict, not {given!r:.60}"
        yield Error(text, "Leave it out to have all as it is.", None, f"{TAG}.E004")
        return
    for name in unknown_settings():
        text = f"{NAME} has {name!r}, which is no setting"
        yield _unknown(text, name, DEFAULTS, "settings")
    for name in ("REDACT", "SURROUNDINGS"):
        yield from _path_problems(name, setting(name))
    for name, choices in CHOICES.items():
        value = setting(name)
        if not any(value is it or repr(value) == repr(it) for it in choices):
            text = f"{NAME}[{name!r}] is {value!r:.60}, which it cannot be"
            yield _unknown(text, value, map(str, choices), "choices")


def _path_problems(name: str, given: Any) -> Iterator[CheckMessage]:
    for path in given if isinstance(given, list | tuple) else [given]:
        if not isinstance(path, str):
            continue
        try:
            import_string(path)
        except ImportError as error:
            text = f"{NAME}[{name!r}] names {path!r}, which is not there: {error}"
            yield Error(text, "Give 'package.module.name'.", None, f"{TAG}.E004")


def _unknown(text: str, given: Any, known: Iterable[str], what: str) -> Error:
    names = list(known)
    meant = closest(given, names)
    hint = "" if meant is None else f"Did you mean {meant!r}? "
    hint += f"The {what} are {', '.join(names)}."
    return Error(text, hint, None, f"{TAG}.E004")


# --- warnings -----------------------------------------------------------------------


def _warnings(entry: Entry, graph: Graph) -> Iterator[CheckMessage]:
    steps = list(_all_steps(graph, ""))
    yield from _in_requests(entry.name, steps)
    yield from _at_pools(entry.name, steps)
    yield from _forks(entry.name, steps)


def _all_steps(graph: Graph, inside: str) -> Iterator[tuple[str, Step]]:
    """Give the steps of a workflow and of all that is nested in it, as they are named.

    What is nested in a step that runs in processes is not in this process.
    """
    for step in graph.table.values():
        where = f"{inside}{step.name!r}"
        yield where, step
        if not runs_in_processes(step.executor):
            for task, callee in step.action.callees():
                if callee.nested is not None:
                    part = "" if task is None else f"{task!r} / "
                    yield from _all_steps(callee.nested, f"{where} / {part}")


def _in_requests(
    name: str, steps: Iterable[tuple[str, Step]]
) -> Iterator[CheckMessage]:
    wrapped = [
        alias for alias, it in _databases().items() if it.get("ATOMIC_REQUESTS")
    ]
    if not wrapped or setting("IN_ATOMIC") != "error":
        return
    apart = [where for where, it in steps if it.executor not in (None, "inline")]
    if apart:
        yield Warning(
            f"tasks of {_steps(apart)} run outside the caller's thread, where a query "
            "fails while the caller is inside atomic(), and ATOMIC_REQUESTS of "
            f"{listed(list(map(repr, wrapped)), _MOST_NAMED)} puts every view there",
            "Decorate the view with @transaction.non_atomic_requests, give the step "
            "executor='inline', or set STEPFUNCTION = {'IN_ATOMIC': 'inline'}. Tasks "
            "that query nothing run as they are.",
            name,
            f"{TAG}.W001",
        )


def _at_pools(name: str, steps: Iterable[tuple[str, Step]]) -> Iterator[CheckMessage]:
    sizes = [
        (size, alias)
        for alias, it in _databases().items()
        if (size := _pool_size((it.get("OPTIONS") or {}).get("pool"))) is not None
    ]
    if not sizes:
        return
    size, alias = min(sizes)
    found = [where for where, step in steps if _most_at_once(step) > size]
    if found:
        yield Warning(
            f"{_steps(found)} may run more tasks at once than the pool of database "
            f"{alias!r} has connections, which are {size}; those that find none wait",
            f"Give max_workers={size} or less, or the pool a larger max_size.",
            name,
            f"{TAG}.W002",
        )


def _pool_size(pool: Any) -> int | None:
    """Give how many connections there are; None without a pool."""
    if not pool:
        return None
    given = pool if isinstance(pool, dict) else {}
    size = given.get("max_size") or given.get("max")  # as Oracle's is called
    size = size or given.get("min_size") or _POOL_SIZE
    return size if isinstance(size, int) else None


def _most_at_once(step: Step) -> int:
    """Give how many threads of this process the tasks of a step may have at once."""
    action = step.action
    if not action.has_tasks or step.executor != "thread":
        return 0
    most: int = getattr(action, "max_workers", None) or _MOST_THREADS
    return most if action.has_items else min(most, len(action.tasks))


def _forks(name: str, steps: Iterable[tuple[str, Step]]) -> Iterator[CheckMessage]:
    found = [where for where, step in steps if _is_forking(step.executor)]
    if found:
        yield Warning(
            f"{_steps(found)} run in processes that are forked, which inherit the "
            "connections, locks and threads of this one in whatever state they are",
            "Use executor='process' or ProcessLanes(); of a ProcessPoolExecutor give "
            "mp_context=multiprocessing.get_context('forkserver').",
            name,
            f"{TAG}.W003",
        )


def _is_forking(executor: Any) -> bool:
    if not runs_in_processes(executor) or isinstance(executor, str):
        return False
    # Nothing public says it, of ours or of those of concurrent.futures.
    contexts = (getattr(executor, it, None) for it in ("_context", "_mp_context"))
    context = next((it for it in contexts if it is not None), multiprocessing)
    return bool(context.get_start_method() == "fork")


def _databases() -> dict[str, Any]:
    return dict(settings.DATABASES)


def _steps(names: Collection[str]) -> str:
    return f"step{'s' * (len(names) > 1)} {listed(names, _MOST_NAMED)}"
