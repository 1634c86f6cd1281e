from __future__ import annotations

import threading

import pytest
from django.db import IntegrityError, connections, transaction
from django.test import override_settings
from shared.django_shop import both, fan_out
from shop import steps
from shop.models import Car

from stepfunction import RetryPolicy, Status, StepFunction
from stepfunction.contrib.django import (
    AtomicBlockError,
    run_on_commit,
    transactional,
)

ALLOWED = {"IN_ATOMIC": "allow"}
INLINE = {"IN_ATOMIC": "inline"}


@pytest.mark.parametrize("executor", ["thread", "process"])
def test_a_task_elsewhere_is_refused_a_database_in_a_transaction(
    tables, alias, executor
):
    tasks = fan_out(
        steps.count_cars,
        steps.touch_nothing,
        executor=executor,
        tolerated_failures=1,
        retry=RetryPolicy(interval=0),
    )
    with transaction.atomic(alias):
        execution = tasks.execute(alias)
    error = execution.output.failed["t0"]
    assert type(error) is AtomicBlockError
    assert error.alias == alias
    for way in ("inline", "run_on_commit", "non_atomic_requests", "'allow'"):
        assert way in str(error)
    assert execution.output["t1"] == "nothing"
    failed = [it for it in execution.failures if it.part == "t0"]
    assert len(failed[0].attempts) == 1  # it could not but fail again


def test_another_database_than_that_of_the_transaction_is_not_refused(tables, alias):
    if alias == "default":
        with transaction.atomic(alias):
            assert both(lambda _: 1).execute().output["t0"] == 1
        return
    with transaction.atomic(alias):
        assert both(steps.count_cars).execute("default").output["t0"] == 0


def test_no_connection_is_opened_for_a_task_that_is_refused(tables, alias, monkeypatch):
    from django.db.backends.base.base import BaseDatabaseWrapper

    with transaction.atomic(alias):
        monkeypatch.setattr(BaseDatabaseWrapper, "connect", None)
        execution = both(steps.count_cars, tolerated_failures=2).execute(alias)
        monkeypatch.undo()
    assert type(execution.output.failed["t0"]) is AtomicBlockError


def test_what_is_handed_on_by_a_refused_task_is_refused_too(tables, alias):
    inner = both(steps.count_cars)
    outer = both(inner, tolerated_failures=2)
    with transaction.atomic(alias):
        execution = outer.execute(alias)
    text = str(execution.output.failed["t0"])
    assert "AtomicBlockError" in text


def test_a_task_may_open_a_transaction_of_its_own(tables):
    def order(_):
        with transaction.atomic():
            return steps.add_car(), fan_out(steps.touch_nothing).execute().status

    execution = fan_out(order).execute()
    assert execution.output["t0"][1] is Status.COMPLETED
    assert Car.objects.count() == 1


def test_tasks_can_be_let_in_by_a_setting(tables, alias):
    with override_settings(STEPFUNCTION=ALLOWED), transaction.atomic(alias):
        assert both(steps.count_cars).execute(alias).output["t0"] == 0


@pytest.mark.parametrize("executor", ["thread", "process"])
def test_tasks_can_be_kept_in_the_transaction_by_a_setting(tables, alias, executor):
    with override_settings(STEPFUNCTION=INLINE), transaction.atomic(alias):
        Car.objects.using(alias).create(name="Roadster")
        execution = both(steps.count_cars, executor=executor).execute(alias)
        assert execution.output["t0"] == 1
        threads = both(steps.tell_surroundings, executor=executor).execute().output
        assert threads["t0"]["thread"] == threading.get_ident()
    assert connections[alias].connection is not None


def test_a_workflow_that_was_started_in_a_transaction_is_refused_it(tables):
    workflow = StepFunction("Count").add_step("Count", steps.count_cars)
    with transaction.atomic():
        execution = workflow.set_start_step("Count").start("default")
        execution.wait()
    assert type(execution.error) is AtomicBlockError


