"""An order that goes on where the program that took it was killed.

The program runs itself twice with the same lines. The first is killed while it ships;
the second has what was paid, and is told by the depot that a parcel is there already.
A second order fails, is put right by hand, and goes on from the step that failed.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from stepfunction import Context, StepExecutionError, StepFunction
from stepfunction.stores import SQLiteStore

Order = dict[str, Any]
FILE = "orders.db"


def pay(order: Order) -> Order:
    print(f"  {order['id']}: paid {order['total']}", flush=True)
    return {**order, "paid": True}


def ship(order: Order, context: Context) -> str:
    # The depot sends one parcel for a key, however often it is asked.
    parcel = Path(f"parcel-{order['id']}")
    if parcel.exists():
        print(f"  {order['id']}: the depot has it", flush=True)
    else:
        parcel.write_text(context.idempotency_key)
        print(f"  {order['id']}: handed to the depot", flush=True)
        os.kill(os.getpid(), signal.SIGKILL)  # as by a machine that runs out of memory
    return f"parcel of {order['id']}"


def look_up(order: Order) -> Order:
    if "city" not in order:
        raise LookupError("nobody knows where to")
    return order


def tell(result: Any) -> str:
    return f"told the customer of {result}"


orders = StepFunction("Orders").set_start_step("Pay")
orders.add_step("Pay", pay, "Ship").add_step("Ship", ship, "Tell")
orders.add_step("Tell", tell)

letters = StepFunction("Letters").set_start_step("Look_Up")
letters.add_step("Look_Up", look_up, "Tell").add_step("Tell", tell)


def program() -> None:
    with SQLiteStore(FILE) as store:
        order = {"id": "order-17", "total": 99}
        execution = orders.execute(order, store=store, execution_id="order-17")
        print(f"  {execution.status}: {execution.output}")


def main() -> None:
    for path in (FILE, f"{FILE}-wal", f"{FILE}-shm", "parcel-order-17"):
        Path(path).unlink(missing_ok=True)
    for _ in range(3):
        done = subprocess.run([sys.executable, __file__, "run"], text=True)
        print("killed" if done.returncode < 0 else "ended", flush=True)
    with SQLiteStore(FILE) as store:
        try:
            letters.execute({"id": 18}, store=store, execution_id="letter-18")
        except StepExecutionError as error:
            print(error)
        answer = {"id": 18, "city": "Oslo"}
        execution = letters.resume("letter-18", store=store, answer=answer)
        print(f"{execution.status}: {execution.output}")


if __name__ == "__main__":
    program() if sys.argv[1:] else main()
