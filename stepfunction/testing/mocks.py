"""Mocks: steps that give what a test says, in workflows that anybody executes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from types import TracebackType
from typing import Any

from stepfunction.core.definition.actions import Callee, Nested
from stepfunction.core.definition.graph import Graph, Step
from stepfunction.core.errors import DefinitionError
from stepfunction.core.raised import short_repr
from stepfunction.core.step_function import StepFunction
from stepfunction.core.wording import counted, did_you_mean
from stepfunction.testing.stand_ins import StandIn
from stepfunction.testing.ways import COMPENSATE, Key, Way, find_spots

__tracebackhide__ = True  # pytest shows the test and what is called, not us


class Mock:
    """What a mocked step or task was called with."""

    def __init__(self, stand_in: StandIn) -> None:
        self._stand_in = stand_in

    @property
    def calls(self) -> list[Any]:
        """The input of each call, in order, retries included.

        In this process that is the object that was given, and what became of it; of
        another process it is a copy.
        """
        return self._stand_in.tally.inputs

    @property
    def count(self) -> int:
        """How many calls there were, retries included."""
        return self._stand_in.tally.count

    def __repr__(self) -> str:
        what = self._stand_in.what.removeprefix("the mock of ")
        return f"<Mock of {what}: {counted(self.count, 'call')}>"


class Mocks(Mapping[Key, Mock]):
    """What ``mock_steps`` gives: a context manager, and its mocks by their keys."""

    def __init__(self, workflow: StepFunction, stand_ins: dict[Any, Any]) -> None:
        self._workflow = workflow
        self._stand_ins: dict[Any, StandIn] = {
            key: stand_in for key, (_, stand_in) in stand_ins.items()
        }
        self._mocks = {key: Mock(it) for key, it in self._stand_ins.items()}
        self._changes = _changes(dict(stand_ins.values()))
        self._put_back: Callable[[], None] | None = None
        self._was_entered = False

    def __enter__(self) -> Mocks:
        """Let the workflow call the mocks.

        Raises:
            RuntimeError: If that was done before; counts would go on.
            DefinitionError: If the workflow is not sound with its mocks.
        """
        if self._was_entered:
            raise RuntimeError(
                f"these mocks of {self._workflow.name!r} have been used already; "
                "call mock_steps() again for each block"
            )
        self._was_entered = True
        self._put_back = self._workflow._alter(self._changes)
        try:
            self._workflow.compile()  # a lambda for a process is refused here
        except BaseException:
            self._leave()
            raise
        return self

    def __exit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Put everything back.

        Raises:
            UsedUpError: If a mock was called more often than it had results, which
                the workflow may have taken for a failure of the step.
        """
        self._leave()
        for stand_in in self._stand_ins.values():
            if error is None and stand_in.is_used_up:
                raise stand_in.complaint(stand_in.tally.count)

    def _leave(self) -> None:
        if self._put_back is not None:
            self._put_back()
            self._put_back = None
        for stand_in in self._stand_ins.values():
            stand_in.tally.close()

    def __getitem__(self, key: Key) -> Mock:
        if not self._was_entered:
            raise RuntimeError(
                f"nothing of {self._workflow.name!r} is mocked yet; write "
                "'with mock_steps(…) as mocks:', or self.enterContext(mock_steps(…))"
            )
        if key not in self._mocks:
            known = [it for it in self._mocks if isinstance(it, str)]
            raise KeyError(f"{key!r} is not mocked{did_you_mean(key, known)}")
        return self._mocks[key]

    def __iter__(self) -> Iterator[Key]:
        return iter(self._mocks)

    def __len__(self) -> int:
        return len(self._mocks)

    def __repr__(self) -> str:
        listed = ", ".join(map(repr, self._mocks.values()))
        return f"<Mocks of {self._workflow.name!r}: {listed}>"