def test_a_failure_step_can_use_the_transaction_that_its_step_has_broken(tables, alias):
    def break_it(_):
        Car.objects.using(alias).create(name="Lost")
        Car.objects.using(alias).create(name="Roadster")

    workflow = StepFunction("Sell")
    workflow.add_step("Add", lambda _: first.append(1), "Break")
    workflow.add_step("Break", break_it, on_failure="Count")
    workflow.add_step("Count", lambda _: steps.count_cars(alias))
    first = []
    with transaction.atomic(alias):
        Car.objects.using(alias).create(name="Roadster")
        execution = workflow.set_start_step("Add").execute()
    assert execution.output == 1
    assert type(execution.error) is IntegrityError
    assert [it.name for it in Car.objects.using(alias).all()] == ["Roadster"]


def test_an_attempt_that_is_made_again_finds_the_transaction_as_it_was(tables, alias):
    def add_twice(_, context):
        Car.objects.using(alias).create(name="Roadster")
        if context.attempt == 1:
            Car.objects.using(alias).create(name="Roadster")
        return Car.objects.using(alias).count()

    workflow = StepFunction("Sell")
    workflow.add_step("Add", add_twice, retry=RetryPolicy(interval=0))
    with transaction.atomic(alias):
        execution = workflow.set_start_step("Add").execute()
    assert execution.output == 1
    assert Car.objects.using(alias).count() == 1


def test_a_compensation_can_use_the_transaction(tables, alias):
    def undo(pk):
        Car.objects.using(alias).filter(pk=pk).delete()

    def break_it(_):
        Car.objects.using(alias).create(name="Roadster")

    workflow = StepFunction("Sell")
    workflow.add_step("Add", lambda _: add(), "Break", compensate=undo)
    workflow.add_step("Break", break_it, on_failure="Sorry")
    workflow.add_step("Sorry", lambda error: type(error).__name__)

    def add():
        return Car.objects.using(alias).create(name="Roadster").pk

    with transaction.atomic(alias):
        execution = workflow.set_start_step("Add").execute()
    assert execution.output == "IntegrityError"
    assert Car.objects.using(alias).count() == 0


def test_inline_tasks_that_fail_leave_the_transaction_to_the_others(tables, alias):
    def break_it(_):
        Car.objects.using(alias).create(name="Roadster")

    def count(_):
        return steps.count_cars(alias)

    tasks = fan_out(break_it, break_it, count, executor="inline", tolerated_failures=1)
    with transaction.atomic(alias):
        execution = tasks.execute()
    assert execution.output["t2"] == 1
    assert type(execution.output.failed["t1"]) is IntegrityError


def test_items_that_fail_inline_leave_the_transaction_to_the_others(tables, alias):
    def add(name):
        return Car.objects.using(alias).create(name=name).name

    for size in (1, 4):
        workflow = StepFunction("Add").add_map_step(
            "Add", add, executor="inline", tolerated_failures=4, batch_size=size
        )
        with transaction.atomic(alias):
            given = [f"a{size}", f"a{size}", f"b{size}"]
            execution = workflow.set_start_step("Add").execute(given)
        assert execution.output[2] == f"b{size}"
        assert set(execution.output.failed) == {1}


def test_a_nested_workflow_that_fails_keeps_what_it_has_noted(tables, alias):
    def break_it(_):
        Car.objects.using(alias).create(name="Lost")
        raise ValueError

    inner = StepFunction("Inner")
    inner.add_step("Break", break_it, on_failure="Note")
    inner.add_step("Note", lambda _: Car.objects.using(alias).create(name="Note").pk)
    inner.set_start_step("Break")
    outer = StepFunction("Outer")
    outer.add_sub_step_function("Inner", inner, on_failure="Count")
    outer.add_step("Count", lambda _: steps.count_cars(alias))
    with transaction.atomic(alias):
        assert outer.set_start_step("Inner").execute().output == 1
    assert Car.objects.using(alias).get().name == "Note"


