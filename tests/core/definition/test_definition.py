from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest

from stepfunction import DefinitionError, RetryPolicy, StepFunction


def work(value):
    return value


def work_with(value, rate):
    return value * rate


def any_rate(value, rate=1):
    return value * rate


def choose(output):
    return "Next"


async def stream(value):
    yield value


class Named:
    def __init__(self, name):
        self.name = name

    def __repr__(self):
        return f"<{self.name}>"


def refusal(call):
    with pytest.raises(DefinitionError) as raised:
        call()
    return raised.value


NEITHER = "executor is 'inline', 'thread', 'process' or a concurrent.futures.Executor, "
NO_TASKS = "a parallel step needs one task at least"
ONE_FUNCTION = (
    "a parallel step runs several tasks, each by its name, but was given one; "
    "give {'task name': callable, …}"
)
NEEDS_PARALLEL = "func is a mapping of tasks; add parallel=True to run them all"
NEEDS_TARGETS = (
    "branch is a callable, so give branch_targets=['…'], the names of the steps it may "
    "choose; checking and drawing cannot call it"
)
NEEDS_CHOOSER = "branch_targets goes with a branch that is a callable"
MAPPING_BRANCH = (
    "branch is a mapping, but the output of a parallel step, itself a mapping, can be "
    "no key of it; let branch be a callable of the output, with branch_targets"
)
ENDS_AND_LEADS_ON = (
    "ends says how an execution that ends here has ended, but next_step or branch "
    "leads on from here; leave out one or the other"
)
TOLERATED = (
    "tolerated_failures is a count from 0, or a share of the tasks such as '10%'"
)
TASKS = {"One": work, "Two": work}

