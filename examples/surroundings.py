"""Tasks in threads and processes that find the tenant of whoever executes them.

    python examples/surroundings.py

A library keeps the tenant for each thread, as those for audits and multi-tenancy do.
Surroundings take it where work is handed over, and enter it where that runs.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from stepfunction import StepFunction, Surroundings

# Such a library.
current = threading.local()


@contextmanager
def as_tenant(name: str | None) -> Iterator[None]:
    before, current.name = getattr(current, "name", None), name
    try:
        yield
    finally:
        current.name = before


def charge(order: dict[str, int]) -> str:
    return f"{current.name} charged {order['total']} €"


def pack(order: dict[str, int]) -> str:
    return f"{current.name} packed order {order['id']}"


class Tenant(Surroundings):
    def take(self) -> str | None:
        return getattr(current, "name", None)

    @contextmanager
    def enter(self, taken: str | None) -> Iterator[None]:
        with as_tenant(taken):
            yield


shop = StepFunction("Shop", surroundings=[Tenant()])
shop.add_parallel_step("Threads", {"charge": charge, "pack": pack}, next_step="Show")
shop.add_step("Show", lambda done: print(*done.values(), sep="\n"), "Order")
shop.add_pass_step("Order", {"id": 18, "total": 5}, next_step="Processes")
shop.add_parallel_step("Processes", {"pack": pack}, executor="process")
shop.set_start_step("Threads")

if __name__ == "__main__":
    with as_tenant("acme"):
        print(shop.execute({"id": 17, "total": 40}).output["pack"])