def test_a_step_that_asks_no_database_has_no_savepoint(tables, alias):
    workflow = StepFunction("Sell").add_step("Add", str, on_failure="Sorry")
    workflow.add_step("Sorry", str).set_start_step("Add")
    queries = []

    def note(execute, sql, *others):
        queries.append(sql)
        return execute(sql, *others)

    with transaction.atomic(alias), connections[alias].execute_wrapper(note):
        workflow.execute()
    assert queries == []


def test_a_step_can_have_the_whole_transaction_rolled_back(tables, alias):
    def refuse(_):
        Car.objects.using(alias).count()
        transaction.set_rollback(True, using=alias)

    workflow = StepFunction("Sell").add_step("Add", int, on_failure="Refuse")
    workflow.add_step("Refuse", refuse).set_start_step("Add")
    with transaction.atomic(alias):
        Car.objects.using(alias).create(name="Roadster")
        workflow.execute("no number")
    assert Car.objects.using(alias).count() == 0


def test_what_a_failed_attempt_wanted_done_on_commit_is_not_done(tables, alias):
    done = []

    def fail(_, context):
        Car.objects.using(alias).count()
        transaction.on_commit(lambda: done.append(context.attempt), using=alias)
        if context.attempt == 1:
            raise ValueError

    workflow = StepFunction("Sell").add_step("A", fail, retry=RetryPolicy(interval=0))
    with transaction.atomic(alias):
        workflow.set_start_step("A").execute()
    assert done == [2]


def test_a_durable_block_of_a_step_is_refused_as_by_django(tables, alias):
    def order(_):
        with transaction.atomic(alias, durable=True):
            return steps.count_cars(alias)

    workflow = StepFunction("Sell").add_step("A", order, on_failure="B")
    workflow.add_step("B", repr).set_start_step("A")
    with transaction.atomic(alias):
        assert "durable" in workflow.execute().output
    assert workflow.execute().output == 0


@transactional
def add_and_fail(_, context):
    steps.add_car(f"car {context.attempt}")
    if context.attempt == 1:
        raise ValueError


@transactional()
async def add_and_fail_async(_, context):
    await Car.objects.acreate(name=f"car {context.attempt}")
    if context.attempt == 1:
        raise ValueError


@pytest.mark.parametrize("function", [add_and_fail, add_and_fail_async])
@pytest.mark.parametrize("executor", [None, "thread", "process"])
def test_each_attempt_can_be_a_transaction(tables, function, executor):
    workflow = StepFunction("Add")
    retry = RetryPolicy(interval=0)
    workflow.add_step("Add", function, retry=retry, executor=executor)
    workflow.set_start_step("Add").execute()
    assert [car.name for car in Car.objects.all()] == ["car 2"]


def test_a_transaction_can_be_of_another_database(tables, alias):
    @transactional(using=alias)
    def add(_):
        assert connections[alias].in_atomic_block
        return Car.objects.using(alias).create(name="Roadster").pk

    workflow = StepFunction("Add").add_step("Add", add).set_start_step("Add")
    added = workflow.execute().output
    assert Car.objects.using(alias).get().pk == added


def test_a_workflow_can_follow_the_commit(tables, alias):
    workflow = both(steps.count_cars)
    with transaction.atomic(alias):
        execution = run_on_commit(workflow, alias, using=alias, check=True)
        Car.objects.using(alias).create(name="Roadster")
        assert execution.status is Status.INITIALIZED
        assert execution.id
    assert execution.output["t0"] == 1


def test_a_workflow_follows_no_rollback(tables):
    with transaction.atomic():
        execution = run_on_commit(both(steps.count_cars), "default")
        transaction.set_rollback(True)
    assert execution.status is Status.INITIALIZED


def test_a_workflow_runs_at_once_where_there_is_no_transaction(tables):
    assert run_on_commit(both(steps.count_cars), "default").output["t0"] == 0


def test_what_follows_a_commit_may_fail_in_the_log_alone(tables, caplog):
    workflow = StepFunction("Fail").add_step("Fail", int).set_start_step("Fail")
    with transaction.atomic():
        execution = run_on_commit(workflow, "no number", robust=True)
    assert execution.status is Status.FAILED
    assert "on_commit" in caplog.text
