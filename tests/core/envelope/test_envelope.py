from __future__ import annotations

import io
import json
import os
import pickle
import subprocess
import threading
import urllib.error

import pytest
from shared.awkward_errors import (
    KeywordOnly,
    LinesAndNumbers,
    ReduceRaises,
    TwoArguments,
    local,
)
from shared.calls import make_lock, same

from stepfunction import (
    Outcome,
    ParallelStepExecutionError,
    ProcessLanes,
    RemoteError,
    StepFunction,
    TransferError,
)


class WithLock(Exception):
    def __init__(self, text):
        super().__init__(text)
        self.text = text
        self.lock = threading.Lock()


class StrRaises(Exception):
    def __str__(self):
        raise RuntimeError("no text")


class ListOfErrors(Exception):
    """Built as Django's ValidationError is: the text comes from an attribute."""

    def __init__(self, message, code=None, params=None):
        super().__init__(message, code, params)
        self.error_list = [self] if isinstance(message, str) else message
        self.message = message
        self.code = code
        self.params = params

    def __str__(self):
        if isinstance(self.message, str):
            return repr([self.message % (self.params or ())])
        return repr([str(error) for error in self.message])


class MadeOfAnother(Exception):
    """Is rebuilt from an exception that lives only while it is pickled."""

    def __init__(self, tag):
        super().__init__("made of another")
        self.tag = tag

    def __reduce__(self):
        return from_another, (ValueError(self.tag),)


def from_another(other):
    return MadeOfAnother(other.args[0])


class Wraps(Exception):
    def __init__(self, text, other=None):
        super().__init__(text)
        self.other = other


def with_notes():
    error = ValueError("noted")
    error.add_note("seen in line 3")
    return error


def decode_error():
    try:
        b"\xff".decode()
    except UnicodeDecodeError as error:
        return error


def json_error():
    try:
        json.loads("{]")
    except json.JSONDecodeError as error:
        return error


def http_error():
    return urllib.error.HTTPError("http://x/", 404, "Not Found", {}, io.BytesIO(b"no"))


def two_that_hold_each_other():
    one, other = Wraps("one"), Wraps("other")
    one.other, other.other = other, one
    return one


def one_that_holds_itself():
    error = Wraps("self")
    error.other = error
    return error


ERRORS = {
    "required arguments": lambda: TwoArguments(7, "no luck"),
    "keyword-only": lambda: KeywordOnly(field="age"),
    "lock": lambda: WithLock("locked"),
    "file": lambda: FileNotFoundError(2, "No such file", "/none"),
    "os subclass": lambda: LinesAndNumbers(5, "bad line", 17),
    "decode": decode_error,
    "subprocess": lambda: subprocess.CalledProcessError(3, ["ls"], b"out", b"err"),
    "json": json_error,
    "http": http_error,
    "list": lambda: ListOfErrors([ListOfErrors("bad %s", params="age")]),
    "notes": with_notes,
    "reduce": lambda: ReduceRaises("still itself"),
    "group": lambda: ExceptionGroup("all", [TwoArguments(1, "one"), KeyError("two")]),
    "key": lambda: KeyError("missing"),
    "stop": lambda: StopIteration(4),
    "each other": two_that_hold_each_other,
    "itself": one_that_holds_itself,
}


def many_of_one_kind(count):
    return [MadeOfAnother(number) for number in range(count)]


def raise_many_of_one_kind(count):
    raise ExceptionGroup("many", many_of_one_kind(count))


def raise_two_that_hold_each_other(value):
    one, other = TwoArguments(1, "one"), TwoArguments(2, "other")
    one.other, other.other = other, one
    raise one


def raise_a_long_chain(length):
    error = TwoArguments(0, "innermost")
    for number in range(1, length):
        error, inner = TwoArguments(number, "outer"), error
        error.inner = inner
    raise error


def raise_one(kind):
    raise ERRORS[kind]()


def raise_local(value):
    raise local()


def raise_without_text(value):
    raise StrRaises(1)


def raise_from(value):
    try:
        raise KeyError("the reason")
    except KeyError as error:
        raise ValueError("the outcome") from error


def good(value):
    return "good"


class CannotBeUnpickled:
    def __reduce__(self):
        return raise_in_parent, (os.getpid(),)


def raise_in_parent(worker):
    if os.getpid() != worker:
        raise RuntimeError("no unpickling here")


def give_what_cannot_be_unpickled(value):
    return CannotBeUnpickled()


