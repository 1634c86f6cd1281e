from __future__ import annotations

import ctypes
import gc
import logging
import os
import re
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import CancelledError, Executor, ThreadPoolExecutor
from pathlib import Path

import pytest

from stepfunction import (
    Context,
    ProcessLanes,
    StepFunction,
    TransferError,
    WorkerCrashedError,
    WorkerKilledError,
)


def pid(value=None):
    return os.getpid()


def double(value):
    return value * 2


def power(base, exponent=2):
    return base**exponent


def fail(value=None):
    raise ValueError("told to fail")


def read_environment(name):
    return os.environ.get(name)


class OnlyThere:
    def __reduce__(self):
        return fail, ()


def log_what_cannot_be_unpickled(value):
    logging.getLogger("shop").error("told", extra={"what": OnlyThere()})
    return value


def kill_oneself():
    os.kill(os.getpid(), signal.SIGKILL)


def tell_and_spin(path):
    Path(path).write_text(str(os.getpid()))
    while True:
        pass


def tell_and_wait(paths):
    told, awaited = paths
    Path(told).touch()
    wait_for(Path(awaited))
    return os.getpid()


def touch(path):
    Path(path).touch()


def exit_by(how):
    if isinstance(how, signal.Signals):
        os.kill(os.getpid(), how)
        signal.pause()
    os._exit(how)


def close_all_files(seconds=0):
    os.closerange(3, 100)
    time.sleep(seconds)


def fault(value=None):
    ctypes.string_at(0)


class TooLate(BaseException):
    pass


def stop(*signalled):
    raise TooLate


def log_until_the_alarm(times):
    signal.signal(signal.SIGALRM, stop)
    for _ in range(times):
        try:
            signal.setitimer(signal.ITIMER_REAL, 0.03)
            while True:
                logging.getLogger("shop").error("r" * 10**6)
        except TooLate:
            pass
    return os.getpid()


def beat_in_a_child(value, context: Context):
    child = os.fork()
    if child == 0:
        code = 1
        try:
            signal.alarm(5)
            context.heartbeat()
            code = 0
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def beat_in_a_child_while_a_thread_speaks(paths, context: Context):
    told, go = paths
    speak = logging.getLogger("shop").error
    threads = [threading.Thread(target=speak, args=("r" * 10**6,)) for _ in range(2)]
    for thread in threads:
        thread.start()
    wait_for(told)
    time.sleep(0.1)  # until the other has filled the pipe
    code = beat_in_a_child(None, context)
    go.touch()
    for thread in threads:
        thread.join()
    return code


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


def spin_with_a_child(path):
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    Path(f"{path}.part").write_text(f"{os.getpid()} {child.pid}")
    os.rename(f"{path}.part", path)
    while True:
        pass


def wait_for(path, seconds=20.0):
    end = time.monotonic() + seconds
    while not path.exists() or not (path.stat().st_size or path.suffix == ".flag"):
        assert time.monotonic() < end, f"{path} never came"
        time.sleep(0.005)
    return path


