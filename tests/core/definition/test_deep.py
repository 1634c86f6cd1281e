"""Workflows that are nested deeper than an interpreter calls functions."""

from __future__ import annotations

import copy
import pickle
import sys

import pytest

from stepfunction import (
    DefinitionError,
    DrawingError,
    Execution,
    StepExecutionError,
    StepFunction,
    StepFunctionError,
    StoreError,
    TranscriptError,
)
from stepfunction.stores import SQLiteStore

WHY = "sys.setrecursionlimit"


def echo(value):
    return value


def refuse(value):
    raise ValueError("deep")


def recurse(value):
    return recurse(value)


def nest(depth, leaf=echo, **options):
    workflow = StepFunction("W0").add_step("A", leaf).set_start_step("A")
    for level in range(1, depth):
        outer = StepFunction(f"W{level}")
        outer.add_sub_step_function("S", workflow, **options)
        workflow = outer.set_start_step("S")
    return workflow


def all_in(workflow):
    found = {workflow}
    waiting = [workflow]
    while waiting:
        for step in waiting.pop().steps.values():
            inside = {it.nested for _, it in step.action.callees()} - {None}
            waiting += inside - found
            found |= inside
    return found


def levels(workflow):
    return len(all_in(workflow))


@pytest.mark.parametrize("depth", [2, 150, 900, 3_000])
def test_a_builder_is_copied_and_pickled_however_deep(depth):
    workflow = nest(depth)
    for other in (copy.deepcopy(workflow), pickle.loads(pickle.dumps(workflow))):
        assert levels(other) == depth
        assert not all_in(other) & all_in(workflow)


@pytest.mark.parametrize("depth", [2, 150, 900])
def test_graphs_are_compared_copied_and_pickled_however_deep(depth):
    graph = nest(depth).compile()
    assert graph == nest(depth).compile() != nest(depth, refuse).compile()
    assert copy.deepcopy(graph) == graph
    assert pickle.loads(pickle.dumps(graph)) == graph


def test_what_is_nested_twice_is_there_once_in_a_copy():
    workflow = nest(30)
    for level in range(30):
        outer = StepFunction(f"Twice {level}")
        outer.add_parallel_step("P", {"a": workflow, "b": workflow})
        workflow = outer.set_start_step("P")
    for other in (copy.deepcopy(workflow), pickle.loads(pickle.dumps(workflow))):
        assert levels(other) == 60
        assert other.compile() == workflow.compile()


def test_an_inner_workflow_stays_the_one_that_is_nested():
    inner = nest(40)
    pair = (inner, StepFunction("O").add_sub_step_function("S", inner))
    for mine, outer in (copy.deepcopy(pair), pickle.loads(pickle.dumps(pair))):
        assert outer.steps["S"].action.nested is mine


def test_a_copy_sees_what_was_nested_later():
    middle = StepFunction("M")
    outer = StepFunction("O").add_sub_step_function("S", middle)
    assert levels(copy.deepcopy(outer)) == 2
    middle.add_sub_step_function("S", nest(40))
    for other in (copy.deepcopy(outer), pickle.loads(pickle.dumps(outer))):
        assert levels(other) == 42


@pytest.mark.parametrize("depth", [150, 3_000])
def test_documents_have_no_depth(depth):
    workflow, names = nest(depth), {"echo": echo}
    assert levels(StepFunction.from_json(workflow.to_json(names), names)) == depth
    if depth < 3_000:
        assert levels(StepFunction.from_yaml(workflow.to_yaml(names), names)) == depth


@pytest.mark.parametrize(
    "use",
    [
        StepFunction.compile,
        StepFunction.execute,
        StepFunction.start,
        StepFunction.to_dot,
        StepFunction.to_mermaid,
        StepFunction.visualize,
        lambda workflow: StepFunction("O").add_step("S", workflow).compile(),
    ],
)
def test_what_is_nested_too_deep_is_refused(use):
    with pytest.raises(DefinitionError, match=f"3,00. workflows are nested .*{WHY}"):
        use(nest(3_000))


def test_what_is_nested_too_deep_to_run_fails_saying_so():
    with pytest.raises(StepExecutionError, match=WHY):
        nest(900).execute()


def test_a_function_that_calls_itself_fails_as_anywhere():
    with pytest.raises(StepExecutionError) as caught:
        nest(3, recurse).execute()
    assert "RecursionError" in str(caught.value)
    assert WHY not in str(caught.value)


def test_steps_on_threads_nest_deeper():
    workflow = nest(400, executor="thread")
    assert workflow.execute("deep").output == "deep"


@pytest.mark.parametrize("depth", [100, 300])
@pytest.mark.parametrize("leaf", [echo, refuse])
def test_transcripts_and_reports_work_or_are_refused(depth, leaf, tmp_path):
    try:
        execution = nest(depth, leaf).execute()
    except StepExecutionError as error:
        execution = error.execution
    uses = (
        lambda: Execution.from_json(execution.to_json()),
        lambda: execution.report(tmp_path / "it.html"),
        lambda: pickle.loads(pickle.dumps(execution)),
        lambda: copy.deepcopy(execution),
        execution.to_dot,
        execution.to_mermaid,
    )
    for use in uses:
        try:
            use()
        except (TranscriptError, DrawingError) as error:
            assert depth > 100
            assert WHY in str(error)


def test_a_failure_of_many_levels_is_told_in_a_text_that_can_be_read():
    with pytest.raises(StepExecutionError) as caught:
        nest(200, refuse).execute()
    text = str(caught.value)
    assert len(text) < 3_000
    assert "'W199' failed" in text or "'W198' failed" in text
    assert text.endswith("ValueError: deep")


def test_a_stored_execution_that_is_too_deep_to_read_says_so(tmp_path):
    store = SQLiteStore(tmp_path / "runs.db")
    nest(200).execute(store=store, execution_id="deep")
    with pytest.raises(StoreError, match=WHY):
        store.load("deep")
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(10 * limit)
    try:
        assert store.load("deep").status == "COMPLETED"
    finally:
        sys.setrecursionlimit(limit)
        store.close()


def test_process_steps_in_one_another_are_checked_once_each():
    workflow = nest(60, executor="process")
    for level in range(40):
        outer = StepFunction(f"Twice {level}")
        outer.add_parallel_step("P", {"a": workflow, "b": workflow}, executor="process")
        workflow = outer.set_start_step("P")
    workflow.compile()


def test_what_cannot_be_sent_is_told_of_where_it_is_and_once():
    inner = StepFunction("Inner").add_step("A", lambda: 1).set_start_step("A")
    workflow = inner
    for level in range(20):
        outer = StepFunction(f"Twice {level}")
        outer.add_parallel_step("P", {"a": workflow, "b": workflow})
        workflow = outer.set_start_step("P")
    outer = StepFunction("Outer").add_step("S", workflow, executor="process")
    with pytest.raises(DefinitionError, match="lambda") as caught:
        outer.set_start_step("S").compile()
    assert len(caught.value.problems) == 1


def test_no_error_is_the_interpreters_own():
    for depth in (150, 500, 950):
        for use in (StepFunction.execute, StepFunction.compile, StepFunction.to_dot):
            try:
                use(nest(depth))
            except StepFunctionError as error:
                assert WHY in str(error)
