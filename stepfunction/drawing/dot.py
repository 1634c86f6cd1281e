"""DOT: a workflow as a Graphviz drawing. The only file that imports pydot.

Names of steps never become names of nodes, which have a syntax of their own: nodes
are ``s0``, ``s1``, … and a name is only ever an escaped label.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from itertools import count
from typing import Any, NamedTuple

from stepfunction.core.definition.actions import Fail, FanOut, MapItems
from stepfunction.core.definition.branch import Arrow
from stepfunction.core.definition.graph import Graph, Step
from stepfunction.core.errors import DrawingError
from stepfunction.core.wording import counted, listed
from stepfunction.drawing.captions import (
    captions,
    inputs_of,
    is_choice,
    task_captions,
)
from stepfunction.drawing.crowds import crowded_targets, general_arrows
from stepfunction.drawing.layout import has_layouter, laid_out, target_of
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
from stepfunction.drawing.trail import Group, Note, Trail

_FONT = "Helvetica"


def to_dot(graph: Graph, trail: Trail | None = None) -> str:
    """Give the drawing of a graph as DOT text.

    Args:
        graph: What is drawn.
        trail: What an execution left on it; None to draw the graph alone.
    """
    text: str = _Drawing(graph, trail).dot.to_string()
    return text


def to_svg(graph: Graph, trail: Trail | None = None) -> str:
    """Give the drawing of a graph as an ``svg`` element, to stand in a page.

    Raises:
        DrawingError: If there is no Graphviz, or it fails.
    """
    picture = laid_out(to_dot(graph, trail), "svg").decode()
    return picture[picture.index("<svg") :]  # what comes before has no place in a page


def svg_for_notebook(graph: Graph, trail: Trail | None = None) -> str | None:
    """Give ``to_svg``, or None where Graphviz cannot draw: a notebook has a text."""
    try:
        return to_svg(graph, trail) if has_layouter() else None
    except DrawingError:  # from Graphviz: a trail has all that it needs
        return None


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
        is_box: Whether an end of the workflow must be drawn beside it.
    """

    entry: str
    exit: str
    cluster: str | None
    depth: int = 1
    is_box: bool = False


