from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import threading
import time
from contextvars import ContextVar, copy_context
from enum import IntEnum
from pathlib import Path

import pytest

from stepfunction import ProcessLanes, StepFunction

logger = logging.getLogger("shop.orders")
customer = ContextVar("customer", default="nobody")


def log(level, text="%s is told", extra=None):
    logger.log(level, text, "it", extra=extra)


def log_at_every_level(value=None):
    for level in (logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR):
        logging.getLogger("shop.orders").log(level, "orders")
        logging.getLogger("shop").log(level, "shop")
    return os.getpid()


def log_an_exception(value=None):
    try:
        raise ValueError("told to fail")
    except ValueError:
        logger.exception("it failed")


def log_and_die(value=None):
    logger.error("last words")
    os.kill(os.getpid(), signal.SIGKILL)


def log_much(count):
    for number in range(count):
        logger.error("%d", number)
    return count


def log_what_cannot_be_formatted(value=None):
    logger.error("%d", "no number")
    return "went on"


def log_from_a_thread_later(path):
    def wait_and_log():
        while not Path(path).exists():
            pass
        logger.error("from a thread")
        Path(path).unlink()

    threading.Thread(target=wait_and_log, daemon=True).start()


def log_without_end():
    def log_on():
        while True:
            logger.error("on and on")
            time.sleep(0.0005)

    threading.Thread(target=log_on, daemon=True).start()
    return os.getpid()


def wait_until_gone(path):
    while Path(path).exists():
        pass


def set_up_logging(value=None):
    logging.basicConfig(level=logging.DEBUG)
    return len(logging.root.handlers)


@pytest.fixture
def lane():
    with ProcessLanes(max_workers=1) as executor:
        yield executor


@pytest.fixture
def told(caplog):
    def told():
        return [(record.name, record.levelname) for record in caplog.records]

    return told


@pytest.fixture
def set_level(monkeypatch):
    def set_level(name, level):
        named = logging.getLogger(name)
        monkeypatch.setattr(named, "level", named.level)  # and is set back
        named.setLevel(level)

    yield set_level
    monkeypatch.undo()
    logging.root.manager._clear_cache()


@pytest.fixture
def handle(lane):
    handler = logging.Handler()

    def handle(emit):
        handler.emit = emit
        logger.addHandler(handler)

    yield handle
    logger.removeHandler(handler)


def run(path, source):
    path = path / "script.py"
    path.write_text(source)
    done = subprocess.run(
        [sys.executable, path], capture_output=True, text=True, timeout=50
    )
    return done.returncode, done.stdout, done.stderr


def test_a_record_of_a_worker_reaches_the_parents_handlers(lane, caplog):
    lane.submit(log, logging.WARNING).result()

    (record,) = caplog.records
    assert (record.name, record.levelno) == ("shop.orders", logging.WARNING)
    assert record.getMessage() == "it is told"
    assert record.process != os.getpid()
    assert record.funcName == "log"


def test_a_record_of_a_step_reaches_the_parents_handlers(caplog):
    workflow = StepFunction("W").add_step(
        "A", {"a": log_at_every_level}, parallel=True, executor="process"
    )
    workflow.set_start_step("A").execute(1)

    assert [record.levelname for record in caplog.records] == [
        *("WARNING", "WARNING"),
        *("ERROR", "ERROR"),
    ]


@pytest.mark.parametrize("level", [logging.DEBUG, logging.INFO, logging.ERROR])
def test_the_parents_level_holds_in_the_worker(lane, caplog, level):
    with caplog.at_level(level):
        lane.submit(log_at_every_level).result()

    assert {record.levelno for record in caplog.records} == {
        one
        for one in (logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR)
        if one >= level
    }


def test_the_level_of_each_logger_holds_in_the_worker(lane, set_level, told):
    set_level("shop.orders", logging.INFO)
    set_level("shop", logging.ERROR)
    lane.submit(log_at_every_level).result()

    assert told() == [
        ("shop.orders", "INFO"),
        ("shop.orders", "WARNING"),
        ("shop.orders", "ERROR"),
        ("shop", "ERROR"),
    ]


def test_a_warm_worker_follows_the_parents_levels(lane, caplog, set_level, told):
    first = lane.submit(log_at_every_level).result()
    set_level("shop", logging.ERROR)
    caplog.clear()
    assert lane.submit(log_at_every_level).result() == first
    assert told() == [("shop.orders", "ERROR"), ("shop", "ERROR")]
    set_level("shop", logging.NOTSET)
    caplog.clear()
    assert lane.submit(log_at_every_level).result() == first

    assert len(told()) == 4


def test_a_level_may_be_a_number_with_a_name(lane, set_level, told):
    class Level(IntEnum):
        LOUD = 35

    set_level("shop", Level.LOUD)
    set_level("root", Level.LOUD)
    lane.submit(log_at_every_level).result()

    assert told() == [("shop.orders", "ERROR"), ("shop", "ERROR")]


def test_what_is_disabled_everywhere_is_disabled_in_the_worker(lane, caplog):
    logging.disable(logging.WARNING)
    try:
        lane.submit(log_at_every_level).result()
    finally:
        logging.disable(logging.NOTSET)

    assert {record.levelname for record in caplog.records} == {"ERROR"}


