"""Report: an execution as one HTML file that needs nothing else.

The page is made of a transcript, so that one read from a file gives the same page. It
is complete without its script, which searches, opens and prints. A policy in the page
forbids the browser to load or run anything but the style and script that stand in it;
so nothing here has a ``style`` attribute, and bars are drawn with those of SVG.
"""

from __future__ import annotations

import os
from base64 import b64encode
from collections.abc import Iterator
from datetime import datetime, timezone
from hashlib import sha256
from html import escape
from importlib.resources import files
from pathlib import Path
from pprint import pformat
from typing import Any, NamedTuple

from stepfunction.core.definition.actions import FanOut, MapItems
from stepfunction.core.definition.branch import Arrow
from stepfunction.core.definition.calls import Call
from stepfunction.core.definition.graph import Graph, Step
from stepfunction.core.envelope.omitted import Omitted
from stepfunction.core.errors import DrawingError
from stepfunction.core.history.execution import Execution
from stepfunction.core.history.records import StepRecord
from stepfunction.core.outcomes import Outcome
from stepfunction.core.transcript.exceptions import (
    cause_of,
    text_of,
    traceback_of,
    type_name,
)
from stepfunction.core.transcript.reading import from_document
from stepfunction.core.transcript.values import Redact
from stepfunction.core.transcript.writing import to_document
from stepfunction.core.wording import counted, duration_text
from stepfunction.drawing.captions import captions, inputs_of
from stepfunction.drawing.counts import ItemCounts, item_counts
from stepfunction.drawing.dot import svg_for_notebook
from stepfunction.drawing.layout import safe_file_name
from stepfunction.drawing.signs import SIGNS, STATUS_MARKS, word
from stepfunction.drawing.trail import trail_of

_MOST_DRAWN = 500  # steps; a layouter takes long for more
_MOST_CAUSES = 10
_DEEPEST = 8  # rows that stand deeper are indented no further
_WIDTH = 96  # of values, in characters
_TICKS = 4


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


class _Row(NamedTuple):
    """A line of the timeline.

    Attributes:
        number: Its place in the page.
        record: What it tells of.
        depth: How deep it is nested.
        path: The names that lead to it, its own last.
        follower: The row of the step that followed; None where none did.
        step: What the graph says of its step; None where there is no graph.
        is_undoing: Whether it tells of a compensation.
    """

    number: int
    record: StepRecord
    depth: int
    path: tuple[str, ...]
    follower: int | None
    step: Step | None = None
    is_undoing: bool = False

    @property
    def name(self) -> str:
        return self.path[-1]

    @property
    def is_step(self) -> bool:
        return self.record.task is None and not self.is_undoing

    @property
    def items(self) -> ItemCounts | None:
        return item_counts(self.record, self.step) if self.is_step else None

    @property
    def is_trouble(self) -> bool:
        return self.record.outcome is not Outcome.SUCCEEDED


