"""A store that fails stops the execution before its next step, and loses nothing."""

import os
import sqlite3
import threading

import pytest
from shared.stores import DyingStore, MemoryStore

from stepfunction import (
    ExecutionClaimedError,
    RetryPolicy,
    Status,
    StepFunction,
    StoreError,
)
from stepfunction.core.history.execution import journal_of
from stepfunction.stores import SQLiteStore


def failing_store(commits):
    return DyingStore(MemoryStore(), commits, StoreError("the disk is full"))


def build(calls, **options):
    def step(name):
        def call(value):
            calls.append(name)
            return value

        return call

    workflow = StepFunction("W").add_step("A", step("A"), "B", **options)
    workflow.add_step("B", step("B"), "C").add_step("C", step("C"))
    return workflow.set_start_step("A")


def test_it_stops_before_the_next_step_and_can_be_resumed():
    calls, store = [], failing_store(2)
    workflow = build(calls)
    with pytest.raises(StoreError, match="the disk is full") as caught:
        workflow.execute(1, store=store, execution_id="one")
    assert calls == ["A", "B"]
    execution = caught.value.execution
    assert execution.status is Status.CANCELLED
    assert execution is not None and journal_of(execution).blame is None
    assert workflow.resume("one", store=store.store).output == 1
    assert calls == ["A", "B", "B", "C"]


def test_nothing_runs_where_the_beginning_cannot_be_kept():
    calls = []
    with pytest.raises(StoreError):
        build(calls).execute(1, store=failing_store(0))
    assert calls == []


def test_no_step_takes_it_and_nothing_is_undone():
    calls, store = [], failing_store(1)
    workflow = StepFunction("W", on_failure="Sorry")
    workflow.add_step("A", str, "B", compensate=calls.append)
    workflow.add_step("B", calls.append).add_step("Sorry", calls.append)
    with pytest.raises(StoreError):
        workflow.set_start_step("A").execute(1, store=store)
    assert calls == []


def test_the_error_of_the_step_stays_its_cause():
    def fail(value):
        raise ValueError("mine")

    workflow = StepFunction("W").add_step("A", fail).set_start_step("A")
    with pytest.raises(StoreError) as caught:
        workflow.execute(1, store=failing_store(1))
    assert repr(caught.value.__cause__) == "ValueError('mine')"


@pytest.mark.parametrize("executor", ["inline", "thread"])
@pytest.mark.parametrize("commits", range(1, 9))
def test_inside_a_fan_out_it_stops_the_whole(executor, commits):
    calls, store = [], failing_store(commits)

    def work(value):
        calls.append(value)
        return value

    inner = StepFunction("Inner").add_step("I", work, "J").add_step("J", work)
    inner.set_start_step("I")
    workflow = StepFunction("W", on_failure="Sorry")
    retry = RetryPolicy(2, interval=0)
    workflow.add_map_step("M", inner, next_step="End", executor=executor, retry=retry)
    workflow.add_step("End", len).add_step("Sorry", lambda it: "taken")
    workflow.set_start_step("M")
    try:
        execution = workflow.execute([1, 2, 3, 4], store=store, execution_id="one")
    except StoreError:
        execution = workflow.resume("one", store=store.store)
    assert execution.output == 4
    assert execution.context["M"] == [1, 2, 3, 4]


def test_a_full_disk_is_told_and_what_is_there_goes_on(tmp_path):
    path = tmp_path / "runs.db"
    with SQLiteStore(path) as store:
        workflow = StepFunction("W", max_steps=10_000)
        counting = [(lambda it: it[0] < 200, "A"), (lambda it: True, "B")]
        workflow.add_step("A", lambda it: [it[0] + 1, "x" * 900], branch=counting)
        workflow.add_step("B", lambda it: it[0]).set_start_step("A")
        store.find("one")
        store._link.execute("PRAGMA max_page_count=60")
        with pytest.raises(StoreError, match="full"):
            workflow.execute([0, ""], store=store, execution_id="one")
    with SQLiteStore(path) as store:
        begun = len(store.load("one").history)
        assert 5 < begun < 200
        assert workflow.resume("one", store=store).output == 200


def test_a_row_that_somebody_else_has_written_stops_it(tmp_path):
    path = tmp_path / "runs.db"
    calls = []
    with SQLiteStore(path) as store:
        workflow = StepFunction("W")

        def steal(value):
            key = store.find("one").key
            with sqlite3.connect(path) as other:
                other.execute(
                    "INSERT INTO rows SELECT ? | 1, text, sum FROM rows LIMIT 1",
                    (key << 32,),
                )
            other.close()

        workflow.add_step("A", steal, "B").add_step("B", calls.append)
        workflow.set_start_step("A")
        with pytest.raises(ExecutionClaimedError):
            workflow.execute(1, store=store, execution_id="one")
    assert calls == []


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
def test_a_forked_child_that_goes_on_executing_is_refused(tmp_path):
    with SQLiteStore(tmp_path / "runs.db") as store:
        where = []

        def fork(value):
            where.append(os.fork())

        workflow = StepFunction("W").add_step("A", fork, "B")
        workflow.add_step("B", lambda it: "done").set_start_step("A")
        try:
            execution = workflow.execute(1, store=store, execution_id="one")
        except ExecutionClaimedError:
            os._exit(7 if where == [0] else 8)
        except BaseException:
            os._exit(9)
        if where == [0]:
            os._exit(10)
        assert os.waitstatus_to_exitcode(os.waitpid(where[0], 0)[1]) == 7
        assert execution.output == "done"


def test_two_workflows_share_a_store_from_many_threads():
    store = MemoryStore()
    workflow = StepFunction("W").add_map_step("M", str, executor="thread")
    workflow.set_start_step("M")
    failed = []

    def run(number):
        try:
            for each in range(5):
                id = f"{number}-{each}"
                workflow.execute(range(10), store=store, execution_id=id)
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=run, args=(it,)) for it in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    assert len(store.executions) == 40


def test_an_execution_in_a_thread_of_its_own_says_that_the_store_failed():
    execution = build([]).start(1, store=failing_store(2), execution_id="one")
    with pytest.raises(StoreError, match="the disk is full") as caught:
        execution.result(10)
    assert caught.value.execution is execution
    assert execution.status is Status.CANCELLED
