from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar

import pytest
from shared.calls import double
from shared.failures import failure_of
from shared.maps import (
    HERE,
    SIZES,
    Live,
    fail,
    fail_at_threes,
    mapped,
    nested,
    tasks_of,
    who,
)

from stepfunction import DefinitionError, Outcome, Status, StepFunction

letter = ContextVar("letter", default="none")


async def later(value):
    return [value]


def lines_of(order):
    for line in order:
        yield line["n"]


# --- output -------------------------------------------------------------------------


@pytest.mark.parametrize("executor", HERE)
@pytest.mark.parametrize("batch_size", [1, 2, 7, 100])
def test_the_output_is_in_the_order_of_the_items(executor, batch_size):
    workflow = mapped(double, executor=executor, batch_size=batch_size)
    assert workflow.execute(range(20)).output == [2 * i for i in range(20)]


def test_the_order_is_not_that_in_which_items_end():
    second_has_ended = threading.Event()

    def work(item):
        if item == 0:
            assert second_has_ended.wait(20)
        else:
            second_has_ended.set()
        return item

    assert mapped(work).execute([0, 1]).output == [0, 1]


@pytest.mark.parametrize("batch_size", SIZES)
@pytest.mark.parametrize("items", [[], (), set(), iter([]), range(0)])
def test_without_items_the_output_is_empty(items, batch_size):
    execution = mapped(fail, batch_size=batch_size).execute(items)
    assert execution.status is Status.COMPLETED
    assert execution.output == []
    assert tasks_of(execution) == []


def test_the_output_goes_on_to_the_next_step():
    workflow = mapped(double, "Sum", batch_size=2).add_step("Sum", sum)
    assert workflow.execute([1, 2, 3]).output == 12


@pytest.mark.parametrize("batch_size", SIZES)
def test_without_results_the_output_is_how_many_items_had_each_outcome(batch_size):
    workflow = mapped(fail_at_threes, keep_results=False, batch_size=batch_size)
    output = workflow.execute(range(10)).output
    assert output == {Outcome.SUCCEEDED: 6, Outcome.FAILED: 4}


def test_without_results_and_items_there_is_a_count_of_none():
    output = mapped(double, keep_results=False).execute([]).output
    assert output == {Outcome.SUCCEEDED: 0}


# --- where the items are ------------------------------------------------------------


@pytest.mark.parametrize(
    "items, value",
    [
        (None, [1, 2]),
        (None, iter((1, 2))),
        (None, {1: "a", 2: "b"}.keys()),
        ("numbers", {"numbers": [1, 2], "rest": 0}),
        (1, ["rest", [1, 2]]),
        (-1, ("rest", (1, 2))),
        (7, {7: [1, 2]}),
        (lambda order: (line["n"] for line in order), [{"n": 1}, {"n": 2}]),
        (lines_of, [{"n": 1}, {"n": 2}]),
    ],
)
def test_items_may_be_the_input_or_in_it(items, value):
    assert mapped(double, items=items).execute(value).output == [2, 4]


