"""Freezing: whether a workflow is sound, and the graph of one that is."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, cast

from stepfunction.core.definition.actions import Callee, MapItems, Pass
from stepfunction.core.definition.branch import Arrow
from stepfunction.core.definition.catches import steps_with_catches, target_problems
from stepfunction.core.definition.graph import Definition, Graph, Step
from stepfunction.core.definition.paths import cycles, reachable
from stepfunction.core.errors import DefinitionError, Problem
from stepfunction.core.frozen import Frozen
from stepfunction.core.logger import logger
from stepfunction.core.wording import did_you_mean, location
from stepfunction.core.workers.executors import is_object, runs_in_processes

__tracebackhide__ = True  # pytest shows the test and what is called, not us


class _Whole(Frozen):
    """What is checked, and what most checks look at.

    Attributes:
        definition: The workflow, each step with where its failures lead.
        arrows: Step name to the arrows that leave the step.
        apart: The steps that are more than a call in this thread, which few are.
    """

    __slots__ = ()

    definition: Definition
    arrows: dict[str, list[Arrow]]
    apart: dict[str, Step]


def freeze(definition: Definition, problems: Iterable[str] = ()) -> Graph:
    """Check a workflow and freeze it.

    Args:
        definition: The workflow, with graphs in the place of nested ones.
        problems: What has been found already.

    Raises:
        DefinitionError: If it is not sound, with every problem there is.
    """
    found = [*problems, *_start_problems(definition)]
    if definition.on_failure is not None:
        found += target_problems(definition)
        definition = definition.replace(steps=steps_with_catches(definition))
    steps = definition.steps
    whole = _Whole(
        definition,
        {name: step.arrows() for name, step in steps.items()},
        {name: step for name, step in steps.items() if not step.is_call_here},
    )
    for check in _CHECKS:
        found += check(whole)
    if found:
        raise DefinitionError(f"workflow {definition.name!r}", found)
    _tell_of_dead_ends(definition)
    return _graph(whole)


def _start_problems(definition: Definition) -> Iterator[str]:
    start, steps = definition.start, definition.steps
    if start is None:
        yield "no start step; name the first step with set_start_step()"
    elif start not in steps:
        yield f"start step {start!r} is no step{did_you_mean(start, steps)}"


def _target_problems(whole: _Whole) -> Iterator[str]:
    for origin, leaving in whole.arrows.items():
        for arrow in leaving:
            if arrow.target not in whole.arrows:
                yield (
                    f"step {origin!r}: {_role(arrow)} leads to {arrow.target!r}, "
                    f"which is no step{did_you_mean(arrow.target, whole.arrows)}"
                )


def _role(arrow: Arrow) -> str:
    role = {"next": "next_step", "branch": "branch", "failure": "on_failure"}
    label = f" {arrow.label!r}" if arrow.label and arrow.kind == "branch" else ""
    return role[arrow.kind] + label


def _lost_problems(whole: _Whole) -> Iterator[str]:
    start, arrows = whole.definition.start, whole.arrows
    if start is not None and start in arrows:
        reached = reachable(start, arrows)
        hints = {
            target: f"step {giver!r} gives its name; say next_step={target!r} there"
            for giver, target in _dead_ends(whole.definition.steps)
        } | dict(_mistaken_items(whole.definition.steps))
        hint = "lead to it with next_step, branch or on_failure, or leave it out"
        for name in arrows:
            if name not in reached:
                way = hints.get(name, hint)
                yield f"step {name!r} cannot be reached from {start!r}; {way}"


def _dead_ends(steps: Mapping[str, Step]) -> Iterator[tuple[str, str]]:
    """Give the pass steps that end the workflow with the name of a step, and that.

    To lead to it may have been meant.
    """
    for name, step in steps.items():
        if step.action.kind == "pass" and step.may_end and step.ends is None:
            result = cast(Pass, step.action).result
            if type(result) is str and result in steps:
                yield name, result


def _mistaken_items(steps: Mapping[str, Step]) -> Iterator[tuple[str, str]]:
    """Give what to say of steps whose names stand where a map step's items do."""
    for name, step in steps.items():
        if step.action.kind == "map" and step.may_end:
            items = cast(MapItems, step.action).items
            if type(items) is str and items in steps:
                yield items, (
                    f"step {name!r} takes its items from that key of its input; "
                    f"say next_step={items!r} there if it is to go on"
                )


