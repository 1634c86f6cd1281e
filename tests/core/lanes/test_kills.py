from __future__ import annotations

import os
import subprocess
import sys
import time
from concurrent.futures import CancelledError

import pytest
from shared.calls import double
from shared.processes import is_gone, pid, tell, wait_for
from shared.workers import tell_and_wait, touch

from stepfunction import ProcessLanes, WorkerKilledError


def tell_and_spin(path):
    tell(path, str(os.getpid()))
    while True:
        pass


def spin_with_a_child(path):
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    tell(path, f"{os.getpid()} {child.pid}")
    while True:
        pass


def test_a_future_tells_waiting_from_running_from_done(one_lane, tmp_path):
    told, go = tmp_path / "on", tmp_path / "go"
    first = one_lane.submit(tell_and_wait, (told, go))
    second = one_lane.submit(double, 1)
    wait_for(told)
    assert (first.running(), first.done()) == (True, False)
    assert (second.running(), second.done()) == (False, False)
    assert not first.cancel()
    go.touch()
    assert second.result() == 2
    assert (first.running(), first.done()) == (False, True)


def test_a_cancelled_call_never_runs(one_lane, tmp_path):
    told, go = tmp_path / "on", tmp_path / "go"
    first = one_lane.submit(tell_and_wait, (told, go))
    second = one_lane.submit(touch, tmp_path / "second")
    assert second.cancel()
    go.touch()
    first.result()
    assert one_lane.submit(double, 1).result() == 2
    assert not (tmp_path / "second").exists()
    with pytest.raises(CancelledError):
        second.result()


def test_kill_cancels_a_call_that_waits(one_lane, tmp_path):
    told, go = tmp_path / "on", tmp_path / "go"
    first = one_lane.submit(tell_and_wait, (told, go))
    second = one_lane.submit(touch, tmp_path / "second")
    assert one_lane.kill(second)
    assert second.cancelled()
    go.touch()
    first.result()
    assert not (tmp_path / "second").exists()


def test_kill_stops_a_call_that_runs(one_lane, tmp_path):
    future = one_lane.submit(tell_and_spin, tmp_path / "pid")
    worker = int(wait_for(tmp_path / "pid").read_text())
    assert one_lane.kill(future)
    error = future.exception()
    assert type(error) is WorkerKilledError
    assert (error.task, error.pid, error.exitcode) == ("tell_and_spin", worker, -9)
    assert str(error) == (
        f"the worker process of tell_and_spin (pid {worker}) was killed on request"
    )
    assert is_gone(worker)


def test_kill_stops_a_call_whose_worker_is_still_starting(tmp_path):
    with ProcessLanes(1) as lanes:
        future = lanes.submit(tell_and_spin, tmp_path / "pid")
        while not future.running():
            time.sleep(0)
        assert lanes.kill(future)
        assert isinstance(future.exception(), WorkerKilledError)
        assert not (tmp_path / "pid").exists()
        assert lanes.submit(double, 1).result() == 2


def test_kill_at_any_moment_stops_the_call_or_comes_too_late(one_lane):
    for _ in range(20):
        future = one_lane.submit(double, 1)
        killed = one_lane.kill(future)
        if future.cancelled():
            assert killed
        elif future.exception() is not None:
            assert killed and isinstance(future.exception(), WorkerKilledError)
        else:
            assert future.result() == 2
        assert one_lane.submit(double, 3).result() == 6


def test_there_is_nothing_to_kill_in_a_call_that_has_ended(one_lane):
    future = one_lane.submit(pid)
    worker = future.result()
    assert not one_lane.kill(future)
    assert one_lane.submit(pid).result() == worker


def test_a_kill_leaves_the_other_calls_alone(lanes, tmp_path):
    told, go = tmp_path / "on", tmp_path / "go"
    spinning = lanes.submit(tell_and_spin, tmp_path / "pid")
    sibling = lanes.submit(tell_and_wait, (told, go))
    wait_for(tmp_path / "pid")
    wait_for(told)
    assert lanes.kill(spinning)
    assert isinstance(spinning.exception(), WorkerKilledError)
    go.touch()
    assert sibling.result()


def test_the_children_of_a_killed_worker_die_with_it(one_lane, tmp_path):
    future = one_lane.submit(spin_with_a_child, str(tmp_path / "pids"))
    worker, child = map(int, wait_for(tmp_path / "pids").read_text().split())
    one_lane.kill(future)
    assert isinstance(future.exception(), WorkerKilledError)
    assert is_gone(worker)
    assert is_gone(child)
