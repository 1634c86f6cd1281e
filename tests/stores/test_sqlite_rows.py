"""What is kept comes back as it was, in its order, and each thing once."""

from __future__ import annotations

import pytest

from stepfunction import ExecutionClaimedError, StoreError
from stepfunction.core.store import Row


def test_rows_come_back_in_their_order(any_store, begin):
    key = begin(any_store)
    for number in range(1, 5_000):
        any_store.append(key, number, f'["step", {number}]')
    rows = [(number, f'["step", {number}]') for number in range(1, 5_000)]
    assert [*any_store.rows(key)] == [(0, '["begin"]'), *rows]


def test_rows_of_executions_are_kept_apart(any_store, begin):
    first, second = begin(any_store), begin(any_store)
    any_store.append(second, 1, "2")
    any_store.append(first, 1, "1")
    assert [*any_store.rows(first)] == [(0, '["begin"]'), (1, "1")]
    assert [*any_store.rows(second)] == [(0, '["begin"]'), (1, "2")]


def test_rows_are_there_when_the_file_is_opened_again(store, path, begin):
    key = begin(store)
    store.append(key, 1, "1")
    store.release(key)
    store.close()
    with type(store)(path) as again:
        assert [*again.rows(key)] == [(0, '["begin"]'), (1, "1")]


def test_a_number_that_is_taken_says_that_another_has_taken_over(any_store, begin):
    key = begin(any_store, "order-17")
    any_store.append(key, 1, "1")
    with pytest.raises(ExecutionClaimedError) as caught:
        any_store.append(key, 1, "another")
    assert caught.value.id == "order-17"
    assert [*any_store.rows(key)][1:] == [(1, "1")]


def test_a_row_and_a_status_are_kept_both_or_neither(any_store, begin):
    key = begin(any_store, "order-17")
    any_store.append(key, 1, "taken")
    with pytest.raises(ExecutionClaimedError):
        any_store.turn(Row(key, 1, "1"), "COMPLETED", 5.0)
    assert any_store.find("order-17").status == "RUNNING"
    any_store.turn(Row(key, 2, "2"), "COMPLETED", 5.0)
    assert any_store.find("order-17").status == "COMPLETED"
    assert [*any_store.rows(key)][1:] == [(1, "taken"), (2, "2")]


def test_an_id_is_begun_once(any_store, begin):
    key = begin(any_store, "order-17")
    assert begin(any_store, "order-17") == 0
    assert any_store.find("order-17").key == key
    assert any_store.find("order-18") is None


def test_a_head_comes_back_as_it_was_begun(any_store, begin):
    key = begin(any_store, "order-17", workflow="Checkout", started=1.1)
    head = any_store.find("order-17")
    assert head == (
        *(key, "order-17", "Checkout", "RUNNING", 1.1, None, "digest"),
        *(None, 0, "null", 0),
    )


def test_what_is_nested_is_found_by_its_place(any_store, begin):
    key = begin(any_store)
    places = [(2, '"b"', 0), (1, "null", 1), (2, '"a"', 0), (1, "null", 0)]
    for visit, part, turn in places:
        assert begin(any_store, outer=key, visit=visit, part=part, turn=turn)
    nested = any_store.nested(key)
    assert [each[-3:] for each in nested] == sorted(places)
    assert {each.outer for each in nested} == {key}
    assert begin(any_store, outer=key, visit=2, part='"a"', turn=0) == 0


def test_what_is_nested_may_have_the_id_of_another(any_store, begin):
    key = begin(any_store, "order-17")
    nested = begin(any_store, "order-17", outer=key)
    assert nested != key and any_store.find("order-17").key == key


def test_what_stands_apart_comes_back(any_store, begin):
    key = begin(any_store, apart={"first": b"\0\xff"})
    any_store.append(key, 1, "1", {"large": b"x" * 1_000_000, "empty": b""})
    assert any_store.apart(key, "first") == b"\0\xff"
    assert any_store.apart(key, "large") == b"x" * 1_000_000
    assert any_store.apart(key, "empty") == b""
    with pytest.raises(StoreError, match="'other' is not there"):
        any_store.apart(key, "other")


def test_what_stands_apart_is_kept_once_for_all_rows(store, begin, path):
    from os import stat

    key = begin(store)
    for number in range(1, 21):
        store.append(key, number, "1", {"large": b"x" * 1_000_000})
    store.close()
    assert stat(path).st_size < 2_000_000


