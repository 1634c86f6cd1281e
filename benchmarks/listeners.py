"""What it costs to be told of a step, and what where nobody needs to be.

    python benchmarks/listeners.py

The baseline is the same chain while nobody listens.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from functools import partial

from chain import FEW, chain_of, distinct_functions
from measuring import Row, compared, show, take_turns


def listening() -> Iterator[Row]:
    """Run chains of which the log, or a listener, is told."""
    functions = distinct_functions(FEW)
    silent = partial(chain_of(functions).execute, 0)
    told = partial(chain_of(functions).execute, 0, listeners=[lambda event: None])

    def logged() -> object:
        ours = logging.getLogger("stepfunction")
        handler = logging.StreamHandler()
        ours.addHandler(handler)
        ours.setLevel(logging.WARNING)
        try:
            return silent()
        finally:
            ours.removeHandler(handler)

    times = take_turns(logged, silent, rounds=60, units=FEW, repeats=10)
    case = "step with the log at WARNING"
    yield compared(case, "plain step", times, must=2, aim=1.05)
    times = take_turns(told, silent, rounds=60, units=FEW, repeats=2)
    yield compared("step of which a listener is told", "plain step", times)


MEASURES = (listening,)

if __name__ == "__main__":
    show(*MEASURES)
