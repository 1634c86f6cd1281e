from __future__ import annotations

import os
import socket
import time
from contextlib import suppress
from pathlib import Path

import pytest
from shared.calls import double

from stepfunction import Outcome, ProcessLanes, StepFunction, StepTimeoutError

MEGABYTE = 2**20


class Counted:
    """Says in a file how often it is pickled and unpickled."""

    def __init__(self, path, data):
        self.path = path
        self.data = data

    def __getstate__(self):
        note(self.path, "pickled")
        return self.__dict__

    def __setstate__(self, state):
        self.__dict__.update(state)
        note(self.path, "unpickled")


def note(path, word):
    with open(path, "a") as file:
        file.write(f"{word}\n")


def size(value):
    return len(value.data if isinstance(value, Counted) else value)


def crash(value):
    os._exit(3)


def hang(value):
    time.sleep(60)


def shorten(value):
    return value[3 * MEGABYTE :]


def give_sockets_a_timeout(value):
    socket.setdefaulttimeout(10)
    return bytes(9 * MEGABYTE)


def parcels(value=None):
    """Give the large parcels that this process has open, or has mapped."""
    found = Path("/proc/self/maps").read_text().splitlines()
    for path in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):  # the descriptor that listed them
            found.append(os.readlink(path))
    return [line for line in found if "memfd:stepfunction" in line]


@pytest.fixture(scope="module")
def lanes():
    with ProcessLanes(max_workers=2) as executor:
        yield executor


def fan_out(tasks, executor, **options):
    workflow = StepFunction("W")
    workflow.add_step("Fan", tasks, parallel=True, executor=executor, **options)
    return workflow.set_start_step("Fan")


def task(execution, name):
    return next(record for record in execution.history if record.task == name)


def test_a_hundred_megabytes_are_pickled_once_and_unpickled_once_a_task(tmp_path):
    value = Counted(tmp_path / "notes", bytes(100 * MEGABYTE))
    tasks = dict.fromkeys(("a", "b", "c", "d"), size)

    output = fan_out(tasks, "process", max_workers=2).execute(value).output

    assert output == dict.fromkeys(tasks, 100 * MEGABYTE)
    notes = value.path.read_text().split()
    assert notes.count("pickled") == 1
    assert notes.count("unpickled") == 4


@pytest.mark.parametrize("megabytes", [7, 8, 9, 40])
def test_inputs_and_results_of_any_size_arrive_whole(lanes, megabytes):
    value = os.urandom(1000) * (megabytes * MEGABYTE // 1000)
    workflow = StepFunction("W").add_step("Double", double, executor=lanes)

    assert workflow.set_start_step("Double").execute(value).output == value * 2


def test_large_values_arrive_whole_though_sockets_have_a_timeout(request):
    request.addfinalizer(lambda: socket.setdefaulttimeout(None))
    socket.setdefaulttimeout(10)
    large, middling = os.urandom(9 * MEGABYTE), os.urandom(7 * MEGABYTE)

    with ProcessLanes(max_workers=1) as lanes:  # not to spoil the pipes of others
        for value in (large, middling):
            output = fan_out({"a": shorten}, lanes).execute(value).output
            assert output["a"] == value[3 * MEGABYTE :]


def test_a_worker_stays_though_a_task_gives_sockets_a_timeout():
    with ProcessLanes(max_workers=1) as lanes:
        pid = lanes.submit(os.getpid).result()
        assert len(lanes.submit(give_sockets_a_timeout, 0).result()) == 9 * MEGABYTE
        assert lanes.submit(os.getpid).result() == pid


def test_many_small_values_that_are_large_together_arrive_whole(lanes):
    value = {number: f"value {number}" for number in range(600_000)}

    output = fan_out({"size": len, "same": dict}, lanes).execute(value).output

    assert output["size"] == 600_000
    assert output["same"] == value


def test_another_attempt_is_given_the_large_input_again(lanes, tmp_path):
    from stepfunction import RetryPolicy

    value = Counted(tmp_path / "notes", bytes(9 * MEGABYTE))
    policy = RetryPolicy(2, interval=0)

    execution = fan_out({"a": crash, "b": size}, lanes, retry=policy).execute(value)

    assert len(task(execution, "a").attempts) == 2
    assert execution.output["b"] == 9 * MEGABYTE
    assert value.path.read_text().split().count("pickled") == 1


@pytest.mark.parametrize("tasks", [{"a": size}, {"a": crash}, {"a": crash, "b": size}])
def test_nothing_of_a_large_input_is_left_over(lanes, tasks):
    fan_out(tasks, lanes).execute(bytes(9 * MEGABYTE))

    assert parcels() == []
    both = fan_out({"one": parcels, "other": parcels}, lanes).execute(0).output
    assert both == {"one": [], "other": []}


def test_nothing_is_left_of_a_large_input_that_cannot_be_pickled(lanes):
    from stepfunction import StepExecutionError

    value = [bytes(9 * MEGABYTE), parcels, lambda: None]

    with pytest.raises(StepExecutionError, match=r"input\[2\]: "):
        fan_out({"a": size}, lanes).execute(value)

    assert parcels() == []


def test_a_deadline_is_kept_while_a_large_input_is_on_its_way(lanes):
    value = bytes(100 * MEGABYTE)
    hung = fan_out({"hang": hang}, lanes, timeout=0.5)
    large = fan_out({"a": size, "b": size}, "process", max_workers=2)

    execution = hung.start(1)
    assert large.execute(value).output == {"a": 100 * MEGABYTE, "b": 100 * MEGABYTE}
    execution.wait()

    record = task(execution, "hang")
    assert record.outcome is Outcome.TIMED_OUT
    assert isinstance(record.error, StepTimeoutError)
    assert record.duration < 2
