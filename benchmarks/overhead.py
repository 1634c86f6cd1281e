"""What stepfunction costs, beside the same work written by hand.

    python benchmarks/overhead.py

Needs the checkout and Python alone, and about a minute. Every row is a comparison
within one run: the baseline and stepfunction take turns, so that what else the machine
does meets both. Shown are the median time of each, the median of the ratios of
neighbours, and the range that the middle half of these ratios is in: where that is
wide, the machine was busy. Functions do nothing, which is the hardest case (whatever a
real one does makes ratios smaller), but for those that keep two processes busy.

The baselines: a loop that keeps each result and two times, as anybody would write it;
the same loop with a dict lookup, or with ``try`` (stepfunction also logs the failure,
to nobody here); a raw pool of ``concurrent.futures`` of the same size, as new as ours,
processes from the same fork server; and Python that imports nothing.
"""

from __future__ import annotations

import gc
import multiprocessing
import os
import platform
import subprocess
import sys
import tracemalloc
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from statistics import median, quantiles
from time import perf_counter
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from stepfunction import StepFunction

CHECKOUT = Path(__file__).resolve().parents[1]

Function = Callable[[Any], Any]


# --- measuring ------------------------------------------------------------------


class Times(NamedTuple):
    """The seconds of each round, of stepfunction and of its baseline."""

    ours: list[float]
    baseline: list[float]

    def ratios(self) -> list[float]:
        return [ours / theirs for ours, theirs in zip(*self)]


def take_turns(
    ours: Callable[[], Any],
    baseline: Callable[[], Any],
    rounds: int,
    units: int = 1,
    repeats: int = 1,
) -> Times:
    """Time two calls in turn, after a round that does not count.

    Args:
        ours: The call that runs stepfunction.
        baseline: The call that does the same without it.
        rounds: How often each is timed.
        units: What the seconds are divided by: the steps or tasks of a call.
        repeats: How many calls make up a round, for calls too short to be timed.
    """
    times = Times([], [])
    for _ in range(rounds + 1):
        for call, seconds in ((baseline, times.baseline), (ours, times.ours)):
            gc.collect()
            began = perf_counter()
            kept = [call() for _ in range(repeats)]
            seconds.append((perf_counter() - began) / repeats / units)
            del kept
    return Times(times.ours[1:], times.baseline[1:])


def bytes_kept(call: Callable[[], Any]) -> int:
    """Count what is allocated by a call and held by what it returns."""
    call()  # what is made once is not counted
    gc.collect()
    tracemalloc.start()
    kept = call()
    gc.collect()
    size, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    del kept
    return size


# --- the table ------------------------------------------------------------------


class Row(NamedTuple):
    case: str
    against: str
    ours: str
    baseline: str
    ratio: str
    middle_half: str
    target: str


HEADING = Row(
    "", "against", "stepfunction", "baseline", "ratio", "middle half", "target"
)


def row(
    case: str, against: str, times: Times, target: str = "–", is_speed: bool = False
) -> Row:
    """Sum up a comparison: how many times as long ours takes, or how fast it is."""
    ratios = [1 / ratio if is_speed else ratio for ratio in times.ratios()]
    low, _, high = quantiles(ratios, n=4)
    return Row(
        case,
        against,
        seconds_text(median(times.ours)),
        seconds_text(median(times.baseline)),
        f"{median(ratios):.2f} ×",
        f"{low:.2f} – {high:.2f}",
        target,
    )


def row_of_one(
    case: str, against: str, ours: float, baseline: float, unit: str, target: str
) -> Row:
    """Sum up what is measured once."""
    return Row(
        case,
        against,
        f"{ours:.2f} {unit}",
        f"{baseline:.2f} {unit}",
        f"{ours / baseline:.2f} ×",
        "",
        target,
    )


def seconds_text(seconds: float) -> str:
    for unit, name in ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs")):
        if seconds >= unit:
            return f"{seconds / unit:.2f} {name}"
    return f"{seconds * 1e9:.0f} ns"


