"""DOT: a workflow as a Graphviz drawing. The only file that imports pydot.

Names of steps never become names of nodes, which have a syntax of their own: nodes
are ``s0``, ``s1``, … and a name is only ever an escaped label.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import threading
import unicodedata
from collections.abc import Sequence
from importlib.util import find_spec
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from stepfunction.core.errors import DrawingError, did_you_mean
from stepfunction.core.graph import Arrow, FanOut, Graph, Step
from stepfunction.core.logger import logger

if TYPE_CHECKING:
    import pydot


FORMATS = ("svg", "png", "pdf", "dot")
# Lines and text outside boxes are readable on light and on dark backgrounds.
_INK, _PAPER, _LINE, _FAILURE = "#1f2937", "#ffffff", "#7b8794", "#d64550"
_FONT = "Helvetica"


def to_dot(graph: Graph) -> str:
    """Give the drawing of a graph as DOT text."""
    text: str = _Drawing(graph).dot.to_string()
    return text


def draw(graph: Graph, path: str | os.PathLike[str] | None, format: str | None) -> str:
    """Draw a graph into a file, as ``StepFunction.visualize``.

    Raises:
        DrawingError: If the format is unknown or cannot be had here.
    """
    target, kind = _target(graph.name, path, format)
    dot = _Drawing(graph).dot
    if kind == "dot":
        picture: bytes = str(dot.to_string()).encode()
    elif shutil.which("dot") is not None:
        picture = _laid_out_by_program(dot, kind)
    else:
        picture = _laid_out_in_process(dot, kind)
    target.write_bytes(picture)
    return str(target)


def _target(
    name: str, path: str | os.PathLike[str] | None, format: str | None
) -> tuple[Path, str]:
    """Say which file to write, in which format."""
    can_lay_out = shutil.which("dot") is not None or find_spec("pygraphviz") is not None
    kind = format.lower() if format is not None else None
    if kind is None and path is not None:
        kind = Path(path).suffix[1:].lower() or "svg"
    if kind is None and not can_lay_out:
        kind = "dot"
        logger().warning(
            "no Graphviz found, so the drawing of %r is written as DOT; "
            "install Graphviz, or the Python package pygraphviz, for SVG",
            name,
        )
    kind = "svg" if kind is None else kind
    if kind not in FORMATS:
        raise DrawingError(
            f"cannot draw {kind!r}{did_you_mean(kind, FORMATS)}; "
            f"the formats are {', '.join(FORMATS)}"
        )
    if kind != "dot" and not can_lay_out:
        raise DrawingError(
            f"drawing {kind.upper()} needs Graphviz, and there is none: "
            "'pip install pygraphviz' brings it along, or install your system's "
            "graphviz; format='dot' needs neither"
        )
    return Path(path if path is not None else f"{safe_file_name(name)}.{kind}"), kind


def safe_file_name(name: str) -> str:
    """Give a name without what file systems object to."""
    safe = re.sub(r"[^\w.-]+", "_", name).strip("._")
    return safe.encode()[:100].decode(errors="ignore") or "workflow"


def _laid_out_by_program(dot: pydot.Dot, kind: str) -> bytes:
    command = ["dot", f"-T{kind}"]
    text = dot.to_string().encode()
    try:
        run = subprocess.run(command, input=text, capture_output=True, check=True)
    except OSError as error:
        raise DrawingError(f"Graphviz's dot cannot be run: {error}") from error
    except subprocess.CalledProcessError as error:
        reason = error.stderr.decode(errors="replace").strip()
        raise DrawingError(
            f"Graphviz's dot could not draw {kind} and ended with exit code "
            f"{error.returncode}: {reason}"
        ) from error
    return run.stdout


_in_graphviz = threading.Lock()  # its library is not made for two threads at once


def _laid_out_in_process(dot: pydot.Dot, kind: str) -> bytes:
    import pygraphviz

    with _in_graphviz:
        drawing = pygraphviz.AGraph(string=dot.to_string())
        try:
            return cast(bytes, drawing.draw(format=kind, prog="dot"))
        except (OSError, ValueError) as error:
            raise DrawingError(f"pygraphviz could not draw {kind}: {error}") from error
        finally:
            drawing.close()


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
    """A graph while it is drawn, with all that is nested in it."""

    def __init__(self, graph: Graph) -> None:
        import pydot

        self._pydot = pydot
        self._numbers = count()
        self.dot = pydot.Dot(
            "workflow",
            graph_type="digraph",
            compound="true",
            bgcolor=_quoted("transparent"),
            fontname=_quoted(_FONT),
            fontcolor=_quoted(_LINE),
            label=_quoted(graph.name),
            labelloc="t",
            tooltip=_quoted(graph.name),
            ranksep="0.45",
            nodesep="0.35",
        )
        self.dot.set_node_defaults(
            shape="box",
            style=_quoted("rounded,filled"),
            fillcolor=_quoted(_PAPER),
            color=_quoted(_INK),
            fontcolor=_quoted(_INK),
            fontname=_quoted(_FONT),
            fontsize="12",
        )
        self.dot.set_edge_defaults(
            color=_quoted(_LINE),
            fontcolor=_quoted(_LINE),
            fontname=_quoted(_FONT),
            fontsize="11",
            arrowsize="0.8",
        )
        start = self._add_mark("start", "circle", self.dot)
        ends = self._add_steps(graph, self.dot)
        self._connect(start, ends[graph.start], {})

    def _new_id(self) -> str:
        return f"s{next(self._numbers)}"

    def _add_steps(self, graph: Graph, container: Any) -> dict[str, _Ends]:
        """Draw the steps of a graph into a container, and their arrows."""
        ends = {
            name: self._add_step(graph, step, container)
            for name, step in graph.table.items()
        }
        for name, step in graph.table.items():
            for arrow in step.arrows():
                self._connect(ends[name], ends[arrow.target], _arrow_look(arrow))
            if ends[name].cluster is not None and _may_end(step):
                mark = self._add_mark("end", "doublecircle", container)
                self._connect(ends[name], mark, {})
        return ends

    def _add_step(self, graph: Graph, step: Step, container: Any) -> _Ends:
        is_failure_step = step.name in graph.failure_steps
        if isinstance(step.action, Graph):
            return self._add_nested(step.name, step.action, container, is_failure_step)
        if not isinstance(step.action, FanOut):
            look = _step_look(step, is_failure_step)
            return self._add_node(step.name, container, look)
        cluster = self._new_cluster(step.name, is_failure_step)
        look = {"shape": "octagon" if is_failure_step else "box", "style": "filled"}
        tasks = [
            (
                self._add_nested(name, task, cluster, is_failure_step)
                if isinstance(task, Graph)
                else self._add_node(name, cluster, look)
            )
            for name, task in step.action.tasks.items()
        ]
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
        )

    def _add_nested(
        self, name: str, graph: Graph, container: Any, is_failure_step: bool
    ) -> _Ends:
        label = name if name == graph.name else f"{name}: {graph.name}"
        cluster = self._new_cluster(label, is_failure_step)
        ends = self._add_steps(graph, cluster)
        container.add_subgraph(cluster)
        last = [
            ends[step.name].exit
            for step in graph.table.values()
            if _may_end(step) and step.name not in graph.failure_steps
        ]
        start = ends[graph.start].entry
        depth = sum(end.depth for end in ends.values())
        return _Ends(start, last[-1] if last else start, cluster.get_name(), depth)

    def _new_cluster(self, label: str, is_failure_step: bool) -> Any:
        color = _FAILURE if is_failure_step else _LINE
        return self._pydot.Cluster(
            self._new_id(),
            label=_quoted(label),
            tooltip=_quoted(label),
            labeljust="l",
            style=_quoted("dashed" if is_failure_step else "rounded"),
            color=_quoted(color),
            fontcolor=_quoted(color),
            fontname=_quoted(_FONT),
            fontsize="12",
            margin="12",
        )

    def _add_node(self, label: str, container: Any, look: dict[str, Any]) -> _Ends:
        name = self._new_id()
        texts: dict[str, Any] = {"label": _quoted(label), "tooltip": _quoted(label)}
        container.add_node(self._pydot.Node(name, **texts, **look))
        return _Ends(name, name, None)

    def _add_mark(self, what: str, shape: str, container: Any) -> _Ends:
        look: dict[str, Any] = {
            "shape": shape,
            "label": _quoted(""),
            "tooltip": _quoted(what),
            "width": "0.2",
            "style": "filled",
            "fillcolor": _quoted(_LINE),
            "color": _quoted(_LINE),
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
    if is_failure_step:
        look = {"shape": "octagon", "style": "filled", "color": _quoted(_FAILURE)}
    if _may_end(step):
        look["peripheries"] = "2"
    return look


def _may_end(step: Step) -> bool:
    return step.next_step is None and step.branch is None


def _arrow_look(arrow: Arrow) -> dict[str, Any]:
    look: dict[str, Any] = {}
    if arrow.label:
        look["label"] = _quoted(f" {arrow.label} ")
    if arrow.kind == "failure":
        look.update(
            style="dashed", color=_quoted(_FAILURE), fontcolor=_quoted(_FAILURE)
        )
    return look


def _middle(row: Sequence[_Ends]) -> _Ends:
    return row[len(row) // 2]


def _quoted(text: str) -> str:
    """Give a text as a DOT string that shows just that text.

    White space is shown as a space, and what is no character as U+FFFD.
    """
    return '"' + "".join(map(_shown, text)) + '"'


def _shown(character: str) -> str:
    if character in _ESCAPES:
        return _ESCAPES[character]
    if character.isspace():
        return " "
    return "\ufffd" if unicodedata.category(character) in _NO_SHAPE else character


_ESCAPES = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "&": "&amp;"}
_NO_SHAPE = ("Cc", "Cs", "Cn")
_MOST_IN_A_ROW = 8
