"""Dry runs: which steps a workflow would visit, without calling what they call."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from itertools import islice
from types import MappingProxyType
from typing import Any

from stepfunction.core.context import Context
from stepfunction.core.definition.actions import Nested
from stepfunction.core.definition.branch import Branch
from stepfunction.core.definition.calls import Call
from stepfunction.core.definition.graph import Step
from stepfunction.core.engine.start import begin, carry_out
from stepfunction.core.errors import DefinitionError, StepFunctionError
from stepfunction.core.history.execution import Execution
from stepfunction.core.raised import short_repr
from stepfunction.core.step_function import StepFunction
from stepfunction.core.wording import listed
from stepfunction.testing.mocks import argument_problems, by_first
from stepfunction.testing.stand_ins import StandIn, UsedUpError
from stepfunction.testing.ways import Way, find_spots, spots

__tracebackhide__ = True  # pytest shows the test and what is called, not us

_NONE_GIVEN: Any = object()
_MOST_LISTED = 10


class DryRunError(StepFunctionError, ValueError):
    """A dry run cannot go on, for lack of a result."""


class _Halt(BaseException):
    """Ends a dry run; no failure of a step, so that no step takes it."""


def dry_run(
    workflow: StepFunction,
    results: Mapping[Any, Any] = MappingProxyType({}),
    initial_input: Any = _NONE_GIVEN,
) -> Execution:
    """Walk a workflow as if its steps had given these results.

    No function of a step is called, nothing is undone, no listener told, no thread or
    process started, and nothing waited for or tried again. Branches are asked where
    results lead, with the callables that they have, and pass and fail steps do what
    they do. A step without a result gives its input on, as does each task of a
    parallel step, and nested workflows are walked.

    Args:
        workflow: The workflow.
        results: What steps come to in the end: keys and values as for
            ``mock_steps``, where a list has one for each visit. Of a map step it is
            the output as a whole, for its items are not known.
        initial_input: The first step's input.

    Returns:
        What would have happened, for ``assert_path``, ``visualize()`` and all else.

    Raises:
        DefinitionError: If the workflow is not sound, or has no such steps.
        DryRunError: If a result is lacking that a branch must know, or a list of
            them is used up.

    >>> from stepfunction import StepFunction
    >>> workflow = StepFunction("W").add_step("Ask", input, branch={"y": "Delete"})
    >>> _ = workflow.add_step("Delete", print).set_start_step("Ask")
    >>> [record.step for record in dry_run(workflow, {"Ask": "y"}).history]
    ['Ask', 'Delete']
    """
    problems = argument_problems(workflow, results, "results")
    if problems:
        raise DefinitionError("dry_run", problems)
    given: dict[Way, StandIn] = {}
    maps = [it for it in spots(workflow, results) if it.action.has_items]
    for key, spot in find_spots(workflow, results, problems).items():
        what = f"the result of {spot.what}"
        given[spot.way] = stand_in = StandIn(what, spot, results[key], as_whole=True)
        if spot.action.always_fails:
            problems.append(f"{spot.what} is a fail step, which gives no result")
        if spot.undoes:
            problems.append(f"{spot.what}: nothing is undone in a dry run")
            continue
        # A map step is not walked, for its items are not known.
        inside = (it for it in maps if it.way == spot.way[: len(it.way)] != spot.way)
        problems += (
            f"{spot.what} is inside {outer.what}, which is not walked, for its items "
            f"are not known; give the output of {outer.text!r} as a whole"
            for outer in islice(inside, 1)
        )
        problems += (f"{spot.what}: {problem}" for problem in stand_in.problems)
    if problems:
        raise DefinitionError(f"dry_run of {workflow.name!r}", problems)
    is_known = initial_input is not _NONE_GIVEN
    walk = _Walk(None if is_known else "the execution's input, initial_input=…")
    graph = walk.changed(workflow, given).compile()
    execution = begin(graph, initial_input if is_known else None, "inline", None)
    try:
        carry_out(execution)
    except _Halt as halt:
        raise DryRunError(str(halt)) from None
    return execution


class _Walk:
    """One dry run, which knows whether what it passes on is known.

    Args:
        lacking: What is made up of the input; None if nothing is.
    """

    def __init__(self, lacking: str | None) -> None:
        self.lacking = lacking

    def changed(
        self, workflow: StepFunction, given: Mapping[Way, StandIn], outer: str = ""
    ) -> StepFunction:
        """Give a workflow that goes the ways of one and calls nothing of it."""
        inner = by_first(given)
        changes: dict[str, Callable[[Step], Step]] = {
            name: partial(self.step, inner.get(name, {}), outer)
            for name in workflow.steps
        }
        return workflow._altered(changes)

    def step(self, given: Mapping[Way, StandIn], outer: str, step: Step) -> Step:
        """Give what goes the ways of a step and calls nothing of it."""
        what = outer + step.name
        is_parallel = bool(step.action.tasks) and () not in given
        branch = step.branch
        if branch is not None:
            branch = Branch(
                chooser=partial(self.choose, step, what),
                targets=tuple(arrow.target for arrow in branch.arrows()),
            )
        return step.replace(
            action=self.action(given, what, step.action),
            branch=branch,
            retry=None,
            executor="inline" if is_parallel else None,
            timeout=None,
            heartbeat=None,
            compensate=None,
        )

    def action(self, given: Mapping[Way, StandIn], what: str, action: Any) -> Any:
        """Give what a step or task does instead."""
        if () in given:
            return Call(partial(self.give, given[()]), context_name="context")
        if action.tasks:
            inner = by_first(given)
            return action.with_callees(
                lambda name, task: self.action(
                    inner.get(name, {}), f"{what}.{name}", task
                )
            )
        if action.nested is not None and not action.has_items:
            return Nested(self.changed(action.nested, given, f"{what}/"))
        if action.always_fails:
            return action
        if action.kind == "pass":
            return Call(partial(self.pass_on, action))
        return Call(partial(self.make_up, what))

    def give(self, stand_in: StandIn, value: Any, context: Context) -> Any:
        """Give the result of a step."""
        self.lacking = None
        try:
            return stand_in(value, context)
        except UsedUpError as error:
            raise _Halt(str(error)) from None

    def pass_on(self, action: Any, value: Any) -> Any:
        """Do what a pass step does."""
        if action.is_constant:
            self.lacking = None
        return action(value)

    def make_up(self, what: str, value: Any) -> Any:
        """Give the input on, for lack of a result."""
        self.lacking = f"results={{{what!r}: …}}"
        return value

    def choose(self, step: Step, what: str, output: Any) -> str | None:
        """Ask the branch of a step, if it can be asked."""
        assert step.branch is not None
        if self.lacking is None:
            return step.after(output)
        known = listed(step.branch.known(), _MOST_LISTED, text=short_repr)
        knows = "knows" if step.branch.table else "leads to"
        raise _Halt(
            f"where step {what!r} leads cannot be told without its result: its branch "
            f"{knows} {known}; give {self.lacking}"
        )
