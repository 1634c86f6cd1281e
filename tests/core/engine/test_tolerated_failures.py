"""How many failures parallel steps and map steps tolerate that say nothing of it."""

from __future__ import annotations

import json

import pytest

from stepfunction import DefinitionError, Status, StepExecutionError, StepFunction


def fine(value):
    return value


def fail(value):
    raise ValueError(f"cannot take {value}")


TASKS = {"good": fine, "bad": fail}


def failed_tasks(results):
    return [*results.failed]


def failed_of(error):
    return sorted(error.errors)


def workflow_of(method, *args, catch_all=None, **options):
    workflow = StepFunction("Shop", on_failure=catch_all).set_start_step("Many")
    getattr(workflow, method)("Many", *args, next_step="Next", **options)
    workflow.add_step("Next", failed_tasks)
    if catch_all or "on_failure" in options:
        workflow.add_step("Sorry", failed_of)
    return workflow


def specified(**options):
    return workflow_of("add_step", TASKS, parallel=True, **options)


def parallel(**options):
    return workflow_of("add_parallel_step", TASKS, **options)


def mapped(**options):
    return workflow_of("add_map_step", lambda it: TASKS[it](it), **options)


def test_add_step_tolerates_every_failure_where_nothing_is_said_of_one():
    execution = specified().execute(1)
    assert execution.output == ["bad"]
    assert execution.status is Status.COMPLETED


@pytest.mark.parametrize("options", [{"on_failure": "Sorry"}, {"catch_all": "Sorry"}])
def test_add_step_tolerates_none_where_a_failure_leads_somewhere(options):
    assert specified(**options).execute(1).output == ["bad"]
    assert "Sorry" in specified(**options).execute(1).context


def test_add_step_that_stops_tolerates_none():
    with pytest.raises(StepExecutionError):
        specified(stop_on_failure=True, executor="inline").execute(1)


@pytest.mark.parametrize("build", [parallel, mapped])
def test_what_is_ours_tolerates_none(build):
    with pytest.raises(StepExecutionError) as caught:
        build().execute([*TASKS])
    assert len(caught.value.errors) == 1


@pytest.mark.parametrize("build", [parallel, mapped])
def test_what_is_ours_tolerates_what_it_says(build):
    assert len(build(tolerated_failures="50%").execute([*TASKS]).output) == 1
    assert len(build(tolerated_failures=1).execute([*TASKS]).output) == 1


def test_when_one_fails_the_others_run_to_their_end():
    ran = []
    tasks = {"bad": fail, "good": ran.append}
    workflow = StepFunction("W").add_parallel_step("A", tasks, executor="inline")
    with pytest.raises(StepExecutionError):
        workflow.set_start_step("A").execute(1)
    assert ran == [1]


def test_a_catch_all_takes_the_failure_of_all_tasks_and_of_all_items():
    for build in (specified, parallel, mapped):
        execution = build(catch_all="Sorry").execute([*TASKS])
        assert "Sorry" in execution.context
        assert execution.status is Status.FAILED


def test_add_step_is_the_same_step_as_the_parallel_step_that_tolerates_all():
    assert specified().compile() == parallel(tolerated_failures="100%").compile()
    assert specified(on_failure="Sorry").compile() == parallel(
        on_failure="Sorry"
    ).compile()
    assert specified().compile() != parallel().compile()


def test_the_compiled_step_has_its_threshold():
    action = specified().compile().steps["Many"].action
    assert (action.tolerated, action.share) == (2, "100%")
    action = specified(catch_all="Sorry").compile().steps["Many"].action
    assert (action.tolerated, action.share) == (0, None)


@pytest.mark.parametrize("build", [specified, parallel, mapped])
@pytest.mark.parametrize("options", [{}, {"catch_all": "Sorry"}])
def test_a_document_has_the_threshold(build, options):
    names = {"fine": fine, "fail": fail, "failed_tasks": failed_tasks}
    workflow = StepFunction("W", on_failure="Sorry" if options else None)
    if build is mapped:
        workflow.add_map_step("A", fine)
    elif build is parallel:
        workflow.add_parallel_step("A", TASKS)
    else:
        workflow.add_step("A", TASKS, parallel=True)
    document = json.loads(workflow.to_json(names))
    is_tolerant = build is specified and not options
    told = document["steps"]["A"].get("tolerated_failures")
    assert told == ("100%" if is_tolerant else None)
    assert StepFunction.from_dict(document, names).steps == workflow.steps


def test_a_parallel_step_has_what_a_parallel_step_has():
    workflow = StepFunction("W").set_start_step("A")
    workflow.add_step("A", fine, "B")
    workflow.add_parallel_step(
        "B",
        {"x": lambda a, by: a * by, "y": lambda a, by: a + by},
        next_step="C",
        params={"by": 3},
        inputs={"a": "A"},
        max_workers=1,
        executor="thread",
        timeout=60,
    )
    workflow.add_step("C", dict)
    assert workflow.execute(2).output == {"x": 6, "y": 5}


def test_a_parallel_step_of_one_callable_is_refused():
    with pytest.raises(DefinitionError, match="each by its name, but was given one"):
        StepFunction("W").add_parallel_step("A", fine)


@pytest.mark.parametrize("method", ["add_parallel_step", "add_map_step"])
def test_after_what_a_step_does_all_goes_by_name(method):
    with pytest.raises(TypeError, match="positional"):
        getattr(StepFunction("W"), method)("A", TASKS, None, "B")
