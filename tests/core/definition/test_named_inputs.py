from __future__ import annotations

import asyncio
import os
import pickle
import threading
from collections import namedtuple
from concurrent.futures import ThreadPoolExecutor
from enum import StrEnum
from functools import partial

import pytest
from shared.definitions import everything, problems_of

from stepfunction import (
    Context,
    DefinitionError,
    Execution,
    Outcome,
    RetryPolicy,
    StepExecutionError,
    StepFunction,
    TransferError,
)

# --- what steps do --------------------------------------------------------------------


def parse(value):
    return {"amount": value}


def fetch_rate(value):
    return 1.5


def price(order, rate):
    return order["amount"] * rate


def price_by_keyword(*, order, rate=1):
    return order["amount"] * rate


def price_with(order, rate, factor=1, *, context: Context):
    return order["amount"] * rate * factor, context.step, context["Parse"]


async def price_soon(order, rate):
    await asyncio.sleep(0)
    return order["amount"] * rate


def nothing():
    return "nothing"


def only_rate(rate):
    return rate


def only_order(order):
    return order


def by_position(order, /, rate):
    return order


def lock(value):
    return threading.Lock()


def process_of(order):
    return order, os.getpid()


def oops(**named):
    raise LookupError("no")


def name_failure(context: Context):
    assert context.failure is not None
    return context.failure.input


def passes(value):
    return value


def hang(order):
    threading.Event().wait()


class Basket:
    def __init__(self, order, rate):
        self.order = order
        self.rate = rate

    def total(self, order, rate):
        return order["amount"] * rate

    def __call__(self, order, rate):
        return order["amount"] * rate


# --- workflows ------------------------------------------------------------------------

BOTH = {"order": "Parse", "rate": "Fetch_Rate"}


def pricing(func=price, inputs=BOTH, **options):
    workflow = StepFunction("Pricing")
    workflow.add_step("Parse", parse, next_step="Fetch_Rate")
    workflow.add_step("Fetch_Rate", fetch_rate, next_step="Between")
    workflow.add_step("Between", str, next_step="Price")
    workflow.add_step("Price", func, inputs=inputs, **options)
    return workflow.set_start_step("Parse")


def chain(*names):
    """Give a workflow of steps that follow each other and pass on their input."""
    workflow = StepFunction("w")
    for name, follower in zip(names, [*names[1:], None]):
        workflow.add_step(name, passes, follower)
    return workflow.set_start_step(names[0])


def refused(func, inputs=BOTH, **options):
    with pytest.raises(DefinitionError) as caught:
        StepFunction("w").add_step("Price", func, inputs=inputs, **options)
    return list(caught.value.problems)


# --- what a function is given ---------------------------------------------------------


@pytest.mark.parametrize(
    "func",
    [
        price,
        price_by_keyword,
        price_soon,
        lambda rate, order: order["amount"] * rate,
        lambda order, rate, factor=1: order["amount"] * rate * factor,
        lambda order, *others, rate: order["amount"] * rate,
        partial(lambda how, order, rate: how(order, rate), price),
        partial(price, rate=9),
        Basket({}, 0).total,
        Basket({}, 0),
    ],
)
def test_a_function_is_given_the_named_outputs_as_keyword_arguments(func):
    assert pricing(func).execute(20).output == 30


def test_the_output_of_the_step_before_is_not_given():
    assert pricing(everything).execute(20).output == {
        "order": {"amount": 20},
        "rate": 1.5,
    }


def test_a_function_may_be_given_less_than_it_has_parameters_for():
    workflow = pricing(price_by_keyword, {"order": "Parse"})
    assert workflow.execute(20).output == 20


def test_params_and_the_context_are_given_beside_named_inputs():
    workflow = pricing(price_with, params={"factor": 2})
    assert workflow.execute(20).output == (60, "Price", {"amount": 20})


