"""Timeline: the rows of a report as HTML.

All names of classes begin with ``sf-``, and ids with a prefix, for it may stand in a
page of somebody else.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from html import escape
from math import inf
from typing import Any

from stepfunction.core.history.execution import Execution
from stepfunction.core.history.records import StepRecord
from stepfunction.core.outcomes import Outcome
from stepfunction.core.transcript.exceptions import cause_of, traceback_of
from stepfunction.core.wording import counted, duration_text
from stepfunction.drawing.captions import captions, inputs_of
from stepfunction.drawing.rows import Row, culprits_of, rows_of
from stepfunction.drawing.signs import SIGNS, word
from stepfunction.drawing.texts import (
    cut_text,
    error_text,
    name_text,
    said_text,
    value_text,
)

_MOST_CAUSES = 10
_DEEPEST = 8  # rows that stand deeper are indented no further
_TICKS = 4


class Timeline:
    """What an execution did, in rows.

    Attributes:
        rows: The rows.
        culprits: Which of them tell what made the execution fail, outermost first.
    """

    def __init__(self, execution: Execution, most: int, prefix: str) -> None:
        self._prefix = prefix
        self.rows = rows_of(execution)
        self.culprits = culprits_of(execution, self.rows)
        self._most = most
        self._start = execution.started
        self._span = max(execution.duration, 1e-9)
        self._inside = Counter(row.path[:-1] for row in self.rows)
        # The deepest row of each exception: there it is shown in full.
        self._homes = {
            id(row.record.error): row.number
            for row in sorted(self.rows, key=lambda row: row.depth)
            if row.record.error is not None
        }

    def link(self, number: int) -> str:
        """Give a link to a row, by its name."""
        return self._link(number, name_text(self.rows[number].name))

    def _link(self, number: int, text: str) -> str:
        return f'<a href="#{self._prefix}r{number}">{text}</a>'

    def text(self) -> str:
        """Give all of it."""
        if not self.rows:
            return "<p>Nothing ran.</p>"
        ticks = "".join(
            f'<text x="{100 * tick / _TICKS:g}%" y="1em" class="sf-t{tick}">'
            f"{duration_text(self._span * tick / _TICKS) if tick else '0'}</text>"
            for tick in range(_TICKS + 1)
        )
        rows = "\n".join(map(self._row, self.rows))
        return (
            '<div class="sf-tools" hidden>'
            '<input type="search" class="sf-search" placeholder="Search by name" '
            'aria-label="Search by name" autocomplete="off" spellcheck="false">'
            '<label><input type="checkbox" class="sf-only-trouble"> only what did not '
            'succeed</label><button type="button" class="sf-open">Open all</button>'
            '<button type="button" class="sf-close">Close all</button>'
            '<output class="sf-count"></output>'
            '<span class="sf-hint"><kbd>/</kbd> search <kbd>↑</kbd> <kbd>↓</kbd> move '
            "<kbd>Enter</kbd> open</span></div>"
            '<div class="sf-axis" aria-hidden="true">'
            f'<svg class="sf-bar">{ticks}</svg></div>'
            f'<div class="sf-rows">{rows}</div>'
        )

    def _row(self, row: Row) -> str:
        record, depth = row.record, min(row.depth, _DEEPEST)
        sign = SIGNS[record.outcome]
        said = word(record.outcome).removeprefix(sign.mark).strip()
        classes = f"sf-row sf-{sign.name}" + (f" sf-d{depth}" if depth else "")
        classes += " sf-trouble" if row.is_trouble else ""
        is_open = " open" if row.number in self.culprits[-1:] else ""
        facts = []
        counts = row.items
        if counts is not None:
            facts.append(counts.text)
        if len(record.attempts) > 1:
            facts.append(counted(len(record.attempts), "attempt"))
        if row.is_trouble or row.is_running:
            facts.append(said)
        took = "" if record.started is None else duration_text(record.duration)
        names = escape(" / ".join(row.path).lower())
        subject = f'id="{self._prefix}r{row.number}" data-name="{names}"'
        return (
            f'<details class="{classes}" {subject}{is_open}>'
            f'<summary><span class="sf-mark" role="img" aria-label="{said}">{sign.mark}'
            f'</span><span class="sf-name">{name_text(row.name)}</span>'
            f'<span class="sf-facts">{", ".join(facts)}</span>'
            f'<span class="sf-took">{took}</span>{self._bar(record)}</summary>'
            f'<div class="sf-body">{self._body(row)}</div></details>'
        )

    def _bar(self, record: StepRecord) -> str:
        began = record.started
        if began is None:
            return '<svg class="sf-bar"></svg>'
        bars = []
        for it in record.attempts:
            bars.append(self._part(it.outcome, it.started, it.duration))
            began = it.started + it.duration
        if record.outcome is None:  # until now
            bars.append(self._part(None, began, inf))
        if len(bars) > 1:  # and the pauses between them
            place = self._place(record.started or began, record.duration)
            bars.insert(0, f'<rect class="sf-pause" y="8.5" height="1" {place}/>')
        return f'<svg class="sf-bar" aria-hidden="true">{"".join(bars)}</svg>'

    def _part(self, outcome: Outcome | None, started: float, seconds: float) -> str:
        return (
            f'<rect class="sf-{SIGNS[outcome].name}" y="4" height="10" rx="1" '
            f"{self._place(started, seconds)}/>"
        )

    def _place(self, started: float, seconds: float) -> str:
        at = min(max((started - self._start) / self._span, 0.0), 1.0)
        share = min(max(seconds / self._span, 0.0), 1.0 - at)
        return f'x="{100 * at:.6g}%" width="{100 * share:.4g}%"'

    def _body(self, row: Row) -> str:
        record = row.record
        facts = [word(record.outcome)]
        if record.started is not None:
            began = duration_text(max(record.started - self._start, 0.0))
            took = "has taken" if row.is_running else "took"
            facts.append(f"began after {began}")
            facts.append(f"{took} {duration_text(record.duration)}")
        if row.follower is not None:
            facts.append(f"followed by {self.link(row.follower)}")
        parts = [f'<p class="sf-said">{" · ".join(facts)}</p>']
        if len(row.path) > 1:
            home = name_text(" → ".join(row.path[:-1]))
            parts.append(f'<p class="sf-said">in {home}</p>')
        if row.is_step and row.step is not None and row.step.description:
            parts.append(said_text(row.step.description, self._most))
        parts += (f'<p class="sf-said">{escape(text)}</p>' for text in self._told(row))
        if len(record.attempts) > 1:
            parts.append(self._attempts(record))
        title = "Output that is undone" if row.is_undoing else "Input"
        parts.append(self._value(title, record.input))
        if record.error is not None:
            parts.append(self._error(record.error, row.number))
        elif not row.is_running:
            title = "What undoing returned" if row.is_undoing else "Output"
            parts.append(self._value(title, record.output))
        return "".join(parts)

    def _told(self, row: Row) -> Iterator[str]:
        """Say what is special about a row, in a sentence each."""
        step, counts = row.step, row.items
        if counts is not None:
            stopped = counts.total - counts.succeeded - counts.failed
            said = [f"{counted(counts.total, 'item')}: {counts.succeeded:,} succeeded"]
            said += [f"{counts.failed:,} failed"] if counts.failed else []
            said += [f"{stopped:,} stopped"] if stopped else []
            below = self._inside[row.path]
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
            f"<td>{'' if it.error is None else error_text(it.error, self._most)}"
            for it in record.attempts
        )
        heads = "".join(
            f'<th scope="col">{head}</th>'
            for head in ("Attempt", "Outcome", "Began after", "Took", "Error")
        )
        return f"<table><thead><tr>{heads}</thead><tbody>{lines}</table>"

    def _value(self, title: str, value: Any) -> str:
        return f"{_label(title)}<pre>{value_text(value, self._most)}</pre>"

    def _error(self, error: BaseException, number: int) -> str:
        parts = []
        title = "Error"
        cause: BaseException | None = error
        for _ in range(_MOST_CAUSES):
            if cause is None:
                break
            said = error_text(cause, self._most)
            parts.append(f'{_label(title)}<pre class="sf-error">{said}</pre>')
            home = self._homes.get(id(cause), number)
            if home != number:
                name = name_text(" → ".join(self.rows[home].path))
                parts.append(f'<p class="sf-said">See {self._link(home, name)}.</p>')
                break
            trace = traceback_of(cause)
            if trace is not None:
                shown = cut_text(trace.strip("\n"), self._most, from_end=True)
                parts.append(f"{_label('Traceback')}<pre>{shown}</pre>")
            title, cause = "Caused by", cause_of(cause)
        return "".join(parts)


def _label(text: str) -> str:
    return f'<p class="sf-label">{text}</p>'
