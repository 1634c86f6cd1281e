"""Calls that a worker is given before it needs them."""

from __future__ import annotations

import os
import threading
import time
from concurrent.futures import CancelledError, wait

import pytest
from shared.calls import double
from shared.processes import pid, wait_for
from shared.workers import tell_and_wait, touch

from stepfunction import (
    ProcessLanes,
    StepFunction,
    WorkerCrashedError,
    WorkerKilledError,
)
from stepfunction.core.envelope.envelope import pack
from stepfunction.core.lanes import hopper, lane, pace

LONG = 30.0  # no test takes as long
SENDER = object()
HEAD = pack((double, (1,), {}))


@pytest.fixture
def busy_lane():
    """A lane that has learnt that its calls are short."""
    with ProcessLanes(1) as lanes:
        learn(lanes)
        yield lanes


@pytest.fixture
def eager(monkeypatch):
    """All calls pass for short ones."""
    monkeypatch.setattr(pace, "_LONGEST", 1e6)


@pytest.fixture
def patient(monkeypatch, eager):
    """Calls that wait at a worker stay there, however long the first takes."""
    monkeypatch.setattr(lane, "_LONGEST_WAIT", LONG)


def learn(lanes):
    for _ in range(20):
        lanes.submit(double, 1).result()


def waits_at_a_worker(future):
    return future.counter is not None


def hold_up(lanes, path, calls):
    """Give calls to a worker ahead of need: those that wait when it ends the first."""
    go = [path / "go 0", path / "go 1"]
    told = [path / "on 0", path / "on 1"]
    first = lanes.submit(tell_and_wait, (told[0], go[0]))
    wait_for(told[0])
    second = lanes.submit(tell_and_wait, (told[1], go[1]))
    behind = [lanes.submit(*call) for call in calls]
    go[0].touch()
    first.result()
    wait_for(told[1])
    return second, go[1], behind


def note(path, text):
    with open(path, "a") as file:
        file.write(f"{text}\n")


def note_and_exit(path, text):
    note(path, text)
    os._exit(3)


def seen(path):
    return path.read_text().split() if path.exists() else []


class TestCallsThatWaitAtAWorker:
    @pytest.fixture(autouse=True)
    def _hold_up(self, tmp_path, patient):
        self.path = tmp_path / "notes"
        with ProcessLanes(1) as self.lanes:
            learn(self.lanes)
            calls = [(note, self.path, name) for name in "abcd"]
            self.gate, self.go, self.behind = hold_up(self.lanes, tmp_path, calls)
            while not all(map(waits_at_a_worker, self.behind)):
                time.sleep(0)
            yield
            self.go.touch()

    def test_are_made_in_their_order(self):
        self.go.touch()
        wait(self.behind)
        assert seen(self.path) == [*"abcd"]

    def test_are_not_running(self):
        assert not any(future.running() for future in self.behind)
        assert self.gate.running()

    def test_can_be_cancelled_one_by_one(self):
        assert self.behind[1].cancel()
        assert self.behind[1].cancelled()
        self.go.touch()
        wait(self.behind)
        assert seen(self.path) == [*"acd"]
        with pytest.raises(CancelledError):
            self.behind[1].result()

    def test_are_told_of_to_who_waits_when_they_are_cancelled(self):
        threading.Timer(0.05, self.behind[2].cancel).start()
        done, _ = wait(self.behind[2:3], LONG)
        assert done

    def test_are_cancelled_by_kill_and_no_other_is_killed(self):
        assert self.lanes.kill(self.behind[0])
        assert self.behind[0].cancelled()
        self.go.touch()
        self.gate.result()
        wait(self.behind)
        assert seen(self.path) == [*"bcd"]

    def test_are_made_by_another_worker_when_theirs_is_killed(self):
        assert self.lanes.kill(self.gate)
        assert isinstance(self.gate.exception(), WorkerKilledError)
        assert [future.exception() for future in self.behind] == [None] * 4
        assert seen(self.path) == [*"abcd"]

    def test_are_cancelled_with_what_is_shut_down(self):
        self.lanes.shutdown(wait=False, cancel_futures=True)
        wait(self.behind)
        assert all(future.cancelled() for future in self.behind)
        self.go.touch()
        self.gate.result()
        assert seen(self.path) == []

    def test_are_cancelled_when_all_is_killed(self):
        self.lanes.kill_all()
        wait([self.gate, *self.behind])
        assert isinstance(self.gate.exception(), WorkerKilledError)
        assert all(future.cancelled() for future in self.behind)
        assert seen(self.path) == []

    def test_are_made_before_a_shutdown_is_over(self):
        self.go.touch()
        self.lanes.shutdown()
        assert all(future.done() for future in self.behind)
        assert seen(self.path) == [*"abcd"]


