from __future__ import annotations

import code
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.thread import BrokenThreadPool
from dataclasses import dataclass, field
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

import pytest

from stepfunction import (
    DefinitionError,
    ProcessLanes,
    StepFunction,
    StepFunctionError,
    TransferError,
)

MOST_LINES = 15
SECONDS = 20


# --- programs -----------------------------------------------------------------------


def as_file(folder, source):
    path = Path(folder, "program.py")
    path.write_text(source)
    return [path], ""


def as_argument(folder, source):
    return ["-c", source], ""


def as_dash(folder, source):
    return ["-"], source


def as_input(folder, source):
    return [], source


WAYS = {"-c": as_argument, "-": as_dash, "stdin": as_input}


def run(folder, source, way=as_file):
    arguments, text = way(folder, source)
    # From 3.12 on a fork beside threads warns.
    done = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", *arguments],
        input=text,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        cwd=folder,
    )
    return done.returncode, done.stdout, done.stderr


def error_of(result):
    """Give the name and the text of the error that ended a program, and its reasons."""
    code, out, err = result
    assert (code, out) == (1, ""), err
    reasons = err.count("The above exception was the direct cause")
    assert err.count("Traceback (most recent call last)") == 1 + reasons, err
    head, _, text = err.rpartition("stepfunction.core.errors.")
    assert head.splitlines()[-1].startswith("  "), err  # what the caller called
    assert len(text.splitlines()) <= MOST_LINES
    name, _, text = text.partition(": ")
    return name, text.strip()


def short(error):
    """Give the text of an error."""
    text = str(error)
    assert len(text.splitlines()) <= MOST_LINES
    return text


START = """\
import threading
from stepfunction import ProcessLanes, StepFunction

def one(func, **arguments):
    return StepFunction("W").add_step("Pay", func, **arguments).set_start_step("Pay")
"""

# --- no guard -----------------------------------------------------------------------

NO_GUARD = (
    "a worker process imports the script that started it, and this script then starts "
    "its workflow again; put what runs the workflow under the guard\n\n"
    '    if __name__ == "__main__":\n        main()'
)


@pytest.mark.parametrize(
    "use",
    [
        "one(abs, executor='process').execute(-1)",
        "one({'a': abs, 'b': abs}, parallel=True, executor='process').execute(-1)",
        "one(abs, executor=ProcessLanes(2, start_method='spawn')).execute(-1)",
        "one(one(abs, executor='process'), executor='process').execute(-1)",
    ],
    ids=["step", "tasks", "spawn", "nested"],
)
def test_a_script_without_the_guard_has_one_short_error(tmp_path, use):
    name, text = error_of(run(tmp_path, START + use))
    assert name == "WorkerStartError"
    assert text == NO_GUARD


# --- what cannot be imported --------------------------------------------------------

BY_NAME = (
    "a process imports functions by name: define it at the top level of a module, "
    "pip install cloudpickle, or use executor='thread'"
)


def nested_function():
    def nested(value):
        return value + 1

    return nested


class Adder:
    def __init__(self, add):
        self.add = add

    def __call__(self, value):
        return self.add(value, 1)


UNNAMED = {
    "lambda": lambda value: value + 1,
    "nested function": nested_function(),
    "attribute": Adder(lambda value, one: value + one),
    "method": Adder(lambda value, one: value + one).__call__,
}


def one(func, **arguments):
    return StepFunction("W").add_step("Pay", func, **arguments).set_start_step("Pay")


@pytest.fixture(scope="module")
def places():
    with ProcessLanes(1) as lanes:
        with ProcessPoolExecutor(1, get_context("forkserver")) as pool:
            yield {"process": "process", "lanes": lanes, "pool": pool}