def is_alive(process_id):
    try:
        stat = Path(f"/proc/{process_id}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


def is_gone(process_id, seconds=2.0):
    end = time.monotonic() + seconds
    while is_alive(process_id):
        if time.monotonic() > end:
            os.kill(process_id, signal.SIGKILL)
            return False
        time.sleep(0.01)
    return True


def is_reaped(process_id, seconds=10.0):
    # A process whose main thread is a zombie may have another that holds its pipe.
    end = time.monotonic() + seconds
    while Path(f"/proc/{process_id}").exists():
        if time.monotonic() > end:
            return False
        time.sleep(0.01)
    return True


@pytest.fixture
def handle():
    handler, shop = logging.Handler(), logging.getLogger("shop")

    def handle(emit):
        handler.emit = emit
        shop.addHandler(handler)

    yield handle
    shop.removeHandler(handler)


def flag(path, name):
    return path / f"{name}.flag"


@pytest.fixture(scope="module")
def lanes():
    with ProcessLanes(2) as lanes:
        yield lanes


@pytest.fixture(scope="module")
def one_lane():
    with ProcessLanes(1) as lanes:
        yield lanes


# --- an executor like any other -------------------------------------------------


def test_it_is_an_executor_of_concurrent_futures(lanes):
    assert isinstance(lanes, Executor)


def test_a_call_runs_in_another_process(lanes):
    assert lanes.submit(pid).result() != os.getpid()


def test_a_call_is_given_its_arguments(lanes):
    assert lanes.submit(power, 3, exponent=3).result() == 27


def test_an_exception_comes_back_with_the_traceback_of_its_worker(lanes):
    error = lanes.submit(fail).exception()
    assert repr(error) == "ValueError('told to fail')"
    assert 'raise ValueError("told to fail")' in str(error.__cause__)


def test_map_gives_results_in_order(lanes):
    assert list(lanes.map(power, range(20), [2] * 20)) == [n**2 for n in range(20)]


@pytest.mark.parametrize(
    "call, text",
    [
        ((len, threading.Lock()), "the function of len cannot be sent to another"),
        ((lambda: 1,), "cannot be sent to another process"),
    ],
)
def test_what_cannot_be_pickled_is_refused_by_submit(lanes, call, text):
    with pytest.raises(TransferError, match=text):
        lanes.submit(*call)


def test_leaving_the_with_block_ends_the_workers():
    with ProcessLanes(2) as lanes:
        worker = lanes.submit(pid).result()
        assert is_alive(worker)
    assert is_gone(worker)


def test_shutdown_waits_for_what_was_submitted(tmp_path):
    lanes = ProcessLanes(1)
    futures = [lanes.submit(double, n) for n in range(5)]
    lanes.shutdown()
    assert [future.done() for future in futures] == [True] * 5
    assert [future.result() for future in futures] == [0, 2, 4, 6, 8]


def test_shutdown_without_waiting_leaves_what_was_submitted_to_finish(tmp_path):
    lanes = ProcessLanes(1)
    first = lanes.submit(tell_and_wait, (flag(tmp_path, "on"), flag(tmp_path, "go")))
    second = lanes.submit(double, 4)
    lanes.shutdown(wait=False)
    assert not first.done()
    flag(tmp_path, "go").touch()
    assert second.result() == 8
    assert is_gone(first.result())


def test_shutdown_can_cancel_what_has_not_begun(tmp_path):
    lanes = ProcessLanes(1)
    first = lanes.submit(tell_and_wait, (flag(tmp_path, "on"), flag(tmp_path, "go")))
    second = lanes.submit(touch, tmp_path / "second")
    wait_for(flag(tmp_path, "on"))
    lanes.shutdown(wait=False, cancel_futures=True)
    assert second.cancelled()
    flag(tmp_path, "go").touch()
    first.result()
    assert not (tmp_path / "second").exists()


def test_a_callback_of_a_cancelled_call_may_use_the_executor(tmp_path):
    lanes = ProcessLanes(1)
    first = lanes.submit(tell_and_wait, (flag(tmp_path, "on"), flag(tmp_path, "go")))
    wait_for(flag(tmp_path, "on"))
    refused = []

    def submit_again(future):
        try:
            lanes.submit(pid)
        except RuntimeError as error:
            refused.append(error)

    lanes.submit(pid).add_done_callback(submit_again)
    closing = threading.Thread(
        target=lanes.shutdown, kwargs={"cancel_futures": True}, daemon=True
    )
    closing.start()
    flag(tmp_path, "go").touch()
    first.result()
    closing.join(2)
    assert not closing.is_alive()
    assert len(refused) == 1


def test_shutdown_may_be_called_twice():
    lanes = ProcessLanes(1)
    lanes.submit(pid).result()
    lanes.shutdown()
    lanes.shutdown()


def test_submit_after_shutdown_is_refused():
    lanes = ProcessLanes(1)
    lanes.shutdown()
    with pytest.raises(RuntimeError) as caught:
        lanes.submit(pid)
    assert str(caught.value) == (
        "cannot submit to ProcessLanes after shutdown(); "
        "keep it open as long as it is used"
    )


@pytest.mark.parametrize("count", [0, -1])
def test_fewer_than_one_worker_are_refused(count):
    with pytest.raises(ValueError) as caught:
        ProcessLanes(count)
    text = f"max_workers is {count}; give 1 or more, or None"
    assert str(caught.value) == text


def test_an_unknown_start_method_is_refused():
    with pytest.raises(ValueError, match="'thread'"):
        ProcessLanes(1, start_method="thread")


@pytest.mark.parametrize("method", ["forkserver", "spawn"])
def test_every_start_method_works(method):
    with ProcessLanes(1, start_method=method) as lanes:
        assert lanes.submit(double, 2).result() == 4


def test_by_default_there_is_a_worker_for_each_usable_cpu():
    assert ProcessLanes().max_workers == len(os.sched_getaffinity(0))


# --- futures and kill -----------------------------------------------------------


def test_a_future_tells_waiting_from_running_from_done(one_lane, tmp_path):
    told, go = flag(tmp_path, "on"), flag(tmp_path, "go")
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
    told, go = flag(tmp_path, "on"), flag(tmp_path, "go")
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
    told, go = flag(tmp_path, "on"), flag(tmp_path, "go")
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
    told, go = flag(tmp_path, "on"), flag(tmp_path, "go")
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


# --- crashes --------------------------------------------------------------------

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
    told, go = flag(tmp_path, "on"), flag(tmp_path, "go")
    sibling = lanes.submit(tell_and_wait, (told, go))
    wait_for(told)
    crashed = lanes.submit(exit_by, signal.SIGKILL)
    waiting = [lanes.submit(double, n) for n in range(5)]
    assert isinstance(crashed.exception(), WorkerCrashedError)
    go.touch()
    assert sibling.result()
    assert [future.result() for future in waiting] == [0, 2, 4, 6, 8]


def test_a_worker_that_dies_idle_does_not_harm_the_next_call(one_lane, tmp_path):
    worker = one_lane.submit(die_once_idle, flag(tmp_path, "die")).result()
    flag(tmp_path, "die").touch()
    assert is_reaped(worker)
    assert one_lane.submit(pid).result() != worker


def test_a_dead_idle_worker_is_noticed_though_its_child_lives_on(one_lane, tmp_path):
    worker, child = one_lane.submit(
        die_once_idle_but_leave_a_child, flag(tmp_path, "die")
    ).result()
    flag(tmp_path, "die").touch()
    assert is_reaped(worker)
    try:
        assert one_lane.submit(pid).result() != worker
    finally:
        is_gone(child, 0)


# --- workers --------------------------------------------------------------------


def test_what_cannot_be_unpickled_from_a_log_record_shifts_no_answers(one_lane):
    first = one_lane.submit(log_what_cannot_be_unpickled, "first")
    assert first.result() == "first"
    assert one_lane.submit(double, 2).result() == 4


def test_an_alarm_of_a_task_that_logs_garbles_nothing(handle):
    lengths = []

    def handle_slowly(record):
        lengths.append(len(record.getMessage()))
        time.sleep(0.05)

    handle(handle_slowly)
    with ProcessLanes(1) as lanes:
        worker = lanes.submit(log_until_the_alarm, 5).result(10)
        assert lanes.submit(pid).result(10) == worker
    assert set(lengths) == {10**6}


def test_a_heartbeat_of_a_forked_child_is_let_go(one_lane):
    workflow = StepFunction("W").set_start_step("A")
    workflow.add_step("A", beat_in_a_child, executor=one_lane, heartbeat=30)
    assert workflow.execute().output == 0


def test_a_child_forked_while_a_thread_speaks_may_beat(one_lane, handle, tmp_path):
    told, go = flag(tmp_path, "on"), flag(tmp_path, "go")

    def wait(record):
        told.touch()
        wait_for(go)

    handle(wait)
    workflow = StepFunction("W").set_start_step("A")
    workflow.add_step(
        "A", beat_in_a_child_while_a_thread_speaks, executor=one_lane, heartbeat=30
    )
    assert workflow.execute((told, go)).output == 0


def test_a_signal_is_named_though_other_workers_start_meanwhile():
    with ProcessLanes(4) as lanes:
        crashes = [lanes.submit(kill_oneself) for _ in range(50)]
        codes = {crash.exception().exitcode for crash in crashes}
    assert codes == {-signal.SIGKILL}


def test_a_worker_runs_the_package_of_its_parent(tmp_path):
    package = tmp_path / "elsewhere" / "stepfunction"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("raise ImportError")
    source = f"""
os.chdir({str(package.parent)!r})
if __name__ == "__main__":
    with ProcessLanes(1) as lanes:
        print(lanes.submit(abs, -1).result())
"""
    assert Program(tmp_path, source).run() == (0, "1\n", "")


def test_workers_are_started_as_they_are_needed():
    with ProcessLanes(4) as lanes:
        assert repr(lanes) == "<ProcessLanes: 0 of 4 lanes>"
        lanes.submit(pid).result()
        assert repr(lanes) == "<ProcessLanes: 1 of 4 lanes>"


def test_a_worker_stays_warm_for_the_next_call():
    with ProcessLanes(4) as lanes:
        assert len({lanes.submit(pid).result() for _ in range(30)}) == 1


def test_no_more_workers_than_asked_for_run_at_once(lanes):
    pids = {future.result() for future in [lanes.submit(pid) for _ in range(50)]}
    assert len(pids) <= 2


def test_many_threads_may_submit_at_once(lanes):
    def submit_many(start):
        numbers = range(start, start + 20)
        return [lanes.submit(double, n).result() for n in numbers] == [
            2 * n for n in numbers
        ]

    with ThreadPoolExecutor(20) as threads:
        assert all(threads.map(submit_many, range(0, 400, 20)))


def test_a_new_worker_has_the_environment_of_now(one_lane, monkeypatch):
    monkeypatch.setenv("STEPFUNCTION_TEST", "before")
    one_lane.submit(exit_by, 1).exception()
    assert one_lane.submit(read_environment, "STEPFUNCTION_TEST").result() == "before"
    monkeypatch.setenv("STEPFUNCTION_TEST", "after")
    one_lane.submit(exit_by, 1).exception()
    assert one_lane.submit(read_environment, "STEPFUNCTION_TEST").result() == "after"


def test_a_worker_ignores_the_interrupt_of_the_terminal(one_lane):
    future = one_lane.submit(os.kill, one_lane.submit(pid).result(), signal.SIGINT)
    assert future.result() is None


def test_an_executor_that_nobody_holds_lets_its_workers_go():
    lanes = ProcessLanes(1)
    worker = lanes.submit(pid).result()
    del lanes
    gc.collect()
    assert is_gone(worker, 10)


def test_lanes_leave_no_file_descriptors_or_threads_behind():
    def count():
        gc.collect()
        return len(os.listdir("/proc/self/fd")), threading.active_count()

    def use():
        with ProcessLanes(2) as lanes:
            lanes.submit(exit_by, 1).exception()
            assert list(lanes.map(double, [1, 2])) == [2, 4]

    use()
    before = count()
    for _ in range(2):
        use()
    assert count() == before


# --- whole programs -------------------------------------------------------------

FUNCTIONS = """\
import os, signal, sys, threading, time
from stepfunction import ProcessLanes, StepFunction

def pid(value=None): return os.getpid()
def say(text):
    os.write(1, f"{text}\\n".encode())  # whole, although others write too
def spin(value=None):
    say(os.getpid())
    while True: pass
def hang(value=None):
    print("hangs", flush=True)
    open(__file__ + ".flag", "w").close()
    time.sleep(60)
"""


class Program:
    def __init__(self, path, source):
        self.path = path / "program.py"
        self.path.write_text(FUNCTIONS + source)

    def start(self):
        return subprocess.Popen(
            # From 3.12 on a fork beside threads warns; the lanes have threads.
            [sys.executable, "-W", "ignore::DeprecationWarning", self.path],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def run(self):
        process = self.start()
        try:
            out, err = process.communicate(timeout=30)
        finally:
            process.kill()
        return process.returncode, out, err


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
