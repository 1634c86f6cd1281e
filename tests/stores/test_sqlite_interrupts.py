"""Interrupts, and handlers that use the store, at any opcode of what a store does."""

from __future__ import annotations

import sqlite3
import threading
from itertools import count

import pytest
from shared.interrupts import Interrupt, raise_interrupt

from stepfunction import StoreError
from stepfunction.core.store import Row

# Says of each key that it is asked for whether a process has it.
LOCKS = """\
import fcntl
descriptor = os.open(path + ".lock", os.O_RDWR)
for line in sys.stdin:
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, int(line))
        fcntl.lockf(descriptor, fcntl.LOCK_UN, 1, int(line))
        print("free", flush=True)
    except OSError:
        print("held", flush=True)
"""


@pytest.fixture
def is_locked(store, program, begin):
    store.release(begin(store))
    process = program(LOCKS)

    def is_locked(key):
        process.stdin.write(f"{key}\n")
        process.stdin.flush()
        return process.stdout.readline() == "held\n"

    return is_locked


def appended(store, key, begin):
    store.append(key, 1, "1")


def appended_with_what_stands_apart(store, key, begin):
    store.append(key, 1, "1", {"a": b"a"})


def turned(store, key, begin):
    store.turn(Row(key, 1, "1"), "COMPLETED", 5.0)


def forgotten(store, key, begin):
    store.forget(Row(key, 1, "1"), 1, 0)


def begun(store, key, begin):
    begin(store, "another")


def begun_inside(store, key, begin):
    begin(store, outer=key)


def claimed(store, key, begin):
    store.release(key)
    store.claim(key)


def pruned(store, key, begin):
    store.turn(Row(key, 1, "1"), "COMPLETED", 5.0)
    store.release(key)
    store.prune(0)


def read(store, key, begin):
    assert [*store.rows(key)] and store.list(limit=1)


EVERY = pytest.mark.parametrize(
    "use",
    [
        *(appended, appended_with_what_stands_apart, turned, forgotten),
        *(begun, begun_inside, claimed, read, pruned),
    ],
)


def heard():
    """Have the interpreter look for a signal that came with the last opcode."""
    for _ in range(3):
        pass


def assert_free(store, path, chain):
    """Check that no thread and no process would wait for it."""
    other = sqlite3.connect(path, timeout=0, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    other.execute("ROLLBACK")
    other.close()
    thread = threading.Thread(target=store.find, args=["order-17"], daemon=True)
    thread.start()
    thread.join(5)
    assert not thread.is_alive(), chain


@EVERY
def test_an_interrupt_leaves_nothing_half_done(store, path, begin, use, is_locked):
    for number in count(1):
        key = begin(store, f"order-{number}")
        with Interrupt(number, raise_interrupt) as interrupt:
            try:
                use(store, key, begin)
                heard()
            except KeyboardInterrupt:
                pass
        assert_free(store, path, interrupt.chain)
        if "claim" in interrupt.chain or "prune" in interrupt.chain:
            assert not is_locked(key), interrupt.chain
        if store.find(f"order-{number}") is None:
            assert use is pruned
            if interrupt.count < number:
                return
            continue
        rows = [text for _, text in store.rows(key)]
        assert rows in (['["begin"]'], ['["begin"]', "1"])
        if use is turned:
            status = store.find(f"order-{number}").status
            assert status == ("COMPLETED" if len(rows) == 2 else "RUNNING")
        another = store.find("another")
        if another is not None:
            store.release(another.key)
            assert not is_locked(another.key)
            store.claim(another.key)
            assert is_locked(another.key)
            store.turn(Row(another.key, 1, "1"), "COMPLETED", 1.0)
            store.release(another.key)
            store.prune(0)
        store.release(key)
        assert not is_locked(key), number
        store.claim(key)
        assert is_locked(key), number
        store.turn(Row(key, len(rows), "more"), "COMPLETED", 1.0)
        store.release(key)
        store.prune(0)  # so that there is no more to see the next time
        if interrupt.count < number:
            return


@EVERY
def test_a_handler_may_use_the_store_or_is_told_that_it_may_not(
    store, path, begin, use
):
    mine = begin(store)
    numbers = count(1)
    for number in count(1):
        key = begin(store, f"order-{number}")
        told = []

        def handle():
            row = next(numbers)
            try:
                store.append(mine, row, str(row))
                told.append(row)
            except StoreError as error:
                told.append(error)

        before = len([*store.rows(mine)])
        with Interrupt(number, handle) as interrupt:
            use(store, key, begin)
            heard()
        assert_free(store, path, interrupt.chain)
        after = len([*store.rows(mine)])
        for it in told:
            if isinstance(it, StoreError):
                assert "signal handler" in str(it) and after == before
                numbers = count(before)
            else:
                assert after == before + 1
        if use is begun:
            another = store.find("another")
            store.turn(Row(another.key, 1, "1"), "COMPLETED", 1.0)
            store.release(another.key)
            store.prune(0)
        store.release(key)
        if interrupt.count < number:
            return
