"""Report: an execution as one HTML file that needs nothing else.

The page is made of a transcript, so that one read from a file gives the same page. It
is complete without its script, which searches, opens and prints. A policy in the page
forbids the browser to load or run anything but the style and script that stand in it;
so nothing here has a ``style`` attribute, and bars are drawn with those of SVG.
"""

from __future__ import annotations

import os
from base64 import b64encode
from datetime import datetime, timezone
from hashlib import sha256
from html import escape
from importlib.resources import files
from pathlib import Path

from stepfunction.core.definition.graph import Graph
from stepfunction.core.errors import DrawingError
from stepfunction.core.history.execution import Execution
from stepfunction.core.history.records import StepRecord
from stepfunction.core.transcript.reading import from_document
from stepfunction.core.transcript.values import Redact
from stepfunction.core.transcript.writing import to_document
from stepfunction.core.wording import counted, duration_text
from stepfunction.drawing.dot import svg_for_notebook
from stepfunction.drawing.layout import safe_file_name
from stepfunction.drawing.picture import Box, Link, Picture
from stepfunction.drawing.signs import STATUS_MARKS, word
from stepfunction.drawing.texts import error_text, name_text
from stepfunction.drawing.timeline import Timeline
from stepfunction.drawing.trail import trail_of

_MOST_DRAWN = 500  # steps; a layouter takes long for more
_MOST_TASKS = 10  # that are named


def write_report(
    execution: Execution,
    path: str | os.PathLike[str] | None,
    redact: Redact | None,
    max_chars: int,
) -> str:
    """Write an execution into a file, as ``Execution.report``.

    Raises:
        DrawingError: If ``max_chars`` is no positive whole number.
    """
    if type(max_chars) is not int or max_chars < 1:
        raise DrawingError(
            f"max_chars is {max_chars!r}; give how many characters of each value to "
            "show, from 1"
        )
    name = f"{safe_file_name(execution.workflow)}.html"
    target = Path(path if path is not None else name)
    page = _Page(execution, redact, max_chars).text()
    # A text may have halves of characters, which no file can hold.
    target.write_bytes(page.encode(errors="replace"))
    return str(target)


