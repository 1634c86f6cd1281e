"""What tests of Django's own kinds see, as a shop would write them."""

from __future__ import annotations

import threading

import pytest
from django.db import IntegrityError, connection, transaction
from django.test import TestCase, TransactionTestCase
from django.utils import translation
from shared.django_shop import both
from shop import steps
from shop.models import Car

from stepfunction import RetryPolicy, Status, StepFunction
from stepfunction.contrib.django import run_on_commit
from stepfunction.testing import run_inline


class TestInATransaction(TestCase):
    @classmethod
    def setUpTestData(cls):
        Car.objects.create(name="Roadster")

    def test_tasks_run_inline(self):
        for executor in ("thread", "process"):
            execution = both(steps.count_cars, executor=executor).execute("default")
            assert execution.output == {"t0": 1, "t1": 1}

    def test_no_limit_is_warned_of(self):
        with self.assertNoLogs("stepfunction", "WARNING"):
            both(steps.count_cars, timeout=5).execute("default")

    def test_a_workflow_that_was_started_has_ended(self):
        workflow = StepFunction("Add").add_step("Add", steps.add_car)
        execution = workflow.set_start_step("Add").start("Flivver")
        assert execution.status is Status.COMPLETED
        assert Car.objects.count() == 2

    def test_a_workflow_that_was_started_and_failed_raises_nothing(self):
        workflow = StepFunction("Fail").add_step("Fail", int).set_start_step("Fail")
        execution = workflow.start("no number")
        assert execution.status is Status.FAILED

    async def test_aexecute_runs_on_the_tests_thread(self):
        workflow = both(steps.count_cars)
        with translation.override("de"):
            execution = await workflow.aexecute("default")
        assert execution.output["t0"] == 1
        told = await both(steps.tell_surroundings).aexecute()
        assert told.output["t0"]["thread"] == threading.main_thread().ident

    async def test_async_steps_of_aexecute_see_the_rows(self):
        async def count(_):
            return await Car.objects.acount()

        assert (await both(count).aexecute()).output == {"t0": 1, "t1": 1}

    async def test_aexecute_raises_what_has_failed(self):
        workflow = StepFunction("Fail").add_step("Fail", int).set_start_step("Fail")
        with pytest.raises(Exception, match="step 'Fail' of 'Fail' failed"):
            await workflow.aexecute("no number")

    def failing(self):
        workflow = StepFunction("Sell")
        workflow.add_step("Break", steps.break_transaction, on_failure="Count")
        workflow.add_step("Count", lambda _: Car.objects.count())
        return workflow.set_start_step("Break")

    def test_a_workflow_that_was_started_goes_on_after_a_broken_transaction(self):
        assert self.failing().start("Flivver").output == 1

    async def test_aexecute_goes_on_after_a_broken_transaction(self):
        assert (await self.failing().aexecute("Flivver")).output == 1

    def test_a_traceback_begins_with_the_users_function(self):
        with pytest.raises(Exception, match="IntegrityError") as raised:
            self.failing().copy().start("Flivver").raise_if_failed()
        assert raised.value.__cause__.__traceback__.tb_frame.f_code.co_name == (
            "break_transaction"
        )

    def test_the_tests_connection_stays_open(self):
        before = connection.connection
        both(steps.count_cars).execute("default")
        assert connection.connection is before

    def test_a_failure_step_can_use_the_database(self):
        execution = self.failing().execute("Flivver")
        assert execution.output == 1
        assert type(execution.error) is IntegrityError

    def test_what_a_failed_attempt_has_written_stays_as_without_a_transaction(self):
        def add_and_fail(name):
            Car.objects.create(name=name)
            raise ValueError

        workflow = StepFunction("Sell")
        workflow.add_step("Add", add_and_fail, on_failure="Count")
        workflow.add_step("Count", lambda _: Car.objects.count())
        workflow.set_start_step("Add")
        assert workflow.execute("Flivver").output == 2
        with transaction.atomic():  # in which it would not stay
            assert workflow.execute("Coupe").output == 2

    def test_a_durable_block_of_a_step_may_be_opened(self):
        def order(_):
            Car.objects.count()
            with transaction.atomic(durable=True):
                return Car.objects.count()

        workflow = StepFunction("Sell").add_step("A", order, on_failure="B")
        workflow.add_step("B", repr).set_start_step("A")
        assert workflow.execute().output == 1

    def test_what_follows_the_commit_can_be_captured(self):
        with self.captureOnCommitCallbacks(execute=True):
            execution = run_on_commit(both(steps.count_cars), "default")
        assert execution.output == {"t0": 1, "t1": 1}

    def test_retries_go_on_after_a_broken_transaction(self):
        workflow = StepFunction("Sell")
        retry = RetryPolicy(max_attempts=2, interval=0)
        workflow.add_step("Break", steps.break_transaction, retry=retry)
        with pytest.raises(Exception, match="IntegrityError"):
            workflow.set_start_step("Break").execute("Flivver")
        assert Car.objects.count() == 1


class TestWithoutATransaction(TransactionTestCase):
    def test_tasks_run_in_threads_and_see_what_was_committed(self):
        Car.objects.create(name="Roadster")
        output = both(steps.tell_surroundings).execute().output
        assert output["t0"]["thread"] != threading.get_ident()
        assert both(steps.count_cars).execute("default").output["t0"] == 1

    def test_tasks_run_in_processes_on_the_test_database(self):
        Car.objects.create(name="Roadster")
        output = both(steps.count_cars, executor="process").execute("default").output
        assert output["t0"] == 1

    async def test_aexecute_runs_in_a_thread_of_its_own(self):
        workflow = StepFunction("Tell").add_step("Tell", steps.tell_surroundings)
        execution = await workflow.set_start_step("Tell").aexecute()
        assert execution.output["thread"] != threading.main_thread().ident

    def test_a_view_can_be_made_to_run_all_inline(self):
        with run_inline():
            response = self.client.get("/threads")
        assert set(response.json()["threads"]) == {threading.get_ident()}
        response = self.client.get("/threads")
        assert threading.get_ident() not in response.json()["threads"]
