from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from shared.calls import double
from shared.processes import Session

from stepfunction import ProcessLanes, StepFunction

SECONDS = 20  # no test waits for that


# --- programs -----------------------------------------------------------------------

COMMON = """\
import os, re, signal, subprocess, sys, time
from stepfunction import ProcessLanes, RetryPolicy, StepFunction

def say(*words):
    # Whole lines, whoever else writes.
    os.write(1, f"{' '.join(map(str, words))}\\n".encode())

def hold_the_gil():
    re.match("(a+)+$", "a" * 60 + "b")  # takes years

def hang(value=None):
    say("hangs")
    time.sleep(600)

def spin(value=None):
    say("spins")
    hold_the_gil()

def have_a_child():
    command = [sys.executable, "-Sc", "import time; time.sleep(600)"]
    say(subprocess.Popen(command).pid)

def hang_with_a_child(value=None):
    have_a_child()
    time.sleep(600)

def spin_with_a_child(value=None):
    have_a_child()
    hold_the_gil()

def sleep(value, context):
    say("sleeps")
    context.sleep(600)

async def hang_async(value):
    import asyncio

    say("hangs")
    await asyncio.sleep(600)

def run_async(workflow):
    import asyncio

    asyncio.run(workflow.aexecute())

def fail(value):
    say("fails")
    raise ConnectionError("down")

def never(value):
    say("went on")

def one(func, **arguments):
    workflow = StepFunction("W").add_step("A", func, "Never", "Never", **arguments)
    return workflow.add_step("Never", never).set_start_step("A")

def nested(func, executor="process"):
    workflow = StepFunction("N").add_step("A", func, executor=executor)
    return workflow.set_start_step("A")
"""


class Program(Session):
    def __init__(self, folder, source):
        path = Path(folder, "program.py")
        path.write_text(COMMON + source)
        # From 3.12 on a fork beside threads warns.
        super().__init__([sys.executable, "-W", "ignore::DeprecationWarning", path])

    def lines(self, count):
        return [self.process.stdout.readline().strip() for _ in range(count)]

    def end(self, seconds=SECONDS):
        """Wait for its end, and give what it had to say."""
        out, err = self.process.communicate(timeout=seconds)
        return self.process.returncode, out, err


# --- the parent dies ----------------------------------------------------------------


@pytest.mark.parametrize(
    "run, hung",
    [
        ("one(spin_with_a_child, executor='process').execute()", 1),
        ("one(hang_with_a_child, executor='process').execute()", 1),
        (
            "one(dict.fromkeys('abc', spin_with_a_child), parallel=True,"
            " executor='process', max_workers=2).execute()",
            2,
        ),
        ("one(nested(spin_with_a_child), executor='process').execute()", 1),
        ("ProcessLanes(1, start_method='spawn').submit(spin_with_a_child).result()", 1),
    ],
    ids=["step", "asleep", "tasks", "process in process", "spawn"],
)
def test_nobody_outlives_a_killed_parent(tmp_path, run, hung):
    with Program(tmp_path, f"if __name__ == '__main__':\n    {run}") as program:
        children = {int(line) for line in program.lines(hung)}
        assert children <= set(program.processes())
        program.process.kill()
        assert program.leaves_nobody()


@pytest.mark.parametrize(
    "death",
    [
        "os.kill(os.getpid(), signal.SIGTERM)",
        "os._exit(3)",
    ],
)
def test_nobody_outlives_a_parent_that_dies_otherwise(tmp_path, death):
    source = f"""
if __name__ == "__main__":
    one(spin_with_a_child, executor="process").start()
    while not os.path.exists(__file__ + ".flag"):
        time.sleep(0.001)
    {death}
"""
    with Program(tmp_path, source) as program:
        program.lines(1)
        (tmp_path / "program.py.flag").touch()
        assert program.leaves_nobody()


@pytest.mark.parametrize("method", ["forkserver", "spawn"])
def test_nobody_outlives_a_parent_that_is_killed_while_workers_start(tmp_path, method):
    source = f"""
if __name__ == "__main__":
    lanes = ProcessLanes(4, start_method="{method}")
    one(dict.fromkeys("abcd", hang), parallel=True).execute(executor=lanes)
else:
    say("starts")  # each worker, as it imports this
    time.sleep(0.05)
"""
    with Program(tmp_path, source) as program:
        program.lines(1)
        program.process.kill()
        assert program.leaves_nobody()


# --- the interpreter ends -----------------------------------------------------------


