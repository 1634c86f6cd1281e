"""Progress in a notebook: on a double of its displays, and in a real kernel."""

from __future__ import annotations

import gc
import io
import json
import re
import subprocess
import sys
import threading
import types
from pathlib import Path

import pytest
from rich.console import Console
from shared.stragglers import alone, double, fan, interrupt, refuse

import stepfunction
from stepfunction import StepExecutionError, StepFunction
from stepfunction.progress import RichProgress


class Notebook:
    """The outputs of a notebook, by display id, as a front end keeps them."""

    def __init__(self):
        self.outputs = {}
        self.states = []  # the texts of every output, each time that one changes
        self.changed = threading.Condition()

    def show(self, id, data, *, is_new):
        assert sorted(data) == ["text/html", "text/plain"]
        assert is_new is (id not in self.outputs)
        with self.changed:
            self.outputs[id] = data
            self.states.append(self.text)
            self.changed.notify_all()

    @property
    def text(self):
        return "\n".join(data["text/plain"] for data in self.outputs.values())

    @property
    def html(self):
        return "\n".join(data["text/html"] for data in self.outputs.values())

    @property
    def lines(self):
        """The lines without the times, which differ."""
        took = re.compile(r"\b\d[\d.e-]* [mµ]?s\b")
        return [took.sub("…", line) for line in self.text.splitlines()]

    def wait_for(self, pattern):
        def is_there():
            return re.search(pattern, self.text)

        with self.changed:
            assert self.changed.wait_for(is_there, 20), self.text


@pytest.fixture
def notebook(monkeypatch):
    notebook = Notebook()

    class DisplayHandle:
        def __init__(self):
            self.display_id = f"display-{len(notebook.outputs)}"

        def display(self, data, *, raw):
            notebook.show(self.display_id, data, is_new=True)

        def update(self, data, *, raw):
            notebook.show(self.display_id, data, is_new=False)

    def display(renderable):  # as rich calls it
        raise AssertionError("there is more than one output")

    module = types.ModuleType("IPython.display")
    module.DisplayHandle, module.display = DisplayHandle, display
    package = types.ModuleType("IPython")
    package.display = module
    monkeypatch.setitem(sys.modules, "IPython", package)
    monkeypatch.setitem(sys.modules, "IPython.display", module)
    monkeypatch.delenv("NO_COLOR", raising=False)
    return notebook


def progress():
    return RichProgress(Console(force_jupyter=True, width=100))


def is_shown():
    """Whether anything still writes over an output."""
    names = {thread.name for thread in threading.enumerate()}
    return "stepfunction progress" in names


def wait_for_the_end():
    for thread in threading.enumerate():
        if thread.name == "stepfunction progress":
            thread.join(20)
    assert not is_shown()


def test_what_runs_is_shown_in_place(notebook):
    def work(_):
        notebook.wait_for(r"^Alone +0 steps done +0:00:0\d *\n. Only +0:00:01")

    alone(work).execute(listeners=[progress()])
    assert notebook.lines == ["Alone COMPLETED in …"]
    assert len(notebook.outputs) == 1


def test_what_failed_stays_and_the_rest_is_gone(notebook):
    def work(_):
        notebook.wait_for("All.bad failed in .*\nFan +0 steps done .*\n. All .* 1 of 2")

    fan({"bad": refuse, "last": work}).execute(1, listeners=[progress()])
    assert notebook.lines == [
        "Fan / All.bad failed in …: ValueError: no room left",
        "Fan COMPLETED in …",
    ]


def test_what_is_said_is_no_markup_and_no_html(notebook):
    name = "<script>alert(1)</script> & [red]"
    with pytest.raises(StepExecutionError):
        alone(refuse, name).execute(1, listeners=[progress()])
    assert f"Alone / {name} failed in" in notebook.text
    assert "&lt;script&gt;alert(1)&lt;/script&gt; &amp; [red] fai" in notebook.html
    assert "<script" not in notebook.html


@pytest.mark.parametrize("no_color", [False, True])
def test_colours_follow_no_color_here_too(notebook, monkeypatch, no_color):
    if no_color:
        monkeypatch.setenv("NO_COLOR", "1")
    with pytest.raises(StepExecutionError):
        alone(refuse, "<b>").execute(1, listeners=[progress()])
    assert ("color: #800000" in notebook.html) is not no_color
    assert "Alone / &lt;b&gt; failed in" in notebook.html


def test_a_long_line_is_not_broken(notebook):
    with pytest.raises(StepExecutionError):
        alone(refuse, "x" * 300).execute(1, listeners=[progress()])
    assert len(notebook.lines) == 2


def test_of_very_many_lines_the_latest_are_shown(notebook):
    workflow = StepFunction("Many").set_start_step("All")
    workflow.add_map_step("All", refuse, tolerated_failures="100%")
    workflow.execute(range(300), listeners=[progress()])
    lines = notebook.lines
    assert lines[0] == "… 201 lines before"
    assert len(lines) == 101
    assert lines[-1] == "Many COMPLETED in …"


@pytest.mark.parametrize("function", [double, refuse, interrupt])
def test_nothing_is_written_over_after_the_end(notebook, function):
    listener = progress()
    try:
        alone(alone(function), "Nest").execute(1, listeners=[listener])
    except (StepExecutionError, KeyboardInterrupt):
        pass
    wait_for_the_end()
    assert listener._running == {}
    assert "steps done" not in notebook.text


