"""What it costs to keep an execution in a file, and to go on with one.

    python benchmarks/storing.py

*Bare* is what anybody would write: begin, insert, commit for each step, into a file in
WAL mode with the defaults of SQLite. Opening the file is counted in neither.
"""

from __future__ import annotations

import gc
import json
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from time import time
from typing import Any

from chain import FEW, MANY, chain_of, distinct_functions
from maps import ITEMS, WORKERS, map_step
from measuring import (
    MILLI,
    Row,
    Times,
    compared,
    perf_counter,
    seconds_of,
    show,
    take_turns,
    timed,
)
from tasks import add_one
from threads import THREADS, fan_out

import stepfunction

numbers = count()


def new_store(folder: str, synchronous: str = "NORMAL") -> Any:
    from stepfunction.stores import SQLiteStore

    return SQLiteStore(Path(folder, "runs.db"), synchronous=synchronous)


def stored(workflow: Any, store: Any, value: Any = 0) -> Any:
    """Run under an id of its own."""
    id = f"run {next(numbers)}"
    return workflow.execute(value, store=store, execution_id=id, check=True)


class Bare:
    """A table with a row for each step."""

    def __init__(self, folder: str, synchronous: str = "NORMAL") -> None:
        path = Path(folder, f"bare-{next(numbers)}.db")
        self.connection = sqlite3.connect(path, isolation_level=None)
        self.connection.execute("PRAGMA journal_mode=WAL")
        self.connection.execute(f"PRAGMA synchronous={synchronous}")
        self.connection.execute("CREATE TABLE steps (run, number, step, output, ended)")

    def run(self, functions: Any) -> Any:
        run, value, results = next(numbers), 0, {}
        execute = self.connection.execute
        for number, (name, function) in enumerate(functions.items()):
            value = function(value)
            results[name] = value
            row = (run, number, name, json.dumps(value), time())
            execute("BEGIN")
            execute("INSERT INTO steps VALUES (?, ?, ?, ?, ?)", row)
            execute("COMMIT")
        return results


def steps() -> Iterator[Row]:
    """Run chains that are kept step by step."""
    functions = distinct_functions(FEW)
    workflow = chain_of(functions)
    for synchronous, rounds, must, aim in (("NORMAL", 25, 1, 0.7), ("FULL", 7, 1.1, 1)):
        with TemporaryDirectory() as folder, new_store(folder, synchronous) as store:
            bare = Bare(folder, synchronous)
            ours = partial(stored, workflow, store)
            times = take_turns(ours, partial(bare.run, functions), rounds, FEW)
            bare.connection.close()
        case = f"kept step of {FEW:,}, {synchronous}"
        yield compared(case, "bare insert", times, must=must, aim=aim)
    many = chain_of(distinct_functions(MANY))
    with TemporaryDirectory() as folder, new_store(folder) as store:
        times = Times([], [])
        for _ in range(5):
            times.baseline.append(
                seconds_of(partial(stored, workflow, store), FEW, repeats=10)
            )
            times.ours.append(seconds_of(partial(stored, many, store), MANY))
    case = f"  of {MANY:,}"
    yield compared(case, f"of {FEW:,}", times, must=1.5, aim=1.2)


def tasks() -> Iterator[Row]:
    """Run tasks and items whose ends are kept, beside the same without a store."""
    functions = distinct_functions(10_000)
    parallel = fan_out(functions, max_workers=THREADS)
    together = map_step(batch_size=1_000, max_workers=WORKERS)
    for case, workflow, value, units, rounds, must, aim in (
        ("kept task of 10,000 on threads", parallel, 0, 10_000, 9, 1.6, 1.3),
        ("kept item of 100,000, 1,000 together", together, ITEMS, len(ITEMS), 9, 3, 2),
    ):
        with TemporaryDirectory() as folder, new_store(folder) as store:
            ours = partial(stored, workflow, store, value)
            plain = partial(workflow.execute, value, check=True)
            times = take_turns(ours, plain, rounds, units)
        yield compared(case, "no store", times, must=must, aim=aim)


