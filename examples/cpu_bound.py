"""Use all CPUs: run the tasks of a parallel step in processes.

Threads would not help here: Python runs the bytecode of one thread at a time.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import partial
from math import isqrt

from stepfunction import StepFunction

LIMIT = 800_000


def count_primes(limit: int, first: int) -> int:
    """Count the primes among first, first + 8, first + 16, … below the limit."""
    return sum(is_prime(number) for number in range(first, limit, 8))


def is_prime(number: int) -> bool:
    if number < 2 or number % 2 == 0:
        return number == 2
    return all(number % divisor for divisor in range(3, isqrt(number) + 1, 2))


def add(counts: Mapping[str, int]) -> int:
    return 1 + sum(counts.values())  # and 2, the only even prime


# Four tasks that have much the same to do: odd numbers, dealt out in turn.
workflow = StepFunction("Primes")
workflow.add_step(
    "Count",
    {f"from {first}": partial(count_primes, first=first) for first in (1, 3, 5, 7)},
    "Add",
    parallel=True,
    executor="process",
)
workflow.add_step("Add", add)
workflow.set_start_step("Count")


def main() -> None:
    inline = workflow.execute(LIMIT, executor="inline")  # one after the other, in here
    pooled = workflow.execute(LIMIT)
    print(f"inline:       {inline.output} primes in {inline.duration:.2f} s")
    print(f"in processes: {pooled.output} primes in {pooled.duration:.2f} s")
    speed_up = inline.duration / pooled.duration
    print(f"{speed_up:.1f} times as fast, on {os.cpu_count()} CPUs, start included")


if __name__ == "__main__":  # worker processes import this file and must not run main()
    main()
