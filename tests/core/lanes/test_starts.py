"""What is done where a worker cannot be started, and that it is no task's failure."""

from __future__ import annotations

import gc
import os
import resource
import signal
import subprocess
import sys
import threading
from contextlib import contextmanager, suppress
from multiprocessing import util
from pathlib import Path

import pytest
from shared.processes import Session, is_alive, pid, stats, tell, wait_for
from shared.workers import Program, tell_and_wait

from stepfunction import (
    ProcessLanes,
    RetryPolicy,
    StepFunction,
    WorkerCrashedError,
    WorkerStartError,
)


def add(value):
    return value + 1


def one(**options):
    options.setdefault("executor", "process")
    return StepFunction("W").add_step("A", add, **options).set_start_step("A")


def several(**options):
    options.setdefault("executor", "process")
    tasks = dict.fromkeys("abc", add)
    workflow = StepFunction("W").add_step("A", tasks, parallel=True, **options)
    return workflow.set_start_step("A")


def open_files():
    gc.collect()
    return len(os.listdir("/proc/self/fd"))


def servers():
    """Give the processes from which workers of this one are forked."""
    found = []
    for stat in stats():
        if int(stat[3]) == os.getpid():
            with suppress(FileNotFoundError):
                command = Path(f"/proc/{stat[0]}/cmdline").read_bytes()
                if b"core.lanes.forking" in command:
                    found.append(int(stat[0]))
    return found


@contextmanager
def at_most(files):
    """Let this process open no more files than these, beside those that are open."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    taken = {*map(int, os.listdir("/proc/self/fd"))}
    free = [number for number in range(300) if number not in taken]
    resource.setrlimit(resource.RLIMIT_NOFILE, (free[files], before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def refuse_memory(*_):
    raise OSError(12, "Cannot allocate memory")


WORKFLOWS = {
    "step": lambda: one(),
    "retried": lambda: one(retry=RetryPolicy(3, interval=0)),
    "tasks": lambda: several(),
    "items": lambda: StepFunction("W")
    .add_map_step("A", add, items=lambda n: [n] * 5, executor="process")
    .set_start_step("A"),
    "batches": lambda: StepFunction("W")
    .add_map_step("A", add, items=lambda n: [n] * 9, batch_size=2, executor="process")
    .set_start_step("A"),
    "nested": lambda: StepFunction("N")
    .add_sub_step_function("A", several(), retry=RetryPolicy(2))
    .set_start_step("A"),
    "handled": lambda: one(on_failure="H")
    .add_step("H", lambda error: "taken"),
    "tolerated": lambda: StepFunction("W")
    .add_parallel_step(
        "A", dict.fromkeys("abc", add), tolerated_failures=3, executor="process"
    )
    .set_start_step("A"),
}


@pytest.mark.parametrize("kind", WORKFLOWS)
def test_no_memory_for_a_worker_is_no_failure_of_a_step(kind, monkeypatch):
    workflow = WORKFLOWS[kind]()
    with ProcessLanes(2, start_method="spawn") as lanes:
        with monkeypatch.context() as patch:
            patch.setattr("multiprocessing.util.spawnv_passfds", refuse_memory)
            with pytest.raises(WorkerStartError, match="memory") as raised:
                workflow.execute(1, executor=lanes)
        error = raised.value
        assert isinstance(error.__cause__, OSError)
        assert "max_workers=" in str(error)
        assert error.execution.status == "FAILED"
        assert "H" not in error.execution.context
        assert workflow.execute(1, executor=lanes).status == "COMPLETED"


def fail(value):
    raise LookupError(value)


@pytest.mark.parametrize("place", ["thread", "inline"])
def test_no_worker_for_a_failure_step_inside_is_no_failure_that_is_tolerated(
    monkeypatch, place
):
    monkeypatch.setattr("multiprocessing.util.spawnv_passfds", refuse_memory)
    with ProcessLanes(1, start_method="spawn") as lanes:
        inner = StepFunction("N").add_step("Fail", fail, on_failure="Repair")
        inner.add_step("Repair", repr, executor=lanes).set_start_step("Fail")
        workflow = StepFunction("W", on_failure="H")
        workflow.add_parallel_step(
            "A", {"n": inner}, tolerated_failures="100%", executor=place
        )
        workflow.add_step("H", str).set_start_step("A")
        with pytest.raises(WorkerStartError, match="memory") as raised:
            workflow.execute(1)
    assert raised.value.execution.status == "FAILED"
    assert "H" not in raised.value.execution.context


def test_tasks_beside_one_that_has_no_worker_are_told_to_stop_and_waited_for(
    monkeypatch,
):
    began, told = threading.Event(), []

    def refuse_later(*_):
        began.wait()
        refuse_memory()

    def beside(value, context):
        began.set()
        try:
            context.sleep(600)
        finally:
            told.append(context.cancelled)

    monkeypatch.setattr("multiprocessing.util.spawnv_passfds", refuse_later)
    with ProcessLanes(1, start_method="spawn") as lanes:
        one_here = StepFunction("N").add_step("A", add, executor=lanes)
        tasks = {"nested": one_here.set_start_step("A"), "beside": beside}
        workflow = StepFunction("W").add_step("A", tasks, parallel=True)
        with pytest.raises(WorkerStartError) as raised:
            workflow.set_start_step("A").execute(1)
    outcomes = {it.task: it.outcome for it in raised.value.execution.history}
    assert told == [True]
    assert outcomes["beside"] == "CANCELLED"


@pytest.mark.parametrize("method", ["forkserver", "spawn"])
def test_too_many_open_files_at_any_point_of_a_start(tmp_path, method):
    program = Program(
        tmp_path,
        f"""