def table_text(rows: list[Row]) -> str:
    widths = [max(map(len, column)) for column in zip(HEADING, *rows)]
    lines = []
    for texts in (HEADING, *rows):
        left = [text.ljust(width) for text, width in zip(texts[:2], widths[:2])]
        right = [text.rjust(width) for text, width in zip(texts[2:], widths[2:])]
        lines.append("   ".join(left + right))
    lines.insert(1, "─" * len(lines[0]))
    return "\n".join(lines)


# --- what is measured -----------------------------------------------------------


def new_workflow() -> StepFunction:
    # Imported here, for every worker process imports this file, a raw pool's too.
    from stepfunction import StepFunction

    return StepFunction("Benchmark")


def distinct_functions(count: int, body: str) -> dict[str, Function]:
    """Make functions that share no code, as those of a real workflow do not."""
    namespace: dict[str, Any] = {}
    names = [f"f{number}" for number in range(count)]
    for name in names:
        exec(f"def {name}(value): {body}", namespace)
    return {name: namespace[name] for name in names}


def followers(names: Mapping[str, Any]) -> Iterator[tuple[str, str | None]]:
    """Give each name with the one after it; the last with None."""
    ordered = list(names)
    return zip(ordered, [*ordered[1:], None])


def chains() -> Iterator[Row]:
    """Run chains of steps of which every other has an on_failure."""
    few, many = 1_000, 100_000
    few_times = take_turns(*chain(few), rounds=60, units=few, repeats=10)
    yield row(f"step of a chain of {few:,}", "loop", few_times, "≤ 3 ×")
    run, by_hand = chain(many)
    many_times = take_turns(run, by_hand, rounds=15, units=many)
    yield row(f"step of a chain of {many:,}", "loop", many_times, "≤ 3 ×")
    ours, baseline = (median(b) / median(a) for a, b in zip(few_times, many_times))
    yield row_of_one(f"  {many:,} over {few:,}", "loop", ours, baseline, "×", "flat")
    ours, baseline = (bytes_kept(call) / many for call in (run, by_hand))
    yield row_of_one("  memory for a step", "loop", ours, baseline, "B", "≤ 300 B")


def chain(count: int) -> tuple[Callable[[], Any], Callable[[], Any]]:
    functions = distinct_functions(count, "return value")
    workflow = new_workflow().set_start_step("f0")
    for number, (name, follower) in enumerate(followers(functions)):
        on_failure = "Apologise" if number % 2 else None
        workflow.add_step(name, functions[name], follower, on_failure)
    workflow.add_step("Apologise", str)
    steps = list(functions.items())

    def by_hand() -> Any:
        value: Any = 0
        results, times = {}, {}
        for name, func in steps:
            t0 = perf_counter()
            value = func(value)
            results[name] = value
            times[name] = (t0, perf_counter())
        return results, times

    return lambda: workflow.execute(0), by_hand


def branches() -> Iterator[Row]:
    """Run a chain in which every result decides which step is next."""
    count = 1_000
    functions = distinct_functions(count, "return 'valid'")
    workflow = new_workflow().set_start_step("f0")
    steps = {}
    for name, follower in followers(functions):
        branch = {"valid": follower or "Last", "invalid": "Last"}
        workflow.add_step(name, functions[name], branch=branch)
        steps[name] = (functions[name], {"valid": follower, "invalid": None})
    workflow.add_step("Last", str)

    def by_hand() -> Any:
        value: Any = 0
        name: str | None = "f0"
        results, times = {}, {}
        while name is not None:
            func, branch = steps[name]
            t0 = perf_counter()
            value = func(value)
            results[name] = value
            times[name] = (t0, perf_counter())
            name = branch[value]
        return results, times

    def run() -> Any:
        return workflow.execute(0)

    times = take_turns(run, by_hand, rounds=60, units=count, repeats=10)
    yield row("step with a branch", "loop with dict", times)


