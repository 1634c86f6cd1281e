"""Journal: what the engine notes of a run, while it runs.

It is a list of three items a step: what it was, when it ended, what came out. Nobody
else knows that: everything that people read (history, context, failures, children) is
made here when it is looked at, so that a run pays nothing for it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from math import inf
from threading import RLock, local
from typing import TYPE_CHECKING, Any, ClassVar
from weakref import ref

from stepfunction.core.cancellation import Cancellation
from stepfunction.core.clock import perf_counter
from stepfunction.core.envelope.omitted import portable
from stepfunction.core.errors import StepExecutionError, execution_of
from stepfunction.core.history.ending import Ending
from stepfunction.core.history.position import Blame, Failed, Failing, Position
from stepfunction.core.history.records import Visit, as_visit, portable_visit
from stepfunction.core.keys import PartKey, Path, quoted
from stepfunction.core.outcomes import SUCCEEDED, UNDER_WAY, Status
from stepfunction.core.raised import is_a

if TYPE_CHECKING:
    from stepfunction.core.definition.graph import Graph
    from stepfunction.core.engine.saving import Saving
    from stepfunction.core.history.execution import Execution

_INITIALIZED = Status.INITIALIZED
_AT_ITS_END = (Status.COMPLETED, Status.FAILED)
_first = RLock()  # for a signal handler may ask too


def _begin_anew() -> None:
    """In a forked child, hold nothing that a thread of the parent may have held."""
    global _first
    _first = RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_anew)


class _Nothing:
    """Stands for the input of an execution that was given none."""

    def __repr__(self) -> str:
        return "<nothing>"


NOTHING: Any = _Nothing()


class Shared:
    """What a journal asks of the run that it is written in, or was.

    Attributes:
        epoch: What to add to readings of ``perf_counter`` to have the time of day.
        cancellation: The request to stop it.
        thread: The thread that runs it; None before and after.
        keeps_locals: Whether failures that it goes on after keep their frames.
    """

    __slots__ = ("epoch", "cancellation", "thread", "keeps_locals")

    def __init__(self, epoch: float, cancellation: Cancellation) -> None:
        self.epoch = epoch
        self.cancellation = cancellation
        self.thread: int | None = None
        self.keeps_locals = False


class Journal:
    """What has happened in one execution.

    The thread that runs it writes; any thread may read.

    Attributes:
        graph: What it runs; None where the journal comes out of a pickle or a file.
        input: What the first step was given.
        run: What it shares with all that is nested in the same outermost execution.
        status: Where it stands.
        output: What the last step returned; None after an unhandled failure.
        error: The first failure of an execution that failed.
        blame: The step at which it failed, which ``raise_if_failed()`` names.
        broke_off: Whether it failed elsewhere than at a step that ends it.
        began: When it began, a reading of ``perf_counter``.
        ended: When it ended.
        path: The keys of ``children`` that lead here; known where somebody is told.
        position: Where it stood when a step was noted last; None where the engine goes
            on so fast that it does not say it.
        begun: When the step before ended, if the one that follows there is under way.
        decided: Where the graph cannot tell without a call: when it was asked, which is
            before the step is noted; what follows; and what followed the time before.
        here: What is under way in the present step: the journal of a nested execution,
            or what gives the visit of it as it is now; None for neither.
        recovered: The failures after which the main path was reached again; the latest.
        undone: What compensations did; a list if any was due.
        forgotten: How many steps have been lost to ``keep_history``.
        timeout: How many seconds it may take.
        skipped: What was not waited for in another process, and how many seconds.
        lapsed: How many seconds that was on the line of the execution.
        is_cut: Whether it was stopped there by a limit of what is around it.
        results: Step name to output, of the first ``_results_end`` entries.
        present: What was under way when a transcript of it was written.
        is_live: Whether it is no transcript, which stays as it is.
        is_given_back: Whether it had not COMPLETED, and was executed again: then it is
            given back as it is stored, and nothing is called.
        saving: What notes it in a store too; None for nothing.
        lineage: What the idempotency keys of its calls begin with, where it is nested
            in a task; None for its ``id``.
        has_no_input: Whether it was given nothing, so that a default of its first step
            stays as it is.
    """

    error: BaseException | None = None
    blame: Blame | None = None
    broke_off = False
    present: Visit | None = None
    begun: float | None = None
    recovered: Failing | None = None
    path: Path = ()
    decided: tuple[float, str | None, str | None] = (0.0, None, None)
    undone: Sequence[Visit] = ()
    forgotten = 0
    timeout = inf
    is_live = True
    is_given_back = False
    saving: Saving | None = None
    lineage: str | None = None
    has_no_input = False
    _id: str | None = None
    _workflow = ""
    skipped: Sequence[tuple[str, float]] = ()
    lapsed = 0.0
    is_cut = False
    _ending: Ending | None = None  # made by the first who waits for it
    results: dict[str, Any] | None = None
    _results_end = 0
    face: ClassVar[type[Execution]]  # set by the module of that
    _face: Callable[[], Execution | None] | None = None

    def __init__(self, graph: Graph, initial_input: Any, run: Shared) -> None:
        # What every run writes is set here, for a default of the class would make that
        # slow.
        self.graph: Graph | None = graph
        self.input = initial_input
        self.run = run
        self.status = _INITIALIZED
        self.output: Any = None
        self.entries: list[Any] = []
        self.position: Position | None = None
        self.here: Journal | Callable[[], Visit] | None = None
        self.began = self.ended = perf_counter()

    @classmethod
    def given(cls, graph: Graph, value: Any, run: Shared) -> Journal:
        """Give the journal of an execution that may have been given ``NOTHING``."""
        if value is not NOTHING:
            return cls(graph, value, run)
        journal = cls(graph, None, run)
        journal.has_no_input = True
        return journal

    @classmethod
    def of(
        cls,
        *,
        id: str,
        workflow: str,
        started: float,
        duration: float,
        visits: Iterable[tuple[Visit, float]],
        results: Mapping[str, Any],
        ended_at: str | None,
        **facts: Any,
    ) -> Journal:
        """Give the journal of a run of the past, which stays as it is.

        Args:
            id: The execution's.
            workflow: The name of the workflow.
            started: When it began, in seconds since the epoch.
            duration: How many seconds it took.
            visits: Of each step the visit, and how many seconds after the beginning
                it ended.
            results: Step name to output, of steps that are not among them.
            ended_at: As in ``Execution``.
            **facts: The attributes that it has besides, by their names.
        """
        journal = cls.__new__(cls)
        vars(journal).update(facts)
        vars(journal).update(
            _id=id,
            _workflow=workflow,
            run=Shared(started, Cancellation()),
            began=0.0,
            ended=duration,
            entries=[
                item
                for visit, ended in visits
                for item in (visit, ended, visit.result)
            ],
            results=dict(results),
            broke_off=ended_at is None,
            position=None,
            here=None,
            is_live=False,
        )
        return journal

    @property
    def workflow(self) -> str:
        """The name of the workflow."""
        return self._workflow if self.graph is None else self.graph.name

    @property
    def id(self) -> str:
        """The ``execution_id`` that it was given, or 32 hexadecimal digits."""
        # Made when it is asked for. Not by way of __dict__, here and below: an object
        # that was asked for it is slow ever after.
        if self._id is None:
            with _first:  # of many threads the first makes it
                if self._id is None:
                    self._id = os.urandom(16).hex()
        return self._id

    @property
    def key(self) -> str:
        """What the idempotency keys of its calls begin with."""
        if self.saving is not None:
            return self.saving.prefix
        return self.id if self.lineage is None else self.lineage

    def key_of_nested(self, part: PartKey | None = None) -> str:
        """Give the ``key`` of what is nested in the present step, or in a part of it.

        Args:
            part: The task, or the index of the item; None for the step itself.
        """
        inside = "" if part is None else f".{quoted(str(part))}"
        return f"{self.key}/{self.steps}{inside}"

    @property
    def execution(self) -> Execution:
        """What people read of it."""
        # Held by who looks at it alone, for it holds the journal.
        found = None if self._face is None else self._face()
        if found is None:
            with _first:  # lest two who look at once have two
                found = None if self._face is None else self._face()
                if found is None:
                    found = type(self).face(self)
                    self._face = ref(found)
        return found

    # --- what is noted ---------------------------------------------------------------

    def note(self, entry: Any, result: Any) -> None:
        """Note a step that has just ended, and what came of it."""
        self.entries.extend((entry, perf_counter(), result))

    @property
    def last_stamp(self) -> float:
        """When the present step began: when the one before had ended."""
        return self.entries[-2] if self.entries else self.began

    @property
    def last_result(self) -> Any:
        """What the latest step gave: its output, or the exception it failed with."""
        return self.entries[-1] if self.entries else None

    @property
    def last_step(self) -> str:
        """The name of the step that ended last."""
        return name_of(self.entries[-3])

    @property
    def ended_at(self) -> str | None:
        """The step after which it came to its end; None where it did not."""
        if self.broke_off or self.status not in _AT_ITS_END or not self.entries:
            return None
        return self.last_step

    @property
    def has_just_failed(self) -> bool:
        """Whether the step that ended last failed."""
        entry, _, result = self.entries[-3:]
        return type(entry) is not str and as_visit(entry, result).error is not None

    @property
    def steps(self) -> int:
        """How many steps have ended, forgotten ones included."""
        return self.forgotten + len(self.entries) // 3

    def failed(self, entry: Any, error: BaseException) -> Failed:
        """Note a step that has failed, and give it to be remembered."""
        entries = self.entries
        if entries:
            began, value = entries[-2:]
        else:
            began, value = self.began, self.input
        ended = perf_counter()
        entries.extend((entry, ended, error))
        return entry, value, began, ended, error

    def forget(self, keeps: int) -> None:
        """Lose what is older than so many steps."""
        before = len(self.entries)
        if before > 3 * keeps:
            self.results_so_far()  # must have seen what goes
            _shorten(self.entries, keeps)
            self._results_end = len(self.entries)
            self.here = None
            self.forgotten += (before - self._results_end) // 3

    # --- the end ---------------------------------------------------------------------

    @property
    def is_over(self) -> bool:
        """Whether it has ended, with all that had to be seen to."""
        if self.status in UNDER_WAY:
            return False
        return self._ending is None or self._ending.is_open

    @property
    def ending(self) -> Ending:
        """What is told when it is over."""
        found: Ending = self.__dict__.setdefault("_ending", Ending())
        return found

    def end(self) -> None:
        """Say that it is over."""
        if self._ending is not None:
            self._ending.come()

    # --- what is read ----------------------------------------------------------------

    def backwards(self) -> Iterator[tuple[str, Any, Any]]:
        """Give the steps, the latest first, as name, entry and result."""
        for at in range(len(self.entries) - 3, -1, -3):
            entry, _, result = self.entries[at : at + 3]
            yield entry if type(entry) is str else entry[0], entry, result

    def nested(self) -> Iterator[Journal]:
        """Give what is nested in it, that of earlier attempts too."""
        for entry in self.entries[::3]:
            if type(entry) is Visit:
                for visit in (entry, *entry.tasks):
                    if visit.child is not None:
                        yield visit.child
                    for *_, error in visit.attempts:
                        if is_a(error, StepExecutionError):
                            if (inner := execution_of(error)) is not None:
                                yield inner._journal
            elif type(entry) is not str and entry[1] is not None:
                yield entry[1]

    def results_so_far(self) -> Mapping[str, Any]:
        """Step name to output, kept up with the run in constant time a step."""
        entries = self.entries
        if (results := self.results) is None:
            self.results = results = {}
        begin = self._results_end
        noted = entries[begin::3]
        results.update(zip(map(name_of, noted), entries[begin + 2 :: 3]))
        self._results_end = begin + 3 * len(noted)
        return results

    def results_now(self) -> dict[str, Any]:
        """Give the same to any thread, while the one that runs goes on."""
        while True:
            seen = (self.forgotten, self._results_end)
            results = dict(self.results or ())
            entries = self.entries[seen[1] :]
            if (self.forgotten, self._results_end) == seen:
                break  # else steps were forgotten just now, and are in the results
        results.update(zip(map(name_of, entries[::3]), entries[2::3]))
        return results

    @property
    def keeps(self) -> int | None:
        """How many steps the history has; None for all."""
        return None if self.graph is None else self.graph.keep_history

    @property
    def forgotten_so_far(self) -> int:
        """How many steps came before those that the history has."""
        noted = len(self.entries) // 3
        too_many = 0 if self.keeps is None else max(0, noted - self.keeps)
        return self.forgotten + too_many

    def kept(self) -> list[Any]:
        """Give a copy of what is noted, as far back as the history goes.

        Its first step, if another came before, is noted with its input and its start.
        """
        entries = self.entries[:]
        if self.keeps is not None:
            _shorten(entries, self.keeps)
        return entries

    # --- how it travels --------------------------------------------------------------

    def __reduce__(self) -> Any:
        # Each by itself, for those that are nested may be nested deep.
        journals, numbers = [self], {id(self): 0}

        def by_number(journal: Journal) -> Any:
            if id(journal) not in numbers:
                numbers[id(journal)] = len(journals)
                journals.append(journal)
            return _nested, (numbers[id(journal)],)

        reducers = {Journal: by_number}  # by which they become more
        packed = [(it._packed(reducers), it.run.epoch) for it in journals]
        return _restore, (packed,)

    def _packed(self, reducers: Mapping[Any, Callable[[Any], Any]]) -> bytes:
        from stepfunction.core.envelope.envelope import pack

        entries = self.kept()
        facts = {name: it for name, it in vars(self).items() if name not in _STAYS}
        facts |= {"_id": self.id, "_workflow": self.workflow, "entries": entries}
        if self.forgotten_so_far:  # then what is noted does not tell it all
            facts["forgotten"] = self.forgotten_so_far
            facts["results"] = self.results_now()
            facts["_results_end"] = len(entries)
        try:
            return pack(facts, reducers)
        except Exception:  # what cannot travel is left out, value by value
            # When it ended stays; what it was and what came of it may have to change.
            entries[::3] = map(portable_visit, entries[::3])
            entries[2::3] = map(portable, entries[2::3])
            for name in ("input", "output"):
                facts[name] = portable(facts[name])
            if self.undone:
                facts["undone"] = list(map(portable_visit, self.undone))
            for name, result in facts.get("results", {}).items():
                facts["results"][name] = portable(result)
            return pack(facts, reducers)


# What a pickle leaves behind.
_STAYS = (
    "graph",
    "run",
    "position",
    "begun",
    "recovered",
    "saving",
    "here",
    "decided",
    "results",
    "_results_end",
    "_ending",
    "_face",
)


# What each thread restores just now.
_restored = local()


def _restore(packed: list[tuple[bytes, float]]) -> Journal:
    from stepfunction.core.envelope.envelope import unpack

    journals = [Journal.__new__(Journal) for _ in packed]
    outer = getattr(_restored, "journals", None)
    _restored.journals = journals
    try:
        for journal, (data, epoch) in zip(journals, packed):
            vars(journal).update(
                unpack(data),
                graph=None,
                run=Shared(epoch, Cancellation()),
                position=None,
                here=None,
            )
    finally:
        _restored.journals = outer
    return journals[0]


def _nested(number: int) -> Any:
    return _restored.journals[number]


def name_of(entry: Any) -> str:
    """Give the name of the step that an entry is of."""
    name: str = entry if type(entry) is str else entry[0]
    return name


def _shorten(entries: list[Any], keeps: int) -> None:
    """Leave the latest steps, of which the first has all its facts."""
    cut = len(entries) - 3 * keeps
    if cut > 0:
        began, value, entry, ended, result = entries[cut - 2 : cut + 3]
        visit = as_visit(entry, result)
        outcome = visit.outcome or SUCCEEDED
        attempts = visit.attempts or ((outcome, began, ended, visit.error),)
        given = visit.given or (value,)
        # At once, for other threads may be reading.
        entries[: cut + 1] = [visit._replace(attempts=attempts, given=given)]
