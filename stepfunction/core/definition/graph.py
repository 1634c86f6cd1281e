"""Graph: what a workflow is, and which step is next.

Nothing here runs anything. A ``Step`` says what it does (its action) and where its
arrows lead; a ``Graph`` is the frozen whole that any number of threads may run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, cast

from stepfunction.core.definition.actions import Action, Callee, Change
from stepfunction.core.definition.branch import Arrow, Branch
from stepfunction.core.definition.calls import Call
from stepfunction.core.definition.catches import OnFailure, target_of
from stepfunction.core.definition.likeness import Defined
from stepfunction.core.definition.paths import Deepest, deepest, nested_first
from stepfunction.core.frozen import Frozen
from stepfunction.core.raised import is_a
from stepfunction.core.wording import counted
from stepfunction.core.workers.executors import ExecutorChoice
from stepfunction.core.workers.retry import RetryPolicy, judges_results

if TYPE_CHECKING:
    import tenacity


class Step(Defined):
    """A named step: what it does and where it leads.

    Attributes:
        name: Its name, unique in its workflow.
        action: What it does. In a frozen graph a nested workflow is a ``Graph``.
        next_step: The step that follows; None ends the workflow.
        on_failure: The step that follows a failure: a name, or pairs of exception
            class and name, of which the first match counts; None for none.
        branch: Where results lead; None for a step that always goes on.
        retry: How failed calls are tried again; None for not at all.
        executor: Where it runs; None for the caller's thread.
        timeout: How many seconds an attempt may take; None for no limit.
        heartbeat: How many seconds an attempt may pass without a sign of life.
        ends: What an execution that ends here is; None to go by the arrows.
        inputs: Parameter to the earlier step whose output it takes, in the place of
            the output of the step before; None for that.
        compensate: What undoes it, given its output; of a parallel step also pairs of
            task and what undoes that. None for nothing.
        description: What it is for; None where nobody has said.
    """

    __slots__ = ()

    name: str
    action: Action
    next_step: str | None = None
    on_failure: OnFailure | None = None
    branch: Branch | None = None
    retry: RetryPolicy | tenacity.Retrying | None = None
    executor: ExecutorChoice | None = None
    timeout: float | None = None
    heartbeat: float | None = None
    ends: Literal["completed", "failed"] | None = None
    inputs: tuple[tuple[str, str], ...] | None = None
    compensate: Call | tuple[tuple[str, Call], ...] | None = None
    description: str | None = None

    def __repr__(self) -> str:
        facts = zip(self._fields, self._values)
        told = (f"{key}={it!r}" for key, it in facts if it is not None)
        return f"Step({', '.join(told)})"

    @property
    def plain(self) -> Callable[[Any], Any] | None:
        """What to call with the input, where that is all until the call has failed."""
        _, action, _, _, branch, retry, executor, _, _, _, inputs, *_ = self._values
        if executor is not None or inputs is not None:
            return None
        if retry is not None and (branch is not None or judges_results(retry)):
            return None
        found: Callable[[Any], Any] | None = action.plain
        return found

    @property
    def is_call_here(self) -> bool:
        """Whether it is no more than a call of a function in the caller's thread."""
        return self.executor is None and self.action.is_one_call

    @property
    def may_end(self) -> bool:
        """Whether an execution that succeeds here has come to its end."""
        return self.next_step is None and self.branch is None

    @property
    def may_be_undone(self) -> bool:
        """Whether it, or something in it, has a compensation."""
        if self.compensate is not None or self.is_call_here:
            return self.compensate is not None
        return any(
            callee.nested is not None and callee.nested.has_compensations
            for _, callee in self.action.callees()
        )

    @property
    def may_recover(self) -> bool:
        """Whether anything of the execution may follow a failure in it."""
        _, action, _, on_failure, _, retry, *_, compensate, _ = self._values
        if not (on_failure is retry is compensate is None):
            return True
        if action.is_one_call:
            return False
        return action.has_tasks or any(
            getattr(callee.nested, "may_recover", False)
            for _, callee in action.callees()
        )

    @property
    def simply_nested(self) -> Graph | None:
        """The nested workflow, where the step runs it in this thread and no more."""
        is_simple = self.executor is None and self.retry is None
        is_simple = is_simple and self.timeout is None and self.inputs is None
        if is_simple and not self.action.has_tasks:
            return cast("Graph | None", self.action.nested)
        return None

    def after(self, output: Any) -> str | None:
        """Give the name of the step that follows an output; None at the end.

        Args:
            output: What the step returned.

        Raises:
            NoBranchMatchedError: If the output leads to no step.
        """
        if self.branch is None:
            return self.next_step
        target = self.branch.choose(output)
        if target is None:
            target = self.next_step
        if self.branch.chooser is not None and target is not None:
            # It may be anything, which need not have an equality.
            is_name = is_a(target, str)
            if not is_name or target not in (self.next_step, *self.branch.targets):
                raise self.branch.unmatched(self.name, output, target)
        if target is None:
            raise self.branch.unmatched(self.name, output, None)
        return target

    def after_failure(self, error: BaseException) -> str | None:
        """Give the name of the step that takes a failure; None if none does.

        Args:
            error: What the step failed with. Where that is an error of ours, what it
                hides counts too.
        """
        return target_of(self.on_failure, error)

    def arrows(self) -> list[Arrow]:
        """Give every arrow that leaves the step, in the order of the definition."""
        _, _, next_step, on_failure, branch, *_ = self._values
        found = [] if branch is None else list(branch.arrows())
        if next_step is not None:
            label = "" if branch is None else "otherwise"
            found.append(Arrow("next", label, next_step))
        if isinstance(on_failure, str):
            found.append(Arrow("failure", "", on_failure))
        elif on_failure is not None:
            found += (
                Arrow("failure", error_class.__name__, target)
                for error_class, target in on_failure
            )
        return found

    def with_callees(self, change: Change) -> Step:
        """Give the step with something else in the place of all that it calls.

        Args:
            change: Gives what is called instead, of a task name (None where it is the
                step itself, or each item) and what is called now.
        """
        action = self.action.with_callees(change)
        return self if action is self.action else self.replace(action=action)

    def compensations(self) -> Iterator[tuple[str | None, Call]]:
        """Give what undoes it, by task name; None of the step, or of each item."""
        if isinstance(self.compensate, Call):
            yield None, self.compensate
        elif self.compensate is not None:
            yield from self.compensate