class _Page:
    def __init__(
        self, execution: Execution, redact: Redact | None, max_chars: int
    ) -> None:
        self._picture = _picture(execution)
        # Only what has gone through the redaction is looked at from here on.
        self._execution = from_document(to_document(execution, redact))
        self._most = max_chars
        self._rows: list[_Row] = []
        self._add_rows(self._execution, (), 0)
        self._start = self._execution.started
        self._span = max(self._execution.duration, 1e-9)
        self._culprits = self._find_culprits()
        # The deepest row of each exception: there it is shown in full.
        self._homes = {
            id(row.record.error): row.number
            for row in sorted(self._rows, key=lambda row: row.depth)
            if row.record.error is not None
        }

    def _add_rows(self, it: Execution, path: tuple[str, ...], depth: int) -> None:
        latest: int | None = None  # the row of the step before
        graph: Graph | None = it._graph  # which a pickle leaves behind
        step_path: tuple[str, ...] = path
        for record in it.history:
            is_step = record.task is None
            number = len(self._rows)
            if is_step:
                if latest is not None:
                    self._rows[latest] = self._rows[latest]._replace(follower=number)
                latest, step_path = number, (*path, record.step)
            step = None if graph is None else graph.table.get(record.step)
            name = _task_name(record, step)
            own_path = step_path if is_step else (*step_path, name)
            own_depth = depth if is_step else depth + 1
            self._rows.append(_Row(number, record, own_depth, own_path, None, step))
            if record.child is not None:
                self._add_rows(record.child, own_path, own_depth + 1)
        for record in it.compensations:
            step = None if graph is None else graph.table.get(record.step)
            name = f"undo {record.step}"
            if record.task is not None:
                name += f" / {_task_name(record, step)}"
            row = _Row(len(self._rows), record, depth, (*path, name), None, step, True)
            self._rows.append(row)

    def _find_culprits(self) -> tuple[int, ...]:
        """Give the rows from the step that failed to what made it fail."""
        blame = self._execution._blame
        if blame is None:
            return ()
        found = [
            row.number
            for row in self._rows
            if row.path == (blame.step,)
            and row.record.error is blame.error
            and not row.is_undoing
        ][-1:]
        while found:
            top = self._rows[found[-1]]
            inner = [
                row
                for row in self._rows[top.number + 1 :]
                if row.path[:-1] == top.path
                and row.record.error is not None
                and not row.is_undoing
            ]
            if not inner:
                break
            # The first in time is what made the rest fail.
            first = min(inner, key=lambda row: _ended(row.record))
            found.append(first.number)
        return tuple(found)

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
            self._timeline(),
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
        undone = [row.record for row in self._rows if row.is_undoing]
        items = sum(row.items.total for row in self._rows if row.items is not None)
        tasks = sum(
            row.record.task is not None
            and not (row.is_undoing or _is_item(row.record, row.step))
            for row in self._rows
        )
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
            f"<header><h1>{_said(it.workflow)} {status}</h1><dl>{listed}</dl>"
            f"{self._alert()}</header>"
        )

    def _alert(self) -> str:
        error = self._execution.error
        if error is None:
            return ""
        links = " → ".join(
            f'<a href="#r{number}">{_said(self._rows[number].name)}</a>'
            for number in self._culprits
        )
        where = f"Failed at {links}" if links else "It ended with"
        if links:
            error = self._rows[self._culprits[-1]].record.error or error
        return (
            f'<div class="alert" role="note"><p>{where}</p>'
            f"<pre>{self._headline(error)}</pre></div>"
        )

    # --- the graph --------------------------------------------------------------

    def _graph(self) -> str:
        graph: Graph | None = self._execution._graph  # which a pickle leaves behind
        if self._picture is not None:
            inside = (
                '<div class="picture" tabindex="0" role="region" '
                f'aria-label="Graph">{self._picture}</div>'
            )
        elif graph is not None:
            inside = self._table(graph)
        else:
            return ""
        return f'<section id="graph"><h2>Graph</h2>{inside}</section>'

    def _table(self, graph: Graph) -> str:
        """Give the steps as a table, where there is nothing to draw them with."""
        latest = {row.path: row for row in self._rows if row.depth == 0}
        lines = []
        for step in graph.table.values():
            row = latest.get((step.name,))
            ended = "not reached" if row is None else word(row.record.outcome)
            name = _said(step.name)
            if row is not None:
                name = f'<a href="#r{row.number}">{name}</a>'
            arrows = "<br>".join(
                f"{escape(_arrow_text(step, arrow))} → {_said(arrow.target)}"
                for arrow in step.arrows()
            )
            cells = (name, ended, _action_text(step), arrows or "the end")
            lines.append("<tr>" + "".join(f"<td>{cell}</td>" for cell in cells))
        heads = "".join(
            f'<th scope="col">{head}</th>'
            for head in ("Step", "Outcome", "What it does", "Leads to")
        )
        return (
            '<div class="picture" tabindex="0" role="region" aria-label="Steps">'
            f"<table><thead><tr>{heads}</thead><tbody>{''.join(lines)}</table></div>"
        )

    # --- the timeline -----------------------------------------------------------

    def _timeline(self) -> str:
        if not self._rows:
            return "<section><h2>Timeline</h2><p>Nothing ran.</p></section>"
        ticks = "".join(
            f'<text x="{100 * tick / _TICKS:g}%" y="1em" class="t{tick}">'
            f"{duration_text(self._span * tick / _TICKS) if tick else '0'}</text>"
            for tick in range(_TICKS + 1)
        )
        rows = "\n".join(map(self._row, self._rows))
        return (
            '<section id="timeline"><h2>Timeline</h2>'
            '<div class="tools" hidden>'
            '<input type="search" id="search" placeholder="Search by name" '
            'aria-label="Search by name" autocomplete="off" spellcheck="false">'
            '<label><input type="checkbox" id="trouble"> only what did not succeed'
            '</label><button type="button" id="open">Open all</button>'
            '<button type="button" id="close">Close all</button>'
            '<output id="count" for="search trouble"></output>'
            '<span class="hint"><kbd>/</kbd> search <kbd>↑</kbd> <kbd>↓</kbd> move '
            "<kbd>Enter</kbd> open</span></div>"
            f'<div class="axis" aria-hidden="true"><svg class="bar">{ticks}</svg></div>'
            f'<div id="rows">{rows}</div></section>'
        )

    def _row(self, row: _Row) -> str:
        record, depth = row.record, min(row.depth, _DEEPEST)
        sign = SIGNS[record.outcome]
        said = word(record.outcome).removeprefix(sign.mark).strip()
        classes = f"row {sign.name}" + (f" d{depth}" if depth else "")
        classes += " trouble" if row.is_trouble else ""
        is_open = " open" if row.number in self._culprits[-1:] else ""
        facts = []
        counts = row.items
        if counts is not None:
            facts.append(counts.text)
        if len(record.attempts) > 1:
            facts.append(counted(len(record.attempts), "attempt"))
        if row.is_trouble:
            facts.append(said)
        took = "" if record.started is None else duration_text(record.duration)
        names = escape(" / ".join(row.path).lower())
        subject = f'id="r{row.number}" data-name="{names}"'
        return (
            f'<details class="{classes}" {subject}{is_open}>'
            f'<summary><span class="mark" role="img" aria-label="{said}">{sign.mark}'
            f'</span><span class="name">{_said(row.name)}</span>'
            f'<span class="facts">{", ".join(facts)}</span>'
            f'<span class="took">{took}</span>{self._bar(record)}</summary>'
            f'<div class="body">{self._body(row)}</div></details>'
        )

    def _bar(self, record: StepRecord) -> str:
        attempts = record.attempts
        if record.started is None:
            return '<svg class="bar"></svg>'
        bars = [
            f'<rect class="{SIGNS[it.outcome].name}" y="4" height="10" rx="1" '
            f"{self._place(it.started, it.duration)}/>"
            for it in attempts
        ]
        if len(bars) > 1:  # and the pauses between them
            place = self._place(record.started, record.duration)
            bars.insert(0, f'<rect class="pause" y="8.5" height="1" {place}/>')
        return f'<svg class="bar" aria-hidden="true">{"".join(bars)}</svg>'

    def _place(self, started: float, seconds: float) -> str:
        at = min(max((started - self._start) / self._span, 0.0), 1.0)
        share = min(max(seconds / self._span, 0.0), 1.0 - at)
        return f'x="{100 * at:.6g}%" width="{100 * share:.4g}%"'

    def _body(self, row: _Row) -> str:
        record = row.record
        facts = [word(record.outcome)]
        if record.started is not None:
            began = duration_text(max(record.started - self._start, 0.0))
            facts.append(f"began after {began}")
            facts.append(f"took {duration_text(record.duration)}")
        if row.follower is not None:
            name = _said(self._rows[row.follower].name)
            facts.append(f'followed by <a href="#r{row.follower}">{name}</a>')
        parts = [f'<p class="said">{" · ".join(facts)}</p>']
        if len(row.path) > 1:
            parts.append(f'<p class="said">in {_said(" → ".join(row.path[:-1]))}</p>')
        parts += (f'<p class="said">{escape(text)}</p>' for text in self._told(row))
        if len(record.attempts) > 1:
            parts.append(self._attempts(record))
        title = "Output that is undone" if row.is_undoing else "Input"
        parts.append(self._value(title, record.input))
        if record.error is None:
            title = "What undoing returned" if row.is_undoing else "Output"
            parts.append(self._value(title, record.output))
        else:
            parts.append(self._error(record.error, row.number))
        return "".join(parts)

    def _told(self, row: _Row) -> Iterator[str]:
        """Say what is special about a row, in a sentence each."""
        step, counts = row.step, row.items
        if counts is not None:
            stopped = counts.total - counts.succeeded - counts.failed
            said = [f"{counted(counts.total, 'item')}: {counts.succeeded:,} succeeded"]
            said += [f"{counts.failed:,} failed"] if counts.failed else []
            said += [f"{stopped:,} stopped"] if stopped else []
            below = sum(it.path[:-1] == row.path for it in self._rows)
            said += [f"{below:,} have rows of their own"] * (below < counts.total)
            yield ", ".join(said)
        if step is None or not row.is_step:
            return
        if captions(step):
            yield " · ".join(captions(step))
        for origin, parameters in inputs_of(step).items():
            yield f"{parameters} from {origin}"

    def _attempts(self, record: StepRecord) -> str:
        lines = "".join(
            f"<tr><td>{it.number}<td>{word(it.outcome)}"
            f"<td>{duration_text(max(it.started - self._start, 0.0))}"
            f"<td>{duration_text(it.duration)}"
            f"<td>{'' if it.error is None else self._headline(it.error)}"
            for it in record.attempts
        )
        heads = "".join(
            f'<th scope="col">{head}</th>'
            for head in ("Attempt", "Outcome", "Began after", "Took", "Error")
        )
        return f"<table><thead><tr>{heads}</thead><tbody>{lines}</table>"

    def _value(self, title: str, value: Any) -> str:
        text = escape(self._cut(_value_text(value, self._most)))
        return f"<h3>{title}</h3><pre>{text}</pre>"

    def _error(self, error: BaseException, number: int) -> str:
        parts = []
        title = "Error"
        cause: BaseException | None = error
        for _ in range(_MOST_CAUSES):
            if cause is None:
                break
            parts.append(
                f'<h3>{title}</h3><pre class="error">{self._headline(cause)}</pre>'
            )
            home = self._homes.get(id(cause), number)
            if home != number:
                name = _said(" → ".join(self._rows[home].path))
                parts.append(f'<p class="said">See <a href="#r{home}">{name}</a>.</p>')
                break
            trace = traceback_of(cause)
            if trace is not None:
                shown = escape(self._cut(trace.strip("\n"), from_end=True))
                parts.append(f'<h3>Traceback</h3><pre class="trace">{shown}</pre>')
            title, cause = "Caused by", cause_of(cause)
        return "".join(parts)

    def _headline(self, error: BaseException) -> str:
        name = type_name(error).removeprefix("builtins.")
        name = name.removeprefix("stepfunction.core.errors.")
        text = self._cut(text_of(error))
        return f"<b>{escape(name)}</b>" + (f": {escape(text)}" if text else "")

    def _cut(self, text: str, from_end: bool = False) -> str:
        """Cut a text; a traceback at its beginning, since its end says most."""
        if len(text) <= self._most:
            return text
        left = f"… ({len(text) - self._most:,} characters left out)"
        if from_end:
            return f"{left}\n{text[-self._most :]}"
        return f"{text[: self._most]}{left}"


