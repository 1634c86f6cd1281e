"""What the disk, the file and its neighbours can do, and what the store says then."""

from __future__ import annotations

import os
import pickle
import shutil
import sqlite3
import stat
import threading
from pathlib import Path

import pytest

from stepfunction import DefinitionError, ExecutionClaimedError, StoreError
from stepfunction.core.store import Row
from stepfunction.stores import SQLiteStore, schema

OF_SCHEMA_1 = Path(__file__).parents[1] / "data" / "store_of_schema_1.db"


@pytest.mark.parametrize(
    ("argument", "given", "what"),
    [
        ("path", {"path": ""}, "path of a file"),
        ("path", {"path": "a\0b"}, "path of a file"),
        ("path", {"path": 17}, "path of a file"),
        ("path", {"path": b"runs.db"}, "path of a file"),
        ("synchronous", {"synchronous": "OFF"}, "'NORMAL' or 'FULL'"),
        ("synchronous", {"synchronous": None}, "'NORMAL' or 'FULL'"),
        ("max_value_bytes", {"max_value_bytes": 0}, "number of bytes"),
        ("max_value_bytes", {"max_value_bytes": True}, "number of bytes"),
    ],
)
def test_a_bad_argument_is_refused(argument, given, what):
    with pytest.raises(DefinitionError, match=what) as caught:
        SQLiteStore(**{"path": "runs.db", **given})
    assert caught.value.problems[0].argument == argument


def test_the_file_is_made_when_it_is_needed_for_its_owner_alone(path, begin):
    before = os.umask(0)
    try:
        store = SQLiteStore(path)
        assert not os.path.exists(path)
        begin(store)
        names = [path, *(f"{path}{end}" for end in ("-wal", "-shm", ".lock"))]
        assert {stat.S_IMODE(os.stat(name).st_mode) for name in names} == {0o600}
        store.close()
    finally:
        os.umask(before)


def test_a_relative_path_is_of_where_the_store_was_made(tmp_path, begin, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "elsewhere").mkdir()
    with SQLiteStore("runs.db") as store:
        monkeypatch.chdir(tmp_path / "elsewhere")
        begin(store)
    assert (tmp_path / "runs.db").exists()


@pytest.mark.parametrize("name", ["a b.db", "a?b=c#d.db", "file:x.db", "é'\";.db"])
def test_a_path_is_taken_as_it_is(tmp_path, begin, name):
    with SQLiteStore(tmp_path / name) as store:
        begin(store, "order-17")
    with SQLiteStore(tmp_path / name) as store:
        assert store.find("order-17")
    assert (tmp_path / name).exists()


def test_a_store_can_be_sent_to_another_process(path, begin):
    store = SQLiteStore(path, synchronous="FULL", max_value_bytes=17)
    begin(store, "order-17")
    with pickle.loads(pickle.dumps(store)) as sent:
        assert sent.max_value_bytes == 17 and repr(sent) == repr(store)
        assert sent.find("order-17")
    store.close()
    with pytest.raises(TypeError, match="memory"):
        pickle.dumps(SQLiteStore(":memory:"))


def test_a_closed_store_says_so(store, begin):
    key = begin(store)
    store.close()
    store.close()
    for use in (
        lambda: store.append(key, 1, "1"),
        lambda: store.find("order-17"),
        store.list,
    ):
        with pytest.raises(StoreError, match="has been closed"):
            use()
    store.release(key)


def test_closing_keeps_claims_until_they_are_let_go(store, path, begin):
    key = begin(store)
    store.close()
    with SQLiteStore(path) as again:
        with pytest.raises(ExecutionClaimedError):
            again.claim(key)
        store.release(key)
        again.claim(key)