def test_the_traceback_of_a_logged_exception_comes_along(lane, caplog):
    lane.submit(log_an_exception).result()

    assert "in log_an_exception" in caplog.text
    assert "ValueError: told to fail" in caplog.text


@pytest.mark.parametrize(
    "value, expected", [([1], "[1]"), (threading.Event, "<class 'threading.Event'>")]
)
def test_extra_attributes_come_along(lane, caplog, value, expected):
    lane.submit(log, logging.ERROR, extra={"order": value}).result()

    assert repr(caplog.records[0].order) == expected


def log_with_a_lock(value=None):
    logger.error("locked", extra={"order": 17, "lock": threading.Lock()})


def test_an_extra_attribute_that_cannot_be_pickled_comes_as_text(lane, caplog):
    lane.submit(log_with_a_lock).result()

    assert caplog.records[0].order == 17
    assert caplog.records[0].lock.startswith("<unlocked _thread.lock object at")


def test_what_a_worker_logged_before_it_died_is_not_lost(lane, caplog):
    error = lane.submit(log_and_die).exception()

    assert "SIGKILL" in str(error)
    assert caplog.messages == ["last words"]


def test_many_records_arrive_in_order(lane, caplog):
    assert lane.submit(log_much, 2000).result() == 2000

    assert caplog.messages == [str(number) for number in range(2000)]


def test_a_record_that_cannot_be_formatted_harms_nobody(lane, caplog):
    assert lane.submit(log_what_cannot_be_formatted).result() == "went on"

    assert caplog.records == []


def test_a_record_between_two_calls_arrives_and_harms_nobody(lane, caplog, tmp_path):
    path = tmp_path / "go on"
    pid = lane.submit(os.getpid).result()
    lane.submit(log_from_a_thread_later, path).result()
    path.touch()
    wait_until_gone(path)

    assert lane.submit(os.getpid).result() == pid
    assert caplog.messages == ["from a thread"]


def test_a_worker_does_not_log_twice_when_its_code_sets_up_logging(
    lane, caplog, capfd
):
    assert lane.submit(set_up_logging).result() == 1
    lane.submit(log, logging.WARNING).result()

    assert caplog.messages == ["it is told"]
    assert capfd.readouterr().err == ""


def test_a_thread_that_logs_faster_than_is_handled_holds_nothing_up(lane, handle):
    handle(lambda record: time.sleep(0.002))
    pid = lane.submit(log_without_end).result(10)
    assert lane.submit(os.getpid).result(10) == pid

    closing = threading.Thread(target=lane.shutdown, daemon=True)
    closing.start()
    closing.join(10)

    assert not closing.is_alive()


def test_a_thread_that_logs_when_its_worker_leaves_makes_no_noise(tmp_path):
    source = """
import logging
import threading
from stepfunction import ProcessLanes

def log_at_the_end():
    def wait_and_log():
        threading.main_thread().join()
        logging.getLogger("shop").error("nobody hears it")

    threading.Thread(target=wait_and_log).start()

if __name__ == "__main__":
    with ProcessLanes(1) as lanes:
        lanes.submit(log_at_the_end).result()
"""
    assert run(tmp_path, source) == (0, "", "")


@pytest.mark.parametrize("propagates", [False, True])
def test_a_handler_that_the_script_sets_up_is_given_each_record_once(
    tmp_path, propagates
):
    source = f"""
import logging
import os
from stepfunction import ProcessLanes

class Handler(logging.Handler):
    def emit(self, record):
        where = "worker" if os.getpid() == record.process else "parent"
        print(record.getMessage(), "in the", where, flush=True)

logger = logging.getLogger("shop")
logger.addHandler(Handler())
logger.propagate = {propagates}

if __name__ == "__main__":
    with ProcessLanes(1) as lanes:
        lanes.submit(logger.warning, "handled").result()
"""
    assert run(tmp_path, source) == (0, "handled in the parent\n", "")


@pytest.mark.parametrize("place", ["thread", "process", "lanes", "submit"])
def test_a_record_is_handled_with_the_variables_of_who_executes(handle, lane, place):
    executor = lane if place == "lanes" else place
    workflow = StepFunction("W").set_start_step("A")
    if place != "submit":
        workflow.add_step("A", {"a": log_much}, parallel=True, executor=executor)
    seen = []
    handle(lambda record: seen.append(customer.get()))

    for name in ("Ada", "Grace"):
        context = copy_context()
        context.run(customer.set, name)
        if place == "submit":
            context.run(lane.submit, log_much, 1).result()
        else:
            context.run(workflow.execute, 1)

    assert seen == ["Ada", "Grace"]


def refuse(record):
    raise RuntimeError("a filter that fails")


def test_a_filter_that_fails_in_the_parent_harms_no_task(lane, capfd):
    logger.addFilter(refuse)
    try:
        assert lane.submit(log_much, 1).result() == 1
    finally:
        logger.removeFilter(refuse)

    assert "a filter that fails" in capfd.readouterr().err
