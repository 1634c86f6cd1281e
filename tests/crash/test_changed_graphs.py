"""A run goes on with a workflow of the same shape, and with no other."""

from __future__ import annotations

import pytest
from shared.stores import Death, DyingStore, MemoryStore

from stepfunction import ResumeError, RetryPolicy, StepFunction


def same(value=None):
    return value


def other(value=None):
    return "other"


def inner(*names):
    workflow = StepFunction("Inner").set_start_step(names[0])
    for name, follower in zip(names, [*names[1:], None]):
        workflow.add_step(name, same, follower)
    return workflow


def shop(**changes):
    """Give a workflow, with other arguments for some of its steps."""
    steps = {
        "First": {"func": same, "next_step": "Choose"},
        "Choose": {"func": same, "branch": {17: "Fan", 18: "Last"}},
        "Fan": {"func": {"a": same, "b": same}, "parallel": True, "next_step": "Sub"},
        "Sub": {"func": inner("One", "Two"), "next_step": "Named"},
        "Named": {"func": lambda x: x, "inputs": {"x": "First"}, "next_step": "Last"},
        "Last": {"func": same},
    }
    for name, change in changes.items():
        steps[name] = change if name not in steps else {**steps[name], **change}
    workflow = StepFunction("Shop").set_start_step("First")
    for name, facts in steps.items():
        facts = dict(facts)
        name = facts.pop("name", name)
        if not facts.pop("is_gone", False):
            workflow.add_step(name, facts.pop("func"), **facts)
    return workflow


def killed_after(commits, workflow=None, store=None):
    store = MemoryStore() if store is None else store
    with pytest.raises(Death):
        (workflow or shop()).execute(
            17, store=DyingStore(store, commits), execution_id="it", executor="inline"
        )
    return store


def go_on(workflow, store, **options):
    return workflow.execute(17, store=store, execution_id="it", **options)


def resume(workflow, store, **options):
    return workflow.resume("it", store=store, **options)


def waiting_step(workflow):
    steps = StepFunction("Shop").set_start_step("First")
    steps.add_step("First", same, "Choose")
    steps.add_wait_step("Choose", seconds=0)
    return steps


CHANGED = {
    "a step is gone": (
        {"First": {"next_step": "Choose"}, "Named": {"is_gone": True},
         "Sub": {"next_step": "Last"}},
        "Named",
    ),
    "a step has another name": (
        {"Last": {"name": "Final"}, "Choose": {"branch": {17: "Fan", 18: "Final"}},
         "Named": {"next_step": "Final"}},
        "Final",
    ),
    "a step is new": (
        {"Last": {"next_step": "Extra"}, "Extra": {"func": same}}, "Extra"
    ),
    "an arrow leads elsewhere": ({"Fan": {"next_step": "Named"}, "Choose": {
        "branch": {17: "Fan", 18: "Sub"}}}, "Fan"),
    "a branch has another key": ({"Choose": {"branch": {17: "Fan", 19: "Last"}}},
                                 "Choose"),
    "a failure is taken": ({"Named": {"on_failure": "Last"}}, "Named"),
    "a task is new": ({"Fan": {"func": {"a": same, "b": same, "c": same}}}, "Fan"),
    "a task is gone": ({"Fan": {"func": {"a": same}}}, "Fan"),
    "a step is of another kind": ({"Fan": {"func": same, "parallel": False}}, "Fan"),
    "a nested step is new": ({"Sub": {"func": inner("One", "Two", "Three")}}, "Three"),
    "a nested step has another name": ({"Sub": {"func": inner("One", "Zwei")}}, "Zwei"),
    "a step is no longer nested": ({"Sub": {"func": same}}, "Sub"),
    "an input comes from elsewhere": ({"Named": {"inputs": {"x": "Choose"}}}, "Named"),
    "an input is new": (
        {"Named": {"func": lambda x, y: x, "inputs": {"x": "First", "y": "Choose"}}},
        "Named",
    ),
}

SAME = {
    "a function": {"Last": {"func": other}},
    "a lambda": {"Last": {"func": lambda value: value}},
    "a retry": {"Last": {"retry": RetryPolicy(5)}},
    "a time limit": {"Last": {"timeout": 5, "executor": "thread"}},
    "an executor": {"Last": {"executor": "thread"}, "Fan": {"executor": "inline"}},
    "params": {"Last": {"func": lambda value, more: value, "params": {"more": 1}}},
    "a compensation": {"Last": {"compensate": same}},
    "what is tolerated": {"Fan": {"tolerated_failures": 1}},
}


