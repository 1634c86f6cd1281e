from __future__ import annotations

import asyncio
import re
import threading
import unittest
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from copy import copy
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from functools import cached_property
from typing import Any
from unittest.mock import AsyncMock, Mock, create_autospec

import pytest
import tenacity

from stepfunction import (
    Context,
    DefinitionError,
    Execution,
    Outcome,
    ParallelStepExecutionError,
    RetryPolicy,
    Status,
    StepExecutionError,
    StepFunction,
    TaskResults,
)
from stepfunction.testing import (
    DryRunError,
    SharedMutationError,
    SkippedWait,
    UsedUpError,
    assert_path,
    detect_shared_mutation,
    dry_run,
    mock_steps,
    returning,
    skip_waits,
)

HOURS = RetryPolicy(max_attempts=3, interval=3600, backoff_rate=2, jitter=None)


def forbidden(*args: Any, **keywords: Any) -> None:
    raise AssertionError("the real function was called")


def forbidden_for(value: Any) -> None:
    raise AssertionError("the real function was called")


def double(value: int) -> int:
    return value * 2


def in_process(value: Any, context: Context) -> tuple[Any, str, int, int]:
    import os

    return value, context.step, context.attempt, os.getpid()


def chain(*names: str, **settings: Any) -> StepFunction:
    workflow = StepFunction("Chain")
    for name, follower in zip(names, [*names[1:], None]):
        workflow.add_step(name, forbidden_for, follower, **settings)
    return workflow.set_start_step(names[0])


def parallel(*names: str, **settings: Any) -> StepFunction:
    workflow = StepFunction("Shop")
    tasks = dict.fromkeys(names, forbidden_for)
    workflow.add_step("Update", tasks, parallel=True, **settings)
    return workflow.set_start_step("Update")


def around(inner: StepFunction, step: str = "Payment", **settings: Any) -> StepFunction:
    workflow = StepFunction("Outer")
    workflow.add_sub_step_function(step, inner, **settings)
    return workflow.set_start_step(step)


checkout = StepFunction("Checkout")
checkout.add_step("Pay", forbidden_for, "Notify", on_failure="Apologise")
checkout.add_step("Notify", forbidden_for)
checkout.add_step("Apologise", str)
checkout.set_start_step("Pay")


def view(order: int) -> Any:
    return checkout.execute(order).output


# --- mock_steps -----------------------------------------------------------------


def test_a_view_that_executes_a_workflow_of_a_module_gets_the_mocks() -> None:
    with mock_steps(checkout, {"Pay": 42, "Notify": lambda paid: paid + 1}):
        assert view(17) == 43


def test_after_the_block_the_steps_are_what_they_were() -> None:
    before, graph = dict(checkout.steps), checkout.compile()
    with mock_steps(checkout, {"Pay": 42}):
        assert dict(checkout.steps) == before
    assert dict(checkout.steps) == before
    assert checkout.compile() == graph
    assert view(17) == "the real function was called"


def test_the_steps_are_put_back_when_the_block_raises() -> None:
    with pytest.raises(KeyError), mock_steps(checkout, {"Pay": 42, "Notify": 1}):
        raise KeyError
    assert view(17) == "the real function was called"


def test_a_graph_compiled_before_the_block_is_not_touched() -> None:
    workflow = chain("A")
    graph = workflow.compile()
    with mock_steps(workflow, {"A": 1}):
        assert workflow.compile() is not graph
        assert graph.steps["A"].action.name == "forbidden_for"


@pytest.mark.parametrize("error", [KeyError("k"), KeyError])
def test_an_exception_or_a_class_of_one_is_raised(error: Any) -> None:
    with mock_steps(checkout, {"Pay": error}):
        execution = checkout.execute()
    assert isinstance(execution.error, KeyError)
    assert_path(execution, ["Pay", "Apologise"])


@pytest.mark.parametrize(
    ("mock", "output"),
    [
        (lambda: "none", "none"),
        (lambda value: value, 3),
        (lambda value, context: (value, context.step), (3, "Pay")),
        (lambda value, currency: (value, currency), (3, "EUR")),
        (lambda *, currency: currency, "EUR"),
        (lambda value, **rest: rest, {"currency": "EUR"}),
    ],
)
def test_a_callable_is_given_what_it_takes(mock: Any, output: Any) -> None:
    workflow = StepFunction("W")
    workflow.add_step("Pay", lambda value, currency: 0, params={"currency": "EUR"})
    workflow.set_start_step("Pay")
    with mock_steps(workflow, {"Pay": mock}):
        assert workflow.execute(3).output == output


def test_a_coroutine_function_is_run_to_its_end() -> None:
    workflow, mock = chain("A"), AsyncMock(return_value=5)
    with mock_steps(workflow, {"A": mock}):
        assert workflow.execute(3).output == 5
    mock.assert_awaited_once_with(3)


def test_mocks_of_unittest_are_callables() -> None:
    workflow = chain("A", "B")
    spied, plain = create_autospec(double, return_value=8), Mock(return_value=9)
    with mock_steps(workflow, {"A": spied, "B": plain}):
        assert workflow.execute(4).output == 9
    spied.assert_called_once_with(4)
    plain.assert_called_once_with(8)


def test_a_list_has_one_result_for_each_call() -> None:
    workflow = chain("A")
    with mock_steps(workflow, {"A": [1, lambda value: value, ValueError("3rd")]}):
        assert [workflow.execute(n).output for n in (10, 20)] == [1, 20]
        with pytest.raises(StepExecutionError, match="ValueError: 3rd"):
            workflow.execute()


def test_a_list_is_gone_through_over_retries() -> None:
    workflow = chain("A", retry=RetryPolicy(max_attempts=3, interval=0))
    with mock_steps(workflow, {"A": [OSError(), OSError(), "there"]}) as mocks:
        assert workflow.execute().output == "there"
    assert mocks["A"].count == 3


def test_a_list_that_is_used_up_says_so_with_its_length() -> None:
    workflow = chain("A")
    with pytest.raises(UsedUpError, match="at the end|called 3 times") as caught:
        with mock_steps(workflow, {"A": [1, 2]}):
            for _ in range(3):
                last = workflow.start()
                last.wait()
    text = "the mock of step 'A' was given 2 results and is called 3 times"
    assert text in str(caught.value)
    assert isinstance(caught.value, AssertionError)
    assert text in str(last.error)


def test_a_list_that_is_used_up_is_told_where_a_failure_step_took_it() -> None:
    with pytest.raises(UsedUpError, match="was given 1 result and is called 2 times"):
        with mock_steps(checkout, {"Pay": [1], "Notify": None}):
            checkout.execute()
            assert checkout.execute().status is Status.FAILED


