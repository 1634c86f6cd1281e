from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from time import sleep

import pytest

from stepfunction import Execution, RetryPolicy, StepFunction


def same(value=None):
    return value


class Gate:
    """A step's function that lets nobody through until it is opened."""

    def __init__(self) -> None:
        self.reached, self._open = threading.Event(), threading.Event()

    def __call__(self, value=None):
        self.reached.set()
        assert self._open.wait(30)
        return value

    def open(self) -> None:
        self._open.set()


@contextmanager
def running(workflow: StepFunction, *gates: Gate, value=None) -> Iterator[Execution]:
    """Give an execution of a workflow that stands before gates."""
    execution = workflow.start(value)
    try:
        for gate in gates:
            assert gate.reached.wait(30)
        yield execution
    finally:
        for gate in gates:
            gate.open()
        execution.wait(30)


def node(dot: str, name: str) -> str:
    """Give the statement of the node or cluster whose label begins with a name."""
    start = f'label="{name}'
    return next(it for it in dot.split(";\n") if start in it and "->" not in it)


def chain(gate: Gate) -> StepFunction:
    workflow = StepFunction("W").add_step("A", same, "B").add_step("B", gate, "C")
    return workflow.add_step("C", same).set_start_step("A")


def test_a_step_that_runs_is_drawn_as_running():
    gate = Gate()
    with running(chain(gate), gate) as execution:
        dot, chart = execution.to_dot(), execution.to_mermaid()
    assert "… running · " in node(dot, "B")
    assert "… RUNNING" in dot
    assert re.search(r'"B<br>… running [^"]*"\):::running', chart)
    assert "✓" in node(dot, "A")
    assert "running" not in node(dot, "C")


def test_a_first_step_that_runs_has_been_reached():
    gate = Gate()
    workflow = StepFunction("W").add_step("A", gate).set_start_step("A")
    with running(workflow, gate) as execution:
        chart = execution.to_mermaid()
    assert "s0 ==> s1" in chart


def test_the_arrow_to_what_runs_is_bold_and_none_leads_on():
    gate = Gate()
    with running(chain(gate), gate) as execution:
        chart = execution.to_mermaid().splitlines()
    assert "s1 ==> s2" in chart
    assert "s2 --> s3" in chart


def test_what_runs_inside_a_nested_workflow_is_drawn_as_running():
    gate = Gate()
    workflow = StepFunction("W").add_step("N", chain(gate)).set_start_step("N")
    with running(workflow, gate) as execution:
        dot = execution.to_dot()
    assert "… running" in node(dot, "N: W")
    assert "✓" in node(dot, "A")
    assert "… running" in node(dot, "B")


def test_tasks_that_run_and_tasks_that_ended_differ():
    gate, done = Gate(), threading.Event()

    def quick(value):
        done.set()
        return value

    tasks = {"slow": gate, "quick": quick}
    workflow = StepFunction("W").add_step("All", tasks, parallel=True)
    with running(workflow.set_start_step("All"), gate) as execution:
        assert done.wait(30)
        while "✓" not in node(dot := execution.to_dot(), "quick"):
            sleep(0.01)
    assert "… running" in node(dot, "All")
    assert "… running" in node(dot, "slow")


def test_of_many_tasks_those_that_wait_for_their_turn_are_counted():
    gate = Gate()
    tasks = {"slow": gate, **{f"t{number}": same for number in range(99)}}
    workflow = StepFunction("W").add_step("All", tasks, parallel=True, max_workers=1)
    with running(workflow.set_start_step("All"), gate) as execution:
        dot = execution.to_dot()
    assert "… running" in node(dot, "slow")
    assert 'label="99 tasks"' in dot


def test_a_step_whose_first_attempts_failed_says_which_attempt_runs():
    gate, attempts = Gate(), []

    def flaky(value):
        attempts.append(value)
        if len(attempts) < 3:
            raise OSError("again")
        return gate(value)

    workflow = StepFunction("W")
    workflow.add_step("A", flaky, retry=RetryPolicy(5, interval=0))
    with running(workflow.set_start_step("A"), gate) as execution:
        dot = execution.to_dot()
    assert re.search("… running · .* · attempt 3", node(dot, "A"))


def test_a_map_step_that_runs_a_workflow_shows_an_item_that_runs():
    gate = Gate()
    workflow = StepFunction("W")
    workflow.add_map_step("Each", chain(gate), max_workers=1)
    items = running(workflow.set_start_step("Each"), gate, value=[1, 2])
    with items as execution:
        dot = execution.to_dot()
    assert "… running" in node(dot, "Each: W")
    assert "… running" in node(dot, "B")


@pytest.fixture
def page(tmp_path):
    def write(execution):
        path = tmp_path / "run.html"
        execution.report(path)
        return path.read_text()

    return write


def test_a_report_has_a_row_of_what_runs(page):
    gate = Gate()
    with running(chain(gate), gate, value="an order") as execution:
        text = page(execution)
    assert re.findall('data-name="(.*?)"', text) == ["a", "b"]
    row = text.split('data-name="b"')[1]
    assert '<span class="sf-facts">running</span>' in row
    assert '<rect class="sf-running"' in row
    assert "has taken" in row
    assert "an order" in row
    assert "<h3>Output</h3>" not in row


def test_a_report_of_a_first_step_does_not_say_that_nothing_ran(page):
    gate = Gate()
    workflow = StepFunction("W").add_step("A", gate).set_start_step("A")
    with running(workflow, gate) as execution:
        text = page(execution)
    assert "Nothing ran." not in text
    assert 'class="sf-row sf-running"' in text


def test_what_runs_is_no_trouble(page):
    gate = Gate()
    with running(chain(gate), gate) as execution:
        classes = re.findall('class="(sf-row [^"]*)"', page(execution))
        assert "sf-trouble" not in classes[1]


def test_what_was_running_when_it_was_written_is_drawn_as_running():
    gate = Gate()
    with running(chain(gate), gate) as execution:
        text = execution.to_json()
    assert "… running" in node(Execution.from_json(text).to_dot(), "B")


def test_a_picture_of_what_has_ended_shows_nothing_as_running():
    gate = Gate()
    with running(chain(gate), gate) as execution:
        pass
    assert "running" not in execution.to_dot() + execution.to_mermaid()
