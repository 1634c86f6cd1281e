from __future__ import annotations

import contextlib
import copy
import gc
import logging
import pickle
import subprocess
import sys
import threading
import weakref
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial, update_wrapper

import pytest
from shared.calls import make_lock, same

from stepfunction import (
    Attempt,
    DefinitionError,
    Outcome,
    RetryPolicy,
    Status,
    StepExecutionError,
    StepFunction,
    TransferError,
)


def bad(value):
    raise ValueError(value)


def one_step(function, **arguments):
    workflow = StepFunction("One").add_step("Only", function, **arguments)
    return workflow.set_start_step("Only")


def handled(function, **arguments):
    workflow = one_step(function, on_failure="Sorry", **arguments)
    return workflow.add_step("Sorry", same)


def outcomes(execution):
    return [(record.step, record.outcome) for record in execution.history]


def test_an_input_that_cannot_be_sent_fails_a_step_that_may_be_retried():
    workflow = handled(same, executor="process", retry=RetryPolicy(2, interval=0))
    execution = workflow.execute(threading.Lock())
    assert isinstance(execution.output, TransferError)
    assert outcomes(execution) == [("Only", "FAILED"), ("Sorry", "SUCCEEDED")]


def test_an_interrupt_of_a_second_attempt_is_in_the_history():
    def fail_and_interrupt(value):
        raise errors.pop()

    errors = [KeyboardInterrupt(), ValueError()]
    policy = RetryPolicy(3, interval=0)
    execution = one_step(fail_and_interrupt, retry=policy).start()
    assert execution.wait(20)
    assert outcomes(execution) == [("Only", "CANCELLED")]
    assert execution.status is Status.CANCELLED


@pytest.mark.parametrize("arguments", [{"executor": "thread"}, {}])
def test_what_a_function_raised_keeps_the_error_that_it_was_handling(arguments):
    def fail(value, context):
        try:
            raise KeyError("inner")
        except KeyError:
            raise ValueError("outer")

    try:
        raise RuntimeError("the caller's own")
    except RuntimeError:
        with pytest.raises(StepExecutionError) as caught:
            one_step(fail, **arguments).execute()
    assert isinstance(caught.value.__cause__.__context__, KeyError)


def test_the_traceback_of_a_function_in_a_thread_begins_there():
    with pytest.raises(StepExecutionError) as caught:
        one_step(bad, executor="thread").execute(1)
    traceback = caught.value.__cause__.__traceback__
    assert traceback.tb_frame.f_code is bad.__code__
    assert traceback.tb_next is None


def test_who_sets_up_no_logging_hears_nothing_of_workers(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "import logging\n"
        "from stepfunction import StepFunction\n"
        "def warn(value):\n"
        "    logging.getLogger('stepfunction').warning('heard')\n"
        "    return 1\n"
        "if __name__ == '__main__':\n"
        "    workflow = StepFunction('W').add_step('A', warn, executor='process')\n"
        "    print(workflow.set_start_step('A').execute().output)\n"
    )
    done = subprocess.run(
        [sys.executable, script], capture_output=True, text=True, timeout=50
    )
    assert (done.stdout, done.stderr) == ("1\n", "")


def test_to_cancel_a_nested_execution_that_has_ended_changes_nothing():
    def cancel_it(error):
        error.execution.cancel()
        return 3

    outer = StepFunction("Outer").add_step("In", one_step(bad), on_failure="Cancel")
    outer.add_step("Cancel", cancel_it, "Last").add_step("Last", same, ends="completed")
    execution = outer.set_start_step("In").execute(1)
    assert (execution.status, execution.output) == ("COMPLETED", 3)


def test_an_executor_may_be_asked_for_while_another_thread_imports():
    program = (  # modules as far as an import of theirs may have come
        "import sys, threading, types\n"
        "from stepfunction import DefinitionError, StepFunction\n"
        "names = 'concurrent.futures concurrent.futures.process tenacity '\n"
        "for name in (names + 'stepfunction.core.lanes.lanes').split():\n"
        "    sys.modules[name] = types.ModuleType(name)\n"
        "for arguments in ({'executor': 3}, {'retry': 3}):\n"
        "    try:\n"
        "        StepFunction('W').add_step('A', str, **arguments)\n"
        "    except DefinitionError as error:\n"
        "        print(len(error.problems))\n"
        "workflow = StepFunction('W').add_step('A', str).set_start_step('A')\n"
        "print(workflow.execute(5).output)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=50
    )
    assert (done.stdout, done.stderr) == ("1\n1\n5\n", "")


def nest(depth):
    workflow = StepFunction("Leaf").add_step("Lock", make_lock, "End")
    workflow.add_step("End", nothing).set_start_step("Lock")
    for level in range(depth):
        outer = StepFunction(f"Level {level}").add_step("In", workflow)
        workflow = outer.set_start_step("In")
    return workflow