@pytest.mark.usefixtures("patient")
def test_the_call_that_had_begun_is_blamed_and_others_are_made_once(tmp_path):
    path = tmp_path / "notes"
    with ProcessLanes(1) as lanes:
        learn(lanes)
        kinds = [note, note, note_and_exit, note, note_and_exit, note]
        calls = [(kind, path, number) for number, kind in enumerate(kinds)]
        _, go, behind = hold_up(lanes, tmp_path, calls)
        go.touch()
        errors = [future.exception() for future in behind]
    blamed = [number for number, error in enumerate(errors) if error is not None]
    assert blamed == [2, 4]
    assert all(type(errors[number]) is WorkerCrashedError for number in blamed)
    assert errors[2].pid != errors[4].pid
    assert seen(path) == [*"012345"]


@pytest.mark.usefixtures("eager")
def test_what_waits_for_a_call_that_takes_long_is_made_by_another_worker(tmp_path):
    with ProcessLanes(2) as lanes:
        other = lanes.submit(tell_and_wait, (tmp_path / "other", tmp_path / "free"))
        wait_for(tmp_path / "other")
        learn(lanes)
        calls = [(touch, tmp_path / name) for name in "abc"]
        gate, go, behind = hold_up(lanes, tmp_path, calls)
        (tmp_path / "free").touch()
        other.result()
        assert wait(behind, LONG).not_done == set()
        assert not gate.done()
        go.touch()


def test_a_call_is_not_given_to_a_busy_worker_while_another_is_free(tmp_path):
    with ProcessLanes(2) as lanes:
        for _ in range(2):
            wait([lanes.submit(time.sleep, 0.01) for _ in range(2)])
        learn(lanes)
        for number in range(20):
            go = tmp_path / f"go {number}"
            gate = lanes.submit(tell_and_wait, (tmp_path / f"on {number}", go))
            assert lanes.submit(double, 1).result(LONG) == 2
            go.touch()
            gate.result()


def test_executions_have_their_turns_on_the_same_lanes(busy_lane, tmp_path):
    """One that has handed out many calls does not let another wait for all of them."""
    go = tmp_path / "go"
    gate = busy_lane.submit(tell_and_wait, (tmp_path / "on", go))
    wait_for(tmp_path / "on")
    path = str(tmp_path / "notes")
    workflows = {}
    for name in "ab":
        workflow = StepFunction(name)
        call = note_a if name == "a" else note_b
        count = 12 if name == "a" else 1
        workflow.add_map_step("S", call, items=lambda x, n=count: [path] * n)
        workflows[name] = workflow.set_start_step("S")
    first = workflows["a"].start(None, executor=busy_lane)
    wait_until_waiting(busy_lane, 2)
    second = workflows["b"].start(None, executor=busy_lane)
    wait_until_waiting(busy_lane, 3)
    go.touch()
    gate.result()
    first.wait(LONG), second.wait(LONG)
    assert seen(tmp_path / "notes").index("b") < 3


def note_a(path):
    note(path, "a")


def note_b(path):
    note(path, "b")


def wait_until_waiting(lanes, count):
    while lanes._backlog._waiting < count:
        time.sleep(0.001)


def test_without_a_hopper_calls_are_made_one_by_one(monkeypatch):
    monkeypatch.setattr(hopper, "_KIND", None)
    with ProcessLanes(2) as lanes:
        futures = [lanes.submit(double, number) for number in range(100)]
        assert [future.result() for future in futures] == [*range(0, 200, 2)]


