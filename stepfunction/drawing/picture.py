"""Picture: what is drawn of a workflow, and of a run of it, in whatever language.

Which boxes there are and what stands in them, which arrows are drawn and which are said
in a box, what is counted and not drawn: all that is decided here. ``dot``, ``mermaid``
and ``tree`` write it down.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import sqrt
from typing import Any, Literal, NamedTuple

from stepfunction.core.definition.branch import Arrow
from stepfunction.core.definition.graph import Graph, Step
from stepfunction.core.wording import counted, listed
from stepfunction.drawing.captions import (
    captions,
    inputs_of,
    shape_of,
    task_captions,
)
from stepfunction.drawing.columns import Candidate, Columns
from stepfunction.drawing.crowds import (
    Group,
    crowded_targets,
    general_arrows,
    grouped,
)
from stepfunction.drawing.signs import Note, shortened
from stepfunction.drawing.trail import Trail

_MOST_IN_A_ROW = 8
_MOST_NAMES = 100
_MOST_INSIDE, _DEEPEST = 1_000, 50
_MOST_LEADS = 12


class Link(NamedTuple):
    """An arrow.

    Attributes:
        origin: The name of the step that it comes from.
        target: The name of the step that it leads to; None for the workflow's end.
        kind: That of an ``Arrow``; or ``"input"``, where an output is a named input.
        label: What it asks for; of an input the parameters.
        is_taken: Whether the execution followed it; None where there is none.
        is_drawn: Whether there is room to draw it; else a box says where it leads.
        is_general: Whether the box that it leads to says that others lead there too.
        is_aside: Whether it leads to another column.
    """

    origin: str
    target: str | None
    kind: Literal["next", "branch", "failure", "input"]
    label: str
    is_taken: bool | None = None
    is_drawn: bool = True
    is_general: bool = False
    is_aside: bool = False


class Box:
    """A step, a task, or what stands for many.

    Attributes:
        name: Its name; where what is inside is only counted, with how much that is.
        shape: What it is: ``"step"``, ``"choice"``, ``"fail"``, ``"failure"`` for a
            step that only failures lead to and its tasks, ``"task"`` for others.
        captions: What there is to say of its action, and what undoes it.
        note: What became of it; None where no execution is drawn.
        general: The failures that lead here from all steps, and so have no arrows.
        leads: Where other arrows lead that are not drawn.
        links: The arrows that leave it, and its named inputs.
        step: The step that it stands for; None for tasks.
        tasks: The boxes inside, of a parallel step.
        inside: What is inside, of a nested workflow.
        tooltip: What it stands for, where its label does not say; None where it does.
        description: What its author has said of it; None for nothing.
        is_stack: Whether it stands for many.
        may_end: Whether an execution that succeeds here has come to its end.
        has_end_beside: Whether that end is drawn beside it, and not as its border.
    """

    general: Sequence[str] = ()
    leads: Sequence[str] = ()
    links: Sequence[Link] = ()
    step: Step | None = None
    tasks: Sequence[Box] = ()
    inside: Picture | None = None
    tooltip: str | None = None
    description: str | None = None
    is_stack = False
    may_end = False
    has_end_beside = False

    def __init__(
        self, name: str, shape: str, captions: Sequence[str], note: Note | None
    ) -> None:
        self.name = name
        self.shape = shape
        self.captions = captions
        self.note = note

    @property
    def is_failure(self) -> bool:
        """Whether it looks like what failures lead to."""
        return self.shape in ("fail", "failure")

    @property
    def label(self) -> str:
        """Its name, and that of the workflow inside where it is another."""
        if self.inside is None or self.inside.name == self.name:
            return self.name
        return f"{self.name}: {self.inside.name}"

    @property
    def hint(self) -> str:
        """What is said where one points at it."""
        said = [self.tooltip or self.label, self.description]
        if self.inside is not None and self.inside.description != self.description:
            said.append(self.inside.description)
        return "\n".join(filter(None, said))

    @property
    def title(self) -> str:
        """What stands in it first."""
        return self.label if self.note is None else shortened(self.label)

    @property
    def said(self) -> list[str]:
        """What stands in it besides, whether or not an execution is drawn."""
        return [*self.captions, *self.general, *self.leads]

    @property
    def lines(self) -> list[str]:
        """All that stands in it."""
        noted = [] if self.note is None else self.note.lines
        return [self.title, *self.said, *noted]


class Page:
    """What all workflows of a picture share: what is drawn already, and how much more.

    Attributes:
        room: How many more boxes are drawn inside of others.
    """

    def __init__(self) -> None:
        self.room = _MOST_INSIDE
        self._drawn: set[int] = set()  # ids of graphs

    def refuses(self, graph: Graph, trail: Trail | None, depth: int) -> str:
        """Say why a nested workflow is not drawn; nothing where it is.

        It is drawn once, but for those that an execution came to.
        """
        if trail is None or not trail.began:
            if id(graph) in self._drawn:
                return "drawn once"
        if len(graph.table) > self.room or depth > _DEEPEST:
            return "not drawn here"
        self._drawn.add(id(graph))
        self.room -= len(graph.table)
        return ""


class Picture:
    """What is drawn of one workflow.

    Attributes:
        name: The name of the workflow.
        description: What its author has said of it; None for nothing.
        title: What stands above it.
        start: The name of the first step.
        is_begun: Whether the execution came to that; None where there is none.
        has_columns: Whether it has so many steps that they stand in columns.
        boxes: Step name to its box, in the order of the definition.
    """

    def __init__(
        self,
        graph: Graph,
        trail: Trail | None = None,
        is_laid_out: bool = False,
        page: Page | None = None,
        depth: int = 0,
    ) -> None:
        """Decide what is drawn.

        Args:
            graph: What is drawn.
            trail: What an execution left on it; None to draw the graph alone.
            is_laid_out: Whether it is laid out here, so that it must not take long:
                many steps stand in columns, what is inside of them is counted and not
                drawn, and the boxes say where arrows lead that have no room.
            page: What it shares with what is around it; None for an outermost one.
            depth: How many workflows are around it.
        """
        self.name, self.start = graph.name, graph.start
        self.description = graph.description
        self.title = [graph.name]
        self.is_begun: bool | None = None
        if trail is not None:
            self.title = [shortened(graph.name), *trail.lines]
            self.is_begun = trail.began
        self._graph, self._trail, self._is_laid_out = graph, trail, is_laid_out
        self._page = Page() if page is None else page
        self._depth = depth
        self._leaving = {name: step.arrows() for name, step in graph.table.items()}
        self._crowded = crowded_targets(self._leaving)
        self._general = general_arrows(graph, self._leaving, self._crowded)
        self._columns = Columns(graph.start, self._leaving) if is_laid_out else None
        self.has_columns = self._columns is not None and self._columns.are_many
        self._drawn = self._drawn_arrows()
        self.boxes = {name: self._box(step) for name, step in graph.table.items()}

    @property
    def hint(self) -> str:
        """What is said where one points at it."""
        return "\n".join(filter(None, (self.name, self.description)))

    def _drawn_arrows(self) -> set[tuple[str, Arrow]]:
        """Give the steps with those of their arrows that are drawn."""
        found = list[Candidate]()
        for name, arrows in self._leaving.items():
            taken = set[Arrow]() if self._trail is None else self._trail.taken(name)
            for arrow in arrows:
                is_left_out = arrow.kind == "failure" and arrow not in taken and (
                    self._is_crowd(name, arrow) or self._are_apart(name, arrow.target)
                )
                if not is_left_out:
                    found.append(Candidate(name, arrow, arrow in taken))
        if self._columns is not None:
            found = self._columns.with_room(found)
        return {(name, arrow) for name, arrow, _ in found}

    def _is_crowd(self, name: str, arrow: Arrow) -> bool:
        """Whether a failure's arrow is one of too many, and not the last of them."""
        return self._crowded.get(arrow.target, name) != name

    def _are_apart(self, one: str, other: str) -> bool:
        """Whether two steps stand in different columns."""
        return self._columns is not None and self._columns.are_apart(one, other)

    def _box(self, step: Step) -> Box:
        name, trail = step.name, self._trail
        shape = "failure" if name in self._graph.failure_steps else shape_of(step)
        note = None if trail is None else trail.note(name)
        box = Box(name, shape, captions(step), note)
        box.step, box.may_end = step, step.may_end
        box.description = step.description
        if not step.action.is_one_call:
            self._fill(box, step)
        if self._general:
            texts = self._general.items()
            box.general = [text for arrow, text in texts if arrow.target == name]
        self._link(box, step)
        return box

    def _fill(self, box: Box, step: Step) -> None:
        """Draw what is in a step, or count it where there is no room."""
        name, action = step.name, step.action
        tasks, nested = action.tasks, action.nested
        is_folded = len(tasks) > self._page.room or (
            self.has_columns and (nested is not None or bool(tasks))
        )
        box.is_stack = is_folded or (action.has_items and nested is None)
        if is_folded:
            what = counted(len(tasks), "task") if tasks else f"workflow {nested.name}"
            box.name = f"{name} ({what})"
            if tasks:
                box.tooltip = f"{name}: {listed(tasks, _MOST_NAMES)}"
        elif nested is not None:
            self._nest(box, nested, name, None, action.has_items)
            is_folded = box.inside is None
        elif tasks:
            shape = "failure" if box.is_failure else "task"
            self._page.room -= len(tasks)
            box.tasks = self._tasks(step, tasks, shape)
        has_inside = action.has_tasks or nested is not None
        box.has_end_beside = box.may_end and has_inside and not is_folded

    def _nest(
        self, box: Box, graph: Graph, step: str, task: str | None, is_map: bool = False
    ) -> None:
        """Put a workflow into the box of a step or task."""
        trail, inner = self._trail, None
        if trail is not None and is_map:
            inner, which = trail.inside_item(step, graph)
            if box.note is not None:
                box.note = box.note._replace(which=which)
        elif trail is not None:
            inner = trail.inside(step, task, graph)
        page, depth = self._page, self._depth + 1
        reason = page.refuses(graph, inner, depth)
        if reason:
            said = f"workflow {shortened(graph.name)}, {reason}"
            box.captions, box.is_stack = [*box.captions, said], True
        else:
            box.inside = Picture(graph, inner, self._is_laid_out, page, depth)

    def _tasks(self, step: Step, tasks: Mapping[str, Any], shape: str) -> list[Box]:
        """Make the boxes of a parallel step's tasks."""
        trail = self._trail
        names, groups = list(tasks), list[Group]()
        if trail is not None:
            names, groups = grouped(names, trail.outcomes(step.name))
        made = []
        for name in names:
            note = None if trail is None else trail.note(step.name, name)
            box = Box(name, shape, task_captions(step, name), note)
            nested = tasks[name].nested
            if nested is not None:
                self._nest(box, nested, step.name, name)
            made.append(box)
        for group in groups:
            box = Box(group.text, shape, [], group.note)
            box.tooltip = listed(group.names, _MOST_NAMES)
            box.is_stack = True
            made.append(box)
        return made

    def _link(self, box: Box, step: Step) -> None:
        """Make the arrows of a step, and let its box say what is not drawn."""
        name = step.name
        follows = None if self._trail is None else self._trail.taken(name)
        links, leads = list[Link](), list[str]()
        for arrow in self._leaving[name]:
            kind, label, target = arrow.kind, arrow.label, arrow.target
            taken = None if follows is None else arrow in follows
            aside = self._are_apart(name, target)
            drawn, general = (name, arrow) in self._drawn, False
            asks, is_said = label, not drawn
            if kind == "failure":
                general, asks = arrow in self._general, label or "on failure"
                is_said = is_said and not (general and self._is_crowd(name, arrow))
            if is_said:
                leads.append(f"{asks} → {shortened(target)}".lstrip())
            links.append(Link(name, target, kind, label, taken, drawn, general, aside))
        inputs = inputs_of(step) if step.inputs else {}
        for origin, parameters in inputs.items():
            drawn = not self._are_apart(name, origin)
            if not drawn:
                leads.append(f"{parameters} ← {shortened(origin)}")
            links.append(Link(origin, name, "input", parameters, None, drawn))
        if box.has_end_beside:
            taken = None if self._trail is None else self._trail.end == name
            links.append(Link(name, None, "next", "", taken))
        if len(leads) > _MOST_LEADS:
            leads[_MOST_LEADS:] = [f"and {len(leads) - _MOST_LEADS:,} more"]
        box.links, box.leads = links, leads


def row_length(count: int) -> int:
    """Give how many of so many tasks stand beside each other: many stand in rows."""
    return max(_MOST_IN_A_ROW, round(sqrt(count)))
