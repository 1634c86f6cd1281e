"""Programs of a run that waits in its second step until a file is there.

    CRASH_FOLDER=… python gated.py run|many|recover|pauses
"""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

FOLDER = Path(os.environ.get("CRASH_FOLDER", "."))
if "CLOCK" in os.environ:  # how many seconds it is off
    real, off = time.time, float(os.environ["CLOCK"])
    time.time = lambda: real() + off

from stepfunction import (  # noqa: E402
    Context,
    ExecutionClaimedError,
    RetryPolicy,
    StepFunction,
)
from stepfunction.stores import SQLiteStore  # noqa: E402

ID = "gated"


def write(text):
    ledger = os.open(FOLDER / "ledger", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(ledger, f"{text}\n".encode())
    os.close(ledger)


def first(value, context: Context):
    write(f"first {context.execution_id}")
    return value


def second(value, context: Context):
    write(f"second {context.execution_id} {os.getpid()}")
    if (FOLDER / "die").exists():
        os._exit(9)
    if (FOLDER / "fork").exists() and (child := os.fork()) == 0:
        while not (FOLDER / "child").exists():
            time.sleep(0.005)
    elif (FOLDER / "fork").exists():
        (FOLDER / "forking").write_text(str(child))
        (FOLDER / "forking").rename(FOLDER / "forked")  # whole, as soon as it is there
    while not (FOLDER / "go").exists():
        time.sleep(0.005)
    return value


def third(value, context: Context):
    write(f"third {context.execution_id} {os.getpid()}")
    return value


gated = StepFunction("Gated").set_start_step("First")
gated.add_step("First", first, "Second")
gated.add_step("Second", second, "Third").add_step("Third", third)


def flaky(value, context: Context):
    write(f"attempt {context.attempt}")
    if context.attempt == 1:
        raise ValueError("not yet")
    return value


pauses = StepFunction("Pauses").set_start_step("Wait")
pauses.add_wait_step("Wait", seconds=1, next_step="Flaky")
pauses.add_step("Flaky", flaky, retry=RetryPolicy(2, interval=1, jitter=None))


def run(store):
    write(f"begun {os.getpid()}")
    try:
        execution = gated.execute(17, store=store, execution_id=ID)
    except ExecutionClaimedError as error:
        return f"claimed by {error.pid}"
    return f"{execution.status} {execution.output}"


def many(store):
    """Begin many runs, each in a process that dies in its second step."""
    for number in range(200):
        child = os.fork()
        if child == 0:
            try:
                gated.execute(number, store=store, execution_id=f"run {number}")
            finally:
                os._exit(1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
    return "dead"


def recover(store):
    for outcome in store.recover([gated]):
        print(outcome)
    return "recovered"


def pause(store):
    execution = pauses.execute(17, store=store, execution_id=ID)
    return f"{execution.status} {execution.output}"


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    command = {"run": run, "many": many, "recover": recover, "pause": pause}
    store = SQLiteStore(FOLDER / "runs.db")
    print(command[sys.argv[1]](store), flush=True)
