"""What others take for the same.

    python benchmarks/peers.py PATH/TO/python

The python is one of a separate environment, into which somebody has installed some of
what ``peer_runs.py`` names; the rest is skipped. A peer runs in a process of its own,
and takes turns with stepfunction. It does what it does by default: some note less of
what happened, some more, and some run tasks in turn on an event loop.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from chain import chain_of, distinct_functions
from measuring import Row, compared, show, take_turns
from peer_runs import PEERS
from threads import fan_out

CASES = {
    "chain": (f"speed of a chain of {1_000:,}", chain_of, 1_000),
    "fan_out": ("speed of 100 tasks at once", fan_out, 100),
}


def peers(python: str) -> Iterator[Row]:
    """Run others."""
    for name, runs in PEERS.items():
        for kind in runs:
            yield from peer(python, name, kind)


def peer(python: str, name: str, kind: str) -> Iterator[Row]:
    case, make, count = CASES[kind]
    # Isolated, for one of them has our import name.
    script = Path(__file__).with_name("peer_runs.py")
    command = [python, "-I", str(script), name, kind, str(count)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        against = process.stdout.readline().strip()
        if not against:
            print(f"  {name} is not there, so its {kind} is skipped", file=sys.stderr)
            return

        def theirs() -> Any:
            print("run", file=process.stdin, flush=True)
            assert process.stdout.readline(), f"{name} failed"

        workflow = make(distinct_functions(count, "return value + 1"))
        times = take_turns(partial(workflow.execute, 0), theirs, rounds=7)
        yield compared(case, against, times, is_speed=True)


def named(python: str) -> Any:
    measure = partial(peers, python)
    measure.__doc__ = peers.__doc__
    return measure


if __name__ == "__main__":
    show(named(sys.argv[1]))