REFUSED_STEPS = {
    "next_step": [
        ({"next_step": 3}, "next_step is the name of a step, not 3"),
        ({"next_step": ["B"]}, "next_step is the name of a step, not ['B']"),
    ],
    "on_failure": [
        (
            {"on_failure": 3},
            "on_failure is the name of a step or a mapping of exception class to name, "
            "not 3",
        ),
        (
            {"on_failure": {}},
            "on_failure is empty; leave it out, or say where failures lead",
        ),
        (
            {"on_failure": {"ValueError": "B"}},
            "on_failure has the key 'ValueError', which is no exception class",
        ),
        (
            {"on_failure": {int: "B"}},
            "on_failure has the key <class 'int'>, which is no exception class",
        ),
        (
            {"on_failure": {ValueError: 3}},
            "on_failure[ValueError] is the name of a step, not 3",
        ),
        (
            {"on_failure": {LookupError: "B", KeyError: "C"}},
            "on_failure asks for KeyError after LookupError, which takes it already; "
            "put the narrower class first",
        ),
        (
            {"on_failure": {KeyError: "B", OSError: "C", TimeoutError: "D"}},
            "on_failure asks for TimeoutError after OSError, which takes it already; "
            "put the narrower class first",
        ),
    ],
    "branch": [
        (
            {"branch": 3},
            "branch is a mapping of result to step, a list of pairs of predicate and "
            "step, or a callable of the output that "
            "gives a step's name, not 3",
        ),
        (
            {"branch": "B"},
            "branch is a mapping of result to step, a list of pairs of predicate and "
            "step, or a callable of the output that "
            "gives a step's name, not 'B'",
        ),
        (
            {"branch": {}},
            "branch is empty; leave it out, or say where results lead",
        ),
        (
            {"branch": {"yes": "B", "no": None}},
            "branch['no'] is the name of a step, not None",
        ),
        ({"branch": choose}, NEEDS_TARGETS),
        ({"branch": choose, "branch_targets": []}, NEEDS_TARGETS),
        (
            {"branch": choose, "branch_targets": "Next"},
            "branch_targets is a list of names, not the text 'Next'",
        ),
        ({"branch": choose, "branch_targets": ["Next", 3]}, NEEDS_TARGETS),
        ({"branch_targets": ["B"]}, NEEDS_CHOOSER),
        ({"branch": {"yes": "B"}, "branch_targets": ["B"]}, NEEDS_CHOOSER),
        (
            {"func": TASKS, "parallel": True, "branch": {"yes": "B"}},
            MAPPING_BRANCH,
        ),
    ],
    "ends": [
        ({"ends": "done"}, "ends is 'completed' or 'failed', not 'done'"),
        ({"ends": True}, "ends is 'completed' or 'failed', not True"),
        ({"ends": "failed", "next_step": "B"}, ENDS_AND_LEADS_ON),
        ({"ends": "completed", "branch": {"yes": "B"}}, ENDS_AND_LEADS_ON),
    ],
    "executor": [
        (
            {"executor": "threads"},
            f"{NEITHER}not 'threads' (did you mean 'thread'?)",
        ),
        ({"executor": "cluster"}, f"{NEITHER}not 'cluster'"),
        ({"executor": 3}, f"{NEITHER}not 3"),
        ({"executor": Named("pool")}, f"{NEITHER}not <pool>"),
        (
            {"executor": ThreadPoolExecutor},
            f"{NEITHER}not the class ThreadPoolExecutor; make one of it",
        ),
    ],
    "retry": [
        (
            {"retry": 3},
            "retry is a RetryPolicy or a tenacity.Retrying, not 3; "
            "write retry=RetryPolicy(max_attempts=3)",
        ),
        (
            {"retry": RetryPolicy},
            "retry is a RetryPolicy or a tenacity.Retrying, not "
            "<class 'stepfunction.core.workers.retry.RetryPolicy'>",
        ),
    ],
    "params": [
        ({"params": 3}, "params is a mapping of parameter name to value, not 3"),
        (
            {"params": [("rate", 3)]},
            "params is a mapping of parameter name to value, not [('rate', 3)]",
        ),
        (
            {"params": {3: "rate"}},
            "params is a mapping of parameter name to value, not {3: 'rate'}",
        ),
        (
            {"func": work_with, "params": {"rat": 3, "rate": 2}},
            "params has 'rat', but work_with has no parameter of that name to give by "
            "keyword (did you mean 'rate'?)",
        ),
    ],
    "func": [
        ({"func": 3}, "func is 3, which cannot be called"),
        ({"func": None}, "func is None, which cannot be called"),
        ({"func": "work"}, "func is 'work', which cannot be called"),
        (
            {"func": work_with},
            "work_with also requires 'rate'; give it with params={'rate': …}",
        ),
        (
            {"func": stream},
            "stream is an async generator; a step returns one result, so collect the "
            "items and return them",
        ),
        (
            {"func": partial(stream)},
            "stream is an async generator; a step returns one result, so collect the "
            "items and return them",
        ),
        (
            {"func": StepFunction("Inner"), "params": {"rate": 3}},
            "params binds arguments of a function, but func is a workflow, which is "
            "given its input alone",
        ),
    ],
    "parallel": [
        ({"func": TASKS}, NEEDS_PARALLEL),
        ({"func": {}}, NEEDS_PARALLEL),
        ({"parallel": True}, ONE_FUNCTION),
        ({"func": StepFunction("Inner"), "parallel": True}, ONE_FUNCTION),
        ({"func": {}, "parallel": True}, NO_TASKS),
        (
            {"func": {3: work}, "parallel": True},
            "the name of a task is a text, not 3",
        ),
        (
            {"func": {"": work}, "parallel": True},
            "the name of a task is a text, not ''",
        ),
        (
            {"func": {"One": work, "Two": 2}, "parallel": True},
            "task 'Two': func is 2, which cannot be called",
        ),
        (
            {"func": {"One": work_with, "Two": work}, "parallel": True},
            "task 'One': work_with also requires 'rate'; give it with "
            "params={'rate': …}",
        ),
        (
            {
                "func": {"One": work_with, "Two": work},
                "parallel": True,
                "params": {"rate": 3},
            },
            "task 'Two': params has 'rate', but work has no parameter of that name to "
            "give by keyword",
        ),
        (
            {
                "func": {"One": any_rate, "Two": StepFunction("Inner")},
                "parallel": True,
                "params": {"rate": 3},
            },
            "task 'Two': params binds arguments of a function, but func is a workflow, "
            "which is given its input alone",
        ),
        ({"stop_on_failure": True}, "stop_on_failure goes with parallel=True"),
        ({"max_workers": 2}, "max_workers goes with parallel=True"),
        ({"tolerated_failures": 1}, "tolerated_failures goes with parallel=True"),
        ({"tolerated_failures": 0}, "tolerated_failures goes with parallel=True"),
        ({"max_workers": 0}, "max_workers goes with parallel=True"),
        *(
            (
                {"func": TASKS, "parallel": True, "max_workers": workers},
                f"max_workers is a whole number from 1, not {workers!r}",
            )
            for workers in (0, -1, 1.5, "2", True)
        ),
        *(
            (
                {"func": TASKS, "parallel": True, "tolerated_failures": tolerated},
                f"{TOLERATED}, not {tolerated!r}",
            )
            for tolerated in (-1, 0.1, "10", "101%", "-5%", "ten%", True, ["10%"])
        ),
    ],
}


