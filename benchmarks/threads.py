"""What a parallel step costs, beside a raw ``ThreadPoolExecutor`` of the same size.

    python benchmarks/threads.py

Each has new threads in every round. Where tasks are done at once, stepfunction starts
fewer of them than the pool does, which is most of what it gains there; tasks that sleep
need all 32 of both.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Executor, ThreadPoolExecutor
from functools import partial
from time import sleep
from typing import Any

from chain import distinct_functions
from measuring import Row, compared, show, take_turns

import stepfunction

THREADS = 32


def fan_out(tasks: Mapping[str, Any], **arguments: Any) -> Any:
    """Give a workflow of one parallel step."""
    workflow = stepfunction.StepFunction("Parallel").set_start_step("All")
    return workflow.add_step("All", tasks, parallel=True, **arguments)


def run_raw(pool: Executor, tasks: Mapping[str, Any], value: Any = 0) -> Any:
    """Do with a pool what a parallel step does."""
    futures = {name: pool.submit(task, value) for name, task in tasks.items()}
    return {name: future.result() for name, future in futures.items()}


def run_raw_cold(new_pool: Callable[[], Any], tasks: Any, value: Any = 0) -> Any:
    with new_pool() as pool:
        return run_raw(pool, tasks, value)


def threads() -> Iterator[Row]:
    """Run parallel steps of tasks that are done at once, and of tasks that wait."""
    small, large = (distinct_functions(count) for count in (100, 10_000))
    asleep = dict.fromkeys(distinct_functions(THREADS), partial(wait, 0.05))
    for case, tasks, rounds, repeats, must in (
        ("task of 100 on up to 32 threads", small, 30, 5, 1.3),
        ("task of 10,000 on up to 32 threads", large, 15, 1, 1.3),
        ("32 tasks of sleep(0.05) on 32 threads", asleep, 30, 1, 1.03),
    ):
        run = partial(fan_out(tasks, max_workers=THREADS).execute, 0, check=True)
        raw = partial(run_raw_cold, partial(ThreadPoolExecutor, THREADS), tasks)
        units = 1 if tasks is asleep else len(tasks)
        times = take_turns(run, raw, rounds, units, repeats)
        yield compared(case, "raw pool", times, must=must, aim=1)


def wait(seconds: float, value: Any) -> None:
    sleep(seconds)


MEASURES = (threads,)

if __name__ == "__main__":
    show(*MEASURES)