def test_it_ends_although_its_end_was_not_told(notebook):
    def interrupt_the_end(event):
        if event.kind == "execution_ended":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        alone(double).execute(1, listeners=[interrupt_the_end, progress()])
    gc.collect()
    wait_for_the_end()


def test_each_execution_after_another_has_an_output_of_its_own(notebook):
    listener = progress()
    for _ in range(3):
        alone(double).execute(1, listeners=[listener])
    assert len(notebook.outputs) == 3
    assert notebook.lines == ["Alone COMPLETED in …"] * 3


def test_executions_at_once_share_an_output(notebook):
    def work(_):
        notebook.wait_for(r"One .*\n. Only .*\nTwo .*\n. Only ")

    listener = progress()
    first = StepFunction("One").add_step("Only", work).set_start_step("Only")
    second = StepFunction("Two").add_step("Only", work).set_start_step("Only")
    running = [first.start(listeners=[listener])]
    notebook.wait_for("One")
    running.append(second.start(listeners=[listener]))
    for execution in running:
        assert execution.wait(30)
        execution.raise_if_failed()
    assert len(notebook.outputs) == 1
    assert sorted(notebook.lines) == ["One COMPLETED in …", "Two COMPLETED in …"]


def test_a_notebook_that_shows_nothing_any_more_is_no_failure(notebook, caplog):
    def close(_):
        def refuse(*_, **__):
            raise OSError("the kernel ends")

        notebook.show = refuse

    assert alone(close).execute(listeners=[progress()]).status == "COMPLETED"
    assert "the kernel ends" not in caplog.text
    wait_for_the_end()


def test_without_a_thread_there_are_lines(notebook, monkeypatch):
    def refuse(*_, **__):
        raise RuntimeError("can't start new thread")

    shown = []
    monkeypatch.setattr("stepfunction.progress.start", refuse)
    monkeypatch.setattr(
        "IPython.display.display", lambda renderable: shown.append(renderable.text)
    )
    alone(double).execute(1, listeners=[progress()])
    assert len(shown) == 2
    assert "Alone / Only succeeded" in shown[0]
    assert "Alone COMPLETED" in shown[1]
    assert notebook.outputs == {}


def test_without_ipython_nothing_is_shown_and_nothing_fails(monkeypatch, caplog):
    monkeypatch.setitem(sys.modules, "IPython", None)
    monkeypatch.setitem(sys.modules, "IPython.display", None)
    listener = RichProgress(Console(force_jupyter=True, file=io.StringIO()))
    assert alone(double).execute(1, listeners=[listener]).output == 2
    assert not [it for it in caplog.records if it.levelname == "ERROR"]


NOTEBOOK = """\
import json, sys
import nbformat
from nbclient import NotebookClient

CELLS = '''
import threading
from stepfunction import StepFunction
from stepfunction.progress import RichProgress
progress, pause, is_seen = RichProgress(), threading.Event(), threading.Event()
def work(value):
    pause.wait(0.6)
    return value
flow = StepFunction("Flow").add_step("Work", work, "Fan").set_start_step("Work")
flow.add_step("Fan", {"good": work, "bad": lambda value: 1 / 0}, parallel=True)
flow.execute(listeners=[progress])
print("done")
---
execution = flow.start(listeners=[progress, lambda event: is_seen.set()])
_ = is_seen.wait(30)
---
_ = execution.result(30)
'''
cells = [nbformat.v4.new_code_cell(cell) for cell in CELLS.split("---\\n")]
notebook = nbformat.v4.new_notebook(cells=cells)
told = []

class Client(NotebookClient):
    def process_message(self, message, cell, index):
        told.append(message["msg_type"])
        return super().process_message(message, cell, index)

Client(notebook, timeout=60, kernel_name="python3").execute()
print(json.dumps([told, [cell.outputs for cell in notebook.cells]]))
"""


def test_a_real_kernel_shows_one_output_in_place(tmp_path):
    pytest.importorskip("ipykernel", reason="without the extra test")
    pytest.importorskip("nbclient", reason="without the extra test")
    done = subprocess.run(
        [sys.executable, "-c", NOTEBOOK],
        cwd=tmp_path,
        env={**clean_environment(), "IPYTHONDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=55,
    )
    assert done.returncode == 0, done.stderr
    told, (first, second, third) = json.loads(done.stdout)
    assert told.count("display_data") == 2
    assert told.count("update_display_data") >= 4
    for shown in (first[0], second[0]):
        assert shown["output_type"] == "display_data"
        lines = shown["data"]["text/plain"].splitlines()
        assert [line.split(" in ")[0] for line in lines] == [
            "Flow / Fan.bad failed",
            "Flow COMPLETED",
        ]
    assert first[1:] == [{"output_type": "stream", "name": "stdout", "text": "done\n"}]
    assert (second[1:], third) == ([], [])


def clean_environment():
    import os

    home = str(Path(stepfunction.__file__).parents[1])
    named = {name: it for name, it in os.environ.items() if name != "NO_COLOR"}
    return {**named, "PYTHONPATH": home}