@pytest.mark.usefixtures("patient")
def test_a_worker_is_given_no_more_calls_than_it_may_make():
    with ProcessLanes(1, max_tasks_per_child=7) as lanes:
        learn(lanes)
        pids = [future.result() for future in [lanes.submit(pid) for _ in range(70)]]
    assert max(pids.count(worker) for worker in pids) <= 7


def test_logs_and_limits_are_those_of_the_call_that_they_belong_to(busy_lane, caplog):
    workflow = StepFunction("F").add_map_step(
        "S", log, items=lambda x: range(60), timeout=LONG
    )
    workflow.set_start_step("S")
    output = workflow.execute(None, executor=busy_lane).output
    assert list(output) == [*range(60)]
    texts = [record.getMessage() for record in caplog.records]
    assert sorted(texts) == sorted(f"item {number}" for number in range(60))


def log(number):
    import logging

    logging.getLogger("ahead").warning("item %d", number)
    return number


def test_a_timeout_counts_from_when_a_call_begins(busy_lane):
    """Sixty short calls wait for each other, longer than each may take."""
    workflow = StepFunction("F").add_map_step(
        "S", nap, items=lambda x: [0.02] * 60, timeout=0.6
    )
    execution = workflow.set_start_step("S").execute(None, executor=busy_lane)
    assert not execution.output.failed


def nap(seconds):
    time.sleep(seconds)


def test_a_large_call_goes_between_small_ones(busy_lane):
    sizes = [10, 3_000, 9_000, 200_000, 10, 9 * 2**20, 10, 8_100, 8_190]
    futures = [busy_lane.submit(len, bytes(size)) for size in sizes * 4]
    assert [future.result() for future in futures] == sizes * 4


def give_back(size):
    return bytes(size)


def test_large_answers_to_calls_that_wait_do_not_lock_both_sides(busy_lane):
    futures = [busy_lane.submit(give_back, 400_000) for _ in range(60)]
    assert [len(future.result()) for future in futures] == [400_000] * 60


def test_a_worker_that_dies_between_calls_is_blamed_for_none(busy_lane, tmp_path):
    worker = busy_lane.submit(pid).result()
    for _ in range(5):
        os.kill(worker, 9)
        futures = [busy_lane.submit(pid) for _ in range(20)]
        found = {future.result() for future in futures}
        assert len(found) == 1 and worker not in found
        worker = found.pop()


def test_a_second_attempt_does_not_wait_for_all_that_was_handed_out(
    busy_lane, tmp_path
):
    go = tmp_path / "go"
    busy_lane.submit(tell_and_wait, (tmp_path / "on", go))
    wait_for(tmp_path / "on")
    order = []
    futures = [busy_lane._send(str(n), HEAD, b"", sender=SENDER) for n in range(40)]
    urgent = busy_lane._send("urgent", HEAD, b"", sender=SENDER, is_urgent=True)
    for future in (*futures, urgent):
        future.add_done_callback(lambda done: order.append(done.label))
    go.touch()
    wait([*futures, urgent])
    assert order.index("urgent") <= 1 + pace._MOST


def test_a_call_that_is_taken_past_one_that_is_taken_back_keeps_its_answer(
    monkeypatch, patient, tmp_path
):
    passed = tmp_path / "passed"
    calls = [(abs, -2), (touch, passed), (abs, -4)]

    def take_the_first_alone(outlet):
        header = outlet._end.recv(hopper._HEADER.size, hopper._AT_ONCE)
        go.touch()  # so that the worker takes what stood behind it
        wait_for(passed)
        return [hopper._HEADER.unpack(header)[1]]

    with ProcessLanes(1) as lanes:
        learn(lanes)
        _, go, (second, third, fourth) = hold_up(lanes, tmp_path, calls)
        while not all(map(waits_at_a_worker, (second, third, fourth))):
            time.sleep(0)
        with monkeypatch.context() as patches:
            patches.setattr(hopper.Outlet, "drain", take_the_first_alone)
            fourth.cancel()
        assert [it.result() for it in (second, third)] == [2, None]
        assert fourth.result() == 4