class Definition(Frozen):
    """What a builder of a workflow has been told so far, sound or not.

    Attributes:
        name: The workflow's name.
        start: The name of its first step; None if it has not been named.
        max_steps: How many steps one run may take; None where there are no loops.
        keep_history: How many of its latest steps an execution remembers; None for
            all.
        on_failure: The failure arrows of steps that have none of their own; None for
            none.
        steps: Step name to step, in which nested workflows are builders.
        description: What it is for; None where nobody has said.
    """

    __slots__ = ()

    name: str
    start: str | None
    max_steps: int | None
    keep_history: int | None
    on_failure: OnFailure | None
    steps: Mapping[str, Step]
    description: str | None = None


# What the engine's loop needs of a step, in the order in which it needs it: the step's
# ``plain`` and ``simply_nested``, its ``next_step``, where results lead that are text
# (None without a branch), where a failure leads that is not tried again first (None
# where that takes asking), and the step itself for all that is less common. A tuple,
# for it is taken apart with each step.
Move: TypeAlias = """tuple[
    Callable[[Any], Any] | None,
    Graph | None,
    str | None,
    dict[str, str] | None,
    str | None,
    Step,
]"""
# What the loop needs of a graph: the first step, the moves by the names of their steps,
# how long a journal may become before it has to stop or to forget steps (a step takes
# three items), the graph's ``failure_steps`` and ``keep_history``, and whether steps
# say themselves how an execution ends there.
Course: TypeAlias = """tuple[
    str, dict[str, Move], int, frozenset[str], int | None, bool
]"""


