from __future__ import annotations

import asyncio
import logging
import threading
from contextvars import ContextVar

import pytest
from asgiref.testing import ApplicationCommunicator
from django.core.asgi import get_asgi_application
from django.http import JsonResponse
from django.test import AsyncClient, override_settings
from django.urls import path
from django.utils import timezone, translation
from shop.models import Car

from stepfunction import Status, StepExecutionError, StepFunction
from stepfunction.contrib.django.errors import IN_A_COROUTINE, IN_A_LOOP

user: ContextVar[str] = ContextVar("user", default="nobody")


def surroundings(value=None):
    return [
        translation.get_language(),
        timezone.get_current_timezone_name(),
        user.get(),
    ]


async def async_surroundings(value=None):
    return surroundings()


def count(value):
    return Car.objects.count()


async def count_wrongly(value):
    return Car.objects.count()


def one(function, **options):
    workflow = StepFunction("Sale").add_step("Look", function, **options)
    return workflow.set_start_step("Look")


everywhere = StepFunction("Everywhere")
everywhere.add_step("Here", surroundings, "Coroutine")
everywhere.add_step("Coroutine", async_surroundings, "Thread")
everywhere.add_step("Thread", surroundings, "Tasks", executor="thread")
everywhere.add_parallel_step(
    "Tasks", {"plain": surroundings, "async": async_surroundings}, next_step="Items"
)
everywhere.add_step("Items", lambda _: [1, 2], "Map").add_map_step("Map", surroundings)
everywhere.set_start_step("Here")


async def see(request):
    user.set("ada")
    with translation.override("de"), timezone.override("Asia/Tokyo"):
        execution = await everywhere.aexecute()
    found = dict(execution.context)
    del found["Items"]
    found |= {"Tasks": dict(found["Tasks"]), "Map": [*found["Map"]]}
    return JsonResponse(found)


async def wrong(request):
    one(count).execute()


class Slow:
    """A view whose workflow waits until the test goes on."""

    def __init__(self, **options):
        self.begun, self.released = threading.Event(), threading.Event()
        self.executions, self.options = [], options

    def view(self):
        def work(value, context):
            self.begun.set()
            while not self.released.wait(0.01):
                context.check_cancelled()

        async def view(request):
            told = [lambda event: self.executions.append(event.execution)]
            await one(work).aexecute(listeners=told, **self.options)
            return JsonResponse({})

        return view


urlpatterns = [path("see", see), path("wrong", wrong)]
here = override_settings(ROOT_URLCONF=__name__)


@here
def test_all_steps_have_the_language_zone_and_variables_of_the_view():
    answer = asyncio.run(AsyncClient().get("/see"))
    expected = ["de", "Asia/Tokyo", "ada"]
    assert answer.json() == {
        "Here": expected,
        "Coroutine": expected,
        "Thread": expected,
        "Tasks": {"plain": expected, "async": expected},
        "Map": [expected, expected],
    }


async def leave(view):
    """Ask for a view, and go away while its workflow runs."""
    view_path = path("slow", view.view())
    urlpatterns.append(view_path)
    try:
        app = get_asgi_application()
        scope = {
            "type": "http",
            "method": "GET",
            "path": "/slow",
            "headers": [],
            "query_string": b"",
        }
        client = ApplicationCommunicator(app, scope)
        await client.send_input({"type": "http.request"})
        assert await asyncio.to_thread(view.begun.wait, 30)
        await client.send_input({"type": "http.disconnect"})
        await client.wait(10)
    finally:
        urlpatterns.remove(view_path)


@here
def test_a_client_that_goes_away_cancels_the_run():
    view = Slow()
    asyncio.run(leave(view))
    execution = view.executions[0]
    assert execution.wait(10)
    assert execution.status is Status.CANCELLED


@here
def test_under_a_shield_the_run_goes_on_without_the_client():
    view = Slow(shield=True)
    asyncio.run(leave(view))
    execution = view.executions[0]
    assert execution.status is Status.RUNNING
    view.released.set()
    assert execution.wait(10)
    assert execution.status is Status.COMPLETED


def notes_of(error):
    return getattr(error, "__notes__", [])


@here
def test_a_query_of_execute_in_an_async_view_says_what_to_write():
    with pytest.raises(StepExecutionError) as raised:
        asyncio.run(AsyncClient().get("/wrong"))
    assert notes_of(raised.value.__cause__) == [IN_A_LOOP]
    assert "await workflow.aexecute(" in IN_A_LOOP


def test_what_to_write_is_in_the_log(caplog):
    async def main():
        one(count, on_failure="Tell").add_step("Tell", repr).execute()

    with caplog.at_level(logging.INFO):
        asyncio.run(main())
    assert IN_A_LOOP in caplog.text


def test_a_query_in_a_coroutine_says_what_to_write():
    with pytest.raises(StepExecutionError) as raised:
        one(count_wrongly).execute()
    assert notes_of(raised.value.__cause__) == [IN_A_COROUTINE]


def test_an_error_that_is_told_of_twice_has_its_note_once():
    async def main():
        workflow = one(one(count))
        return workflow.execute()

    with pytest.raises(StepExecutionError) as raised:
        asyncio.run(main())
    error = raised.value
    while error.__cause__ is not None:
        error = error.__cause__
    assert notes_of(error) == [IN_A_LOOP]


def test_other_errors_have_no_note():
    def fail(value):
        raise ValueError

    with pytest.raises(StepExecutionError) as raised:
        one(fail).execute()
    assert notes_of(raised.value.__cause__) == []
