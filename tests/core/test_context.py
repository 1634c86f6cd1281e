from __future__ import annotations

import asyncio
import threading

import pytest
from shared.calls import say

from stepfunction import (
    Context,
    ProcessLanes,
    RetryPolicy,
    StepExecutionError,
    StepFunction,
    TransferError,
)

LOST = (
    "context['Price'] is not to be had in another process, which is sent the input of "
    "step 'Look' alone; name what it needs with inputs={'…': 'Price'}, "
    "or use executor='thread'"
)


def look(value, context):
    return context


def one(func, **arguments):
    return StepFunction("Shop").add_step("Look", func, **arguments)


def run(workflow, initial_input=None):
    return workflow.set_start_step("Look").execute(initial_input)


# --- a mapping ----------------------------------------------------------------------


def test_the_context_has_the_outputs_of_the_steps_so_far():
    workflow = StepFunction("Shop").set_start_step("Price")
    workflow.add_step("Price", say(17), next_step="Look")
    workflow.add_step("Look", lambda value, context: dict(context), next_step="Pay")
    workflow.add_step("Pay", lambda value, context: dict(context))
    execution = workflow.execute()
    assert execution.context["Look"] == {"Price": 17}
    assert execution.context["Pay"] == {"Price": 17, "Look": {"Price": 17}}


def test_the_context_of_the_first_step_is_empty():
    assert run(one(lambda value, context: len(context))).output == 0


def test_the_context_has_the_exceptions_of_failed_steps():
    error = ValueError("no price")

    def fail():
        raise error

    workflow = StepFunction("Shop").set_start_step("Price")
    workflow.add_step("Price", fail, on_failure="Look").add_step("Look", look)
    assert workflow.execute().output["Price"] is error


def test_the_context_has_the_whole_output_of_a_parallel_step():
    workflow = StepFunction("Shop").set_start_step("Update")
    workflow.add_step(
        "Update", {"pay": say(1), "ship": say(2)}, parallel=True, next_step="Look"
    )
    workflow.add_step("Look", lambda value, context: context["Update"])
    assert workflow.execute().output == {"pay": 1, "ship": 2}


def test_the_context_behaves_as_a_mapping():
    def ask(value, context):
        return (
            context["Price"],
            context.get("Missing", "default"),
            "Price" in context,
            "Look" in context,
            list(context),
            list(context.items()),
            len(context),
        )

    workflow = StepFunction("Shop").set_start_step("Price")
    workflow.add_step("Price", say(17), next_step="Look").add_step("Look", ask)
    expected = (17, "default", True, False, ["Price"], [("Price", 17)], 1)
    assert workflow.execute().output == expected


def test_a_step_that_has_not_run_is_a_key_error():
    with pytest.raises(StepExecutionError) as caught:
        run(one(lambda value, context: context["Pay"]))
    assert type(caught.value.__cause__) is KeyError


def test_the_context_is_read_only():
    def write(value, context):
        context["Price"] = 1

    def delete(value, context):
        del context["Price"]

    for func in (write, delete):
        with pytest.raises(StepExecutionError) as caught:
            run(one(func))
        assert type(caught.value.__cause__) is TypeError


def test_the_context_of_an_execution_is_read_only():
    execution = run(one(say(1)))
    with pytest.raises(TypeError):
        execution.context["Look"] = 2
    assert execution.context == {"Look": 1}


# --- what it says of the step -------------------------------------------------------


def test_the_context_knows_its_execution_and_its_step():
    execution = run(one(lambda value, context: (context.execution_id, context.step)))
    assert execution.output == (execution.id, "Look")


def test_on_the_main_path_there_is_no_task_no_failure_and_one_attempt():
    context = run(one(look)).output
    assert context.task is None
    assert context.failure is None
    assert context.attempt == 1
    assert context.cancelled is False


def test_a_failure_step_has_the_record_of_what_failed():
    workflow = StepFunction("W").add_step("Fail", lambda _: 1 / 0, on_failure="Tell")
    workflow.add_step("Tell", lambda error, context: (context.failed, context.failure))
    failed, failure = workflow.set_start_step("Fail").execute(17).output
    assert failed is failure
    assert (failed.step, failed.input) == ("Fail", 17)


def test_what_failed_is_not_to_be_had_on_the_main_path():
    with pytest.raises(StepExecutionError) as caught:
        run(one(lambda value, context: context.failed))
    error = caught.value.__cause__
    assert type(error) is AttributeError
    assert str(error) == (
        "no failure led to step 'Look', so there is no context.failed; a step that is "
        "on the main path too asks context.failure, which is None there"
    )


