"""Measuring: comparisons within one run, and the table that they go into.

The baseline and stepfunction take turns, so that what else the machine does meets both.
A row has the median time of each, the median of the ratios of neighbours, and the range
that the middle half of these ratios is in: where that is wide, the machine was busy.
Functions do nothing where nothing else is said, which is the hardest case: whatever a
real one does makes ratios smaller.

Worker processes import the script that started them, and this file with it, so what is
dear to import is imported where it is used. ``stepfunction`` itself loads a name when
somebody asks for it, which is why benchmarks import it as a whole.
"""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from time import perf_counter
from typing import Any, NamedTuple

CHECKOUT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(CHECKOUT))  # what is measured stands here, installed or not

Call = Callable[[], Any]
MILLI, MICRO = 1e-3, 1e-6
UNITS = {MILLI: "ms", MICRO: "µs"}


class Times(NamedTuple):
    """The seconds of each round, of stepfunction and of its baseline."""

    ours: list[float]
    baseline: list[float]

    def ratios(self) -> list[float]:
        return [ours / theirs for ours, theirs in zip(*self)]

    def differences(self) -> list[float]:
        return [ours - theirs for ours, theirs in zip(*self)]


def take_turns(
    ours: Call, baseline: Call, rounds: int, units: int = 1, repeats: int = 1
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
        times.baseline.append(seconds_of(baseline, units, repeats))
        times.ours.append(seconds_of(ours, units, repeats))
    return Times(times.ours[1:], times.baseline[1:])


def seconds_of(call: Call, units: int = 1, repeats: int = 1) -> float:
    """Time a call, as ``take_turns``; what becomes of its result is not counted."""
    gc.collect()
    began = perf_counter()
    kept = [call() for _ in range(repeats)]
    seconds = perf_counter() - began
    del kept
    return seconds / repeats / units


def bytes_kept(call: Call) -> int:
    """Count what is allocated by a call and held by what it returns."""
    import tracemalloc

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
    """A line of the table.

    Attributes:
        case: What is measured.
        against: What its baseline is.
        ours: What stepfunction took.
        baseline: What its baseline took.
        results: What counts, of each round: a ratio, a delay, a size.
        unit: Of the results.
        must: What the median of the results must not exceed.
        aim: What it is to come down to.
        is_speed: Whether more is better, and the limits are from below.
    """

    case: str
    against: str
    ours: str
    baseline: str
    results: Sequence[float]
    unit: str = "×"
    must: float | None = None
    aim: float | None = None
    is_speed: bool = False

    def cells(self) -> tuple[str, ...]:
        low, middle, high = (figure(each) for each in quartiles(self.results))
        middle_half = f"{low} – {high}" if len(self.results) > 1 else ""
        limits = (self._limit(self.must), self._limit(self.aim), self._reached())
        result = f"{middle} {self.unit}".strip()
        return (*self[:4], result, middle_half, *limits)

    def _limit(self, limit: float | None) -> str:
        sign = "≥" if self.is_speed else "≤"
        return "" if limit is None else f"{sign} {limit:g} {self.unit}".strip()

    def _reached(self) -> str:
        if self.must is None and self.aim is None:
            return ""
        if self.aim is not None and self._is_within(self.aim):
            return "aim"
        return "must" if self.must is None or self._is_within(self.must) else "NEITHER"

    def _is_within(self, limit: float) -> bool:
        middle = round(quartiles(self.results)[1], 2)  # as it is shown
        return middle >= limit if self.is_speed else middle <= limit


HEADING = (
    "",
    "against",
    "stepfunction",
    "baseline",
    "result",
    "middle half",
    "must",
    "aim",
    "reached",
)


def compared(case: str, against: str, times: Times, **limits: Any) -> Row:
    """Give the row of how many times as long stepfunction takes, or how fast it is."""
    results = times.ratios()
    if limits.get("is_speed"):
        results = [1 / ratio for ratio in results]
    ours, baseline = (seconds_text(quartiles(each)[1]) for each in times)
    return Row(case, against, ours, baseline, results, **limits)


def timed(case: str, seconds: Sequence[float], unit: float, **limits: Any) -> Row:
    """Give the row of something that has no baseline."""
    results = [each / unit for each in seconds]
    ours = seconds_text(quartiles(seconds)[1])
    return Row(case, "", ours, "", results, UNITS[unit], **limits)


def counted(
    case: str, against: str, ours: float, baseline: float, unit: str, **limits: Any
) -> Row:
    """Give the row of what is no time, and the same in every round."""
    texts = (f"{each:.0f} {unit}".strip() for each in (ours, baseline))
    return Row(case, against, *texts, [ours], unit, **limits)


def quartiles(values: Sequence[float]) -> Sequence[float]:
    """Give the range that the middle half is in, around the median."""
    from statistics import quantiles

    return quantiles(values, n=4) if len(values) > 1 else [*values] * 3


def seconds_text(seconds: float) -> str:
    for unit, name in ((1.0, "s"), *UNITS.items()):
        if abs(seconds) >= unit:
            return f"{seconds / unit:.2f} {name}"
    return f"{seconds * 1e9:.0f} ns"


def figure(value: float) -> str:
    return f"{value:.2f}" if abs(value) < 100 else f"{value:,.0f}"


def table_text(rows: Sequence[Row]) -> str:
    """Give the table in Markdown, aligned for those who read it as it is."""
    lines = [HEADING, *(row.cells() for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines)]
    rule = [f"{'-' * (width - 1)}{'-:'[at > 1]}" for at, width in enumerate(widths)]
    texts = [[*map(str.ljust, line[:2], widths)] for line in lines]
    for text, line in zip(texts, lines):
        text += map(str.rjust, line[2:], widths[2:])
    return "\n".join(f"| {' | '.join(text)} |" for text in (texts[0], rule, *texts[1:]))


# --- the program ----------------------------------------------------------------


def show(*measures: Callable[[], Iterator[Row]]) -> str:
    """Measure, print the table, and give it with what it was measured on."""
    import platform

    import stepfunction

    rows: list[Row] = []
    for measure in measures:
        print(measure.__doc__, file=sys.stderr)
        rows += measure()
    python = f"{platform.python_implementation()} {platform.python_version()}"
    machine = f"{os.cpu_count()} CPUs, {platform.system()} {platform.machine()}"
    text = f"stepfunction {stepfunction.__version__}, {python}, {machine}\n\n"
    text += table_text(rows)
    print(f"\n{text}")
    return text
