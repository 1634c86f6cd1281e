"""What process tasks cost, beside a raw ``ProcessPoolExecutor`` of the same size.

    python benchmarks/processes.py

The pool has the same start method and is as new, or as warm, as our lanes.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from measuring import (
    Row,
    Times,
    compared,
    counted,
    perf_counter,
    show,
    take_turns,
)
from tasks import Large, count, keep_busy
from threads import fan_out, run_raw, run_raw_cold

import stepfunction

WORKERS = 2
MEGABYTE = 10**6


def new_pool() -> ProcessPoolExecutor:
    return ProcessPoolExecutor(WORKERS, get_context("forkserver"))


# --- new workers ----------------------------------------------------------------


def busy_tasks() -> Iterator[Row]:
    """Run a parallel step of tasks that keep two CPUs busy."""
    tasks = {f"t{number}": keep_busy for number in range(8)}
    workflow = fan_out(tasks, executor="process", max_workers=WORKERS)
    run = partial(workflow.execute, 0, check=True)
    times = take_turns(run, partial(run_raw_cold, new_pool, tasks), rounds=9)
    case = "speed of 8 tasks on 2 processes"
    yield compared(case, "raw pool", times, must=0.97, aim=1, is_speed=True)


def cold_starts() -> Iterator[Row]:
    """Run a first process step in a new interpreter."""
    for tasks, method in ((1, "forkserver"), (2, "forkserver"), (2, "spawn")):
        times = Times([], [])
        for _ in range(15):
            times.baseline.append(seconds_cold("raw", tasks, method))
            times.ours.append(seconds_cold("ours", tasks, method))
        case = f"cold step of {tasks} on 2, {method}"
        yield compared(case, "raw pool", times, must=1.3)


def seconds_cold(*arguments: Any) -> float:
    script = Path(__file__).with_name("cold.py")
    command = [sys.executable, str(script), *map(str, arguments)]
    environment = dict(os.environ, PYTHONPATH=os.pathsep.join(sys.path))
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, env=environment)
    return float(done.stdout)


# --- workers that have long been there ------------------------------------------


def second_steps() -> Iterator[Row]:
    """Run a second process step, and the same on lanes that are kept open."""
    workflow = stepfunction.StepFunction("Benchmark").set_start_step("First")
    workflow.add_step("First", abs, "Begin", executor="process")
    workflow.add_step("Begin", read_clock, "Second")
    workflow.add_step("Second", abs, "End", executor="process")
    workflow.add_step("End", read_clock)
    times = Times([], [])
    with stepfunction.ProcessLanes(1) as lanes:
        for _ in range(60):
            for executor, seconds in ((lanes, times.baseline), (None, times.ours)):
                context = workflow.execute(-1, executor=executor).context
                seconds.append(context["End"] - context["Begin"])
    yield compared("second process step", "lane kept open", times, must=2)


def read_clock(value: float) -> float:
    return perf_counter()


def warm_tasks() -> Iterator[Row]:
    """Run parallel steps in workers that are kept open."""
    with new_pool() as pool, stepfunction.ProcessLanes(WORKERS) as lanes:
        for case, number, rounds, repeats, limits in (
            ("step of 2 tasks on lanes kept open", 2, 60, 20, {"must": 1.3}),
            ("task of 1,000 on lanes kept open", 1_000, 15, 1, {"must": 1.2, "aim": 1}),
        ):
            tasks = {str(each): abs for each in range(number)}
            run = partial(fan_out(tasks, executor=lanes).execute, -1, check=True)
            raw = partial(run_raw, pool, tasks, -1)
            units = 1 if number == 2 else number
            times = take_turns(run, raw, rounds, units, repeats)
            yield compared(case, "raw pool", times, **limits)


# --- large inputs ---------------------------------------------------------------


def large_inputs() -> Iterator[Row]:
    """Give a large input to each of 4 tasks on 2 workers."""
    hundred = bytes(100 * MEGABYTE)
    yield from large_input("100 MB of bytes to 4 tasks", hundred, rounds=4)
    del hundred
    rows = {number: {"id": number, "price": number / 7} for number in range(600_000)}
    yield from large_input("600,000 rows to 4 tasks", rows, rounds=3)


def large_input(case: str, content: Any, rounds: int) -> Iterator[Row]:
    tasks = {str(number): count for number in range(4)}
    value = Large(content)
    by_processes, by_threads = (
        partial(fan_out(tasks, executor=name, max_workers=WORKERS).execute, value)
        for name in ("process", "thread")
    )
    raw = partial(run_raw_cold, new_pool, tasks, value)
    times = take_turns(by_processes, raw, rounds)
    yield compared(case, "raw pool", times)
    ours, threads, baseline = map(pickles_of, (by_processes, by_threads, raw))
    yield counted("  how often it is pickled", "raw pool", ours, baseline, "", must=1)
    yield counted("  and on threads", "raw pool", threads, baseline, "", must=0)


def pickles_of(call: Any) -> int:
    before = Large.pickled
    call()
    return Large.pickled - before


MEASURES = (busy_tasks, cold_starts, second_steps, warm_tasks, large_inputs)

if __name__ == "__main__":
    show(*MEASURES)
