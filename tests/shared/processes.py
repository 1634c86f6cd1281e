"""Processes: what one says to another through files, and whether it is still there."""

from __future__ import annotations

import os
import signal
import time
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