class ReduceRaisesToo:
    def __reduce__(self):
        raise RuntimeError("no pickling")


def give_what_raises_when_pickled(value):
    return ReduceRaisesToo()


def give_a_deep_list(value):
    deep = []
    for _ in range(100_000):
        deep = [deep]
    return deep


def describe(value):
    return type(value).__name__, type(value["bad"]).__name__, str(value["bad"])


def describe_failed(value):
    return list(value.failed), value["bad"] is not None


class Counted:
    pickled = 0

    def __reduce__(self):
        Counted.pickled += 1
        return Counted, ()


class OnlyInParent:
    def __reduce__(self):
        return raise_in_worker, (os.getpid(),)


def raise_in_worker(parent):
    if os.getpid() != parent:
        raise RuntimeError("no unpickling there")
    return OnlyInParent()


def fan_out(tasks, lanes, **arguments):
    workflow = StepFunction("W")
    workflow.add_step("Fan", tasks, parallel=True, executor=lanes, **arguments)
    return workflow.set_start_step("Fan")


def one_step(func, executor):
    return StepFunction("W").add_step("Step", func, executor=executor).set_start_step(
        "Step"
    )


# --- exceptions -----------------------------------------------------------------


@pytest.mark.parametrize("kind", ERRORS)
def test_an_exception_keeps_its_type_and_text(lanes, kind):
    expected = ERRORS[kind]()
    error = lanes.submit(raise_one, kind).exception(timeout=20)
    assert type(error) is type(expected)
    assert str(error) == str(expected)


@pytest.mark.parametrize("kind", ERRORS)
def test_an_exception_has_the_traceback_of_its_worker_as_its_cause(lanes, kind):
    error = lanes.submit(raise_one, kind).exception(timeout=20)
    assert "raise ERRORS[kind]()" in str(error.__cause__)


@pytest.mark.parametrize(
    "kind, attributes",
    [
        ("required arguments", {"code": 7, "reason": "no luck"}),
        ("keyword-only", {"field": "age"}),
        ("lock", {"text": "locked"}),
        ("file", {"errno": 2, "strerror": "No such file", "filename": "/none"}),
        ("os subclass", {"errno": 5, "strerror": "bad line", "line": 17}),
        ("decode", {"object": b"\xff", "start": 0, "end": 1, "encoding": "utf-8"}),
        (
            "subprocess",
            {"returncode": 3, "cmd": ["ls"], "output": b"out", "stderr": b"err"},
        ),
        ("json", {"doc": "{]", "pos": 1, "lineno": 1, "colno": 2}),
        ("http", {"code": 404, "msg": "Not Found", "url": "http://x/"}),
        ("notes", {"__notes__": ["seen in line 3"]}),
        ("reduce", {"args": ("still itself",)}),
        ("stop", {"value": 4}),
    ],
)
def test_an_exception_keeps_its_attributes(lanes, kind, attributes):
    error = lanes.submit(raise_one, kind).exception(timeout=20)
    assert {name: getattr(error, name) for name in attributes} == attributes


def test_the_exceptions_of_a_group_keep_their_types(lanes):
    error = lanes.submit(raise_one, "group").exception()
    assert [type(inner) for inner in error.exceptions] == [TwoArguments, KeyError]
    assert error.exceptions[0].reason == "one"


def test_many_exceptions_of_one_kind_keep_what_each_holds(lanes):
    results = lanes.submit(many_of_one_kind, 10).result(timeout=20)
    group = lanes.submit(raise_many_of_one_kind, 10).exception(timeout=20)
    assert [error.tag for error in results] == list(range(10))
    assert [error.tag for error in group.exceptions] == list(range(10))


def test_what_led_to_an_exception_is_in_its_traceback(lanes):
    error = lanes.submit(raise_from, 1).exception()
    assert repr(error) == "ValueError('the outcome')"
    assert "KeyError: 'the reason'" in str(error.__cause__)


def test_an_exception_of_a_local_class_comes_as_a_record(lanes):
    error = lanes.submit(raise_local, 1).exception()
    assert type(error) is RemoteError
    name = f"{local.__module__}.local.<locals>.Local"
    assert str(error) == f"{name}: from inside"
    assert (error.type_name, error.text) == (name, "from inside")
    assert "raise local()" in str(error.__cause__)


def test_an_exception_without_a_text_comes_as_a_record(lanes):
    error = lanes.submit(raise_without_text, 1).exception()
    assert type(error) is RemoteError
    assert error.type_name == f"{__name__}.StrRaises"
    assert "raise StrRaises(1)" in str(error.__cause__)


