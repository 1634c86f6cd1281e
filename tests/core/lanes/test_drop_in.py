"""``ProcessLanes`` where a program has had a ``ProcessPoolExecutor``."""

from __future__ import annotations

import asyncio
import gc
import itertools
import multiprocessing
import os
import pickle
import sys
import threading
import time
import weakref
from concurrent.futures import (
    FIRST_COMPLETED,
    CancelledError,
    Future,
    ThreadPoolExecutor,
    as_completed,
    wait,
)
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from multiprocessing.context import ForkServerContext, SpawnContext

import pytest
from shared.calls import double
from shared.processes import is_gone, pid, wait_for
from shared.workers import Program, exit_by, fail, tell_and_wait, touch

from stepfunction import ProcessLanes, TransferError


class Watched:
    def __init__(self, value):
        self.value = value


def watched(value):
    return Watched(value)


def add(left, right):
    return left + right


def halve(value):
    if value % 2:
        raise ValueError(f"{value} is odd")
    return value // 2


def nap(seconds):
    time.sleep(seconds)
    return seconds


def submit_there(value):
    with ProcessLanes(1) as lanes:
        return os.getpid(), lanes.submit(add, value, 1).result(), lanes.submit(
            pid
        ).result()


def receive(pipe):
    return pipe.recv()


def leave_a_thread():
    threading.Thread(target=time.sleep, args=(0.05,)).start()
    return os.getpid()


class ExitsWhenPickled:
    def __reduce__(self):
        sys.exit(3)


def give_what_exits():
    return ExitsWhenPickled()


class Marked(multiprocessing.context.SpawnProcess):
    def run(self):
        sys.marked = "yes"
        super().run()


class MarkedContext(SpawnContext):
    Process = Marked


class MarkedServed(multiprocessing.context.ForkServerProcess):
    def run(self):
        sys.marked = "yes"
        super().run()


class MarkedServedContext(ForkServerContext):
    Process = MarkedServed


def marked():
    return getattr(sys, "marked", None)


# --- arguments ----------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments, error, text",
    [
        ({"max_workers": 0}, ValueError, "max_workers must be greater than 0, not 0"),
        ({"max_workers": 2.0}, TypeError, "max_workers must be an integer, not 2.0"),
        ({"max_workers": True}, TypeError, "max_workers must be an integer, not True"),
        ({"max_workers": "2"}, TypeError, "max_workers must be an integer, not '2'"),
        (
            {"max_tasks_per_child": 0},
            ValueError,
            "max_tasks_per_child must be >= 1, not 0",
        ),
        (
            {"max_tasks_per_child": 1.0},
            TypeError,
            "max_tasks_per_child must be an integer, not 1.0",
        ),
        (
            {"max_tasks_per_child": 1, "start_method": "fork"},
            ValueError,
            "max_tasks_per_child is incompatible with the start method 'fork', for a "
            "worker that is replaced would be forked beside threads",
        ),
        (
            {"mp_context": multiprocessing, "start_method": "spawn"},
            TypeError,
            "give mp_context or start_method, not both",
        ),
        (
            {"mp_context": "spawn"},
            TypeError,
            "mp_context is a context of multiprocessing, as its get_context() gives "
            "one, not 'spawn'; give start_method='spawn'",
        ),
    ],
)
def test_arguments_that_cannot_be_are_refused(arguments, error, text):
    with pytest.raises(error) as caught:
        ProcessLanes(**arguments)
    assert str(caught.value) == text


def test_a_number_that_is_an_index_is_taken():
    class Two:
        def __index__(self):
            return 2

    assert ProcessLanes(Two()).max_workers == 2


def test_there_may_be_more_workers_than_windows_lets_one_wait_for():
    assert ProcessLanes(62).max_workers == 62


@pytest.mark.parametrize("method", ["forkserver", "spawn"])
def test_a_context_says_how_workers_are_started(method):
    with ProcessLanes(1, multiprocessing.get_context(method)) as lanes:
        assert lanes.submit(double, 2).result() == 4


@pytest.mark.parametrize("context", [MarkedContext(), MarkedServedContext()])
def test_a_context_of_ones_own_has_processes_of_its_own(context):
    with ProcessLanes(1, context) as lanes:
        assert lanes.submit(marked).result() == "yes"
        assert isinstance(lanes.submit(exit_by, 1).exception(), BrokenProcessPool)
        assert lanes.submit(marked).result() == "yes"
        running = lanes.submit(pid).result()
    assert is_gone(running)