class _Page:
    def __init__(
        self, execution: Execution, redact: Redact | None, max_chars: int
    ) -> None:
        self._picture = _picture(execution)
        # Only what has gone through the redaction is looked at from here on.
        self._execution = from_document(to_document(execution, redact))
        self._most = max_chars
        self._timeline = Timeline(self._execution, max_chars)
        self._rows = self._timeline.rows

    def text(self) -> str:
        style, script = _part("report.css"), _part("report.js")
        policy = (
            f"default-src 'none'; style-src {_hashed(style)}; "
            f"script-src {_hashed(script)}; base-uri 'none'; form-action 'none'"
        )
        it = self._execution
        title = f"{it.workflow}: {it.status.lower()}"
        parts = [
            "<!DOCTYPE html>",
            '<html lang="en"><head><meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{policy}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            '<meta name="color-scheme" content="light dark">',
            f"<title>{escape(title)}</title>",
            f"<style>{style}</style></head><body>",
            self._header(),
            "<main>",
            self._graph(),
            self._timeline.text(),
            "</main>",
            f"<script>{script}</script></body></html>",
        ]
        return "\n".join(parts)

    # --- the header -------------------------------------------------------------

    def _header(self) -> str:
        it = self._execution
        mark = STATUS_MARKS.get(it.status, "…")
        kind = it.status.lower()
        began = datetime.fromtimestamp(it.started, timezone.utc)
        steps = sum(row.is_step for row in self._rows)
        tasks = sum(row.is_task for row in self._rows)
        items = sum(row.items.total for row in self._rows if row.items is not None)
        undone = [row.record for row in self._rows if row.is_undoing]
        failed = sum(row.record.error is not None for row in self._rows)
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
        said = it.status.replace("_", " ")
        status = f'<span class="status {kind}">{mark} {said}</span>'
        return (
            f"<header><h1>{name_text(it.workflow)} {status}</h1><dl>{listed}</dl>"
            f"{self._alert()}</header>"
        )

    def _alert(self) -> str:
        error, culprits = self._execution.error, self._timeline.culprits
        if error is None:
            return ""
        where = "It ended with"
        if culprits:
            where = f"Failed at {' → '.join(map(self._timeline.link, culprits))}"
            error = self._rows[culprits[-1]].record.error or error
        return (
            f'<div class="alert" role="note"><p>{where}</p>'
            f"<pre>{error_text(error, self._most)}</pre></div>"
        )

    # --- the graph --------------------------------------------------------------

    def _graph(self) -> str:
        graph: Graph | None = self._execution.graph  # which a pickle leaves behind
        if self._picture is not None:
            label, inside = "Graph", self._picture
        elif graph is not None:
            label, inside = "Steps", self._table(graph)
        else:
            return ""
        return (
            '<section id="graph"><h2>Graph</h2><div class="picture" tabindex="0" '
            f'role="region" aria-label="{label}">{inside}</div></section>'
        )

    def _table(self, graph: Graph) -> str:
        """Give the steps as a table, where there is nothing to draw them with."""
        latest = {row.path: row for row in self._rows if row.depth == 0}
        lines = []
        for step, box in Picture(graph).boxes.items():
            row = latest.get((step,))
            name, ended = name_text(step), "not reached"
            if row is not None:
                name, ended = self._timeline.link(row.number), word(row.record.outcome)
            arrows = "<br>".join(
                f"{escape(_asked(box, link))} → {name_text(link.target)}"
                for link in box.links
                if link.target is not None
                and link.kind != "input"
                and not link.is_general
            )
            cells = (name, ended, _action_text(box), arrows or "the end")
            lines.append("<tr>" + "".join(f"<td>{cell}</td>" for cell in cells))
        heads = "".join(
            f'<th scope="col">{head}</th>'
            for head in ("Step", "Outcome", "What it does", "Leads to")
        )
        return f"<table><thead><tr>{heads}</thead><tbody>{''.join(lines)}</table>"


def _part(name: str) -> str:
    return files("stepfunction.drawing").joinpath(name).read_text(encoding="utf-8")


def _hashed(text: str) -> str:
    """Give how a policy names the one text that it allows."""
    return f"'sha256-{b64encode(sha256(text.encode()).digest()).decode()}'"


def _picture(execution: Execution) -> str | None:
    """Draw an execution, or give None where that cannot be done, or takes too long."""
    graph = execution.graph
    if graph is None or _size(graph) > _MOST_DRAWN:
        return None
    return svg_for_notebook(graph, trail_of(execution))


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


def _asked(box: Box, link: Link) -> str:
    """Say what an arrow of a box asks for."""
    branch = None if box.step is None else box.step.branch
    asks = "if" if branch is not None and branch.conditions else "on"
    said = {"next": "then", "branch": asks, "failure": "on failure"}[link.kind]
    return f"{said} {link.label}".strip()


def _action_text(box: Box) -> str:
    """Say what a step does."""
    said = [escape(text) for text in (*box.captions, *box.general)]
    if box.tasks:
        names = ", ".join(name_text(task.name) for task in box.tasks[:_MOST_TASKS])
        more = " …" * (len(box.tasks) > _MOST_TASKS)
        said.insert(0, f"{counted(len(box.tasks), 'task')} in parallel: {names}{more}")
    elif box.inside is not None:
        said.insert(0, f"workflow {name_text(box.inside.name)}")
    elif box.step is not None:
        action = box.step.action
        called = action.callee
        if called is not None:
            said.insert(0, f"<code>{escape(called.name)}</code>")
        elif not said:
            said.append(escape(action.name))
    return ", ".join(said)


def _undone_text(undone: list[StepRecord]) -> str:
    failed = sum(record.error is not None for record in undone)
    done = f"{len(undone) - failed:,}"
    return f"{done}, {failed:,} not" if failed else done
