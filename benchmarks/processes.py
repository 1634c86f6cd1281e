"""How soon worker processes start, stop, are replaced and are given large inputs.

    python benchmarks/processes.py

Needs the checkout and Python alone, and less than a minute. Where there is a baseline,
it is a raw ``ProcessPoolExecutor`` of the same start method and size, and the two take
turns as in ``overhead.py``. What has none is a delay: shown are its median and the
range that the middle half of all is in. Delays are measured from outside, so they are
never shown shorter than they are.

Workers import this file, so it imports little: what only the program needs is imported
where it is used.
"""

from __future__ import annotations

import os
import sys
from time import perf_counter, sleep
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from overhead import Row

    from stepfunction import StepFunction

ROUNDS = 15
TASKS = 4
WORKERS = 2
MEGABYTE = 10**6
TIMEOUT = 0.1


# --- what the workers do --------------------------------------------------------


def hang(value: Any) -> None:
    sleep(600)


def fail_soon(value: Any) -> None:
    sleep(0.2)  # until the others are at work
    raise ValueError(perf_counter())  # one clock for all processes


class Large:
    """An input that counts how often it is pickled."""

    pickled = 0

    def __init__(self, content: Any) -> None:
        self.content = content

    def __reduce__(self) -> Any:
        Large.pickled += 1
        return Large, (self.content,)


def count(value: Large) -> int:
    return len(value.content)


# --- delays ---------------------------------------------------------------------


def new_workflow(func: Any, **arguments: Any) -> StepFunction:
    from stepfunction import StepFunction

    workflow = StepFunction("Benchmark").add_step("Step", func, **arguments)
    return workflow.set_start_step("Step")


def row_of_delays(case: str, seconds: list[float], target: str) -> Row:
    from statistics import median, quantiles

    from overhead import Row, seconds_text

    low, _, high = (seconds_text(max(each, 0)) for each in quantiles(seconds, n=4))
    middle_half = f"{low} – {high}"
    return Row(case, "", seconds_text(median(seconds)), "", "", middle_half, target)


def kills() -> Iterator[Row]:
    """Stop a running task because another has failed."""
    from stepfunction import ParallelStepExecutionError, ProcessLanes

    delays = []
    tasks = {"hangs": hang, "fails": fail_soon}
    with ProcessLanes(2) as lanes:
        workflow = new_workflow(
            tasks, parallel=True, stop_on_failure=True, executor=lanes
        )
        for _ in range(ROUNDS):
            list(lanes.map(abs, range(20)))
            try:
                workflow.execute()
            except ParallelStepExecutionError as error:
                delays.append(perf_counter() - error.errors["fails"].args[0])
    yield row_of_delays("running sibling killed after a failure", delays, "≤ 50 ms")


def timeouts() -> Iterator[Row]:
    """Let tasks take too long."""
    from stepfunction import ProcessLanes, StepExecutionError

    with ProcessLanes(1) as lanes:
        for name, executor in (("thread", "thread"), ("process", lanes)):
            workflow = new_workflow(hang, executor=executor, timeout=TIMEOUT)
            delays = []
            for _ in range(ROUNDS):
                lanes.submit(abs, 1).result()  # so that its start does not count
                began = perf_counter()
                try:
                    workflow.execute()
                except StepExecutionError:
                    delays.append(perf_counter() - began - TIMEOUT)
            yield row_of_delays(f"timeout of a {name} is late by", delays, "≤ 100 ms")


def replacements() -> Iterator[Row]:
    """Call a lane whose worker has died."""
    from stepfunction import ProcessLanes

    delays = []
    with ProcessLanes(1) as lanes:
        for _ in range(ROUNDS):
            lanes.submit(os._exit, 1).exception()
            began = perf_counter()
            lanes.submit(abs, 1).result()
            delays.append(perf_counter() - began)
    yield row_of_delays("answer of a lane that is replaced", delays, "≤ 150 ms")


# --- against the raw pool -------------------------------------------------------

COLD = """\
import sys
from time import perf_counter
import concurrent.futures, multiprocessing
from stepfunction import ProcessLanes, StepFunction

def ours(tasks, method):
    workflow = StepFunction("Cold").set_start_step("Step")
    if method == "forkserver":
        run(workflow, tasks, "process")
    else:
        with ProcessLanes(2, start_method=method) as lanes:
            run(workflow, tasks, lanes)

def run(workflow, tasks, executor):
    workflow.add_step("Step", tasks, parallel=True, executor=executor, max_workers=2)
    assert workflow.execute(-1).output == dict.fromkeys(tasks, 1)

def raw(tasks, method):
    context = multiprocessing.get_context(method)
    with concurrent.futures.ProcessPoolExecutor(2, context) as pool:
        futures = [pool.submit(task, -1) for task in tasks.values()]
        assert [future.result() for future in futures] == [1] * len(tasks)

if __name__ == "__main__":
    name, count, method = sys.argv[1:]
    began = perf_counter()
    globals()[name](dict.fromkeys("ab"[: int(count)], abs), method)
    print(perf_counter() - began)
"""


