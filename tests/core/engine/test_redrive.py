"""What failed, or was stopped, goes on from where it failed."""

import threading

import pytest

from stepfunction import (
    DefinitionError,
    ExecutionCancelledError,
    FailStepError,
    Outcome,
    ResumeError,
    RetryPolicy,
    Status,
    StepExecutionError,
    StepFunction,
    StepLimitError,
    UnstorableValueError,
)
from stepfunction.stores import SQLiteStore


@pytest.fixture
def store():
    with SQLiteStore(":memory:") as made:
        yield made


class Calls(list):
    """What was called, and which of it is to fail."""

    def __init__(self):
        super().__init__()
        self.bad = set()

    def of(self, name):
        def call(value):
            self.append(name)
            if name in self.bad:
                raise ValueError(name)
            return value

        return call

    def each(self, item):
        self.append(item)
        if item in self.bad:
            raise ValueError(item)
        return item


@pytest.fixture
def calls():
    return Calls()


def fails(workflow, store, value=1):
    with pytest.raises(StepExecutionError) as caught:
        workflow.execute(value, store=store, execution_id="one")
    return caught.value.execution


def test_a_plain_step_that_failed_is_done_again_and_none_before(store, calls):
    workflow = StepFunction("W").add_step("A", calls.of("A"), "B")
    workflow.add_step("B", calls.of("B"), "C").add_step("C", calls.of("C"))
    workflow.set_start_step("A")
    calls.bad = {"B"}
    fails(workflow, store)
    calls.bad = set()
    execution = workflow.resume("one", store=store)
    assert calls == ["A", "B", "B", "C"]
    assert [it.step for it in execution.history] == ["A", "B", "C"]
    assert execution.error is None and execution.failures == ()


def test_attempts_are_fresh(store, calls):
    workflow = StepFunction("W")
    retry = RetryPolicy(3, interval=0)
    workflow.add_step("A", calls.of("A"), retry=retry).set_start_step("A")
    calls.bad = {"A"}
    fails(workflow, store)
    with pytest.raises(StepExecutionError):
        workflow.resume("one", store=store)
    assert len(calls) == 6
    (record,) = store.load("one").history
    assert len(record.attempts) == 3


@pytest.mark.parametrize("executor", ["inline", "thread"])
def test_of_a_parallel_step_only_what_had_not_succeeded_is_done(
    store, calls, executor
):
    tasks = {name: calls.of(name) for name in "abc"}
    workflow = StepFunction("W")
    workflow.add_parallel_step("P", tasks, executor=executor).set_start_step("P")
    calls.bad = {"b"}
    fails(workflow, store)
    calls.bad.clear()
    calls.clear()
    execution = workflow.resume("one", store=store)
    assert calls == ["b"]
    assert execution.output == {"a": 1, "b": 1, "c": 1}
    assert list(execution.output) == ["a", "b", "c"]


def test_redriving_twice_keeps_what_succeeded_both_times(store, calls):
    tasks = {name: calls.of(name) for name in "abc"}
    workflow = StepFunction("W")
    workflow.add_parallel_step("P", tasks, executor="inline").set_start_step("P")
    calls.bad = {"b", "c"}
    fails(workflow, store)
    calls.bad = {"c"}
    with pytest.raises(StepExecutionError):
        workflow.resume("one", store=store)
    calls.bad = set()
    calls.clear()
    assert workflow.resume("one", store=store).output == {"a": 1, "b": 1, "c": 1}
    assert calls == ["c"]


@pytest.mark.parametrize("batch_size", [1, 3])
@pytest.mark.parametrize("executor", ["inline", "thread"])
def test_of_a_map_step_only_what_had_not_succeeded_is_done(
    store, calls, executor, batch_size
):
    workflow = StepFunction("W")
    workflow.add_map_step("M", calls.each, executor=executor, batch_size=batch_size)
    workflow.set_start_step("M")
    calls.bad = {2, 5}
    fails(workflow, store, [0, 1, 2, 3, 4, 5, 6])
    calls.bad = set()
    calls.clear()
    execution = workflow.resume("one", store=store)
    assert sorted(calls) == [2, 5]
    assert execution.output == [0, 1, 2, 3, 4, 5, 6]


