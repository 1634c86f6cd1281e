"""Draw and report what became of each step: the car purchase that fails half-way.

The only car has just been sold, so the third task of Update_Records fails and
Handle_Failure undoes the other two. The picture says how each step ended, how long it
took, which way the execution went, and what failed. The same as text, for a page that
draws Mermaid, is printed. The report has the picture too, and what each step was given
and gave; it does not tell in which folder this file is.
"""

from __future__ import annotations

import sqlite3
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

from car_purchase import PURCHASE, SHOP, TABLES, workflow

FOLDER = f"{Path(__file__).resolve().parent}/"


def redact(where: tuple[Any, ...], value: Any) -> Any:
    return value.replace(FOLDER, "") if where[1] == "traceback" else value


def main(
    picture: str = "car_purchase_run.svg", report: str = "car_purchase_run.html"
) -> None:
    SHOP.unlink(missing_ok=True)
    with closing(sqlite3.connect(SHOP)) as connection:
        connection.executescript(TABLES)
    workflow.execute(PURCHASE % (1, 42_000))
    execution = workflow.execute(PURCHASE % (2, 42_000))
    print(execution.to_mermaid())
    print("Picture:", execution.visualize(picture))
    print("Report:", execution.report(report, redact=redact))


if __name__ == "__main__":
    main(*sys.argv[1:])
