from __future__ import annotations

import os
from functools import partial
from unittest.mock import Mock

import pytest

from stepfunction import (
    DefinitionError,
    NoBranchMatchedError,
    RetryPolicy,
    StepExecutionError,
    StepFunction,
)


def echo(value):
    return value


def is_big(value):
    return value > 9


def is_middle(value):
    return value > 4


SIZES = [(is_big, "Big"), (is_middle, "Middle")]


def sorting(branch=SIZES, next_step=None, func=echo, **more):
    workflow = StepFunction("Sort").set_start_step("Measure")
    workflow.add_step("Measure", func, branch=branch, next_step=next_step, **more)
    for name in ("Big", "Middle", "Small"):
        if name == next_step or any(name == target for _, target in branch):
            workflow.add_step(name, lambda value, name=name: name)
    return workflow


def problems(branch, **more):
    with pytest.raises(DefinitionError) as caught:
        StepFunction("Sort").add_step("Measure", echo, branch=branch, **more)
    return caught.value.problems


def failure(workflow, value=None):
    with pytest.raises(StepExecutionError) as caught:
        workflow.execute(value)
    return caught.value.__cause__


# --- what they choose ---------------------------------------------------------------


@pytest.mark.parametrize(("value", "step"), [(10, "Big"), (5, "Middle"), (1, "Small")])
def test_the_first_that_holds_counts(value, step):
    assert sorting(next_step="Small").execute(value).output == step


def test_their_order_matters():
    backwards = [(is_middle, "Middle"), (is_big, "Big")]
    assert sorting(backwards).execute(10).output == "Middle"


def test_those_after_the_first_that_holds_are_not_asked():
    asked = []

    def asking(name, answer):
        return lambda value: asked.append(name) or answer

    branch = [(asking(1, False), "Big"), (asking(2, True), "Middle")]
    sorting([*branch, (asking(3, True), "Small")]).execute(1)
    assert asked == [1, 2]


def test_pairs_may_be_lists_and_all_of_them_a_tuple():
    branch = tuple([holds, target] for holds, target in SIZES)
    assert sorting(branch).execute(5).output == "Middle"


def test_two_may_lead_to_the_same_step():
    branch = [(is_big, "Big"), (lambda value: value < 0, "Big")]
    assert sorting(branch).execute(-1).output == "Big"


class Answer:
    def __init__(self, answer):
        self.answer = answer

    def __bool__(self):
        return self.answer


@pytest.mark.parametrize("yes", [1, "x", [0], Answer(True)])
@pytest.mark.parametrize("no", [0, "", None, [], Answer(False)])
def test_what_is_true_holds(yes, no):
    branch = [(lambda value: no, "Big"), (lambda value: yes, "Middle")]
    assert sorting(branch).execute(1).output == "Middle"


class Threshold:
    def __call__(self, value):
        return value > 4


@pytest.mark.parametrize(
    "holds",
    [
        Threshold(),
        Threshold().__call__,
        partial(int.__le__, 5),
        (5).__le__,
        bool,
        Mock(return_value=True),
        lambda value, least=5: value >= least,
        lambda *values: values == (5,),
        lambda context: context == 5,
    ],
)
def test_a_predicate_is_any_callable_of_one_value(holds):
    assert sorting([(holds, "Big")], next_step="Small").execute(5).output == "Big"


def test_a_result_that_is_text_is_asked_about_too():
    workflow = sorting([(str.isdigit, "Big")], next_step="Small")
    assert workflow.execute("12").output == "Big"
    assert workflow.execute("twelve").output == "Small"


def test_an_enumeration_of_strings_may_name_the_steps():
    from enum import StrEnum

    class Size(StrEnum):
        BIG = "Big"

    execution = sorting([(is_big, Size.BIG)]).execute(10)
    assert execution.output == "Big"
    assert type(execution.history[1].step) is str


def test_a_parallel_step_may_have_conditions():
    workflow = StepFunction("Sort").set_start_step("Fan")
    branch = [(lambda results: results["a"] > 9, "Big")]
    tasks = {"a": echo, "b": echo}
    workflow.add_step("Fan", tasks, branch=branch, parallel=True, next_step="Small")
    workflow.add_pass_step("Big", "big").add_pass_step("Small", "small")
    assert [workflow.execute(n).output for n in (10, 1)] == ["big", "small"]