sys.path.insert(0, {str(Path(__file__).parent)!r})
sys.path.insert(0, {str(Path(__file__).parents[2])!r})
from test_starts import at_most, one, open_files, servers
from stepfunction import WorkerStartError
if __name__ == "__main__":
    workflow, refused = one(), 0
    with ProcessLanes(1, start_method="{method}") as lanes:
        workflow.execute(1, executor=lanes)  # whatever is opened once
    for files in range(1, 16, 2):
        for server in servers():
            os.kill(server, signal.SIGKILL)
        before = open_files()
        with ProcessLanes(1, start_method="{method}") as lanes:
            try:
                with at_most(files):
                    output = workflow.execute(1, executor=lanes).output
            except WorkerStartError as error:
                refused += 1
                assert isinstance(error.__cause__, OSError), error.__cause__
                assert "ulimit -n" in str(error), error
                output = workflow.execute(1, executor=lanes).output
            assert output == 2
        assert open_files() == before, (files, before, open_files())
    print(refused > 2)
""",
    )
    code, out, err = program.run()
    assert (code, out) == (0, "True\n"), err


def test_a_server_that_was_killed_is_replaced():
    with ProcessLanes(1) as lanes:
        lanes.submit(pid).result()
        for server in servers():
            os.kill(server, signal.SIGKILL)
        with ProcessLanes(2) as others:
            assert others.submit(add, 1).result() == 2
        assert len(servers()) == 1
        assert several().execute(1, executor=lanes).status == "COMPLETED"


def test_a_worker_outlives_the_server_that_it_was_forked_from(tmp_path):
    told, awaited = tmp_path / "told", tmp_path / "awaited"
    with ProcessLanes(1) as lanes:
        future = lanes.submit(tell_and_wait, (told, awaited))
        wait_for(told)
        for server in servers():
            os.kill(server, signal.SIGKILL)
        tell(awaited)
        worker = future.result()
        assert lanes.submit(pid).result() == worker
        os.kill(worker, signal.SIGKILL)
        error = lanes.submit(os._exit, 3).exception()
        assert error is None or isinstance(error, WorkerCrashedError)
        assert lanes.submit(add, 1).result() == 2
    assert not is_alive(worker)


NESTED = """
def server(value): return os.getppid()
def die(value): os.kill(os.getpid(), signal.SIGKILL)
def both(second):
    tasks = {"a": server, "b": second}
    workflow = StepFunction("I").add_step("A", tasks, parallel=True, executor="process")
    return workflow.set_start_step("A")
def nested(second):
    tasks = {"p": both(second), "q": both(second), "r": server}
    workflow = StepFunction("O").add_step("A", tasks, parallel=True, executor="process")
    return workflow.set_start_step("A")
