"""Doors: what an execution shows of itself by way of the wings of this house.

Each opens its wing by name when it is asked to, for the wings stand on the core.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any, Protocol, cast, overload

from stepfunction.core.errors import TranscriptError
from stepfunction.core.wording import TOO_DEEP

if TYPE_CHECKING:
    from stepfunction.core.history.execution import Execution
    from stepfunction.core.transcript.values import Redact
    from stepfunction.drawing.parts import ReportParts

    class Writable(Protocol):
        """What has ``write``, of bytes or of text."""

        def write(self, data: Any, /) -> object: ...

__tracebackhide__ = True  # pytest shows the test and what is called, not us


def _open(wing: str) -> Any:
    return import_module(f"stepfunction.{wing}")


class Shown:
    """What can be drawn, reported and written as JSON: the base of ``Execution``."""

    def visualize(
        self, path: str | os.PathLike[str] | None = None, format: str | None = None
    ) -> str:
        """Draw what became of each step into a file.

        Args:
            path: The file; by default the workflow's name, made safe, in the current
                folder.
            format: ``"svg"``, ``"png"``, ``"pdf"`` or ``"dot"``; by default what the
                path ends in, else SVG; without a path DOT where no Graphviz is found.

        Returns:
            The path of the file.

        Raises:
            DrawingError: As ``StepFunction.visualize``; or if the execution comes out
                of a pickle or a file, which does not keep the workflow.
        """
        trail = _open("drawing.trail").trail_of(self)
        drawn = _open("drawing.dot").draw(trail.graph, trail, path, format)
        return cast(str, drawn)

    def to_dot(self) -> str:
        """Give the drawing of what became of each step as DOT text.

        Raises:
            DrawingError: If the execution comes out of a pickle or a file.
        """
        trail = _open("drawing.trail").trail_of(self)
        return cast(str, _open("drawing.dot").to_dot(trail.graph, trail))

    def to_mermaid(self) -> str:
        """Give the drawing of what became of each step as a Mermaid flowchart.

        Raises:
            DrawingError: If the execution comes out of a pickle or a file.
        """
        trail = _open("drawing.trail").trail_of(self)
        return cast(str, _open("drawing.mermaid").to_mermaid(trail.graph, trail))

    def _repr_svg_(self) -> str | None:
        """Give the drawing to a notebook; None where the text has to do."""
        if cast("Execution", self).graph is None:  # a pickle leaves it behind
            return None
        trail = _open("drawing.trail").trail_of(self)
        drawn = _open("drawing.dot").svg_for_notebook(trail.graph, trail)
        return cast("str | None", drawn)

    def _repr_html_(self) -> str | None:
        """Give a table to a notebook that cannot have the drawing."""
        if cast("Execution", self).graph is None:
            return None
        trail = _open("drawing.trail").trail_of(self)
        table = _open("drawing.tables").html_for_notebook(trail.graph, trail)
        return cast("str | None", table)

    def to_dict(self, *, redact: Redact | None = None) -> dict[str, Any]:
        """Give all that happened, nested executions too, as data that JSON can hold.

        A value that JSON cannot hold is ``{"$repr": text}``; the module
        ``stepfunction.core.transcript.values`` says what else is marked, and how.

        Args:
            redact: A callable of where a value stands and the value, which gives what
                to write in its place. Where is a tuple: the name of the step (of a task
                ``"step.task"``), ``"input"``, ``"output"``, ``"error"`` or
                ``"traceback"``, then the keys and positions that lead into the value.
                It is asked for a whole value first, then for its parts; of an
                exception it is given the texts. What it raises goes on to the caller.

        Raises:
            TranscriptError: If executions are nested too deep in one another.
        """
        written = _open("core.transcript.writing").to_document(self, redact)
        return cast("dict[str, Any]", written)

    def to_json(
        self, *, redact: Redact | None = None, indent: int | None = None
    ) -> str:
        """Give ``to_dict()`` as a JSON text, which ``from_json`` reads.

        Args:
            redact: A callable of where a value stands and the value, which gives what
                to write in its place. Where is a tuple: the name of the step (of a task
                ``"step.task"``), ``"input"``, ``"output"``, ``"error"`` or
                ``"traceback"``, then the keys and positions that lead into the value.
                It is asked for a whole value first, then for its parts; of an
                exception it is given the texts. What it raises goes on to the caller.
            indent: By how many spaces to indent what is nested; None for one line.

        Raises:
            TranscriptError: If executions are nested too deep in one another.
        """
        import json

        document = self.to_dict(redact=redact)
        try:
            return json.dumps(document, indent=indent, allow_nan=False)
        except RecursionError:
            raise TranscriptError(f"the executions are {TOO_DEEP}") from None

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> Execution:
        """Give an execution back of what ``to_dict`` gave, as ``from_json`` does.

        Args:
            document: The data.

        Raises:
            TranscriptError: If it is something else.
        """
        read = _open("core.transcript.reading").from_data(document)
        return cast("Execution", read)

    @classmethod
    def from_json(cls, text: str | bytes) -> Execution:
        """Give an execution back, to look at and to report.

        Nothing that the text names is imported or called. What could not be written is
        an ``Omitted``, an exception is a ``RemoteError`` with its ``type_name`` and
        ``text``; only those that say which step failed are what they were.

        Args:
            text: What ``to_json`` gave.

        Raises:
            TranscriptError: If it is something else.
        """
        return cast("Execution", _open("core.transcript.reading").from_text(text))

    @overload
    def report(
        self,
        path: str | os.PathLike[str] | None = None,
        *,
        redact: Redact | None = None,
        max_chars: int = 5_000,
    ) -> str: ...

    @overload
    def report(
        self,
        path: Writable,
        *,
        redact: Redact | None = None,
        max_chars: int = 5_000,
    ) -> None: ...

    def report(
        self,
        path: str | os.PathLike[str] | Writable | None = None,
        *,
        redact: Redact | None = None,
        max_chars: int = 5_000,
    ) -> str | None:
        """Write what happened as one HTML page that any browser opens.

        Args:
            path: The path of the file, by default the workflow's name, made safe,
                with ``.html``, in the current folder; or a file of bytes or of text
                that is open, or anything else with its ``write``.
            redact: A callable of where a value stands and the value, which gives what
                to write in its place. Where is a tuple: the name of the step (of a task
                ``"step.task"``), ``"input"``, ``"output"``, ``"error"`` or
                ``"traceback"``, then the keys and positions that lead into the value.
                It is asked for a whole value first, then for its parts; of an
                exception it is given the texts. What it raises goes on to the caller.
                Nothing is written that it has not seen.
            max_chars: How much of each value and traceback is shown.

        Returns:
            The path of the file; None where it was open.
        """
        write = _open("drawing.report").write_report
        return cast("str | None", write(self, path, redact, max_chars))

    def report_parts(
        self,
        *,
        redact: Redact | None = None,
        max_chars: int = 5_000,
        prefix: str | None = None,
    ) -> ReportParts:
        """Give what ``report()`` writes as pieces of HTML, for a page of your own.

        They are ``head``, ``graph`` and ``steps``, each a text, made when it is asked
        for. Their style and script are the files ``execution.css`` and ``execution.js``
        in ``stepfunction/contrib/django/static/stepfunction``. They are right under
        the policy ``default-src 'self'``, and follow the page's ``color-scheme``.

        Args:
            redact: A callable of where a value stands and the value, which gives what
                to write in its place. Where is a tuple: the name of the step (of a task
                ``"step.task"``), ``"input"``, ``"output"``, ``"error"`` or
                ``"traceback"``, then the keys and positions that lead into the value.
                It is asked for a whole value first, then for its parts; of an
                exception it is given the texts. What it raises goes on to the caller.
            max_chars: How much of each value and traceback is shown.
            prefix: What the ids in them begin with, which no two in a page may share;
                by default ``"sf-"`` and the ``id`` of the execution.

        Raises:
            DrawingError: If ``max_chars`` is no positive whole number.
        """
        parts = _open("drawing.parts").ReportParts(self, redact, max_chars, prefix)
        return cast("ReportParts", parts)