def test_returning_gives_what_would_mean_something_else() -> None:
    error = ValueError()
    mocks = {"A": returning([1, 2]), "B": returning(len), "C": returning(error)}
    workflow = chain("A", "B", "C")
    with mock_steps(workflow, mocks):
        assert list(workflow.execute().context.values()) == [[1, 2], len, error]


def test_a_mocked_step_keeps_its_arrows_retry_timeout_and_place() -> None:
    workflow = StepFunction("W")
    workflow.add_step(
        "A",
        forbidden_for,
        branch={"go": "B"},
        on_failure="C",
        retry=HOURS,
        executor="thread",
        timeout=5,
    )
    workflow.add_step("B", forbidden_for).add_step("C", forbidden_for)
    workflow.set_start_step("A")
    kept = [it for it in workflow.steps["A"]._fields if it not in ("action", "plain")]
    before = workflow.compile().steps["A"]
    with mock_steps(workflow, {"A": "go", "B": threading.current_thread}):
        after = workflow.compile().steps["A"]
        assert workflow.execute().context["A"] == "go"
    assert [getattr(after, it) for it in kept] == [getattr(before, it) for it in kept]


def test_tasks_are_mocked_one_by_one() -> None:
    workflow = StepFunction("W")
    tasks = {"real": double, "payment": forbidden_for, "stock": forbidden_for}
    workflow.add_step("Update", tasks, parallel=True).set_start_step("Update")
    error = ValueError("out of stock")
    with mock_steps(workflow, {"Update.payment": "paid", "Update.stock": error}) as all:
        execution = workflow.execute(4)
    assert execution.output == {"real": 8, "payment": "paid", "stock": error}
    assert execution.output.failed == {"stock": error}
    assert all["Update.payment"].calls == [4]


def test_a_parallel_step_that_is_mocked_as_a_whole_gives_task_results() -> None:
    workflow, error = parallel("a", "b"), ValueError("no")
    with mock_steps(workflow, {"Update": {"a": 1, "b": error}}):
        output = workflow.execute().output
    assert isinstance(output, TaskResults)
    assert output == {"a": 1, "b": error} and output.failed == {"b": error}
    with pytest.raises(ParallelStepExecutionError, match="1 of 2 tasks of step") as it:
        output.raise_if_failed()
    assert it.value.results == {"a": 1} and it.value.errors == {"b": error}


def test_steps_of_nested_workflows_are_mocked_by_the_way_to_them() -> None:
    inner = chain("Check", "Charge")
    workflow = StepFunction("Outer").add_step("First", inner, "Second")
    workflow.add_step("Second", {"pay": inner}, parallel=True)
    workflow.set_start_step("First")
    mocks = {
        "First/Check": 1,
        "First/Charge": 2,
        ("Second", "pay", "Check"): 3,
        "Second.pay/Charge": 4,
    }
    with mock_steps(workflow, mocks):
        assert dict(workflow.execute().context) == {"First": 2, "Second": {"pay": 4}}
        with pytest.raises(StepExecutionError, match="the real function was called"):
            inner.execute()


def test_a_nested_workflow_mocked_as_a_whole_has_no_execution() -> None:
    workflow = around(chain("Charge"))
    with mock_steps(workflow, {"Payment": 3}):
        execution = workflow.execute()
    assert execution.output == 3 and execution.children == {}


def test_an_edit_of_a_nested_workflow_is_seen_while_it_is_mocked() -> None:
    inner = chain("Charge")
    outer = around(around(inner, "Deep"))
    with mock_steps(outer, {"Payment/Deep/Charge": 1}):
        assert outer.execute().output == 1
        inner.add_step("Before", double, "Charge").set_start_step("Before")
        deep = outer.execute(2).children["Payment"].children["Deep"]
    assert deep.context == {"Before": 4, "Charge": 1}


def test_blocks_nest_and_the_inner_one_counts() -> None:
    workflow = parallel("a", "b", "c")
    with mock_steps(workflow, {"Update.a": 1, "Update.b": 1, "Update.c": 1}):
        with mock_steps(workflow, {"Update.b": 2}):
            assert workflow.execute().output == {"a": 1, "b": 2, "c": 1}
        assert workflow.execute().output == {"a": 1, "b": 1, "c": 1}


def test_blocks_may_end_in_any_order() -> None:
    workflow = chain("A")
    first, second = mock_steps(workflow, {"A": 1}), mock_steps(workflow, {"A": 2})
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert workflow.execute().output == 2
    second.__exit__(None, None, None)
    with pytest.raises(StepExecutionError):
        workflow.execute()


def test_what_an_outer_block_replaced_has_nothing_in_it_to_mock() -> None:
    workflow = around(chain("Charge"))
    with mock_steps(workflow, {"Payment": 1}):
        with pytest.raises(DefinitionError, match="'Charge' cannot be mocked in step"):
            mock_steps(workflow, {"Payment/Charge": 1}).__enter__()
        assert workflow.execute().output == 1


def test_a_block_is_entered_once() -> None:
    mocks = mock_steps(chain("A"), {"A": 1})
    with mocks:
        with pytest.raises(RuntimeError, match=r"call mock_steps\(\) again"):
            mocks.__enter__()
    with pytest.raises(RuntimeError, match="have been used already"):
        mocks.__enter__()


def test_a_copy_made_in_the_block_is_no_mock() -> None:
    workflow = chain("A")
    with mock_steps(workflow, {"A": 1}):
        with pytest.raises(StepExecutionError, match="the real function was called"):
            copy(workflow).execute()


def test_what_another_thread_executes_has_the_mocks_too() -> None:
    with mock_steps(checkout, {"Pay": 42, "Notify": 1}) as mocks:
        with ThreadPoolExecutor(2) as pool:
            assert list(pool.map(view, range(20))) == [1] * 20
    assert sorted(mocks["Pay"].calls) == list(range(20))


def test_threads_take_each_result_of_a_list_once() -> None:
    names = [f"task {number}" for number in range(40)]
    workflow = StepFunction("W")
    tasks = {name: chain("Work") for name in names}
    workflow.add_step("All", tasks, parallel=True).set_start_step("All")
    results = {f"All.{name}/Work": [name] for name in names}
    with mock_steps(workflow, results) as mocks:
        assert workflow.execute().output == {name: name for name in names}
    assert {mock.count for mock in mocks.values()} == {1}
    inner = StepFunction("Inner").add_step("Work", forbidden_for)
    inner.set_start_step("Work")
    with mock_steps(inner, {"Work": list(range(40))}) as mocks:
        with ThreadPoolExecutor(8) as pool:
            outputs = pool.map(lambda n: inner.execute(n).output, range(40))
            assert sorted(outputs) == list(range(40))
    assert sorted(mocks["Work"].calls) == list(range(40))