def test_what_stopped_the_others_is_done_again_with_them(store, calls):
    tasks = {name: calls.of(name) for name in "abc"}
    workflow = StepFunction("W")
    options = {"executor": "inline", "stop_on_failure": True}
    workflow.add_parallel_step("P", tasks, **options).set_start_step("P")
    calls.bad = {"b"}
    fails(workflow, store)
    assert calls == ["a", "b"]
    calls.bad = set()
    workflow.resume("one", store=store)
    assert calls == ["a", "b", "b", "c"]


def test_what_followed_the_failure_is_set_aside(store, calls):
    workflow = StepFunction("W")
    workflow.add_step("A", calls.of("A"), "B", on_failure="Sorry")
    workflow.add_step("B", calls.of("B")).set_start_step("A")
    workflow.add_step("Sorry", lambda error: "sorry")
    calls.bad = {"A"}
    execution = workflow.execute(1, store=store, execution_id="one")
    assert execution.status is Status.FAILED and "Sorry" in execution.context
    calls.bad = set()
    execution = workflow.resume("one", store=store)
    assert {*execution.context} == {"A", "B"}
    assert execution.status is Status.COMPLETED


def test_a_fail_step_is_gone_back_from_to_the_failure_that_led_there(store, calls):
    workflow = StepFunction("W")
    workflow.add_step("A", calls.of("A"), on_failure="End")
    workflow.add_fail_step("End", error="Bad").set_start_step("A")
    calls.bad = {"A"}
    execution = workflow.execute(1, store=store, execution_id="one")
    assert isinstance(execution.error, FailStepError)
    assert isinstance(store.load("one").error, FailStepError)
    calls.bad = set()
    assert workflow.resume("one", store=store).output == 1


def test_a_fail_step_that_a_branch_led_to_fails_again(store):
    workflow = StepFunction("W").add_step("A", str, branch={"1": "End"})
    workflow.add_fail_step("End", error="Bad").set_start_step("A")
    assert workflow.execute(1, store=store, execution_id="one").error.error == "Bad"
    execution = workflow.resume("one", store=store)
    assert [it.step for it in execution.history] == ["A", "End"]


@pytest.mark.parametrize("executor", [None, "thread"])
def test_a_nested_workflow_goes_on_from_its_own_failed_step(store, calls, executor):
    inner = StepFunction("Inner").add_step("I1", calls.of("I1"), "I2")
    inner.add_step("I2", calls.of("I2")).set_start_step("I1")
    workflow = StepFunction("W").add_step("A", calls.of("A"), "N")
    workflow.add_step("N", inner, executor=executor).set_start_step("A")
    calls.bad = {"I2"}
    execution = fails(workflow, store)
    id = execution.children["N"].id
    calls.bad = set()
    execution = workflow.resume("one", store=store)
    assert calls == ["A", "I1", "I2", "I2"]
    assert execution.children["N"].id == id
    assert [it.step for it in execution.children["N"].history] == ["I1", "I2"]


def test_nested_workflows_in_tasks_go_on_from_their_own_failed_steps(store, calls):
    inner = StepFunction("Inner").add_step("I1", calls.each, "I2")
    inner.add_step("I2", lambda it: calls.each(it * 10)).set_start_step("I1")
    workflow = StepFunction("W").add_map_step("M", inner, executor="inline")
    workflow.set_start_step("M")
    calls.bad = {20}
    fails(workflow, store, [1, 2, 3])
    assert calls == [1, 10, 2, 20, 3, 30]
    calls.bad = set()
    calls.clear()
    assert workflow.resume("one", store=store).output == [10, 20, 30]
    assert calls == [20]


def test_once_compensations_have_begun_it_is_refused(store, calls):
    undone = []
    workflow = StepFunction("W")
    workflow.add_step("A", calls.of("A"), "B", compensate=undone.append)
    workflow.add_step("B", calls.of("B")).set_start_step("A")
    calls.bad = {"B"}
    fails(workflow, store)
    calls.bad = set()
    with pytest.raises(ResumeError, match="has undone steps"):
        workflow.resume("one", store=store)
    assert undone == [1] and calls == ["A", "B"]
    assert store.load("one").status is Status.FAILED
    assert [it.step for it in store.load("one").compensations] == ["A"]


def test_a_nested_one_that_has_undone_itself_begins_anew(store, calls):
    undone = []
    inner = StepFunction("Inner")
    inner.add_step("I1", calls.of("I1"), "I2", compensate=undone.append)
    inner.add_step("I2", calls.of("I2")).set_start_step("I1")
    workflow = StepFunction("W").add_step("A", calls.of("A"), "N")
    workflow.add_step("N", inner).set_start_step("A")
    calls.bad = {"I2"}
    fails(workflow, store)
    calls.bad = set()
    workflow.resume("one", store=store)
    assert calls == ["A", "I1", "I2", "I1", "I2"] and undone == [1]


