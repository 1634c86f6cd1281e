"""Random mixes of calls on lanes, against a model of what may become of each."""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections import Counter
from concurrent.futures import wait
from pathlib import Path

import pytest

from stepfunction import ProcessLanes, WorkerCrashedError, WorkerKilledError

SHORT = ("short",) * 30
OTHERS = (
    "short",
    "slow",
    "long",
    "raise",
    "exit",
    "signal",
    "large",
    "large answer",
    "talkative",
)
LONGEST = 60


def perform(path, number, kind, extra=b""):
    line = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(line, f"{number}\n".encode())
    os.close(line)
    if kind == "slow":
        time.sleep(random.random() * 0.004)
    elif kind == "long":
        time.sleep(0.03)
    elif kind == "raise":
        raise ValueError(number)
    elif kind == "exit":
        os._exit(5)
    elif kind == "signal":
        os.kill(os.getpid(), signal.SIGKILL)
    elif kind == "large answer":
        return number, bytes(300_000)
    elif kind == "talkative":
        import logging

        for _ in range(50):
            logging.getLogger("random calls").debug("call %d", number)
    return number, extra


def meddle(chance, lanes, futures, killed, is_over):
    """Cancel and kill calls at random moments."""
    while not is_over.wait(chance.random() * 0.002):
        if not futures:
            continue
        number = chance.choice(list(futures))
        if chance.random() < 0.5:
            futures[number].cancel()
        else:
            killed.add(number)  # before, for it may be seen at once
            lanes.kill(futures[number])


def check(number, kind, future, killed, begun, extra):
    if future.cancelled():
        assert begun == 0, f"{number} was cancelled, and begun {begun} times"
        return
    assert begun <= 1, f"{number} ({kind}) was begun {begun} times"
    error = future.exception(timeout=0)
    if isinstance(error, WorkerKilledError):
        assert number in killed, f"{number} ({kind}) was killed, which nobody asked for"
        return
    assert begun == 1, f"{number} ({kind}) ended, and never began"
    if kind in ("exit", "signal"):
        assert isinstance(error, WorkerCrashedError)
        assert error.exitcode == (5 if kind == "exit" else -signal.SIGKILL)
    elif kind == "raise":
        assert isinstance(error, ValueError) and error.args == (number,)
    else:
        assert error is None, f"{number} ({kind}) is blamed: {error!r}"
        answer = bytes(300_000) if kind == "large answer" else extra
        assert future.result() == (number, answer)


def run_mix(seed, path, calls=150):
    chance = random.Random(seed)
    path = Path(path)
    kinds, killed = {}, set()
    futures = {}
    is_over = threading.Event()
    with ProcessLanes(chance.randint(1, 4)) as lanes:
        meddler = threading.Thread(
            target=meddle, args=(chance, lanes, futures, killed, is_over)
        )
        if chance.random() < 0.7:
            meddler.start()
        burst = chance.choice((1, 5, 40, 250))
        for number in range(calls):
            kind = chance.choice(SHORT if chance.random() < 0.6 else OTHERS)
            extra = b""
            if kind == "large":
                extra = bytes(chance.choice((5_000, 40_000, 300_000)))
            kinds[number] = kind, extra
            futures[number] = lanes.submit(perform, str(path), number, kind, extra)
            if number % burst == burst - 1:
                wait([futures[number]], LONGEST)
        left = wait(futures.values(), LONGEST).not_done
        is_over.set()
        if meddler.ident:
            meddler.join()
        assert not left, f"{len(left)} calls never end"
        last = [lanes.submit(perform, str(path), calls, "short") for _ in range(8)]
        assert [future.result(LONGEST)[0] for future in last] == [calls] * 8
    counts = Counter(map(int, path.read_text().split()))
    for number, future in futures.items():
        kind, extra = kinds[number]
        check(number, kind, future, killed, counts[number], extra)
    return counts


@pytest.mark.parametrize("seed", range(6))
def test_each_call_is_made_once_and_ends_as_it_must(seed, tmp_path):
    run_mix(seed, tmp_path / "begun")
