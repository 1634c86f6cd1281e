"""Face: what users ask any store, beside what executions ask it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime, timedelta
from itertools import islice
from math import inf
from sys import maxsize
from time import time
from typing import TYPE_CHECKING, Any, Protocol, Self, TypeAlias

from stepfunction.core.durations import to_wait
from stepfunction.core.errors import DefinitionError, Problem, ResumeError
from stepfunction.core.frozen import Frozen
from stepfunction.core.outcomes import Status
from stepfunction.core.wording import did_you_mean, plain_text

if TYPE_CHECKING:
    from stepfunction.core.history.execution import Execution


class StoredExecution(Frozen):
    """What there is to say of a stored execution before its rows are read.

    One that is ``"RUNNING"`` and not claimed runs nowhere: it has died, or was
    interrupted, and can be resumed.

    Attributes:
        id: Its ``id``.
        workflow: The name of its workflow.
        status: Its ``Status``.
        started: When it began, in seconds since the epoch.
        ended: When it ended; None while it has not.
        claimed: Whether a process runs it now.
        host: The name of the machine on which it ran last.
        pid: The process that runs it, or ran it last.
    """

    __slots__ = ()

    id: str
    workflow: str
    status: Status
    started: float
    ended: float | None
    claimed: bool
    host: str | None
    pid: int | None


class Recovered(Frozen):
    """What became of an execution that had died.

    Attributes:
        id: Its ``id``.
        workflow: The name of its workflow.
        execution: The execution, at its end; None where it did not go on.
        error: What it raised, or why it did not go on; None where it COMPLETED, or a
            step took the failure.
    """

    __slots__ = ()

    id: str
    workflow: str
    execution: Execution | None
    error: Exception | None


class Resumable(Protocol):
    """A workflow, as ``recover`` needs it."""

    @property
    def name(self) -> str:
        """Its name."""

    def resume(self, execution_id: str, /, *, store: Any) -> Execution:
        """Go on with a stored execution."""


# A class that has a method of that name cannot say it by itself.
_Executions: TypeAlias = list[StoredExecution]
_Recoveries: TypeAlias = list[Recovered]


class Face(ABC):
    """What every store offers its users; a class of a store adds how it keeps things.

    It is a context manager, which closes it.
    """

    @abstractmethod
    def close(self) -> None:
        """End what it has open."""

    @abstractmethod
    def _listed(self, since: float) -> Iterator[StoredExecution]:
        """Give the outermost executions that began since then, the latest first."""

    @abstractmethod
    def _lose(self, id: str, is_old: Callable[[float | None], bool]) -> bool:
        """Lose an execution and all that is nested in it, unless somebody runs it.

        Args:
            id: Of an outermost one.
            is_old: Is asked again with when it ended, so that it has not begun anew.

        Returns:
            Whether it is lost.
        """

    @abstractmethod
    def _tidy(self) -> None:
        """Lose what no execution needs any more."""

    def list(
        self,
        workflow: str | None = None,
        status: str | None = None,
        since: float | datetime | None = None,
        limit: int | None = None,
    ) -> _Executions:
        """Give the stored executions, the latest first; nested ones are not listed.

        Args:
            workflow: Only those of the workflow of this name.
            status: Only those of this ``Status``.
            since: Only those that began at this time or later, in seconds since the
                epoch or as a ``datetime``.
            limit: How many at most.

        Raises:
            DefinitionError: If an argument is none of these.
            StoreError: If the store cannot be read.
        """
        name: Any = workflow
        problems = [*_status_problems(status), *_limit_problems(limit)]
        if name is not None and not isinstance(name, str):
            text = f"workflow is the name of a workflow, not {name!r}"
            problems.append(Problem("workflow", text))
        if isinstance(since, datetime):
            since = since.timestamp()
        elif since is not None and not _is_number(since):
            text = f"since is in seconds since the epoch, or a datetime, not {since!r}"
            problems.append(Problem("since", text))
        if problems:
            raise DefinitionError("list", problems)
        found = self._listed(-inf if since is None else float(since))
        wanted = (
            it
            for it in found
            if (name is None or it.workflow == name)
            and (status is None or it.status == status)
        )
        return [*islice(wanted, _at_most(limit))]

    def load(self, id: str) -> Execution:
        """Give a stored execution as it stands, to look at, draw and report.

        Nothing is run or claimed for that. An item of a map step that ``items=`` gave
        by a call is an ``Omitted``, for items are not stored.

        Args:
            id: The ``id`` of the execution.

        Raises:
            ExecutionNotFoundError: If nothing is stored of that ``id``.
            StoreError: If it cannot be read.
        """
        from stepfunction.core.engine.start import load  # dear

        store: Any = self  # what executions ask stands in the class of a store
        return load(store, id)

    def recover(
        self, workflows: Iterable[Resumable], limit: int | None = None
    ) -> _Recoveries:
        """Go on with all executions that have died, one after the other.

        These are those that are RUNNING, and that no process runs. What one raises
        keeps no other from going on.

        Args:
            workflows: The workflows that they may be of.
            limit: How many to go on with at most.

        Returns:
            What became of each, the oldest first; one that is of none of these
            workflows, or was refused, with the reason as its ``error``.

        Raises:
            DefinitionError: If an argument is none of these.
            StoreError: If the store cannot be read.
        """
        problems = [*_limit_problems(limit)]
        known: dict[str, Resumable] = {}
        for workflow in workflows:
            if not callable(getattr(workflow, "resume", None)):
                text = f"workflows are StepFunctions, not {workflow!r}"
                problems.append(Problem("workflows", text))
            elif known.setdefault(workflow.name, workflow) is not workflow:
                text = f"two of the workflows are called {workflow.name!r}"
                problems.append(Problem("workflows", text))
        if problems:
            raise DefinitionError("recover", problems)
        dead = [it for it in self.list(status="RUNNING") if not it.claimed]
        dead.reverse()
        return [self._recovered(it, known) for it in islice(dead, _at_most(limit))]

    def _recovered(
        self, it: StoredExecution, known: Mapping[str, Resumable]
    ) -> Recovered:
        if it.workflow not in known:
            text = (
                f"execution {it.id!r} is of workflow {it.workflow!r}, which is none of "
                "those that were given"
            )
            return Recovered(it.id, it.workflow, None, ResumeError(text, it.id))
        try:
            execution = known[it.workflow].resume(it.id, store=self)
        except Exception as error:
            found = getattr(error, "execution", None)
            return Recovered(it.id, it.workflow, found, error)
        return Recovered(it.id, it.workflow, execution, None)

    def prune(
        self, older_than: float | timedelta, dry_run: bool = False
    ) -> _Executions:
        """Lose executions that ended long ago, with all that is nested in them.

        What has not ended stays, however old it is, and so does what somebody is
        resuming. Each is lost on its own, so that nobody who writes waits for long. The
        file keeps its size, and what is written next has room there.

        Args:
            older_than: How long ago they must have ended, in seconds or as a
                ``timedelta``.
            dry_run: Whether to lose nothing and only say what would be lost.

        Returns:
            Those that are lost, or would be.

        Raises:
            DefinitionError: If an argument is none of these.
            StoreError: If the store cannot be read or written.
        """
        age: Any = older_than
        if isinstance(age, timedelta):
            age = age.total_seconds()
        if not _is_number(age) or not age >= 0:
            text = f"older_than is a number of seconds, or a timedelta, not {age!r}"
            raise DefinitionError("prune", [Problem("older_than", text)])
        before = time() - to_wait(age)

        def is_old(ended: float | None) -> bool:
            return ended is not None and ended <= before

        # All of them first: what is lost meanwhile must not move what is read.
        old = [it for it in self._listed(-inf) if is_old(it.ended)]
        if dry_run:
            return [it for it in old if not it.claimed]
        try:
            return [it for it in old if self._lose(it.id, is_old)]
        finally:
            self._tidy()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _is_number(value: Any) -> bool:
    return type(value) is int or isinstance(value, float) and value == value


def _status_problems(status: Any) -> Iterator[Problem]:
    names = [plain_text(each) for each in Status]
    if status is None or isinstance(status, str) and plain_text(status) in names:
        return
    text = f"status is one of {', '.join(names)}, not {status!r}"
    yield Problem("status", text, did_you_mean(status, names))


def _at_most(limit: int | None) -> int | None:
    return None if limit is None else min(limit, maxsize)


def _limit_problems(limit: Any) -> Iterator[Problem]:
    if limit is not None and (type(limit) is not int or limit < 0):
        text = f"limit is how many at most, 0 or more, not {limit!r}"
        yield Problem("limit", text)
