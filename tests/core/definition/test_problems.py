from __future__ import annotations

import copy
import pickle

import pytest

from stepfunction import DefinitionError, RetryPolicy, StepFunction
from stepfunction.core.errors import Problem


def same(value):
    return value


def takes(value, rate):
    return value


class NeitherTrueNorFalse:
    def __eq__(self, other):
        return self

    def __bool__(self):
        raise ValueError("the truth value is ambiguous")


def problems(method, *args, **options):
    with pytest.raises(DefinitionError) as caught:
        getattr(StepFunction("W"), method)("A", *args, **options)
    return caught.value.problems


MISTAKES = [
    ("add_step", [same], {"next_step": 3}, ("next_step",)),
    ("add_step", [same], {"on_failure": {}}, ("on_failure",)),
    ("add_step", [same], {"branch": {}}, ("branch",)),
    ("add_step", [same], {"branch_targets": ["B"]}, ("branch_targets",)),
    ("add_step", [same], {"branch": same, "branch_targets": "B"}, ("branch_targets",)),
    ("add_step", [same], {"ends": "well"}, ("ends",)),
    ("add_step", [same], {"ends": NeitherTrueNorFalse()}, ("ends",)),
    ("add_step", [same], {"executor": "gpu"}, ("executor",)),
    ("add_step", [same], {"retry": 3}, ("retry",)),
    ("add_step", [same], {"timeout": -1, "executor": "thread"}, ("timeout",)),
    ("add_step", [same], {"timeout": 1}, ("timeout",)),
    ("add_step", [same], {"heartbeat": 1, "executor": "thread"}, ("heartbeat",)),
    ("add_step", [same], {"max_workers": 3}, ("max_workers",)),
    ("add_step", [same], {"params": {"x": 1}}, ("params",)),
    ("add_step", [same], {"inputs": {}}, ("inputs",)),
    ("add_step", [same], {"compensate": 3}, ("compensate",)),
    ("add_step", [3], {}, ("func",)),
    ("add_step", [takes], {}, ("params",)),
    ("add_step", [{"pay": 3}], {"parallel": True}, ("tasks", "pay")),
    ("add_parallel_step", [{"pay": takes}], {}, ("tasks", "pay")),
    ("add_parallel_step", [{}], {}, ("tasks",)),
    ("add_map_step", [same, 1.5], {}, ("items",)),
    ("add_map_step", [same], {"batch_size": 0}, ("batch_size",)),
    ("add_map_step", [same], {"tolerated_failures": "x"}, ("tolerated_failures",)),
    ("add_step", [same], {"params": NeitherTrueNorFalse()}, ("params",)),
    (
        "add_map_step",
        [StepFunction("Nested")],
        {"batch_size": NeitherTrueNorFalse()},
        ("batch_size",),
    ),
    (
        "add_map_step",
        [same],
        {"tolerated_failures": NeitherTrueNorFalse()},
        ("tolerated_failures",),
    ),
    ("add_sub_step_function", [same], {}, ("sub_step_function",)),
    ("add_wait_step", [], {"seconds": -1}, ("seconds",)),
    ("add_wait_step", [], {"until": 3}, ("until",)),
    ("add_wait_step", [], {}, ()),
    ("add_pass_step", [(it for it in ())], {}, ("result",)),
    ("add_fail_step", [3], {}, ("error",)),
    ("add_fail_step", ["E", 3], {}, ("cause",)),
]


@pytest.mark.parametrize(("method", "args", "options", "path"), MISTAKES)
def test_a_problem_knows_what_it_is_about(method, args, options, path):
    (problem,) = problems(method, *args, **options)
    assert problem.path == path
    assert problem.argument == (path[0] if path else "")
    assert problem == problem.text + problem.hint


def test_that_a_workflow_would_run_inside_itself_is_about_the_workflow():
    workflow = StepFunction("W")
    with pytest.raises(DefinitionError) as caught:
        workflow.add_sub_step_function("A", workflow)
    (problem,) = caught.value.problems
    assert problem.argument == "sub_step_function"


@pytest.mark.parametrize(
    ("options", "argument"),
    [
        ({"name": 3}, "name"),
        ({"name": "W", "max_steps": 0}, "max_steps"),
        ({"name": "W", "keep_history": 0}, "keep_history"),
        ({"name": "W", "on_failure": {}}, "on_failure"),
    ],
)
def test_a_problem_of_a_workflow_knows_what_it_is_about(options, argument):
    with pytest.raises(DefinitionError) as caught:
        StepFunction(**options)
    (problem,) = caught.value.problems
    assert problem.argument == argument


def test_a_problem_of_a_retry_policy_knows_what_it_is_about():
    with pytest.raises(DefinitionError) as caught:
        RetryPolicy(interval=-1)
    (problem,) = caught.value.problems
    assert problem.argument == "interval"


def test_a_hint_stands_apart_from_what_is_wrong():
    (problem,) = problems("add_step", takes)
    assert problem.text == "takes also requires 'rate'"
    assert problem.hint == "; give it with params={'rate': …}"


def pickled(it):
    return pickle.loads(pickle.dumps(it))


@pytest.mark.parametrize("copied", [copy.deepcopy, pickled])
def test_a_problem_survives_pickling_and_copying(copied):
    error = DefinitionError("step 'A'", problems("add_parallel_step", {"pay": takes}))
    (problem,) = copied(error).problems
    assert type(problem) is Problem
    assert (problem.path, problem.text) == (
        ("tasks", "pay"),
        "task 'pay': takes also requires 'rate'",
    )
    assert str(copied(error)) == str(error)


def test_tasks_in_the_place_of_a_map_steps_function_are_told_what_runs_them():
    with pytest.raises(DefinitionError) as caught:
        StepFunction("W").add_map_step("A", {"task": str})
    assert caught.value.problems == (
        "func is a mapping of tasks; add_parallel_step() runs them all",
    )