"""


def test_workers_of_workers_are_forked_from_the_same_server(tmp_path):
    folder = tmp_path / "temporary"
    folder.mkdir()
    program = Program(
        tmp_path,
        f"""{NESTED}
import tempfile
if __name__ == "__main__":
    tempfile.tempdir, os.environ["TMPDIR"] = {str(folder)!r}, {str(folder)!r}
    output = nested(server).execute(1).output
    print(len({{output["r"], *output["p"].values(), *output["q"].values()}}))
    failed = nested(die).execute(1).output
    print(type(failed["p"]["b"]).__name__)
""",
    )
    code, out, _ = program.run()
    assert (code, out) == (0, "1\nWorkerCrashedError\n")
    assert not os.listdir(folder)


def test_an_interrupt_leaves_nothing_in_the_folder_of_temporary_files(tmp_path):
    folder = tmp_path / "temporary"
    folder.mkdir()
    source = tmp_path / "program.py"
    source.write_text(
        f"""import os, signal, time
from stepfunction import StepFunction
def wait(value):
    open({str(tmp_path / "told")!r}, "w").close()
    time.sleep(60)
{NESTED}
if __name__ == "__main__":
    nested(wait).execute(1)
"""
    )
    environment = {**os.environ, "TMPDIR": str(folder)}
    with Session([sys.executable, source], env=environment) as it:
        wait_for(tmp_path / "told")
        it.process.send_signal(signal.SIGINT)
        _, err = it.process.communicate(timeout=20)
        assert err.rstrip().endswith("KeyboardInterrupt")
        assert it.leaves_nobody()
    assert not os.listdir(folder)


def test_a_folder_of_temporary_files_is_not_needed(tmp_path):
    folder = tmp_path / ("long" * 30)
    folder.mkdir()
    folder.chmod(0o500)
    source = tmp_path / "program.py"
    source.write_text(
        "from stepfunction import StepFunction\n"
        "flow = StepFunction('W').add_step('A', abs, executor='process')\n"
        "if __name__ == '__main__':\n"
        "    print(flow.set_start_step('A').execute(-1).output)\n"
    )
    done = subprocess.run(
        [sys.executable, source],
        env={**os.environ, "TMPDIR": str(folder)},
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "1\n", "")
    assert not os.listdir(folder)


ODD = {
    "no standard streams": "os.closerange(0, 3)",
    "no standard input": "os.close(0); sys.stdin = None",
    "no main module": "main = sys.modules.pop('__main__')",
    "no spec": "del sys.modules['__main__'].__spec__",
    "odd paths": "import pathlib; sys.path += ['', pathlib.Path('x'), None, 3]",
    "odd variables": "os.environ['X'] = '\\udcff'; os.environ['A B'] = ''",
    "a large environment": "os.environ.update({f'X{n}': 'x' * 99999 for n in (1, 2)})",
    "default timeout": "import socket; socket.setdefaulttimeout(0.001)",
    "no children": "signal.signal(signal.SIGCHLD, signal.SIG_IGN)",
    "somebody waits": "threading.Thread(target=wait, daemon=True).start()",
}


@pytest.mark.parametrize("what", ODD)
def test_workers_start_in_a_program_where(tmp_path, what):
    program = Program(
        tmp_path,
        f"""
def wait():
    while True:
        try: os.wait()
        except ChildProcessError: time.sleep(0.01)
if __name__ == "__main__":
    out = os.dup(1)
    os.chdir({str(tmp_path)!r})
    {ODD[what]}
    with ProcessLanes(2) as lanes:
        found = [lanes.submit(abs, -n) for n in range(4)]
        os.write(out, str([it.result() for it in found]).encode())
""",
    )
    assert program.run() == (0, "[0, 1, 2, 3]", "")


def test_workers_start_in_a_folder_that_is_gone_or_are_refused(tmp_path):
    program = Program(
        tmp_path,
        f"""
from stepfunction import WorkerStartError
if __name__ == "__main__":
    os.chdir({str(tmp_path)!r})
    os.mkdir("gone"); os.chdir("gone"); os.rmdir("../gone")
    try:
        print(ProcessLanes(1).submit(abs, -3).result())
    except WorkerStartError:  # some releases of Python start no program there
        print(3)