@pytest.mark.parametrize("place", ["process", "lanes", "pool"])
@pytest.mark.parametrize("kind", UNNAMED)
def test_a_function_without_a_name_is_refused(kind, place, places):
    workflow = one(UNNAMED[kind], executor=places[place])
    with pytest.raises(DefinitionError) as caught:
        workflow.execute(1)
    assert "step 'Pay'" in short(caught.value)
    assert BY_NAME in short(caught.value)


@pytest.mark.parametrize("place", ["process", "lanes"])
def test_each_task_without_a_name_is_refused_at_once(place, places):
    tasks = {"a": abs, "b": UNNAMED["lambda"], "c": UNNAMED["nested function"]}
    workflow = one(tasks, parallel=True, executor=places[place])
    with pytest.raises(DefinitionError) as caught:
        workflow.execute(1)
    assert len(caught.value.problems) == 2
    assert "'b'" in short(caught.value)
    assert "'c'" in short(caught.value)


@pytest.mark.parametrize("kind", UNNAMED)
def test_a_submitted_function_without_a_name_is_refused(kind, places):
    with pytest.raises(TransferError) as caught:
        places["lanes"].submit(UNNAMED[kind], 1).result()
    assert BY_NAME.capitalize() in short(caught.value)


@pytest.mark.cloudpickle
@pytest.mark.parametrize("kind", UNNAMED)
def test_with_cloudpickle_a_function_needs_no_name(kind):
    assert one(UNNAMED[kind], executor="process").execute(1).output == 2


@pytest.mark.cloudpickle
@pytest.mark.parametrize("kind", UNNAMED)
def test_with_cloudpickle_submit_takes_a_function_without_a_name(kind):
    with ProcessLanes(1) as lanes:
        assert lanes.submit(UNNAMED[kind], 1).result() == 2


@pytest.mark.cloudpickle
def test_with_cloudpickle_a_pool_takes_a_function_without_a_name():
    with ProcessPoolExecutor(1, get_context("forkserver")) as pool:
        assert one(UNNAMED["lambda"], executor=pool).execute(1).output == 2


@pytest.mark.cloudpickle
def test_with_cloudpickle_a_result_needs_no_importable_class():
    def make(value):
        class Local:
            worth = value

        return Local()

    output = one(make, executor="process").execute(5).output
    assert (type(output).__name__, output.worth) == ("Local", 5)


@pytest.mark.cloudpickle
def test_with_cloudpickle_a_lock_is_still_refused():
    lock = threading.Lock()
    with pytest.raises(DefinitionError, match="lock"):
        one(lambda value: lock, executor="process").execute(5)


@pytest.mark.cloudpickle
def test_the_main_script_keeps_its_file_while_workers_start(tmp_path):
    source = f"""{START}
lost = []
is_over = threading.Event()

def look():
    while not is_over.is_set():
        if __file__ is None:
            lost.append(1)

thread = threading.Thread(target=look)
thread.start()
for _ in range(3):
    one(abs, executor="process").execute(-1)
is_over.set()
thread.join()
print(len(lost))
"""
    assert run(tmp_path, source) == (0, "0\n", "")


# --- consoles, notebooks and input --------------------------------------------------

