"""Who may go on with a run, and when: one at a time, and once the last is dead."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

import gated
import pytest
from driver import environment
from shared.processes import is_alive, wait_for

from stepfunction import ExecutionClaimedError
from stepfunction.stores import SQLiteStore

SCRIPT = Path(gated.__file__)


class Scene:
    """A folder with a store and a ledger, and the programs that use them."""

    def __init__(self, folder):
        self.folder = folder
        self.programs = []

    def start(self, command="run", **more):
        program = subprocess.Popen(
            [sys.executable, "-W", "ignore::DeprecationWarning", SCRIPT, command],
            env=environment(self.folder, **more),
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self.programs.append(program)
        return program

    def answer(self, program):
        answer, _ = program.communicate(timeout=50)
        return answer.strip()

    def ledger(self):
        path = self.folder / "ledger"
        return path.read_text().splitlines() if path.exists() else []

    def wait_for_line(self, start, times=1):
        end = time.monotonic() + 20
        while sum(line.startswith(start) for line in self.ledger()) < times:
            assert time.monotonic() < end, self.ledger()
            time.sleep(0.005)

    def tell(self, name):
        (self.folder / name).touch()

    def store(self):
        return SQLiteStore(self.folder / "runs.db")


@pytest.fixture
def scene(tmp_path):
    scene = Scene(tmp_path)
    yield scene
    for program in scene.programs:
        with suppress(ProcessLookupError):
            os.killpg(program.pid, signal.SIGKILL)  # with what it has forked
        program.communicate()


def test_a_run_that_is_stopped_is_not_taken_over(scene):
    program = scene.start()
    scene.wait_for_line("second")
    program.send_signal(signal.SIGSTOP)
    with scene.store() as store, pytest.raises(ExecutionClaimedError) as raised:
        gated.gated.execute(17, store=store, execution_id=gated.ID)
    assert (raised.value.id, raised.value.pid) == (gated.ID, program.pid)
    assert raised.value.host == socket.gethostname()
    program.send_signal(signal.SIGCONT)
    scene.tell("go")
    assert scene.answer(program) == "COMPLETED 17"
    assert len([line for line in scene.ledger() if "gated" in line]) == 3


def test_one_of_two_goes_on_with_what_has_died(scene):
    dead = scene.start()
    scene.wait_for_line("second")
    dead.kill()
    dead.wait()
    both = [scene.start(), scene.start()]
    while not (ended := [program for program in both if program.poll() is not None]):
        time.sleep(0.005)
    (refused,) = ended
    (winner,) = set(both) - {refused}
    assert scene.answer(refused) == f"claimed by {winner.pid}"
    scene.tell("go")
    assert scene.answer(winner) == "COMPLETED 17"
    assert [line for line in scene.ledger() if "gated" in line] == [
        "first gated",
        f"second gated {dead.pid}",
        f"second gated {winner.pid}",
        f"third gated {winner.pid}",
    ]


@pytest.mark.timeout(180)
def test_many_processes_recover_many_runs_each_once(scene):
    scene.tell("die")
    assert scene.answer(scene.start("many")) == "dead"
    (scene.folder / "die").unlink()
    scene.tell("go")
    recovering = [scene.start("recover") for _ in range(8)]
    answers = [scene.answer(program) for program in recovering]
    assert all(answer.endswith("recovered") for answer in answers)
    calls = Counter(" ".join(line.split()[:3]) for line in scene.ledger())
    for number in range(200):
        assert calls[f"first run {number}"] == 1
        assert calls[f"second run {number}"] == 2
        assert calls[f"third run {number}"] == 1


@pytest.mark.parametrize("off", [-86400, 86400])
def test_a_pause_is_never_longer_for_the_clock(scene, off):
    program = scene.start("pause")
    wait_for(scene.folder, "runs.db")
    time.sleep(0.3)  # so that it is in the wait step, if it is quick
    program.kill()
    program.wait()
    began = time.monotonic()
    program = scene.start("pause", CLOCK=str(off))
    scene.wait_for_line("attempt 1")
    program.kill()
    program.wait()
    assert scene.answer(scene.start("pause")) == "COMPLETED 17"
    assert time.monotonic() - began < 20
    attempts = [line for line in scene.ledger() if line.startswith("attempt")]
    assert attempts[-1] == "attempt 2"


def test_a_forked_child_that_goes_on_is_refused(scene):
    scene.tell("fork")
    program = scene.start()
    wait_for(scene.folder, "forked")
    scene.tell("go")
    answers = []
    os.waitid(os.P_PID, program.pid, os.WEXITED | os.WNOWAIT)
    scene.tell("child")
    answers = scene.answer(program).splitlines()
    assert answers == ["COMPLETED 17", f"claimed by {program.pid}"]
    assert sum(line.startswith("third") for line in scene.ledger()) == 1


def test_a_forked_child_that_lives_on_keeps_no_claim(scene):
    scene.tell("fork")
    program = scene.start()
    child = int(wait_for(scene.folder, "forked").read_text())
    (scene.folder / "fork").unlink()
    program.kill()
    program.wait()
    scene.tell("go")
    assert scene.answer(scene.start()) == "COMPLETED 17"
    assert is_alive(child)