@pytest.mark.parametrize("how", CHANGED)
@pytest.mark.parametrize("go", [go_on, resume])
def test_another_shape_is_refused(how, go):
    changes, named = CHANGED[how]
    store = killed_after(2)
    with pytest.raises(ResumeError) as raised:
        go(shop(**changes), store)
    assert raised.value.id == "it"
    assert any(named in text for text in raised.value.differences)
    assert go(shop(), store).output == 17  # nothing of it was touched


@pytest.mark.parametrize("how", SAME)
@pytest.mark.parametrize("go", [go_on, resume])
def test_what_is_no_shape_may_be_another(how, go):
    execution = go(shop(**SAME[how]), killed_after(2))
    assert execution.output == ("other" if how == "a function" else 17)


@pytest.mark.parametrize("how", CHANGED)
def test_another_shape_is_allowed_where_somebody_says_so(how):
    changes, _ = CHANGED[how]
    store = killed_after(2)
    execution = resume(shop(**changes), store, allow_changed=True)
    assert execution.status == "COMPLETED"
    assert [record.step for record in execution.history][:2] == ["First", "Choose"]


@pytest.mark.parametrize(
    "changes",
    [
        {"First": {"next_step": "Other"}, "Choose": {"name": "Other"}},
        {"Choose": {"func": {"a": same}, "parallel": True, "branch": None,
                    "next_step": "Last"}, "Fan": {"is_gone": True},
         "Sub": {"is_gone": True}, "Named": {"is_gone": True}},
    ],
)
def test_the_next_step_must_be_there_and_of_its_kind(changes):
    store = killed_after(2)
    with pytest.raises(ResumeError):
        resume(shop(**changes), store, allow_changed=True)
    assert resume(shop(), store).output == 17


def test_another_input_is_refused():
    store = killed_after(2)
    with pytest.raises(ResumeError, match="input"):
        shop().execute(18, store=store, execution_id="it")
    assert go_on(shop(), store).output == 17


def test_another_input_is_refused_also_of_what_has_ended():
    store = MemoryStore()
    go_on(shop(), store)
    with pytest.raises(ResumeError, match="input"):
        shop().execute(18, store=store, execution_id="it")


def test_another_workflow_is_refused_by_name():
    store = killed_after(2)
    workflow = StepFunction("Other").add_step("First", same).set_start_step("First")
    with pytest.raises(ResumeError, match="'Shop'"):
        workflow.execute(17, store=store, execution_id="it")


def test_a_run_that_died_in_a_nested_workflow_goes_on_after_a_fix():
    for commits in range(2, 20):
        store = MemoryStore()
        try:
            shop().execute(
                17, store=DyingStore(store, commits), execution_id="it",
                executor="inline",
            )
        except Death:
            fixed = shop(Last={"func": other})
            assert go_on(fixed, store).output in (17, "other")
        else:
            return


def mapped(values, function=same):
    workflow = StepFunction("Map").set_start_step("Each")
    return workflow.add_map_step(
        "Each", function, items=lambda _: values, executor="inline"
    )


class Stop(BaseException):
    pass


def interrupted_at(stop):
    def call(value):
        if value == stop:
            raise Stop
        return value * 10

    return call


def test_an_item_that_is_done_must_be_the_same():
    store = MemoryStore()
    with pytest.raises(Stop):
        mapped([1, 2, 3], interrupted_at(3)).execute(store=store, execution_id="it")
    with pytest.raises(ResumeError) as raised:
        mapped([1, 5, 3]).resume("it", store=store)
    assert any("1" in text for text in raised.value.differences)
    execution = mapped([1, 2, 4]).resume("it", store=store)
    assert list(execution.output) == [10, 20, 4]


def test_another_item_is_allowed_where_somebody_says_so():
    store = MemoryStore()
    with pytest.raises(Stop):
        mapped([1, 2, 3], interrupted_at(3)).execute(store=store, execution_id="it")
    execution = mapped([1, 5, 3]).resume("it", store=store, allow_changed=True)
    assert list(execution.output) == [10, 5, 3]