@pytest.mark.parametrize(
    ("make", "what"),
    [
        (lambda path: path.write_text("an order of long ago\n" * 100), "none of SQL"),
        (lambda path: path.write_bytes(b"SQLite format 3\0" + b"x" * 5000), "SQL"),
        (lambda path: path.mkdir(), "cannot be opened"),
    ],
)
def test_what_is_no_file_of_sqlite_is_refused(tmp_path, begin, make, what):
    path = tmp_path / "orders.txt"
    make(path)
    before = path.read_bytes() if path.is_file() else None
    with pytest.raises(StoreError, match=what):
        begin(SQLiteStore(path))
    assert (path.read_bytes() if path.is_file() else None) == before


def test_a_file_of_another_program_is_refused_and_left_as_it_is(path, begin):
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE orders (id)")
    connection.close()
    before = Path(path).read_bytes()
    with pytest.raises(StoreError, match="no store of stepfunction's"):
        begin(SQLiteStore(path))
    assert Path(path).read_bytes() == before


def test_a_later_schema_is_refused_and_left_as_it_is(store, path, begin):
    begin(store)
    store.close()
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 1000")
    connection.close()
    with pytest.raises(StoreError, match="has schema 1000.* later"):
        SQLiteStore(path).list()


def test_tables_that_somebody_changed_are_refused(store, path, begin):
    begin(store)
    store.close()
    connection = sqlite3.connect(path)
    connection.execute("ALTER TABLE executions ADD COLUMN note")
    connection.close()
    with pytest.raises(StoreError, match="tables are not those"):
        SQLiteStore(path).list()


def test_a_file_of_schema_1_is_read_and_gone_on_with(tmp_path):
    path = tmp_path / "runs.db"
    shutil.copy(OF_SCHEMA_1, path)
    with SQLiteStore(path) as store:
        assert [(it.id, it.status) for it in store.list()] == [
            ("order-18", "COMPLETED"),
            ("order-17", "RUNNING"),
        ]
        key = store.find("order-17").key
        rows = [(0, '["begin"]'), (2, '"kept"'), (3, '"all"')]
        assert [*store.rows(key)] == rows
        assert store.apart(key, "large") == b"\0\xff" * 1000
        assert store.graph("digest") == "{}"
        (nested,) = store.nested(key)
        assert [*store.rows(nested.key)] == [(0, '["begin"]'), (1, '"nested"')]
        store.claim(key)
        store.append(key, 4, '"more"')
        assert [*store.rows(key)] == [*rows, (4, '"more"')]


def test_a_folder_that_is_not_there_is_named(tmp_path, begin):
    with pytest.raises(StoreError, match="No such file.*folder|folder must be there"):
        begin(SQLiteStore(tmp_path / "none" / "runs.db"))


def test_what_nobody_may_write_is_said(path, begin, program):
    with SQLiteStore(path) as store:
        begin(store)
    process = program("""\
if os.geteuid() == 0:
    os.chmod(path, 0o444)
    for name in (path + ".lock", os.path.dirname(path)):
        os.chown(name, 65534, 65534)
    os.chmod(os.path.dirname(os.path.dirname(path)), 0o755)
    os.seteuid(65534)
else:
    os.chmod(path, 0o444)
try:
    begin("order-18")
except StoreError as error:
    print(error)
""")
    assert "cannot be" in process.communicate()[0]


def test_a_full_disk_is_said_and_leaves_the_store_of_use(path, begin, monkeypatch):
    connect, made = sqlite3.connect, []

    def connect_small(*arguments, **named):
        made.append(connect(*arguments, **named))
        return made[-1]

    monkeypatch.setattr(sqlite3, "connect", connect_small)
    with SQLiteStore(path) as store:
        key = begin(store)
        made[0].execute("PRAGMA max_page_count = 60")
        kept = 0
        with pytest.raises(StoreError, match="disk is full.*make room") as caught:
            while kept < 1000:
                store.append(key, kept + 1, "x" * 1000)
                kept += 1
        assert isinstance(caught.value.__cause__, sqlite3.OperationalError)
        for keep in (
            lambda: begin(store),
            lambda: store.append(key, kept + 1, "1", {"a": b"x" * 100_000}),
            lambda: store.turn(Row(key, kept + 1, "x" * 10_000), "FAILED", 5.0),
        ):
            with pytest.raises(StoreError, match="disk is full"):
                keep()
        assert len([*store.rows(key)]) == kept + 1
        made[0].execute("PRAGMA max_page_count = 6000")
        store.append(key, kept + 1, "x" * 1000)
        assert len([*store.rows(key)]) == kept + 2
        assert [it.id for it in store.list()] == ["id-1"]