def test_params_may_give_what_no_step_does():
    workflow = pricing(price, {"order": "Parse"}, params={"rate": 3})
    assert workflow.execute(20).output == 60


def test_a_parameter_named_context_is_the_context_beside_named_inputs():
    workflow = pricing(lambda rate, context: context["Parse"], {"rate": "Parse"})
    assert workflow.execute(20).output == {"amount": 20}


def test_a_parameter_named_context_may_be_a_named_input():
    workflow = pricing(lambda context: context, {"context": "Fetch_Rate"})
    assert workflow.execute(20).output == 1.5


def test_keywords_that_are_called_context_are_no_context():
    workflow = pricing(lambda **context: context, {"rate": "Fetch_Rate"})
    assert workflow.execute(20).output == {"rate": 1.5}


def test_a_class_is_called_with_named_inputs():
    basket = pricing(Basket).execute(20).output
    assert (basket.order, basket.rate) == ({"amount": 20}, 1.5)


def test_a_named_tuple_is_made_of_named_inputs():
    made = pricing(namedtuple("Made", "rate order")).execute(20).output
    assert made == (1.5, {"amount": 20})


def test_a_builtin_without_a_signature_is_given_named_inputs():
    assert pricing(dict).execute(20).output == {"order": {"amount": 20}, "rate": 1.5}


def test_one_step_may_be_the_source_of_several_inputs():
    workflow = pricing(lambda a, b: [a, b], {"a": "Fetch_Rate", "b": "Fetch_Rate"})
    assert workflow.execute(20).output == [1.5, 1.5]


def test_the_step_just_before_may_be_a_source():
    workflow = pricing(lambda text: text, {"text": "Between"})
    assert workflow.execute(20).output == "1.5"


def test_names_may_be_members_of_an_enum_of_texts():
    class Word(StrEnum):
        ORDER = "order"
        PARSE = "Parse"

    workflow = pricing(everything, {Word.ORDER: Word.PARSE})
    output = workflow.execute(20).output
    assert output == {"order": {"amount": 20}}
    (pair,) = workflow.steps["Price"].inputs
    assert pair == ("order", "Parse")
    assert [type(word) for word in (*pair, *output)] == [str, str, str]


def test_later_changes_of_the_mapping_do_not_matter():
    inputs = dict(BOTH)
    workflow = pricing(price, inputs)
    inputs["rate"] = "Nowhere"
    assert workflow.execute(20).output == 30


def test_an_object_is_given_as_it_is_and_not_as_a_copy():
    workflow = StepFunction("w").add_step("A", passes, next_step="D")
    workflow.add_step("D", lambda it: it, inputs={"it": "A"}).set_start_step("A")
    value = object()
    assert workflow.execute(value).output is value


@pytest.mark.parametrize(
    "source",
    [
        lambda workflow: workflow.add_pass_step("Source", 7, next_step="Take"),
        lambda workflow: workflow.add_wait_step("Source", seconds=0, next_step="Take"),
        lambda workflow: workflow.add_step("Source", passes, "Take", executor="thread"),
        lambda workflow: workflow.add_step(
            "Source", passes, "Take", retry=RetryPolicy(2, interval=0)
        ),
        lambda workflow: workflow.add_step("Source", chain("A"), "Take"),
    ],
    ids=["pass", "wait", "thread", "retry", "nested"],
)
def test_any_kind_of_step_may_be_a_source(source):
    workflow = StepFunction("w").add_step("Start", passes, next_step="Source")
    source(workflow)
    workflow.add_step("Take", lambda it: it, inputs={"it": "Source"})
    assert workflow.set_start_step("Start").execute(7).output == 7


def test_the_output_of_a_parallel_source_is_its_mapping():
    workflow = StepFunction("w").set_start_step("Both")
    workflow.add_step("Both", {"a": passes, "b": str}, "Take", parallel=True)
    workflow.add_step("Take", lambda both: dict(both), inputs={"both": "Both"})
    assert workflow.execute(1).output == {"a": 1, "b": "1"}


