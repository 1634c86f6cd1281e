"""Everything, in one table.

    python benchmarks [--peers PATH/TO/python] [--save]

Takes some minutes. Each other file here measures a part of it when it is run alone.
"""

from __future__ import annotations

from argparse import ArgumentParser
from pathlib import Path

import chain
import delays
import documents
import listeners
import maps
import peers
import processes
import start_up
import steps
import stores
import storing
import threads
from measuring import show

RESULTS = Path(__file__).with_name("RESULTS.md")
HEADING = """\
# Results

What `python benchmarks --save` printed last. Medians, of times for a step or task where
it says so; the result is how many times as long as its baseline stepfunction takes (of
a speed, how many times as fast it is), or the delay or size itself; the middle half is
the range that the middle half of all rounds is in.

"""


def main() -> None:
    parser = ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--peers", metavar="PYTHON", help="of an environment that has other libraries"
    )
    parser.add_argument("--save", action="store_true", help=f"keep in {RESULTS.name}")
    arguments = parser.parse_args()
    parts = (
        chain,
        steps,
        listeners,
        threads,
        processes,
        maps,
        stores,
        storing,
        delays,
        start_up,
        documents,
    )
    measures = [measure for part in parts for measure in part.MEASURES]
    if arguments.peers:
        measures.append(peers.named(arguments.peers))
    text = show(*measures)
    if arguments.save:
        RESULTS.write_text(f"{HEADING}{text}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