def test_a_map_step_may_have_conditions():
    branch = [(lambda results: len(results) > 1, "Big")]
    workflow = StepFunction("Sort").add_map_step("Each", echo, branch=branch)
    workflow.add_pass_step("Big").set_start_step("Each").validate()
    assert [arrow.target for arrow in workflow.steps["Each"].arrows()] == ["Big"]


def test_a_nested_workflow_may_have_conditions():
    inner = StepFunction("Inner").add_step("Echo", echo).set_start_step("Echo")
    workflow = StepFunction("Sort").set_start_step("Sub")
    workflow.add_sub_step_function("Sub", inner, branch=SIZES, next_step="Middle")
    workflow.add_pass_step("Big", "big").add_pass_step("Middle", "middle")
    assert [workflow.execute(n).output for n in (10, 1)] == ["big", "middle"]


def pid(value):
    return os.getpid()


@pytest.mark.parametrize("executor", ["thread", "process"])
def test_they_are_asked_in_the_calling_process(executor):
    here = []

    def is_elsewhere(found):
        here.append(os.getpid())
        return found != os.getpid()

    branch = [(is_elsewhere, "Big")]
    workflow = sorting(branch, next_step="Small", func=pid, executor=executor)
    expected = "Big" if executor == "process" else "Small"
    assert workflow.execute().output == expected
    assert here == [os.getpid()]


def test_with_a_retry_they_are_asked_of_the_result_alone():
    asked, calls = [], []

    def second_time(value):
        calls.append(value)
        if len(calls) == 1:
            raise KeyError(value)
        return value

    branch = [(lambda value: asked.append(value) or True, "Big")]
    policy = RetryPolicy(max_attempts=3, interval=0)
    assert sorting(branch, func=second_time, retry=policy).execute(1).output == "Big"
    assert (calls, asked) == ([1, 1], [1])


def test_the_record_says_where_they_led():
    execution = sorting().execute(5)
    assert [r.next_step for r in execution.history] == ["Middle", None]


# --- what goes wrong ----------------------------------------------------------------


def test_where_none_holds_and_there_is_no_default_the_step_fails():
    error = failure(sorting(), 1)
    assert isinstance(error, NoBranchMatchedError)
    assert str(error) == (
        "no condition of step 'Measure' holds for 1, of those that lead to 'Big', "
        "'Middle'; give next_step as the default"
    )
    assert (error.step, error.result, error.known) == ("Measure", 1, ("Big", "Middle"))


def test_that_is_not_retried():
    calls = []
    policy = RetryPolicy(max_attempts=3, interval=0)
    failure(sorting(func=lambda value: calls.append(value) or value, retry=policy), 1)
    assert calls == [1]


def raise_key_error(value):
    raise KeyError(value)


def test_a_predicate_that_raises_fails_the_step():
    branch = [(lambda value: False, "Big"), (raise_key_error, "Middle")]
    error = failure(sorting(branch), 1)
    assert isinstance(error, KeyError)
    assert error.__notes__ == [
        "raised by branch[1] of the step, raise_key_error, which leads to 'Middle'"
    ]


class Frozen(Exception):
    def __setattr__(self, name, value):
        raise AttributeError("frozen")


def raise_frozen(value):
    raise Frozen("no")


@pytest.mark.parametrize(
    "options",
    [
        {"branch": raise_frozen, "branch_targets": ["Big"]},
        {"branch": [(raise_frozen, "Big")]},
    ],
)
def test_an_exception_that_is_frozen_is_raised_as_it_is(options):
    workflow = StepFunction("Sort").add_step("Measure", echo, **options)
    workflow.add_step("Big", echo).set_start_step("Measure")
    error = failure(workflow, 1)
    assert isinstance(error, Frozen)
    assert "raised by" in error.__notes__[0]


def test_on_failure_takes_what_a_predicate_raises():
    workflow = sorting([(raise_key_error, "Big")], on_failure="Small")
    workflow.add_step("Small", lambda error, context: context.failure.input)
    assert workflow.execute(1).output == 1


class Undecided:
    def __bool__(self):
        raise ValueError("the truth of an array is ambiguous")


