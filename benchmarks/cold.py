"""Run a first process step and print how many seconds it took; see ``processes.py``.

    python benchmarks/cold.py ours 2 forkserver
"""

from __future__ import annotations

import concurrent.futures
import multiprocessing
import sys
from collections.abc import Callable
from time import perf_counter
from typing import Any

from stepfunction import ProcessLanes, StepFunction

Tasks = dict[str, Callable[[int], int]]


def ours(tasks: Tasks, method: str) -> None:
    workflow = StepFunction("Cold").set_start_step("Step")
    if method == "forkserver":
        run(workflow, tasks, "process")
    else:
        with ProcessLanes(2, start_method=method) as lanes:
            run(workflow, tasks, lanes)


def run(workflow: StepFunction, tasks: Tasks, executor: Any) -> None:
    workflow.add_step("Step", tasks, parallel=True, executor=executor, max_workers=2)
    assert workflow.execute(-1).output == dict.fromkeys(tasks, 1)


def raw(tasks: Tasks, method: str) -> None:
    context = multiprocessing.get_context(method)
    with concurrent.futures.ProcessPoolExecutor(2, context) as pool:
        futures = [pool.submit(task, -1) for task in tasks.values()]
        assert [future.result() for future in futures] == [1] * len(tasks)


if __name__ == "__main__":
    name, count, method = sys.argv[1:]
    began = perf_counter()
    globals()[name](dict.fromkeys("ab"[: int(count)], abs), method)
    print(perf_counter() - began)