""",
    )
    code, out, _ = program.run()
    assert (code, out) == (0, "3\n")


@pytest.mark.parametrize("method", ["forkserver", "spawn"])
@pytest.mark.parametrize("executable", [None, "/bin/true"])
def test_what_is_no_python_starts_no_worker(tmp_path, method, executable):
    program = Program(
        tmp_path,
        f"""
import multiprocessing
from multiprocessing import resource_tracker, spawn
from stepfunction import WorkerStartError
if __name__ == "__main__":
    resource_tracker.ensure_running()
    right = spawn.get_executable()
    multiprocessing.set_executable({executable!r})
    before = len(os.listdir("/proc/self/fd"))
    lanes = ProcessLanes(1, start_method="{method}")
    flow = StepFunction("W").add_step("A", abs, executor="process").set_start_step("A")
    try:
        flow.execute(-1, executor=lanes)
    except WorkerStartError as error:
        print("refused")
        print(error, error.__cause__, file=sys.stderr)
    print(len(os.listdir("/proc/self/fd")) - before)
    multiprocessing.set_executable(right)
    print(flow.execute(-1, executor=lanes).output)
""",
    )
    code, out, err = program.run()
    assert (code, out) == (0, "refused\n0\n1\n"), err


def test_a_thread_of_a_lane_that_cannot_start_does_not_block_its_executor(monkeypatch):
    with ProcessLanes(1) as lanes:
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", refuse_thread)
            with pytest.raises(WorkerStartError, match="thread"):
                one().execute(1, executor=lanes)
            with pytest.raises(WorkerStartError, match="thread"):
                lanes.submit(add, 1)
        assert one().execute(1, executor=lanes).output == 2


def refuse_thread(thread):
    raise RuntimeError("can't start new thread")


def test_fewer_lanes_do_where_no_more_can_be_had(monkeypatch, caplog):
    with ProcessLanes(3, start_method="spawn") as lanes:
        lanes.submit(pid).result()
        with monkeypatch.context() as patch:
            patch.setattr("multiprocessing.util.spawnv_passfds", refuse_memory)
            output = several().execute(1, executor=lanes).output
            assert output == {"a": 2, "b": 2, "c": 2}
            calls = [lanes.submit(add, n) for n in range(20)]
            assert [call.result() for call in calls] == [*range(1, 21)]
            # One worker may have made them all before another lane was given one.
            while "fewer worker processes" not in caplog.text:
                calls = [lanes.submit(add, n) for n in range(20)]
                assert [call.result() for call in calls] == [*range(1, 21)]


def test_a_lane_that_could_not_be_had_for_a_moment_is_had_soon(monkeypatch, tmp_path):
    refusals = iter([True])

    def refuse_once(*arguments):
        if next(refusals, False):
            refuse_memory()
        return start_program(*arguments)

    start_program = util.spawnv_passfds
    with ProcessLanes(2, start_method="spawn") as lanes:
        occupied = lanes.submit(tell_and_wait, (tmp_path / "began", tmp_path / "end"))
        wait_for(tmp_path / "began")
        monkeypatch.setattr(util, "spawnv_passfds", refuse_once)
        assert lanes.submit(add, 1).result() == 2  # which waits for no other call
        assert not occupied.done()
        tell(tmp_path / "end")


def test_all_calls_fail_where_no_worker_can_be_had(monkeypatch):
    monkeypatch.setattr("multiprocessing.util.spawnv_passfds", refuse_memory)
    with ProcessLanes(3, start_method="spawn") as lanes:
        calls = [lanes.submit(add, n) for n in range(10)]
        for call in calls:
            assert isinstance(call.exception(20), WorkerStartError)


def test_a_worker_that_is_never_ready_is_given_up(tmp_path, monkeypatch):
    # What every Python imports when it starts.
    Path(tmp_path, "sitecustomize.py").write_text("import time; time.sleep(60)")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr("stepfunction.core.lanes.lane._SECONDS_TO_HELLO", 0.5)
    with ProcessLanes(1, start_method="spawn") as lanes:
        with pytest.raises(WorkerStartError, match="was not ready after"):
            one().execute(1, executor=lanes)
        monkeypatch.undo()
        assert one().execute(1, executor=lanes).output == 2
