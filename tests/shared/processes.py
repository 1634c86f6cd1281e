"""Processes: what one says to another through files, and whether it is still there."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path


def tell(path, text=""):
    """Write a file that is whole as soon as it is there."""
    part = Path(f"{path}.part")
    part.write_text(text)
    part.rename(path)


def wait_for(*parts, seconds=20.0):
    """Give the path once somebody has written it."""
    path = Path(*parts)
    end = time.monotonic() + seconds
    while not path.exists():
        assert time.monotonic() < end, f"{path} never came"
        time.sleep(0.005)
    return path


def pid(value=None):
    return os.getpid()


def is_alive(process_id):
    try:
        stat = Path(f"/proc/{process_id}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


def is_gone(process_id, seconds=2.0):
    end = time.monotonic() + seconds
    while is_alive(process_id):
        if time.monotonic() > end:
            os.kill(process_id, signal.SIGKILL)
            return False
        time.sleep(0.01)
    return True


def stats():
    """Give pid, name, state, ppid, group and session of each process alive."""
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            text = path.read_text()
        except (FileNotFoundError, ProcessLookupError):
            continue
        head, _, tail = text.rpartition(")")
        stat = [*head.split(" (", 1), *tail.split()]
        if stat[2] != "Z":
            yield stat


class Session:
    """A program in a session of its own, so that all its processes can be found."""

    def __init__(self, arguments, **options):
        self.process = subprocess.Popen(
            arguments,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            **options,
        )

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for process_id in self.processes():
            with suppress(ProcessLookupError):
                os.kill(process_id, signal.SIGKILL)
        self.process.communicate()

    def processes(self):
        """Give the processes of its session that are alive."""
        return [int(stat[0]) for stat in stats() if stat[5] == str(self.process.pid)]

    def leaves_nobody(self, seconds=2.0):
        end = time.monotonic() + seconds
        while self.processes():
            if time.monotonic() > end:
                return False
            time.sleep(0.01)
        return True