def _tell_of_dead_ends(definition: Definition) -> None:
    for giver, target in _dead_ends(definition.steps):
        logger().warning(
            "step %r of %r gives the text %r, the name of a step, and ends the "
            "workflow; say next_step=%r to go on there, or ends='completed'",
            *(giver, definition.name, target, target),
        )


def _circle_problems(whole: _Whole) -> Iterator[str]:
    if whole.definition.max_steps is None:
        for cycle in cycles(whole.arrows):
            yield (
                f"steps run in a circle: {' → '.join(map(repr, cycle))}; "
                "lead out of it, or allow loops with StepFunction(max_steps=…)"
            )


def _sending_problems(whole: _Whole) -> Iterator[str]:
    return sending_problems(whole.apart)


def _input_problems(whole: _Whole) -> Iterator[str]:
    steps = whole.definition.steps.values()
    inputs = {step.name: step.inputs for step in steps if step.inputs}
    if inputs:
        from stepfunction.core.definition import named_inputs  # which few need

        start, arrows = whole.definition.start, whole.arrows
        yield from named_inputs.input_problems(inputs, start, arrows)


def _history_problems(whole: _Whole) -> Iterator[str]:
    if whole.definition.keep_history is not None:
        for step in whole.definition.steps.values():
            if step.may_be_undone:
                yield (
                    f"step {step.name!r} can be undone only with its output, which "
                    "keep_history forgets; leave out compensate or keep_history"
                )


_CHECKS = (
    _target_problems,
    _lost_problems,
    _circle_problems,
    _sending_problems,
    _input_problems,
    _history_problems,
)


def _graph(whole: _Whole) -> Graph:
    """Give the graph of a workflow that is sound."""
    values = whole.definition._values
    name, start, max_steps, keep_history, _, steps, description = values
    return Graph(
        name,
        start,
        dict(steps),
        frozenset(steps.keys() - reachable(start, whole.arrows, failures=False)),
        max_steps,
        any(map(_uses_processes, whole.apart.values())),
        keep_history,
        any(step.compensate is not None for step in steps.values())
        or any(step.may_be_undone for step in whole.apart.values()),
        description,
    )


def _uses_processes(step: Step) -> bool:
    return runs_in_processes(step.executor) or any(
        callee.nested is not None and callee.nested.uses_processes
        for _, callee in step.action.callees()
    )


def sending_problems(
    steps: Mapping[str, Step], override: Any = None, seen: set[int] | None = None
) -> Iterator[Problem]:
    """Say what keeps steps that run in processes from being sent there.

    Args:
        steps: Step name to step.
        override: The executor of every step that has one; None to leave it to them.
        seen: What has been looked at, by their ids, for workflows may be nested in
            more places than can be counted.
    """
    seen = set() if seen is None else seen
    for step in steps.values():
        if step.is_call_here:
            continue
        executor = override if override and step.executor else step.executor
        for task, callee in step.action.callees():
            where = location(step.name, task)
            graph: Graph | None = callee.nested
            found: Iterable[str] = ()
            if runs_in_processes(executor):
                found = _obstacles(callee)
            elif override is not None and graph is not None and id(graph) not in seen:
                seen.add(id(graph))
                found = sending_problems(graph.table, override, seen)
            yield from (Problem("executor", f"{where}: {it}") for it in found)


def _obstacles(callee: Callee) -> Iterator[str]:
    """Say what keeps a function, or a part of a nested workflow, in this process."""
    from stepfunction.core.envelope.refusals import obstacle

    graph: Graph | None = callee.nested
    if graph is None:
        reason = obstacle(callee)
        if reason is not None:
            yield f"{callee.name} {reason}"
        return
    # With its functions a workflow sends its branches and retries, and all nested.
    whole = obstacle(graph)
    bad: set[int] = set()  # in which there is a reason that has been told
    for it in (*graph.all_nested(), graph):
        inside = list(_inside(it, whole is None))
        yield from inside
        if inside or any(id(one) in bad for one in it.directly_nested):
            bad.add(id(it))
        elif whole is not None and (reason := obstacle(it)) is not None:
            bad.add(id(it))
            yield f"workflow {it.name!r} {reason}"


def _inside(graph: Graph, is_sendable: bool) -> Iterator[str]:
    """Say what keeps the steps of a workflow in this process."""
    for step in graph.table.values():
        if is_object(step.executor):
            yield (
                f"workflow {graph.name!r} cannot be sent to a process: its step "
                f"{step.name!r} runs on an executor of this one; give it "
                "executor='process' or 'thread'"
            )
        if not is_sendable:
            for _, part in step.action.callees():
                if part.nested is None:
                    yield from _obstacles(part)
