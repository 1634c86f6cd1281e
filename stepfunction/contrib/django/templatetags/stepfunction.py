"""Template tags: the parts of a report of an execution. ``{% load stepfunction %}``.

Their style and script are the static files ``stepfunction/execution.css`` and
``stepfunction/execution.js``. The setting ``REDACT`` is asked of every value shown; it
is no argument of the tags, for a template calls all functions that it is given.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from django import template
from django.template.context import Context
from django.utils.safestring import SafeString, mark_safe

from stepfunction.contrib.django.conf import called
from stepfunction.core.history.execution import Execution
from stepfunction.drawing.parts import ReportParts

register = template.Library()
_KEY = "stepfunction"


@register.simple_tag(takes_context=True)
def execution_head(context: Context, execution: Any) -> SafeString:
    """Give what ran, when, and how it ended: ``{% execution_head execution %}``."""
    parts = _parts(context, "head", execution)
    return _safe(None if parts is None else parts.head)


@register.simple_tag(takes_context=True)
def execution_graph(context: Context, execution: Any) -> SafeString:
    """Give the graph, or a table of it: ``{% execution_graph execution %}``."""
    parts = _parts(context, "graph", execution)
    return _safe(None if parts is None else parts.graph)


@register.simple_tag(takes_context=True)
def execution_steps(
    context: Context, execution: Any, max_chars: int = 5_000
) -> SafeString:
    """Give all that ran, with its values: ``{% execution_steps execution %}``."""
    parts = _parts(context, "steps", execution, max_chars)
    return _safe(None if parts is None else parts.steps)


def _safe(html: str | None) -> SafeString:
    # A text may have halves of characters, which no answer can hold.
    return mark_safe((html or "").encode(errors="replace").decode())


def _parts(
    context: Context,
    part: str,
    execution: Any,
    max_chars: int = 5_000,
) -> ReportParts | None:
    """Give the parts of an execution; None where the template has none."""
    if execution is None or execution == "":
        return None
    prefix = None
    if isinstance(execution, Execution):
        # What all templates of a page have in common: the same part may be asked for
        # again. Where one is alone its ids are always the same, so that links last.
        seen = context.render_context.dicts[0].setdefault(_KEY, Counter())
        seen[part, execution.id] += 1
        times = seen[part, execution.id]
        prefix = f"sf-{execution.id}-" + (f"{times}-" if times > 1 else "")
    return ReportParts(execution, called("REDACT"), max_chars, prefix)
