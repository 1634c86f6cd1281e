from __future__ import annotations

import ctypes
import os
import signal
import threading
import time
from pathlib import Path

import pytest
from shared.calls import double
from shared.processes import is_gone, pid, wait_for
from shared.workers import exit_by, tell_and_wait

from stepfunction import WorkerCrashedError


def close_all_files(seconds=0):
    os.closerange(3, 100)
    time.sleep(seconds)


def fault(value=None):
    ctypes.string_at(0)


def die_once_idle(path):
    def die():
        wait_for(Path(path))
        os._exit(5)

    threading.Thread(target=die, daemon=True).start()
    return os.getpid()


def die_once_idle_but_leave_a_child(path):
    child = os.fork()
    if child == 0:
        time.sleep(60)
        os._exit(0)
    return die_once_idle(path), child


def is_reaped(process_id, seconds=10.0):
    # A process whose main thread is a zombie may have another that holds its pipe.
    end = time.monotonic() + seconds
    while Path(f"/proc/{process_id}").exists():
        if time.monotonic() > end:
            return False
        time.sleep(0.01)
    return True


CRASHES = [
    (exit_by, 3, 3, "ended with exit code 3"),
    (
        exit_by,
        0,
        0,
        "ended with exit code 0; something that it called closed its pipe, or called "
        "os._exit(0)",
    ),
    (
        exit_by,
        signal.SIGKILL,
        -9,
        "was killed by SIGKILL; often that is the kernel, out of memory",
    ),
    (exit_by, signal.SIGTERM, -15, "was killed by SIGTERM"),
    (
        fault,
        None,
        -11,
        "was killed by SIGSEGV; that is a fault in native code that it called",
    ),
]


@pytest.mark.parametrize("function, argument, exitcode, reason", CRASHES)
def test_a_crash_names_the_call_the_process_and_the_reason(
    one_lane, function, argument, exitcode, reason
):
    worker = one_lane.submit(pid).result()
    error = one_lane.submit(function, argument).exception()
    assert type(error) is WorkerCrashedError
    assert (error.task, error.pid, error.exitcode) == (
        function.__name__,
        worker,
        exitcode,
    )
    assert str(error) == (
        f"the worker process of {function.__name__} (pid {worker}) {reason}"
    )


def test_a_worker_whose_files_are_closed_is_said_to_have_ended(one_lane):
    worker = one_lane.submit(pid).result()
    error = one_lane.submit(close_all_files).exception()
    assert str(error) == (
        f"the worker process of close_all_files (pid {worker}) ended with exit code 0; "
        "something that it called closed its pipe, or called os._exit(0)"
    )


def test_a_worker_that_cannot_answer_but_goes_on_is_said_to(one_lane, monkeypatch):
    monkeypatch.setattr("stepfunction.core.lanes.process._SECONDS_TO_LEAVE", 0.3)
    worker = one_lane.submit(pid).result()
    error = one_lane.submit(close_all_files, 60).exception()
    assert type(error) is WorkerCrashedError
    assert error.exitcode is None
    assert str(error) == (
        f"the worker process of close_all_files (pid {worker}) no longer answered, "
        "though it did not end"
    )
    assert is_gone(worker)


def test_a_crashed_worker_is_replaced(one_lane):
    worker = one_lane.submit(pid).result()
    assert isinstance(one_lane.submit(exit_by, 1).exception(), WorkerCrashedError)
    assert one_lane.submit(pid).result() != worker


def test_a_crash_takes_no_other_call_with_it(lanes, tmp_path):
    told, go = tmp_path / "on", tmp_path / "go"
    sibling = lanes.submit(tell_and_wait, (told, go))
    wait_for(told)
    crashed = lanes.submit(exit_by, signal.SIGKILL)
    waiting = [lanes.submit(double, n) for n in range(5)]
    assert isinstance(crashed.exception(), WorkerCrashedError)
    go.touch()
    assert sibling.result()
    assert [future.result() for future in waiting] == [0, 2, 4, 6, 8]


def test_a_worker_that_dies_idle_does_not_harm_the_next_call(one_lane, tmp_path):
    worker = one_lane.submit(die_once_idle, tmp_path / "die").result()
    (tmp_path / "die").touch()
    assert is_reaped(worker)
    assert one_lane.submit(pid).result() != worker


def test_a_dead_idle_worker_is_noticed_though_its_child_lives_on(one_lane, tmp_path):
    worker, child = one_lane.submit(
        die_once_idle_but_leave_a_child, tmp_path / "die"
    ).result()
    (tmp_path / "die").touch()
    assert is_reaped(worker)
    try:
        assert one_lane.submit(pid).result() != worker
    finally:
        is_gone(child, 0)
