"""What there is to look at in a store, and what is lost when it is pruned."""

from __future__ import annotations

import sqlite3
from datetime import UTC, datetime, timedelta
from time import time

import pytest

from stepfunction import DefinitionError, Status, StoreError
from stepfunction.core.store import Row
from stepfunction.stores import SQLiteStore


@pytest.fixture
def end(begin):
    def end(store, id, status="COMPLETED", ago=100.0, **facts):
        key = begin(store, id, **facts)
        store.turn(Row(key, 1, '["end"]'), status, time() - ago)
        store.release(key)
        return key

    return end


def ids(executions):
    return [it.id for it in executions]


def test_executions_are_listed_the_latest_first(any_store, begin):
    for id, started in (("b", 2.0), ("d", 4.0), ("a", 1.0), ("c", 2.0)):
        key = begin(any_store, id, started=started)
    begin(any_store, "nested", outer=key)
    assert ids(any_store.list()) == ["d", "c", "b", "a"]
    assert ids(any_store.list(limit=2)) == ["d", "c"]
    assert any_store.list(limit=0) == []


def test_as_many_executions_are_listed_as_there_are(any_store, begin):
    for _ in range(4_100):
        any_store.release(begin(any_store, started=5.0))
    assert len(set(ids(any_store.list()))) == 4_100


def test_what_is_listed_can_be_chosen(any_store, begin, end):
    end(any_store, "a", started=1.0)
    end(any_store, "b", "FAILED", started=2.0, workflow="Checkout")
    begin(any_store, "c", started=3.5, workflow="Checkout")
    assert ids(any_store.list(workflow="Checkout")) == ["c", "b"]
    assert ids(any_store.list(status="COMPLETED")) == ["a"]
    assert ids(any_store.list(status=Status.FAILED)) == ["b"]
    assert ids(any_store.list(since=2)) == ["c", "b"]
    assert ids(any_store.list(since=datetime.fromtimestamp(3.0, UTC))) == ["c"]
    assert ids(any_store.list("Checkout", "RUNNING", 1.0, 5)) == ["c"]


@pytest.mark.parametrize(
    "named",
    [
        {"status": "COMPLETE"},
        {"status": 1},
        {"limit": -1},
        {"limit": True},
        {"since": "yesterday"},
        {"since": float("nan")},
        {"since": timedelta(1)},
        {"workflow": 1},
    ],
)
def test_what_cannot_be_listed_so_is_refused(any_store, named):
    with pytest.raises(DefinitionError) as caught:
        any_store.list(**named)
    assert [it.argument for it in caught.value.problems] == [*named]


def test_what_died_is_running_and_not_claimed(any_store, begin):
    key = begin(any_store)
    assert [(it.status, it.claimed) for it in any_store.list()] == [("RUNNING", True)]
    any_store.release(key)
    assert [(it.status, it.claimed) for it in any_store.list()] == [("RUNNING", False)]


def test_what_ended_long_ago_is_pruned_with_all_that_is_nested(any_store, begin, end):
    old = begin(any_store, "old", apart={"a": b"a"}, graph="old")
    nested = begin(any_store, outer=old, graph="nested")
    inside = begin(any_store, outer=nested, apart={"b": b"b"}, graph="both")
    any_store.turn(Row(old, 1, "1"), "FAILED", time() - 3600)
    any_store.release(old)
    kept = end(any_store, "young", ago=60, graph="both")
    begin(any_store, "running")
    assert ids(any_store.prune(600, dry_run=True)) == ["old"]
    assert any_store.find("old")
    assert ids(any_store.prune(timedelta(minutes=10))) == ["old"]
    assert any_store.find("old") is None
    for lost in (old, nested, inside):
        with pytest.raises(StoreError):
            [*any_store.rows(lost)]
        with pytest.raises(StoreError):
            any_store.apart(lost, "a")
    for graph in ("old", "nested"):
        with pytest.raises(StoreError):
            any_store.graph(graph)
    assert any_store.graph("both") and len([*any_store.rows(kept)]) == 2
    assert ids(any_store.list()) == ["running", "young"]


def test_what_has_not_ended_is_never_pruned(any_store, begin):
    any_store.release(begin(any_store, started=1.0))
    assert any_store.prune(0) == []
    assert len(any_store.list()) == 1


def test_what_somebody_resumes_is_not_pruned(any_store, end):
    key = end(any_store, "order-17", "FAILED")
    any_store.claim(key)
    assert any_store.prune(0) == any_store.prune(0, dry_run=True) == []
    any_store.turn(Row(key, 2, '["resume"]'), "RUNNING", None)
    any_store.release(key)
    assert any_store.prune(0) == []
    assert len([*any_store.rows(key)]) == 3


def test_an_id_that_was_pruned_can_be_begun_anew(any_store, begin, end):
    before = end(any_store, "order-17")
    any_store.prune(0)
    assert begin(any_store, "order-17") > before


def test_what_was_left_of_an_interrupted_pruning_is_lost_later(store, path, begin, end):
    key = begin(store, "order-17")
    nested = begin(store, outer=key)
    store.turn(Row(key, 1, "1"), "COMPLETED", 1.0)
    store.release(key)
    connection = sqlite3.connect(path)
    connection.execute("DELETE FROM executions WHERE key = ?", (key,))
    connection.commit()
    connection.close()
    store.prune(0)
    with pytest.raises(StoreError):
        [*store.rows(nested)]


def test_nothing_is_left_in_the_tables_of_what_was_pruned(store, path, begin):
    key = begin(store, apart={"a": b"a"})
    for number in range(30):
        begin(store, outer=begin(store, outer=key, visit=number), apart={"b": b"b"})
    store.turn(Row(key, 1, "1", {"c": b"c"}), "COMPLETED", 1.0)
    store.release(key)
    store.prune(0)
    connection = sqlite3.connect(path)
    for table in ("executions", "rows", "apart", "pieces", "graphs"):
        assert connection.execute(f"SELECT * FROM {table}").fetchall() == [], table
    connection.close()


@pytest.mark.parametrize("age", [-1, "1", None, float("nan"), timedelta(-1), True])
def test_an_age_that_is_none_is_refused(any_store, age):
    with pytest.raises(DefinitionError, match="older_than"):
        any_store.prune(age)


def test_a_store_shows_its_path(store, path):
    assert repr(store) == f"SQLiteStore({path!r})"
    assert repr(SQLiteStore(":memory:")) == "SQLiteStore(':memory:')"