def _part(name: str) -> str:
    return files("stepfunction.drawing").joinpath(name).read_text(encoding="utf-8")


def _hashed(text: str) -> str:
    """Give how a policy names the one text that it allows."""
    return f"'sha256-{b64encode(sha256(text.encode()).digest()).decode()}'"


def _picture(execution: Execution) -> str | None:
    """Draw an execution, or give None where that cannot be done, or takes too long."""
    graph = execution._graph
    if graph is None or _size(graph) > _MOST_DRAWN:
        return None
    return svg_for_notebook(graph, trail_of(execution))


def _size(graph: Graph) -> int:
    """Count the steps and tasks of a graph, up to one more than is drawn."""
    count = 0
    waiting = [graph]
    while waiting and count <= _MOST_DRAWN:
        for step in waiting.pop().table.values():
            for _, action in step.action.callees():
                count += 1
                if isinstance(action, Graph):
                    waiting.append(action)
    return count


def _said(name: str) -> str:
    """Give a name so that it is seen, also where it is nothing but space."""
    return escape(name) if name.strip() else f"<i>{escape(repr(name))}</i>"


def _ended(record: StepRecord) -> float:
    return float("inf") if record.started is None else record.started + record.duration


def _arrow_text(step: Step, arrow: Arrow) -> str:
    asks = "if" if step.branch is not None and step.branch.conditions else "on"
    said = {"next": "then", "branch": asks, "failure": "on failure"}[arrow.kind]
    return f"{said} {arrow.label}".strip()


