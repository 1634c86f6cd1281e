"""The command as a shell runs it."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import stepfunction

DATA = Path(__file__).parents[1] / "data"
PACKAGE_HOME = str(Path(stepfunction.__file__).parents[1])
COMMAND = [sys.executable, "-W", "error", "-m", "stepfunction"]


def environment(**variables):
    path = os.pathsep.join(filter(None, (PACKAGE_HOME, os.environ.get("PYTHONPATH"))))
    return {**os.environ, "PYTHONPATH": path, "PYTHONUTF8": "1", **variables}


FACTORIES = """\
import sys
from stepfunction import StepFunction
def fine() -> StepFunction:
    return StepFunction("Fine").add_step("A", lambda: 10**5000).set_start_step("A")
def leave() -> StepFunction:
    sys.exit(0)
"""
