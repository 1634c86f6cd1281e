"""Views: checkouts, each of which runs a workflow whose tasks use the ORM."""

import os
import threading
import time
from functools import cache
from pathlib import Path

from django.db import connection, transaction
from django.db.models import F
from django.http import JsonResponse
from shop.models import Car, Order

from stepfunction import ProcessLanes, Status, StepFunction


class SoldOut(Exception):
    pass


def reserve(order):
    cars = Car.objects.filter(name=order["car"], in_stock__gt=0)
    if not cars.update(in_stock=F("in_stock") - 1):
        raise SoldOut(order["car"])
    return order


def charge(order):
    return Order.objects.create(car=Car.objects.get(name=order["car"]), card="4242").pk


def ship(order):
    return Car.objects.filter(name=order["car"]).exists()


def count(order):
    return Order.objects.count()


async def reserve_async(order):
    cars = Car.objects.filter(name=order["car"], in_stock__gt=0)
    if not await cars.aupdate(in_stock=F("in_stock") - 1):
        raise SoldOut(order["car"])
    return order


def tell_pid(_):
    return os.getpid()


def sleep(path):
    Path(path).touch()
    time.sleep(600)


def checkout_of(reserve, **options):
    workflow = StepFunction("Checkout")
    workflow.add_step("Reserve", reserve, "Work", on_failure="Sorry")
    tasks = {"payment": charge, "shipping": ship, "count": count}
    workflow.add_parallel_step("Work", tasks, **options)
    workflow.add_step("Sorry", lambda error: type(error).__name__)
    return workflow.set_start_step("Reserve")


checkout = checkout_of(reserve)
checkout_async = checkout_of(reserve_async)


def answer(execution):
    is_sold = execution.status is Status.COMPLETED
    status = 200 if is_sold else 409
    return JsonResponse({"output": str(execution.output)}, status=status)


@transaction.non_atomic_requests
def sell(request):
    return answer(checkout.execute({"car": "Roadster"}))


def sell_with_async_steps(request):
    return answer(checkout_async.execute({"car": "Roadster"}))


async def sell_async(request):
    return answer(await checkout.aexecute({"car": "Roadster"}))


async def sell_async_with_async_steps(request):
    return answer(await checkout_async.aexecute({"car": "Roadster"}))


@cache
def open_lanes():
    return ProcessLanes(1)


def count_in_a_process(request):
    workflow = StepFunction("Count")
    workflow.add_step("Count", count, executor=open_lanes()).set_start_step("Count")
    return JsonResponse({"orders": workflow.execute({}).output})


def tell_worker(request):
    workflow = StepFunction("Tell")
    workflow.add_step("Tell", tell_pid, executor=open_lanes()).set_start_step("Tell")
    return JsonResponse({"pid": workflow.execute().output})


def hang(request, kind):
    """Begin what never ends, in a task; the step writes a file when it has begun."""
    executor = {"lane": open_lanes(), "inline": None}.get(kind, kind)
    workflow = StepFunction("Hang").add_step("Hang", sleep, executor=executor)
    workflow.set_start_step("Hang").execute(request.GET["begun"])


def tell_threads(request):
    tasks = {name: lambda _: threading.get_ident() for name in "ab"}
    workflow = StepFunction("Tell").add_parallel_step("Tell", tasks)
    execution = workflow.set_start_step("Tell").execute()
    return JsonResponse({"threads": list(execution.output.values())})


def tell_connections(request):
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_stat_activity WHERE usename = 'shop'")
        return JsonResponse({"connections": cursor.fetchone()[0]})