def mock_steps(workflow: StepFunction, mocks: Mapping[Any, Any]) -> Mocks:
    """Replace what steps do, for all who execute the workflow meanwhile.

    The workflow itself is the same object before, in and after the block, so code
    under test may execute it by whatever way it finds it, also in another thread.
    A mocked step keeps its arrows, retry, timeout and executor: with
    ``executor="process"`` the mock runs in the process, and must be picklable. An
    execution that began before the block, or goes on after it, keeps the steps that
    it began with. Blocks nest; the inner one counts.

    Args:
        workflow: The workflow. A workflow that is nested in it elsewhere, or runs by
            itself, is not concerned by what is mocked in it here.
        mocks: What to replace: ``"Pay"`` a step, ``"Update.payment"`` a task of a
            parallel step, ``"Payment/Charge"`` a step of the workflow that a step
            (or task) runs, ``"Pay.compensate"`` what undoes a step, which else is
            really called; where a key may mean several, a tuple of the names. And by
            what: a value is given; an exception, or a class of one, is raised; a
            callable is called with what it takes of the step's input, params, named
            inputs and context; a list has one of these for each call, in the order of
            the calls, over threads and processes, loops and retries. To give a list,
            or anything else as it is, use ``returning``. Of a parallel step that is
            mocked as a whole give the mapping; of a map step what each item gives.

    Returns:
        A context manager that gives itself; ``mocks["Pay"].calls`` are the inputs
        of the calls, ``.count`` is their number.

    Raises:
        DefinitionError: If there is no such step, or nothing to mock; all at once.

    >>> from stepfunction import StepFunction
    >>> workflow = StepFunction("Checkout").add_step("Pay", print)
    >>> _ = workflow.set_start_step("Pay")
    >>> with mock_steps(workflow, {"Pay": "paid"}) as mocks:
    ...     execution = workflow.execute(42)
    >>> execution.output, mocks["Pay"].calls
    ('paid', [42])
    """
    problems = argument_problems(workflow, mocks, "mocks")
    if problems:
        raise DefinitionError("mock_steps", problems)
    if not mocks:
        problems.append("there is nothing to mock; name a step, as in {'Pay': 42}")
    stand_ins: dict[Any, Any] = {}
    for key, spot in find_spots(workflow, mocks, problems).items():
        stand_in = StandIn(f"the mock of {spot.what}", spot, mocks[key])
        if spot.action.always_fails:
            problems.append(f"{spot.what} is a fail step, which nothing can replace")
        problems += (f"{spot.what}: {problem}" for problem in stand_in.problems)
        stand_ins[key] = spot.way, stand_in
    if problems:
        raise DefinitionError(f"mock_steps of {workflow.name!r}", problems)
    return Mocks(workflow, stand_ins)


def argument_problems(workflow: Any, given: Any, name: str) -> list[str]:
    """Say what is wrong with a workflow and a mapping of steps in it."""
    problems = []
    if not isinstance(workflow, StepFunction):
        hint = "; give it as it was before compile()"
        problems.append(
            f"workflow is a StepFunction, not {short_repr(workflow)}"
            + (hint if isinstance(workflow, Graph) else "")
        )
    if not isinstance(given, Mapping):
        problems.append(
            f"{name} is a mapping of step to result, not {short_repr(given)}"
        )
    return problems


def _changes(
    stand_ins: Mapping[Way, StandIn],
) -> dict[str, Callable[[Step], Step]]:
    """Give what makes mocked steps of steps, by their names."""
    return {name: partial(_mocked, it) for name, it in by_first(stand_ins).items()}


def by_first(given: Mapping[Way, Any]) -> dict[str, dict[Way, Any]]:
    """Sort by the first name of the way, and leave that out."""
    found: dict[str, dict[Way, Any]] = {}
    for (first, *rest), value in given.items():
        found.setdefault(first, {})[tuple(rest)] = value
    return found


def _mocked(stand_ins: Mapping[Way, StandIn], step: Step) -> Step:
    reach = 2 if step.action.tasks else 1  # what is longer leads into what is nested
    doing: dict[Way, StandIn] = {}
    for way, stand_in in stand_ins.items():
        if len(way) <= reach and way[-1:] == (COMPENSATE,):
            step = step.replace(compensate=_undone_by(stand_in, way[:-1], step))
        else:
            doing[way] = stand_in
    return _doing(doing, step) if doing else step


def _undone_by(stand_in: StandIn, task: Way, step: Step) -> Any:
    """Give what undoes a step where a mock undoes it, or one of its tasks."""
    if not task:
        return stand_in.action
    return tuple(
        (name, stand_in.action if name == task[0] else call)
        for name, call in step.compensations()
    )


def _doing(stand_ins: Mapping[Way, StandIn], step: Step) -> Step:
    """Give a step where mocks do what it does, or a part of that."""
    whole = stand_ins.get(())
    if whole is not None and not step.action.has_items:
        return step.replace(action=whole.action)
    by_task = by_first(stand_ins) if step.action.tasks else {}

    def change(task: str | None, callee: Any) -> Any:
        if task is not None and task not in by_task:
            return callee
        inside = stand_ins if task is None else by_task[task]
        return inside[()].action if () in inside else _with(inside, callee, step)

    return step.with_callees(change)


def _with(stand_ins: Mapping[Way, StandIn], callee: Callee, step: Step) -> Callee:
    if callee.nested is None:
        inside = ", ".join(repr("/".join(way)) for way in stand_ins)
        raise DefinitionError(
            "mock_steps",
            [
                f"{inside} cannot be mocked in step {step.name!r}, which an outer "
                "mock_steps has replaced"
            ],
        )
    return Nested(callee.nested._altered(_changes(stand_ins)))