def test_a_started_execution_that_outlives_the_block_keeps_its_mocks() -> None:
    go = threading.Event()
    workflow = chain("A", "B")
    with mock_steps(workflow, {"A": lambda: go.wait(10), "B": 2}) as mocks:
        execution = workflow.start()
    go.set()
    assert execution.wait(10) and execution.output == 2
    assert mocks["B"].calls == [True]


def test_the_picture_of_a_mocked_execution_is_drawn_on_the_workflow() -> None:
    workflow = parallel("a", "b")
    with mock_steps(workflow, {"Update": {"a": 1, "b": 2}}):
        execution = workflow.execute()
    assert "Update" in workflow.to_mermaid(execution)


@pytest.mark.parametrize(
    ("mocks", "problem"),
    [
        ({"Pya": 1}, "'Pya' is no step (did you mean 'Pay'?)"),
        ({"Pay.card": 1}, "'Pay.card': step 'Pay' is not parallel and runs no"),
        ({"Update.paymnt": 1}, "has no task 'paymnt' (did you mean 'payment'?)"),
        ({("Update", "paymnt"): 1}, "has no task 'paymnt' (did you mean 'payment'?)"),
        ({"Nested/Chrge": 1}, "no step 'Chrge' (did you mean 'Charge'?)"),
        ({"Nested.Charge": 1}, "'Nested.Charge' is no step (did you mean 'Nested/Cha"),
        ({"Update/payment": 1}, "'Update/payment' is no step (did you mean 'Update.p"),
        ({"Nested": 1, "Nested/Charge": 2}, "'Nested/Charge' is a part of 'Nested'"),
        ({"Pay": 1, ("Pay",): 2}, "('Pay',) and 'Pay' are the same step 'Pay'"),
        ({"a.b": 1}, "'a.b' may be several; say which with ('a', 'b') or ('a.b',)"),
        ({3: 1}, "3 is no name of a step"),
        ({}, "there is nothing to mock"),
        ({"Pay": []}, "give returning([]) for a step that returns one"),
        ({"Pay": lambda a, b: 1}, "<lambda> also requires 'b'; a mock is given"),
        ({"End": 1}, "step 'End' is a fail step, which nothing can replace"),
        ({"Pay": checkout}, "workflow 'Checkout' is no result"),
        (["Pay"], "mocks is a mapping of step to result, not ['Pay']"),
    ],
)
def test_mistakes_are_refused_at_once(mocks: Any, problem: str) -> None:
    workflow = StepFunction("W").add_step("Pay", double, "Update")
    workflow.add_step("Update", {"payment": double}, "Nested", parallel=True)
    workflow.add_step("Nested", chain("Charge"), "a")
    workflow.add_step("a", {"b": double}, "a.b", parallel=True)
    workflow.add_step("a.b", double, "End").add_fail_step("End", "E")
    with pytest.raises(DefinitionError) as caught:
        mock_steps(workflow, mocks)
    assert problem in str(caught.value)


def test_a_tuple_says_which_of_several_is_meant() -> None:
    workflow = StepFunction("W").add_step("a", {"b": double}, "a.b", parallel=True)
    workflow.add_step("a.b", forbidden_for).set_start_step("a")
    with mock_steps(workflow, {("a", "b"): 1, ("a.b",): 2}):
        assert dict(workflow.execute().context) == {"a": {"b": 1}, "a.b": 2}


def test_all_mistakes_are_told_together() -> None:
    with pytest.raises(DefinitionError) as caught:
        mock_steps(checkout, {"Pya": 1, "Ntify": 2, "Pay": []})
    assert len(caught.value.problems) == 3


def test_only_a_workflow_has_steps_to_mock() -> None:
    with pytest.raises(DefinitionError, match="give it as it was before compile"):
        mock_steps(checkout.compile(), {"Pay": 1})


def test_what_is_not_mocked_is_named_with_what_is() -> None:
    with mock_steps(checkout, {"Pay": 1}) as mocks:
        with pytest.raises(KeyError, match="did you mean 'Pay'"):
            mocks["Pya"]


def test_mocks_that_were_never_entered_say_so() -> None:
    mocks = mock_steps(checkout, {"Pay": 1})
    with pytest.raises(RuntimeError, match="nothing of 'Checkout' is mocked yet"):
        mocks["Pay"]


def undo(output: Any) -> None:
    raise AssertionError("really undone")


def undoable() -> StepFunction:
    inner = StepFunction("Inner").add_step("Charge", double, compensate=undo)
    inner.set_start_step("Charge")
    workflow = StepFunction("W").add_step("Pay", double, "Update", compensate=undo)
    tasks = {"a": double, "b": double, "nested": inner}
    compensate = {"a": undo, "b": undo}
    workflow.add_step("Update", tasks, parallel=True, compensate=compensate)
    return workflow.set_start_step("Pay")


def test_what_undoes_a_step_or_task_is_mocked_by_itself() -> None:
    workflow = undoable()
    keys = ["Pay", "Update.a", "Update.nested/Charge"]
    mocks = {f"{key}.compensate": lambda output, key=key: (key, output) for key in keys}
    with mock_steps(workflow, {**mocks, "Pay": 3}) as seen:
        steps: Any = workflow.compile().steps
        nested = steps["Update"].action.tasks["nested"].steps["Charge"]
        by_task = dict(steps["Update"].compensate)
        calls = [steps["Pay"].compensate, by_task["a"], nested.compensate]
        assert [call(7, None) for call in calls] == [(key, 7) for key in keys]
        assert by_task["b"].function is undo
        assert workflow.execute(1).context["Pay"] == 3
    assert seen["Pay.compensate"].calls == [7]


def test_what_nothing_undoes_has_no_compensation_to_mock() -> None:
    text = "task 'Update.nested' has no compensate=, so nothing undoes it"
    with pytest.raises(DefinitionError, match=text):
        mock_steps(undoable(), {"Update.nested.compensate": 1})


def test_what_a_map_step_calls_for_each_item_is_mocked() -> None:
    workflow = StepFunction("W").add_map_step("Each", forbidden_for, next_step="Sub")
    workflow.add_map_step("Sub", chain("Work")).set_start_step("Each")
    mocks = {"Each": lambda item: -item, "Sub/Work": [5]}
    with mock_steps(workflow, mocks) as seen:
        steps: Any = workflow.compile().steps
        assert [steps["Each"].action.call(n, None) for n in (1, 2)] == [-1, -2]
        work = steps["Sub"].action.call.steps["Work"]
        assert work.action(9, None) == 5
    assert seen["Each"].calls == [1, 2] and seen["Sub/Work"].calls == [9]


def test_the_same_exception_raised_often_does_not_grow() -> None:
    error = ValueError("no")
    with mock_steps(checkout, {"Pay": error}):
        for _ in range(50):
            checkout.execute()
    frames, traceback = 0, error.__traceback__
    while traceback is not None:
        frames, traceback = frames + 1, traceback.tb_next
    assert frames < 10