def test_an_answer_is_the_output_of_the_step_that_failed(store, calls):
    workflow = StepFunction("W").add_step("A", calls.of("A"), "B")
    workflow.add_step("B", calls.of("B")).set_start_step("A")
    calls.bad = {"A"}
    fails(workflow, store)
    execution = workflow.resume("one", store=store, answer={"by": "hand"})
    assert calls == ["A", "B"]
    assert execution.output == {"by": "hand"}
    assert [it.outcome for it in execution.history] == [Outcome.SUCCEEDED] * 2
    assert store.load("one").context["A"] == {"by": "hand"}


def test_an_answer_goes_where_its_branch_leads(store, calls):
    workflow = StepFunction("W")
    workflow.add_step("A", calls.of("A"), branch={"yes": "Yes", "no": "No"})
    workflow.add_step("Yes", calls.of("Yes")).add_step("No", calls.of("No"))
    workflow.set_start_step("A")
    calls.bad = {"A"}
    fails(workflow, store)
    workflow.resume("one", store=store, answer="no")
    assert calls == ["A", "No"]


def test_none_is_an_answer(store, calls):
    workflow = StepFunction("W").add_step("A", calls.of("A")).set_start_step("A")
    calls.bad = {"A"}
    fails(workflow, store)
    execution = workflow.resume("one", store=store, answer=None)
    assert execution.status is Status.COMPLETED and execution.output is None


def test_an_answer_that_cannot_be_stored_is_refused_and_nothing_is_lost(store, calls):
    workflow = StepFunction("W").add_step("A", calls.of("A")).set_start_step("A")
    calls.bad = {"A"}
    fails(workflow, store)
    with pytest.raises(UnstorableValueError, match="the answer"):
        workflow.resume("one", store=store, answer=object())
    assert store.load("one").status is Status.FAILED
    assert not store.list()[0].claimed


def test_an_answer_where_nothing_failed_is_refused(store, calls):
    workflow = StepFunction("W").add_step("A", calls.of("A")).set_start_step("A")
    workflow.execute(1, store=store, execution_id="one")
    with pytest.raises(ResumeError, match="no step that has failed"):
        workflow.resume("one", store=store, answer=2)


def test_start_at_goes_back_to_the_latest_visit_of_a_step(store, calls):
    workflow = StepFunction("W").add_step("A", calls.of("A"), "B")
    workflow.add_step("B", calls.of("B"), "C").add_step("C", calls.of("C"))
    workflow.set_start_step("A").execute(1, store=store, execution_id="one")
    execution = workflow.resume("one", store=store, start_at="B")
    assert calls == ["A", "B", "C", "B", "C"]
    assert [it.step for it in execution.history] == ["A", "B", "C"]


def test_start_at_a_nested_workflow_runs_it_anew(store, calls):
    inner = StepFunction("Inner").add_step("I", calls.of("I")).set_start_step("I")
    workflow = StepFunction("W").add_step("N", inner).set_start_step("N")
    workflow.execute(1, store=store, execution_id="one")
    workflow.resume("one", store=store, start_at="N")
    assert calls == ["I", "I"]


def test_start_at_what_it_has_not_come_to_is_refused(store, calls):
    workflow = StepFunction("W").add_step("A", calls.of("A"), "B")
    workflow.add_step("B", calls.of("B")).set_start_step("A")
    calls.bad = {"A"}
    fails(workflow, store)
    with pytest.raises(ResumeError, match="has not come to step 'B'"):
        workflow.resume("one", store=store, start_at="B")
    with pytest.raises(DefinitionError, match="'BB', which is no step"):
        workflow.resume("one", store=store, start_at="BB")
    with pytest.raises(DefinitionError, match="not both"):
        workflow.resume("one", store=store, start_at="A", answer=1)


def test_a_completed_one_is_given_back(store, calls):
    workflow = StepFunction("W").add_step("A", calls.of("A")).set_start_step("A")
    workflow.execute(1, store=store, execution_id="one")
    assert workflow.resume("one", store=store).output == 1
    assert calls == ["A"]