def nothing(value):
    return None


def test_nested_executions_keep_their_history_where_a_result_cannot_be_pickled():
    execution = nest(20).execute()
    again = pickle.loads(pickle.dumps(execution))
    depth = 0
    while again.children:
        assert outcomes(again) == [("In", "SUCCEEDED")]
        again, depth = again.children["In"], depth + 1
    assert depth == 20
    assert outcomes(again) == [("Lock", "SUCCEEDED"), ("End", "SUCCEEDED")]


class Wrapped:
    """What some wrap functions in, which passes for the function."""

    def __init__(self, function, call):
        update_wrapper(self, function)
        self.function = function
        self.call = call

    def __get__(self, logger, kind=None):
        return self if logger is None else partial(self.call, logger)

    def __getattr__(self, name):
        return getattr(self.function, name)


def known_as(function, call):
    return update_wrapper(call, function)


@pytest.mark.parametrize("wrap", [lambda _, call: call, known_as, Wrapped])
def test_a_patched_logging_hears_of_failures(monkeypatch, wrap):
    heard, true_call = [], logging.Logger.callHandlers

    def call_handlers(logger, record):
        heard.append(record.getMessage())

    monkeypatch.setattr(logging.root, "handlers", [])
    handled(bad).execute(1)
    patched = wrap(true_call, call_handlers)
    monkeypatch.setattr(logging.Logger, "callHandlers", patched)
    handled(bad).execute(1)
    assert len(heard) == 1

    monkeypatch.setattr(logging.Logger, "callHandlers", true_call)
    handled(bad).execute(1)
    assert len(heard) == 1


def test_a_filter_hears_of_failures(monkeypatch):
    heard = []
    monkeypatch.setattr(logging.root, "handlers", [])
    monkeypatch.setattr(logging.getLogger("stepfunction"), "filters", [heard.append])
    handled(bad).execute(1)
    assert len(heard) == 1


class CallableMapping(Mapping):
    def __call__(self, value):
        return value

    def __getitem__(self, key):
        return {"a": str}[key]

    def __iter__(self):
        return iter(["a"])

    def __len__(self):
        return 1


def test_a_mapping_is_tasks_even_if_it_can_be_called():
    with pytest.raises(DefinitionError, match="add parallel=True"):
        one_step(CallableMapping())


@pytest.mark.parametrize(
    "name", ["stop_on_failure", "max_workers", "tolerated_failures"]
)
def test_what_only_parallel_steps_have_may_be_false_on_others(name):
    assert one_step(same, **{name: False}).execute(1).output == 1


def test_params_that_are_none_hide_no_other_problem():
    with pytest.raises(DefinitionError) as caught:
        one_step(same, params=[])
    assert caught.value.problems == (
        "params is a mapping of parameter name to value, not []",
    )


def test_an_execution_that_has_ended_keeps_no_executor_alive():
    pool = ThreadPoolExecutor(1)
    workflow = StepFunction("W").add_step("All", {"a": same}, parallel=True)
    execution = workflow.set_start_step("All").execute(1, executor=pool)
    pool.shutdown()
    gone = weakref.ref(pool)
    del pool
    gc.collect()
    assert gone() is None
    assert execution.output["a"] == 1


def test_a_record_may_be_replaced():
    (record,) = one_step(same).execute(1).history
    attempts = (Attempt(1, Outcome.SUCCEEDED, 0.0, 1.0),)
    assert record.replace(attempts=attempts).attempts == attempts


def test_steps_that_are_added_while_other_threads_compile_are_run():
    workflow = one_step(same)
    is_done = threading.Event()

    def compile_again_and_again():
        while not is_done.is_set():
            with contextlib.suppress(DefinitionError):
                workflow.compile()

    threads = [threading.Thread(target=compile_again_and_again) for _ in range(2)]
    for thread in threads:
        thread.start()
    first = "Only"
    for number in range(300):
        workflow.add_step(str(number), same, first)
        first = str(number)
        workflow.set_start_step(first)
    is_done.set()
    for thread in threads:
        thread.join()
    assert len(workflow.execute(1).history) == 301


def test_an_edit_of_a_copy_is_not_seen_by_the_original():
    workflow = one_step(same)
    workflow.execute(1)
    other = copy.copy(workflow).add_step("Other", same)
    with pytest.raises(DefinitionError, match="'Other' cannot be reached"):
        other.execute(1)
    assert len(workflow.execute(1).history) == 1


def test_a_nested_builder_is_seen_changed_two_levels_up():
    inner = one_step(same)
    outer = one_step(one_step(inner))
    assert outer.execute(1).output == 1
    one_step(bad)  # an edit elsewhere, after which all is looked at again
    assert outer.execute(2).output == 2
    inner.add_step("New", bad).set_start_step("New").add_step("Old", same, "Only")
    with pytest.raises(DefinitionError, match="cannot be reached"):
        outer.execute(3)