def test_mocks_say_what_they_were_called() -> None:
    workflow = parallel("a")
    with mock_steps(workflow, {"Update.a": 1}) as mocks:
        workflow.execute()
        workflow.execute()
    assert repr(mocks) == "<Mocks of 'Shop': <Mock of task 'Update.a': 2 calls>>"
    assert list(mocks) == ["Update.a"] and len(mocks) == 1


# --- mock_steps in processes ----------------------------------------------------


def test_a_mocked_process_step_runs_its_mock_in_the_process() -> None:
    import os

    workflow = chain("A", executor="process")
    with mock_steps(workflow, {"A": in_process}) as mocks:
        *seen, pid = workflow.execute({"order": 17}).output
    assert seen == [{"order": 17}, "A", 1] and pid != os.getpid()
    assert mocks["A"].calls == [{"order": 17}] and mocks["A"].count == 1


def test_a_list_is_gone_through_over_processes_threads_and_retries() -> None:
    workflow = StepFunction("W")
    retry = RetryPolicy(max_attempts=2, interval=0)
    inner = chain("Work")
    workflow.add_step("P", {"p": forbidden_for}, "Q", parallel=True, executor="process")
    workflow.add_step("Q", {"q": inner}, "R", parallel=True, executor="process")
    workflow.add_step("R", forbidden_for, executor="process", retry=retry)
    workflow.set_start_step("P")
    mocks = {"P.p": ["a", "b"], "Q.q/Work": ["c", "d"], "R": [OSError("!"), "e", "f"]}
    with mock_steps(workflow, mocks) as seen:
        first, second = workflow.execute(1), workflow.execute(2, executor="inline")
    assert dict(first.context) == {"P": {"p": "a"}, "Q": {"q": "c"}, "R": "e"}
    assert dict(second.context) == {"P": {"p": "b"}, "Q": {"q": "d"}, "R": "f"}
    assert [len(first.history[-1].attempts), seen["R"].count] == [2, 3]
    assert seen["P.p"].calls == [1, 2]
    assert seen["Q.q/Work"].calls == [{"p": "a"}, {"p": "b"}]


def test_tasks_in_processes_take_each_result_once() -> None:
    inner = chain("Work")
    workflow = StepFunction("W")
    workflow.add_step(
        "All", {name: inner for name in "abcd"}, parallel=True, executor="process"
    ).set_start_step("All")
    with mock_steps(inner, {"Work": list(range(4))}) as mocks:
        output = workflow.execute("x").output
    assert sorted(output.values()) == [0, 1, 2, 3]
    assert mocks["Work"].calls == ["x"] * 4


def test_an_exception_is_raised_in_the_process() -> None:
    workflow = chain("A", executor="process")
    with mock_steps(workflow, {"A": UnevenError(3, "three")}):
        with pytest.raises(StepExecutionError) as caught:
            workflow.execute()
    assert isinstance(caught.value.__cause__, UnevenError)


class UnevenError(Exception):
    def __init__(self, number: int, text: str) -> None:
        super().__init__(text)


def test_a_lambda_for_a_process_is_refused_before_anything_runs() -> None:
    workflow = parallel("a", executor="process")
    with pytest.raises(DefinitionError) as caught:
        with mock_steps(workflow, {"Update.a": lambda: 1}):
            pytest.fail("the block was entered")
    text = str(caught.value)
    assert "step 'Update', task 'a': its mock cannot be sent to a process" in text
    assert "define it at the top level of a module" in text
    assert workflow.compile().steps["Update"].action.tasks["a"].name == "forbidden_for"


def test_a_mock_called_in_a_process_after_its_block_says_so() -> None:
    go = threading.Event()
    workflow = StepFunction("W").add_step("A", forbidden_for, "B")
    workflow.add_step("B", forbidden_for, executor="process").set_start_step("A")
    with mock_steps(workflow, {"A": lambda: go.wait(10), "B": 2}):
        execution = workflow.start()
    go.set()
    assert execution.wait(20)
    assert "the mock of step 'B' was called in a process when its block had ended" in (
        str(execution.error)
    )