TYPED = """\
def add_one(value):
    return value + 1

class Order:
    pass

"""
USES = {
    "step": "print(one(add_one, executor='process').execute(1).output)",
    "tasks": "print(one({'a': add_one}, parallel=True, executor='process')"
    ".execute(1).output['a'])",
    "submit": "print(ProcessLanes(1).submit(add_one, 1).result())",
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("use", USES)
def test_a_function_of_no_file_is_refused(tmp_path, way, use):
    result = run(tmp_path, START + TYPED + USES[use], WAYS[way])
    name, text = error_of(result)
    assert name == ("TransferError" if use == "submit" else "DefinitionError")
    assert (
        "add_one was defined in a console, a notebook, by python -c, on standard input "
        "or in a package's __main__" in text
    )
    assert "executor='thread'" in text


@pytest.mark.parametrize("way", WAYS)
def test_an_input_whose_class_is_of_no_file_is_refused(tmp_path, way):
    source = f"{START}{TYPED}one(id, executor='process').execute(Order())"
    name, text = error_of(run(tmp_path, source, WAYS[way]))
    assert name == "StepExecutionError"
    assert "Order was defined in a console, a notebook" in text


def test_a_function_of_the_main_of_a_package_is_refused(tmp_path):
    def as_package(folder, source):
        Path(folder, "program").mkdir()
        Path(folder, "program", "__main__.py").write_text(source)
        return ["-m", "program"], ""

    use = f'if __name__ == "__main__":\n    {USES["step"]}'
    name, text = error_of(run(tmp_path, START + TYPED + use, as_package))
    assert name == "DefinitionError"
    assert "add_one was defined in a console" in text
    assert "or in a package's __main__" in text


@pytest.mark.cloudpickle
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("use", USES)
def test_with_cloudpickle_a_function_may_be_of_no_file(tmp_path, way, use):
    assert run(tmp_path, START + TYPED + USES[use], WAYS[way]) == (0, "2\n", "")


@pytest.mark.parametrize("way", WAYS)
def test_functions_of_modules_run_in_processes_from_anywhere(tmp_path, way):
    source = f"{START}print(one(abs, executor='process').execute(-1).output)"
    assert run(tmp_path, source, WAYS[way]) == (0, "1\n", "")


class Console(code.InteractiveConsole):
    """A console in a program that has a file, as Django's shell is."""

    def __init__(self):
        super().__init__()
        self.output = []

    def write(self, data):
        self.output.append(data)

    def type_in(self, source):
        for line in source.splitlines():
            self.push(line)
        return "".join(self.output)


def test_a_function_that_was_typed_into_a_console_is_refused():
    shown = Console().type_in(f"{START}\n{TYPED}{USES['step']}\n")
    name, text = error_of((1, "", shown))
    assert name == "DefinitionError"
    assert "console" in text


@pytest.mark.cloudpickle
def test_with_cloudpickle_a_function_may_be_typed_into_a_console(capsys):
    assert Console().type_in(f"{START}\n{TYPED}{USES['step']}\n") == ""
    assert capsys.readouterr().out == "2\n"


def interactively(folder, source):
    return ["-iqu"], source


def test_an_interactive_interpreter_shows_the_error_and_goes_on(tmp_path):
    source = f"{START}\n{TYPED}{USES['step']}\nprint('goes on')\n"
    code, out, err = run(tmp_path, source, interactively)
    assert (code, out) == (0, "goes on\n")
    name, text = error_of((1, "", err.rstrip("> \n")))
    assert name == "DefinitionError"
    assert "add_one was defined in a console, a notebook" in text


@pytest.mark.cloudpickle
def test_with_cloudpickle_an_interactive_interpreter_needs_no_file(tmp_path):
    source = f"{START}\n{TYPED}{USES['step']}\n"
    code, out, err = run(tmp_path, source, interactively)
    assert (code, out) == (0, "2\n")
    assert set(err) <= set(">. \n")  # prompts alone


# --- what cannot be pickled ---------------------------------------------------------


class Connection:
    def __init__(self):
        self.state = {"open": True, "lock": threading.Lock()}


class Slotted:
    __slots__ = ("name", "lock")

    def __init__(self):
        self.lock = threading.Lock()


class Reopened(Connection):
    """Leaves its own lock behind, and has another where nobody looked."""

    def __init__(self):
        super().__init__()
        self.depth = {"reentrant": threading.RLock()}

    def __getstate__(self):
        return {"depth": self.depth}


class Row(NamedTuple):
    name: str
    cells: list


@dataclass
class Order:
    number: int = 17
    lines: list = field(default_factory=list)
    connection: object = None


@pytest.mark.parametrize(
    "value, way",
    [
        (Order(connection={"lock": threading.Lock()}), ["connection", "lock"]),
        (Order(connection=Connection()), ["connection", "state", "lock"]),
        (Order(lines=[1, {"stream": sys.stdout}]), ["lines", "1", "stream"]),
        ({"orders": (Order(), Order(connection=Slotted()))}, ["1", "connection"]),
        ([1, 2, (x for x in "abc")], ["2"]),
        (Slotted(), ["lock"]),
        (Reopened(), ["input.depth['reentrant']"]),
        (Row("a", [1, threading.Lock()]), ["input.cells[1]"]),
        (partial(pow, exp=threading.Lock()), ["input.keywords['exp']"]),
        (Slotted().__init__, ["input.__self__.lock"]),
    ],
    ids=[
        "dict",
        "attributes",
        "list",
        "slots",
        "generator",
        "itself",
        "state",
        "named tuple",
        "partial",
        "method",
    ],
)
@pytest.mark.parametrize("place", ["process", "pool"])
def test_an_input_that_cannot_be_pickled_names_the_attribute(value, way, place, places):
    execution = one(id, executor=places[place], on_failure="Show")
    execution.add_step("Show", str)
    error = execution.execute(value).context["Pay"]
    assert type(error) is TransferError
    assert "the input of step 'Pay'" in short(error)
    shown = short(error)
    for part in way:
        assert part in shown
        shown = shown[shown.index(part) :]  # in this order


def test_a_parameter_that_cannot_be_pickled_is_named(places):
    workflow = one(pow, params={"exp": threading.Lock()}, executor=places["lanes"])
    with pytest.raises(DefinitionError) as caught:
        workflow.execute(2)
    assert "exp" in short(caught.value)


def give_order(value):
    return Order(connection={"lock": threading.Lock()})


def test_a_result_that_cannot_be_pickled_names_the_attribute(places):
    workflow = one(give_order, executor=places["lanes"], on_failure="Show")
    error = workflow.add_step("Show", str).execute().context["Pay"]
    assert type(error) is TransferError
    assert "connection['lock']" in short(error)


class Closed(Mapping):
    """Cannot be looked into, as a shelf that has been closed."""

    def __init__(self):
        self.lock = threading.Lock()

    def __getitem__(self, key):
        raise RuntimeError("it is closed")

    def __iter__(self):
        return iter("ab")

    def __len__(self):
        return 2


class Nameless:
    def __repr__(self):
        raise RuntimeError("it has no name")


def nested_deeply():
    value = []
    for _ in range(100_000):
        value = [value]
    return value


UNSENDABLE = {
    "mapping": (Closed, "cannot pickle '_thread.lock' object"),
    "key": (lambda: {Nameless(): threading.Lock()}, "cannot pickle '_thread.lock'"),
    "deep": (nested_deeply, "recursion"),
}


def give_unsendable(kind):
    return UNSENDABLE[kind][0]()


@pytest.mark.parametrize("kind", UNSENDABLE)
def test_an_input_that_cannot_be_looked_into_is_refused(kind, places):
    make, reason = UNSENDABLE[kind]
    workflow = one(id, executor=places["lanes"], on_failure="Show")
    error = workflow.add_step("Show", str).execute(make()).context["Pay"]
    assert type(error) is TransferError
    assert "the input of step 'Pay' cannot be sent" in short(error)
    assert reason in short(error)


@pytest.mark.parametrize("kind", UNSENDABLE)
def test_a_result_that_cannot_be_looked_into_is_refused(kind, places):
    workflow = one(give_unsendable, executor=places["lanes"], on_failure="Show")
    error = workflow.add_step("Show", str).execute(kind).context["Pay"]
    assert type(error) is TransferError
    assert "cannot be sent back from its process" in short(error)
    assert UNSENDABLE[kind][1] in short(error)


# --- daemons and forks --------------------------------------------------------------


def test_a_worker_of_multiprocessing_pool_is_told_that_it_may_not_start_others(
    tmp_path,
):
    source = f"""{START}
import multiprocessing

def pay(value):
    return one(abs, executor="process").execute(value).output

if __name__ == "__main__":
    with multiprocessing.get_context("forkserver").Pool(1) as pool:
        try:
            pool.apply(pay, (-1,))
        except Exception as error:
            print(type(error).__name__, error)
"""
    code, out, err = run(tmp_path, source)
    assert (code, err) == (0, "")
    assert out.startswith("WorkerStartError this process is daemonic")
    assert "executor='thread'" in out
    assert len(out.splitlines()) == 1


POOLS = ["ThreadPoolExecutor(1)", "ProcessPoolExecutor(1, get_context('forkserver'))"]


@pytest.mark.parametrize("is_parallel", [False, True])
@pytest.mark.parametrize("pool", POOLS, ids=["threads", "processes"])
def test_a_pool_that_ran_before_a_fork_is_refused(tmp_path, pool, is_parallel):
    func = "{'a': abs, 'b': abs}" if is_parallel else "abs"
    source = f"""{START}
import os
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from functools import partial
from multiprocessing import get_context

if __name__ == "__main__":
    with {pool} as pool:
        pool.submit(abs, -1).result()
        child = os.fork()
        if child == 0:
            try:
                workflow = one({func}, parallel={is_parallel}, executor=pool)
                workflow.execute(-1, timeout=5)
            except Exception as error:
                print(type(error).__name__, error, flush=True)
            os._exit(0)
        os.waitpid(child, 0)
        print(one(abs, executor=pool).execute(-2).output)
"""
    code, out, err = run(tmp_path, source)
    assert (code, err) == (0, "")
    *shown, parent = out.splitlines()
    assert parent == "2"
    assert "WorkerStartError" in shown[0]
    assert "before this process was forked" in shown[0]
    assert "after the fork" in shown[0]
    assert len(shown) <= MOST_LINES


@pytest.mark.parametrize("pool", POOLS, ids=["threads", "processes"])
def test_a_pool_that_ran_nothing_before_a_fork_serves_the_child(tmp_path, pool):
    source = f"""{START}
import os
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from functools import partial
from multiprocessing import get_context

if __name__ == "__main__":
    pool = {pool}
    child = os.fork()
    if child == 0:
        print(one(abs, executor=pool).execute(-1, timeout=10).output, flush=True)
        pool.shutdown()
        os._exit(0)
    os.waitpid(child, 0)
"""
    assert run(tmp_path, source) == (0, "1\n", "")


def fail_to_begin():
    raise ValueError("no database")


@pytest.mark.parametrize("is_parallel", [False, True])
def test_a_pool_whose_threads_cannot_begin_is_not_blamed_on_a_fork(is_parallel):
    func = {"a": abs} if is_parallel else abs
    with ThreadPoolExecutor(1, initializer=fail_to_begin) as pool:
        workflow = one(func, parallel=is_parallel, executor=pool, on_failure="Show")
        workflow.add_step("Show", str)
        failures = [workflow.execute(-1).failures[-1] for _ in range(2)]
    errors = [failure.error.__cause__ or failure.error for failure in failures]
    assert [type(error) for error in errors] == [BrokenThreadPool] * 2


def test_a_pool_that_was_made_after_the_fork_is_used(tmp_path):
    source = f"""{START}
import os
from concurrent.futures import ThreadPoolExecutor

if __name__ == "__main__":
    child = os.fork()
    if child == 0:
        with ThreadPoolExecutor(1) as pool:
            pool.submit(abs, -1).result()
            print(one(abs, executor=pool).execute(-1).output, flush=True)
        os._exit(0)
    os.waitpid(child, 0)
"""
    assert run(tmp_path, source) == (0, "1\n", "")


@pytest.mark.parametrize("use", ["submit", "step", "tasks"])
def test_a_fork_beside_threads_is_refused(use):
    done = threading.Event()
    other = threading.Thread(target=done.wait, name="the other", daemon=True)
    other.start()
    try:
        with ProcessLanes(2, start_method="fork") as lanes:
            with pytest.raises(StepFunctionError) as caught:
                if use == "submit":
                    lanes.submit(abs, -1)
                elif use == "step":
                    one(abs, executor=lanes).execute(-1)
                else:
                    tasks = {"a": abs, "b": abs}
                    one(tasks, parallel=True, executor=lanes).execute(-1)
    finally:
        done.set()
        other.join()
    assert "start_method='fork' copies" in short(caught.value)
    assert "'forkserver'" in short(caught.value)
    assert "'the other'" in short(caught.value)


@pytest.mark.parametrize("is_parallel", [False, True])
def test_a_fork_without_threads_is_allowed(tmp_path, is_parallel):
    func = "{'a': abs, 'b': abs, 'c': abs}" if is_parallel else "abs"
    source = f"""{START}
with ProcessLanes(2, start_method="fork") as lanes:
    workflow = one({func}, parallel={is_parallel}, executor=lanes)
    for number in range(3):
        print(workflow.execute(-1).output)
"""
    output = {"a": 1, "b": 1, "c": 1} if is_parallel else 1
    assert run(tmp_path, source) == (0, f"{output}\n" * 3, "")


def test_forked_workers_leave_when_they_are_let_go(tmp_path):
    source = f"""{START}
import time

with ProcessLanes(1, start_method="fork") as lanes:
    lanes.submit(abs, -1).result()
    began = time.monotonic()
print(time.monotonic() - began < 2)
"""
    assert run(tmp_path, source) == (0, "True\n", "")


def test_threads_and_lanes_of_our_own_do_not_count_as_threads_beside_a_fork(tmp_path):
    source = f"""{START}
with ProcessLanes(2, start_method="fork") as lanes, ProcessLanes(1) as others:
    workflow = one(abs, executor="thread", next_step="Last")
    workflow.add_step("Last", abs, executor=lanes)
    print(others.max_workers, workflow.execute(-1).output)
"""
    assert run(tmp_path, source) == (0, "1 1\n", "")


def test_a_function_under_the_main_guard_is_told_from_others(tmp_path):
    source = """
from stepfunction import StepFunction

if __name__ == "__main__":
    def under_the_guard(value):
        return value

    workflow = StepFunction("W").set_start_step("A")
    workflow.add_step("A", under_the_guard, executor="process")
    workflow.execute(1)
"""
    code, out, err = run(tmp_path, source)
    assert (code, out) == (1, "")
    assert "at the top level of the script, outside the main guard" in err


def test_the_module_of_the_function_is_imported_before_the_input(tmp_path):
    (tmp_path / "tasks.py").write_text("""
import sys
sys.is_set_up = True

def work(order):
    return order.number
""")
    (tmp_path / "orders.py").write_text("""
import sys

class Order:
    number = 17

    def __setstate__(self, state):
        assert sys.is_set_up

    def __getstate__(self):
        return {"number": 17}
""")
    source = """
from stepfunction import StepFunction

if __name__ == "__main__":
    from orders import Order
    from tasks import work

    workflow = StepFunction("W").add_step("A", work, executor="process")
    print(workflow.set_start_step("A").execute(Order()).output)
"""
    assert run(tmp_path, source) == (0, "17\n", "")


def leave_a_thread(value):
    threading.Thread(target=time.sleep, args=(60,)).start()
    return "left"


def test_a_thread_that_a_task_leaves_holds_nothing_up_for_long(caplog):
    workflow = StepFunction("W").add_step("A", leave_a_thread, executor="process")
    execution = workflow.set_start_step("A").execute(1)
    assert execution.output == "left"
    (record,) = caplog.records
    assert "a task may have left a thread that is no daemon" in record.getMessage()


def test_an_unknown_start_method_names_those_there_are():
    with pytest.raises(ValueError, match="start_method is one of .*not 'frk'"):
        ProcessLanes(start_method="frk")