def test_one_that_went_past_its_limit_of_steps_goes_on_with_a_higher_one(store, calls):
    def build(limit):
        workflow = StepFunction("W", max_steps=limit)
        steps = [(lambda n: n < 6, "A"), (lambda n: True, "B")]
        workflow.add_step("A", lambda n: n + 1, branch=steps)
        return workflow.add_step("B", calls.of("B")).set_start_step("A")

    with pytest.raises(StepLimitError):
        build(3).execute(1, store=store, execution_id="one")
    assert isinstance(store.load("one").error, StepLimitError)
    with pytest.raises(StepLimitError):
        build(3).resume("one", store=store)
    execution = build(20).resume("one", store=store)
    assert execution.output == 6
    assert [it.step for it in execution.history] == ["A"] * 5 + ["B"]


def test_a_handled_failure_is_handled_still_after_a_death(store, calls):
    class Death(BaseException):
        pass

    die = [True]

    def mend(error, context):
        if die.pop():
            raise Death()
        return (type(error).__name__, str(error), context.failure.step)

    workflow = StepFunction("W").add_step("A", calls.of("A"), on_failure="Mend")
    workflow.add_step("Mend", mend).set_start_step("A")
    calls.bad = {"A"}
    with pytest.raises(Death):
        workflow.execute(1, store=store, execution_id="one")
    die.append(False)
    execution = workflow.execute(1, store=store, execution_id="one")
    assert execution.output == ("ValueError", "A", "A")
    assert execution.status is Status.FAILED
    assert calls == ["A"]


def test_functions_may_be_others_and_the_shape_may_not(store, calls):
    def build(*names, retry=None, executor=None):
        workflow = StepFunction("W")
        for at, name in enumerate(names):
            follower = names[at + 1] if at + 1 < len(names) else None
            options = {"retry": retry, "executor": executor}
            workflow.add_step(name, calls.of(name), follower, **options)
        return workflow.set_start_step(names[0])

    calls.bad = {"B"}
    fails(build("A", "B"), store)
    calls.bad = set()
    with pytest.raises(ResumeError) as caught:
        build("A", "B", "C").resume("one", store=store)
    assert "step 'C' is new" in caught.value.differences
    execution = build("A", "B", retry=RetryPolicy(2), executor="thread").resume(
        "one", store=store
    )
    assert execution.status is Status.COMPLETED


def test_another_shape_is_taken_if_that_is_allowed(store, calls):
    def build(*names):
        workflow = StepFunction("W")
        for at, name in enumerate(names):
            follower = names[at + 1] if at + 1 < len(names) else None
            workflow.add_step(name, calls.of(name), follower)
        return workflow.set_start_step(names[0])

    calls.bad = {"B"}
    fails(build("A", "B"), store)
    calls.bad = set()
    with pytest.raises(ResumeError, match="'B', which would be next, is no step"):
        build("X", "Y").resume("one", store=store, allow_changed=True)
    execution = build("X", "B", "C").resume("one", store=store, allow_changed=True)
    assert [it.step for it in execution.history] == ["A", "B", "C"]
    assert calls == ["A", "B", "B", "C"]


def test_a_run_stopped_in_a_fan_out_redoes_what_had_not_succeeded(store, calls):
    begun = threading.Event()

    def hang(value, context):
        calls.append("hang")
        if len(calls) < 3:
            begun.set()
            context.sleep(30)
        return "hung"

    def quick(value):
        calls.append("quick")
        return "quick"

    workflow = StepFunction("W")
    workflow.add_parallel_step("P", {"quick": quick, "hang": hang}).set_start_step("P")
    execution = workflow.start(1, store=store, execution_id="one")
    assert begun.wait(10)
    while not any(it.task == "quick" and it.outcome for it in execution.history):
        pass
    execution.cancel()
    with pytest.raises(ExecutionCancelledError):
        execution.result(10)
    again = workflow.resume("one", store=store)
    assert again.output == {"quick": "quick", "hang": "hung"}
    assert sorted(calls) == ["hang", "hang", "quick"]


def test_what_was_set_aside_with_an_earlier_way_back_does_not_come_again(store, calls):
    nested = StepFunction("Nested").add_step("Inner", calls.each)
    nested.set_start_step("Inner")
    values = iter((1, 2))
    workflow = StepFunction("W").add_step("A", lambda _: next(values), "B")
    tasks = {"first": calls.of("first"), "second": nested}
    how = {"parallel": True, "stop_on_failure": True, "executor": "inline"}
    workflow.add_step("B", tasks, **how).set_start_step("A")
    calls.bad = {1}
    fails(workflow, store)
    calls.bad = {"first"}  # so that what is nested is not come to
    with pytest.raises(StepExecutionError):
        workflow.resume("one", store=store, start_at="A")
    calls.bad = set()
    assert workflow.resume("one", store=store).output == {"first": 2, "second": 2}
    assert calls == ["first", 1, "first", "first", 2]


