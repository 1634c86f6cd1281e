"""Tree: a workflow as text for a terminal.

Steps stand below each other in the order in which they run, failure steps at the end.
An arrow is written out where it leads elsewhere than to the next line.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from stepfunction.core.definition.actions import FanOut, MapItems
from stepfunction.core.definition.branch import Arrow
from stepfunction.core.definition.graph import Graph, Step
from stepfunction.core.workers.executors import is_object
from stepfunction.drawing.captions import captions, inputs_of, task_captions
from stepfunction.drawing.crowds import crowded_targets, general_arrows


class _Line(NamedTuple):
    """A line of the drawing, and the lines below it that belong to it."""

    text: str
    below: list[_Line]


def to_tree(graph: Graph) -> str:
    """Give the drawing of a graph as lines of text."""
    lines = [shown(graph.name), *_drawn(_steps(graph), "")]
    return "".join(f"{line}\n" for line in lines)


def shown(name: str) -> str:
    """Give a name as one line can hold it: as it is, or with escapes."""
    return name if name.isprintable() else repr(name)


def _drawn(lines: list[_Line], indent: str) -> Iterator[str]:
    for number, (text, below) in enumerate(lines, 1):
        mark, space = ("└─", "   ") if number == len(lines) else ("├─", "│  ")
        yield f"{indent}{mark} {text}"
        yield from _drawn(below, indent + space)


def _steps(graph: Graph) -> list[_Line]:
    steps = sorted(_in_order(graph), key=lambda it: it.name in graph.failure_steps)
    followers = [*(step.name for step in steps[1:]), None]
    general = general_arrows(graph, crowded_targets(graph))
    return [
        _Line(
            _described(shown(step.name), _facts(graph, step, general)),
            [*_inputs(step), *_inside(step), *_arrows(step, follower, general)],
        )
        for step, follower in zip(steps, followers)
    ]


def _in_order(graph: Graph) -> list[Step]:
    """Give the steps so that each comes after those that lead to it, but for loops."""
    ended: list[Step] = []
    seen = {graph.start}
    path = [(graph.table[graph.start], _back_to_front(graph.table[graph.start]))]
    while path:
        step, targets = path[-1]
        name = next((it for it in targets if it not in seen), None)
        if name is None:
            ended.append(step)
            path.pop()
        else:
            seen.add(name)
            path.append((graph.table[name], _back_to_front(graph.table[name])))
    return ended[::-1]


def _back_to_front(step: Step) -> Iterator[str]:
    # What is walked last ends last, and so stands first.
    return (arrow.target for arrow in reversed(step.arrows()))


def _described(name: str, facts: Iterator[str]) -> str:
    listed = ", ".join(facts)
    return f"{name}  ({listed})" if listed else name


def _facts(graph: Graph, step: Step, general: Mapping[Arrow, str]) -> Iterator[str]:
    action = step.action
    is_parallel = isinstance(action, FanOut | MapItems)
    inner = (action.callee or action)
    if isinstance(inner, Graph):
        yield f"workflow {shown(inner.name)}"
    if isinstance(action, FanOut):
        yield "parallel"
    yield from map(shown, captions(step))
    if is_object(step.executor):
        yield f"on {type(step.executor).__name__}"
    elif step.executor == "process":
        yield "in processes" if is_parallel else "in a process"
    elif step.executor == "thread" and not is_parallel:
        yield "in a thread"
    if step.retry is not None:
        yield "with retries"
    if step.timeout is not None:
        yield f"at most {step.timeout:g} s"
    if step.name in graph.failure_steps:
        yield "failure step"
    yield from (shown(it) for arrow, it in general.items() if arrow.target == step.name)
    if step.next_step is None and step.branch is None:
        yield "end"


def _inside(step: Step) -> Iterator[_Line]:
    inner = (step.action.callee or step.action)
    if isinstance(inner, Graph):
        yield from _steps(inner)
    if isinstance(step.action, FanOut):
        for name, task in step.action.tasks.items():
            facts = list(map(shown, task_captions(step, name)))
            if isinstance(task, Graph):
                facts = [f"workflow {shown(task.name)}", *facts]
            below = _steps(task) if isinstance(task, Graph) else []
            yield _Line(_described(f"task {shown(name)}", iter(facts)), below)


def _inputs(step: Step) -> Iterator[_Line]:
    for origin, parameters in inputs_of(step).items():
        yield _Line(f"{shown(parameters)} ← {shown(origin)}", [])


def _arrows(
    step: Step, follower: str | None, general: Mapping[Arrow, str]
) -> Iterator[_Line]:
    for arrow in step.arrows():
        if arrow in general:  # which its failure step says
            continue
        if arrow.kind != "next" or arrow.label or arrow.target != follower:
            yield _Line(f"{_condition(arrow)} → {shown(arrow.target)}", [])


def _condition(arrow: Arrow) -> str:
    if arrow.kind == "failure":
        return f"on {arrow.label or 'failure'}"
    if arrow.kind == "next":
        return arrow.label or "next"
    return f"if {shown(arrow.label)}" if arrow.label else "maybe"
