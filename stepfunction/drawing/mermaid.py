"""Mermaid: a workflow as a flowchart in Mermaid's text.

As in DOT, names of steps never become names of nodes: these are ``s0``, ``s1``, … and
a name is only ever an escaped label.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from itertools import count

from stepfunction.core.definition.actions import Fail, FanOut, MapItems
from stepfunction.core.definition.branch import Arrow
from stepfunction.core.definition.graph import Graph, Step
from stepfunction.drawing.captions import (
    captions,
    inputs_of,
    is_choice,
    task_captions,
)
from stepfunction.drawing.crowds import crowded_targets, general_arrows
from stepfunction.drawing.signs import FAILURE, LINE, UNREACHED, Sign, shortened, shown
from stepfunction.drawing.trail import Group, Note, Trail


def to_mermaid(graph: Graph, trail: Trail | None = None) -> str:
    """Give the drawing of a graph as a Mermaid flowchart.

    Args:
        graph: What is drawn.
        trail: What an execution left on it; None to draw the graph alone.
    """
    return _Flowchart(graph, trail).text


class _Flowchart:
    """A graph while it is written down, with all that is nested in it."""

    def __init__(self, graph: Graph, trail: Trail | None) -> None:
        self._numbers = count()
        title = [graph.name] if trail is None else [shortened(graph.name), *trail.lines]
        self._lines = ["---", f"title: {_title(' · '.join(title))}", "---"]
        self._lines.append("flowchart TB")
        self._links = 0
        self._failures_taken: list[int] = []
        self._inputs: list[int] = []
        self._looks: dict[str, str] = {}
        self._boxes: list[str] = []  # their classes, which must follow the boxes
        start = self._new_id()
        self._lines.append(f'{start}((" "))')
        ids = self._add_steps(graph, trail)
        is_taken = None if trail is None else trail.began
        self._link(start, ids[graph.start], None, is_taken)
        self._add_looks()

    @property
    def text(self) -> str:
        """The whole."""
        return "\n".join(self._lines) + "\n"

    def _new_id(self) -> str:
        return f"s{next(self._numbers)}"

    def _add_steps(self, graph: Graph, trail: Trail | None) -> dict[str, str]:
        """Write the steps of a graph, and their arrows; give their ids by name."""
        crowded = crowded_targets(graph)
        general = general_arrows(graph, crowded)
        ids = {
            name: self._add_step(
                graph,
                step,
                trail,
                [text for arrow, text in general.items() if arrow.target == name],
            )
            for name, step in graph.table.items()
        }
        for name, step in graph.table.items():
            taken = None if trail is None else trail.taken(name)
            for arrow in step.arrows():
                is_taken = None if taken is None else arrow in taken
                is_said = arrow in general and crowded[arrow.target] != name
                if is_taken or not is_said:
                    self._link(ids[name], ids[arrow.target], arrow, is_taken)
            for origin, parameters in inputs_of(step).items():
                self._inputs.append(self._links)
                # A circle at its end, for a failure's arrow is dotted too.
                label = _escaped(shortened(parameters))
                self._lines.append(f'{ids[origin]} -.-o|"{label}"| {ids[name]}')
                self._links += 1
            if isinstance(step.action, FanOut | MapItems | Graph) and step.may_end:
                mark = self._new_id()
                self._lines.append(f'{mark}(((" ")))')
                is_taken = None if trail is None else trail.end == name
                self._link(ids[name], mark, None, is_taken)
        return ids

    def _add_step(
        self, graph: Graph, step: Step, trail: Trail | None, general: Sequence[str]
    ) -> str:
        name, action = step.name, step.action
        note = None if trail is None else trail.note(name)
        said = [*captions(step), *general]
        is_map = isinstance(action, MapItems)
        inner_graph = (action.callee or action)
        if isinstance(inner_graph, Graph):
            inner = trail and trail.inside(name, None, inner_graph)
            if trail is not None and is_map:
                inner, which = trail.inside_item(name, inner_graph)
                counted = note.lines[1:2] if note is not None else ()
                said = [*said, *counted, *filter(None, [which])]
            return self._add_nested(name, inner_graph, note, inner, said)
        if isinstance(action, FanOut):
            return self._add_tasks(step, action, note, trail, said)
        left, right = _shape(step, name in graph.failure_steps)
        return self._add_node(name, left, right, note, said)

    def _add_tasks(
        self,
        step: Step,
        fan_out: FanOut,
        note: Note | None,
        trail: Trail | None,
        said: Sequence[str],
    ) -> str:
        box = self._open_box(step.name, note, said)
        names, groups = list(fan_out.tasks), list[Group]()
        if trail is not None:
            names, groups = trail.groups(step, fan_out)
        ids = []
        for name in names:
            task = fan_out.tasks[name]
            noted = None if trail is None else trail.note(step.name, name)
            undo = task_captions(step, name)
            if isinstance(task, Graph):
                inner = trail and trail.inside(step.name, name, task)
                ids.append(self._add_nested(name, task, noted, inner, undo))
            else:
                ids.append(self._add_node(name, '["', '"]', noted, undo))
        for group in groups:
            ids.append(self._add_node(group.text, '["', '"]', group.note))
        for above, below in zip(ids, ids[_MOST_IN_A_ROW:]):
            self._lines.append(f"{above} ~~~ {below}")
            self._links += 1
        self._lines.append("end")
        return box

    def _add_nested(
        self,
        name: str,
        graph: Graph,
        note: Note | None,
        trail: Trail | None,
        said: Sequence[str],
    ) -> str:
        label = name if name == graph.name else f"{name}: {graph.name}"
        box = self._open_box(label, note, said)
        self._lines.append("direction TB")
        self._add_steps(graph, trail)
        self._lines.append("end")
        return box

    def _open_box(self, name: str, note: Note | None, said: Sequence[str]) -> str:
        box = self._new_id()
        if note is not None:  # on one line: there is room for no more
            look = f"{note.sign.name}Box"
            self._looks[look] = _look(note.sign, is_box=True)
            self._boxes.append(f"class {box} {look}")
            name = " ".join([shortened(name), *note.lines[:1]])
        label = " · ".join([name, *said])
        self._lines.append(f'subgraph {box}["{_escaped(label)}"]')
        return box

    def _add_node(
        self,
        name: str,
        left: str,
        right: str,
        note: Note | None,
        said: Sequence[str] = (),
    ) -> str:
        node = self._new_id()
        line = f"{node}{left}{_label(name, note, said)}{right}"
        if note is not None:
            sign = note.sign
            self._looks[sign.name] = _look(sign)
            line += f":::{sign.name}"
        self._lines.append(line)
        return node

    def _link(
        self, source: str, target: str, arrow: Arrow | None, is_taken: bool | None
    ) -> None:
        kind, label = (arrow.kind, arrow.label) if arrow is not None else ("next", "")
        if kind == "failure":
            line = "-.->"
        else:
            line = "==>" if is_taken else "-->"
        if is_taken and kind == "failure":
            self._failures_taken.append(self._links)
        text = f'|"{_escaped(label)}"|' if label else ""
        self._lines.append(f"{source} {line}{text} {target}")
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


def _shape(step: Step, is_failure_step: bool) -> tuple[str, str]:
    """Give what stands to the left and to the right of a step's label."""
    if is_failure_step or isinstance(step.action, Fail):
        return '{{"', '"}}'
    if isinstance(step.action, MapItems):  # as tasks, and its end is drawn beside it
        return '["', '"]'
    if is_choice(step):
        return '{"', '"}'
    return ('[["', '"]]') if step.may_end else ('("', '")')