def test_what_processes_wrote_down_is_removed(tmp_path: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    workflow = chain("A", executor="process")
    with mock_steps(workflow, {"A": 1}):
        workflow.execute()
        assert [path.name[:17] for path in tmp_path.iterdir()] == ["stepfunction-mock"]
    assert list(tmp_path.iterdir()) == []


# --- skip_waits -----------------------------------------------------------------


def test_retries_and_wait_steps_take_no_time_and_say_how_long_they_were() -> None:
    workflow = StepFunction("W")
    workflow.add_step("Fetch", forbidden_for, "Wait", retry=HOURS)
    workflow.add_wait_step("Wait", seconds=60).set_start_step("Fetch")
    with mock_steps(workflow, {"Fetch": [OSError(), OSError(), 1]}):
        with skip_waits() as skipped:
            assert workflow.execute().output == 1
    assert skipped.waits == [
        SkippedWait("step 'Fetch'", 3600),
        SkippedWait("step 'Fetch'", 7200),
        SkippedWait("step 'Wait'", 60),
    ]
    assert skipped.total == 10860
    assert repr(skipped) == "<SkippedWaits: 3 pauses, 10860 s>"


def test_a_wait_for_a_moment_is_skipped() -> None:
    moment = datetime.now(timezone.utc) + timedelta(hours=1)
    workflow = StepFunction("W").add_wait_step("Wait", until=moment)
    workflow.set_start_step("Wait")
    with skip_waits() as skipped:
        assert workflow.execute(5).output == 5
    assert 3000 < skipped.total <= 3600


def fail_twice(value: Any, context: Context) -> str:
    if context.attempt < 3:
        raise OSError("not yet")
    return "there"


def sleepy() -> StepFunction:
    workflow = StepFunction("Sleepy").add_wait_step("Wait", 1800, next_step="Try")
    workflow.add_step("Try", fail_twice, retry=HOURS)
    return workflow.set_start_step("Wait")


def test_tasks_in_threads_and_nested_workflows_skip_too() -> None:
    workflow = StepFunction("W")
    tasks = {"a": fail_twice, "b": sleepy()}
    workflow.add_step("All", tasks, parallel=True, retry=HOURS).set_start_step("All")
    with skip_waits() as skipped:
        assert workflow.execute().output == {"a": "there", "b": "there"}
    whats = sorted(wait.what for wait in skipped.waits)
    task = "task 'a' of step 'All'"
    assert whats == ["step 'Try'", "step 'Try'", "step 'Wait'", task, task]


def test_workflows_nested_in_processes_skip_and_tell() -> None:
    inner = around(sleepy(), "Deep", executor="process")
    workflow = around(inner, executor="process")
    with skip_waits() as skipped:
        assert workflow.execute().output == "there"
    assert [wait.seconds for wait in skipped.waits] == [1800, 3600, 7200]


def test_what_runs_in_the_background_or_is_awaited_skips_too() -> None:
    workflow = sleepy()
    with skip_waits() as skipped:
        assert workflow.start().wait(20)
        assert asyncio.run(awaited(workflow)).output == "there"
    assert skipped.total == 2 * (1800 + 3600 + 7200)


async def awaited(workflow: StepFunction) -> Execution:
    return await workflow.aexecute()


def test_both_of_two_nested_blocks_are_told() -> None:
    with skip_waits() as outer:
        with skip_waits() as inner:
            sleepy().execute()
        sleepy().execute()
    assert (len(inner.waits), len(outer.waits)) == (3, 6)


def test_after_the_block_pauses_are_made_again() -> None:
    workflow = StepFunction("W").add_wait_step("Wait", 3600).set_start_step("Wait")
    with pytest.raises(ZeroDivisionError), skip_waits():
        1 / 0
    execution = workflow.start()
    assert not execution.wait(0.05)
    execution.cancel()
    assert execution.wait(10) and execution.status is Status.CANCELLED


def test_a_retrying_of_tenacity_skips_its_pauses() -> None:
    retrying = tenacity.Retrying(
        stop=tenacity.stop_after_attempt(3), wait=tenacity.wait_fixed(600)
    )
    workflow = StepFunction("W").add_step("Try", fail_twice, retry=retrying)
    workflow.set_start_step("Try")
    with skip_waits() as skipped:
        assert workflow.execute().output == "there"
    assert skipped.total == 1200


# --- assert_path ----------------------------------------------------------------


def test_the_path_that_was_taken_is_right() -> None:
    with mock_steps(checkout, {"Pay": 1, "Notify": 2}):
        assert_path(checkout.execute(), ["Pay", "Notify"])
        assert_path(checkout.execute(), ("Pay", "Notify"))


def test_another_path_is_shown_beside_it_with_what_led_astray() -> None:
    with mock_steps(checkout, {"Pay": ValueError("declined")}):
        execution = checkout.execute()
    with pytest.raises(AssertionError) as caught:
        assert_path(execution, ["Pay", "Ntify"])
    assert str(caught.value).splitlines() == [
        "'Checkout' took another path, and is FAILED:",
        "",
        "  expected   taken",
        "  Pay        Pay         FAILED: ValueError: declined",
        "- Ntify",
        "+            Apologise   SUCCEEDED",
        "",
        "'Ntify' is no step of 'Checkout' (did you mean 'Notify'?)",
    ]


@pytest.mark.parametrize("path", [[], ["Pay"], ["Notify", "Pay"], ["Pay"] * 2])
def test_more_or_fewer_steps_or_another_order_are_another_path(path: Any) -> None:
    with mock_steps(checkout, {"Pay": 1, "Notify": 2}):
        execution = checkout.execute()
    with pytest.raises(AssertionError, match="took another path, and is COMPLETED"):
        assert_path(execution, path)


def test_tasks_are_no_part_of_the_path_and_nested_steps_have_their_own() -> None:
    workflow = StepFunction("W").add_step("All", {"a": double, "b": sleepy()}, "One",
                                          parallel=True)
    workflow.add_step("One", sleepy()).set_start_step("All")
    with skip_waits():
        execution = workflow.execute(1)
    assert_path(execution, ["All", "One"])
    assert_path(execution.children["One"], ["Wait", "Try"])
    assert_path(execution.children["All", "b"], ["Wait", "Try"])


def test_an_error_of_many_lines_has_one_in_the_path() -> None:
    with mock_steps(checkout, {"Pay": ValueError("first\nsecond")}):
        execution = checkout.execute()
    with pytest.raises(AssertionError) as caught:
        assert_path(execution, [])
    assert "+            Pay         FAILED: ValueError: first\n" in str(caught.value)


def test_steps_of_a_loop_are_named_each_time() -> None:
    workflow = StepFunction("Poll", max_steps=10)
    workflow.add_step("Ask", forbidden_for, branch={"wait": "Ask", "done": "Tell"})
    workflow.add_step("Tell", double).set_start_step("Ask")
    with mock_steps(workflow, {"Ask": ["wait", "wait", "done"]}):
        assert_path(workflow.execute(), ["Ask", "Ask", "Ask", "Tell"])


def test_of_a_long_loop_only_what_differs_is_shown_and_what_is_around_it() -> None:
    workflow = StepFunction("Poll", max_steps=200)
    workflow.add_step("Ask", forbidden_for, "Wait", branch={"done": "Tell"})
    workflow.add_step("Wait", double, "Ask").add_step("Tell", double)
    workflow.set_start_step("Ask")
    with mock_steps(workflow, {"Ask": [*["wait"] * 60, "done"], "Wait": 1}):
        execution = workflow.execute()
    with pytest.raises(AssertionError) as caught:
        assert_path(execution, [*["Ask", "Wait"] * 59, "Ask", "Tell"])
    assert str(caught.value).splitlines()[2:] == [
        "  expected   taken",
        "  Ask        Ask     SUCCEEDED",
        "  Wait       Wait    SUCCEEDED",
        "  Ask        Ask     SUCCEEDED",
        "  …          …       113 steps alike",
        "  Ask        Ask     SUCCEEDED",
        "  Wait       Wait    SUCCEEDED",
        "  Ask        Ask     SUCCEEDED",
        "+            Wait    SUCCEEDED",
        "+            Ask     SUCCEEDED",
        "  Tell       Tell    SUCCEEDED",
    ]


def test_an_execution_read_from_a_file_has_its_path() -> None:
    with mock_steps(checkout, {"Pay": 1, "Notify": 2}):
        execution = Execution.from_json(checkout.execute().to_json())
    assert_path(execution, ["Pay", "Notify"])
    with pytest.raises(AssertionError, match="Pay "):
        assert_path(execution, ["Pya"])


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ((["Pay"], checkout), "takes an execution and its path"),
        ((checkout, ["Pay"]), "give it what execute"),
        ((dry_run(checkout), "Pay"), "path is a list of names of steps, not 'Pay'"),
        ((dry_run(checkout), ["Pay", 3]), "path is a list of names of steps"),
    ],
)
def test_what_is_no_execution_and_path_is_refused(arguments: Any, text: str) -> None:
    with pytest.raises(TypeError, match=text):
        assert_path(*arguments)


# --- dry_run --------------------------------------------------------------------