# --- where it runs --------------------------------------------------------------------


@pytest.mark.parametrize("executor", ["inline", "thread"])
def test_a_step_with_named_inputs_runs_on_any_executor(executor):
    assert pricing(price, executor=executor).execute(20).output == 30


def test_a_step_with_named_inputs_runs_in_a_foreign_pool():
    with ThreadPoolExecutor() as pool:
        assert pricing(price, executor=pool).execute(20).output == 30


def test_a_step_with_named_inputs_runs_in_a_process(lanes):
    workflow = pricing(process_of, {"order": "Parse"}, executor=lanes)
    order, process = workflow.execute(20).output
    assert order == {"amount": 20}
    assert process != os.getpid()


def before_a_process(lanes, inputs, **options):
    workflow = StepFunction("w").set_start_step("Parse")
    workflow.add_step("Parse", parse, next_step="Lock")
    workflow.add_step("Lock", lock, next_step="Price")
    workflow.add_step("Price", **options, executor=lanes, inputs=inputs)
    return workflow


@pytest.mark.parametrize(
    "options",
    [{"func": only_order}, {"func": {"a": only_order}, "parallel": True}],
    ids=["plain", "parallel"],
)
def test_a_process_is_sent_the_named_outputs_and_not_the_one_before(lanes, options):
    workflow = before_a_process(lanes, {"order": "Parse"}, **options)
    output = workflow.execute(20).output
    assert output == {"amount": 20} or dict(output) == {"a": {"amount": 20}}


def test_a_nested_workflow_in_a_process_is_sent_the_named_outputs_alone(lanes):
    options = {"func": chain("A")}
    workflow = before_a_process(lanes, {"order": "Parse"}, **options)
    assert workflow.execute(20).output == {"order": {"amount": 20}}


def test_a_nested_workflow_has_its_named_inputs_in_a_process_too(lanes):
    workflow = StepFunction("w").add_step("Nested", pricing(), executor=lanes)
    assert workflow.set_start_step("Nested").execute(20).output == 30


def test_a_named_output_that_cannot_be_sent_is_an_input_of_the_failed_step(lanes):
    workflow = before_a_process(lanes, {"order": "Lock"}, func=only_order)
    with pytest.raises(StepExecutionError) as caught:
        workflow.execute(20)
    assert isinstance(caught.value.__cause__, TransferError)
    execution = caught.value.execution
    assert isinstance(execution, Execution)
    assert execution.history[-1].input == {"order": execution.context["Lock"]}


class Counted:
    def __init__(self, path):
        self.path = path

    def __getstate__(self):
        with open(self.path, "a") as file:
            file.write("pickled\n")
        return self.__dict__


def test_the_named_outputs_are_pickled_once_for_all_tasks(lanes, tmp_path):
    path = tmp_path / "pickled"
    workflow = StepFunction("w").set_start_step("Make")
    workflow.add_step("Make", lambda value: Counted(path), next_step="Lock")
    workflow.add_step("Lock", lock, next_step="Use")
    tasks = {"a": nothing, "b": is_counted, "c": names_of}
    workflow.add_step(
        "Use", tasks, parallel=True, executor=lanes, inputs={"it": "Make"}
    )
    assert dict(workflow.execute().output) == {"a": "nothing", "b": True, "c": ["it"]}
    assert path.read_text() == "pickled\n"


def is_counted(it):
    return isinstance(it, Counted)


def names_of(**named):
    return list(named)


def test_the_context_of_a_process_names_inputs_as_the_way_out(lanes):
    workflow = pricing(price_with, executor=lanes)
    with pytest.raises(StepExecutionError, match=r"inputs=\{'…': 'Parse'\}"):
        workflow.execute(20)


# --- parallel steps -------------------------------------------------------------------


