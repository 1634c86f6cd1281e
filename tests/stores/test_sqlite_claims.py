"""One process, and one thread of it, runs an execution; no other meanwhile."""

from __future__ import annotations

import os
import signal
from time import perf_counter

import pytest

from stepfunction import ExecutionClaimedError, StoreError
from stepfunction.core.store import Row
from stepfunction.stores import SQLiteStore

HOLD = """\
key = begin("order-17")
print(key, flush=True)
sys.stdin.read()
"""


def test_what_is_begun_is_claimed(any_store, begin):
    key = begin(any_store, "order-17")
    with pytest.raises(ExecutionClaimedError) as caught:
        any_store.claim(key)
    assert (caught.value.id, caught.value.pid) == ("order-17", os.getpid())
    assert caught.value.host == os.uname().nodename
    assert str(caught.value) == (
        f"execution 'order-17' runs already, in this process ({os.getpid()}); "
        "wait until it has ended, and call again"
    )


def test_what_is_released_can_be_claimed(any_store, begin):
    key = begin(any_store)
    any_store.release(key)
    any_store.release(key)
    any_store.claim(key)
    any_store.append(key, 1, "1")


def test_nothing_is_added_to_what_is_not_claimed(any_store, begin):
    key = begin(any_store, "order-17")
    nested = begin(any_store, outer=key)
    any_store.release(key)
    for add in (
        lambda: any_store.append(key, 1, "1"),
        lambda: any_store.append(nested, 1, "1"),
        lambda: any_store.turn(Row(nested, 1, "1"), "COMPLETED", 1.0),
        lambda: begin(any_store, outer=nested),
    ):
        with pytest.raises(ExecutionClaimedError) as caught:
            add()
        assert caught.value.id == "order-17"
    any_store.claim(key)
    any_store.append(nested, 1, "1")


def test_two_stores_of_one_file_share_their_claims(store, path, begin, tmp_path):
    (tmp_path / "link.db").symlink_to(path)
    key = begin(store)
    with SQLiteStore(tmp_path / "link.db") as other:
        with pytest.raises(ExecutionClaimedError):
            other.claim(key)
    # Closing the other has let go of nothing.
    assert store.list()[0].claimed
    store.append(key, 1, "1")


def test_another_process_is_named(store, program):
    process = program(HOLD)
    key = int(process.stdout.readline())
    with pytest.raises(ExecutionClaimedError) as caught:
        store.claim(key)
    assert (caught.value.id, caught.value.pid) == ("order-17", process.pid)
    with pytest.raises(ExecutionClaimedError):
        store.append(key, 1, "1")
    assert [(it.claimed, it.pid) for it in store.list()] == [(True, process.pid)]


def test_a_claim_ends_with_a_killed_process_at_once(store, program):
    process = program(HOLD)
    key = int(process.stdout.readline())
    process.kill()
    killed = perf_counter()
    while True:
        try:
            store.claim(key)
            break
        except ExecutionClaimedError:
            assert perf_counter() - killed < 5
    assert perf_counter() - killed < 1
    assert [it.status for it in store.list()] == ["RUNNING"]


def test_a_claim_stays_with_a_stopped_process(store, program):
    process = program(HOLD)
    key = int(process.stdout.readline())
    process.send_signal(signal.SIGSTOP)
    os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WNOWAIT)
    with pytest.raises(ExecutionClaimedError):
        store.claim(key)


def test_a_claim_is_seen_by_another_process(store, begin, program):
    begin(store, "order-17")
    process = program("""\
try:
    store.claim(store.find("order-17").key)
except ExecutionClaimedError as error:
    print(error.pid)
""")
    assert process.communicate()[0] == f"{os.getpid()}\n"