def cold_starts() -> Iterator[Row]:
    """Run a first process step in a new interpreter."""
    from tempfile import TemporaryDirectory

    from overhead import Times, row

    with TemporaryDirectory() as folder:
        script = os.path.join(folder, "cold.py")
        with open(script, "w") as file:
            file.write(COLD)
        for tasks, method in ((1, "forkserver"), (2, "forkserver"), (2, "spawn")):
            times = Times([], [])
            for _ in range(ROUNDS):
                for name, seconds in (("raw", times.baseline), ("ours", times.ours)):
                    seconds.append(time_cold(script, name, tasks, method))
            case = f"cold step of {tasks} on 2, {method}"
            yield row(case, "raw pool", times, "≤ 1.3 ×")


def time_cold(script: str, *arguments: Any) -> float:
    import subprocess

    command = [sys.executable, script, *map(str, arguments)]
    environment = dict(os.environ, PYTHONPATH=os.pathsep.join(sys.path))
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    done = subprocess.run(
        command, check=True, capture_output=True, text=True, env=environment
    )
    return float(done.stdout)


def warm_round_trips() -> Iterator[Row]:
    """Run a parallel step in workers that have long been there."""
    from concurrent.futures import ProcessPoolExecutor
    from multiprocessing import get_context

    from overhead import row, take_turns

    from stepfunction import ProcessLanes

    tasks = {"one": abs, "other": abs}
    pool = ProcessPoolExecutor(2, get_context("forkserver"))
    with pool, ProcessLanes(2) as lanes:
        workflow = new_workflow(tasks, parallel=True, executor=lanes)

        def raw() -> Mapping[str, int]:
            futures = {name: pool.submit(task, -1) for name, task in tasks.items()}
            return {name: future.result() for name, future in futures.items()}

        times = take_turns(lambda: workflow.execute(-1), raw, rounds=60, repeats=20)
    yield row("warm round trip of 2 tasks", "raw pool", times, "≤ 1.5 ×")


def large_inputs() -> Iterator[Row]:
    """Give a large input to each of 4 tasks on 2 workers."""
    hundred = bytes(100 * MEGABYTE)
    yield from large_input("100 MB of bytes to 4 tasks", hundred, rounds=4)
    del hundred
    rows = {number: {"id": number, "price": number / 7} for number in range(600_000)}
    yield from large_input("600,000 rows to 4 tasks", rows, rounds=2)


def large_input(case: str, content: Any, rounds: int) -> Iterator[Row]:
    from concurrent.futures import ProcessPoolExecutor
    from multiprocessing import get_context

    from overhead import Row, row, take_turns

    tasks = {str(number): count for number in range(TASKS)}
    workflow = new_workflow(
        tasks, parallel=True, executor="process", max_workers=WORKERS
    )
    value = Large(content)

    def ours() -> Any:
        return workflow.execute(value, check=True).output

    def raw() -> Any:
        with ProcessPoolExecutor(WORKERS, get_context("forkserver")) as pool:
            futures = {name: pool.submit(task, value) for name, task in tasks.items()}
            return {name: future.result() for name, future in futures.items()}

    yield row(case, "raw pool", take_turns(ours, raw, rounds), "–")
    pickles = [str(pickles_of(call)) for call in (ours, raw)]
    yield Row("  how often it is pickled", "raw pool", *pickles, "", "", "1")


def pickles_of(call: Callable[[], Any]) -> int:
    before = Large.pickled
    call()
    return Large.pickled - before


# --- the program ----------------------------------------------------------------


def main() -> None:
    import platform

    from overhead import CHECKOUT, table_text

    sys.path.insert(0, str(CHECKOUT))  # what is measured stands here, installed or not
    rows: list[Row] = []
    for measure in (
        kills,
        timeouts,
        replacements,
        cold_starts,
        warm_round_trips,
        large_inputs,
    ):
        print(measure.__doc__, file=sys.stderr)
        rows += measure()
    python = f"{platform.python_implementation()} {platform.python_version()}"
    print(f"\n{python}, {os.cpu_count()} CPUs, {platform.system()}\n")
    print(table_text(rows))


if __name__ == "__main__":
    main()
