"""How often an item is called whose batch ends with the process that it was sent to."""

from __future__ import annotations

import os
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pytest
from shared.failures import failure_of
from shared.maps import mapped, tasks_of

from stepfunction import Outcome, ProcessLanes, RetryPolicy
from stepfunction.core.lanes import marks

RETRIES = [None, RetryPolicy(max_attempts=3, interval=0)]


@pytest.fixture(scope="module")
def lanes():
    with ProcessLanes(2) as executor:
        yield executor


def note(folder, item):
    descriptor = os.open(Path(folder, "lines"), os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(descriptor, f"{item}\n".encode())
    os.close(descriptor)


def noted(folder):
    path = Path(folder, "lines")
    return Counter(map(int, path.read_text().split())) if path.exists() else Counter()


def crash_at_three(item, folder, seconds=0.0):
    note(folder, item)
    time.sleep(seconds)
    if item == 3:
        os._exit(9)
    return item


class DiesWhereItIsRead:
    def __reduce__(self):
        return os._exit, (9,)


@pytest.mark.parametrize("retry", RETRIES)
@pytest.mark.parametrize("seconds", [0.0, 0.005])
@pytest.mark.parametrize("batch_size", [1, 4, 8])
def test_the_item_that_kills_its_process_is_called_as_often_as_its_policy_says(
    lanes, tmp_path, retry, seconds, batch_size
):
    params = {"folder": str(tmp_path), "seconds": seconds}
    workflow = mapped(
        crash_at_three, executor=lanes, batch_size=batch_size, retry=retry,
        params=params, max_workers=1,
    )
    execution = workflow.execute(range(8))
    times = 1 if retry is None else retry.max_attempts
    assert noted(tmp_path)[3] == times
    (record,) = [it for it in tasks_of(execution) if it.item == 3]
    assert [str(it.outcome) for it in record.attempts] == ["CRASHED"] * times
    assert "the worker process of item 3 of step 'Map'" in str(record.error)
    output = execution.output
    assert [*output[:3], *output[4:]] == [0, 1, 2, 4, 5, 6, 7]
    assert all(noted(tmp_path)[item] == 1 for item in range(4, 8))
    if seconds:  # so long that each is heard of before the next begins
        assert all(noted(tmp_path)[item] == 1 for item in range(3))


@pytest.mark.parametrize("retry", RETRIES)
def test_it_is_so_where_workers_have_no_memory_to_share(monkeypatch, tmp_path, retry):
    def refuse(purpose):
        raise OSError("no memory")

    monkeypatch.setattr(marks, "open_nameless", refuse)
    with ProcessLanes(1) as lanes:
        workflow = mapped(
            crash_at_three, executor=lanes, batch_size=8, retry=retry,
            params={"folder": str(tmp_path)},
        )
        output = workflow.execute(range(8)).output
    calls = noted(tmp_path)
    assert calls.pop(3) == (1 if retry is None else retry.max_attempts)
    assert calls == Counter([0, 1, 2, 4, 5, 6, 7])
    assert [*output.failed] == [3]


def test_what_had_ended_as_another_crashed_is_not_said_to_have_never_begun(
    lanes, tmp_path
):
    workflow = mapped(
        crash_at_three, executor=lanes, batch_size=8, max_workers=1,
        params={"folder": str(tmp_path)}, stop_on_failure=True,
    )
    error = failure_of(workflow, range(8))
    assert noted(tmp_path) == Counter(range(4))
    assert error.outcomes[3] is Outcome.CRASHED
    for item in range(3):  # killed where its result was lost
        assert error.outcomes[item] in (Outcome.SUCCEEDED, Outcome.KILLED)
    assert {error.outcomes[item] for item in range(4, 8)} == {Outcome.CANCELLED}


def test_a_batch_that_kills_its_process_before_its_first_item_goes_on_one_by_one(lanes):
    items = [0, 1, DiesWhereItIsRead(), 3]
    output = mapped(type, executor=lanes, batch_size=4).execute(items).output
    assert [*output.failed] == [2]
    assert "the worker process of item 2 of step 'Map'" in str(output[2])
    assert [output[at] for at in (0, 1, 3)] == [int] * 3


@pytest.mark.parametrize("retry", RETRIES)
def test_on_a_pool_of_somebody_else_no_item_is_called_more_often(tmp_path, retry):
    with ProcessPoolExecutor(1, mp_context=get_context("forkserver")) as pool:
        workflow = mapped(
            crash_at_three, executor=pool, batch_size=8, retry=retry,
            params={"folder": str(tmp_path)},
        )
        execution = workflow.execute(range(8))
    assert noted(tmp_path) == Counter(range(4))  # for then the pool is broken
    assert {it.outcome for it in tasks_of(execution)} == {Outcome.CRASHED}
    assert [it.item for it in tasks_of(execution)] == list(range(8))
