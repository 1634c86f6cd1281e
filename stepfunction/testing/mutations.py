"""Mutations: calls that change in place an input which others have too."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

from stepfunction.core.context import Context
from stepfunction.core.errors import StepFunctionError, add_note
from stepfunction.core.logger import logger
from stepfunction.core.probes import looked_on
from stepfunction.core.wording import listed, subject
from stepfunction.testing.snapshots import (
    Change,
    Snapshot,
    changes,
    dark_parts,
    take_all,
)

__tracebackhide__ = True  # pytest shows the test and what is called, not us

_MOST_NAMED = 5


class Mutation(NamedTuple):
    """A step, task or item whose call changed its input in place.

    Attributes:
        workflow: The name of the workflow.
        step: The name of the step.
        task: The name of the task, or the index of the item; None for the step itself.
        changes: What it changed.
        attempt: Which attempt did, counted from 1.
        is_retried: Whether the step has a ``retry``.
    """

    workflow: str
    step: str
    task: str | int | None
    changes: tuple[Change, ...]
    attempt: int = 1
    is_retried: bool = False

    def __str__(self) -> str:
        text = listed(self.changes, _MOST_NAMED, "; ")
        if len(self.changes) > _MOST_NAMED:
            text += " changes"
        which = f", attempt {self.attempt}" if self.is_retried else ""
        return f"{subject(self.step, self.task)} of {self.workflow!r}{which}: {text}"


class Unwatched(NamedTuple):
    """A part of an input that cannot be looked into.

    Attributes:
        workflow: The name of the workflow.
        step: The name of the step.
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
    """Inputs were changed in place that others have too.

    Attributes:
        mutations: By what, and what of it.
    """

    def __init__(self, message: str, mutations: Sequence[Mutation] = ()) -> None:
        super().__init__(message, tuple(mutations))
        self.mutations = tuple(mutations)


class Watch:
    """What ``detect_shared_mutation`` has seen so far.

    Attributes:
        mutations: What changed its input in place, in the order in which it did.
        unwatched: What could not be looked into, such as a lock or an open file.
    """

    def __init__(self) -> None:
        self.mutations: list[Mutation] = []
        self.unwatched: list[Unwatched] = []

    def raise_if_any(self) -> None:
        """Raise if anything has changed its input.

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
    what = "an input was" if count == 1 else f"{count} inputs were"
    listed = "\n".join(f"  {mutation}" for mutation in mutations)
    return (
        f"{what} changed in place, which others have too: other tasks, the next "
        f"attempt, the history\n{listed}\n"
        "let a call change a copy, or return what is new"
    )


@contextmanager
def detect_shared_mutation(*, steps: bool = True) -> Iterator[Watch]:
    """Find the calls that change an input in place which others have too.

    Threads, and tasks that run inline, are given the very same object, so that what
    one task changes the others see, or not, as it happens. What a step changes is
    changed in the history and in the ``context`` too, where it is what the step before
    gave; what an attempt changes is so for the next; and items may share an object.
    Of a call that is given the ``context``, what that has is looked at too.

    While the block lasts, the tasks of each parallel step, and the items of each map
    step, run one at a time, and the input of each call is looked at before and after.
    It holds where ``skip_waits`` does; not in processes, which copy the input. Tasks
    that wait for one another would wait for ever.

    The input is taken apart as ``pickle`` does. What a ``cached_property`` keeps is
    no change, nor is it one to read an iterator or a file that is an input, where the
    step has no ``retry``.

    Args:
        steps: Whether to look at steps too that are one call. Else such a step may
            change its input, if no attempt follows.

    Yields:
        What has been seen. What could not be looked into is in ``unwatched``, and in
        the log.

    Raises:
        SharedMutationError: At the end of the block, if any input was changed.
            If the block raises itself, its error is left and has this as a note.

    >>> from stepfunction import StepFunction
    >>> tasks = {"pop": list.pop, "len": len}
    >>> workflow = StepFunction("W").add_step("Both", tasks, parallel=True)
    >>> _ = workflow.set_start_step("Both")
    >>> with detect_shared_mutation():
    ...     _ = workflow.execute([1, 2])
    Traceback (most recent call last):
    stepfunction.testing.mutations.SharedMutationError: an input was changed in place, \
which others have too: other tasks, the next attempt, the history
      task 'pop' of step 'Both' of 'W': input[1] was removed: 2
    let a call change a copy, or return what is new
    """
    watch = Watch()

    def look_on(workflow: str, step: str, tasks: Sequence[Any]) -> None:
        for task in tasks:
            # What runs a workflow is seen at the steps of that.
            if not task.guards_itself:
                shares = len(tasks) > 1 or type(task.key) is int
                where = _Where(workflow, step, task.key, task.retry is not None)
                task.call = _Watched(task.call, watch, where, steps or shares)

    try:
        with looked_on(look_on):
            yield watch
    except Exception as error:
        if watch.mutations:
            add_note(error, _account(watch.mutations))
        raise
    finally:
        for unwatched in watch.unwatched:
            logger().warning("%s", unwatched)
    watch.raise_if_any()


class _Where(NamedTuple):
    """Whose call it is."""

    workflow: str
    step: str
    task: str | int | None
    is_retried: bool


class _Watched:
    """A call whose input is looked at before and after."""

    def __init__(
        self,
        call: Callable[[Any, Context | None], Any],
        watch: Watch,
        where: _Where,
        sees_all: bool,
    ) -> None:
        self._call = call
        self._watch = watch
        self._where = where
        self._sees_all = sees_all
        self._calls = 0

    def __call__(self, value: Any, context: Context | None) -> Any:
        self._calls += 1
        where, attempt = self._where, self._calls
        if context is not None:
            attempt = context.attempt  # where others were made before this process
        if not where.is_retried and _is_used_up_by_reading(value):
            return self._call(value, context)
        root = "item" if type(where.task) is int else "input"
        values = {root: value}
        for name, result in () if context is None else context.items():
            values[f"context[{name!r}]"] = result
        before, has_failed = self._take(values, root), True
        try:
            output = self._call(value, context)
            has_failed = False
            return output
        finally:
            if self._sees_all or (has_failed and where.is_retried):
                after = take_all(values)
                found = tuple(
                    change
                    for way, snapshot in after.items()
                    for change in changes(before[way], snapshot, way)
                )
                if found:
                    place = where.workflow, where.step, where.task
                    mutation = Mutation(*place, found, attempt, where.is_retried)
                    self._watch.mutations.append(mutation)

    def _take(self, values: Mapping[str, Any], root: str) -> dict[str, Snapshot]:
        before, (workflow, step, *_) = take_all(values), self._where
        for way, reason in dark_parts(before[root], root):
            unwatched = Unwatched(workflow, step, way, reason)
            if unwatched not in self._watch.unwatched:
                self._watch.unwatched.append(unwatched)
        return before

    def __reduce__(self) -> Any:
        return _itself, (self._call,)  # in a process the input is a copy


def _itself(call: Any) -> Any:
    return call


def _is_used_up_by_reading(value: Any) -> bool:
    kind = type(value)
    return hasattr(kind, "__next__") or issubclass(kind, io.IOBase)
