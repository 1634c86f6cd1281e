"""Pictures in pages: what has been drawn is not drawn again at each request."""

from __future__ import annotations

import io

import pytest

from stepfunction import Execution, StepFunction


@pytest.fixture
def times_drawn(tmp_path, monkeypatch):
    """Put a Graphviz in the way that counts; give how often it has drawn."""
    noted = tmp_path / "noted"
    noted.touch()
    program = tmp_path / "dot"
    program.write_text(f"#!/bin/sh\necho >>'{noted}'\necho '<svg></svg>'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    return lambda: len(noted.read_text())


def page_of(execution):
    page = io.StringIO()
    execution.report(page)
    return page.getvalue()


def sale(name):
    workflow = StepFunction(name).add_step("Choose", str, branch={"car": "Pay"})
    return workflow.add_step("Pay", str).set_start_step("Choose")


def test_an_execution_is_drawn_once(times_drawn):
    execution = sale("Drawn once").execute("car")
    assert "<svg>" in page_of(execution)
    assert "<svg>" in page_of(execution)
    assert times_drawn() == 1


def test_an_execution_that_is_read_at_each_request_is_drawn_once(times_drawn):
    text = sale("Read at each request").execute("car").to_json()
    for _ in range(2):
        assert "<svg>" in page_of(Execution.from_json(text))
    assert times_drawn() == 1


def test_an_execution_that_has_gone_on_is_drawn_again(times_drawn):
    drawn = []

    def look(event):
        page_of(event.execution)
        drawn.append(times_drawn())

    sale("Gone on").execute("car", listeners=[look])
    assert drawn[0] < drawn[-1]


def test_a_picture_that_failed_is_tried_again(times_drawn, tmp_path):
    execution = sale("Tried again").execute("car")
    program = tmp_path / "dot"
    program.write_text("#!/bin/sh\nexit 1\n")
    assert "<svg>" not in page_of(execution)
    program.write_text("#!/bin/sh\necho '<svg></svg>'\n")
    assert "<svg>" in page_of(execution)