@pytest.mark.parametrize(
    "func, argument, text",
    [
        (raise_two_that_hold_each_other, None, "1: one"),
        (raise_a_long_chain, 24, "23: outer"),
    ],
)
def test_exceptions_that_hold_others_do_not_take_forever(func, argument, text):
    with ProcessLanes(1) as lanes:
        future = lanes.submit(func, argument)
        try:
            error = future.exception(timeout=5)
        finally:
            lanes.kill(future)
    assert type(error) is TwoArguments
    assert str(error) == text


@pytest.mark.parametrize("kind", ERRORS)
def test_an_exception_that_came_over_can_go_over_again(lanes, kind):
    error = lanes.submit(raise_one, kind).exception(timeout=20)
    again = lanes.submit(same, error).result(timeout=20)
    assert type(again) is type(error)
    assert str(again) == str(error)


def test_the_step_of_an_exception_is_named(lanes):
    workflow = StepFunction("W").add_step(
        "Fan", {"bad": raise_one}, parallel=True, executor=lanes, tolerated_failures=0
    )
    with pytest.raises(ParallelStepExecutionError) as caught:
        workflow.set_start_step("Fan").execute("lock")
    assert str(caught.value) == (
        "1 of 1 tasks of step 'Fan' failed: 'bad': WithLock: locked"
    )
    assert type(caught.value.__cause__) is WithLock


# --- results --------------------------------------------------------------------


@pytest.mark.parametrize(
    "func, text",
    [
        (
            make_lock,
            "the result, a lock, cannot be sent back from its process: cannot pickle "
            "'_thread.lock' object. Return what can be pickled (plain data, an id, a "
            "path)",
        ),
        (
            give_what_raises_when_pickled,
            "the result, a ReduceRaisesToo, cannot be sent back from its process: no "
            "pickling. Return what can be pickled (plain data, an id, a path)",
        ),
        (
            give_what_cannot_be_unpickled,
            "the result of task 'bad' of step 'Fan' came back from its process, but "
            "cannot be unpickled here: RuntimeError: no unpickling here",
        ),
    ],
)
def test_a_result_that_cannot_come_back_is_the_failure_of_its_task(lanes, func, text):
    execution = fan_out({"bad": func, "one": good, "two": good}, lanes).execute()
    error = execution.output["bad"]
    assert type(error) is TransferError
    assert str(error) == text
    assert error.__cause__ is not None
    assert {r.task: r.outcome for r in execution.history if r.task} == {
        "bad": Outcome.FAILED,
        "one": Outcome.SUCCEEDED,
        "two": Outcome.SUCCEEDED,
    }


def test_a_result_that_is_too_deep_to_come_back_is_the_failure_of_its_task(lanes):
    output = fan_out({"bad": give_a_deep_list, "one": good}, lanes).execute().output
    assert type(output["bad"]) is TransferError
    assert output["one"] == "good"


@pytest.mark.parametrize("size", [0, 1, 2**16, 2**24])
def test_results_of_any_size_come_back(lanes, size):
    assert fan_out({"a": same}, lanes).execute(bytes(size)).output == {"a": bytes(size)}


# --- inputs ---------------------------------------------------------------------


@pytest.mark.parametrize(
    "value, reason",
    [
        (threading.Lock(), "cannot pickle '_thread.lock' object"),
        ({"deep": [ReduceRaisesToo()]}, "input['deep'][0]: no pickling"),
    ],
)
@pytest.mark.parametrize("is_parallel", [False, True])
def test_an_input_that_cannot_be_pickled_is_refused(
    tmp_path, lanes, value, reason, is_parallel
):
    workflow = StepFunction("W")
    workflow.add_step(
        "Touch",
        {"a": same, "b": same} if is_parallel else same,
        parallel=is_parallel,
        executor=lanes,
        on_failure="Caught",
    )
    workflow.add_step("Caught", same).set_start_step("Touch")
    execution = workflow.execute(value)
    assert type(execution.output) is TransferError
    assert str(execution.output) == (
        f"the input of step 'Touch' cannot be sent to another process: {reason}. Pass "
        "on what can be pickled (plain data, an id, a path) and open the rest in the "
        "step, or use executor='thread'"
    )
    assert [r.task for r in execution.history if r.task] == []


