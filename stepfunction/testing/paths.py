"""Paths: which steps an execution visited."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from difflib import SequenceMatcher
from textwrap import shorten

from stepfunction.core.definition.graph import Graph
from stepfunction.core.history.execution import Execution
from stepfunction.core.history.records import StepRecord
from stepfunction.core.wording import did_you_mean, error_text

__tracebackhide__ = True  # pytest shows the test and what is called, not us

_WIDEST, _LONGEST = 48, 160
_AROUND = 3  # steps shown before and after what differs


def assert_path(execution: Execution, path: Iterable[str]) -> None:
    """Check that an execution visited these steps, in this order, and no others.

    A step that is visited again, in a loop, is named again. Of a parallel step the
    tasks are no steps. The path of a nested workflow is that of its own execution:
    ``assert_path(execution.children["Payment"], ["Check", "Charge"])``.

    Args:
        execution: What ``execute()`` returned, or ``dry_run()``.
        path: The names of the steps.

    Raises:
        AssertionError: If it took another path; the text shows both side by side,
            with how each step ended.
        TypeError: If the arguments are no execution and names.
    """
    if not isinstance(execution, Execution):
        raise TypeError(
            f"assert_path takes an execution and its path, not {execution!r}; give it "
            "what execute() returned"
        )
    expected = [path] if isinstance(path, str) else list(path)
    if isinstance(path, str) or not all(isinstance(it, str) for it in expected):
        raise TypeError(f"path is a list of names of steps, not {path!r}")
    records = [record for record in execution.history if record.part is None]
    taken = [record.step for record in records]
    if taken == expected:
        return
    raise AssertionError("\n".join(_account(execution, expected, records)))


def _account(
    execution: Execution, expected: list[str], records: list[StepRecord]
) -> Iterator[str]:
    """Say how two paths differ, line by line."""
    yield f"{execution.workflow!r} took another path, and is {execution.status}:"
    yield ""
    rows = [(" ", "expected", "taken", ""), *_rows(expected, records)]
    left, right = (
        min(_WIDEST, max(len(row[column]) for row in rows)) for column in (1, 2)
    )
    for mark, wanted, got, ending in rows:
        yield f"{mark} {wanted:{left}}   {got:{right}}   {ending}".rstrip()
    remarks = [*_remarks(execution, expected, records)]
    if remarks:
        yield ""
        yield from remarks


def _rows(
    expected: list[str], records: list[StepRecord]
) -> Iterator[tuple[str, str, str, str]]:
    """Give mark, expected step, step taken and its end, the two paths aligned."""
    taken = [record.step for record in records]
    for tag, begin, end, since, until in _aligned(expected, taken):
        if tag != "equal":
            for name in expected[begin:end]:
                yield "-", name, "", ""
            for record in records[since:until]:
                yield "+", "", record.step, _ending(record)
            continue
        # In a long loop what is alike would hide what is not.
        first, last = since + _AROUND, until - _AROUND
        for at in range(since, until):
            if at < first or at >= last or last - first < 2:
                yield " ", taken[at], taken[at], _ending(records[at])
            elif at == first:
                yield " ", "…", "…", f"{last - first} steps alike"


def _aligned(
    expected: list[str], taken: list[str]
) -> Iterator[tuple[str, int, int, int, int]]:
    """Give what is alike, and what is not, as ``SequenceMatcher.get_opcodes``.

    What two paths begin with is alike, and what they end with: of a loop that went
    round once more these are the rounds before, and after.
    """
    most = min(len(expected), len(taken))
    begin = next((n for n in range(most) if expected[n] != taken[n]), most)
    most -= begin
    end = next((n for n in range(most) if expected[-1 - n] != taken[-1 - n]), most)
    stop, until = len(expected) - end, len(taken) - end
    matcher = SequenceMatcher(
        None, expected[begin:stop], taken[begin:until], autojunk=False
    )
    if begin:
        yield "equal", 0, begin, 0, begin
    for tag, one, two, three, four in matcher.get_opcodes():
        yield tag, begin + one, begin + two, begin + three, begin + four
    if end:
        yield "equal", stop, len(expected), until, len(taken)


def _ending(record: StepRecord) -> str:
    if record.error is None:
        return str(record.outcome)
    text = error_text(record.error).partition("\n")[0]
    return f"{record.outcome}: {shorten(text, _LONGEST)}"


def _remarks(
    execution: Execution, expected: list[str], records: list[StepRecord]
) -> Iterator[str]:
    graph: Graph | None = execution.graph  # None where it was read from a file
    if graph is None:
        return
    for name in dict.fromkeys(expected):
        if name not in graph.table:
            hint = did_you_mean(name, graph.table)
            yield f"{name!r} is no step of {graph.name!r}{hint}"
    if graph.keep_history is not None and len(records) >= graph.keep_history:
        yield f"it remembers no more than its latest {graph.keep_history} steps"
