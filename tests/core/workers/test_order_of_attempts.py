"""Attempts after the first go before all that waits, once their pauses are over."""

from __future__ import annotations

import os
import threading
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pytest
from shared.maps import mapped

from stepfunction import ProcessLanes, RetryPolicy, StepFunction

FOUR = RetryPolicy(max_attempts=4, interval=0)


def work(item, context, folder):
    descriptor = os.open(Path(folder, "order"), os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(descriptor, f"{item}\n".encode())
    os.close(descriptor)
    time.sleep(0.005)
    if item == 0 and context.attempt < 4:
        raise ConnectionError
    return item


def places_of_first(folder):
    order = Path(folder, "order").read_text().split()
    return [at for at, item in enumerate(order) if item == "0"]


@pytest.fixture(params=["thread", "process", "lanes", "threads of one's own", "pool"])
def executor(request):
    if request.param == "lanes":
        with ProcessLanes(2) as lanes:
            yield lanes
    elif request.param == "pool":
        with ProcessPoolExecutor(2, mp_context=get_context("forkserver")) as pool:
            yield pool
    elif request.param == "threads of one's own":
        with ThreadPoolExecutor(2) as pool:
            yield pool
    else:
        yield request.param


@pytest.mark.parametrize("max_workers", [2, None])
def test_an_item_is_tried_again_before_all_that_was_taken(
    executor, max_workers, tmp_path
):
    workflow = mapped(
        work, executor=executor, retry=FOUR, max_workers=max_workers,
        params={"folder": str(tmp_path)},
    )
    workflow.execute(range(300))
    places = places_of_first(tmp_path)
    workers = 32 if executor == "thread" and max_workers is None else 4
    assert len(places) == 4
    assert places[-1] - places[0] <= 3 * (2 * workers + 1), places


def test_a_task_is_tried_again_before_those_that_wait():
    order = []

    def note(name):
        def call(_, context):
            order.append(name)
            time.sleep(0.005)
            if name == "0" and context.attempt < 4:
                raise ConnectionError

        return call

    tasks = {str(n): note(str(n)) for n in range(200)}
    workflow = StepFunction("W").add_step(
        "Fan", tasks, parallel=True, max_workers=2, retry=FOUR
    )
    workflow.set_start_step("Fan").execute()
    places = [at for at, name in enumerate(order) if name == "0"]
    assert len(places) == 4
    # The first failure brings in what retries are made of.
    assert places[-1] - places[1] <= 2 * 5


def test_those_that_are_due_go_in_the_order_in_which_they_became_so():
    order, began = [], threading.Barrier(4, timeout=20)
    policy = RetryPolicy(max_attempts=2, interval=0)

    def call(item, context):
        if context.attempt == 1 and item < 4:
            began.wait()
            time.sleep(0.02 * item)
            raise ConnectionError
        order.append(item)
        time.sleep(0.001)

    mapped(call, max_workers=4, retry=policy).execute(range(300))
    assert order.index(0) < order.index(3)
    assert max(order.index(item) for item in range(4)) < 200
