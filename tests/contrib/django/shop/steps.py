"""Steps: what the workflows of the tests do, which processes can import."""

import os
import threading

from django.db import connection, connections, transaction
from django.utils import timezone, translation
from django.utils.translation import gettext
from shop.models import Car, Order


def count_cars(alias="default"):
    return Car.objects.using(alias).count()


def add_car(name="Roadster"):
    return Car.objects.create(name=name).pk


def tell_surroundings(_=None):
    return {
        "language": translation.get_language(),
        "text": str(gettext("Yes")),
        "zone": str(timezone.get_current_timezone()),
        "thread": threading.get_ident(),
        "pid": os.getpid(),
    }


def tell_database(alias="default"):
    return str(connections[alias].settings_dict["NAME"])


def tell_lazily(alias="default"):
    return Car.objects.using(alias).values_list("name", flat=True)


def touch_nothing(_=None):
    return "nothing"


async def count_cars_async(alias="default"):
    return await Car.objects.using(alias).acount(), threading.get_ident()


def order_car(name="Roadster"):
    car = Car.objects.get(name=name)
    return Order.objects.create(car=car, card="4242").pk


def break_transaction(name="Roadster"):
    """Raise an IntegrityError, which a transaction of PostgreSQL does not survive."""
    Car.objects.create(name=name)
    Car.objects.create(name=name)


__all__ = ["connection", "transaction"]
