from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import pydot
import pytest
from hypothesis import given
from hypothesis import strategies as st
from shared.random_workflows import built, examples, workflows

pytestmark = pytest.mark.usefixtures("quiet")


HOSTILE = st.text(min_size=1, max_size=4) | st.sampled_from(
    ["node", "a:b", '"', "\\", "\\n", "\\N", "<b>", "&", "&amp;", "\n", "->", "{|}"]
)


# pydot's own parser uses names that pyparsing has since changed.
@pytest.mark.filterwarnings("ignore:.* deprecated - use:DeprecationWarning")
@examples(20)
@given(
    workflows(races=False, depth=2, plain=True),
    st.lists(
        st.lists(HOSTILE, min_size=1, max_size=3).map("".join),
        min_size=7,
        max_size=7,
        unique=True,
    ),
)
def test_a_drawing_is_read_back_with_every_name_as_a_label(workflow, names):
    hostile = renamed(workflow, dict(zip("abcdefw", names)))
    (drawing,) = pydot.graph_from_dot_data(built(hostile).to_dot())
    assert Counter(labels_in(drawing)) == Counter(map(shown, labels_of(hostile)))


def renamed(workflow: Any, names: Mapping[str, str]) -> Any:
    def do(doing: Any) -> Any:
        return renamed(doing, names) if isinstance(doing, dict) else doing

    steps = {}
    for name, step in workflow["steps"].items():
        step = {**step, "next": names.get(step["next"]), "undo": False}
        for kind in ("branch", "on_failure", "inputs"):
            step[kind] = {key: names[target] for key, target in step[kind].items()}
        if "tasks" in step:
            step["tasks"] = {names[task]: do(d) for task, d in step["tasks"].items()}
        else:
            step["do"] = do(step["do"])
        steps[names[name]] = step
    found = {"name": names["w"], "start": names[workflow["start"]], "steps": steps}
    return {**workflow, **found}


def labels_of(workflow: Any, name: str | None = None) -> Iterator[str]:
    own = workflow["name"]
    yield own if name in (None, own) else f"{name}: {own}"
    for step_name, step in workflow["steps"].items():
        if "tasks" in step:
            yield step_name
        for task, doing in step.get("tasks", {step_name: step.get("do")}).items():
            if isinstance(doing, dict):
                yield from labels_of(doing, task)
            else:
                yield task


def shown(text: str) -> str:
    """Give a text without what has no shape of its own; drawings may replace that."""
    one_line = "".join(" " if c.isspace() and c != "\n" else c for c in text)
    return "".join(c if c.isprintable() or c == "\n" else "\ufffd" for c in one_line)


def labels_in(drawing: Any) -> Iterator[str]:
    yield shown(unescaped(drawing.get_label()))
    for node in drawing.get_nodes():
        is_mark = node.get_label() in (None, '""')  # of a start or an end, or defaults
        if not is_mark:
            yield shown(unescaped(node.get_label()))
    for cluster in drawing.get_subgraphs():
        if cluster.get_label() is not None:  # a group that only arranges its nodes
            yield from labels_in(cluster)


def unescaped(label: str) -> str:
    assert label[0] == label[-1] == '"'
    meant = {"\\n": "\n", "&amp;": "&"}
    return re.sub(
        r"\\.|&amp;", lambda found: meant.get(found[0], found[0][1:]), label[1:-1]
    )
