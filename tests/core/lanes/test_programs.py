from __future__ import annotations

import os
import re
import signal

import pytest
from shared.processes import is_gone, pid
from shared.workers import Program, exit_by, fail

from stepfunction import StepFunction


def test_after_a_fork_the_child_has_workers_of_its_own(tmp_path):
    program = Program(
        tmp_path,
        """
if __name__ == "__main__":
    lanes = ProcessLanes(1)
    workers = {lanes.submit(pid).result()}
    child = os.fork()
    if child == 0:
        own = lanes.submit(pid).result()
        lanes.shutdown()
        os._exit(0 if own not in workers else 1)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    print(code, workers == {lanes.submit(pid).result()})
""",
    )
    assert program.run() == (0, "0 True\n", "")


def test_a_child_forked_while_a_call_runs_can_leave(tmp_path):
    program = Program(
        tmp_path,
        """
if __name__ == "__main__":
    lanes = ProcessLanes(1)
    future = lanes.submit(time.sleep, 0.3)
    child = os.fork()
    if child == 0:
        sys.exit(7)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), future.result())
""",
    )
    assert program.run() == (0, "7 None\n", "")


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_a_child_of_multiprocessing_may_leave_its_lanes_open(tmp_path, method):
    program = Program(
        tmp_path,
        f"""
import multiprocessing

def use():
    global lanes
    lanes = ProcessLanes(1)
    say(lanes.submit(len, "four").result())

if __name__ == "__main__":
    process = multiprocessing.get_context("{method}").Process(target=use)
    process.start()
    process.join(10)
    print(process.exitcode)
    process.kill()
""",
    )
    assert program.run() == (0, "4\n0\n", "")


USES = [
    "print(ProcessLanes(1).submit(pid).result())",
    "StepFunction('W').add_step('A', pid, executor='process')"
    ".set_start_step('A').execute()",
    "print('end', StepFunction('W').add_step('A', {'a': pid, 'b': pid}, parallel=True,"
    " executor='process').set_start_step('A').execute().output)",
]


@pytest.mark.parametrize("use", USES, ids=["lanes", "step", "tolerant"])
def test_a_script_without_the_main_guard_is_told_so(tmp_path, use):
    code, out, err = Program(tmp_path, use).run()
    assert code == 1
    assert out == ""
    assert 'if __name__ == "__main__":' in err
    assert "multiprocessing" not in err  # no traceback of the worker's own start
    last = err[err.rindex("stepfunction.core.errors") :]
    assert len(last.splitlines()) <= 15


@pytest.mark.parametrize("use", USES, ids=["lanes", "step", "tolerant"])
def test_a_daemonic_process_is_told_that_it_may_not_start_others(tmp_path, use):
    program = Program(
        tmp_path,
        f"""
import multiprocessing

def use():
    try:
        {use}
    except Exception as error:
        while error.__cause__ is not None:
            error = error.__cause__
        print(type(error).__name__, error)

if __name__ == "__main__":
    process = multiprocessing.get_context("spawn").Process(target=use, daemon=True)
    process.start()
    process.join()
""",
    )
    assert program.run() == (
        0,
        "WorkerStartError this process is daemonic (a worker of Celery or "
        "multiprocessing.Pool), so it may not start others; use executor='thread', or "
        "workers that are not daemonic (concurrent.futures, Celery with --pool threads "
        "or solo)\n",
        "",
    )


@pytest.mark.parametrize("method", ["forkserver", "spawn"])
def test_workers_do_not_outlive_a_killed_parent(tmp_path, method):
    program = Program(
        tmp_path,
        f"""
if __name__ == "__main__":
    lanes = ProcessLanes(2, start_method="{method}")
    print(lanes.submit(pid).result(), flush=True)
    lanes.submit(spin)
    lanes.submit(spin).result()
""",
    ).start()
    with program:
        workers = {int(program.stdout.readline()) for _ in range(3)}
        program.kill()
        assert [is_gone(worker) for worker in workers] == [True] * len(workers)


def test_workers_do_not_outlive_a_killed_parent_whose_forked_child_lives(tmp_path):
    program = Program(
        tmp_path,
        """
if __name__ == "__main__":
    lanes = ProcessLanes(1)
    say(lanes.submit(pid).result())
    future = lanes.submit(spin)
    child = os.fork()
    if child == 0:
        time.sleep(60)
        os._exit(0)
    say(child)
    future.result()
""",
    ).start()
    with program:
        worker, *others = [int(program.stdout.readline()) for _ in range(3)]
        (child,) = {*others} - {worker}
        program.kill()
        try:
            assert is_gone(worker)
        finally:
            os.kill(child, signal.SIGKILL)


@pytest.mark.parametrize(
    "use",
    [
        "lanes = ProcessLanes(1); lanes.submit(hang)",
        "lanes = ProcessLanes(1); [lanes.submit(hang) for _ in range(5)]",
        "ProcessLanes(1).submit(hang)",
        "threading.Thread(target=StepFunction('W').add_step('A', {'a': hang},"
        " parallel=True).set_start_step('A').execute, daemon=True).start()",
        "threading.Thread(target=StepFunction('W').add_step('A', hang, executor="
        "'process').set_start_step('A').execute, daemon=True).start()",
    ],
    ids=["lane", "queue", "dropped", "thread", "step"],
)
def test_a_hung_call_does_not_hold_up_the_end_of_the_program(tmp_path, use):
    program = Program(
        tmp_path,
        f"""
if __name__ == "__main__":
    {use}
    while not os.path.exists(__file__ + ".flag"):
        time.sleep(0.01)
""",
    )
    code, out, err = program.run()
    assert (code, out, err) == (0, "hangs\n", "")


def test_the_program_ends_though_an_executor_was_never_shut_down(tmp_path):
    program = Program(
        tmp_path,
        """
def use(): return ProcessLanes(1).submit(os.getppid).result()
if __name__ == "__main__":
    use()
    lanes = ProcessLanes(1)
    print(lanes.submit(len, "four").result())
""",
    )
    assert program.run() == (0, "4\n", "")


@pytest.mark.parametrize("fails", [False, True])
def test_no_process_is_left_after_an_execution(tmp_path, fails):
    workflow = StepFunction("W")
    tasks = {"pid": pid, "other": fail if fails else pid}
    workflow.add_step("Pid", tasks, parallel=True, executor="process")
    execution = workflow.set_start_step("Pid").execute()
    assert is_gone(execution.output["pid"], 0)


def test_reprs_of_errors_say_what_happened(one_lane):
    error = one_lane.submit(exit_by, 4).exception()
    assert re.fullmatch(
        r"WorkerCrashedError\('the worker process of exit_by \(pid \d+\) ended with "
        r"exit code 4'\)",
        repr(error),
    )