def failures() -> Iterator[Row]:
    """Run a chain in which every step fails and its failure step leads on."""
    count = 1_000
    functions = distinct_functions(count, "raise ValueError(value)")
    failure_steps = distinct_functions(count, "return 0")
    workflow = new_workflow().set_start_step("f0")
    steps = []
    for name, follower in followers(functions):
        failure_step = f"{name} failed"
        handle = failure_steps[name]
        workflow.add_step(name, functions[name], follower, on_failure=failure_step)
        workflow.add_step(failure_step, handle, follower)
        steps.append((name, functions[name], failure_step, handle))

    def by_hand() -> Any:
        value: Any = 0
        results: dict[str, Any] = {}
        times = {}
        for name, func, failure_step, handle in steps:
            t0 = perf_counter()
            try:
                value = func(value)
            except Exception as error:
                results[name] = error
                times[name] = (t0, perf_counter())
                name, t0 = failure_step, perf_counter()
                value = handle(error)
            results[name] = value
            times[name] = (t0, perf_counter())
        return results, times

    def run() -> Any:
        return workflow.execute(0)

    times = take_turns(run, by_hand, rounds=60, units=count)
    yield row("handled failure", "loop with try", times)


def threads() -> Iterator[Row]:
    """Run parallel steps of tasks that are done at once."""
    for count, target in ((100, "–"), (10_000, "≤ 1.5 ×")):
        rounds, repeats = (30, 5) if count == 100 else (15, 1)
        functions = distinct_functions(count, "return value")
        run = fan_out(functions, "thread", max_workers=32)
        run_raw = raw_pool(functions, lambda: ThreadPoolExecutor(32))
        times = take_turns(run, run_raw, rounds, count, repeats)
        yield row(f"task of {count:,} on 32 threads", "raw pool", times, target)


def processes() -> Iterator[Row]:
    """Run a parallel step of tasks that keep two CPUs busy."""
    functions = {f"t{number}": keep_busy for number in range(8)}
    forkserver = multiprocessing.get_context("forkserver")
    run = fan_out(functions, "process", max_workers=2)
    run_raw = raw_pool(functions, lambda: ProcessPoolExecutor(2, forkserver))
    times = take_turns(run, run_raw, rounds=7)
    case = "speed of 8 tasks on 2 processes"
    yield row(case, "raw pool", times, "≥ 0.95 ×", is_speed=True)


def keep_busy(value: int) -> int:
    """Take some tenths of a second."""
    for number in range(6_000_000):
        value ^= number
    return value


def fan_out(
    functions: Mapping[str, Function], executor: Any, max_workers: int
) -> Callable[[], Any]:
    workflow = new_workflow().set_start_step("All")
    workflow.add_step(
        "All", functions, parallel=True, executor=executor, max_workers=max_workers
    )
    return lambda: workflow.execute(0, check=True)


def raw_pool(
    functions: Mapping[str, Function], new_pool: Callable[[], Executor]
) -> Callable[[], Any]:
    def run() -> Any:
        with new_pool() as pool:
            futures = {
                name: pool.submit(func, 0) for name, func in functions.items()
            }
            return {name: future.result() for name, future in futures.items()}

    return run


def imports() -> Iterator[Row]:
    """Start Python anew, with and without the import."""
    times = take_turns(
        lambda: run_python("from stepfunction import StepFunction"),
        lambda: run_python("pass"),
        rounds=25,
    )
    yield row("python with the import", "bare python", times)
    more = [ours - bare for ours, bare in zip(*times)]
    low, _, high = quantiles(more, n=4)
    spread = f"{low * 1e3:.2f} – {high * 1e3:.2f}"
    ours = seconds_text(median(more))
    yield Row("  the import alone", "", ours, "", "", spread, "≤ 30 ms")


def run_python(code: str) -> None:
    environment = dict(os.environ)
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    command = [sys.executable, "-c", code]
    subprocess.run(command, check=True, cwd=CHECKOUT, env=environment)


# --- the program ----------------------------------------------------------------


def main() -> None:
    sys.path.insert(0, str(CHECKOUT))  # what is measured stands here, installed or not
    rows: list[Row] = []
    for measure in (chains, branches, failures, threads, processes, imports):
        print(measure.__doc__, file=sys.stderr)
        rows += measure()
    python = f"{platform.python_implementation()} {platform.python_version()}"
    print(f"\n{python}, {os.cpu_count()} CPUs, {platform.system()}\n")
    print(table_text(rows))


if __name__ == "__main__":
    main()
