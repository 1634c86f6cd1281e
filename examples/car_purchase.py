"""Buy a car: check the purchase, update three records at once, tell the customer.

One workflow is given three purchases: a good one, one that is not valid, and one that
fails half-way, because the only car has just been sold. It works on a small database,
car_purchase.db, and draws itself as car_purchase.svg; look at both.
"""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

from stepfunction import Context, Execution, StepFunction

SHOP = Path("car_purchase.db")
TABLES = """
    CREATE TABLE shipping (number, address, status);
    CREATE TABLE payment (number, amount);
    CREATE TABLE inventory (car, in_stock);
    CREATE TABLE outbox (recipient, number, message);
    INSERT INTO inventory VALUES ('Roadster', 1);
"""
PURCHASE = '{"number": %d, "car": "Roadster", "price": %d, "email": "ada@example.org"}'


def change(sql: str, values: dict[str, Any]) -> int:
    """Change a table, on a connection of its own; give the number of changed rows."""
    with closing(sqlite3.connect(SHOP, timeout=30)) as connection, connection:
        return connection.execute(sql, values).rowcount


def check(purchase: dict[str, Any]) -> str:
    return "valid" if purchase["price"] > 0 else "invalid"


def ship(context: Context) -> None:  # the purchase is what "Parse" gave
    change("INSERT INTO shipping VALUES (:number, 'Bergen', 'wait')", context["Parse"])


def pay(context: Context) -> None:
    change("INSERT INTO payment VALUES (:number, :price)", context["Parse"])


def take(context: Context) -> None:
    sql = "UPDATE inventory SET in_stock = in_stock - 1 WHERE car = :car AND in_stock"
    if change(sql, context["Parse"]) == 0:
        raise LookupError("the car is sold out")


def update_status(context: Context) -> str:
    change("UPDATE shipping SET status = 'go' WHERE number = :number", context["Parse"])
    return "sold"


def notify(result: str, context: Context) -> None:
    mail = {**context["Parse"], "message": f"Your purchase is {result}."}
    change("INSERT INTO outbox VALUES (:email, :number, :message)", mail)


UNDO = {
    "shipping": "DELETE FROM shipping WHERE number = :number",
    "payment": "DELETE FROM payment WHERE number = :number",
    "inventory": "UPDATE inventory SET in_stock = in_stock + 1 WHERE car = :car",
}


def handle_failure(error: Exception, context: Context) -> None:
    updates = context.get("Update_Records", {})
    for task in getattr(updates, "results", updates):  # those that have succeeded
        change(UNDO[task], context["Parse"])
    notify("cancelled", context)


failed = "Handle_Failure"
outcomes = {"valid": "Update_Records", "invalid": "Notify"}
records = {"shipping": ship, "payment": pay, "inventory": take}
workflow = StepFunction("Car_Purchase")
workflow.add_step("Parse", json.loads, "Check")
workflow.add_step("Check", check, branch=outcomes, on_failure=failed)
workflow.add_step("Update_Records", records, "Update_Status", failed, parallel=True)
workflow.add_step("Update_Status", update_status, "Notify", failed)
workflow.add_step("Notify", notify, on_failure=failed)
workflow.add_step(failed, handle_failure)
workflow.set_start_step("Parse")


def tell(execution: Execution) -> None:
    steps = [record.step for record in execution.history if record.task is None]
    print(f"{execution.status}: {' > '.join(steps)}")
    if execution.error is not None:
        print(f"  {execution.error}")


def main() -> None:
    SHOP.unlink(missing_ok=True)
    with closing(sqlite3.connect(SHOP)) as connection:
        connection.executescript(TABLES)
        for number, price in (1, 42_000), (2, -1), (3, 42_000):
            tell(workflow.execute(PURCHASE % (number, price)))
        for table in ("shipping", "payment", "inventory", "outbox"):
            print(table, *connection.execute(f"SELECT * FROM {table}"), sep="\n  ")
    print("Picture:", workflow.visualize("car_purchase.svg"))


if __name__ == "__main__":
    main()