def test_each_task_is_given_the_inputs_that_it_has_parameters_for():
    tasks = {"both": price, "rate": only_rate, "all": everything, "none": nothing}
    output = pricing(tasks, parallel=True).execute(20).output
    named = {"order": {"amount": 20}, "rate": 1.5}
    assert dict(output) == {"both": 30, "rate": 1.5, "all": named, "none": "nothing"}


def test_a_task_that_is_a_workflow_is_given_a_dict_of_all_inputs():
    output = pricing({"nested": chain("A")}, parallel=True).execute(20).output
    assert output["nested"] == {"order": {"amount": 20}, "rate": 1.5}


def test_the_records_of_tasks_have_the_named_inputs_that_each_was_given():
    tasks = {"both": price, "rate": only_rate}
    execution = pricing(tasks, parallel=True, executor="inline").execute(20)
    all_inputs = {"order": {"amount": 20}, "rate": 1.5}
    of_step, *of_tasks = (record.input for record in execution.history[-3:])
    assert of_step == all_inputs
    assert of_tasks == [all_inputs, {"rate": 1.5}]


def test_a_named_input_that_no_task_takes_is_refused():
    tasks = {"order": only_order, "none": nothing}
    assert refused(tasks, {"order": "A", "ordr": "B"}, parallel=True) == [
        "inputs has 'ordr', but no task has a parameter of that name to give by "
        "keyword (did you mean 'order'?)"
    ]


def test_a_task_that_takes_anything_takes_every_input():
    tasks = {"order": only_order, "all": everything}
    workflow = pricing(tasks, {"order": "Parse", "it": "Fetch_Rate"}, parallel=True)
    assert workflow.execute(1).output["all"] == {"order": {"amount": 1}, "it": 1.5}


def test_what_a_task_requires_and_nothing_gives_is_refused_with_the_task():
    assert refused({"a": price}, {"order": "A"}, parallel=True) == [
        "task 'a': price also requires 'rate'; name a step for it in inputs, or give "
        "it with params={'rate': …}"
    ]


# --- nested workflows -----------------------------------------------------------------


def test_a_nested_workflow_is_given_a_dict_of_its_named_inputs():
    workflow = StepFunction("w").set_start_step("Parse")
    workflow.add_step("Parse", parse, next_step="Between")
    workflow.add_step("Between", str, next_step="Nested")
    inner = chain("A", "B")
    workflow.add_sub_step_function("Nested", inner, inputs={"order": "Parse"})
    execution = workflow.execute(20)
    assert execution.output == {"order": {"amount": 20}}
    assert execution.children["Nested"].input == {"order": {"amount": 20}}
    assert execution.history[-1].input == {"order": {"amount": 20}}


def test_names_in_a_nested_workflow_are_of_its_own_steps():
    inner = StepFunction("inner").set_start_step("A")
    inner.add_step("A", passes, next_step="B")
    inner.add_step("B", only_order, inputs={"order": "Parse"})
    outer = StepFunction("outer").set_start_step("Parse")
    outer.add_step("Parse", parse, next_step="Nested")
    outer.add_sub_step_function("Nested", inner)
    assert problems_of(outer) == [
        "step 'Nested': nested workflow 'inner': step 'B': inputs['order'] names "
        "'Parse', which is no step"
    ]


# --- failures, retries, records -------------------------------------------------------


def test_every_attempt_is_given_the_same_inputs():
    given = []

    def flaky(order):
        given.append(order)
        if len(given) < 3:
            raise OSError("again")
        return "done"

    retry = RetryPolicy(3, interval=0)
    execution = pricing(flaky, {"order": "Parse"}, retry=retry).execute(20)
    assert given == [{"amount": 20}] * 3
    assert execution.output == "done"
    assert execution.history[-1].input == {"order": {"amount": 20}}


def test_the_record_of_a_step_has_its_named_inputs():
    record = pricing().execute(20).history[-1]
    assert record.input == {"order": {"amount": 20}, "rate": 1.5}
    assert len(record.attempts) == 1


