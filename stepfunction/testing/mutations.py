"""Mutations: tasks that change the input which they share with others."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

from stepfunction.core.context import Context
from stepfunction.core.errors import StepFunctionError, add_note
from stepfunction.core.logger import logger
from stepfunction.core.probes import looking_on, probed
from stepfunction.core.wording import listed, subject
from stepfunction.testing.snapshots import Change, changes, dark_parts, take

__tracebackhide__ = True  # pytest shows the test and what is called, not us

_MOST_NAMED = 5


class Mutation(NamedTuple):
    """A task that changed what its siblings are given too.

    Attributes:
        workflow: The name of the workflow.
        step: The name of the parallel step.
        task: The name of the task.
        changes: What it changed.
    """

    workflow: str
    step: str
    task: str
    changes: tuple[Change, ...]

    def __str__(self) -> str:
        text = listed(self.changes, _MOST_NAMED, "; ")
        if len(self.changes) > _MOST_NAMED:
            text += " changes"
        return f"{subject(self.step, self.task)} of {self.workflow!r}: {text}"


class Unwatched(NamedTuple):
    """A part of an input that cannot be looked into.

    Attributes:
        workflow: The name of the workflow.
        step: The name of the parallel step.
        way: An expression for the part, such as ``"input.lock"``.
        reason: Why not.
    """

    workflow: str
    step: str
    way: str
    reason: str

    def __str__(self) -> str:
        return (
            f"{self.way} of step {self.step!r} of {self.workflow!r} was not watched: "
            f"{self.reason}"
        )


class SharedMutationError(StepFunctionError, AssertionError):
    """Tasks changed the input that they share with others.

    Attributes:
        mutations: Which, and what of it.
    """

    def __init__(self, message: str, mutations: Sequence[Mutation] = ()) -> None:
        super().__init__(message, tuple(mutations))
        self.mutations = tuple(mutations)


class Watch:
    """What ``detect_shared_mutation`` has seen so far.

    Attributes:
        mutations: The tasks that changed their input, as they did.
        unwatched: What could not be looked into, such as a lock or an open file.
    """

    def __init__(self) -> None:
        self.mutations: list[Mutation] = []
        self.unwatched: list[Unwatched] = []

    def raise_if_any(self) -> None:
        """Raise if any task has changed its input.

        Raises:
            SharedMutationError: If any has; the text names them all.
        """
        if self.mutations:
            raise SharedMutationError(_account(self.mutations), self.mutations)

    def __repr__(self) -> str:
        seen, not_seen = len(self.mutations), len(self.unwatched)
        return f"<Watch: {seen} found, {not_seen} not watched>"


def _account(mutations: Sequence[Mutation]) -> str:
    count = len(mutations)
    who = "a task has" if count == 1 else f"{count} tasks have"
    listed = "\n".join(f"  {mutation}" for mutation in mutations)
    return (
        f"{who} changed an input that other tasks share:\n{listed}\n"
        "let a task change a copy, or return what is new"
    )


@contextmanager
def detect_shared_mutation() -> Iterator[Watch]:
    """Find the tasks that change the input which a parallel step gives them all.

    Threads, and tasks that run inline, are given the very same object, so that what
    one task changes the others see, or not, as it happens. While the block lasts the
    tasks of each parallel step run one at a time, and their input is looked at
    before and after each. It holds where ``skip_waits`` does; not in processes,
    which copy the input, nor for the items of a map step. Tasks that wait for one
    another would wait for ever.

    The input is taken apart as ``pickle`` does. What a ``cached_property`` keeps is
    no change.

    Yields:
        What has been seen. What could not be looked into is in ``unwatched``, and in
        the log.

    Raises:
        SharedMutationError: At the end of the block, if any task changed its input.
            If the block raises itself, its error is left and has this as a note.

    >>> from stepfunction import StepFunction
    >>> tasks = {"pop": list.pop, "len": len}
    >>> workflow = StepFunction("W").add_step("Both", tasks, parallel=True)
    >>> _ = workflow.set_start_step("Both")
    >>> with detect_shared_mutation():
    ...     _ = workflow.execute([1, 2])
    Traceback (most recent call last):
    stepfunction.testing.mutations.SharedMutationError: a task has changed an input \
that other tasks share:
      task 'pop' of step 'Both' of 'W': input[1] was removed: 2
    let a task change a copy, or return what is new
    """
    watch = Watch()

    def look_on(workflow: str, step: str, tasks: Sequence[Any], value: Any) -> None:
        if len(tasks) > 1:
            observer = _Observer(watch, workflow, step, value)
            for task in tasks:
                task.call = _Watched(task.call, task.key, observer)

    try:
        with probed(looking_on, look_on):
            yield watch
    except Exception as error:
        if watch.mutations:
            add_note(error, _account(watch.mutations))
        raise
    finally:
        for unwatched in watch.unwatched:
            logger().warning("%s", unwatched)
    watch.raise_if_any()


class _Observer:
    """Looks at the input of one step, before its tasks and after each."""

    def __init__(self, watch: Watch, workflow: str, step: str, value: Any) -> None:
        self._watch = watch
        self._place = workflow, step
        self._value = value
        self._lock = threading.RLock()
        self._before = take(value, "input")
        for way, reason in dark_parts(self._before, "input"):
            unwatched = Unwatched(workflow, step, way, reason)
            if unwatched not in watch.unwatched:
                watch.unwatched.append(unwatched)

    def look(self, task: str) -> None:
        with self._lock:
            after = take(self._value, "input")
            found = tuple(changes(self._before, after, "input"))
            self._before = after
            if found:
                self._watch.mutations.append(Mutation(*self._place, task, found))


class _Watched:
    """A task's call, after which its input is looked at."""

    def __init__(
        self, call: Callable[[Any, Context | None], Any], task: str, observer: _Observer
    ) -> None:
        self._call = call
        self._task = task
        self._observer = observer

    def __call__(self, value: Any, context: Context | None) -> Any:
        try:
            return self._call(value, context)
        finally:
            self._observer.look(self._task)

    def __reduce__(self) -> Any:
        return _itself, (self._call,)  # in a process the input is a copy


def _itself(call: Any) -> Any:
    return call