@pytest.mark.parametrize("executor", [None, "inline", "thread"])
def test_the_attempts_of_a_step_are_counted_from_one(executor):
    seen = []

    def try_hard(value, context):
        seen.append(context.attempt)
        if context.attempt < 3:
            raise ValueError(context.attempt)

    retry = RetryPolicy(max_attempts=3, interval=0)
    run(one(try_hard, retry=retry, executor=executor))
    assert seen == [1, 2, 3]


def test_the_attempts_of_each_task_are_counted_by_themselves():
    def try_hard(value, context):
        if context.task == "hard" and context.attempt < 2:
            raise ValueError(context.attempt)
        return context.attempt

    retry = RetryPolicy(max_attempts=3, interval=0)
    workflow = one({"hard": try_hard, "easy": try_hard}, parallel=True, retry=retry)
    assert run(workflow).output == {"hard": 2, "easy": 1}


def test_the_context_reads_well():
    assert repr(run(one(look)).output) == "<Context of 'Look', attempt 1>"
    output = run(one({"pay": look}, parallel=True)).output
    assert repr(output["pay"]) == "<Context of 'Look'.'pay', attempt 1>"


def test_a_nested_workflow_has_a_context_of_its_own():
    inner = one(lambda value, context: (dict(context), context.execution_id))
    outer = StepFunction("Outer").set_start_step("Price")
    outer.add_step("Price", say(17), next_step="Sub")
    outer.add_sub_step_function("Sub", inner.set_start_step("Look"))
    execution = outer.execute()
    assert execution.output == ({}, execution.children["Sub"].id)
    assert execution.children["Sub"].id != execution.id


def test_the_failure_of_the_outer_workflow_is_not_that_of_the_nested_one():
    def fail():
        raise ValueError("no price")

    outer = StepFunction("Outer").set_start_step("Price")
    outer.add_step("Price", fail, on_failure="Sub")
    outer.add_sub_step_function("Sub", one(look).set_start_step("Look"))
    assert outer.execute().output.failure is None


# --- how a function asks for it -----------------------------------------------------


def by_annotation(value, told: Context):
    return told


def by_keyword(value, *, context):
    return context


def by_annotation_alone(told: Context):
    return told


def by_optional_annotation(value, told: Context | None = None):
    return told


@pytest.mark.parametrize(
    "func", [by_annotation, by_keyword, by_annotation_alone, by_optional_annotation]
)
def test_a_parameter_named_context_or_annotated_is_given_the_context(func):
    context = run(one(func), "input").output
    assert type(context) is Context
    assert context.step == "Look"


def test_a_parameter_named_context_that_comes_first_takes_the_input():
    assert run(one(lambda context: context), "input").output == "input"


# --- in threads ---------------------------------------------------------------------


def test_a_thread_task_reads_the_context():
    def ask(value, context):
        return (context["Price"], context.step, context.task, context.execution_id)

    workflow = StepFunction("Shop").set_start_step("Price")
    workflow.add_step("Price", say(17), next_step="Look")
    workflow.add_step("Look", {"pay": ask, "ship": ask}, parallel=True)
    execution = workflow.execute()
    assert execution.output == {
        "pay": (17, "Look", "pay", execution.id),
        "ship": (17, "Look", "ship", execution.id),
    }


def test_a_thread_task_sees_the_failure_that_led_to_its_step():
    def fail():
        raise ValueError("no price")

    workflow = StepFunction("Shop").set_start_step("Price")
    workflow.add_step("Price", fail, on_failure="Look")
    workflow.add_step(
        "Look", {"tell": lambda value, context: context.failure}, parallel=True
    )
    execution = workflow.execute()
    failure = execution.output["tell"]
    assert (failure.step, failure.error) == ("Price", execution.error)


def test_a_thread_task_is_told_that_a_sibling_has_failed():
    begun = threading.Event()
    pause = threading.Event()

    def work(value, context):
        begun.set()
        while not context.cancelled:
            pause.wait(0.002)
        return "gave up"

    def fail():
        begun.wait()
        raise ValueError("stop")

    workflow = one({"work": work, "fail": fail}, parallel=True, stop_on_failure=True)
    with pytest.raises(StepExecutionError) as caught:
        run(workflow)
    assert str(caught.value.__cause__) == "stop"


def test_the_steps_after_a_stopped_one_are_not_cancelled():
    def fail():
        raise ValueError("stop")

    workflow = StepFunction("Shop").set_start_step("Pay")
    workflow.add_step(
        "Pay", {"card": fail}, parallel=True, stop_on_failure=True, on_failure="Look"
    )
    workflow.add_step("Look", lambda value, context: context.cancelled)
    assert workflow.execute().output is False


