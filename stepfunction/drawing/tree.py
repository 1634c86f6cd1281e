"""Tree: a picture as text for a terminal.

Steps stand below each other in the order in which they run, failure steps at the end.
An arrow is written out where it leads elsewhere than to the next line.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from stepfunction.core.definition.graph import Graph
from stepfunction.drawing.captions import conditions
from stepfunction.drawing.picture import Box, Link, Picture


class _Line(NamedTuple):
    """A line of the drawing, and the lines below it that belong to it."""

    text: str
    below: list[_Line]


def to_tree(graph: Graph) -> str:
    """Give the drawing of a graph as lines of text."""
    title = told(shown(graph.name), graph.description)
    lines = [title, *_drawn(_steps(Picture(graph)), "")]
    return "".join(f"{line}\n" for line in lines)


def shown(name: str) -> str:
    """Give a name as one line can hold it: as it is, or with escapes."""
    return name if name.isprintable() else repr(name)


def _drawn(lines: list[_Line], indent: str) -> Iterator[str]:
    for number, (text, below) in enumerate(lines, 1):
        mark, space = ("└─", "   ") if number == len(lines) else ("├─", "│  ")
        yield f"{indent}{mark} {text}"
        yield from _drawn(below, indent + space)


def _steps(picture: Picture) -> list[_Line]:
    boxes, lines = picture.boxes, []
    names = sorted(_in_order(picture), key=lambda it: boxes[it].shape == "failure")
    for name, follower in zip(names, [*names[1:], None]):
        box = boxes[name]
        below = [*_inputs(box), *_inside(box), *_arrows(box, follower)]
        text = _described(shown(name), _facts(box))
        lines.append(_Line(told(text, box.description), below))
    return lines


def _in_order(picture: Picture) -> list[str]:
    """Give the steps so that each comes after those that lead to it, but for loops."""
    ended: list[str] = []
    seen = {picture.start}
    path = [(picture.start, _back_to_front(picture.boxes[picture.start]))]
    while path:
        name, targets = path[-1]
        target = next((it for it in targets if it not in seen), None)
        if target is None:
            ended.append(name)
            path.pop()
        else:
            seen.add(target)
            path.append((target, _back_to_front(picture.boxes[target])))
    return ended[::-1]


def _back_to_front(box: Box) -> Iterator[str]:
    # What is walked last ends last, and so stands first.
    return (
        link.target
        for link in reversed(box.links)
        if link.target is not None and link.kind != "input"
    )


def _described(name: str, facts: Iterable[str]) -> str:
    listed = ", ".join(facts)
    return f"{name}  ({listed})" if listed else name


def told(text: str, description: str | None) -> str:
    """Give a line with the first line of what its author has said."""
    said = (description or "").strip().partition("\n")[0].rstrip()
    return f"{text}  – {shown(said)}" if said else text


def _facts(box: Box) -> Iterator[str]:
    if box.inside is not None:
        yield f"workflow {shown(box.inside.name)}"
    if box.tasks:
        yield "parallel"
    yield from map(shown, box.captions)
    if box.step is not None:
        yield from conditions(box.step)
        if box.shape == "failure":
            yield "failure step"
    yield from map(shown, box.general)
    if box.may_end:
        yield "end"


def _inside(box: Box) -> Iterator[_Line]:
    if box.inside is not None:
        yield from _steps(box.inside)
    for task in box.tasks:
        text = _described(f"task {shown(task.name)}", _facts(task))
        yield _Line(text, [*_inside(task)])


def _inputs(box: Box) -> Iterator[_Line]:
    for link in box.links:
        if link.kind == "input":
            yield _Line(f"{shown(link.label)} ← {shown(link.origin)}", [])


def _arrows(box: Box, follower: str | None) -> Iterator[_Line]:
    for link in box.links:
        if link.kind == "input" or link.target is None:
            continue
        if link.is_general:  # which its failure step says
            continue
        if link.kind != "next" or link.label or link.target != follower:
            yield _Line(f"{_condition(link)} → {shown(link.target)}", [])


def _condition(link: Link) -> str:
    if link.kind == "failure":
        return f"on {link.label or 'failure'}"
    if link.kind == "next":
        return link.label or "next"
    return f"if {shown(link.label)}" if link.label else "maybe"
