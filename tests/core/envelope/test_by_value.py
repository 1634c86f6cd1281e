from __future__ import annotations

import subprocess
import sys
import threading

import pytest

from stepfunction import ProcessLanes, RemoteError, StepFunction, TransferError

pytestmark = pytest.mark.cloudpickle


@pytest.fixture(scope="module")
def lanes():
    with ProcessLanes(max_workers=1) as executor:
        yield executor


def run(function, executor, value=20):
    workflow = StepFunction("W").add_step("A", function, executor=executor)
    return workflow.set_start_step("A").execute(value)


def test_a_lambda_runs_in_a_process(lanes):
    assert run(lambda value: value + 1, lanes).output == 21


def test_a_nested_function_brings_what_it_closes_over(lanes):
    amount = 3

    def add(value):
        return value + amount

    assert run(add, lanes).output == 23


def test_the_lanes_of_an_execution_take_lambdas_too():
    tasks = {"one": lambda value: value + 1, "two": lambda value: value + 2}
    workflow = StepFunction("W").add_step("A", tasks, parallel=True, executor="process")

    assert workflow.set_start_step("A").execute(1).output == {"one": 2, "two": 3}


def test_a_process_pool_of_concurrent_futures_takes_lambdas_too():
    from concurrent.futures import ProcessPoolExecutor
    from multiprocessing import get_context

    with ProcessPoolExecutor(1, mp_context=get_context("forkserver")) as pool:
        assert run(lambda value: value + 1, pool).output == 21


def test_submit_takes_a_lambda(lanes):
    assert lanes.submit(lambda value: value + 1, 20).result() == 21


def test_a_nested_workflow_of_lambdas_runs_in_a_process(lanes):
    inner = StepFunction("Inner").add_step("In", lambda v: v * 2, lambda_target)
    inner.add_step("Out", lambda v: v + 1).set_start_step("In")

    assert run(inner, lanes).output == 41


lambda_target = "Out"


def test_values_of_a_local_class_come_back_as_the_same_class(lanes):
    class Order:
        def __init__(self, number):
            self.number = number

    output = run(lambda order: Order(order.number + 1), lanes, Order(1)).output

    assert type(output) is Order
    assert output.number == 2


def test_an_exception_of_a_local_class_comes_back_as_itself(lanes):
    class Declined(Exception):
        def __init__(self, code, *, reason):
            super().__init__(f"{code}: {reason}")
            self.reason = reason

    def pay(order):
        raise Declined(17, reason="no cover")

    workflow = StepFunction("W").add_step(
        "Pay", pay, executor=lanes, on_failure={Declined: "Apologise"}
    )
    workflow.add_step("Apologise", lambda error: error.reason).set_start_step("Pay")

    assert workflow.execute(1).output == "no cover"


def test_a_result_that_plain_pickle_cannot_send_comes_back(lanes):
    assert run(lambda value: lambda: value, lanes).output() == 20


def test_what_cannot_be_sent_by_value_either_is_refused(lanes):
    lock = threading.Lock()

    with pytest.raises(TransferError, match="cannot pickle '_thread.lock' object"):
        lanes.submit(lambda: lock).result()
    with pytest.raises(TransferError, match="Leave out what cannot be pickled, or use"):
        lanes.submit(lambda: lock).result()


def test_a_result_that_cannot_be_sent_by_value_either_is_named(lanes):
    with pytest.raises(TransferError, match=r"result\['lock'\]: cannot pickle"):
        lanes.submit(lambda: {"lock": threading.Lock()}).result()


def test_a_record_of_an_exception_says_what_it_was(lanes):
    class Stubborn(Exception):
        def __reduce__(self):
            raise RuntimeError("no")

        def __init__(self, lock):
            super().__init__(lock)

    def fail(value):
        raise Stubborn(threading.Lock())

    error = lanes.submit(fail, 1).exception()
    assert isinstance(error, Stubborn | RemoteError)
    assert "lock" in str(error)


SCRIPT = """
from stepfunction import StepFunction

class Order:
    def __init__(self, number):
        self.number = number

class Declined(Exception):
    def __init__(self, code, order):
        super().__init__(code)
        self.order = order

def next_order(order):
    return Order(order.number + 1)

def decline(order):
    raise Declined("no cover", order.number)

workflow = StepFunction("W")
workflow.add_step(
    "A",
    {"next": next_order, "number": lambda order: order.number, "decline": decline},
    parallel=True,
    executor="process",
)
output = workflow.set_start_step("A").execute(Order(17)).output
assert type(output["next"]) is Order and type(output["decline"]) is Declined
print(output["next"].number, output["number"], output["decline"].order)
"""


@pytest.mark.parametrize("way", ["-c", "-", "file", "module"])
def test_a_program_that_workers_cannot_import_works(tmp_path, way):
    (tmp_path / "script.py").write_text(SCRIPT)
    arguments = {
        "-c": ["-c", SCRIPT],
        "-": ["-"],
        "file": [tmp_path / "script.py"],
        "module": ["-m", "script"],
    }

    done = subprocess.run(
        [sys.executable, *arguments[way]],
        cwd=tmp_path,
        input=SCRIPT,
        capture_output=True,
        text=True,
        timeout=50,
    )

    assert (done.stdout, done.stderr) == ("18 17 17\n", "")


GUARDED = """
from dataclasses import dataclass
from enum import Enum

from stepfunction import StepFunction

class Color(Enum):
    RED = 1

@dataclass
class Order:
    color: Color

def is_order(value):
    return type(value) is Order

if __name__ == "__main__":
    tasks = {
        "by name": is_order,
        "class": lambda order: isinstance(order, Order),
        "enum": lambda order: order.color is Color.RED,
        "back": lambda order: Order(order.color),
    }
    workflow = StepFunction("W")
    workflow.add_step("A", tasks, parallel=True, executor="process", max_workers=1)
    output = workflow.set_start_step("A").execute(Order(Color.RED)).output
    print(output == {**dict.fromkeys(tasks, True), "back": Order(Color.RED)})
"""
# As the console of Python 3.13 and newer is one: multiprocessing imports no such main.
AS_CONSOLE = """
from importlib.machinery import ModuleSpec

__file__, __spec__ = "script.py", ModuleSpec("console.__main__", None)
"""


@pytest.mark.parametrize(
    "arguments",
    [["script.py"], ["-m", "script"], ["-m", "package"], ["-c", AS_CONSOLE + GUARDED]],
    ids=["file", "module", "package", "console"],
)
def test_a_class_of_the_program_is_the_same_in_a_lambda(tmp_path, arguments):
    (tmp_path / "script.py").write_text(GUARDED)
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "__main__.py").write_text(GUARDED)

    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=50,
    )

    assert (done.stdout, done.stderr) == ("True\n", "")
