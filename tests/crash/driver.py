"""Runs the program ``everything.py``, kills it, and looks at what is kept of it."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from shared.commands import PACKAGE_HOME

from stepfunction.stores import SQLiteStore

SCRIPT = Path(__file__).with_name("everything.py")
ID = "run-17"
TOKEN = re.compile(r"<<[^<>]*>>")
TO_END = 50.0  # seconds for a program that nobody kills


def environment(folder: Path, **more: str) -> dict[str, str]:
    path = os.pathsep.join(filter(None, (PACKAGE_HOME, os.environ.get("PYTHONPATH"))))
    return {**os.environ, "PYTHONPATH": path, "CRASH_FOLDER": str(folder), **more}


class Program:
    """The program as a process."""

    def __init__(self, folder: Path, seed: int, **more: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, SCRIPT, str(seed)],
            env=environment(folder, **more),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        assert self.process.stdout is not None
        self.is_ready = self.process.stdout.readline() == "ready\n"

    def send(self, signum: int) -> None:
        if self.process.poll() is not None:
            return
        if signum == signal.SIGINT:  # as a terminal does
            os.killpg(self.process.pid, signum)
        else:
            self.process.send_signal(signum)

    def end(self) -> tuple[Any, str]:
        """Give what it told of the execution, if it came so far, and what it said."""
        out, err = self.process.communicate(timeout=TO_END)
        is_told = self.process.returncode == 0
        return (json.loads(out) if is_told else None), err


class Ledger:
    """What was begun and ended, as the calls themselves wrote it down."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "ledger"
        self.read = 0

    def new(self) -> list[dict[str, Any]]:
        """Give what was written since the last time."""
        if not self.path.exists():
            return []
        with self.path.open("rb") as file:
            file.seek(self.read)
            data = file.read()
        whole = data[: data.rfind(b"\n") + 1]
        self.read += len(whole)
        return [json.loads(line) for line in whole.splitlines()]


def recorded(folder: Path) -> tuple[str | None, set[str]]:
    """Give the status of the run, and the tokens of all calls that are kept."""
    with SQLiteStore(folder / "runs.db") as store:
        head = store.find(ID)
        if head is None:
            return None, set()
        return head.status, set(_tokens(store, head.key))


def _tokens(store: Any, key: int) -> Iterator[str]:
    for _, text in store.rows(key):
        yield from TOKEN.findall(text)
    for head in store.nested(key):
        yield from _tokens(store, head.key)


def is_free(folder: Path) -> bool:
    """Tell whether nobody runs it."""
    with SQLiteStore(folder / "runs.db") as store:
        head = store.find(ID)
        store.claim(head.key)
        store.release(head.key)
    return True


class Story:
    """A run that is killed until it has come to its end, and what is wrong with it."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder = folder
        self.seed = seed
        self.chance = random.Random(seed)
        self.ledger = Ledger(folder)
        self.kept: set[str] = set()
        self.calls: dict[str, Any] = {}
        self.pid = 0
        self.signals = [signal.SIGKILL] * 6 + [signal.SIGINT, signal.SIGTERM]
        self.decisions: dict[str, str] = {}
        self.counts: Counter[str] = Counter()

    def go(self, seconds: float, end: float) -> None:
        """Kill it, at moments up to so many seconds after its start, until ``end``."""
        wrong = ""
        while True:
            program = Program(self.folder, self.seed)
            self.pid = program.process.pid
            if self.counts["kills"] < 12 and time.monotonic() < end:
                time.sleep(self.chance.uniform(0, seconds))
                signum = self.chance.choice(self.signals)
                program.send(signum)
                self.counts["kills"] += 1
            else:
                signum = None
            told, said = program.end()
            if signum is None and told is None:
                raise AssertionError(f"{self}: it did not end:\n{said}")
            wrong = self.look(signum)
            if wrong:
                raise AssertionError(f"{self}: {wrong}\n{said}")
            if told is not None:
                self.compare(told)
                return

    def __str__(self) -> str:
        return f"seed {self.seed} after {self.counts['kills']} kills in {self.folder}"

    def look(self, signum: int | None) -> str:
        """Give what is wrong after a kill; an empty text for nothing."""
        status, kept = recorded(self.folder)
        lines = self.ledger.new()
        known = self.kept
        if lost := known - kept:
            return f"is no longer recorded: {sorted(lost)}"
        if signum is not None and status is not None:
            assert is_free(self.folder)
        for line in lines:
            token = line["token"]
            if line["what"] == "begin":
                self.counts["calls"] += 1
                self.counts["again"] += token in self.calls
                if token in known:
                    return f"was recorded and is called again: {line}"
                self.calls[token] = line
                if len(line["key"]) > 255:
                    return f"has too long a key: {line}"
                if missing := self._missing(line, kept):
                    return f"followed what is not recorded, {missing}: {line}"
            elif line["what"] == "decide":
                if token in known:
                    return f"was decided and is asked again: {line}"
                self.decisions[token] = line["to"]
        self.kept = kept
        return ""

    def _missing(self, line: Any, kept: set[str]) -> list[str]:
        """Give what must be recorded before this call begins, and is not.

        What runs in a process is recorded as a whole.
        """
        if line["pid"] != self.pid and line["execution"] != ID:
            return []
        after = list(line["after"])
        if line["attempt"] > 1:
            after.append(f"<<{line['key']}#{line['attempt'] - 1}>>")
        return [token for token in after if token not in kept]

    def compare(self, told: Any) -> None:
        """Compare it with a run of the same decisions that nobody disturbs."""
        folder = self.folder / "undisturbed"
        folder.mkdir()
        decisions = json.dumps(self.decisions)
        program = Program(folder, self.seed, CRASH_DECISIONS=decisions)
        expected, said = program.end()
        assert expected is not None, f"{self}: undisturbed, it fails:\n{said}"
        different = list(islice(differences(told, expected), 5))
        assert not different, f"{self}: {different}"
        self.counts["ended"] += 1


def differences(one: Any, other: Any, path: str = "") -> Iterator[str]:
    """Give where two values of JSON differ."""
    if isinstance(one, dict) and isinstance(other, dict) and one.keys() == other.keys():
        for key, value in one.items():
            yield from differences(value, other[key], f"{path}.{key}")
    elif isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        for index, value in enumerate(one):
            yield from differences(value, other[index], f"{path}[{index}]")
    elif one != other:
        yield f"{path}: {str(one)[:300]} and not {str(other)[:300]}"
