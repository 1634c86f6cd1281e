"""A Django project in one file: a view runs a workflow whose steps use the ORM.

    python examples/django_view.py runserver
    curl -d car=Roadster -d card=4242 http://127.0.0.1:8000/

The steps run on the thread of the request, in its transaction. Tasks of parallel steps
may use the ORM too: with executor="inline" in that transaction, else outside of any,
which a TestCase hides: see docs/guides/django.md.
"""

from __future__ import annotations

import sys
from typing import Any

import django
from django.conf import settings

settings.configure(
    ALLOWED_HOSTS=["*"],
    DATABASES={
        "default": {"ENGINE": "django.db.backends.sqlite3", "NAME": "django_view.db"}
    },
    DEBUG=True,
    INSTALLED_APPS=["stepfunction.contrib.django"],
    ROOT_URLCONF=__name__,
    SECRET_KEY="only to try it out",
)
django.setup()

from django.core.management import execute_from_command_line  # noqa: E402
from django.db import connection, models, transaction  # noqa: E402
from django.http import HttpRequest, JsonResponse  # noqa: E402
from django.urls import path  # noqa: E402
from django.views.decorators.http import require_POST  # noqa: E402

from stepfunction import Status, StepFunction  # noqa: E402


class Car(models.Model):
    name = models.CharField(max_length=50, unique=True)
    in_stock = models.PositiveIntegerField()

    class Meta:
        app_label = "shop"


def reserve(order: dict[str, str]) -> dict[str, str]:
    cars = Car.objects.filter(name=order["car"], in_stock__gt=0)
    if not cars.update(in_stock=models.F("in_stock") - 1):
        raise LookupError(f"no {order['car']!r} is left")
    return order


def charge(order: dict[str, str]) -> dict[str, str]:
    if order["card"] != "4242":
        raise ValueError("the card was declined")
    return order


def confirm(order: dict[str, str]) -> dict[str, Any]:
    return {"sold": order["car"], "left": Car.objects.get(name=order["car"]).in_stock}


def refuse(error: Exception) -> dict[str, str]:
    transaction.set_rollback(True)  # a refused order leaves nothing behind
    return {"refused": str(error)}


# One workflow for all requests: each execution keeps what is its own.
purchase = StepFunction("Purchase")
purchase.add_step("Reserve", reserve, "Charge", on_failure="Refuse")
purchase.add_step("Charge", charge, "Confirm", on_failure="Refuse")
purchase.add_step("Confirm", confirm, on_failure="Refuse")
purchase.add_step("Refuse", refuse)
purchase.set_start_step("Reserve")


@require_POST
def buy(request: HttpRequest) -> JsonResponse:
    order = {key: request.POST.get(key, "") for key in ("car", "card")}
    with transaction.atomic():
        execution = purchase.execute(order)
    is_sold = execution.status is Status.COMPLETED
    return JsonResponse(execution.output, status=201 if is_sold else 409)


urlpatterns = [path("", buy)]


def prepare_database() -> None:
    if "shop_car" not in connection.introspection.table_names():
        with connection.schema_editor() as editor:
            editor.create_model(Car)
        Car.objects.create(name="Roadster", in_stock=2)


if __name__ == "__main__":
    prepare_database()
    execute_from_command_line(sys.argv)
