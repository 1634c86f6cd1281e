"""Graph: what a workflow is, whether it is sound, and which step is next.

Nothing here runs anything. A ``Step`` says what it does (its action) and where its
arrows lead; a ``Graph`` is the frozen whole that any number of threads may run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, cast

from stepfunction.core.definition.actions import Action, Callee, Change, Workflow
from stepfunction.core.definition.branch import Arrow, Branch
from stepfunction.core.definition.calls import Call
from stepfunction.core.definition.catches import OnFailure, target_of, targets_of
from stepfunction.core.definition.likeness import Defined
from stepfunction.core.errors import DefinitionError
from stepfunction.core.frozen import Frozen
from stepfunction.core.wording import closest, did_you_mean, location
from stepfunction.core.workers.executors import (
    ExecutorChoice,
    is_object,
    runs_in_processes,
)
from stepfunction.core.workers.retry import RetryPolicy

if TYPE_CHECKING:
    import tenacity


class Step(Defined):
    """A named step: what it does and where it leads.

    Attributes:
        name: Its name, unique in its workflow.
        action: What it does. In a frozen graph a nested workflow is a ``Graph``.
        plain: What to call with the input, where that is all there is to performing
            the step until the call fails; else None.
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
    """

    derived = ("plain",)

    name: str
    action: Action
    plain: Callable[[Any], Any] | None = None
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

    def __repr__(self) -> str:
        facts = zip(self._fields, self._values)
        told = {key: it for key, it in facts if it is not None and key != "plain"}
        return f"Step({', '.join(f'{key}={it!r}' for key, it in told.items())})"

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
        if target is None or (
            self.branch.chooser is not None
            and target != self.next_step
            and target not in self.branch.targets
        ):
            raise self.branch.unmatched(self.name, output, target)
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
        found = [] if self.branch is None else list(self.branch.arrows())
        if self.next_step is not None:
            label = "" if self.branch is None else "otherwise"
            found.append(Arrow("next", label, self.next_step))
        if isinstance(self.on_failure, str):
            found.append(Arrow("failure", "", self.on_failure))
        elif self.on_failure is not None:
            found += (
                Arrow("failure", error_class.__name__, target)
                for error_class, target in self.on_failure
            )
        return found

    def with_callees(self, change: Change) -> Step:
        """Give the step with something else in the place of all that it calls.

        Args:
            change: Gives what is called instead, of a task name (None where it is the
                step itself, or each item) and what is called now.
        """
        action = self.action.with_callees(change)
        if action is self.action:
            return self
        return self.replace(action=action, plain=None)

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
    """

    __slots__ = ()

    name: str
    start: str | None
    max_steps: int | None
    keep_history: int | None
    on_failure: OnFailure | None
    steps: Mapping[str, Step]


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


def _move(step: Step) -> Move:
    choices = None
    if step.branch is not None:
        results = step.branch.table.items()
        choices = {key: to for key, (_, to) in results if isinstance(key, str)}
    target = step.on_failure
    if step.retry is not None or not isinstance(target, str):
        target = None
    return step.plain, step.simply_nested, step.next_step, choices, target, step


class Graph(Defined, Workflow):
    """A workflow, checked and frozen.

    Attributes:
        name: The workflow's name.
        start: The name of its first step.
        table: Step name to step; ``steps`` is the read-only view.
        course: The same for the engine's loop.
        failure_steps: The steps that only an ``on_failure`` arrow leads to.
        max_steps: How many steps one run may take; None where there are no loops.
        uses_processes: Whether any step, here or nested, runs in processes.
        keep_history: How many of its latest steps an execution remembers; None for
            all.
        has_compensations: Whether any step, here or nested, has a compensation.
    """

    derived = ("course",)

    name: str
    start: str
    table: dict[str, Step]
    course: Course
    failure_steps: frozenset[str]
    max_steps: int | None = None
    uses_processes: bool = False
    keep_history: int | None = None
    has_compensations: bool = False

    @property
    def steps(self) -> Mapping[str, Step]:
        """Step name to step, in the order of the definition."""
        return MappingProxyType(self.table)

    def longest_journal(self, forgotten: int) -> int:
        """Give how long a journal may become.

        Args:
            forgotten: How many steps it has forgotten.
        """
        most = (self.max_steps or len(self.table)) - forgotten
        return _longest_journal(most, self.keep_history)


def _longest_journal(most: int, keep_history: int | None) -> int:
    # With as many again as are to be kept, each step has to be moved but once.
    return 3 * (most if keep_history is None else min(most, 2 * keep_history))


