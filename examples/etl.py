"""Load a folder of files of which some are bad: keep the good, say what was wrong.

Each file is read by a task of its own. Up to half of them may be bad; these are moved
to a folder for somebody to look at, with the reason beside them.
"""

from __future__ import annotations

import csv
import sqlite3
from contextlib import closing
from pathlib import Path

from stepfunction import Context, MapResults, StepFunction

Row = tuple[str, float]
INBOX, REJECTED, DATABASE = Path("inbox"), Path("rejected"), Path("weather.db")


def find(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.csv"))


def read(path: Path) -> list[Row]:
    with path.open(encoding="utf-8", newline="") as file:
        rows = [(row["city"], float(row["degrees"])) for row in csv.DictReader(file)]
    if not rows:
        raise ValueError("there is nothing in it")
    return rows


def load(tables: MapResults) -> int:
    good = [table for table in tables if not isinstance(table, Exception)]
    rows = [row for table in good for row in table]
    with closing(sqlite3.connect(DATABASE)) as connection, connection:
        connection.execute("CREATE TABLE weather (city, degrees)")
        connection.executemany("INSERT INTO weather VALUES (?, ?)", rows)
    return len(rows)


def reject(loaded: int, context: Context) -> str:
    files, failed = context["Find"], context["Read"].failed
    for index, error in failed.items():
        path = files[index].rename(REJECTED / files[index].name)
        path.with_suffix(".txt").write_text(f"{error!r}\n", encoding="utf-8")
    return f"{loaded} rows of {len(files) - len(failed)} files, {len(failed)} rejected"


etl = StepFunction("Weather")
etl.add_step("Find", find, next_step="Read")
etl.add_map_step("Read", read, tolerated_failures="50%", next_step="Load")
etl.add_step("Load", load, next_step="Reject")
etl.add_step("Reject", reject)
etl.set_start_step("Find")


def main() -> None:
    for folder in (INBOX, REJECTED):
        folder.mkdir(exist_ok=True)
    DATABASE.unlink(missing_ok=True)
    for name, text in {
        "bergen": "city,degrees\nBergen,4\nBergen,5.5\n",
        "empty": "city,degrees\n",
        "oslo": "city,degrees\nOslo,-3\n",
        "typo": "city,degrees\nRome,warm\n",
    }.items():
        (INBOX / f"{name}.csv").write_text(text, encoding="utf-8")

    print(etl.execute(INBOX).output)
    for path in sorted(REJECTED.glob("*.txt")):
        print(f"{path.stem}: {path.read_text(encoding='utf-8').strip()}")


if __name__ == "__main__":
    main()
