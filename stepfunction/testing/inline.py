"""Inline: everything in the thread that executes it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from stepfunction.core.surroundings import keeping_here


@contextmanager
def run_inline() -> Iterator[None]:
    """Let all tasks run in the thread that executes their workflow.

    As ``execute(executor="inline")``, for code that takes no executor, as a view that
    a test client calls: whatever the steps say, and without a warning where limits are
    then not enforced. ``start()`` has ended when it returns. It holds for what is
    executed by this thread, or by this task of an event loop, in its block.

    >>> from threading import get_ident
    >>> from stepfunction import StepFunction
    >>> tasks = {"one": lambda _: get_ident(), "two": lambda _: get_ident()}
    >>> workflow = StepFunction("Where").add_parallel_step("Both", tasks)
    >>> with run_inline():
    ...     execution = workflow.set_start_step("Both").execute()
    >>> set(execution.output.values()) == {get_ident()}
    True
    """
    with keeping_here():
        yield
