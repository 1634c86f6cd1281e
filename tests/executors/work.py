"""What the tests of executors have done by workers, who import it by this name."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path


class TwoArguments(Exception):
    def __init__(self, code, reason):
        super().__init__(f"{code}: {reason}")
        self.code = code
        self.reason = reason


class OnlyWhereItWasMade:
    """Can be pickled, but not be unpickled in another process."""

    def __reduce__(self):
        return unpickle_where_it_was_made, (os.getpid(),)


def unpickle_where_it_was_made(process_id):
    if os.getpid() != process_id:
        raise RuntimeError("not here")
    return OnlyWhereItWasMade()


class HoldsALock:
    def __init__(self):
        self.lock = threading.Lock()

    def __call__(self, value):
        return value


def double(value):
    return value * 2


def negate(value):
    return -value


def same(value):
    return value


def pid(value):
    return os.getpid()


def key_of(it):
    """Give the name of a task, or the index of an item, of a context or record."""
    return it.task if it.item is None else it.item


def who(value, context):
    return context.execution_id, context.step, key_of(context), context.attempt


def fail(value):
    raise ValueError(f"cannot take {value}")


def fail_at_threes(value):
    return fail(value) if value % 3 == 0 else value


def fail_with_two_arguments(value):
    raise TwoArguments(7, "no luck")


def fail_at_first(value, context):
    if context.attempt == 1:
        raise ConnectionError(key_of(context))
    return context.attempt


def add_up(results):
    return sum(results.values())


def give_a_lock(value):
    return threading.Lock()


def give_a_lock_for_two(value):
    return threading.Lock() if value == 2 else value


def crash_for_two(value):
    if value == 2:
        os._exit(3)
    return value


def give_what_stays_there(value):
    return OnlyWhereItWasMade()


def touch(folder, context):
    Path(folder, str(key_of(context))).touch()


def wait_for(*parts, seconds=30.0):
    path = Path(*parts)
    end = time.monotonic() + seconds
    while not path.exists():
        assert time.monotonic() < end, f"{path} never came"
        time.sleep(0.005)


def second_before_first(folder, context):
    if context.task == "first":
        wait_for(folder, "second")
    touch(folder, context)
    return context.task


def hang_until_released(folder):
    Path(folder, "hangs").touch()
    wait_for(folder, "released")


def fail_once_the_other_hangs(folder):
    wait_for(folder, "hangs")
    Path(folder, "failed").touch()
    raise ValueError("enough")


def go_on_after_the_failure(folder):
    Path(folder, "hangs").touch()
    wait_for(folder, "failed")
    time.sleep(0.2)  # meanwhile the step hears of it
    Path(folder, "went on").touch()


def leave_a_line(folder):
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT
    descriptor = os.open(Path(folder, "lines"), flags, 0o644)
    os.write(descriptor, b"line\n")
    os.close(descriptor)
    return folder


def crash(folder):
    leave_a_line(folder)
    os._exit(3)


def crash_at_first(folder):
    leave_a_line(folder)
    if Path(folder, "lines").read_text() == "line\n":
        os._exit(3)
    return "done"