@pytest.mark.parametrize(
    "run, hung, code",
    [
        ("one(nested(spin_with_a_child), executor='process').start()", 1, 0),
        (
            "[one(hang_with_a_child, executor='process').start() for _ in range(3)]",
            3,
            0,
        ),
        ("one(spin_with_a_child, executor='process').start()", 1, 7),
    ],
    ids=["process in process", "many", "exit"],
)
def test_a_hung_process_does_not_hold_up_the_interpreter(tmp_path, run, hung, code):
    source = f"""
if __name__ == "__main__":
    {run}
    while not os.path.exists(__file__ + ".flag"):
        time.sleep(0.001)
    sys.exit({code})
"""
    with Program(tmp_path, source) as program:
        program.lines(hung)
        (tmp_path / "program.py.flag").touch()
        # The children hold its pipes too, so this waits for all of them.
        assert program.end(4) == (code, "", "")  # 2 s, and slack
        assert program.leaves_nobody()


@pytest.mark.parametrize("method", ["forkserver", "spawn"])
def test_a_program_that_ends_while_workers_start_says_nothing(tmp_path, method):
    source = f"""
if __name__ == "__main__":
    lanes = ProcessLanes(4, start_method="{method}")
    futures = [lanes.submit(hang) for _ in range(4)]
    while not os.path.exists(__file__ + ".flag"):
        time.sleep(0.001)
else:
    say("starts")
    time.sleep(0.05)
"""
    with Program(tmp_path, source) as program:
        program.lines(1)
        (tmp_path / "program.py.flag").touch()
        code, _, err = program.end(4)
        assert (code, err) == (0, "")
        assert program.leaves_nobody()


# --- nested fan-outs ----------------------------------------------------------------

NESTED = """
def add_one(value):
    return value + 1

def total(values):
    return sum(values.values())

def nest(places):
    name, *rest = places
    workflow = StepFunction(f"Depth {len(places)}").set_start_step("Fan")
    tasks = {"deeper": nest(rest) if rest else add_one, "leaf": add_one}
    workflow.add_step("Fan", tasks, "Total", parallel=True, executor=name)
    return workflow.add_step("Total", total)

def in_a_lane(depth):
    if depth == 0:
        return [os.getpid()]
    with ProcessLanes(1) as lanes:
        return [os.getpid(), *lanes.submit(in_a_lane, depth - 1).result()]

def relatives():
    mine = str(os.getsid(0))
    found = set()
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/stat") as file:
                stat = file.read().rpartition(")")[2].split()
        except OSError:
            continue
        if stat[3] == mine and stat[0] != "Z":
            found.add(int(pid))
    return found

if __name__ == "__main__":
    with ProcessLanes(1) as lanes:
        lanes.submit(add_one, 1).result()  # what starts workers, stays
    before = relatives()
"""


@pytest.mark.parametrize(
    "places",
    [
        ["thread", "process", "thread", "process", "thread"],
        ["process", "thread", "process", "thread", "process"],
    ],
    ids="-".join,
)
def test_fan_outs_nest_in_threads_and_processes(tmp_path, places):
    source = f"""{NESTED}
    print(nest({places}).execute(1).output, flush=True)
    end = time.monotonic() + 2
    while relatives() - before and time.monotonic() < end:
        time.sleep(0.01)
    print(sorted(relatives() - before))
"""
    with Program(tmp_path, source) as program:
        assert program.end() == (0, "12\n[]\n", "")


def test_lanes_open_inside_lanes(tmp_path):
    source = f"""{NESTED}
    pids = in_a_lane(4)
    end = time.monotonic() + 2
    while relatives() - before and time.monotonic() < end:
        time.sleep(0.01)
    print(len(set(pids)), sorted(relatives() - before))
"""
    with Program(tmp_path, source) as program:
        assert program.end() == (0, "5 []\n", "")


# --- a server -----------------------------------------------------------------------

THREADS = 50
EXECUTIONS = 12


def tell_and_wait(paths):
    told, awaited = paths
    Path(told).touch()
    end = time.monotonic() + SECONDS
    while not Path(awaited).exists():
        assert time.monotonic() < end
        time.sleep(0.001)


def warm_up(lanes, folder):
    """Have two workers ready: each waits for the other."""
    one, other = folder / "one", folder / "other"
    pairs = [(one, other), (other, one)]
    for future in [lanes.submit(tell_and_wait, pair) for pair in pairs]:
        future.result()