class Graph(Defined, Callee):
    """A workflow, checked and frozen.

    Attributes:
        name: The workflow's name.
        start: The name of its first step.
        table: Step name to step; ``steps`` is the read-only view.
        failure_steps: The steps that only an ``on_failure`` arrow leads to.
        max_steps: How many steps one run may take; None where there are no loops.
        uses_processes: Whether any step, here or nested, runs in processes.
        keep_history: How many of its latest steps an execution remembers; None for
            all.
        has_compensations: Whether any step, here or nested, has a compensation.
        description: What it is for; None where nobody has said.
    """

    # Which follow from the fields.
    __slots__ = (
        "course",
        "may_recover",
        "written",
        "_first_move",
        "directly_nested",
        "_deepest",
    )
    kind = "workflow"

    name: str
    start: str
    table: dict[str, Step]
    failure_steps: frozenset[str] = frozenset()
    max_steps: int | None = None
    uses_processes: bool = False
    keep_history: int | None = None
    has_compensations: bool = False
    description: str | None = None

    def __init__(self, *values: Any, **named: Any) -> None:
        super().__init__(*values, **named)
        _, start, table, failure_steps, _, _, keep_history, *_ = self._values
        self.course: Course = (
            start,
            {name: _move(step) for name, step in table.items()},
            self.longest_journal(0),
            failure_steps,
            keep_history,
            any(step.ends is not None for step in table.values()),
        )
        self.written: tuple[str, str] | None = None  # by who writes it first
        self._first_move: Any = ...  # until it is asked for
        # Whether anything, here or nested, may follow a failure.
        self.may_recover: bool = any(step.may_recover for step in table.values())
        # The workflows that its steps run, each once.
        self.directly_nested: tuple[Graph, ...] = _nested_in(table)
        inside = self.directly_nested
        self._deepest: Deepest = deepest((it, it._deepest) for it in inside)

    def __reduce__(self) -> Any:
        # Copied and pickled first is what is nested deep, lest that be done in as many
        # calls inside one another as there are workflows.
        return _graph_after, (self._deepest.first, *self._values)

    def __repr__(self) -> str:
        # All that is nested in it may be more than anybody can read.
        return f"<Graph {self.name!r}: {counted(len(self.table), 'step')}>"

    @property
    def nested(self) -> Graph:
        """The graph itself, where it is what a step does."""
        return self

    @property
    def wants_context(self) -> bool:
        """Whether a run of it must be given the context: it is cancelled through it."""
        return True

    @property
    def steps(self) -> Mapping[str, Step]:
        """Step name to step, in the order of the definition."""
        return MappingProxyType(self.table)

    def all_nested(self) -> list[Graph]:
        """Give all workflows that are nested in it, each behind what is nested in it.

        Each is there once, however often it is nested.
        """
        return nested_first(self, lambda graph: graph.directly_nested)

    def nested_at(self, step: str | None, part: Any = None) -> Graph | None:
        """Give the workflow that is nested in a step; None where there is none.

        Args:
            step: The name of the step.
            part: The task of it; None, or the index of an item, for all else.
        """
        if step not in self.table:
            return None
        action: Any = self.table[step].action
        found: Graph | None = action.tasks.get(part, action).nested
        return found

    def without_input(self) -> Unfed:
        """Give the workflow whose first step is to leave a default alone."""
        return Unfed(self)

    @property
    def first_move(self) -> Move | None:
        """How the first step is performed of an execution that was given nothing.

        None where that is as with an input of None, or where it simply nests a
        workflow, whose own first step counts.
        """
        found: Any = self._first_move
        if found is ...:
            found, step = None, self.table[self.start]
            action = step.action.without_input()
            if action is not step.action and step.simply_nested is None:
                found = _move(step.replace(action=action))
            self._first_move = found
        return found  # type: ignore[no-any-return]

    def longest_journal(self, forgotten: int) -> int:
        """Give how long a journal may become.

        Args:
            forgotten: How many steps it has forgotten.
        """
        most = (self.max_steps or len(self.table)) - forgotten
        if self.keep_history is not None:
            # With as many again as are to be kept, each step has to be moved but once.
            most = min(most, 2 * self.keep_history)
        return 3 * most


def _nested_in(table: Mapping[str, Step]) -> tuple[Graph, ...]:
    found: dict[int, Graph] = {}
    for step in table.values():
        if not step.action.is_one_call:
            for _, callee in step.action.callees():
                if isinstance(callee.nested, Graph):
                    found[id(callee.nested)] = callee.nested
    return tuple(found.values())


def _graph_after(first: tuple[Graph, ...], *values: Any) -> Graph:
    """Give a graph again, all that is nested deep in it having been given."""
    return Graph(*values)


class Unfed(Frozen, Callee):
    """A run of a workflow that is given no input.

    Attributes:
        nested: The workflow.
    """

    __slots__ = ()
    kind = "workflow"
    wants_context = True
    takes_nothing = True

    nested: Graph

    @property
    def name(self) -> str:
        """The workflow's name."""
        return self.nested.name


def _move(step: Step) -> Move:
    _, action, next_step, on_failure, branch, retry, *_ = step._values
    choices = None
    if branch is not None:
        results = branch.table.items()
        choices = {key: to for key, (_, to) in results if isinstance(key, str)}
    target = on_failure if retry is None and isinstance(on_failure, str) else None
    nested = None if action.is_one_call else step.simply_nested
    return step.plain, nested, next_step, choices, target, step