def _action_text(step: Step) -> str:
    if isinstance(step.action, FanOut):
        tasks = list(step.action.tasks)
        shown = ", ".join(map(_said, tasks[:10])) + (" …" * (len(tasks) > 10))
        return f"{counted(len(tasks), 'task')} in parallel: {shown}"
    said = escape(", ".join(captions(step)))
    action = (step.action.callee or step.action)
    if isinstance(action, Graph):
        name = f"workflow {_said(action.name)}"
        return f"{name}, {said}" if said else name
    if not isinstance(action, Call):
        return said or escape(action.name)
    name = f"<code>{escape(action.name)}</code>"
    return f"{name}, {said}" if said else name


def _is_item(record: StepRecord, step: Step | None) -> bool:
    is_of_map = step is not None and isinstance(step.action, MapItems)
    return is_of_map and record.task is not None


def _task_name(record: StepRecord, step: Step | None) -> str:
    return f"item {record.task}" if _is_item(record, step) else str(record.task)


def _undone_text(undone: list[StepRecord]) -> str:
    failed = sum(record.error is not None for record in undone)
    done = f"{len(undone) - failed:,}"
    return f"{done}, {failed:,} not" if failed else done


class _Text(NamedTuple):
    """Is shown as it is."""

    text: str

    def __repr__(self) -> str:
        return self.text


