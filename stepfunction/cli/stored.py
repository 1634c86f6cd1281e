"""Stored: the commands about executions that a store keeps, but for running them."""

from __future__ import annotations

import json
from argparse import Namespace
from collections import Counter
from collections.abc import Iterator, Sequence
from time import localtime, strftime, time
from typing import TYPE_CHECKING, Any

from stepfunction.cli.complaints import DONE, FAILED, WRONG_USE, say
from stepfunction.cli.stores import open_store
from stepfunction.core.outcomes import Status
from stepfunction.core.wording import counted, duration_text, error_text

if TYPE_CHECKING:
    from stepfunction.core.history.execution import Execution
    from stepfunction.drawing.rows import Row

_MOST_PARTS = 20  # of a step, that are all shown


def history(args: Namespace) -> tuple[int, str]:
    """List the executions of a store, the latest first."""
    since = None if args.since is None else time() - args.since
    with open_store(args.store) as store:
        found = store.list(args.workflow, args.status, since, args.limit)
    if args.json:
        facts = [
            {name: getattr(it, name) for name in _FACTS} | {"status": str(it.status)}
            for it in found
        ]
        return DONE, json.dumps(facts, indent=2) + "\n"
    if not found:
        say("no execution of these is stored")
    return DONE, _table([_cells(it) for it in found])


_FACTS = ("id", "workflow", "status", "started", "ended", "claimed", "host", "pid")


def _cells(it: Any) -> Sequence[str]:
    if it.ended is not None:
        note = f"took {duration_text(it.ended - it.started)}"
    elif it.claimed:
        note = "runs" if it.pid is None else f"runs in process {it.pid} on {it.host}"
    else:
        note = "can be resumed"
    return shown(it.id), shown(it.workflow), str(it.status), _moment(it.started), note


def _table(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(*rows)]
    lines = ("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)
    return "".join(f"{line}\n" for line in lines)


def _moment(seconds: float) -> str:
    return strftime("%Y-%m-%d %H:%M:%S", localtime(seconds))


def shown(text: str) -> str:
    """Give a text of the user's as one line can hold it, and harmless."""
    return text if text.isprintable() else repr(text)


def recover(args: Namespace) -> tuple[int, str]:
    """Go on with all executions of a store that died."""
    targets = [it for given in args.targets for it in args.places.expand(given)]
    workflows = [args.places.one(target) for target in targets]
    code, lines = DONE, []
    with open_store(args.store) as store:
        for it in store.recover(workflows, limit=args.limit):
            if it.execution is None:
                how = " ".join(f"refused: {it.error}".split())
                code = WRONG_USE
            else:
                how = str(it.execution.status)
                if it.execution.status is not Status.COMPLETED:
                    code = code or FAILED
            lines.append((shown(it.id), shown(it.workflow), shown(how)))
    if not lines:
        say("nothing has died")
    return code, _table(lines)


def show(args: Namespace) -> tuple[int, str]:
    """Show what an execution of a store did."""
    with open_store(args.store) as store:
        execution = store.load(args.id)
        if args.json:
            return DONE, execution.to_json() + "\n"
        return DONE, "".join(f"{line}\n" for line in _told(execution))


def _told(execution: Execution) -> Iterator[str]:
    from stepfunction.drawing.rows import rows_of

    steps = counted(sum(record.part is None for record in execution.history), "step")
    yield (
        f"{shown(execution.id)}: {shown(execution.workflow)} {execution.status} after "
        f"{steps} in {duration_text(execution.duration)}, began "
        f"{_moment(execution.started)}"
    )
    for row, parts in _few(rows_of(execution)):
        yield "  " * (row.depth + 1) + _line(row, parts)


def _few(rows: list[Row]) -> Iterator[tuple[Row, str]]:
    """Give the rows to show, with what is left out: parts that are many and went well.

    What is nested in these is left out with them.
    """
    owners: dict[int, int] = {}  # of each part the row of its step
    latest: dict[int, int] = {}  # depth to row
    for row in rows:
        latest[row.depth] = row.number
        if not row.is_step and not row.is_undoing:
            owners[row.number] = latest[row.depth - 1]
    parts = Counter(owners.values())
    below: int | None = None
    for row in rows:
        if below is not None and row.depth > below:
            continue
        below = None
        if parts[owners.get(row.number, -1)] > _MOST_PARTS and not row.is_trouble:
            below = row.depth
            continue
        count = parts[row.number]
        is_map = count and type(rows[row.number + 1].record.part) is int
        what = counted(count, "item" if is_map else "task")
        yield row, f", {what}" if count > _MOST_PARTS else ""


def _line(row: Row, parts: str) -> str:
    record = row.record
    how = "under way for" if record.outcome is None else f"{record.outcome} in"
    text = f"{shown(row.name)}  {how} {duration_text(record.duration)}{parts}"
    if len(record.attempts) > 1:
        text += f", {len(record.attempts)} attempts"
    if record.error is not None:
        text += f": {shown(error_text(record.error))}"
    return text


def prune(args: Namespace) -> tuple[int, str]:
    """Lose the executions that ended long ago."""
    with open_store(args.store) as store:
        lost = store.prune(args.older_than, args.dry_run)
    how = "would be lost" if args.dry_run else "lost"
    say(f"{how}: {counted(len(lost), 'execution')}")
    return DONE, _table([_cells(it) for it in lost])