@pytest.mark.parametrize(
    "items, value, error_class, text",
    [
        ("numbers", {"number": 1}, LookupError, "items='numbers' is to be a key"),
        ("numbers", 5, LookupError, "input, but that is 5"),
        (3, [1, 2], LookupError, "items=3 is to be a key"),
        (None, "text", TypeError, "the input of a map step is items, not 'text'"),
        (None, b"text", TypeError, "is items, not b'text'"),
        (None, bytearray(b"text"), TypeError, "is items, not bytearray(b'text')"),
        (None, 5, TypeError, "items= a key of it, or a callable"),
        (None, {"a": [1]}, TypeError, "is items, not {'a'"),
        ("a", {"a": "text"}, TypeError, "the input's 'a' is to be items, not 'text'"),
        (lambda value: 5, None, TypeError, "what items= gives is to be items, not 5"),
        (lambda value: later(value), 5, TypeError, "coroutine, which nothing awaits"),
        (lambda value: 1 // value, 0, ZeroDivisionError, "by zero"),
        (lambda value: next(iter(value)), [], StopIteration, ""),
    ],
)
def test_the_step_fails_where_there_are_no_items(items, value, error_class, text):
    error = failure_of(mapped(double, items=items), value)
    assert isinstance(error.__cause__, error_class)
    assert text in str(error.__cause__)
    assert error.execution.history[0].outcome is Outcome.FAILED


def test_a_step_takes_the_failure_to_find_items():
    workflow = mapped(double, items="numbers", on_failure="Apologise")
    workflow.add_step("Apologise", type)
    assert workflow.execute({}).output is LookupError


# --- calls --------------------------------------------------------------------------


@pytest.mark.parametrize("batch_size", SIZES)
def test_params_go_to_every_call(batch_size):
    workflow = mapped(pow, params={"exp": 2}, batch_size=batch_size)
    assert workflow.execute([1, 2, 3, 4]).output == [1, 4, 9, 16]


@pytest.mark.parametrize("executor", HERE)
@pytest.mark.parametrize("batch_size", SIZES)
def test_the_task_of_the_context_is_the_index(executor, batch_size):
    workflow = mapped(who, executor=executor, batch_size=batch_size)
    output = workflow.execute(list("abcd")).output
    assert output == [("Map", index, 1) for index in range(4)]


@pytest.mark.parametrize("batch_size", SIZES)
def test_an_item_may_look_up_an_earlier_step(batch_size):
    def work(item, context):
        return context["Earlier"][item] + 1

    workflow = StepFunction("Work").add_step("Earlier", list, "Map")
    workflow.add_map_step("Map", work, batch_size=batch_size)
    workflow.set_start_step("Earlier")
    assert workflow.execute(range(5)).output == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("executor", HERE)
@pytest.mark.parametrize("batch_size", SIZES)
def test_coroutine_functions_run_to_their_end(executor, batch_size):
    async def work(item, context):
        await asyncio.sleep(0)
        return item, context.item

    workflow = mapped(work, executor=executor, batch_size=batch_size)
    assert workflow.execute([5, 6, 7, 8]).output == [
        (5, 0),
        (6, 1),
        (7, 2),
        (8, 3),
    ]


@pytest.mark.parametrize("batch_size", SIZES)
def test_a_plain_function_that_gives_coroutines_fails(batch_size):
    async def never(item):
        return item

    def work(item):
        return fail(item) if item == 0 else never(item)

    output = mapped(work, batch_size=batch_size).execute(range(4)).output
    assert sorted(output.failed) == [0, 1, 2, 3]
    assert all("returned a coroutine" in str(error) for error in output[1:])


@pytest.mark.parametrize("batch_size", SIZES)
def test_items_have_the_context_variables_of_the_caller(batch_size):
    token = letter.set("a")
    try:
        workflow = mapped(lambda item: letter.get(), batch_size=batch_size)
        assert workflow.execute(range(4)).output == ["a"] * 4
    finally:
        letter.reset(token)


@pytest.mark.parametrize("batch_size", SIZES)
@pytest.mark.parametrize(
    "error_class", [StopIteration, KeyboardInterrupt, SystemExit, GeneratorExit]
)
def test_whatever_an_item_raises_in_a_thread_is_its_own_failure(
    error_class, batch_size
):
    def work(item):
        if item == 2:
            raise error_class(item)
        return item

    output = mapped(work, batch_size=batch_size).execute(range(6)).output
    assert [*output.failed] == [2]
    assert type(output[2]) is error_class
    assert [*output[:2], *output[3:]] == [0, 1, 3, 4, 5]


@pytest.mark.parametrize("batch_size", SIZES)
def test_stop_iteration_of_an_inline_item_is_its_failure(batch_size):
    def work(item):
        return next(iter([])) if item == 2 else item

    workflow = mapped(work, executor="inline", batch_size=batch_size)
    output = workflow.execute(range(6)).output
    assert [*output.failed] == [2]
    assert [*output[:2], *output[3:]] == [0, 1, 3, 4, 5]


# --- nested workflows, loops --------------------------------------------------------


@pytest.mark.parametrize("executor", HERE)
def test_each_item_may_be_the_input_of_a_workflow(executor):
    execution = mapped(nested(), executor=executor).execute([1, 2, 3])
    assert execution.output == [4, 8, 12]
    assert [*execution.children] == [("Map", 0), ("Map", 1), ("Map", 2)]
    assert execution.children["Map", 1].context["Check"] == 4
    assert execution.children["Map", 1].workflow == "Inner"


def test_an_item_fails_whose_workflow_fails():
    execution = mapped(nested(fail_at_threes)).execute(range(5))
    assert sorted(execution.output.failed) == [0, 3]
    assert "nested workflow 'Inner' failed at its step 'Check'" in str(
        execution.output[3]
    )
    assert str(execution.output[3].__cause__) == "cannot take 3"
    assert execution.children["Map", 3].status is Status.FAILED


@pytest.mark.parametrize("executor", HERE)
def test_what_happens_in_nested_workflows_is_told(executor):
    live = Live()
    mapped(nested(), executor=executor).execute([1, 2], listeners=[live])
    steps = [event for event in live.of_kind("step_succeeded") if event.path]
    assert sorted((event.path[0], event.step) for event in steps) == [
        (("Map", index), step) for index in (0, 1) for step in ("Check", "Done")
    ]


def test_a_map_may_be_in_a_workflow_of_a_map():
    inner = mapped(double, "Sum", batch_size=2).add_step("Sum", sum)
    assert mapped(inner, max_workers=2).execute([range(4)] * 5).output == [12] * 5


def test_maps_in_maps_on_one_pool_do_not_wait_for_each_other():
    with ThreadPoolExecutor(2) as pool:
        inner = mapped(double, executor=pool, batch_size=2)
        outer = mapped(inner, executor=pool)
        assert outer.execute([range(4)] * 6).output == [[0, 2, 4, 6]] * 6


def test_a_map_may_run_in_a_loop():
    workflow = StepFunction("Work", max_steps=50)
    workflow.add_map_step(
        "Map",
        double,
        branch=lambda output: "Map" if max(output) < 100 else "End",
        branch_targets=["Map", "End"],
    )
    workflow.add_step("End", list).set_start_step("Map")
    execution = workflow.execute([1, 3])
    assert execution.output == [64, 192]
    assert len(tasks_of(execution)) == 12


def test_one_workflow_serves_many_threads_at_once():
    workflow = mapped(fail_at_threes, batch_size=2)

    def run(offset):
        return workflow.execute(range(offset, offset + 30)).output

    with ThreadPoolExecutor(8) as pool:
        for offset, output in enumerate(pool.map(run, range(24))):
            expected = range(offset, offset + 30)
            assert [it for it in output if isinstance(it, int)] == [
                item for item in expected if item % 3
            ]
            assert len(output.failed) == 10


def test_two_executions_share_a_pool_of_somebody_else():
    with ThreadPoolExecutor(2) as pool:
        workflow = mapped(double, executor=pool, batch_size=3)
        runs = [workflow.start(range(50)) for _ in range(2)]
        for run in runs:
            assert run.wait(20)
            assert run.output == [2 * i for i in range(50)]
        assert pool.submit(double, 4).result() == 8


def test_the_executor_of_an_execution_takes_precedence():
    workflow = mapped(lambda item: threading.get_ident(), batch_size=2)
    output = workflow.execute(range(4), executor="inline").output
    assert set(output) == {threading.get_ident()}


# --- definition ---------------------------------------------------------------------


@pytest.mark.parametrize(
    "options, problem",
    [
        ({"items": 1.5}, "items is a key of the step's input or a callable of it"),
        ({"batch_size": 0}, "batch_size is a whole number from 1, not 0"),
        ({"batch_size": True}, "batch_size is a whole number from 1, not True"),
        ({"max_workers": 0}, "max_workers is a whole number from 1, not 0"),
        ({"tolerated_failures": "10"}, "tolerated_failures is a count from 0"),
        ({"tolerated_failures": -1}, "tolerated_failures is a count from 0"),
        ({"timeout": 0}, "timeout is seconds above 0"),
        ({"timeout": 1, "executor": "inline"}, "timeout cannot be honoured"),
        ({"executor": "threads"}, "did you mean 'thread'"),
        ({"retry": 3}, "retry is a RetryPolicy"),
        ({"params": {"no": 1}}, "no"),
        ({"branch": {1: "End"}}, "list"),
        ({"func": 5}, "5"),
        ({"func": {"a": double}}, "a"),
        ({"func": nested(), "batch_size": 2}, "batch_size goes with a function"),
        ({"func": nested(), "params": {"a": 1}}, "params binds arguments"),
        ({"items": later}, "items is later, which is async, which gives no answer"),
        ({"items": lambda: []}, "which cannot be called with one value: too many"),
        ({"items": lambda a, b: []}, "which cannot be called with one value: missing"),
    ],
)
def test_what_is_unsound_is_refused(options, problem):
    with pytest.raises(DefinitionError) as caught:
        mapped(**{"func": double, **options})
    (found,) = caught.value.problems
    assert problem in found


def test_all_problems_are_named_at_once():
    with pytest.raises(DefinitionError) as caught:
        mapped(double, batch_size=0, items=1.5, max_workers=0, executor="here")
    assert len(caught.value.problems) == 4


def test_a_map_inside_itself_is_refused():
    workflow = StepFunction("Work")
    with pytest.raises(DefinitionError, match="would run inside itself"):
        workflow.add_map_step("Map", workflow)
