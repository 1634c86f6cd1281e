"""Do the same with each of many items: count the words of many texts.

The texts come from a generator and are never all in memory. Short calls are sent to
the worker processes in batches; a text that cannot be read fails alone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from stepfunction import Event, MapResults, StepFunction

LINES = ("the cat sat", "on the mat", "", "the end")


def texts(count: int) -> Iterator[str]:
    """Give texts as if they came from files, one after the other."""
    for number in range(count):
        yield LINES[number % len(LINES)]


def count_words(text: str) -> Counter[str]:
    if not text:
        raise ValueError("the text is empty")
    return Counter(text.split())


def add_up(counts: MapResults) -> str:
    total: Counter[str] = Counter()
    for index, count in enumerate(counts):
        if index not in counts.failed:
            total += count
    word, times = total.most_common(1)[0]
    return f"{word!r} is there {times} times; {len(counts.failed)} texts were empty"


workflow = StepFunction("Words")
workflow.add_step("Find", texts, next_step="Count")
workflow.add_map_step(
    "Count",
    count_words,
    next_step="Add_Up",
    executor="process",
    batch_size=500,
    tolerated_failures="25%",
)
workflow.add_step("Add_Up", add_up)
workflow.set_start_step("Find")


def tell(event: Event) -> None:
    if event.kind == "step_progressed" and event.done == event.total:
        print(f"{event.step}: {event.done} items are done")


if __name__ == "__main__":  # worker processes import this file
    print(workflow.execute(4_000, listeners=[tell]).output)