def everything() -> StepFunction:
    inner = StepFunction("Inner").add_step("Check", forbidden, "Charge")
    inner.add_step("Charge", forbidden, branch={"yes": "Good", "no": "Bad"})
    inner.add_step("Good", forbidden).add_fail_step("Bad", "NoMoney", "sorry")
    inner.set_start_step("Check")
    workflow = StepFunction("All", max_steps=20, listeners=[forbidden])
    workflow.add_step(
        "Ask",
        forbidden,
        branch={"again": "Ask", "on": "Wait"},
        retry=HOURS,
        on_failure="Sorry",
    )
    workflow.add_wait_step("Wait", seconds=forbidden_for, next_step="Update")
    workflow.add_step(
        "Update",
        {"a": forbidden_for, "b": inner},
        "Payment",
        parallel=True,
        executor="process",
    )
    workflow.add_step("Payment", inner, "Each", executor="thread", timeout=3)
    workflow.add_map_step("Each", forbidden, forbidden_for, next_step="End")
    workflow.add_step("End", forbidden, executor="process")
    workflow.add_step("Sorry", forbidden).set_start_step("Ask")
    return workflow


def test_a_dry_run_walks_everything_and_calls_nothing() -> None:
    threads = threading.active_count()
    execution = dry_run(
        everything(),
        {
            "Ask": ["again", "again", "on"],
            "Update.a": 7,
            "Update.b/Charge": "yes",
            "Payment/Charge": "yes",
            "Each": [[1, 2]],
        },
    )
    assert_path(
        execution, ["Ask", "Ask", "Ask", "Wait", "Update", "Payment", "Each", "End"]
    )
    assert_path(execution.children["Payment"], ["Check", "Charge", "Good"])
    assert execution.context["Update"] == {"a": 7, "b": "yes"}
    assert execution.output == [1, 2]
    assert execution.status is Status.COMPLETED
    assert threading.active_count() == threads


def test_a_dry_run_tells_the_items_that_are_to_have_failed() -> None:
    workflow = StepFunction("W").add_map_step("Each", forbidden).set_start_step("Each")
    error = ValueError("no")
    output = dry_run(workflow, {"Each": returning([1, error])}).output
    assert output == [1, error] and output.failed == {1: error}
    with pytest.raises(ParallelStepExecutionError, match="1 of 2 items of step") as it:
        output.raise_if_failed()
    assert it.value.results == {0: 1} and it.value.errors == {1: error}


def test_a_dry_run_follows_failures() -> None:
    execution = dry_run(everything(), {"Ask": ConnectionError("away")})
    assert_path(execution, ["Ask", "Sorry"])
    assert execution.status is Status.FAILED
    assert len(execution.history[0].attempts) == 1


def test_a_dry_run_tells_of_an_unhandled_failure_as_its_status() -> None:
    results = {"Ask": "on", "Update": 1, "Payment/Charge": "no"}
    execution = dry_run(everything(), results)
    assert execution.status is Status.FAILED
    assert "NoMoney" in str(execution.error)


def test_a_step_without_a_result_gives_its_input_on() -> None:
    assert dry_run(chain("A", "B"), initial_input=5).output == 5
    assert dry_run(parallel("a", "b"), initial_input=5).output == {"a": 5, "b": 5}


@pytest.mark.parametrize(
    ("results", "text"),
    [
        ({}, "where step 'Ask' leads cannot be told without its result: its branch "
             "knows 'again', 'on'; give results={'Ask': …}"),
        ({"Ask": "on", "Update": {}}, "step 'Payment/Charge' leads cannot be told"),
        ({"Ask": "on", "Update.a": 1}, "step 'Update.b/Charge' leads cannot be told"),
        ({"Ask": ["again"]}, "the result of step 'Ask' was given 1 result and is"),
    ],
)
def test_a_result_that_is_lacking_is_named(results: Any, text: str) -> None:
    with pytest.raises(DryRunError) as caught:
        dry_run(everything(), results)
    assert text in str(caught.value)


def choice(branch: Any, **settings: Any) -> StepFunction:
    workflow = StepFunction("Choice").add_step("Load", forbidden, "Choose")
    workflow.add_pass_step("Choose", branch=branch, next_step="Small", **settings)
    workflow.add_step("Big", forbidden).add_step("Small", forbidden)
    return workflow.set_start_step("Load")


@pytest.mark.parametrize(
    ("branch", "settings"),
    [
        ([(lambda value: value > 10, "Big")], {}),
        (lambda value: "Big" if value > 10 else None, {"branch_targets": ["Big"]}),
        ({12: "Big"}, {}),
    ],
)
def test_branches_of_any_kind_are_asked(branch: Any, settings: Any) -> None:
    workflow = choice(branch, **settings)
    assert_path(dry_run(workflow, {"Load": 12}), ["Load", "Choose", "Big"])
    assert_path(dry_run(workflow, {"Load": 1}), ["Load", "Choose", "Small"])
    with pytest.raises(DryRunError, match=r"give results=\{'Load': …\}"):
        dry_run(workflow)


def test_a_branch_on_the_input_of_the_execution_must_know_it() -> None:
    workflow = StepFunction("W").add_pass_step("Choose", branch={1: "A"})
    workflow.add_step("A", forbidden).set_start_step("Choose")
    assert_path(dry_run(workflow, initial_input=1), ["Choose", "A"])
    with pytest.raises(DryRunError, match="initial_input=…"):
        dry_run(workflow)


def test_a_dry_run_leaves_the_workflow_alone() -> None:
    workflow = chain("A")
    graph = workflow.compile()
    assert dry_run(workflow, {"A": 1}).output == 1
    assert workflow.compile() is graph
    assert workflow.status is Status.INITIALIZED


def test_a_result_that_leads_nowhere_fails_the_step_as_it_would() -> None:
    execution = dry_run(everything(), {"Ask": "nowhere"})
    assert_path(execution, ["Ask", "Sorry"])
    assert "branch knows only 'again', 'on'" in str(execution.error)


def test_an_endless_dry_run_ends_at_its_bound() -> None:
    execution = dry_run(everything(), {"Ask": "again"})
    assert execution.status is Status.FAILED and "20 steps" in str(execution.error)


def mapping() -> StepFunction:
    return StepFunction("W").add_map_step("Each", sleepy()).set_start_step("Each")


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ((3,), "workflow is a StepFunction, not 3"),
        ((checkout, [1]), r"results is a mapping of step to result, not \[1\]"),
        ((checkout, {"Pya": 1}), "did you mean 'Pay'"),
        ((undoable(), {"Pay.compensate": 1}), "nothing is undone in a dry run"),
        ((everything(), {"Payment/Bad": 1}), "is a fail step, which gives no result"),
        ((mapping(), {"Each/Wait": 1}), "give the output of 'Each' as a whole"),
        ((StepFunction("Empty"),), "no start step"),
    ],
)
def test_mistakes_of_a_dry_run_are_refused(arguments: Any, text: str) -> None:
    with pytest.raises(DefinitionError, match=text):
        dry_run(*arguments)


# --- detect_shared_mutation -----------------------------------------------------


