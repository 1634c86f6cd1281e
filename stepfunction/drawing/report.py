"""Report: an execution as one HTML page that needs nothing else.

A policy in the page forbids the browser to load or run anything but the style and
script that stand in it.
"""

from __future__ import annotations

import io
import os
from base64 import b64encode
from hashlib import sha256
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import Any

from stepfunction.core.errors import DrawingError, TranscriptError
from stepfunction.core.history.execution import Execution
from stepfunction.core.transcript.values import Redact
from stepfunction.core.wording import TOO_DEEP
from stepfunction.drawing.layout import safe_file_name
from stepfunction.drawing.parts import ReportParts

# Style and script of the parts stand where Django finds them too.
_HOME = "contrib/django/static/stepfunction"
_STYLES = (f"{_HOME}/execution.css", "drawing/report.css")
_SCRIPT = f"{_HOME}/execution.js"


def write_report(
    execution: Execution,
    target: Any,
    redact: Redact | None,
    max_chars: int,
) -> str | None:
    """Write an execution into a file, as ``Execution.report``.

    Raises:
        DrawingError: If ``max_chars`` is no positive whole number, or what ran is
            nested too deep for this interpreter.
    """
    try:
        page = _page(ReportParts(execution, redact, max_chars, ""))
    except RecursionError:
        raise DrawingError(
            f"this execution of {execution.workflow!r} has workflows, or errors, that "
            f"are {TOO_DEEP}"
        ) from None
    except TranscriptError as error:
        text = f"this execution of {execution.workflow!r} cannot be shown: {error}"
        raise DrawingError(text) from None
    # A text may have halves of characters, which no file can hold.
    data = page.encode(errors="replace")
    if target is not None and not isinstance(target, str | os.PathLike):
        _write(target, data)
        return None
    name = f"{safe_file_name(execution.workflow)}.html"
    path = Path(target if target is not None else name)
    path.write_bytes(data)
    return str(path)


def _write(file: Any, data: bytes) -> None:
    """Write into a file, of which nobody but itself may know whether it takes text."""
    if not isinstance(file, io.TextIOBase):
        try:
            file.write(data)
            return
        except TypeError:  # as of what is around a file of text
            pass
    file.write(data.decode())


def _page(parts: ReportParts) -> str:
    style, script = "".join(map(_text, _STYLES)), _text(_SCRIPT)
    policy = (
        f"default-src 'none'; style-src {_hashed(style)}; "
        f"script-src {_hashed(script)}; base-uri 'none'; form-action 'none'"
    )
    lines = [
        "<!DOCTYPE html>",
        '<html lang="en"><head><meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        '<meta name="color-scheme" content="light dark">',
        f"<title>{escape(parts.title)}</title>",
        f"<style>{style}</style></head><body>",
        f"<header>{parts.head_as('h1')}</header>",
        "<main>",
        parts.graph_below("<h2>Graph</h2>"),
        parts.steps_below("<h2>Timeline</h2>"),
        "</main>",
        f"<script>{script}</script></body></html>",
    ]
    return "\n".join(lines)


def _text(name: str) -> str:
    return files("stepfunction").joinpath(name).read_text(encoding="utf-8")


def _hashed(text: str) -> str:
    """Give how a policy names the one text that it allows."""
    return f"'sha256-{b64encode(sha256(text.encode()).digest()).decode()}'"
