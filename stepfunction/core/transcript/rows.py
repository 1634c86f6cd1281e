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
nested execution, ``n`` how many items there were, ``d`` digest of the item; of items
that stand together it is of the list of them. Kinds and
facts that a reader does not know make it refuse the row: ``p`` (a pause for a person),
``b`` (a call that is kept before it begins), ``x`` (a death) and ``z`` (a sealed value)
are set aside for what is to come.
"""

from __future__ import annotations

import json

FORMAT = 1  # of the rows, as the first says it
BEGIN, STEP, VISIT, TASK, ITEMS = "begin", "s", "v", "t", "i"
ATTEMPT, WAIT, UNDO, FORGET, RESUME, END = "a", "w", "u", "f", "r", "e"
MANY = "m"
KINDS = frozenset(
    (BEGIN, STEP, VISIT, TASK, ITEMS, ATTEMPT, WAIT, UNDO, FORGET, RESUME, END)
)

json_text = json.JSONEncoder(separators=(",", ":")).encode
