"""DOT: a picture as a Graphviz drawing. The only file that imports pydot.

Names of steps never become names of nodes, which have a syntax of their own: nodes
are ``s0``, ``s1``, … and a name is only ever an escaped label.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from functools import lru_cache
from itertools import count
from typing import Any, NamedTuple

from stepfunction.core.definition.graph import Graph
from stepfunction.core.errors import DrawingError
from stepfunction.drawing.layout import has_layouter, laid_out, target_of
from stepfunction.drawing.picture import (
    Box,
    Link,
    Picture,
    row_length,
)
from stepfunction.drawing.signs import (
    FAILURE,
    INK,
    LINE,
    PAPER,
    PATH,
    SIGNS,
    UNREACHED,
    Sign,
    shortened,
    shown,
)
from stepfunction.drawing.trail import Trail

_FONT = "Helvetica"


def to_dot(graph: Graph, trail: Trail | None = None) -> str:
    """Give the drawing of a graph as DOT text.

    Args:
        graph: What is drawn.
        trail: What an execution left on it; None to draw the graph alone.
    """
    picture = Picture(graph, trail, is_laid_out=True)
    text: str = _Drawing(picture).dot.to_string()
    return text


def svg_for_notebook(graph: Graph, trail: Trail | None = None) -> str | None:
    """Give the drawing of a graph as an ``svg`` element, to stand in a page.

    It has no ids, for there may be several in one page. None where Graphviz cannot
    draw: a notebook has a text.
    """
    if not has_layouter():
        return None
    try:
        return _element(to_dot(graph, trail))
    except DrawingError:  # from Graphviz: a trail has all that it needs
        return None


# By what is drawn, for a page often shows an execution that was just read from a text.
@lru_cache(maxsize=16)
def _element(text: str) -> str:
    """Give the ``svg`` element of a DOT text, which takes long the first time."""
    picture = laid_out(text, "svg").decode()
    picture = picture[picture.index("<svg") :]  # what comes before has no place there
    return re.sub('<g id="[^"]*"', "<g", picture)


def draw(
    graph: Graph,
    trail: Trail | None,
    path: str | os.PathLike[str] | None,
    format: str | None,
) -> str:
    """Draw a graph into a file, as ``StepFunction.visualize``.

    Raises:
        DrawingError: If the format is unknown or cannot be had here.
    """
    target, kind = target_of(graph.name, path, format)
    target.write_bytes(laid_out(to_dot(graph, trail), kind))
    return str(target)


class _Ends(NamedTuple):
    """Where arrows to and from a step touch the drawing.

    A step that is drawn as a cluster is touched at a node inside it, and the arrow is
    cut at the cluster's edge.

    Attributes:
        entry: The node that arrows lead to.
        exit: The node that arrows come from.
        cluster: The cluster; None for a step that is a node.
        depth: About how many nodes it is high.
    """

    entry: str
    exit: str
    cluster: str | None
    depth: int = 1


class _Drawing:
    """A picture while it is drawn."""

    def __init__(self, picture: Picture) -> None:
        import pydot

        self._pydot = pydot
        self._numbers = count()
        self.dot = pydot.Dot(
            "workflow",
            graph_type="digraph",
            compound="true",
            bgcolor=_quoted("transparent"),
            fontname=_quoted(_FONT),
            fontcolor=_quoted(LINE),
            label=_quoted("\n".join(picture.title)),
            labelloc="t",
            tooltip=_quoted(picture.hint),
            ranksep="0.45",
            nodesep="0.35",
            # How often Graphviz may move boxes to make arrows shorter, for each step.
            **({"nslimit": "4"} if picture.has_columns else {}),
        )
        self.dot.set_node_defaults(
            shape="box",
            style=_quoted("rounded,filled"),
            fillcolor=_quoted(PAPER),
            color=_quoted(INK),
            fontcolor=_quoted(INK),
            fontname=_quoted(_FONT),
            fontsize="12",
        )
        self.dot.set_edge_defaults(
            color=_quoted(LINE),
            fontcolor=_quoted(LINE),
            fontname=_quoted(_FONT),
            fontsize="11",
            arrowsize="0.8",
        )
        start = self._add_mark("start", "circle", self.dot)
        ends = self._add_boxes(picture, self.dot)
        look = _arrow_look(Link("", picture.start, "next", "", picture.is_begun))
        self._connect(start, ends[picture.start], look)

    def _new_id(self) -> str:
        return f"s{next(self._numbers)}"

    def _add_boxes(self, picture: Picture, container: Any) -> dict[str, _Ends]:
        """Draw the boxes of a workflow into a container, and their arrows."""
        boxes = picture.boxes
        ends = {name: self._add_box(box, container) for name, box in boxes.items()}
        for box in boxes.values():
            for link in box.links:
                if not link.is_drawn:
                    continue
                if link.target is None:
                    target = self._add_mark("end", "doublecircle", container)
                else:
                    target = ends[link.target]
                self._connect(ends[link.origin], target, _arrow_look(link))
        return ends

    def _add_box(self, box: Box, container: Any) -> _Ends:
        if box.inside is not None:
            return self._add_nested(box, box.inside, container)
        if box.tasks:
            return self._add_tasks(box, container)
        name = self._new_id()
        node = self._pydot.Node(
            name,
            label=_quoted("\n".join(box.lines)),
            tooltip=_quoted(box.hint),
            **_node_look(box),
        )
        container.add_node(node)
        return _Ends(name, name, None)

    def _add_tasks(self, box: Box, container: Any) -> _Ends:
        cluster = self._new_cluster(box)
        tasks = [self._add_box(task, cluster) for task in box.tasks]
        # Many tasks stand in rows, which arrows that are not drawn keep apart.
        row = row_length(len(tasks))
        for above, below in zip(tasks, tasks[row:]):
            cluster.add_edge(
                self._pydot.Edge(above.exit, below.entry, style=_quoted("invis"))
            )
        container.add_subgraph(cluster)
        deepest = max(task.depth for task in tasks)
        last = [task for task in tasks[-row:] if task.depth == deepest] or tasks
        return _Ends(
            _middle(tasks[:row]).entry,
            _middle(last).exit,
            cluster.get_name(),
            deepest + (len(tasks) - 1) // row,
        )

    def _add_nested(self, box: Box, inside: Picture, container: Any) -> _Ends:
        cluster = self._new_cluster(box)
        ends = self._add_boxes(inside, cluster)
        container.add_subgraph(cluster)
        last = [
            ends[name].exit
            for name, it in inside.boxes.items()
            if it.may_end and not it.is_failure
        ]
        start = ends[inside.start].entry
        depth = sum(end.depth for end in ends.values())
        return _Ends(start, last[-1] if last else start, cluster.get_name(), depth)

    def _new_cluster(self, box: Box) -> Any:
        color = FAILURE if box.is_failure else LINE
        look: dict[str, Any] = {
            "style": _quoted("dashed" if box.is_failure else "rounded"),
            "color": _quoted(color),
            "fontcolor": _quoted(color),
        }
        if box.note is not None:
            look.update(_CLUSTER_LOOKS[box.note.sign.name])
        lines, newline = box.lines, "\\n"
        if len(lines) > 1:
            lines, newline = [*lines, ""], "\\l"  # which aligns a line to the left
        return self._pydot.Cluster(
            self._new_id(),
            label=_quoted("\n".join(lines), newline),
            tooltip=_quoted(box.hint),
            labeljust="l",
            fontname=_quoted(_FONT),
            fontsize="12",
            margin="12",
            **look,
        )

    def _add_mark(self, what: str, shape: str, container: Any) -> _Ends:
        look: dict[str, Any] = {
            "shape": shape,
            "label": _quoted(""),
            "tooltip": _quoted(what),
            "width": "0.2",
            "style": "filled",
            "fillcolor": _quoted(LINE),
            "color": _quoted(LINE),
        }
        name = self._new_id()
        container.add_node(self._pydot.Node(name, **look))
        return _Ends(name, name, None)

    def _connect(self, source: _Ends, target: _Ends, look: dict[str, Any]) -> None:
        if source.cluster != target.cluster:
            if source.cluster is not None:
                look = {**look, "ltail": source.cluster, "minlen": "2"}
            if target.cluster is not None:
                look = {**look, "lhead": target.cluster, "minlen": "2"}
        self.dot.add_edge(self._pydot.Edge(source.exit, target.entry, **look))


def _node_look(box: Box) -> dict[str, Any]:
    look: dict[str, Any] = dict(_SHAPES.get(box.shape, ()))
    if box.may_end and not box.has_end_beside:
        look["peripheries"] = "2"
        if not box.is_failure:  # the outer border stands on the page, dark or light
            look["color"] = _quoted(LINE)
    if box.is_stack:
        look["peripheries"] = "3"
    if box.note is not None:
        look.update(_NODE_LOOKS[box.note.sign.name])
    return look


def _arrow_look(link: Link) -> dict[str, Any]:
    look: dict[str, Any] = {}
    if link.kind == "input":  # which says nothing of the order
        return {"label": _quoted(f" {shortened(link.label)} "), **_INPUT}
    is_failure, is_taken = link.kind == "failure", link.is_taken
    if link.label:
        look["label"] = _quoted(f" {link.label} ")
    if is_failure:
        look["style"] = "dashed"
    if is_taken is False:
        look.update(_NOT_TAKEN)
    elif is_failure:
        look.update(color=_quoted(FAILURE), fontcolor=_quoted(FAILURE))
    elif is_taken:
        look.update(color=_quoted(PATH), fontcolor=_quoted(PATH))
    if is_taken:
        look["penwidth"] = "3"
    if link.is_aside:
        look["constraint"] = "false"
    return look


def _middle(row: Sequence[_Ends]) -> _Ends:
    return row[len(row) // 2]


def _quoted(text: str, newline: str = "\\n") -> str:
    """Give a text as a DOT string that shows just that text.

    White space is shown as a space, and what is no character as U+FFFD.
    """
    if not text.isprintable():
        text = newline.join(map(shown, text.translate(_ESCAPES).split("\n")))
        return f'"{text}"'
    return f'"{text.translate(_ESCAPES)}"'


_ESCAPES = {ord("\\"): "\\\\", ord('"'): '\\"', ord("&"): "&amp;"}
_NOT_TAKEN = {"penwidth": "0.6", "arrowsize": "0.6"}
_INPUT = {
    "fontsize": "9",
    "style": "dotted",
    "arrowhead": "vee",
    "arrowsize": "0.5",
    "constraint": "false",
}
_OCTAGON = {"shape": "octagon", "style": "filled", "color": _quoted(FAILURE)}
_SHAPES = {
    "choice": {"shape": "diamond", "style": "filled", "margin": _quoted("0.02")},
    "task": {"shape": "box", "style": "filled"},
    "fail": _OCTAGON,
    "failure": _OCTAGON,
}


def _ended_look(sign: Sign) -> dict[str, str]:
    return {
        "style": _quoted(",".join(filter(None, ("filled", sign.style)))),
        "fillcolor": _quoted(sign.fill),
        "color": _quoted(sign.line),
        "fontcolor": _quoted(sign.ink),
        "penwidth": f"{sign.width:g}",
    }


def _cluster_look(sign: Sign) -> dict[str, str]:
    color = _quoted(LINE if sign is UNREACHED else sign.line)
    look = {"style": _quoted(sign.style or "rounded"), "color": color}
    return {**look, "fontcolor": color, "penwidth": f"{sign.width:g}"}


_LOOKED_AT = (UNREACHED, *SIGNS.values())
_NODE_LOOKS = {sign.name: _ended_look(sign) for sign in _LOOKED_AT}
_CLUSTER_LOOKS = {sign.name: _cluster_look(sign) for sign in _LOOKED_AT}
