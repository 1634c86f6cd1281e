from __future__ import annotations

import threading
from typing import Any

import pytest
from shared.mocked import chain, forbidden_for, parallel

from stepfunction import (
    Context,
    DefinitionError,
    RetryPolicy,
    StepExecutionError,
    StepFunction,
)
from stepfunction.testing import mock_steps


def in_process(value: Any, context: Context) -> tuple[Any, str, int, int]:
    import os

    return value, context.step, context.attempt, os.getpid()


# --- mock_steps in processes --------------------------------------------------------


def test_a_mocked_process_step_runs_its_mock_in_the_process() -> None:
    import os

    workflow = chain("A", executor="process")
    with mock_steps(workflow, {"A": in_process}) as mocks:
        *seen, pid = workflow.execute({"order": 17}).output
    assert seen == [{"order": 17}, "A", 1] and pid != os.getpid()
    assert mocks["A"].calls == [{"order": 17}] and mocks["A"].count == 1


def test_a_list_is_gone_through_over_processes_threads_and_retries() -> None:
    workflow = StepFunction("W")
    retry = RetryPolicy(max_attempts=2, interval=0)
    inner = chain("Work")
    workflow.add_step("P", {"p": forbidden_for}, "Q", parallel=True, executor="process")
    workflow.add_step("Q", {"q": inner}, "R", parallel=True, executor="process")
    workflow.add_step("R", forbidden_for, executor="process", retry=retry)
    workflow.set_start_step("P")
    mocks = {"P.p": ["a", "b"], "Q.q/Work": ["c", "d"], "R": [OSError("!"), "e", "f"]}
    with mock_steps(workflow, mocks) as seen:
        first, second = workflow.execute(1), workflow.execute(2, executor="inline")
    assert dict(first.context) == {"P": {"p": "a"}, "Q": {"q": "c"}, "R": "e"}
    assert dict(second.context) == {"P": {"p": "b"}, "Q": {"q": "d"}, "R": "f"}
    assert [len(first.history[-1].attempts), seen["R"].count] == [2, 3]
    assert seen["P.p"].calls == [1, 2]
    assert seen["Q.q/Work"].calls == [{"p": "a"}, {"p": "b"}]


def test_tasks_in_processes_take_each_result_once() -> None:
    inner = chain("Work")
    workflow = StepFunction("W")
    workflow.add_step(
        "All", {name: inner for name in "abcd"}, parallel=True, executor="process"
    ).set_start_step("All")
    with mock_steps(inner, {"Work": list(range(4))}) as mocks:
        output = workflow.execute("x").output
    assert sorted(output.values()) == [0, 1, 2, 3]
    assert mocks["Work"].calls == ["x"] * 4


def test_an_exception_is_raised_in_the_process() -> None:
    workflow = chain("A", executor="process")
    with mock_steps(workflow, {"A": UnevenError(3, "three")}):
        with pytest.raises(StepExecutionError) as caught:
            workflow.execute()
    assert isinstance(caught.value.__cause__, UnevenError)


class UnevenError(Exception):
    def __init__(self, number: int, text: str) -> None:
        super().__init__(text)


def test_a_lambda_for_a_process_is_refused_before_anything_runs() -> None:
    workflow = parallel("a", executor="process")
    with pytest.raises(DefinitionError) as caught:
        with mock_steps(workflow, {"Update.a": lambda: 1}):
            pytest.fail("the block was entered")
    text = str(caught.value)
    assert "step 'Update', task 'a': its mock cannot be sent to a process" in text
    assert "define it at the top level of a module" in text
    assert workflow.compile().steps["Update"].action.tasks["a"].name == "forbidden_for"


def test_a_mock_called_in_a_process_after_its_block_says_so() -> None:
    go = threading.Event()
    workflow = StepFunction("W").add_step("A", forbidden_for, "B")
    workflow.add_step("B", forbidden_for, executor="process").set_start_step("A")
    with mock_steps(workflow, {"A": lambda: go.wait(10), "B": 2}):
        execution = workflow.start()
    go.set()
    assert execution.wait(20)
    assert "the mock of step 'B' was called in a process when its block had ended" in (
        str(execution.error)
    )


def test_what_processes_wrote_down_is_removed(tmp_path: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    workflow = chain("A", executor="process")
    with mock_steps(workflow, {"A": 1}):
        workflow.execute()
        assert [path.name[:17] for path in tmp_path.iterdir()] == ["stepfunction-mock"]
    assert list(tmp_path.iterdir()) == []


# --- as a newcomer uses it ----------------------------------------------------------


def test_a_list_goes_over_the_items_of_a_map_step_in_batches_of_processes() -> None:
    workflow = StepFunction("W")
    workflow.add_map_step("Each", forbidden_for, executor="process", batch_size=5)
    workflow.set_start_step("Each")
    with mock_steps(workflow, {"Each": list(range(20))}) as mocks:
        assert sorted(workflow.execute(["x"] * 20).output) == list(range(20))
    assert mocks["Each"].calls == ["x"] * 20