def test_an_answer_that_is_neither_true_nor_false_fails_the_step():
    branch = [(is_big, "Big"), (lambda value: Undecided(), "Middle")]
    error = failure(sorting(branch), 1)
    assert str(error) == "the truth of an array is ambiguous"
    assert "branch[1] of the step" in error.__notes__[0]


async def later(value):
    return False


def each(value):
    yield False


def test_an_answer_that_is_a_coroutine_fails_the_step():
    error = failure(sorting([(lambda value: later(value), "Big")]), 1)
    assert isinstance(error, TypeError)
    assert "returned a coroutine, which nothing awaits here" in str(error)


def test_a_chooser_that_returns_a_coroutine_fails_the_step():
    workflow = StepFunction("Sort").set_start_step("Measure").add_pass_step("Big")
    chooser = lambda value: later(value)  # noqa: E731
    workflow.add_step("Measure", echo, branch=chooser, branch_targets=["Big"])
    assert "returned a coroutine, which nothing awaits" in str(failure(workflow))


# --- definition ---------------------------------------------------------------------

LATE = "is async or a generator, which gives no answer when called"


class Slow:
    async def __call__(self, value):
        return False


@pytest.mark.parametrize(
    ("branch", "problem"),
    [
        ([], "branch is empty; leave it out, or say where results lead"),
        ([is_big], f"branch[0] is a pair of predicate and step, not {is_big!r}"),
        (["Big"], "branch[0] is a pair of predicate and step, not 'Big'"),
        ([(is_big, 1)], "branch[0] has 1, which is no name of a step"),
        ([("Big", "Big")], "branch[0] has 'Big', which is no predicate: a callable"),
        ([(later, "Big")], f"branch[0] has later, which {LATE}"),
        ([(partial(later), "Big")], f"branch[0] has later, which {LATE}"),
        ([(Slow(), "Big")], f"branch[0] has Slow, which {LATE}"),
        ([(each, "Big")], f"branch[0] has each, which {LATE}"),
        (
            [(lambda: True, "Big")],
            "branch[0] has <lambda>, which cannot be called with one value: "
            "too many positional arguments",
        ),
        (
            [(lambda a, b: True, "Big")],
            "branch[0] has <lambda>, which cannot be called with one value: "
            "missing a required argument: 'b'",
        ),
    ],
)
def test_what_is_no_condition_is_refused(branch, problem):
    assert problems(branch) == (problem,)


def test_all_that_is_wrong_is_named():
    assert len(problems([(later, 1), "Big", (1, "Big")])) == 4


def test_what_can_be_read_only_once_is_refused():
    branch = (pair for pair in SIZES)
    (problem,) = problems(branch)
    assert problem == (
        "branch is a mapping of result to step, a list of pairs of predicate and "
        "step, or a callable of the output that gives a step's name, "
        f"not {branch!r}; make a list of it"
    )


def test_branch_targets_do_not_go_with_them():
    assert problems(SIZES, branch_targets=["Big"]) == (
        "branch_targets goes with a branch that is a callable",
    )


@pytest.mark.parametrize(("chooser", "what"), [(later, "later"), (each, "each")])
def test_a_chooser_answers_at_once(chooser, what):
    (problem,) = problems(chooser, branch_targets=["Big"])
    assert problem == f"branch is {what}, which {LATE}"


def test_a_chooser_takes_the_output():
    (problem,) = problems(lambda: "Big", branch_targets=["Big"])
    assert "<lambda>, which cannot be called with one value: too many" in problem


def test_an_unknown_step_is_named_with_its_predicate():
    workflow = StepFunction("Sort").set_start_step("Measure")
    workflow.add_step("Measure", echo, branch=[(is_big, "Bigg")]).add_step("Big", echo)
    with pytest.raises(DefinitionError) as caught:
        workflow.validate()
    assert caught.value.problems == (
        "step 'Measure': branch 'is_big' leads to 'Bigg', which is no step "
        "(did you mean 'Big'?)",
    )


def test_a_later_change_of_the_list_changes_nothing():
    branch = [*SIZES]
    workflow = sorting(branch)
    branch.reverse()
    assert workflow.execute(10).output == "Big"