@pytest.mark.parametrize(
    "arguments, problem",
    [
        pytest.param(*case, id=f"{topic}-{number}")
        for topic, cases in REFUSED_STEPS.items()
        for number, case in enumerate(cases, 1)
    ],
)
def test_add_step_refuses_a_mistake_and_says_what_to_do(arguments, problem):
    arguments = {"func": work, **arguments}
    workflow = StepFunction("Orders")

    error = refusal(lambda: workflow.add_step("A", **arguments))

    assert str(error) == f"step 'A': {problem}"
    assert error.problems == (problem,)
    assert not workflow.steps


@pytest.mark.parametrize("name", ["", None, 3, ["A"]])
def test_add_step_refuses_a_name_that_is_no_text(name):
    error = refusal(lambda: StepFunction("Orders").add_step(name, work))

    assert str(error) == f"step {name!r}: the name of a step is a text, not {name!r}"


def test_add_step_refuses_a_name_that_is_taken():
    workflow = StepFunction("Orders").add_step("A", work)

    error = refusal(lambda: workflow.add_step("A", choose))

    assert str(error) == (
        "step 'A': there is a step of this name already; give each its own"
    )


def test_a_refused_step_leaves_the_one_of_that_name_as_it_was():
    workflow = StepFunction("Orders").add_step("A", work).set_start_step("A")

    refusal(lambda: workflow.add_step("A", choose))

    assert workflow.execute("kept").output == "kept"


def test_add_step_names_every_mistake_of_a_call_at_once():
    error = refusal(
        lambda: StepFunction("Orders").add_step(
            "",
            work_with,
            next_step=3,
            on_failure=4,
            branch=5,
            stop_on_failure=True,
            branch_targets=["B"],
            executor="cluster",
            max_workers=2,
            tolerated_failures=1,
            retry=6,
            ends="done",
            params={"prize": 7},
        )
    )

    assert error.problems == (
        "the name of a step is a text, not ''",
        "next_step is the name of a step, not 3",
        "on_failure is the name of a step or a mapping of exception class to name, "
        "not 4",
        "ends is 'completed' or 'failed', not 'done'",
        ENDS_AND_LEADS_ON,
        "branch is a mapping of result to step, a list of pairs of predicate and "
        "step, or a callable of the output that gives "
        "a step's name, not 5",
        NEEDS_CHOOSER,
        f"{NEITHER}not 'cluster'",
        "retry is a RetryPolicy or a tenacity.Retrying, not 6; "
        "write retry=RetryPolicy(max_attempts=6)",
        "stop_on_failure goes with parallel=True",
        "max_workers goes with parallel=True",
        "tolerated_failures goes with parallel=True",
        "params has 'prize', but work_with has no parameter of that name to give by "
        "keyword",
        "work_with also requires 'rate'; give it with params={'rate': …}",
    )


def test_several_mistakes_are_listed_one_a_line():
    error = refusal(
        lambda: StepFunction("Orders").add_step("A", work, next_step=3, ends="done")
    )

    assert str(error) == (
        "step 'A': 3 problems\n"
        "  - next_step is the name of a step, not 3\n"
        "  - ends is 'completed' or 'failed', not 'done'\n"
        f"  - {ENDS_AND_LEADS_ON}"
    )


def test_every_mistake_of_every_task_is_named():
    error = refusal(
        lambda: StepFunction("Orders").add_step(
            "A", {"One": 1, "Two": work_with, "": work, "Four": work}, parallel=True
        )
    )

    assert error.problems == (
        "task 'One': func is 1, which cannot be called",
        "task 'Two': work_with also requires 'rate'; give it with params={'rate': …}",
        "the name of a task is a text, not ''",
    )


def test_every_mistake_of_a_failure_mapping_is_named():
    error = refusal(
        lambda: StepFunction("Orders").add_step(
            "A",
            work,
            on_failure={Exception: 1, KeyError: "B", "OSError": "C", ValueError: 2},
        )
    )

    assert error.problems == (
        "on_failure[Exception] is the name of a step, not 1",
        "on_failure asks for KeyError after Exception, which takes it already; "
        "put the narrower class first",
        "on_failure has the key 'OSError', which is no exception class",
        "on_failure asks for ValueError after Exception, which takes it already; "
        "put the narrower class first",
        "on_failure[ValueError] is the name of a step, not 2",
    )


@pytest.mark.parametrize("tolerated", [0, 2, "0%", "10%", "33.3%", "100%"])
def test_a_count_or_a_share_of_failures_may_be_tolerated(tolerated):
    workflow = StepFunction("Orders").add_step(
        "A", TASKS, parallel=True, tolerated_failures=tolerated
    )

    assert list(workflow.steps) == ["A"]


