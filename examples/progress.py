"""Progress: watch a workflow on the terminal while it runs.

Run it in a terminal, and once more with 2>log.txt: the log has plain lines.
"""

from __future__ import annotations

import sys
from functools import partial

from stepfunction import Context, RetryPolicy, StepFunction

try:
    from stepfunction.progress import RichProgress
except ModuleNotFoundError as missing:
    sys.exit(f"This example needs rich: pip install rich\n({missing})")


def fetch(name: str, context: Context) -> str:
    """Stand in for a server that does not answer the first call."""
    context.sleep(0.3)
    if context.attempt == 1:
        raise ConnectionError("no answer")
    return f"pictures of {name}"


def shrink(pictures: str, context: Context, size: int) -> str:
    context.sleep(0.1 * size)
    if size == 7:
        raise ValueError("picture 7 is damaged")
    return f"{pictures}, size {size}"


def rest(value: object, context: Context) -> object:
    context.sleep(0.3)
    return value


publish = StepFunction("Publish")
publish.add_step("Sort", rest, "Upload").add_step("Upload", rest)
publish.set_start_step("Sort")

album = StepFunction("Album")
album.add_step("Fetch", fetch, "Shrink", retry=RetryPolicy(interval=0.2, jitter=None))
album.add_step(
    "Shrink",
    {f"picture {size}": partial(shrink, size=size) for size in range(1, 10)},
    "Publish",
    parallel=True,
    max_workers=3,
)
album.add_step("Publish", {"here": publish, "there": publish}, "Tell", parallel=True)
album.add_step("Tell", lambda results: f"published {' and '.join(results)}")
album.set_start_step("Fetch")


def main() -> None:
    execution = album.execute("the sea", listeners=[RichProgress()])
    print(execution.output)


if __name__ == "__main__":
    main()
