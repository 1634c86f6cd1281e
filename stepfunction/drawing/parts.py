"""Parts: what a report says of an execution, as pieces of HTML for any page.

They are made of a transcript, so that one read from a file gives the same. They are
complete without style and script, and right where a policy forbids all that does not
come from files: nothing here has a ``style`` attribute, and bars are drawn with SVG's.
"""

from __future__ import annotations

from datetime import datetime, timezone
from functools import cached_property
from html import escape

from stepfunction.core.definition.graph import Graph
from stepfunction.core.errors import DrawingError
from stepfunction.core.history.execution import Execution
from stepfunction.core.history.records import StepRecord
from stepfunction.core.transcript.reading import from_document
from stepfunction.core.transcript.values import Redact
from stepfunction.core.transcript.writing import to_document
from stepfunction.core.wording import counted, duration_text
from stepfunction.drawing.dot import svg_for_notebook
from stepfunction.drawing.rows import Row
from stepfunction.drawing.signs import STATUS_MARKS, word
from stepfunction.drawing.tables import table_of
from stepfunction.drawing.texts import error_text, name_text, said_text
from stepfunction.drawing.timeline import Timeline
from stepfunction.drawing.trail import trail_of

_MOST_DRAWN = 500  # steps; a layouter takes long for more


class ReportParts:
    """The parts of a report, each an element of the class ``stepfunction``.

    Each is made when it is first asked for.
    """

    def __init__(
        self,
        execution: Execution,
        redact: Redact | None = None,
        max_chars: int = 5_000,
        prefix: str | None = None,
    ) -> None:
        if not isinstance(execution, Execution):
            raise DrawingError(f"a report is of an Execution, not of {execution!r:.60}")
        if type(max_chars) is not int or max_chars < 1:
            raise DrawingError(
                f"max_chars is {max_chars!r}; give how many characters of each value "
                "to show, from 1"
            )
        self._live = execution
        self._redact = redact
        self._most = max_chars
        self._prefix = f"sf-{execution.id}-" if prefix is None else prefix

    @cached_property
    def _execution(self) -> Execution:
        # Only what has gone through the redaction is looked at, but by the picture,
        # which has no values and mostly no texts.
        return from_document(to_document(self._live, self._redact, self._most))

    @cached_property
    def _timeline(self) -> Timeline:
        return Timeline(self._execution, self._most, escape(self._prefix))

    @property
    def title(self) -> str:
        """The name of the workflow and how it ended, as plain text."""
        return f"{self._execution.workflow}: {self._execution.status.lower()}"

    @cached_property
    def head(self) -> str:
        """What ran, when, how it ended, and which step made it fail."""
        return self.head_as("p")

    @cached_property
    def graph(self) -> str:
        """The workflow and the way that was taken; empty if this comes of a pickle.

        It is a picture, or a table where there is no Graphviz, or too much to draw.
        """
        return self.graph_below("")

    @cached_property
    def steps(self) -> str:
        """All that ran, in rows that open, with values and errors."""
        return self.steps_below("")

    def head_as(self, tag: str) -> str:
        """Give the head with a title that is an element of this name."""
        it, rows = self._execution, self._timeline.rows
        mark = STATUS_MARKS.get(it.status, "…")
        kind = it.status.lower()
        began = datetime.fromtimestamp(it.started, timezone.utc)
        steps = sum(row.is_step for row in rows)
        tasks = sum(row.is_task for row in rows)
        items = sum(row.items.total for row in rows if row.items is not None)
        undone = [row.record for row in rows if row.is_undoing]
        failed = sum(row.record.error is not None for row in rows)
        when = f"{began:%Y-%m-%d %H:%M:%S} UTC"
        ran = counted(steps, "step") + (f", {counted(tasks, 'task')}" if tasks else "")
        ran += f", {counted(items, 'item')}" if items else ""
        facts = [
            ("Started", f'<time datetime="{began.isoformat()}">{when}</time>'),
            ("Took", duration_text(it.duration)),
            ("Ran", ran),
            ("Failures", f"{failed:,}"),
            *([("Undone", _undone_text(undone))] if undone else []),
            ("Execution", f"<code>{escape(it.id)}</code>"),
        ]
        listed = "".join(f"<div><dt>{k}</dt><dd>{v}</dd></div>" for k, v in facts)
        ended = it.status.replace("_", " ")
        status = f'<span class="sf-status sf-{kind}">{mark} {ended}</span>'
        graph, said = it.graph, ""
        if graph is not None and graph.description:
            said = said_text(graph.description, self._most)
        return (
            f'<div class="stepfunction sf-head"><{tag} class="sf-title">'
            f"{name_text(it.workflow)} {status}</{tag}>{said}<dl>{listed}</dl>"
            f"{self._alert()}</div>"
        )

    def _alert(self) -> str:
        error, culprits = self._execution.error, self._timeline.culprits
        if error is None:
            return ""
        where = "It ended with"
        if culprits:
            where = f"Failed at {' → '.join(map(self._timeline.link, culprits))}"
            error = self._timeline.rows[culprits[-1]].record.error or error
        return (
            f'<div class="sf-alert" role="note"><p>{where}</p>'
            f"<pre>{error_text(error, self._most)}</pre></div>"
        )

    def graph_below(self, heading: str) -> str:
        """Give the graph below a heading, which is HTML."""
        drawn, graph = self._live, self._live.graph
        if self._redact is not None and graph is not None and _has_texts(graph):
            drawn, graph = self._execution, self._execution.graph
        picture = _picture(drawn)
        if picture is not None:
            label, inside = "Graph", picture
        elif graph is not None:
            label, inside = "Steps", table_of(graph, self._ended)
        else:  # which a pickle leaves behind
            return ""
        return (
            f'<div class="stepfunction sf-graph">{heading}<div class="sf-picture" '
            f'tabindex="0" role="region" aria-label="{label}">{inside}</div></div>'
        )

    def steps_below(self, heading: str) -> str:
        """Give the steps below a heading, which is HTML."""
        inside = self._timeline.text()
        return f'<div class="stepfunction sf-steps">{heading}{inside}</div>'

    @cached_property
    def _latest(self) -> dict[str, Row]:
        rows = self._timeline.rows
        return {row.path[0]: row for row in rows if len(row.path) == 1 and row.is_step}

    def _ended(self, step: str) -> tuple[str, str]:
        """Give a step's name with a link to its latest row, and how that ended."""
        row = self._latest.get(step)
        if row is None:
            return name_text(step), "not reached"
        return self._timeline.link(row.number), word(row.record.outcome)


def _picture(execution: Execution) -> str | None:
    """Draw an execution, or give None where that cannot be done, or takes too long."""
    graph = execution.graph
    if graph is None or _size(graph) > _MOST_DRAWN:
        return None
    return svg_for_notebook(graph, trail_of(execution))


def _has_texts(graph: Graph) -> bool:
    """Tell whether a picture shows a text that may be redacted: that of a fail step."""
    graphs = (graph, *graph.all_nested())
    return any(step.action.always_fails for it in graphs for step in it.table.values())


def _size(graph: Graph) -> int:
    """Count the steps and tasks of a graph, up to one more than is drawn."""
    count = 0
    waiting = [graph]
    while waiting and count <= _MOST_DRAWN:
        for step in waiting.pop().table.values():
            called = [it for _, it in step.action.callees()]
            count += len(called) or 1
            waiting += [it.nested for it in called if it.nested is not None]
    return count


def _undone_text(undone: list[StepRecord]) -> str:
    failed = sum(record.error is not None for record in undone)
    done = f"{len(undone) - failed:,}"
    return f"{done}, {failed:,} not" if failed else done