# --- map ----------------------------------------------------------------------------


@pytest.mark.parametrize("buffersize", [None, 1, 2, 100])
@pytest.mark.parametrize("chunksize", [1, 2, 3, 7, 10**6])
def test_map_gives_the_results_in_order(lanes, chunksize, buffersize):
    found = lanes.map(
        add, range(7), itertools.count(), chunksize=chunksize, buffersize=buffersize
    )
    assert list(found) == [2 * n for n in range(7)]


@pytest.mark.parametrize("chunksize", [1, 5])
def test_map_of_nothing_gives_nothing(lanes, chunksize):
    assert list(lanes.map(add, [], [], chunksize=chunksize)) == []
    assert list(lanes.map(add, chunksize=chunksize)) == []


def test_map_raises_when_it_comes_to_what_failed(lanes):
    found = lanes.map(halve, [2, 4, 5, 8])
    assert [next(found), next(found)] == [1, 2]
    with pytest.raises(ValueError, match="5 is odd"):
        next(found)
    assert list(found) == []


def test_a_failure_in_a_chunk_takes_the_chunk_with_it(lanes):
    found = lanes.map(halve, [2, 4, 6, 7], chunksize=2)
    assert [next(found), next(found)] == [1, 2]
    with pytest.raises(ValueError, match="7 is odd"):
        next(found)


def test_chunks_are_single_calls():
    with ProcessLanes(1, max_tasks_per_child=2) as lanes:
        pids = list(lanes.map(pid, range(12), chunksize=3))
    assert len(set(pids)) == 2
    assert pids[:6] == [pids[0]] * 6


def test_a_death_in_a_chunk_names_the_function():
    with ProcessLanes(1) as lanes:
        with pytest.raises(BrokenProcessPool, match="the worker process of exit_by "):
            list(lanes.map(exit_by, [1, 1], chunksize=2))


@pytest.mark.parametrize(
    "arguments, error, text",
    [
        ({"chunksize": 0}, ValueError, "chunksize must be >= 1, not 0"),
        ({"chunksize": 1.5}, TypeError, "chunksize must be an integer, not 1.5"),
        ({"buffersize": 0}, ValueError, "buffersize must be None or >= 1, not 0"),
        ({"buffersize": "1"}, TypeError, "buffersize must be an integer, not '1'"),
    ],
)
def test_map_refuses_at_once_what_cannot_be(lanes, arguments, error, text):
    with pytest.raises(error) as caught:
        lanes.map(double, [1], **arguments)
    assert str(caught.value) == text


def test_map_reads_no_further_than_its_buffer(lanes):
    read = []

    def numbers():
        for number in itertools.count():
            read.append(number)
            yield number

    found = lanes.map(double, numbers(), buffersize=3)
    assert read == [0, 1, 2]
    assert [next(found), next(found)] == [0, 2]
    assert read == [0, 1, 2, 3, 4]


def test_a_buffer_of_chunks_counts_chunks(lanes):
    read = []
    numbers = (read.append(number) or number for number in itertools.count())
    found = lanes.map(double, numbers, chunksize=4, buffersize=2)
    assert len(read) == 8
    assert [next(found) for _ in range(5)] == [0, 2, 4, 6, 8]
    assert len(read) == 16


def test_the_timeout_of_map_counts_from_its_call(lanes, tmp_path):
    go = tmp_path / "go"
    found = lanes.map(tell_and_wait, [(tmp_path / "on", go)], timeout=0.2)
    wait_for(tmp_path / "on")
    time.sleep(0.2)
    before = time.perf_counter()
    with pytest.raises(TimeoutError):
        next(found)
    assert time.perf_counter() - before < 0.15
    go.touch()


def test_what_map_leaves_is_cancelled(tmp_path):
    with ProcessLanes(1) as lanes:
        busy = lanes.submit(tell_and_wait, (tmp_path / "on", tmp_path / "go"))
        found = lanes.map(touch, [tmp_path / "1", tmp_path / "2"], timeout=0)
        with pytest.raises(TimeoutError):
            next(found)
        (tmp_path / "go").touch()
        busy.result()
    assert not (tmp_path / "1").exists()
    assert not (tmp_path / "2").exists()