@pytest.mark.parametrize("executor", [None, "thread"])
def test_a_step_is_told_that_its_execution_was_cancelled(executor):
    begun, told, pause = threading.Event(), threading.Event(), threading.Event()

    def work(value, context):
        begun.set()
        while not context.cancelled:
            pause.wait(0.002)
        told.set()

    workflow = one(work, executor=executor).set_start_step("Look")

    async def cancel():
        task = asyncio.create_task(workflow.aexecute())
        await asyncio.to_thread(begun.wait)
        assert not told.is_set()
        task.cancel()
        await asyncio.wait([task])

    asyncio.run(cancel())
    assert told.is_set()


# --- in processes -------------------------------------------------------------------


@pytest.fixture(scope="module")
def lanes():
    with ProcessLanes(max_workers=1) as lanes:
        yield lanes


def tell_all(value, context):
    failure = context.failure
    return {
        "execution_id": context.execution_id,
        "step": context.step,
        "task": context.task,
        "attempt": context.attempt,
        "cancelled": context.cancelled,
        "failure": failure and (failure.step, failure.input, str(failure.error)),
        "tries": failure and len(failure.attempts),
    }


def succeed_at_the_second_attempt(value, context):
    if context.attempt < 2:
        raise ValueError("once more")
    return context.attempt


def look_up(value, context):
    return context["Price"]


def get(value, context):
    return context.get("Price", "default")


def ask_for(value, context):
    return "Price" in context


def count(value, context):
    return len(context)


def list_all(value, context):
    return list(context)


def refuse(value):
    raise ValueError(f"no price for {value}")


def test_a_process_task_is_told_where_it_is(lanes):
    workflow = one({"pay": tell_all}, parallel=True, executor=lanes)
    execution = run(workflow)
    assert execution.output["pay"] == {
        "execution_id": execution.id,
        "step": "Look",
        "task": "pay",
        "attempt": 1,
        "cancelled": False,
        "failure": None,
        "tries": None,
    }


def test_a_process_step_sees_its_attempts(lanes):
    retry = RetryPolicy(max_attempts=3, interval=0)
    workflow = one(succeed_at_the_second_attempt, executor=lanes, retry=retry)
    assert run(workflow).output == 2


def test_a_process_step_sees_the_failure_that_led_to_it(lanes):
    workflow = StepFunction("Shop").set_start_step("Price")
    retry = RetryPolicy(max_attempts=2, interval=0)
    workflow.add_step("Price", refuse, on_failure="Look", retry=retry)
    workflow.add_step("Look", tell_all, executor=lanes)
    told = workflow.execute("tea").output
    assert told["failure"] == ("Price", "tea", "no price for tea")
    assert told["tries"] == 2


def test_a_process_step_sees_a_failure_whose_input_cannot_be_pickled(lanes):
    workflow = StepFunction("Shop").set_start_step("Price")
    workflow.add_step("Price", say(threading.Lock()), next_step="Open")
    workflow.add_step("Open", refuse_short, on_failure="Look")
    workflow.add_step("Look", tell_failed_step, executor=lanes)
    assert workflow.execute().output == ("Open", "no")


def refuse_short(value):
    raise ValueError("no")


def tell_failed_step(value, context):
    return context.failure.step, str(context.failure.error)


@pytest.mark.parametrize("func", [look_up, get, ask_for])
def test_looking_up_a_step_in_a_process_fails_and_names_the_way_out(lanes, func):
    workflow = StepFunction("Shop").set_start_step("Price")
    workflow.add_step("Price", say(17), next_step="Look")
    workflow.add_step("Look", func, executor=lanes)
    with pytest.raises(StepExecutionError) as caught:
        workflow.execute()
    error = caught.value.__cause__
    assert type(error) is TransferError
    assert str(error) == LOST


@pytest.mark.parametrize("func", [count, list_all])
def test_listing_the_steps_in_a_process_fails_and_names_the_way_out(lanes, func):
    with pytest.raises(StepExecutionError) as caught:
        run(one(func, executor=lanes))
    error = caught.value.__cause__
    assert type(error) is TransferError
    assert str(error).endswith(
        "name what it needs with inputs={'…': '…'}, or use executor='thread'"
    )


def test_a_process_step_may_ignore_its_context(lanes):
    workflow = StepFunction("Shop").set_start_step("Price")
    workflow.add_step("Price", say(-17), next_step="Look")
    assert workflow.add_step("Look", abs, executor=lanes).execute().output == 17
