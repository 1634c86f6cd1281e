"""Tables: a workflow as rows of HTML, where there is nothing to draw it with."""

from __future__ import annotations

from collections.abc import Callable
from html import escape

from stepfunction.core.definition.graph import Graph
from stepfunction.core.wording import counted
from stepfunction.drawing.layout import has_layouter
from stepfunction.drawing.picture import Box, Link, Picture
from stepfunction.drawing.signs import word
from stepfunction.drawing.texts import name_text
from stepfunction.drawing.trail import Trail

_MOST_TASKS = 10  # that are named


def html_for_notebook(graph: Graph, trail: Trail | None = None) -> str | None:
    """Give a table of the steps to a notebook; None where it can have a picture."""
    if has_layouter():
        return None
    heading = f"<p><b>{name_text(graph.name)}</b></p>"
    if graph.description:
        heading += f"<p>{escape(graph.description)}</p>"
    if trail is None:
        return heading + table_of(graph)

    def ended(step: str) -> tuple[str, str]:
        records = trail.records.get(step)
        if records is None:
            return name_text(step), "not reached"
        return name_text(step), word(records[None].outcome)

    return heading + table_of(graph, ended)


def table_of(
    graph: Graph, ended: Callable[[str], tuple[str, str]] | None = None
) -> str:
    """Give the steps of a workflow as a table.

    Args:
        graph: The workflow.
        ended: Gives of a step's name that as HTML, and what became of it; None where
            nothing ran.
    """
    lines = []
    for step, box in Picture(graph).boxes.items():
        arrows = "<br>".join(
            f"{escape(_asked(box, link))} → {name_text(link.target)}"
            for link in box.links
            if link.target is not None
            and link.kind != "input"
            and not link.is_general
        )
        first = (name_text(step),) if ended is None else ended(step)
        does = _action_text(box)
        if box.description:
            does += f"<br>{escape(box.description)}"
        cells = (*first, does, arrows or "the end")
        lines.append("<tr>" + "".join(f"<td>{cell}</td>" for cell in cells))
    names = ["Step", "Outcome", "What it does", "Leads to"]
    if ended is None:
        names.remove("Outcome")
    heads = "".join(f'<th scope="col">{head}</th>' for head in names)
    return f"<table><thead><tr>{heads}</thead><tbody>{''.join(lines)}</table>"


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
