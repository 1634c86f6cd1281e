"""Damage is an error, or an earlier position; never another value."""

from __future__ import annotations

import random
import sqlite3
import subprocess
from pathlib import Path

import pytest

from stepfunction import StoreError
from stepfunction.core.store import Row
from stepfunction.stores import SQLiteStore

IDS = [f"order-{number}" for number in range(5)]


@pytest.fixture
def damaged(store, path, begin, tmp_path):
    """Give what reads a damaged copy, and says what it has found of each execution."""
    truth, folder = {}, tmp_path / "damaged"
    folder.mkdir()
    for id in IDS:
        key = begin(store, id, apart={"large": id.encode()})
        nested = begin(store, outer=key, visit=3, part='"t"')
        for number in range(1, 12):
            store.append(key, number, f'["step", "S{number}", {number}.25]')
            store.append(nested, number, f'["inside", {number}]')
        truth[id] = [text for _, text in store.rows(key)]
        truth[id, "inside"] = [text for _, text in store.rows(nested)]
    store.turn(Row(key, 12, '["end"]'), "COMPLETED", 200.0)
    truth[IDS[-1]].append('["end"]')

    def read(files):
        for name, data in files.items():
            (folder / name).write_bytes(data)
        (folder / "runs.db-shm").unlink(missing_ok=True)
        with SQLiteStore(folder / "runs.db") as copy:
            return [found(copy, id) for id in IDS]

    def found(copy, id):
        try:
            head = copy.find(id)
            if head is None:
                return "nothing"
            rows = [text for _, text in copy.rows(head.key)]
            assert rows == truth[id][: len(rows)], rows
            assert head[1:5] == (id, "Chain", head.status, 100.0)
            assert head.status == "RUNNING" or rows[-1] == '["end"]'
            assert copy.apart(head.key, "large") == id.encode()
            assert copy.graph(head.graph) == "{}"
            for nested in copy.nested(head.key):
                inside = [text for _, text in copy.rows(nested.key)]
                assert inside == truth[id, "inside"][: len(inside)], inside
        except StoreError:
            return "an error"
        return len(rows)

    return read


def copied(path):
    """Give the file and its log while the store is open."""
    names = ["runs.db", "runs.db-wal"]
    folder = Path(path).parent
    copies = folder / "copies"
    copies.mkdir()
    # In another process: to close a file here ends the locks that SQLite has in it.
    subprocess.run(["cp", *(folder / name for name in names), copies], check=True)
    return {name: (copies / name).read_bytes() for name in names}


def test_a_log_that_is_cut_is_an_earlier_position(damaged, path):
    files = copied(path)
    log = files["runs.db-wal"]
    before = [0] * len(IDS)
    for length in [*range(0, len(log), 512), len(log)]:
        found = damaged({**files, "runs.db-wal": log[:length]})
        now = [0 if it == "nothing" else it for it in found]
        assert all(a <= b for a, b in zip(before, now)), length
        before = now
    assert before == [12, 12, 12, 12, 13]


def test_a_file_that_is_cut_is_an_error(damaged, store, path):
    store.close()
    data = Path(path).read_bytes()
    for length in range(512, len(data), 512):
        try:
            found = damaged({"runs.db": data[:length]})
        except StoreError:
            continue
        # What is looked up in other ways alone may have stood behind.
        assert "an error" in found or found == [12, 12, 12, 12, 13], length


@pytest.mark.parametrize("name", ["runs.db", "runs.db-wal"])
def test_a_flipped_bit_is_an_error_or_an_earlier_position(damaged, store, path, name):
    if name == "runs.db":
        store.close()
        files = {name: Path(path).read_bytes()}
    else:
        files = copied(path)
    chance = random.Random(15)
    errors = 0
    for _ in range(400):
        data = bytearray(files[name])
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
        try:
            errors += "an error" in damaged({**files, name: bytes(data)})
        except StoreError:
            errors += 1
    assert errors > 40 or name == "runs.db-wal"


@pytest.mark.parametrize(
    ("statement", "what"),
    [
        ("DELETE FROM rows WHERE id = {} + 1", "row 1 .* is not there"),
        ("DELETE FROM rows WHERE id = {} + 2", "row 2 .* is not there"),
        ("DELETE FROM rows WHERE id = {}", "row 0 .* is not there"),
        ("DELETE FROM rows WHERE id >= {}", "row 0 .* is not there"),
        ("UPDATE rows SET text = '3' WHERE id = {} + 1", "row 1 .* not as it was"),
        ("UPDATE rows SET text = x'31' WHERE id = {} + 1", "row 1 .* not as it was"),
        ("UPDATE rows SET sum = sum + 1 WHERE id = {} + 1", "row 1 .* not as it was"),
        ("UPDATE rows SET id = {} + 9 WHERE id = {} + 2", "row 9 .* not as it was"),
        ("UPDATE executions SET status = 'RUNNING'", "'order-17' is not as it was"),
        ("UPDATE executions SET started = 'x'", "'order-17' is not as it was"),
        ("UPDATE executions SET root = x'00'", "'order-17' is not as it was"),
    ],
)
def test_what_was_changed_is_named(store, path, begin, statement, what):
    key = begin(store, "order-17")
    store.append(key, 1, "1")
    store.turn(Row(key, 2, "2"), "COMPLETED", 1.0)
    connection = sqlite3.connect(path)
    connection.execute(statement.replace("{}", str(key << 32)))
    connection.commit()
    connection.close()
    with pytest.raises(StoreError, match=f"is damaged.*{what}"):
        [*store.rows(store.find("order-17").key)]