@pytest.mark.parametrize("targets", [["Next"], ("Next",)])
def test_a_callable_branch_names_its_targets_in_a_list_or_a_tuple(targets):
    workflow = StepFunction("Orders").add_step(
        "A", work, branch=choose, branch_targets=targets
    )

    assert list(workflow.steps) == ["A"]


@pytest.mark.parametrize("inner", [work, None, "Inner", StepFunction])
def test_add_sub_step_function_takes_a_workflow_alone(inner):
    error = refusal(lambda: StepFunction("Orders").add_sub_step_function("A", inner))

    assert str(error) == (
        f"step 'A': sub_step_function is a StepFunction, not {inner!r}"
    )


def test_add_sub_step_function_names_every_mistake_of_a_call_at_once():
    error = refusal(
        lambda: StepFunction("Orders").add_sub_step_function(
            "A", 5, next_step=3, ends="done"
        )
    )

    assert set(error.problems) == {
        "sub_step_function is a StepFunction, not 5",
        "next_step is the name of a step, not 3",
        "ends is 'completed' or 'failed', not 'done'",
        ENDS_AND_LEADS_ON,
    }


def test_add_sub_step_function_checks_its_other_arguments_like_add_step():
    error = refusal(
        lambda: StepFunction("Orders").add_sub_step_function(
            "A",
            StepFunction("Inner"),
            next_step=3,
            branch=choose,
            executor="cluster",
            retry=6,
        )
    )

    assert error.problems == (
        "next_step is the name of a step, not 3",
        NEEDS_TARGETS,
        f"{NEITHER}not 'cluster'",
        "retry is a RetryPolicy or a tenacity.Retrying, not 6; "
        "write retry=RetryPolicy(max_attempts=6)",
    )


@pytest.mark.parametrize("name", ["", None, 3])
def test_set_start_step_refuses_what_is_no_name(name):
    error = refusal(lambda: StepFunction("Orders").set_start_step(name))

    assert str(error) == (
        f"workflow 'Orders': the start step is the name of a step, not {name!r}"
    )


def test_a_refused_start_step_leaves_the_one_before():
    workflow = StepFunction("Orders").add_step("A", work).set_start_step("A")

    refusal(lambda: workflow.set_start_step(""))

    assert workflow.execute("kept").output == "kept"


@pytest.mark.parametrize("name", ["", None, 3, b"Orders"])
def test_a_workflow_without_a_name_is_refused(name):
    error = refusal(lambda: StepFunction(name))

    assert str(error) == (
        f"StepFunction: the name of a workflow is a text, not {name!r}"
    )


@pytest.mark.parametrize("max_steps", [0, -1, 1.5, "10", True])
def test_max_steps_is_a_whole_number_from_one(max_steps):
    error = refusal(lambda: StepFunction("Orders", max_steps=max_steps))

    assert str(error) == (
        f"StepFunction: max_steps is a whole number from 1, not {max_steps!r}"
    )


def test_a_workflow_names_every_mistake_of_its_own_at_once():
    error = refusal(lambda: StepFunction("", max_steps=0))

    assert str(error) == (
        "StepFunction: 2 problems\n"
        "  - the name of a workflow is a text, not ''\n"
        "  - max_steps is a whole number from 1, not 0"
    )


@pytest.mark.parametrize(
    "executor, problem",
    [
        ("proces", f"{NEITHER}not 'proces' (did you mean 'process'?)"),
        ("", f"{NEITHER}not ''"),
        (3, f"{NEITHER}not 3"),
        (["thread"], f"{NEITHER}not ['thread'] (did you mean 'thread'?)"),
        (Named("pool"), f"{NEITHER}not <pool>"),
    ],
)
def test_execute_refuses_what_is_no_executor(executor, problem):
    calls = []
    workflow = StepFunction("Orders").add_step("A", calls.append).set_start_step("A")

    error = refusal(lambda: workflow.execute(1, executor=executor))

    assert str(error) == f"execute: {problem}"
    assert calls == []


def test_execute_refuses_an_unsound_workflow_before_anything_runs():
    calls = []
    workflow = StepFunction("Orders").add_step("A", calls.append, next_step="B")

    error = refusal(lambda: workflow.set_start_step("A").execute(1))

    assert str(error) == (
        "workflow 'Orders': step 'A': next_step leads to 'B', which is no step"
    )
    assert calls == []


def test_a_definition_error_is_a_value_error():
    assert issubclass(DefinitionError, ValueError)