def freeze(
    name: str,
    start: str | None,
    steps: Mapping[str, Step],
    max_steps: int | None,
    problems: list[str],
    on_failure: OnFailure | None = None,
    keep_history: int | None = None,
) -> Graph:
    """Check a workflow and freeze it.

    Args:
        name: The workflow's name.
        start: The name of its first step; None if it has not been named.
        steps: Step name to step, with graphs for nested workflows.
        max_steps: How many steps one run may take; None where there are no loops.
        problems: What has been found already.
        on_failure: The failure arrows of steps that have none of their own.
        keep_history: How many of its latest steps an execution remembers; None for
            all.

    Raises:
        DefinitionError: If it is not sound, with every problem there is.
    """
    problems = list(problems)
    if start is None:
        problems.append("no start step; name the first step with set_start_step()")
    elif start not in steps:
        problems.append(f"start step {start!r} is no step{did_you_mean(start, steps)}")
    if on_failure is not None:
        has_loops = max_steps is not None
        problems += _failure_step_problems(on_failure, steps, start, has_loops)
        steps = _with_failure_step(steps, start, on_failure, has_loops)
    arrows = {origin: step.arrows() for origin, step in steps.items()}
    for origin, leaving in arrows.items():
        for arrow in leaving:
            if arrow.target not in steps:
                problems.append(
                    f"step {origin!r}: {_role(arrow)} leads to {arrow.target!r}, "
                    f"which is no step{did_you_mean(arrow.target, steps)}"
                )
    if start is not None and start in steps:
        reached = reachable(start, arrows, ("next", "branch", "failure"))
        problems += (
            f"step {other!r} cannot be reached from {start!r}; lead to it with "
            "next_step, branch or on_failure, or leave it out"
            for other in steps
            if other not in reached
        )
    if max_steps is None:
        problems += (
            f"steps run in a circle: {' → '.join(map(repr, cycle))}; "
            "lead out of it, or allow loops with StepFunction(max_steps=…)"
            for cycle in cycles(arrows)
        )
    # What most steps are need not be looked at more than once.
    apart = {name: step for name, step in steps.items() if not step.is_call_here}
    problems += sending_problems(apart)
    inputs = {origin: step.inputs for origin, step in steps.items() if step.inputs}
    if inputs:
        from stepfunction.core.definition.named_inputs import (
            input_problems,  # which few need
        )

        problems += input_problems(inputs, start, arrows)
    if keep_history is not None:
        problems += (
            f"step {step.name!r} can be undone only with its output, which "
            "keep_history forgets; leave out compensate or keep_history"
            for step in steps.values()
            if step.may_be_undone
        )
    if problems:
        raise DefinitionError(f"workflow {name!r}", problems)
    assert start is not None
    main_path = reachable(start, arrows, ("next", "branch"))
    moves = {step_name: _move(step) for step_name, step in steps.items()}
    longest = _longest_journal(max_steps or len(moves), keep_history)
    failure_steps = frozenset(steps.keys() - main_path)
    says_end = any(step.ends is not None for step in steps.values())
    return Graph(
        name,
        start,
        dict(steps),
        (start, moves, longest, failure_steps, keep_history, says_end),
        failure_steps=failure_steps,
        max_steps=max_steps,
        uses_processes=any(map(_uses_processes, apart.values())),
        keep_history=keep_history,
        has_compensations=any(step.compensate is not None for step in steps.values())
        or any(step.may_be_undone for step in apart.values()),
    )


def _failure_step_problems(
    on_failure: OnFailure,
    steps: Mapping[str, Step],
    start: str | None,
    has_loops: bool,
) -> Iterator[str]:
    for target in dict.fromkeys(targets_of(on_failure)):
        if target == start and not has_loops:
            yield (
                f"the workflow's on_failure leads to {target!r}, its start step, so no "
                "failure could go there but in a circle; lead to a later step, or "
                "allow loops with StepFunction(max_steps=…)"
            )
        if target not in steps:
            yield (
                f"the workflow's on_failure leads to {target!r}, which is no step"
                f"{did_you_mean(target, steps)}"
            )


