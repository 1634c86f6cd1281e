from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from copy import copy
from typing import Any
from unittest.mock import AsyncMock, Mock, create_autospec

import pytest
from shared.calls import double
from shared.mocked import (
    HOURS,
    around,
    chain,
    checkout,
    forbidden,
    forbidden_for,
    negative,
    parallel,
    undo,
    undoable,
    view,
)

from stepfunction import (
    DefinitionError,
    ParallelStepExecutionError,
    RetryPolicy,
    Status,
    StepExecutionError,
    StepFunction,
    TaskResults,
)
from stepfunction.testing import UsedUpError, assert_path, mock_steps, returning

# --- mock_steps ---------------------------------------------------------------------


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


def in_euro(price: int, rate: int) -> str:
    return f"{price} * {rate}"


@pytest.mark.parametrize("executor", ["inline", "thread", "process"])
def test_each_item_of_a_map_step_gets_the_mock(executor: Any) -> None:
    workflow = StepFunction("W").add_map_step("Each", forbidden_for, executor=executor)
    workflow.set_start_step("Each")
    with mock_steps(workflow, {"Each": negative}) as mocks:
        assert workflow.execute([1, 2, 3]).output == [-1, -2, -3]
    assert sorted(mocks["Each"].calls) == [1, 2, 3]


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