def test_no_thread_waits_for_shared_lanes_while_others_go_on(tmp_path):
    served = []
    meet = threading.Barrier(THREADS)

    def serve(number):
        meet.wait(SECONDS)
        for count in range(EXECUTIONS):
            assert workflow.execute(number).output == 4 * number
            served.append((count, number))

    with ProcessLanes(2) as lanes:
        warm_up(lanes, tmp_path)
        workflow = StepFunction("W").add_step("One", double, "Two", executor=lanes)
        workflow.add_step("Two", double, executor=lanes).set_start_step("One")
        threads = [
            threading.Thread(target=serve, args=(number,), daemon=True)
            for number in range(THREADS)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(SECONDS)
    assert len(served) == THREADS * EXECUTIONS
    counts = [count for count, _ in served]
    last_to_begin = len(counts) - 1 - counts[::-1].index(0)
    first_to_end = counts.index(EXECUTIONS - 1)
    assert last_to_begin < first_to_end


SERVER = """
from concurrent.futures import ThreadPoolExecutor

def workers():
    found = 0
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/stat") as file:
                stat = file.read().rpartition(")")[2].split()
        except OSError:
            continue
        found += stat[1] == str(os.getppid()) and stat[0] != "Z"
    return found

def count(value, context):
    if value % 5 == 0 and context.attempt == 1:
        os._exit(3)  # and is replaced
    return value, workers()

def check(pair):
    value, most = pair
    return value, max(most, workers())

def pid(value):
    return os.getpid()

def serve(number):
    execution = WORKFLOW.execute(number)
    assert execution.output[0] == number
    return execution.output[1]

if __name__ == "__main__":
    lanes = ProcessLanes(2)
    retry = RetryPolicy(max_attempts=2, interval=0)
    WORKFLOW = StepFunction("W").set_start_step("Count")
    WORKFLOW.add_step("Count", count, "Check", executor=lanes, retry=retry)
    WORKFLOW.add_step("Check", check, executor=lanes)
"""


def test_shared_lanes_never_have_more_workers_than_allowed(tmp_path):
    source = f"""{SERVER}
    with ThreadPoolExecutor(50) as threads:
        print(max(threads.map(serve, range(100))))
    lanes.shutdown()
"""
    with Program(tmp_path, source) as program:
        assert program.end() == (0, "2\n", "")
        assert program.leaves_nobody()


def test_a_fork_of_a_busy_server_runs_processes_of_its_own(tmp_path):
    source = f"""{SERVER}
    with ThreadPoolExecutor(50) as threads:
        served = [threads.submit(serve, number) for number in range(150)]
        codes = []
        for number in range(5):
            served[20 * number].result()
            child = os.fork()
            if child == 0:
                signal.alarm(15)
                serve(1)
                ok = nested(pid).execute().output != os.getpid()
                lanes.shutdown()
                os._exit(0 if ok else 1)
            codes.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        assert max(future.result() for future in served) <= 2
    print(codes)
    lanes.shutdown()
"""
    with Program(tmp_path, source) as program:
        assert program.end(40) == (0, f"{[0] * 5}\n", "")
        assert program.leaves_nobody()


@pytest.mark.parametrize("what", ["resource_tracker", "forkserver"])
def test_a_fork_while_the_first_worker_starts_runs_processes_of_its_own(tmp_path, what):
    source = f"""
from multiprocessing import util
from threading import Event

def pid(value):
    return os.getpid()

if __name__ == "__main__":
    starts, start = Event(), util.spawnv_passfds

    def start_slowly(path, arguments, descriptors):
        if any("{what}" in str(argument) for argument in arguments):
            starts.set()
            time.sleep(0.2)
        return start(path, arguments, descriptors)

    util.spawnv_passfds = start_slowly
    execution = nested(pid).start()
    starts.wait()
    child = os.fork()
    if child == 0:
        signal.alarm(5)
        os._exit(0 if nested(pid).execute().output != os.getpid() else 1)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    execution.wait()
    print(execution.status)
"""
    with Program(tmp_path, source) as program:
        assert program.end() == (0, "0\nCOMPLETED\n", "")


# --- what workers find --------------------------------------------------------------


@pytest.mark.parametrize(
    "place", ["'process'", "ProcessLanes(1, start_method='spawn')"]
)
def test_a_new_worker_finds_what_its_parent_finds(tmp_path, place):
    source = f"""
from importlib import import_module
from pathlib import Path

def look(value=None):
    return os.getcwd(), sys.path, dict(os.environ)

def move_to(name):
    os.environ["STEPFUNCTION_TEST"] = name
    os.environ.pop("STEPFUNCTION_TEST_GONE", None)
    os.mkdir(name)
    os.chdir(name)
    Path(f"{{name}}_module.py").write_text("def name(value): return __name__")
    sys.path.insert(0, os.getcwd())
    return import_module(f"{{name}}_module").name

if __name__ == "__main__":
    os.chdir(Path(__file__).parent)
    os.environ["STEPFUNCTION_TEST_GONE"] = "not yet"
    for name in ("first", "second", "third"):
        there = move_to(name)
        workflow = StepFunction("W").set_start_step("Look")
        place = {place}
        workflow.add_step("Look", look, "There", executor=place)
        workflow.add_step("There", there, executor=place)
        execution = workflow.execute()
        found = execution.context["Look"]
        print(*[mine == its for mine, its in zip(look(), found)], execution.output)
"""
    with Program(tmp_path, source) as program:
        assert program.end() == (
            0,
            "True True True first_module\n"
            "True True True second_module\n"
            "True True True third_module\n",
            "",
        )


# --- Ctrl-C -------------------------------------------------------------------------


def assert_ends_by_control_c(program):
    os.killpg(program.process.pid, signal.SIGINT)  # as a terminal does
    try:
        # The children hold its pipes too, so this waits for all of them.
        code, out, err = program.end(2)  # 1 s, and slack
    except subprocess.TimeoutExpired:
        pytest.fail(f"still running: {program.processes()}")
    assert code == -signal.SIGINT
    assert out == ""
    # asyncio.run() itself shows how its interrupt came about.
    contexts = err.count("During handling of the above exception")
    assert err.count("Traceback (most recent call last)") == 1 + contexts, err
    assert err.endswith("KeyboardInterrupt\n")
    assert program.leaves_nobody()


WITH_LANES = "\n    with ProcessLanes(2) as lanes: "
RUNS = {
    "sleep": "one(sleep).execute()",
    "async": "one(hang_async).execute()",
    "timeout": "one(spin_with_a_child, executor='process', timeout=99).execute()",
    "nested": "one(nested(spin_with_a_child), executor='process').execute()",
    "start": "one(hang).start().wait(99)",
    "start a process": "one(spin_with_a_child, executor='process').start().wait()",
    "aexecute": "run_async(one(hang_async))",
    "aexecute sleep": "run_async(one(sleep))",
    "aexecute process": "run_async(one(spin_with_a_child, executor='process'))",
    "aexecute retry": "run_async(one(fail, retry=RetryPolicy(interval=99)))",
    "aexecute deaf": "run_async(one(hang))",
    "aexecute deaf thread": "run_async(one(hang, executor='thread'))",
    "lanes": f"{WITH_LANES}lanes.submit(spin_with_a_child).result()",
    "lanes of nobody": "ProcessLanes(1).submit(spin_with_a_child).result()",
}


@pytest.mark.parametrize("kind", RUNS)
def test_control_c_ends_what_runs(tmp_path, kind):
    source = f"if __name__ == '__main__':\n    {RUNS[kind]}"
    with Program(tmp_path, source) as program:
        program.lines(1)
        assert_ends_by_control_c(program)


@pytest.mark.parametrize("method", ["forkserver", "spawn"])
def test_control_c_ends_workers_that_import_the_script(tmp_path, method):
    source = f"""
if __name__ == "__main__":
    lanes = ProcessLanes(4, start_method="{method}")
    one(dict.fromkeys("abcd", hang), parallel=True, executor=lanes).execute()
else:
    say("starts")
    time.sleep(600)
"""
    with Program(tmp_path, source) as program:
        program.lines(4)
        assert_ends_by_control_c(program)


@pytest.mark.parametrize(
    "method, module",
    [
        ("forkserver", "multiprocessing.forkserver"),
        ("spawn", "multiprocessing.spawn"),
    ],
)
def test_control_c_ends_interpreters_that_start(tmp_path, monkeypatch, method, module):
    # Python imports it as it starts, before anything else.
    (tmp_path / "sitecustomize.py").write_text(f"""\
import os, sys, time
if any("{module}" in argument for argument in sys.orig_argv):
    os.write(1, b"starts\\n")
    time.sleep(0.5)
""")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    source = f"""
if __name__ == "__main__":
    lanes = ProcessLanes(1, start_method="{method}")
    one(hang, executor=lanes).execute()
"""
    with Program(tmp_path, source) as program:
        program.lines(1)
        assert_ends_by_control_c(program)