def test_a_graph_comes_back(any_store, begin):
    begin(any_store, graph="one"), begin(any_store, graph="one")
    assert any_store.graph("one") == "{}"
    with pytest.raises(StoreError, match="'two' is not there"):
        any_store.graph("two")


def test_a_turn_keeps_a_row_with_the_status(any_store, begin):
    key = begin(any_store, "order-17")
    any_store.turn(Row(key, 1, '"end"'), "FAILED", 200.0)
    head = any_store.find("order-17")
    assert (head.status, head.ended) == ("FAILED", 200.0)
    any_store.turn(Row(key, 2, '"anew"'), "RUNNING", None)
    head = any_store.find("order-17")
    assert (head.status, head.ended) == ("RUNNING", None)
    assert [*any_store.rows(key)][1:] == [(1, '"end"'), (2, '"anew"')]


def test_a_turn_that_collides_changes_no_status(any_store, begin):
    key = begin(any_store, "order-17")
    with pytest.raises(ExecutionClaimedError):
        any_store.turn(Row(key, 0, '"end"'), "FAILED", 200.0)
    assert any_store.find("order-17").status == "RUNNING"


def test_what_is_forgotten_is_lost_but_the_first_row(any_store, begin):
    key = begin(any_store)
    for number in range(1, 10):
        any_store.append(key, number, str(number))
    any_store.forget(Row(key, 10, "all"), 8, 0)
    any_store.append(key, 11, "11")
    rows = [(0, '["begin"]'), (8, "8"), (9, "9"), (10, "all"), (11, "11")]
    assert [*any_store.rows(key)] == rows
    any_store.forget(Row(key, 12, "all"), 12, 0)
    assert [*any_store.rows(key)] == [(0, '["begin"]'), (12, "all")]


def test_forgetting_nothing_loses_nothing(any_store, begin):
    key = begin(any_store)
    any_store.append(key, 1, "1")
    for number in (2, 3):
        any_store.forget(Row(key, number, "all"), 1, 0)
    assert [number for number, _ in any_store.rows(key)] == [0, 1, 2, 3]


def test_what_forgotten_rows_alone_refer_to_is_lost(any_store, begin):
    key = begin(any_store, apart={"first": b"first"})
    any_store.append(key, 1, "1", {"first": b"first", "lost": b"lost"})
    any_store.append(key, 2, "2", {"again": b"again"})
    any_store.append(key, 3, "3", {"again": b"again"})
    any_store.append(key, 4, "4", {"late": b"late"})
    any_store.forget(Row(key, 5, "all", {"all": b"all"}), 3, 0)
    for name in ("first", "again", "late", "all"):
        assert any_store.apart(key, name) == name.encode()
    with pytest.raises(StoreError):
        any_store.apart(key, "lost")


def test_what_was_nested_in_forgotten_visits_is_lost_with_all_in_it(any_store, begin):
    key = begin(any_store)
    early, late = (begin(any_store, outer=key, visit=visit) for visit in (3, 4))
    innermost = begin(any_store, outer=early)
    any_store.forget(Row(key, 1, "all"), 1, 4)
    assert [each.key for each in any_store.nested(key)] == [late]
    for lost in (early, innermost):
        with pytest.raises(StoreError):
            [*any_store.rows(lost)]


def test_texts_of_any_length_and_kind_come_back(any_store, begin):
    key = begin(any_store, "\0 ' \" é 🙂")
    texts = ["", "\0", "é🙂", "x" * 3_000_000, "'; --"]
    for number, text in enumerate(texts, 1):
        any_store.append(key, number, text)
    assert [text for _, text in any_store.rows(key)][1:] == texts
    assert any_store.find("\0 ' \" é 🙂").key == key


def test_what_utf_8_cannot_write_is_refused(any_store, begin):
    with pytest.raises(StoreError, match="UTF-8"):
        begin(any_store, "\ud800")
    assert any_store.list() == []


def test_a_store_lists_and_prunes_with_numbers_of_any_size(store, begin):
    store.turn(Row(begin(store, "order-17"), 1, "1"), "COMPLETED", 5.0)
    assert [it.id for it in store.list(limit=10**400)] == ["order-17"]
    assert store.prune(older_than=10**400) == []
    assert store.recover([], limit=10**400) == []