def test_what_was_submitted_before_an_iterable_failed_is_cancelled(tmp_path):
    def paths():
        yield tmp_path / "1"
        raise LookupError("no more")

    with ProcessLanes(1) as lanes:
        busy = lanes.submit(tell_and_wait, (tmp_path / "on", tmp_path / "go"))
        with pytest.raises(LookupError, match="no more"):
            lanes.map(touch, paths())
        (tmp_path / "go").touch()
        busy.result()
    assert not (tmp_path / "1").exists()


def test_map_keeps_no_result(lanes):
    for chunksize in (1, 2):
        for result in lanes.map(watched, range(6), chunksize=chunksize):
            there = weakref.ref(result)
            del result
            assert there() is None


def test_map_goes_on_without_its_executor():
    found = ProcessLanes(1).map(double, range(5))
    gc.collect()
    assert list(found) == [0, 2, 4, 6, 8]


def test_what_nobody_can_ask_for_is_not_submitted():
    lanes = ProcessLanes(1)
    found = lanes.map(double, range(10), buffersize=2)
    del lanes
    gc.collect()
    assert list(found) == [0, 2]


# --- workers that are replaced ------------------------------------------------------


@pytest.mark.parametrize("method", ["forkserver", "spawn"])
def test_a_worker_is_replaced_after_so_many_calls(method):
    with ProcessLanes(1, max_tasks_per_child=3, start_method=method) as lanes:
        pids = [lanes.submit(pid).result() for _ in range(7)]
        assert is_gone(pids[0]) and is_gone(pids[3])
    assert [len(set(pids[at : at + 3])) for at in (0, 3)] == [1, 1]
    assert len(set(pids)) == 3


def test_workers_of_one_call_each_make_all_calls():
    with ProcessLanes(2, max_tasks_per_child=1) as lanes:
        pids = list(lanes.map(pid, range(8)))
    assert len(set(pids)) == 8


def test_failed_calls_count_too():
    with ProcessLanes(1, max_tasks_per_child=2) as lanes:
        first = lanes.submit(pid).result()
        lanes.submit(fail).exception()
        assert lanes.submit(pid).result() != first


def test_a_worker_that_is_replaced_may_end_what_it_does(caplog):
    with ProcessLanes(1, max_tasks_per_child=1) as lanes:
        first = lanes.submit(leave_a_thread).result()
        assert lanes.submit(pid).result() != first
    assert not caplog.records


# --- what else is done with an executor ---------------------------------------------


def test_wait_and_as_completed_take_its_futures(lanes, tmp_path):
    slow = lanes.submit(tell_and_wait, (tmp_path / "on", tmp_path / "go"))
    fast = lanes.submit(double, 1)
    assert wait([slow, fast], return_when=FIRST_COMPLETED) == ({fast}, {slow})
    (tmp_path / "go").touch()
    assert list(as_completed([slow, fast]))[-1] is slow or slow.done()
    assert wait([slow, fast]).not_done == set()


def test_an_event_loop_may_await_it(lanes):
    async def both():
        loop = asyncio.get_running_loop()
        calls = [loop.run_in_executor(lanes, double, n) for n in (1, 2)]
        failed = loop.run_in_executor(lanes, fail)
        return await asyncio.gather(*calls, failed, return_exceptions=True)

    one, two, error = asyncio.run(both())
    assert (one, two, repr(error)) == (2, 4, "ValueError('told to fail')")


def test_an_event_loop_may_cancel_what_waits(tmp_path):
    async def cancel(lanes):
        loop = asyncio.get_running_loop()
        paths = (tmp_path / "on", tmp_path / "go")
        running = loop.run_in_executor(lanes, tell_and_wait, paths)
        waiting = loop.run_in_executor(lanes, touch, tmp_path / "made")
        while not paths[0].exists():
            await asyncio.sleep(0.001)
        waiting.cancel()
        running.cancel()
        for future in (waiting, running):
            with pytest.raises(asyncio.CancelledError):
                await future
        paths[1].touch()
        return await loop.run_in_executor(lanes, double, 2)

    with ProcessLanes(1) as lanes:
        assert asyncio.run(cancel(lanes)) == 4
    assert not (tmp_path / "made").exists()


def test_a_subclass_may_change_how_calls_are_submitted():
    class Counting(ProcessLanes):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            self.count = 0

        def submit(self, fn, /, *args, **kwargs):
            self.count += 1
            return super().submit(fn, *args, **kwargs)

    with Counting(max_workers=1) as lanes:
        assert list(lanes.map(double, range(4), chunksize=2)) == [0, 2, 4, 6]
        assert lanes.count == 2