def _value_text(value: Any, most: int) -> str:
    """Give a value as Python would write it, and not much more of it than is shown."""
    if isinstance(value, str):
        return value if "\n" in value else repr(value[: most + 1])
    if isinstance(value, Omitted):
        return value.text
    trimmed = _trimmed(value, [most])
    return pformat(trimmed, width=_WIDTH, compact=True, sort_dicts=False)


def _trimmed(value: Any, room: list[int]) -> Any:
    """Give a value without what there is no room for: it may be very large."""
    if isinstance(value, dict):
        found: dict[Any, Any] = {}
        for key, item in value.items():
            if room[0] <= 0:
                found[_Text("…")] = _Text(f"{len(value) - len(found):,} more")
                break
            found[_trimmed(key, room)] = _trimmed(item, room)
        return found
    if isinstance(value, list | tuple):
        items: list[Any] = []
        for item in value:
            if room[0] <= 0:
                items.append(_Text(f"… {len(value) - len(items):,} more"))
                break
            items.append(_trimmed(item, room))
        return items if isinstance(value, list) else tuple(items)
    if isinstance(value, Omitted):
        shown: Any = _Text(value.text)
    elif isinstance(value, BaseException):
        name = type_name(value).removeprefix("builtins.")
        shown = _Text(f"<{name}: {text_of(value)}>")
    else:
        shown = value[: room[0]] + "…" * (len(value) > room[0]) if (
            isinstance(value, str)
        ) else value
    room[0] -= len(str(shown)) + 4
    return shown