def test_eight_processes_claim_two_hundred_executions_once_each(store, begin, program):
    keys = [begin(store) for _ in range(200)]
    for key in keys:
        store.release(key)
    processes = [
        program(
            """\
sys.stdin.readline()
claimed = []
for key in map(int, sys.argv[2:]):
    try:
        store.claim(key)
    except ExecutionClaimedError:
        continue
    store.append(key, 1, str(os.getpid()))
    claimed.append(key)
print(*claimed, flush=True)
sys.stdin.readline()
""",
            *map(str, keys),
        )
        for _ in range(8)
    ]
    for process in processes:
        process.stdin.write("\n")
        process.stdin.flush()
    claimed = [int(key) for it in processes for key in it.stdout.readline().split()]
    assert sorted(claimed) == keys


@pytest.mark.parametrize("is_used", [True, False])
def test_a_forked_child_has_no_claim_and_leaves_its_parents(program, is_used):
    process = program(f"""\
key = begin("order-17")
child = os.fork()
if not child:
    if {is_used}:
        for refused in (lambda: store.append(key, 1, "1"), lambda: store.claim(key)):
            try:
                refused()
            except ExecutionClaimedError as error:
                assert error.pid == os.getppid()
            else:
                os._exit(3)
        other = begin("order-18")
        store.append(other, 1, "1")
        store.close()
    sys.exit()  # which ends all that the interpreter has
_, status = os.waitpid(child, 0)
print(status, flush=True)
store.append(key, 1, "1")
print([text for _, text in store.rows(key)], flush=True)
sys.stdin.read()
""")
    assert process.stdout.readline() == "0\n"
    assert process.stdout.readline() == "['[\"begin\"]', '1']\n"
    with SQLiteStore(process.args[4]) as store:
        with pytest.raises(ExecutionClaimedError):
            store.claim(store.find("order-17").key)


def test_a_child_that_is_forked_while_threads_write_can_use_the_store(program):
    process = program("""\
import threading
is_over = False
def write(key):
    number = 0
    while not is_over:
        store.turn(Row(key, number + 1, "1"), "RUNNING", None)
        number += 1
threads = [threading.Thread(target=write, args=[begin(f"t{it}")]) for it in range(3)]
for thread in threads:
    thread.start()
for number in range(20):
    if not os.fork():
        key = begin(f"c{number}")
        store.append(key, 1, "1")
        os._exit(0)
    print(os.wait()[1], flush=True)
is_over = True
for thread in threads:
    thread.join()
""")
    assert process.communicate(timeout=50)[0] == "0\n" * 20
    with SQLiteStore(process.args[4]) as store:
        assert len(store.list()) == 23


def test_a_claim_in_memory_is_not_a_forked_childs(program):
    process = program("""\
memory = SQLiteStore(":memory:")
key = begin("order-17", memory)
if not os.fork():
    try:
        memory.append(key, 1, "1")
    except StoreError:
        assert begin("order-17", memory)
        os._exit(0)
    os._exit(3)
print(os.wait()[1])
memory.append(key, 1, "1")
""")
    assert process.communicate()[0] == "0\n"
    assert process.returncode == 0


def test_without_record_locks_nothing_is_claimed(program):
    process = program("""\
import stepfunction.stores.claims as claims
claims._HAS_LOCKS = False
try:
    begin("order-17")
except StoreError as error:
    print("fcntl" in str(error))
print(begin("order-17", SQLiteStore(":memory:")))
""")
    assert process.communicate()[0] == "True\n1\n"


def test_a_lock_file_that_was_removed_is_no_place_for_claims(store, path, begin):
    key = begin(store)
    os.unlink(f"{path}.lock")
    with pytest.raises(StoreError, match="removed or replaced"):
        begin(store)
    store.append(key, 1, "1")


def test_a_file_that_was_removed_is_no_place_for_executions(store, path, begin):
    key = begin(store)
    running = begin(store)
    store.release(key)
    os.unlink(path)
    for refused in (
        lambda: begin(store),
        lambda: store.claim(key),
        lambda: store.turn(Row(running, 1, "1"), "COMPLETED", 1.0),
    ):
        with pytest.raises(StoreError, match="removed or replaced"):
            refused()