def values() -> Iterator[Row]:
    """Write and read a megabyte of plain rows, as JSON does."""
    from stepfunction.core.transcript.storing import FragmentReader, Fragments

    rows = [
        {"id": number, "name": f"row {number}", "price": number / 7, "tags": ["a", "b"]}
        for number in range(14_000)
    ]
    text = json.dumps(rows)

    def read() -> Any:
        return FragmentReader(lambda name: b"").value(json.loads(text))

    times = take_turns(partial(Fragments().value, rows), partial(json.dumps, rows), 25)
    yield compared("1 MB of rows to write", "json", times, must=2.5, aim=1.5)
    times = take_turns(read, partial(json.loads, text), 25)
    yield compared("1 MB of rows to read", "json", times, must=1.2, aim=1)


def resumes() -> Iterator[Row]:
    """Go on with 100,000 steps that were interrupted at the last."""
    functions = distinct_functions(MANY - 1)
    chain = chain_of({**functions, "last": interrupt_once})
    loop = stepfunction.StepFunction("Loop", max_steps=MANY).set_start_step("Add")
    loop.add_step("Add", add_one, branch=[(is_few, "Add")], next_step="Last")
    loop.add_step("Last", interrupt_once)
    for case, workflow, limits in (
        (f"resume after {MANY:,} steps of a loop", loop, {"must": 1_000, "aim": 500}),
        ("  of as many different ones", chain, {}),
    ):
        seconds = []
        with TemporaryDirectory() as folder, new_store(folder) as store:
            for _ in range(5):
                id = f"run {next(numbers)}"
                run = partial(workflow.execute, 0, store=store, execution_id=id)
                try:
                    run()
                except KeyboardInterrupt:
                    pass
                gc.collect()
                seconds.append(seconds_of(run))
        yield timed(case, seconds, MILLI, **limits)


def is_few(value: int) -> bool:
    return value < MANY - 1


interrupted: set[str] = set()


def interrupt_once(value: Any, context: stepfunction.Context) -> None:
    if context.execution_id not in interrupted:
        interrupted.add(context.execution_id)
        raise KeyboardInterrupt


PROGRAM = """\
import sys, time
from stepfunction import StepFunction
from stepfunction.stores import SQLiteStore
def hang(value):
    print("hangs", flush=True)
    time.sleep(60)
workflow = StepFunction("Hangs").add_step("Hang", hang).set_start_step("Hang")
workflow.execute(0, store=SQLiteStore(sys.argv[1]), execution_id=sys.argv[2])
"""


def takeovers() -> Iterator[Row]:
    """Go on with what a process had that is killed."""
    workflow = stepfunction.StepFunction("Hangs").set_start_step("Hang")
    workflow.add_step("Hang", str)
    home = Path(stepfunction.__file__).parents[1]
    environment = {**os.environ, "PYTHONPATH": str(home)}
    seconds = []
    with TemporaryDirectory() as folder, ExitStack() as stack:
        store = stack.enter_context(new_store(folder))
        path = Path(folder, "runs.db")
        for number in range(15):
            id = f"hangs {number}"
            with subprocess.Popen(
                [sys.executable, "-c", PROGRAM, path, id],
                stdout=subprocess.PIPE,
                env=environment,
            ) as program:
                assert program.stdout is not None
                program.stdout.readline()
                began = perf_counter()
                program.send_signal(signal.SIGKILL)
                while True:
                    try:
                        workflow.execute(0, store=store, execution_id=id)
                        break
                    except stepfunction.ExecutionClaimedError:
                        pass
                seconds.append(perf_counter() - began)
    yield timed("takeover after SIGKILL", seconds, MILLI, must=50, aim=15)


MEASURES = (steps, tasks, values, resumes, takeovers)

if __name__ == "__main__":
    show(*MEASURES)
