"""Rows: what a store's rows say of an execution, and in which order.

Each execution, nested ones too, is a sequence of rows, each a JSON list that begins
with its kind. Moments are seconds since the epoch; a *fragment* is what ``storing``
makes of a value or an exception::

    ["begin", facts]                       id, input, its digest, deadline, key …
    ["s", step, ended, next, output]       a step that did no more than succeed
    ["v", step, ended, next, facts]        any other step
    ["t", part, facts]                     a task, or an item that has a record
    ["i", first, digest, outputs]          items that succeeded together, as a list
    ["m", row, row …]                      rows that were kept together
    ["a", part, attempt, pause, due, turn, output]  one that is followed by another
    ["w", seconds, due]                    the moment a wait step waits for
    ["u", step, part, attempt, output, returned]    a compensation
    ["f", facts]                           what forgotten steps have left
    ["r", facts]                           it was taken over, or goes on
    ["e", status, ended, facts]            the end

An attempt is ``[outcome, began, ended, error]``. Of facts there are, where they say
anything: ``o`` outcome, ``r`` output, ``e`` error, ``a`` attempts, ``c`` turn of the
nested execution, ``n`` how many tasks or items there were, ``d`` digest of the item; of
items that stand together it is of the list of them; ``i`` the names of a task's inputs,
where those are some of the step's; ``no_input`` of an execution without one.

A row of a kind that a reader does not know is refused: ``p`` (a pause for a person),
``b`` (a call that is kept before it begins), ``x`` (a death) and ``z`` (a sealed value)
are set aside for what is to come.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from stepfunction.core.outcomes import SUCCEEDED

FORMAT = 1  # of the rows, as the first says it
BEGIN, STEP, VISIT, TASK, ITEMS = "begin", "s", "v", "t", "i"
ATTEMPT, WAIT, UNDO, FORGET, RESUME, END = "a", "w", "u", "f", "r", "e"
MANY = "m"
KINDS = frozenset(
    (BEGIN, STEP, VISIT, TASK, ITEMS, ATTEMPT, WAIT, UNDO, FORGET, RESUME, END)
)

json_text = json.JSONEncoder(separators=(",", ":")).encode


class Rows(NamedTuple):
    """The rows of an execution that count.

    Attributes:
        next: The number of its next row.
        base: What forgotten steps have left; None where none are forgotten.
        counted: Each with its number, but for those that a later one has set aside.
    """

    next: int
    base: Mapping[str, Any] | None
    counted: list[tuple[int, Any]]


def read_rows(numbered: Iterable[tuple[int, str]]) -> Rows:
    """Read the rows of an execution, the first of which is its beginning.

    Args:
        numbered: The number and the text of each.

    Raises:
        ValueError: If they are none that this version has written, with the reason.
    """
    numbers, texts = [], []
    for number, text in numbered:
        numbers.append(number)
        texts.append(text)
    if not texts:
        raise ValueError("has no rows")
    try:
        told = json.loads(f"[{','.join(texts)}]")
    except (ValueError, RecursionError) as error:
        raise ValueError(f"is no JSON: {error}") from error
    if len(told) != len(numbers):
        raise ValueError("has a row that is no JSON")
    base: Mapping[str, Any] | None = None
    counted: list[tuple[int, Any]] = []
    for number, row in _each(zip(numbers, told)):
        if type(row) is not list or not row or row[0] not in KINDS:
            raise ValueError(f"has a row {number} that this version cannot read")
        if row[0] == FORGET:
            base = row[1]
            before = row[1]["before"]
            counted = [it for it in counted if it[0] >= before or it[0] == 0]
            continue
        if row[0] == RESUME and "cut" in row[1]:
            counted = [*_before(counted, row[1])]
        counted.append((number, row))
    kind, first = counted[0][1][:2]
    if kind != BEGIN or first["format"] != FORMAT:
        raise ValueError("begins with a row that this version cannot read")
    return Rows(numbers[-1] + 1, base, counted)


def _each(numbered: Iterable[tuple[int, Any]]) -> Iterator[tuple[int, Any]]:
    """Give each row by itself, also of those that were kept together."""
    for number, row in numbered:
        if type(row) is list and row[:1] == [MANY]:
            for one in row[1:]:
                yield number, one
        else:
            yield number, row


def _before(
    counted: Iterable[tuple[int, Any]], facts: Mapping[str, Any]
) -> Iterator[tuple[int, Any]]:
    """Give the rows that still count where an execution goes on from an earlier one."""
    cut, keeps = facts["cut"], facts.get("keeps", 0)
    for number, row in counted:
        if number < cut or (number < keeps and _succeeded(row)):
            yield number, row


def _succeeded(row: Any) -> bool:
    """Tell whether a row is of a task, or of items, that succeeded."""
    if row[0] == TASK:
        return bool(row[2]["o"] == SUCCEEDED.value)
    return bool(row[0] == ITEMS)
