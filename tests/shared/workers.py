"""What worker processes do, and what became of them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from shared.processes import wait_for


def fail(value=None):
    raise ValueError("told to fail")


def tell_and_wait(paths):
    told, awaited = paths
    Path(told).touch()
    wait_for(Path(awaited))
    return os.getpid()


def touch(path):
    Path(path).touch()


def exit_by(how):
    if isinstance(how, signal.Signals):
        os.kill(os.getpid(), how)
        signal.pause()
    os._exit(how)


FUNCTIONS = """\
import os, signal, sys, threading, time
from stepfunction import ProcessLanes, StepFunction

def pid(value=None): return os.getpid()
def say(text):
    os.write(1, f"{text}\\n".encode())  # whole, although others write too
def spin(value=None):
    say(os.getpid())
    while True: pass
def hang(value=None):
    print("hangs", flush=True)
    open(__file__ + ".flag", "w").close()
    time.sleep(60)
"""


class Program:
    def __init__(self, path, source):
        self.path = path / "program.py"
        self.path.write_text(FUNCTIONS + source)

    def start(self):
        return subprocess.Popen(
            # From 3.12 on a fork beside threads warns; the lanes have threads.
            [sys.executable, "-W", "ignore::DeprecationWarning", self.path],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def run(self):
        process = self.start()
        try:
            out, err = process.communicate(timeout=30)
        finally:
            process.kill()
        return process.returncode, out, err