@pytest.mark.parametrize("executor", [None, "thread"])
def test_a_failure_step_sees_the_named_inputs_of_the_step_that_failed(executor):
    workflow = pricing(oops, executor=executor, on_failure="Sorry")
    workflow.add_step("Sorry", name_failure)
    assert workflow.execute(20).output == {"order": {"amount": 20}, "rate": 1.5}


def test_a_failure_step_may_have_named_inputs_of_its_own():
    workflow = StepFunction("w").set_start_step("Parse")
    workflow.add_step("Parse", parse, next_step="Fail")
    workflow.add_step("Fail", lambda value: value["no"], on_failure="Sorry")
    workflow.add_step(
        "Sorry",
        lambda order, context: (order, context.failure.step),
        inputs={"order": "Parse"},
    )
    assert workflow.execute(20).output == ({"amount": 20}, "Fail")


def test_a_branch_that_nothing_matches_leaves_the_named_inputs_in_the_record():
    workflow = pricing(branch={"never": "Parse_Again"}, on_failure="Sorry")
    workflow.add_step("Parse_Again", passes).add_step("Sorry", name_failure)
    assert workflow.execute(20).output == {"order": {"amount": 20}, "rate": 1.5}


def test_a_branch_goes_by_the_output_of_a_step_with_named_inputs():
    workflow = pricing(branch={30: "Thirty"})
    workflow.add_step("Thirty", passes)
    assert workflow.execute(20).output == 30


def test_an_interrupt_of_a_step_with_named_inputs_is_raised():
    def interrupt(order):
        raise KeyboardInterrupt

    workflow = pricing(interrupt, {"order": "Parse"})
    executions = set()
    with pytest.raises(KeyboardInterrupt):
        workflow.execute(20, listeners=[lambda it: executions.add(it.execution)])
    (execution,) = executions
    record = execution.history[-1]
    assert (record.outcome, record.input) == (
        Outcome.CANCELLED,
        {"order": {"amount": 20}},
    )


def test_a_timeout_leaves_the_named_inputs_in_the_record(lanes):
    workflow = pricing(
        hang, {"order": "Parse"}, executor=lanes, timeout=0.05, on_failure="Sorry"
    )
    workflow.add_step("Sorry", name_failure)
    assert workflow.execute(20).output == {"order": {"amount": 20}}


def test_listeners_hear_of_steps_with_named_inputs_as_of_others():
    kinds = []
    pricing().execute(20, listeners=[lambda event: kinds.append(event.kind)])
    assert kinds == [
        "execution_started",
        *["step_started", "step_succeeded"] * 4,
        "execution_ended",
    ]


@pytest.mark.parametrize("func", [price, {"a": price}], ids=["plain", "parallel"])
def test_named_inputs_survive_a_pickle_of_the_execution(func):
    execution = pricing(func, parallel=isinstance(func, dict)).execute(20)
    named = {"order": {"amount": 20}, "rate": 1.5}
    assert pickle.loads(pickle.dumps(execution)).history[3].input == named


# --- loops ----------------------------------------------------------------------------


def test_in_a_loop_the_latest_visit_gives_the_input():
    workflow = StepFunction("w", max_steps=20).set_start_step("Count")
    workflow.add_step("Count", lambda n: n + 1, next_step="Forget")
    workflow.add_step("Forget", lambda n: None, next_step="Look")
    workflow.add_step(
        "Look",
        lambda n: n,
        inputs={"n": "Count"},
        branch=[(lambda n: n < 4, "Count")],
        next_step="End",
    )
    workflow.add_step("End", lambda n: n * 10, inputs={"n": "Look"})
    execution = workflow.execute(0)
    assert execution.output == 40
    looked = [record.input for record in execution.history if record.step == "Look"]
    assert looked == [{"n": 1}, {"n": 2}, {"n": 3}, {"n": 4}]