def _label(name: str, note: Note | None, said: Sequence[str]) -> str:
    lines = [name, *said]
    if note is not None:
        lines = [shortened(name), *said, *note.lines]
    return "<br>".join(map(_escaped, lines))


def _escaped(text: str) -> str:
    """Give a text as a label that shows just that text."""
    if _is_plain(text):
        return text
    escaped = _SPECIAL.sub(_code, "".join(map(shown, text)))
    return escaped.replace("\n", "<br>")


def _code(found: re.Match[str]) -> str:
    return "".join(f"#{ord(character)};" for character in found[0])


def _title(text: str) -> str:
    plain = " ".join("".join(map(shown, text)).split())
    # A title knows no escapes, and is cut where a tag seems to begin.
    return json.dumps(plain.translate(_ANGLES), ensure_ascii=False)


def _look(sign: Sign, is_box: bool = False) -> str:
    fill = "none" if is_box else sign.fill
    ink = (LINE if sign is UNREACHED else sign.line) if is_box else sign.ink
    look = f"fill:{fill},stroke:{sign.line},color:{ink},stroke-width:{sign.width:g}px"
    dashes = {"dashed": ",stroke-dasharray:6 3", "dotted": ",stroke-dasharray:2 3"}
    return look + dashes.get(sign.style, "")


_MOST_IN_A_ROW = 8
_ANGLES = str.maketrans("<>", "‹›")
_is_plain = re.compile(r"[A-Za-z][\w ]*", re.ASCII).fullmatch
# What is no letter, digit or plain point may mean something to Mermaid or Markdown.
_SPECIAL = re.compile(r"[!-'*+:-@\[-^`{-~]|^\s*\d+[.)]|^\s*-+|^\s+|\s+$", re.M)