@pytest.mark.parametrize("batch_size", [1, 2])
@pytest.mark.parametrize("executor", ["inline", "thread"])
def test_items_that_are_changed_in_place_are_the_same_still(
    store, calls, executor, batch_size
):
    def change(item):
        item["number"] += 1
        return calls.each(item["number"])

    workflow = StepFunction("W")
    workflow.add_step("A", lambda _: [{"number": i} for i in range(5)], "B")
    how = {"executor": executor, "batch_size": batch_size}
    workflow.add_map_step("B", change, **how).set_start_step("A")
    calls.bad = {2, 5}
    fails(workflow, store)
    calls.bad = set()
    assert workflow.resume("one", store=store).output == [1, 2, 3, 4, 5]
    assert sorted(calls) == [1, 2, 2, 3, 4, 5, 5]


def test_a_nested_run_of_another_item_begins_anew(store, calls):
    items = [1, 2]
    nested = StepFunction("Nested").add_step("Before", lambda it: it, "Inner")
    nested.add_step("Inner", calls.each).set_start_step("Before")
    workflow = StepFunction("W").add_map_step("A", nested, items=lambda _: [*items])
    workflow.set_start_step("A")
    calls.bad = {2}
    fails(workflow, store)
    items[1] = 3
    assert workflow.resume("one", store=store).output == [1, 3]


def test_a_nested_run_of_an_item_that_it_changed_goes_on(store, calls):
    def change(item):
        item["number"] += 1
        return calls.each(item["number"])

    nested = StepFunction("Nested").add_step("Change", change, "Inner")
    nested.add_step("Inner", calls.of("Inner")).set_start_step("Change")
    workflow = StepFunction("W").add_step("A", lambda _: [{"number": 1}], "B")
    workflow.add_map_step("B", nested, retry=RetryPolicy(2, interval=0))
    workflow.set_start_step("A")
    calls.bad = {"Inner"}
    fails(workflow, store)
    calls.bad = set()
    assert workflow.resume("one", store=store).output == [3]
    assert calls == [2, "Inner", 3, "Inner", "Inner"]


def test_what_is_set_aside_is_not_in_context_though_steps_were_forgotten(store):
    seen = {}

    def look(value, context):
        return seen.setdefault(context.step, []).append([*context])

    names = [f"S{number}" for number in range(9)]
    workflow = StepFunction("W", keep_history=4).set_start_step("S0")
    for name, follower in zip(names, [*names[1:], None]):
        workflow.add_step(name, look, follower)
    workflow.execute(store=store, execution_id="one")
    workflow.resume("one", store=store, start_at="S6")
    assert seen["S6"] == [names[:6], names[:6]]


def test_what_is_nested_in_a_stopped_run_redoes_what_had_not_succeeded(store, calls):
    found, is_found = [], threading.Event()

    def each(item):
        if item == 2 and calls.bad:
            assert is_found.wait(10)
            found[0].cancel()
        return calls.each(item)

    nested = StepFunction("Nested")
    nested.add_map_step("Each", each, tolerated_failures=3, executor="inline")
    nested.set_start_step("Each")
    workflow = StepFunction("W").add_step("A", nested).set_start_step("A")
    calls.bad = {1}
    found.append(workflow.start([1, 2, 3], store=store, execution_id="one"))
    is_found.set()
    assert found[0].wait(10)
    assert store.load("one").status is Status.CANCELLED
    calls.bad = set()
    assert workflow.resume("one", store=store).output == [1, 2, 3]
    assert sorted(calls) == [1, 1, 2, 3]


@pytest.mark.parametrize("how", [{}, {"answer": 2}])
def test_what_is_refused_for_a_step_that_is_gone_stays_as_it_was(store, calls, how):
    workflow = StepFunction("W").add_step("A", calls.of("A")).set_start_step("A")
    calls.bad = {"A"}
    fails(workflow, store)
    other = StepFunction("W").add_step("B", calls.of("B")).set_start_step("B")
    with pytest.raises(ResumeError, match="'A', which would be next, is no step"):
        other.resume("one", store=store, allow_changed=True, **how)
    assert store.load("one").status is Status.FAILED
    assert calls == ["A"]