def test_a_source_that_fails_and_is_performed_again_is_sound():
    workflow = StepFunction("w", max_steps=20).set_start_step("Fetch")
    attempts = []

    def fetch(value):
        attempts.append(value)
        return len(attempts) // (len(attempts) - 1)

    workflow.add_step("Fetch", fetch, next_step="Take", on_failure="Mend")
    workflow.add_step("Mend", lambda error: 2, next_step="Fetch")
    workflow.add_step("Take", lambda it: it, inputs={"it": "Fetch"})
    assert workflow.execute(0).output == 2


# --- arguments that are refused -------------------------------------------------------


@pytest.mark.parametrize(
    ("inputs", "problem"),
    [
        (
            ["Parse"],
            "inputs is a mapping of parameter name to the name of a step, not "
            "['Parse']",
        ),
        (
            "Parse",
            "inputs is a mapping of parameter name to the name of a step, not 'Parse'",
        ),
        ({}, "inputs is empty; leave it out, or say whose outputs the step takes"),
        ({3: "A"}, "inputs has the key 3, which can be no parameter's name"),
        ({"a b": "A"}, "inputs has the key 'a b', which can be no parameter's name"),
        ({"": "A"}, "inputs has the key '', which can be no parameter's name"),
        ({"a": 3}, "inputs['a'] is the name of a step, not 3"),
        ({"a": ""}, "inputs['a'] is the name of a step, not ''"),
        ({"a": passes}, f"inputs['a'] is the name of a step, not {passes!r}"),
    ],
)
def test_inputs_that_are_none_are_refused(inputs, problem):
    assert refused(lambda a: a, inputs) == [problem]
    assert refused(chain("A"), inputs) == [problem]
    assert refused({"t": lambda a: a}, inputs, parallel=True) == [problem]


def test_a_name_in_inputs_and_params_is_refused():
    assert refused(price, params={"rate": 1}) == [
        "inputs and params both have 'rate'; leave out one of them"
    ]


@pytest.mark.parametrize(
    ("func", "problems"),
    [
        (
            lambda ordr, rate=1: None,
            [
                "inputs has 'order', but <lambda> has no parameter of that name to "
                "give by keyword (did you mean 'ordr'?)",
                "<lambda> also requires 'ordr'; name a step for it in inputs, or give "
                "it with params={'ordr': …}",
            ],
        ),
        (
            lambda order, rate, other: None,
            [
                "<lambda> also requires 'other'; name a step for it in inputs, or give "
                "it with params={'other': …}"
            ],
        ),
        (
            by_position,
            [
                "inputs has 'order', but by_position has no parameter of that name to "
                "give by keyword",
                "by_position also requires 'order'; it is positional only, so wrap the "
                "function in one that gives it",
            ],
        ),
        (
            lambda *order, rate: None,
            [
                "inputs has 'order', but <lambda> has no parameter of that name to "
                "give by keyword"
            ],
        ),
        (7, ["func is 7, which cannot be called"]),
    ],
)
def test_a_function_that_cannot_be_given_its_named_inputs_is_refused(func, problems):
    assert refused(func) == problems


def test_the_parameter_that_takes_the_context_is_no_input():
    def work(it: Context):
        return it

    (problem,) = refused(work, {"it": "A"})
    assert problem.endswith("is given the Context for it; leave it out")


def test_a_context_that_is_positional_only_is_refused():
    def work(it: Context | None = None, /, *, order):
        return order

    (problem,) = refused(work, {"order": "A"})
    assert problem.endswith("which is positional only; remove the '/' after it")


def test_an_async_generator_with_named_inputs_is_refused():
    async def stream(order):
        yield order

    (problem,) = refused(stream, {"order": "A"})
    assert "is an async generator" in problem


def test_params_that_a_function_has_no_parameter_for_are_refused_beside_inputs():
    assert refused(only_order, {"order": "A"}, params={"ordr": 1}) == [
        "params has 'ordr', but only_order has no parameter of that name to give by "
        "keyword (did you mean 'order'?)"
    ]
