"""Mermaid: a picture as a flowchart in Mermaid's text.

As in DOT, names of steps never become names of nodes: these are ``s0``, ``s1``, … and
a name is only ever an escaped label.
"""

from __future__ import annotations

import json
import re
from itertools import count

from stepfunction.core.definition.graph import Graph
from stepfunction.drawing.picture import Box, Link, Picture, row_length
from stepfunction.drawing.signs import FAILURE, LINE, UNREACHED, Sign, shortened, shown
from stepfunction.drawing.trail import Trail


def to_mermaid(graph: Graph, trail: Trail | None = None) -> str:
    """Give the drawing of a graph as a Mermaid flowchart.

    Args:
        graph: What is drawn.
        trail: What an execution left on it; None to draw the graph alone.
    """
    return _Flowchart(Picture(graph, trail)).text


class _Flowchart:
    """A picture while it is written down."""

    def __init__(self, picture: Picture) -> None:
        self._numbers = count()
        title = _title(" · ".join(picture.title))
        self._lines = ["---", f"title: {title}", "---", "flowchart TB"]
        self._links = 0
        self._failures_taken: list[int] = []
        self._inputs: list[int] = []
        self._looks: dict[str, str] = {}
        self._boxes: list[str] = []  # their classes, which must follow the boxes
        start = self._new_id()
        self._lines.append(f'{start}((" "))')
        ids = self._add_boxes(picture)
        line = "==>" if picture.is_begun else "-->"
        self._add_link(f"{start} {line} {ids[picture.start]}")
        self._add_looks()

    @property
    def text(self) -> str:
        """The whole."""
        return "\n".join(self._lines) + "\n"

    def _new_id(self) -> str:
        return f"s{next(self._numbers)}"

    def _add_boxes(self, picture: Picture) -> dict[str, str]:
        """Write the boxes of a workflow, and their arrows; give their ids by name."""
        boxes = picture.boxes
        ids = {name: self._add_box(box) for name, box in boxes.items()}
        for box in boxes.values():
            for link in box.links:
                if link.is_drawn:
                    self._add_arrow(link, ids)
        return ids

    def _add_box(self, box: Box) -> str:
        if box.inside is None and not box.tasks:
            return self._add_node(box)
        cluster = self._open(box)
        if box.inside is not None:
            self._lines.append("direction TB")
            self._add_boxes(box.inside)
        else:
            ids = [self._add_box(task) for task in box.tasks]
            for above, below in zip(ids, ids[row_length(len(ids)) :]):
                self._add_link(f"{above} ~~~ {below}")
        self._lines.append("end")
        return cluster

    def _open(self, box: Box) -> str:
        cluster = self._new_id()
        title, said = box.title, box.said
        if box.note is not None:  # on one line: there is no room for more
            sign = box.note.sign
            self._looks[f"{sign.name}Box"] = _look(sign, is_box=True)
            self._boxes.append(f"class {cluster} {sign.name}Box")
            title = f"{title} {box.note.ended}".rstrip()
            said += [box.note.items, box.note.which]
        label = _escaped(" · ".join(filter(None, [title, *said])))
        self._lines.append(f'subgraph {cluster}["{label}"]')
        return cluster

    def _add_node(self, box: Box) -> str:
        node = self._new_id()
        left, right = _SHAPES[_shape(box)]
        label = "<br>".join(map(_escaped, box.lines))
        line = f"{node}{left}{label}{right}"
        if box.note is not None:
            sign = box.note.sign
            if sign.name not in self._looks:
                self._looks[sign.name] = _look(sign)
            line += f":::{sign.name}"
        self._lines.append(line)
        return node

    def _add_arrow(self, link: Link, ids: dict[str, str]) -> None:
        origin, label = ids[link.origin], link.label
        if link.target is None:
            target = self._new_id()
            self._lines.append(f'{target}(((" ")))')
        else:
            target = ids[link.target]
        line = "==>" if link.is_taken else "-->"
        if link.kind == "failure":
            line = "-.->"
            if link.is_taken:
                self._failures_taken.append(self._links)
        elif link.kind == "input":
            line = "-.-o"  # a circle at its end, for a failure's arrow is dotted too
            label = shortened(label)
            self._inputs.append(self._links)
        text = f'|"{_escaped(label)}"|' if label else ""
        self._add_link(f"{origin} {line}{text} {target}")

    def _add_link(self, line: str) -> None:
        self._lines.append(line)
        self._links += 1

    def _add_looks(self) -> None:
        self._lines += (f"classDef {name} {css}" for name, css in self._looks.items())
        self._lines += self._boxes
        if self._failures_taken:
            links = ",".join(map(str, self._failures_taken))
            self._lines.append(f"linkStyle {links} stroke:{FAILURE},stroke-width:3px")
        if self._inputs:
            links = ",".join(map(str, self._inputs))
            self._lines.append(f"linkStyle {links} stroke:{LINE},stroke-width:1px")


def _shape(box: Box) -> str:
    if box.shape == "step":
        if box.is_stack:  # as tasks, and its end is drawn beside it
            return "task"
        return "end" if box.may_end else "step"
    return box.shape


# What stands to the left and to the right of a label.
_SHAPES = {
    "step": ('("', '")'),
    "end": ('[["', '"]]'),
    "task": ('["', '"]'),
    "choice": ('{"', '"}'),
    "fail": ('{{"', '"}}'),
    "failure": ('{{"', '"}}'),
}


def _escaped(text: str) -> str:
    """Give a text as a label that shows just that text."""
    if _is_plain(text):
        return text
    escaped = _SPECIAL.sub(_code, shown(text))
    return escaped.replace("\n", "<br>")


def _code(found: re.Match[str]) -> str:
    return "".join(f"#{ord(character)};" for character in found[0])


def _title(text: str) -> str:
    plain = " ".join(shown(text).split())
    # A title knows no escapes, and is cut where a tag seems to begin.
    return json.dumps(plain.translate(_ANGLES), ensure_ascii=False)


def _look(sign: Sign, is_box: bool = False) -> str:
    fill = "none" if is_box else sign.fill
    ink = (LINE if sign is UNREACHED else sign.line) if is_box else sign.ink
    look = f"fill:{fill},stroke:{sign.line},color:{ink},stroke-width:{sign.width:g}px"
    dashes = {"dashed": ",stroke-dasharray:6 3", "dotted": ",stroke-dasharray:2 3"}
    return look + dashes.get(sign.style, "")


_ANGLES = str.maketrans("<>", "‹›")
_is_plain = re.compile(r"[A-Za-z][\w ]*", re.ASCII).fullmatch
# What is no letter, digit or plain point may mean something to Mermaid or Markdown.
_SPECIAL = re.compile(r"[!-'*+:-@\[-^`{-~]|^\s*\d+[.)]|^\s*-+|^\s+|\s+$", re.M)