class Basket:
    def __init__(self) -> None:
        self.items = ["apple"]
        self.nan = float("nan")

    @cached_property
    def size(self) -> int:
        return len(self.items)

    def __eq__(self, other: object) -> bool:
        raise AssertionError("nobody is to ask")


@dataclass(slots=True)
class Slotted:
    total: int = 0


def shared(task: Callable[[Any], object], value: Any, **settings: Any) -> Execution:
    workflow = StepFunction("Shop")
    tasks = {"before": look_at, "task": task, "after": look_at}
    workflow.add_step("Price", tasks, parallel=True, **settings)
    return workflow.set_start_step("Price").execute(value)


def look_at(value: Any) -> str:
    return type(value).__name__


def set_item(value: Any) -> None:
    value["rates"]["EUR"] = 2


def add_item(value: Any) -> None:
    value["new"] = 3


def pop_item(value: Any) -> None:
    del value["same"]


def extend(value: Any) -> None:
    value["basket"].items += ["pear"]


def change_type(value: Any) -> None:
    value["same"] = None


def set_slot(value: Any) -> None:
    value["slotted"].total += 1


def add_to_set(value: Any) -> None:
    value["set"].add(3)


def append(value: Any) -> None:
    value["deque"].append(9)


def set_flat(value: Any) -> None:
    value["flat"][0] = True


def close_circle(value: Any) -> None:
    value["basket"].itself = value


def values() -> dict[str, Any]:
    value: dict[str, Any] = {
        "rates": {"EUR": 1},
        "basket": Basket(),
        "slotted": Slotted(),
        "set": {1, 2},
        "deque": deque([1]),
        "flat": [1, "two", float("nan")],
    }
    value["same"] = value["rates"]
    value["itself"] = value
    return value


@pytest.mark.parametrize("executor", ["thread", "inline"])
@pytest.mark.parametrize(
    ("task", "change"),
    [
        (set_item, "input['rates']['EUR'] was 1 and is 2"),
        (add_item, "input['new'] was added: 3"),
        (pop_item, "input['same'] was removed: the same as input['rates']"),
        (extend, "input['basket'].items[1] was added: 'pear'"),
        (change_type, "input['same'] was the same as input['rates'] and is None"),
        (set_slot, "input['slotted'].total was 0 and is 1"),
        (add_to_set, "input['set']{…} was added: 3"),
        (append, "input['deque'][1] was added: 9"),
        (set_flat, "input['flat'][0] was 1 and is True"),
        (close_circle, "input['basket'].itself was added: the same as input"),
    ],
)
def test_the_task_that_changed_the_input_is_named_with_what_it_changed(
    task: Any, change: str, executor: Any
) -> None:
    with pytest.raises(SharedMutationError) as caught:
        with detect_shared_mutation():
            shared(task, values(), executor=executor)
    assert str(caught.value).splitlines() == [
        "a task has changed an input that other tasks share:",
        f"  task 'task' of step 'Price' of 'Shop': {change}",
        "let a task change a copy, or return what is new",
    ]
    (mutation,) = caught.value.mutations
    assert mutation[:3] == ("Shop", "Price", "task")
    assert isinstance(caught.value, AssertionError)


def change_and_fail(value: Any) -> None:
    value["new"] = 3
    raise ValueError("failed")


def test_a_task_that_fails_after_a_change_is_found_too() -> None:
    with pytest.raises(SharedMutationError, match=r"input\['new'\] was added"):
        with detect_shared_mutation():
            shared(change_and_fail, {})


def read_all(value: Any) -> Any:
    basket = value["basket"]
    return basket.size, list(basket.items), value["slotted"].total, sorted(value["set"])


def reorder(value: Any) -> None:
    value["rates"] = value.pop("rates")
    value["same"] = value.pop("same")


def replace_by_equal(value: Any) -> None:
    value["rates"]["EUR"] = int("1")
    value["set"].discard(1)
    value["set"].add(1)


@pytest.mark.parametrize("task", [read_all, replace_by_equal, reorder])
def test_tasks_that_only_read_are_no_alarm(task: Any) -> None:
    with detect_shared_mutation() as watch:
        assert shared(task, values()).output.failed == {}
    assert watch.mutations == [] and watch.unwatched == []


def test_a_task_of_a_nested_workflow_is_found_where_it_is() -> None:
    inner = StepFunction("Inner")
    inner.add_step("Both", {"a": add_item, "b": look_at}, parallel=True)
    inner.set_start_step("Both")
    with pytest.raises(SharedMutationError) as caught:
        with detect_shared_mutation():
            shared(inner.execute, {})  # in a task's thread
    where = [mutation[:3] for mutation in caught.value.mutations]
    assert where == [("Inner", "Both", "a"), ("Shop", "Price", "task")]
    assert str(caught.value).startswith("2 tasks have changed an input")


def test_processes_copy_their_input_and_are_not_watched() -> None:
    with detect_shared_mutation() as watch:
        output = shared(add_item, {"a": 1}, executor="process").output
    assert output == {"before": "dict", "task": None, "after": "dict"}
    assert watch.mutations == []


def test_one_task_alone_shares_nothing() -> None:
    workflow = StepFunction("W").add_step("One", {"a": add_item}, parallel=True)
    workflow.set_start_step("One")
    with detect_shared_mutation() as watch:
        workflow.execute({})
    assert watch.mutations == []


def test_an_input_is_taken_apart_as_pickle_was_told_to() -> None:
    with detect_shared_mutation() as watch:
        shared(look_at, {"pattern": re.compile("a+")})
    assert watch.unwatched == []


def test_what_cannot_be_looked_into_is_told(caplog: Any) -> None:
    lock = threading.Lock()
    with detect_shared_mutation() as watch:
        shared(look_at, {"lock": lock, "rest": [1]})
        shared(look_at, {"lock": lock, "rest": [1]})
    (unwatched,) = watch.unwatched
    assert unwatched[:3] == ("Shop", "Price", "input['lock']")
    assert "input['lock'] of step 'Price' of 'Shop' was not watched: TypeError: " in (
        caplog.text
    )


def put_lock(value: Any) -> None:
    value["rest"] = threading.Lock()


def test_what_can_no_longer_be_looked_into_has_changed() -> None:
    with pytest.raises(SharedMutationError, match="was 3 and is what cannot be looked"):
        with detect_shared_mutation():
            shared(put_lock, {"rest": 3})
    with pytest.raises(SharedMutationError, match=r"input\['rest'\]"):
        with detect_shared_mutation():
            shared(put_lock, {"rest": threading.Lock()})


def test_a_thread_pool_of_the_user_is_watched() -> None:
    with ThreadPoolExecutor(2) as pool:
        with pytest.raises(SharedMutationError, match=r"input\['new'\] was added"):
            with detect_shared_mutation():
                shared(add_item, {}, executor=pool)


