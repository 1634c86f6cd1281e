from __future__ import annotations

import asyncio
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
import tenacity
from shared.mocked import HOURS, around, fail_twice, forbidden_for, negative, sleepy

from stepfunction import Execution, Status, StepExecutionError, StepFunction
from stepfunction.testing import SkippedWait, mock_steps, skip_waits

# --- skip_waits ---------------------------------------------------------------------


def test_retries_and_wait_steps_take_no_time_and_say_how_long_they_were() -> None:
    workflow = StepFunction("W")
    workflow.add_step("Fetch", forbidden_for, "Wait", retry=HOURS)
    workflow.add_wait_step("Wait", seconds=60).set_start_step("Fetch")
    with mock_steps(workflow, {"Fetch": [OSError(), OSError(), 1]}):
        with skip_waits() as skipped:
            assert workflow.execute().output == 1
    assert skipped.waits == [
        SkippedWait("step 'Fetch'", 3600),
        SkippedWait("step 'Fetch'", 7200),
        SkippedWait("step 'Wait'", 60),
    ]
    assert skipped.total == 10860
    assert repr(skipped) == "<SkippedWaits: 3 pauses, 10860 s>"


def test_a_wait_for_a_moment_is_skipped() -> None:
    moment = datetime.now(timezone.utc) + timedelta(hours=1)
    workflow = StepFunction("W").add_wait_step("Wait", until=moment)
    workflow.set_start_step("Wait")
    with skip_waits() as skipped:
        assert workflow.execute(5).output == 5
    assert 3000 < skipped.total <= 3600


def test_tasks_in_threads_and_nested_workflows_skip_too() -> None:
    workflow = StepFunction("W")
    tasks = {"a": fail_twice, "b": sleepy()}
    workflow.add_step("All", tasks, parallel=True, retry=HOURS).set_start_step("All")
    with skip_waits() as skipped:
        assert workflow.execute().output == {"a": "there", "b": "there"}
    whats = sorted(wait.what for wait in skipped.waits)
    task = "task 'a' of step 'All'"
    assert whats == ["step 'Try'", "step 'Try'", "step 'Wait'", task, task]


def test_workflows_nested_in_processes_skip_and_tell() -> None:
    inner = around(sleepy(), "Deep", executor="process")
    workflow = around(inner, executor="process")
    with skip_waits() as skipped:
        assert workflow.execute().output == "there"
    assert [wait.seconds for wait in skipped.waits] == [1800, 3600, 7200]


def test_what_runs_in_the_background_or_is_awaited_skips_too() -> None:
    workflow = sleepy()
    with skip_waits() as skipped:
        assert workflow.start().wait(20)
        assert asyncio.run(awaited(workflow)).output == "there"
    assert skipped.total == 2 * (1800 + 3600 + 7200)


async def awaited(workflow: StepFunction) -> Execution:
    return await workflow.aexecute()


def test_both_of_two_nested_blocks_are_told() -> None:
    with skip_waits() as outer:
        with skip_waits() as inner:
            sleepy().execute()
        sleepy().execute()
    assert (len(inner.waits), len(outer.waits)) == (3, 6)


def test_after_the_block_pauses_are_made_again() -> None:
    workflow = StepFunction("W").add_wait_step("Wait", seconds=3600)
    workflow.set_start_step("Wait")
    with pytest.raises(ZeroDivisionError), skip_waits():
        1 / 0
    execution = workflow.start()
    assert not execution.wait(0.05)
    execution.cancel()
    assert execution.wait(10) and execution.status is Status.CANCELLED


def test_a_retrying_of_tenacity_skips_its_pauses() -> None:
    retrying = tenacity.Retrying(
        stop=tenacity.stop_after_attempt(3), wait=tenacity.wait_fixed(600)
    )
    workflow = StepFunction("W").add_step("Try", fail_twice, retry=retrying)
    workflow.set_start_step("Try")
    with skip_waits() as skipped:
        assert workflow.execute().output == "there"
    assert skipped.total == 1200


@pytest.mark.parametrize(
    "stop, attempts",
    [(tenacity.stop_after_delay(1250), 4), (tenacity.stop_before_delay(1250), 3)],
)
def test_the_limit_of_a_retrying_of_tenacity_is_reached(
    stop: Any, attempts: int
) -> None:
    retrying = tenacity.Retrying(stop=stop, wait=tenacity.wait_fixed(600))
    workflow = StepFunction("W").add_step("Try", [].index, retry=retrying)
    workflow.set_start_step("Try")
    with skip_waits() as skipped, pytest.raises(StepExecutionError) as caught:
        workflow.execute(1)
    assert len(caught.value.execution.history[0].attempts) == attempts
    assert skipped.total == 600 * (attempts - 1)


# --- as a newcomer uses it ----------------------------------------------------------


@pytest.mark.parametrize("executor", ["thread", "process"])
def test_workflows_of_a_map_step_are_mocked_and_skip_waits(executor: Any) -> None:
    workflow = StepFunction("W").add_map_step("Each", sleepy(), executor=executor)
    workflow.set_start_step("Each")
    with mock_steps(workflow, {"Each/Try": negative}), skip_waits() as skipped:
        assert workflow.execute([1, 2]).output == [-1, -2]
    assert skipped.total == 2 * 1800


def test_retries_of_items_take_no_time() -> None:
    workflow = StepFunction("W").add_map_step("Each", fail_twice, retry=HOURS)
    workflow.set_start_step("Each")
    with skip_waits() as skipped:
        assert workflow.execute([1, 2]).output == ["there", "there"]
    assert skipped.total == 2 * (3600 + 7200)
