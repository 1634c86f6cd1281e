from __future__ import annotations

import os

import pytest
from shared.calls import double

from stepfunction import ProcessLanes, StepFunction, WorkerCrashedError
from stepfunction.core.lanes import marks
from stepfunction.core.workers.attempts import LiveAttempt


@pytest.fixture
def noted(monkeypatch):
    found = []
    monkeypatch.setattr(LiveAttempt, "note", lambda _, number: found.append(number))
    return found


def note_and_exit(number, context):
    if number:
        context._line.note(number - 1)
        context._line.note(number)
    os._exit(3)


def note_in_a_child_and_exit(number, context):
    context._line.note(number)
    child = os.fork()
    if child == 0:
        context._line.note(99)
        os._exit(0)
    os.waitpid(child, 0)
    os._exit(3)


def note_and_return(number, context):
    context._line.note(number)
    return number


def crash(call, number, lanes):
    workflow = StepFunction("F").add_step(
        "S", call, executor="process", on_failure="End"
    )
    workflow.add_step("End", type).set_start_step("S")
    execution = workflow.execute(number, executor=lanes)
    assert isinstance(execution.error, WorkerCrashedError)


@pytest.mark.parametrize("method", ["forkserver", "spawn"])
def test_what_a_call_noted_last_is_known_when_its_worker_is_dead(noted, method):
    with ProcessLanes(1, start_method=method) as lanes:
        crash(note_and_exit, 7, lanes)
    assert noted == [7]


def test_a_call_that_noted_nothing_is_known_by_that(noted, one_lane):
    crash(note_and_exit, 7, one_lane)
    one_lane.submit(double, 1).result()
    crash(note_and_exit, 0, one_lane)
    assert noted == [7, 0]


def test_what_a_call_before_it_noted_is_not_taken_for_its_own(noted, one_lane):
    workflow = StepFunction("F").add_step("S", note_and_return, executor="process")
    workflow.set_start_step("S")
    workflow.execute(7, executor=one_lane)
    crash(note_and_exit, 0, one_lane)
    assert noted == [0]


def test_a_forked_child_marks_nothing_of_its_parents(noted, one_lane):
    crash(note_in_a_child_and_exit, 7, one_lane)
    assert noted == [7]


@pytest.mark.parametrize("error", [OSError(24, "files"), OSError(12, "memory")])
def test_without_shared_memory_workers_work_and_nothing_is_known(
    noted, monkeypatch, error
):
    def refuse(*_):
        raise error

    monkeypatch.setattr(marks, "open_nameless", refuse)
    with ProcessLanes(1) as lanes:
        assert lanes.submit(double, 4).result() == 8
        crash(note_and_exit, 7, lanes)
    assert noted == [None]