def test_what_is_beside_it_is_watched_all_the_same() -> None:
    with pytest.raises(SharedMutationError, match=r"input\['new'\] was added"):
        with detect_shared_mutation():
            shared(add_item, {"lock": threading.Lock()})


def test_an_error_of_the_block_is_left_and_has_the_mutation_as_a_note() -> None:
    with pytest.raises(ZeroDivisionError) as caught:
        with detect_shared_mutation():
            shared(add_item, {})
            1 / 0
    assert "input['new'] was added: 3" in caught.value.__notes__[0]


def test_after_the_block_nobody_looks_on() -> None:
    with detect_shared_mutation() as watch:
        pass
    shared(add_item, {})
    assert watch.mutations == []


def test_tasks_run_one_at_a_time_while_they_are_watched() -> None:
    at_once = Busy()
    workflow = StepFunction("W")
    tasks = {str(number): at_once for number in range(6)}
    workflow.add_step("All", tasks, parallel=True).set_start_step("All")
    with detect_shared_mutation():
        workflow.execute()
    assert at_once.most == 1


class Busy:
    def __init__(self) -> None:
        self.now = self.most = 0

    def __call__(self) -> None:
        self.now += 1
        self.most = max(self.most, self.now)
        threading.Event().wait(0.002)
        self.now -= 1


def test_both_of_two_nested_watches_see_a_change() -> None:
    with pytest.raises(SharedMutationError):
        with detect_shared_mutation() as outer:
            with pytest.raises(SharedMutationError):
                with detect_shared_mutation():
                    shared(add_item, {})
    assert len(outer.mutations) == 1


def test_many_changes_are_counted() -> None:
    with pytest.raises(SharedMutationError, match="and 5 more changes"):
        with detect_shared_mutation():
            shared(lambda value: value.update(dict.fromkeys(range(10))), {})


# --- as a newcomer uses it ------------------------------------------------------


class TestCheckout(unittest.TestCase):
    def setUp(self) -> None:
        self.mocks = self.enterContext(mock_steps(checkout, {"Pay": 1, "Notify": 2}))
        self.skipped = self.enterContext(skip_waits())

    def test_a_test_case_holds_mocks_for_the_whole_test(self) -> None:
        self.assertEqual(view(17), 2)
        self.assertEqual(self.mocks["Pay"].calls, [17])
        self.assertEqual(self.skipped.total, 0)

    def test_inline_is_for_tests_in_a_transaction(self) -> None:
        execution = checkout.execute(17, executor="inline")
        assert_path(execution, ["Pay", "Notify"])
        self.assertEqual(execution.history[0].outcome, Outcome.SUCCEEDED)


def test_after_the_test_case_the_workflow_is_as_before() -> None:
    case = TestCheckout("test_a_test_case_holds_mocks_for_the_whole_test")
    assert case.run().wasSuccessful()
    assert view(17) == "the real function was called"
# To append to tests/test_testing.py once map steps, named inputs and compensations run.


def in_euro(price: int, rate: int) -> str:
    return f"{price} * {rate}"


def negative(item: int) -> int:
    return -item


@pytest.mark.parametrize("executor", ["inline", "thread", "process"])
def test_each_item_of_a_map_step_gets_the_mock(executor: Any) -> None:
    workflow = StepFunction("W").add_map_step("Each", forbidden_for, executor=executor)
    workflow.set_start_step("Each")
    with mock_steps(workflow, {"Each": negative}) as mocks:
        assert workflow.execute([1, 2, 3]).output == [-1, -2, -3]
    assert sorted(mocks["Each"].calls) == [1, 2, 3]


def test_a_list_goes_over_the_items_of_a_map_step_in_batches_of_processes() -> None:
    workflow = StepFunction("W")
    workflow.add_map_step("Each", forbidden_for, executor="process", batch_size=5)
    workflow.set_start_step("Each")
    with mock_steps(workflow, {"Each": list(range(20))}) as mocks:
        assert sorted(workflow.execute(["x"] * 20).output) == list(range(20))
    assert mocks["Each"].calls == ["x"] * 20


@pytest.mark.parametrize("executor", ["thread", "process"])
def test_workflows_of_a_map_step_are_mocked_and_skip_waits(executor: Any) -> None:
    workflow = StepFunction("W").add_map_step("Each", sleepy(), executor=executor)
    workflow.set_start_step("Each")
    with mock_steps(workflow, {"Each/Try": negative}), skip_waits() as skipped:
        assert workflow.execute([1, 2]).output == [-1, -2]
    assert skipped.total == 2 * 1800


def test_retries_of_items_take_no_time() -> None:
    workflow = StepFunction("W").add_map_step("Each", fail_twice, retry=HOURS)
    workflow.set_start_step("Each")
    with skip_waits() as skipped:
        assert workflow.execute([1, 2]).output == ["there", "there"]
    assert skipped.total == 2 * (3600 + 7200)


@pytest.mark.parametrize("executor", [None, "thread", "process"])
@pytest.mark.parametrize("mock", [0.5, in_euro])
def test_a_mock_is_given_the_named_inputs(mock: Any, executor: Any) -> None:
    workflow = StepFunction("W").add_step("Price", double, "Rate")
    workflow.add_step("Rate", lambda: 2, "Sum")
    inputs = {"price": "Price", "rate": "Rate"}
    workflow.add_step("Sum", forbidden, inputs=inputs, executor=executor)
    workflow.set_start_step("Price")
    with mock_steps(workflow, {"Sum": mock}) as mocks:
        assert workflow.execute(1).output == (0.5 if mock == 0.5 else "2 * 2")
    assert mocks["Sum"].calls == [{"price": 2, "rate": 2}]


def test_a_mocked_compensation_is_called_in_the_place_of_the_real_one() -> None:
    workflow = undoable()
    results = {"Pay": 3, "Pay.compensate": None, "Update": ValueError("no")}
    with mock_steps(workflow, results) as mocks:
        with pytest.raises(StepExecutionError):
            workflow.execute()
    assert mocks["Pay.compensate"].calls == [3]


def test_tasks_and_nested_steps_are_undone_by_their_mocks() -> None:
    workflow = undoable()
    keys = ["Pay", "Update.a", "Update.b", "Update.nested/Charge"]
    mocks = {f"{key}.compensate": None for key in keys}
    outer = StepFunction("Outer").add_step("All", workflow, "Fail")
    outer.add_fail_step("Fail", "E").set_start_step("All")
    with mock_steps(outer, {f"All/{key}": None for key in mocks}) as seen:
        assert outer.execute(1).status is Status.FAILED
    assert [mock.calls for mock in seen.values()] == [[2], [4], [4], [4]]


def test_nothing_is_undone_in_a_dry_run() -> None:
    execution = dry_run(undoable(), {"Update": ValueError("no")}, 1)
    assert execution.status is Status.FAILED and execution.compensations == ()
