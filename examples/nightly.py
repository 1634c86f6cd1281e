"""Run every night from cron: once a night, one at a time, and on after a crash.

    30 2 * * *  cd /srv/shop && .venv/bin/python nightly.py 2>> nightly.log

The day is the id of the execution. So a second start on the same day does nothing
twice: it goes on with what has died, says so where another one still runs, and gives
back what had been done. Cron sends a mail with what is printed, and knows by the exit
code whether it worked.
"""

from __future__ import annotations

import logging
import sys
from datetime import date, timedelta
from pathlib import Path

from stepfunction import (
    ExecutionClaimedError,
    RetryPolicy,
    StepFunction,
    StepFunctionError,
)
from stepfunction.stores import SQLiteStore

RESUME = "stepfunction resume nightly.py --store nightly.db"


def collect(day: str) -> list[int]:
    text = Path(f"sales-{day}.txt").read_text(encoding="utf-8")
    return [int(line) for line in text.splitlines()]


def report(sales: list[int]) -> str:
    return f"{len(sales)} sales, {sum(sales)} in all"


nightly = StepFunction("Nightly")
nightly.add_step("Collect", collect, "Report", retry=RetryPolicy(interval=0.01))
nightly.add_step("Report", report)
nightly.set_start_step("Collect")


def main(day: str) -> int:
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s", level="INFO")
    with SQLiteStore("nightly.db") as store:
        try:
            execution = nightly.execute(
                day, store=store, execution_id=day, timeout=timedelta(hours=2)
            )
        except ExecutionClaimedError:
            print(f"{day}: it still runs")
            return 0
        except StepFunctionError as error:
            print(f"{day}: {error}")
            print(f"Put it right, then: {RESUME} {day}")
            return 1
        store.prune(older_than=timedelta(days=90))
    print(f"{day}: {execution.output}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1] if len(sys.argv) > 1 else str(date.today())))
