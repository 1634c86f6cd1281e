"""Use more than one machine: run the tasks of a parallel step on a Dask cluster.

Here the cluster is two worker processes on this machine. For one of many machines give
Client the address of its scheduler, as Client("tcp://scheduler:8786"); the rest stays.
"""

from __future__ import annotations

import sys
from functools import partial
from random import Random

from stepfunction import StepFunction, TaskResults

DARTS = 200_000


def throw(darts: int, seed: int) -> int:
    """Throw darts at a square, and count those that hit the circle in it."""
    random = Random(seed)
    return sum(random.random() ** 2 + random.random() ** 2 < 1 for _ in range(darts))


def estimate(hits: TaskResults) -> float:
    total: int = sum(hits.raise_if_failed().values())
    return 4 * total / (len(hits) * DARTS)


# Dask runs a task again when its worker was lost. These may be: they change nothing.
workflow = StepFunction("Pi")
workflow.add_step(
    "Throw",
    {f"player {seed}": partial(throw, seed=seed) for seed in range(1, 5)},
    "Estimate",
    parallel=True,
)
workflow.add_step("Estimate", estimate)
workflow.set_start_step("Throw")


def main() -> None:
    try:
        from distributed import Client, LocalCluster
    except ImportError:
        sys.exit("This example needs Dask: pip install distributed")

    with (
        LocalCluster(
            n_workers=2,
            threads_per_worker=1,
            host="127.0.0.1",
            dashboard_address="127.0.0.1:0",  # on any port that is free
        ) as cluster,
        Client(cluster) as client,
    ):
        # Without pure=False Dask takes equal calls for one.
        on_cluster = client.get_executor(pure=False)
        execution = workflow.execute(DARTS, executor=on_cluster)

    for task, hits in execution.context["Throw"].items():
        print(f"{task}: {hits} of {DARTS} darts hit")
    print(f"{execution.status}: pi is about {execution.output:.4f}")


if __name__ == "__main__":  # worker processes import this file and must not run main()
    main()
