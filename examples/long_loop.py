"""A loop of 100,000 rounds in little memory: take from a queue until it is empty.

What goes round is the result of the step. ``max_steps`` is the bound without which a
loop is refused, and ``keep_history`` how many of the latest steps are remembered.
"""

from __future__ import annotations

import tracemalloc
from typing import NamedTuple

from stepfunction import StepFunction

ROUNDS = 100_000


class Account(NamedTuple):
    """What has been booked so far, and what is still in the queue."""

    booked: int
    left: int


def book(account: Account) -> Account:
    return Account(account.booked + account.left % 7, account.left - 1)


def is_empty(account: Account) -> bool:
    return account.left == 0


booking = StepFunction("Booking", max_steps=1_000_000, keep_history=10)
booking.add_step("Book", book, branch=[(is_empty, "Close")], next_step="Book")
booking.add_step("Close", lambda account: f"booked {account.booked:,}")
booking.set_start_step("Book")


def main() -> None:
    tracemalloc.start()
    execution = booking.execute(Account(0, ROUNDS))
    peak = tracemalloc.get_traced_memory()[1]
    print(execution.output)
    print(f"{execution.forgotten:,} steps, of which {len(execution.history)} are kept")
    print(f"less than a megabyte: {peak < 1_000_000}")


if __name__ == "__main__":
    main()