def test_a_limit_on_files_is_said_and_leaves_what_was_kept(program, path):
    process = program("""\
import resource
key = begin("order-17")
resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, resource.RLIM_INFINITY))
kept = 0
try:
    while True:
        store.append(key, kept + 1, "x" * 1000)
        kept += 1
except StoreError as error:
    print(kept, error, flush=True)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
store.append(key, kept + 1, "more")
""")
    kept, said = process.communicate()[0].split(" ", 1)
    assert "limit on the sizes of files" in said
    assert process.returncode == 0
    with SQLiteStore(path) as store:
        rows = [*store.rows(store.find("order-17").key)]
        assert len(rows) == int(kept) + 2 and rows[-1][1] == "more"


def test_a_file_that_another_keeps_to_itself_is_waited_for(store, path, begin):
    key = begin(store)
    other = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    timer = threading.Timer(0.6, other.execute, ["ROLLBACK"])
    timer.start()
    store.append(key, 1, "1")
    assert [*store.rows(key)][1:] == [(1, "1")]
    timer.join()
    other.close()


def test_a_file_that_another_keeps_for_ever_is_said(store, path, begin, monkeypatch):
    key = begin(store)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    monkeypatch.setattr("stepfunction.stores.link.PATIENCE", 0.1)
    with pytest.raises(StoreError, match="kept the file to itself"):
        store.append(key, 1, "1")
    other.close()
    store.append(key, 1, "1")


def test_eight_threads_append_at_once(any_store, begin):
    keys = [begin(any_store) for _ in range(8)]

    def append(key):
        for number in range(1, 101):
            any_store.append(key, number, str(number))

    threads = [threading.Thread(target=append, args=[key]) for key in keys]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    expected = [(0, '["begin"]'), *((it, str(it)) for it in range(1, 101))]
    assert all([*any_store.rows(key)] == expected for key in keys)


def test_a_store_that_nobody_has_closed_is_closed_with_the_program(program):
    process = program("""\
import atexit
key = begin("order-17")
atexit.register(lambda: store.append(key, 1, "at the very end"))
""")
    assert process.communicate()[0] == "" and process.returncode == 0
    with SQLiteStore(process.args[4]) as store:
        key = store.find("order-17").key
        assert [*store.rows(key)][1:] == [(1, "at the very end")]


def test_a_store_that_is_dropped_lets_the_file_go(path, begin):
    begin(SQLiteStore(path))
    assert not os.path.exists(f"{path}-wal")


def version_of(path):
    connection = sqlite3.connect(path)
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}
    connection.close()
    return version, "more" in tables


def test_an_older_schema_is_brought_to_the_latest_in_one(tmp_path, monkeypatch):
    path = tmp_path / "runs.db"
    shutil.copy(OF_SCHEMA_1, path)
    latest = len(schema._VERSIONS)
    monkeypatch.setattr(schema, "VERSION", latest + 1)
    more = "CREATE TABLE more (id)"
    for statements, after in (
        ((more, "CREATE TABLE more (id)"), (1, False)),
        ((more,), (latest + 1, True)),
    ):
        versions = (*schema._VERSIONS[:latest], statements)
        monkeypatch.setattr(schema, "_VERSIONS", versions)
        with SQLiteStore(path) as store:
            if after[1]:
                assert len(store.list()) == 2
            else:
                with pytest.raises(StoreError, match="more already exists"):
                    store.list()
        assert version_of(path) == after