def _with_failure_step(
    steps: Mapping[str, Step],
    start: str | None,
    on_failure: OnFailure,
    has_loops: bool,
) -> Mapping[str, Step]:
    """Lead the failures of steps without a failure step of their own to one.

    It takes none of its own failures, nor of what follows it, which would be a
    circle; where loops are allowed, it does take those of what is on the main path.
    """
    known = _with_knowntargets_of(on_failure, steps)
    if not known:
        return steps
    arrows = {origin: step.arrows() for origin, step in steps.items()}
    targets = set(targets_of(known))
    after = set(targets)
    for target in targets:
        after |= reachable(target, arrows, ("next", "branch", "failure"))
    if has_loops and start is not None and start in steps:
        after -= reachable(start, arrows, ("next", "branch")) - targets
    return {
        name: (
            step
            if name in after
            or step.on_failure is not None
            or step.action.always_fails
            else step.replace(on_failure=known)
        )
        for name, step in steps.items()
    }


def _with_knowntargets_of(
    on_failure: OnFailure, steps: Mapping[str, Step]
) -> OnFailure | None:
    """Give the steps that are meant, so that a mistyped one is reported once."""
    meant = {
        target: target if target in steps else closest(target, steps)
        for target in targets_of(on_failure)
    }
    if isinstance(on_failure, str):
        return meant[on_failure]
    pairs = ((cause, meant[target]) for cause, target in on_failure)
    return tuple((cause, target) for cause, target in pairs if target is not None)


def _uses_processes(step: Step) -> bool:
    return runs_in_processes(step.executor) or any(
        callee.nested is not None and callee.nested.uses_processes
        for _, callee in step.action.callees()
    )


def sending_problems(steps: Mapping[str, Step], override: Any = None) -> Iterator[str]:
    """Say what keeps steps that run in processes from being sent there.

    Args:
        steps: Step name to step.
        override: The executor of every step that has one; None to leave it to them.
    """
    for step in steps.values():
        if step.is_call_here:
            continue
        executor = override if override and step.executor else step.executor
        for task, callee in step.action.callees():
            where = location(step.name, task)
            found: Iterable[str] = ()
            if runs_in_processes(executor):
                found = _obstacles(callee)
            elif override is not None and callee.nested is not None:
                found = sending_problems(callee.nested.table, override)
            yield from (f"{where}: {problem}" for problem in found)


def _obstacles(callee: Callee) -> Iterator[str]:
    """Say what keeps a function, or a part of a nested workflow, in this process."""
    from stepfunction.core.envelope.refusals import obstacle

    inside: list[str] = []
    graph: Graph | None = callee.nested
    for step in () if graph is None else graph.table.values():
        if is_object(step.executor):
            inside.append(
                f"workflow {callee.name!r} cannot be sent to a process: its step "
                f"{step.name!r} runs on an executor of this one; give it "
                "executor='process' or 'thread'"
            )
        for _, part in step.action.callees():
            inside += _obstacles(part)
    if inside:
        yield from inside
        return
    # With its functions a workflow sends its branches and retries.
    reason = obstacle(callee)
    if reason is not None:
        what = callee.name if graph is None else f"workflow {callee.name!r}"
        yield f"{what} {reason}"


def _role(arrow: Arrow) -> str:
    role = {"next": "next_step", "branch": "branch", "failure": "on_failure"}
    label = f" {arrow.label!r}" if arrow.label and arrow.kind == "branch" else ""
    return role[arrow.kind] + label


def reachable(
    start: str, arrows: Mapping[str, Iterable[Arrow]], kinds: Iterable[str]
) -> set[str]:
    """Give the names of the steps that arrows of some kinds lead to from a step.

    A mistyped target counts as the step that it resembles, so that one typing
    mistake is reported once.
    """
    found = {start}
    waiting = [start]
    while waiting:
        for kind, _, target in arrows[waiting.pop()]:
            if kind not in kinds or target in found:
                continue
            if target not in arrows:
                target = closest(target, arrows) or start
            if target not in found:
                found.add(target)
                waiting.append(target)
    return found


def cycles(arrows: Mapping[str, Iterable[Arrow]]) -> Iterator[list[str]]:
    """Give the circles that a walk along all arrows closes, each as its steps."""
    finished: set[str] = set()
    for root in arrows:
        path: dict[str, Iterator[Arrow]] = {}
        if root not in finished:
            path[root] = iter(arrows[root])
        while path:
            name = next(reversed(path))
            for arrow in path[name]:
                if arrow.target in path:
                    names = list(path)
                    yield [*names[names.index(arrow.target) :], arrow.target]
                elif arrow.target in arrows and arrow.target not in finished:
                    path[arrow.target] = iter(arrows[arrow.target])
                    break
            else:
                finished.add(name)
                path.popitem()  # to delete it would leave a gap to walk over
