"""Process steps and threads where gevent has made threads greenlets."""

from __future__ import annotations

import threading
from functools import partial

import pytest
from shared.workers import Program

from stepfunction import StepFunction

PATCH = "from gevent import monkey; monkey.patch_all()"
SOURCE = """
import os, time
def add(x): return x + 1
def die(x): os._exit(3)
async def later(x): return x + 1
def one(function, **options):
    workflow = StepFunction("W").add_step("A", function, **options)
    return workflow.set_start_step("A")
def several(function, **options):
    tasks = dict.fromkeys("abcd", function)
    workflow = StepFunction("W").add_step("A", tasks, parallel=True, **options)
    return workflow.set_start_step("A")
def lanes():
    with ProcessLanes(2) as lanes:
        return [call.result() for call in [lanes.submit(add, n) for n in range(6)]]
def kinds(workflow):
    kinds = {type(error).__name__ for error in workflow.execute(1).output.values()}
    return sorted(kinds)
def shown(call):
    try: return str(call())
    except StepFunctionError as error: return type(error.__cause__ or error).__name__
"""
USES = {
    "threads": ("several(add).execute(1).output", "{'a': 2, 'b': 2, 'c': 2, 'd': 2}"),
    "processes": (
        "several(add, executor='process').execute(1).output",
        "{'a': 2, 'b': 2, 'c': 2, 'd': 2}",
    ),
    "lanes": ("lanes()", "[1, 2, 3, 4, 5, 6]"),
    "large": (
        "len(one(bytes, executor='process').execute(20_000_000).output)",
        "20000000",
    ),
    "crash": ("kinds(several(die, executor='process'))", "['WorkerCrashedError']"),
    "timeout": (
        "one(time.sleep, executor='process', timeout=0.2).execute(60)",
        "StepTimeoutError",
    ),
    "apart": ("one(add).start(1).result(20)", "2"),
    "coroutine": ("one(later).execute(1).output", "2"),
}


@pytest.mark.parametrize("use", USES)
def test_a_program_that_gevent_has_patched_runs(tmp_path, use):
    call, expected = USES[use]
    program = Program(tmp_path, "")
    program.path.write_text(
        f"{PATCH}\nfrom stepfunction import *\n{SOURCE}"
        f"if __name__ == '__main__':\n    print(shown(lambda: {call}))\n"
    )
    code, out, err = program.run()
    assert (code, out) == (0, f"{expected}\n"), err


@pytest.mark.parametrize("use", ["threads", "processes", "lanes", "apart"])
def test_a_patch_that_comes_too_late_is_refused(tmp_path, use):
    program = Program(tmp_path, "")
    program.path.write_text(
        f"from stepfunction import *\n{PATCH}\n{SOURCE}"
        f"if __name__ == '__main__':\n    {USES[use][0]}\n"
    )
    code, _, err = program.run()
    assert code == 1
    assert "WorkerStartError: the module threading was patched after" in err


def test_other_greenlets_run_while_a_process_works(tmp_path):
    program = Program(tmp_path, "")
    program.path.write_text(
        f"""{PATCH}
import gevent
from stepfunction import *
{SOURCE}
def tick():
    while True:
        gevent.sleep(0)
        ticks.append(None)
if __name__ == "__main__":
    ticks = []
    ticking = gevent.spawn(tick)
    one(time.sleep, executor="process").execute(0.3)
    ticking.kill()
    print(len(ticks) > 9)
"""
    )
    code, out, err = program.run()
    assert (code, out) == (0, "True\n"), err


def test_a_debugger_that_watches_threads_start_is_no_such_patch(monkeypatch):
    for name in ("_start_new_thread", "_start_joinable_thread"):
        if hasattr(threading, name):
            start = getattr(threading, name)
            monkeypatch.setattr(threading, name, partial(start))
    workflow = StepFunction("W").add_step("A", {"a": abs, "b": abs}, parallel=True)
    assert workflow.set_start_step("A").execute(-1).output == {"a": 1, "b": 1}
