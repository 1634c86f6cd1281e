"""Ends: where tasks come to them, by the loop that fits."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from stepfunction.core.cancellation import Cancellation
from stepfunction.core.probes import skipping
from stepfunction.core.workers.loop import Loop
from stepfunction.core.workers.places import Place
from stepfunction.core.workers.tasks import Kept, Task

__tracebackhide__ = True  # pytest shows the test and what is called, not us


def run_tasks(
    tasks: Iterable[Task],
    place: Place,
    cancellation: Cancellation,
    is_enough: Callable[[Task], bool] = lambda task: False,
    ended: Callable[[Task], None] = lambda task: None,
    at_once: bool = True,
    under_way: dict[Task, None] | None = None,
    kept: Kept | None = None,
    keeps_locals: bool = False,
) -> None:
    """Bring tasks to their ends; each then has an outcome.

    Args:
        tasks: What to run; of an iterator each is taken when there is a place for it.
            One that has been attempted already begins with what follows from that.
        place: Where to run it.
        cancellation: Requested by others to stop these tasks, and by this function
            to tell the tasks that they should stop.
        is_enough: Asked after each failed task whether the others are to be stopped.
        ended: Called with each task when it has ended.
        at_once: Whether the iterator is likely to give the next task without delay.
        under_way: Kept up with the tasks that have been taken and have not ended.
        kept: What keeps their ends before anybody is told of them; None for nothing.
        keeps_locals: Whether failures that are gone on after keep their frames.

    Raises:
        WorkerStartError: What kept a worker from being started, when all have ended.
        Exception: What the iterator raises, or a place that takes no task, when all
            others have ended.
        BaseException: What interrupts this thread; the tasks are then left behind.
    """
    taken = {} if under_way is None else under_way
    loop: type[Loop] = Loop
    if skipping.get() is not None:
        from stepfunction.core.workers.skipping import SkippingLoop

        loop = SkippingLoop
    facts = at_once, taken, kept, keeps_locals
    loop(tasks, place, cancellation, is_enough, ended, *facts).run()
