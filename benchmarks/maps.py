"""What a map step costs, beside raw pools that are given the same chunks.

    python benchmarks/maps.py
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from functools import partial
from itertools import islice
from typing import Any

from measuring import Row, compared, show, take_turns
from processes import new_pool
from tasks import add_one

import stepfunction

ITEMS = range(100_000)
WORKERS = 2


def map_step(**arguments: Any) -> Any:
    """Give a workflow of one map step."""
    workflow = stepfunction.StepFunction("Map").set_start_step("Each")
    return workflow.add_map_step("Each", add_one, **arguments)


def map_raw_threads(size: int) -> list[int]:
    """Do with a new pool of threads what a map step does."""
    with ThreadPoolExecutor(WORKERS) as pool:
        done = pool.map(add_one_to_each, chunks(size))
        return [result for results in done for result in results]


def add_one_to_each(numbers: list[int]) -> list[int]:
    return [add_one(number) for number in numbers]


def chunks(size: int) -> Iterator[list[int]]:
    items = iter(ITEMS)
    while chunk := list(islice(items, size)):
        yield chunk


def map_raw_processes(pool: Executor, size: int) -> list[int]:
    return list(pool.map(add_one, ITEMS, chunksize=size))


def maps() -> Iterator[Row]:
    """Map over trivial items, in batches, and on threads one by one too."""
    for size, rounds, must in ((1_000, 30, 1.2), (100, 30, None), (1, 5, None)):
        workflow = map_step(batch_size=size, max_workers=WORKERS)
        run = partial(workflow.execute, ITEMS)
        raw = partial(map_raw_threads, size)
        times = take_turns(run, raw, rounds, len(ITEMS))
        case = f"item of 100,000, {size:,} together"
        yield compared(case, "raw threads", times, must=must)
    with new_pool() as pool, stepfunction.ProcessLanes(WORKERS) as lanes:
        for size, must in ((1_000, 1.2), (100, None)):
            run = partial(map_step(batch_size=size, executor=lanes).execute, ITEMS)
            raw = partial(map_raw_processes, pool, size)
            times = take_turns(run, raw, 20, len(ITEMS))
            case = f"item of 100,000, {size:,} together"
            yield compared(case, "raw processes", times, must=must)


MEASURES = (maps,)

if __name__ == "__main__":
    show(*MEASURES)