def test_arguments_may_have_any_name(lanes):
    assert lanes.submit(dict, self=1, fn=2, args=3).result() == {
        "self": 1,
        "fn": 2,
        "args": 3,
    }


def test_calls_of_partials_are_named_by_their_function():
    with ProcessLanes(1) as lanes:
        error = lanes.submit(partial(partial(exit_by), 1)).exception()
    assert "the worker process of exit_by (" in str(error)


def test_a_call_may_have_processes_of_its_own(lanes):
    outer, answer, inner = lanes.submit(submit_there, 1).result()
    assert answer == 2
    assert len({os.getpid(), outer, inner}) == 3


def test_ends_of_pipes_may_be_sent(lanes):
    here, there = multiprocessing.Pipe()
    future = lanes.submit(receive, there)
    here.send("hello")
    assert future.result() == "hello"
    here.close()
    there.close()


def test_an_error_of_transfer_is_one_of_pickle(lanes):
    error = lanes.submit(len, threading.Lock()).exception()
    assert type(error) is TransferError
    assert isinstance(error, pickle.PicklingError) and isinstance(error, TypeError)


def test_a_result_that_exits_when_it_is_pickled_is_that_calls_failure(lanes):
    assert repr(lanes.submit(give_what_exits).exception()) == "SystemExit(3)"
    assert lanes.submit(double, 2).result() == 4


# --- callbacks and futures ----------------------------------------------------------


@pytest.mark.parametrize("error", [ValueError, SystemExit, KeyboardInterrupt])
def test_what_a_callback_raises_stops_no_lane(error, caplog):
    def raise_it(future):
        raise error("of a callback")

    with ProcessLanes(1) as lanes:
        for _ in range(3):
            lanes.submit(nap, 0.05).add_done_callback(raise_it)
        assert lanes.submit(double, 2).result(20) == 4
    assert len(caplog.records) == 3


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt])
def test_what_a_callback_raises_leaves_nothing_uncancelled(error, tmp_path):
    def raise_it(future):
        raise error("of a callback")

    lanes = ProcessLanes(1)
    lanes.submit(tell_and_wait, (tmp_path / "on", tmp_path / "go"))
    wait_for(tmp_path / "on")
    waiting = [lanes.submit(double, n) for n in range(3)]
    for future in waiting:
        future.add_done_callback(raise_it)
    (tmp_path / "go").touch()
    try:
        with pytest.raises(error):
            lanes.shutdown(cancel_futures=True)
    finally:
        lanes.shutdown()
    assert all(future.cancelled() for future in waiting)


def test_callbacks_may_submit_more():
    results: list[Future[int]] = []
    with ProcessLanes(1) as lanes:
        done = threading.Event()

        def go_on(future):
            if future.result() < 8:
                results.append(lanes.submit(double, future.result()))
                results[-1].add_done_callback(go_on)
            else:
                done.set()

        lanes.submit(double, 1).add_done_callback(go_on)
        assert done.wait(20)
    assert [future.result() for future in results] == [4, 8]


def test_callbacks_may_shut_the_executor_down():
    closed = [threading.Event(), threading.Event()]
    lanes = ProcessLanes(2)
    for event in closed:

        def shut(future, event=event):
            lanes.shutdown(wait=True)
            event.set()

        lanes.submit(nap, 0.05).add_done_callback(shut)
    assert all(event.wait(20) for event in closed)
    lanes.shutdown()


@pytest.mark.parametrize("when", ["waits", "runs"])
def test_a_result_that_somebody_else_sets_stops_no_lane(when, tmp_path):
    with ProcessLanes(1) as lanes:
        paths = (tmp_path / "on", tmp_path / "go")
        running = lanes.submit(tell_and_wait, paths)
        waiting = lanes.submit(double, 1)
        wait_for(paths[0])
        {"runs": running, "waits": waiting}[when].set_result("mine")
        paths[1].touch()
        assert lanes.submit(double, 2).result(20) == 4
        assert {"runs": running, "waits": waiting}[when].result() == "mine"


def test_results_come_though_nobody_holds_the_executor():
    futures = [ProcessLanes(1).submit(double, n) for n in range(3)]
    gc.collect()
    assert [future.result(20) for future in futures] == [0, 2, 4]


