from __future__ import annotations

import gc
import logging
import os
import signal
import threading
import time
from concurrent.futures import Executor, ThreadPoolExecutor

import pytest
from shared.calls import double
from shared.processes import is_alive, is_gone, pid, wait_for
from shared.workers import Program, exit_by, fail, tell_and_wait, touch

from stepfunction import Context, ProcessLanes, StepFunction, TransferError


def power(base, exponent=2):
    return base**exponent


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


@pytest.fixture
def handle():
    handler, shop = logging.Handler(), logging.getLogger("shop")

    def handle(emit):
        handler.emit = emit
        shop.addHandler(handler)

    yield handle
    shop.removeHandler(handler)


# --- an executor like any other -----------------------------------------------------


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
def test_what_cannot_be_pickled_fails_alone(lanes, call, text):
    refused, other = lanes.submit(*call), lanes.submit(double, 2)
    with pytest.raises(TransferError, match=text):
        refused.result()
    assert other.result() == 4


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
    first = lanes.submit(tell_and_wait, (tmp_path / "on", tmp_path / "go"))
    second = lanes.submit(double, 4)
    lanes.shutdown(wait=False)
    assert not first.done()
    (tmp_path / "go").touch()
    assert second.result() == 8
    assert is_gone(first.result())


def test_shutdown_can_cancel_what_has_not_begun(tmp_path):
    lanes = ProcessLanes(1)
    first = lanes.submit(tell_and_wait, (tmp_path / "on", tmp_path / "go"))
    second = lanes.submit(touch, tmp_path / "second")
    wait_for(tmp_path / "on")
    lanes.shutdown(wait=False, cancel_futures=True)
    assert second.cancelled()
    (tmp_path / "go").touch()
    first.result()
    assert not (tmp_path / "second").exists()


def test_a_callback_of_a_cancelled_call_may_use_the_executor(tmp_path):
    lanes = ProcessLanes(1)
    first = lanes.submit(tell_and_wait, (tmp_path / "on", tmp_path / "go"))
    wait_for(tmp_path / "on")
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
    (tmp_path / "go").touch()
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
        "cannot schedule new futures after shutdown of ProcessLanes; "
        "keep it open as long as it is used"
    )


@pytest.mark.parametrize("count", [0, -1])
def test_fewer_than_one_worker_are_refused(count):
    with pytest.raises(ValueError) as caught:
        ProcessLanes(count)
    text = f"max_workers must be greater than 0, not {count}"
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


# --- workers ------------------------------------------------------------------------


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
    told, go = tmp_path / "on", tmp_path / "go"

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
