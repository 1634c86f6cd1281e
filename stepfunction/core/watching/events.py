"""Events: what an execution tells while it runs, and what a listener is."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeAlias

from stepfunction.core.frozen import Frozen
from stepfunction.core.history.execution import Execution
from stepfunction.core.history.records import Attempt
from stepfunction.core.keys import OfPart, PartKey, Path
from stepfunction.core.outcomes import Outcome, Status


class Event(OfPart, Frozen):
    """Something that has just happened in an execution.

    Attributes:
        subject: What it happened to: ``"execution"``, ``"step"``, ``"task"``, which an
            item of a map step is too, or ``"compensation"``, of a step or task.
        what: ``"started"``, or ``"resumed"`` of a stored execution that goes on;
            ``"retried"`` before another attempt; ``"progressed"`` when items of a map
            step have ended; and at the end ``"ended"`` of an execution, else the
            outcome in small letters, as ``"succeeded"`` or ``"timed_out"``.
        time: When it happened, in seconds since the epoch.
        root_id: The ``id`` of the outermost execution.
        execution_id: The ``id`` of the execution in which it happened.
        workflow: The name of its workflow.
        path: The keys of ``children`` that lead to that execution from the outermost,
            whose own path is empty.
        step: The name of the step; None for an event of the execution.
        part: The name of the task, or the index of the item; None for an event of
            the step.
        tasks: The names of all tasks, where a parallel step starts.
        outcome: How the step or task ended, or the attempt that is not the last.
        status: How the execution ended.
        attempts: The calls that have been made, where it ended or is retried.
        duration: How long it took, in seconds, where it ended.
        error: What it failed with.
        pause: How many seconds pass before it is retried.
        next_step: The step that follows a failed one.
        done: How many items of a map step have ended.
        total: How many there are; None while that is not known.
        execution: The execution as it stands; None where it runs in another process.
    """

    subject: str
    what: str
    time: float
    root_id: str
    execution_id: str
    workflow: str
    path: Path = ()
    step: str | None = None
    part: PartKey | None = None
    tasks: tuple[str, ...] = ()
    outcome: Outcome | None = None
    status: Status | None = None
    attempts: tuple[Attempt, ...] = ()
    duration: float | None = None
    error: BaseException | None = None
    pause: float | None = None
    next_step: str | None = None
    done: int | None = None
    total: int | None = None
    execution: Execution | None = None

    @property
    def kind(self) -> str:
        """The subject and what happened to it, as ``"step_succeeded"``."""
        return f"{self.subject}_{self.what}"

    @property
    def place(self) -> tuple[str | int | None, ...]:
        """Where in the outermost execution that is, whose own place is empty.

        It has the names of a step, of a task of it, None for the execution that is
        nested in either, and so on: without the last it is the place of what is around.
        The end of something has the place that its beginning had.
        """
        found: list[str | int | None] = []
        for key in self.path:
            found += (key, None) if isinstance(key, str) else (*key, None)
        found += (name for name in (self.step, self.part) if name is not None)
        return tuple(found)

    def __repr__(self) -> str:
        subject = [name for name in (self.part, self.step) if name is not None]
        names = " of ".join(map(repr, [*subject, self.workflow]))
        where = f" at {path_text(self.path)}" if self.path else ""
        return f"<Event {self.kind}: {names}{where}>"

    def __reduce__(self) -> Any:
        return Event, (*self._values[:-1], None)


def path_text(
    path: Path, step: str | None = None, part: str | int | None = None
) -> str:
    """Give keys of ``children`` as text, with a step or part of one at their end.

    It is as ``"Nest / Both.task"``.
    """
    keys = [key if isinstance(key, str) else f"{key[0]}.{key[1]}" for key in path]
    if step is not None:
        keys.append(step if part is None else f"{step}.{part}")
    return " / ".join(keys)


Listener: TypeAlias = Callable[[Event], object]


def checked_listeners(listeners: Any, problems: list[str]) -> tuple[Listener, ...]:
    """Give the listeners, and say what is wrong with them."""
    if not isinstance(listeners, Iterable) or isinstance(listeners, str):
        hint = "; write listeners=[…]" if callable(listeners) else ""
        problems.append(f"listeners is a list of callables, not {listeners!r}{hint}")
        return ()
    told = tuple(listeners)
    for listener in told:
        problems += _listener_problems(listener)
    return told


def _listener_problems(listener: Any) -> Iterator[str]:
    if not callable(listener):
        yield f"a listener is a callable of one Event, not {listener!r}"
        return
    if isinstance(listener, type):
        yield f"a listener is an object, not the class {listener.__name__}; make one"
        return
    import inspect  # dear

    call = listener if inspect.isroutine(listener) else type(listener).__call__
    if inspect.iscoroutinefunction(call) or inspect.isgeneratorfunction(call):
        yield f"a listener is a plain function, and {listener!r} would never be run"
        return
    try:
        inspect.signature(listener).bind(None)
    except ValueError:  # a builtin that does not tell
        return
    except TypeError as error:
        yield f"a listener is given one Event, but {listener!r} cannot be: {error}"