def test_an_exception_in_the_with_block_waits_for_what_was_submitted():
    with pytest.raises(LookupError):
        with ProcessLanes(1) as lanes:
            future = lanes.submit(nap, 0.1)
            raise LookupError
    assert future.result(0) == 0.1


def test_cancelled_calls_are_not_made(tmp_path):
    with ProcessLanes(1) as lanes:
        busy = lanes.submit(tell_and_wait, (tmp_path / "on", tmp_path / "go"))
        waiting = lanes.submit(touch, tmp_path / "made")
        wait_for(tmp_path / "on")
        assert waiting.cancel() and not busy.cancel()
        (tmp_path / "go").touch()
        with pytest.raises(CancelledError):
            waiting.result()
    assert not (tmp_path / "made").exists()


def test_many_threads_may_map_at_once(lanes):
    def run(start):
        return list(lanes.map(double, range(start, start + 10), chunksize=3))

    with ThreadPoolExecutor(8) as threads:
        for start, found in enumerate(threads.map(run, range(8))):
            assert found == [2 * n for n in range(start, start + 10)]


# --- at the end of the program ------------------------------------------------------


def test_a_program_ends_when_what_was_submitted_has_ended(tmp_path):
    source = """
def tell(n):
    time.sleep(0.05)
    return n
if __name__ == "__main__":
    lanes = ProcessLanes(1)
    for n in range(30):
        lanes.submit(tell, n).add_done_callback(lambda future: say(future.result()))
"""
    code, out, err = Program(tmp_path, source).run()
    assert (code, err) == (0, "")
    assert out.split() == [str(n) for n in range(30)]


def test_what_waits_after_shutdown_is_done_before_a_program_ends(tmp_path):
    source = """
def tell(n):
    time.sleep(0.2)
    say(n)
if __name__ == "__main__":
    lanes = ProcessLanes(1)
    lanes.map(tell, range(3))
    lanes.shutdown(wait=False)
"""
    assert Program(tmp_path, source).run() == (0, "0\n1\n2\n", "")


def test_an_executor_takes_nothing_from_a_handler_at_exit(tmp_path):
    source = """
import atexit
def last():
    try:
        lanes.submit(pid)
    except RuntimeError as error:
        say(error)
if __name__ == "__main__":
    lanes = ProcessLanes(1)
    lanes.submit(pid).result()
    atexit.register(last)
"""
    text = (
        "cannot schedule new futures after interpreter shutdown: this process ends, "
        "and no worker process can be started any more\n"
    )
    assert Program(tmp_path, source).run() == (0, text, "")


def test_other_threads_may_submit_when_the_main_one_has_ended(tmp_path):
    source = """
def size(value):
    return len(value)
def go_on(main):
    main.join()
    time.sleep(0.2)
    say(lanes.submit(size, "four").result())
if __name__ == "__main__":
    lanes = ProcessLanes(1)
    lanes.submit(size, "four").result()  # in 3.12 no thread could be started later
    threading.Thread(target=go_on, args=(threading.main_thread(),)).start()
"""
    assert Program(tmp_path, source).run() == (0, "4\n", "")


def test_what_is_submitted_without_end_does_not_keep_a_program(tmp_path):
    source = """
def submit():
    try:
        while True:
            lanes.submit(len, "four").result()
    except RuntimeError:
        pass
if __name__ == "__main__":
    lanes = ProcessLanes(1)
    lanes.submit(say, "said")
    threading.Thread(target=submit, daemon=True).start()
"""
    assert Program(tmp_path, source).run() == (0, "said\n", "")


def test_who_is_killed_at_the_end_of_a_program_is_told_of(tmp_path):
    source = """
import logging
if __name__ == "__main__":
    logging.basicConfig(format="%(message)s")
    lanes = ProcessLanes(1)
    lanes.submit(hang)
"""
    code, _, err = Program(tmp_path, source).run()
    assert code == 0
    assert err == (
        "this process ends, and 1 calls that were submitted to ProcessLanes are "
        "killed, for none has ended in 2 s; leave its with block, or call shutdown(), "
        "to wait for them\n"
    )


def test_what_an_idle_worker_has_not_written_yet_is_written(tmp_path, monkeypatch):
    monkeypatch.delenv("PYTHONUNBUFFERED", raising=False)
    source = """
if __name__ == "__main__":
    lanes = ProcessLanes(1)
    lanes.submit(print, "printed").result()
"""
    assert Program(tmp_path, source).run() == (0, "printed\n", "")