class _Drawing:
    """A graph while it is drawn, with all that is nested in it."""

    def __init__(self, graph: Graph, trail: Trail | None) -> None:
        import pydot

        self._pydot = pydot
        self._numbers = count()
        self._boxes: dict[str, Any] = {}
        self.dot = pydot.Dot(
            "workflow",
            graph_type="digraph",
            compound="true",
            bgcolor=_quoted("transparent"),
            fontname=_quoted(_FONT),
            fontcolor=_quoted(LINE),
            label=_quoted(_titled(graph.name, trail)),
            labelloc="t",
            tooltip=_quoted(graph.name),
            ranksep="0.45",
            nodesep="0.35",
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
        ends = self._add_steps(graph, self.dot, trail)
        is_taken = None if trail is None else trail.began
        self._connect(start, ends[graph.start], _arrow_look(None, is_taken))

    def _new_id(self) -> str:
        return f"s{next(self._numbers)}"

    def _add_steps(
        self, graph: Graph, container: Any, trail: Trail | None
    ) -> dict[str, _Ends]:
        """Draw the steps of a graph into a container, and their arrows."""
        columns = _columns(graph)
        ends = {
            name: self._add_step(graph, step, container, trail, bool(columns))
            for name, step in graph.table.items()
        }
        crowded = crowded_targets(graph)
        general = general_arrows(graph, crowded)
        for arrow, text in general.items():
            self._say(text, ends[arrow.target])
        for name, step in graph.table.items():
            taken = None if trail is None else trail.taken(name)
            for arrow in step.arrows():
                is_taken = None if taken is None else arrow in taken
                look = _arrow_look(arrow, is_taken)
                if crowded.get(arrow.target, name) != name:
                    if arrow in general and not is_taken:
                        continue
                    if self._is_said(arrow, is_taken, ends[name]):
                        continue
                if columns and columns[name] != columns[arrow.target]:
                    if self._is_said(arrow, is_taken, ends[name]):
                        continue
                    look["constraint"] = "false"
                self._connect(ends[name], ends[arrow.target], look)
            for origin, parameters in inputs_of(step).items():
                if columns and columns[name] != columns[origin]:
                    self._say(f"{parameters} ← {shortened(origin)}", ends[name])
                else:
                    look = _input_look(parameters)
                    self._connect(ends[origin], ends[name], look)
            if ends[name].is_box and step.may_end:
                mark = self._add_mark("end", "doublecircle", container)
                is_taken = None if trail is None else trail.end == name
                self._connect(ends[name], mark, _arrow_look(None, is_taken))
        return ends

    def _is_said(self, arrow: Arrow, is_taken: bool | None, ends: _Ends) -> bool:
        """Say in its step's box where an arrow leads, if it is one of too many."""
        if arrow.kind != "failure" or is_taken:
            return False
        asked = arrow.label or "on failure"
        self._say(f"{asked} → {shortened(arrow.target)}", ends)
        return True

    def _say(self, text: str, ends: _Ends) -> None:
        """Add a line to a step's box."""
        box = self._boxes[ends.entry if ends.cluster is None else ends.cluster]
        line = _quoted(text)[1:]
        said = box.get_label()[:-1]
        if ends.cluster is None:
            box.set_label(f"{said}\\n{line}")
        else:  # whose lines are left-aligned, each by its own end
            said = said.removesuffix("\\l")
            box.set_label(f"{said}\\l{line[:-1]}\\l\"")

    def _add_step(
        self,
        graph: Graph,
        step: Step,
        container: Any,
        trail: Trail | None,
        is_folded: bool,
    ) -> _Ends:
        is_failure_step = step.name in graph.failure_steps
        note = None if trail is None else trail.note(step.name)
        action: Any = step.action
        is_map = isinstance(action, MapItems)
        inner_graph = action.call if is_map else action
        if is_folded and isinstance(inner_graph, Graph | FanOut):
            look = {**_step_look(step, is_failure_step), "peripheries": "3"}
            label, tooltip = _folded(step)
            return self._add_node(label, container, look, note, tooltip)
        said = captions(step)
        if isinstance(inner_graph, Graph):
            inner = trail and trail.inside(step.name, None, inner_graph)
            if trail is not None and is_map:
                inner, which = trail.inside_item(step.name, inner_graph)
                note = note and note._replace(lines=(*note.lines, which))
            return self._add_nested(
                step.name, inner_graph, container, is_failure_step, note, inner, said
            )
        if not isinstance(action, FanOut):
            look = _step_look(step, is_failure_step)
            ends = self._add_node(step.name, container, look, note, said=said)
            return ends._replace(is_box=is_map)
        cluster = self._new_cluster(step.name, is_failure_step, note, said)
        tasks = self._add_tasks(step, action, cluster, is_failure_step, trail)
        # Many tasks stand in rows, which arrows that are not drawn keep apart.
        columns = max(_MOST_IN_A_ROW, round(len(tasks) ** 0.5))
        for above, below in zip(tasks, tasks[columns:]):
            cluster.add_edge(
                self._pydot.Edge(above.exit, below.entry, style=_quoted("invis"))
            )
        container.add_subgraph(cluster)
        deepest = max(task.depth for task in tasks)
        last = [task for task in tasks[-columns:] if task.depth == deepest] or tasks
        return _Ends(
            _middle(tasks[:columns]).entry,
            _middle(last).exit,
            cluster.get_name(),
            deepest + (len(tasks) - 1) // columns,
            True,
        )

    def _add_tasks(
        self,
        step: Step,
        fan_out: FanOut,
        cluster: Any,
        is_failure_step: bool,
        trail: Trail | None,
    ) -> list[_Ends]:
        look = {"shape": "octagon" if is_failure_step else "box", "style": "filled"}
        names, groups = list(fan_out.tasks), list[Group]()
        if trail is not None:
            names, groups = trail.groups(step, fan_out)
        drawn = []
        for name in names:
            task = fan_out.tasks[name]
            note = None if trail is None else trail.note(step.name, name)
            said = task_captions(step, name)
            if isinstance(task, Graph):
                inner = trail and trail.inside(step.name, name, task)
                ends = self._add_nested(
                    name, task, cluster, is_failure_step, note, inner, said
                )
            else:
                ends = self._add_node(name, cluster, look, note, said=said)
            drawn.append(ends)
        for group in groups:
            stack = {**look, "peripheries": "3"}
            tooltip = listed(group.names, _MOST_NAMES)
            drawn.append(
                self._add_node(group.text, cluster, stack, group.note, tooltip)
            )
        return drawn

    def _add_nested(
        self,
        name: str,
        graph: Graph,
        container: Any,
        is_failure_step: bool,
        note: Note | None,
        trail: Trail | None,
        said: Sequence[str],
    ) -> _Ends:
        label = name if name == graph.name else f"{name}: {graph.name}"
        cluster = self._new_cluster(label, is_failure_step, note, said)
        ends = self._add_steps(graph, cluster, trail)
        container.add_subgraph(cluster)
        last = [
            ends[step.name].exit
            for step in graph.table.values()
            if step.may_end
            and step.name not in graph.failure_steps
            and not isinstance(step.action, Fail)
        ]
        start = ends[graph.start].entry
        depth = sum(end.depth for end in ends.values())
        exit = last[-1] if last else start
        return _Ends(start, exit, cluster.get_name(), depth, True)

    def _new_cluster(
        self,
        label: str,
        is_failure_step: bool,
        note: Note | None,
        said: Sequence[str],
    ) -> Any:
        color = FAILURE if is_failure_step else LINE
        look: dict[str, Any] = {
            "style": _quoted("dashed" if is_failure_step else "rounded"),
            "color": _quoted(color),
            "fontcolor": _quoted(color),
        }
        if note is not None:
            look.update(_CLUSTER_LOOKS[note.sign.name])
        cluster = self._pydot.Cluster(
            self._new_id(),
            label=_left_aligned(label, said, note) if note or said else _quoted(label),
            tooltip=_quoted(label),
            labeljust="l",
            fontname=_quoted(_FONT),
            fontsize="12",
            margin="12",
            **look,
        )
        self._boxes[str(cluster.get_name())] = cluster
        return cluster

    def _add_node(
        self,
        label: str,
        container: Any,
        look: dict[str, Any],
        note: Note | None = None,
        tooltip: str | None = None,
        said: Sequence[str] = (),
    ) -> _Ends:
        name = self._new_id()
        texts: dict[str, Any] = {
            "label": _quoted(_noted(label, said, note)),
            "tooltip": _quoted(tooltip or label),
        }
        if note is not None:
            look = {**look, **_NODE_LOOKS[note.sign.name]}
        self._boxes[name] = node = self._pydot.Node(name, **texts, **look)
        container.add_node(node)
        return _Ends(name, name, None)

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


def _step_look(step: Step, is_failure_step: bool) -> dict[str, Any]:
    look: dict[str, Any] = {}
    is_failure_step = is_failure_step or isinstance(step.action, Fail)
    if is_failure_step:
        look = {"shape": "octagon", "style": "filled", "color": _quoted(FAILURE)}
    elif is_choice(step):
        look = {"shape": "diamond", "style": "filled", "margin": _quoted("0.02")}
    if isinstance(step.action, MapItems):
        look["peripheries"] = "3"
    elif step.may_end:
        look["peripheries"] = "2"
        if not is_failure_step:  # the outer border stands on the page, dark or light
            look["color"] = _quoted(LINE)
    return look


def _columns(graph: Graph) -> dict[str, int]:
    """Give the column of each step where one would be too long, else nothing.

    Arrows from column to column do not say what stands below what. So a long chain is
    no strip that nobody can read, and long arrows do not take minutes to lay out; nor
    do the clusters that they would cross, for what is inside a step is not drawn then.
    """
    if len(graph.table) <= _MOST_IN_A_COLUMN:
        return {}
    depths, row = {graph.start: 0}, [graph.start]
    while row:
        below = []
        for name in row:
            for arrow in graph.table[name].arrows():
                if arrow.target not in depths:
                    depths[arrow.target] = depths[name] + 1
                    below.append(arrow.target)
        row = below
    return {name: depth // _ROWS for name, depth in depths.items()}


def _folded(step: Step) -> tuple[str, str]:
    """Give a label, and a tooltip, for a step that has no room for what is inside."""
    if isinstance(step.action, FanOut):
        tasks = list(step.action.tasks)
        label = f"{step.name} ({counted(len(tasks), 'task')})"
        return label, f"{step.name}: {listed(tasks, _MOST_NAMES)}"
    each = " for each item" if isinstance(step.action, MapItems) else ""
    label = f"{step.name} (workflow {getattr(step.action, 'name', '')}{each})"
    return label, label


def _input_look(parameters: str) -> dict[str, Any]:
    """Say how the arrow of a named input is drawn, which says nothing of the order."""
    return {
        "label": _quoted(f" {shortened(parameters)} "),
        "fontsize": "9",
        "style": "dotted",
        "arrowhead": "vee",
        "arrowsize": "0.5",
        "constraint": "false",
    }


def _arrow_look(arrow: Arrow | None, is_taken: bool | None) -> dict[str, Any]:
    """Say how an arrow is drawn.

    Args:
        arrow: The arrow; None for one from the start or to an end.
        is_taken: Whether the execution followed it; None where there is none.
    """
    look: dict[str, Any] = {}
    is_failure = arrow is not None and arrow.kind == "failure"
    if arrow is not None and arrow.label:
        look["label"] = _quoted(f" {arrow.label} ")
    if is_failure:
        look["style"] = "dashed"
    if is_taken is False:
        look.update(_ARROW_NOT_TAKEN)
    elif is_failure:
        look.update(color=_quoted(FAILURE), fontcolor=_quoted(FAILURE))
    elif is_taken:
        look.update(color=_quoted(PATH), fontcolor=_quoted(PATH))
    if is_taken:
        look["penwidth"] = "3"
    return look


def _noted(name: str, said: Sequence[str], note: Note | None) -> str:
    if note is None:
        return "\n".join([name, *said])
    return "\n".join([shortened(name), *said, *filter(None, note.lines)])


def _left_aligned(name: str, said: Sequence[str], note: Note | None) -> str:
    return _quoted(_noted(name, said, note) + "\n").replace("\\n", "\\l")


def _titled(name: str, trail: Trail | None) -> str:
    return name if trail is None else "\n".join([shortened(name), *trail.lines])


def _middle(row: Sequence[_Ends]) -> _Ends:
    return row[len(row) // 2]


def _quoted(text: str) -> str:
    """Give a text as a DOT string that shows just that text.

    White space is shown as a space, and what is no character as U+FFFD.
    """
    return '"' + "".join(map(_shown, text)) + '"'


def _shown(character: str) -> str:
    return _ESCAPES.get(character) or shown(character)


_ESCAPES = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "&": "&amp;"}
_MOST_IN_A_ROW = 8
_MOST_IN_A_COLUMN, _ROWS = 60, 25
_MOST_NAMES = 100
_ARROW_NOT_TAKEN = {"penwidth": "0.6", "arrowsize": "0.6"}


def _node_look(sign: Sign) -> dict[str, str]:
    style = ",".join(filter(None, ("filled", sign.style)))
    return {
        "style": _quoted(style),
        "fillcolor": _quoted(sign.fill),
        "color": _quoted(sign.line),
        "fontcolor": _quoted(sign.ink),
        "penwidth": f"{sign.width:g}",
    }


def _cluster_look(sign: Sign) -> dict[str, str]:
    color = LINE if sign is UNREACHED else sign.line
    return {
        "style": _quoted(sign.style or "rounded"),
        "color": _quoted(color),
        "fontcolor": _quoted(color),
        "penwidth": f"{sign.width:g}",
    }


_LOOKED_AT = (UNREACHED, *SIGNS.values())
_NODE_LOOKS = {sign.name: _node_look(sign) for sign in _LOOKED_AT}
_CLUSTER_LOOKS = {sign.name: _cluster_look(sign) for sign in _LOOKED_AT}