def test_an_input_that_cannot_be_unpickled_is_the_failure_of_each_task(lanes):
    output = fan_out({"a": good, "b": good}, lanes).execute(OnlyInParent()).output
    assert {name: str(error) for name, error in output.items()} == dict.fromkeys(
        "ab",
        "the input cannot be unpickled in its process: RuntimeError: no unpickling "
        "there",
    )
    assert lanes.submit(good, 1).result() == "good"


@pytest.mark.parametrize("executor", ["process", "lanes", "pool"])
def test_the_input_is_pickled_once_for_all_tasks(lanes, executor, monkeypatch):
    from concurrent.futures import ProcessPoolExecutor
    from multiprocessing import get_context

    monkeypatch.setattr(Counted, "pickled", 0)
    with ProcessPoolExecutor(2, mp_context=get_context("forkserver")) as pool:
        place = {"process": "process", "lanes": lanes, "pool": pool}[executor]
        tasks = dict.fromkeys("abcdef", good)
        assert fan_out(tasks, place).execute(Counted()).output == dict.fromkeys(
            "abcdef", "good"
        )
    assert Counted.pickled == 1


def test_the_input_of_a_plain_step_is_pickled_once(lanes, monkeypatch):
    monkeypatch.setattr(Counted, "pickled", 0)
    assert one_step(good, lanes).execute(Counted()).output == "good"
    assert Counted.pickled == 1


def fail_twice(value, context):
    if context.attempt < 3:
        raise ValueError(context.attempt)
    return context.attempt


def test_the_input_is_pickled_once_for_all_attempts(lanes, monkeypatch):
    from stepfunction import RetryPolicy

    monkeypatch.setattr(Counted, "pickled", 0)
    retry = RetryPolicy(max_attempts=3, interval=0)
    output = fan_out({"a": fail_twice}, lanes, retry=retry).execute(Counted()).output
    assert output == {"a": 3}
    assert Counted.pickled == 1


@pytest.mark.parametrize("kind", ["required arguments", "keyword-only", "lock", "http"])
def test_tolerated_failures_can_be_the_input_of_a_process_step(lanes, kind):
    workflow = StepFunction("W")
    tasks = {"bad": raise_one, "good": good}
    workflow.add_step("Fan", tasks, parallel=True, next_step="Next", executor="thread")
    workflow.add_step("Next", describe, executor=lanes).set_start_step("Fan")
    execution = workflow.execute(kind)
    error = execution.context["Fan"]["bad"]
    assert execution.output == ("TaskResults", type(error).__name__, str(error))


def test_the_output_mapping_still_tells_what_failed_in_another_process(lanes):
    workflow = StepFunction("W")
    tasks = {"bad": raise_one, "good": good}
    workflow.add_step("Fan", tasks, parallel=True, next_step="Next", executor=lanes)
    workflow.add_step("Next", describe_failed, executor=lanes).set_start_step("Fan")
    assert workflow.execute("lock").output == (["bad"], True)


def test_a_failure_step_may_run_in_a_process(lanes):
    workflow = StepFunction("W").add_step("Bad", raise_one, on_failure="Text")
    workflow.add_step("Text", str, executor=lanes).set_start_step("Bad")
    assert workflow.execute("lock").output == "locked"


@pytest.mark.parametrize("executor", ["process", "lanes"])
def test_a_function_that_cannot_be_pickled_is_refused(lanes, executor):
    from stepfunction import DefinitionError

    def inner(value):
        return value

    place = {"process": "process", "lanes": lanes}[executor]
    workflow = fan_out({"good": good, "inner": inner, "lambda": lambda v: v}, place)
    with pytest.raises(DefinitionError) as caught:
        workflow.validate()
    assert len(caught.value.problems) == 2
    for problem, task in zip(caught.value.problems, ["inner", "lambda"], strict=True):
        assert problem.startswith(f"step 'Fan', task '{task}': ")
        assert problem.endswith(
            "a process imports functions by name: define it at the top level of a "
            "module, pip install cloudpickle, or use executor='thread'"
        )


def test_our_own_errors_survive_plain_pickle():
    workflow = fan_out({"bad": raise_one, "good": good}, "thread", tolerated_failures=0)
    with pytest.raises(ParallelStepExecutionError) as caught:
        workflow.execute("key")
    error = caught.value
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is type(error)
    assert str(copy) == str(error)
    assert (copy.step, copy.outcomes, copy.results) == (
        error.step,
        error.outcomes,
        error.results,
    )
    assert repr(copy.errors) == repr(error.errors)
