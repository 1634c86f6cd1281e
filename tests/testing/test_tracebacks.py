"""What pytest shows of a test that fails: the test, and what a step calls."""

import re
import subprocess
import sys

from shared.commands import environment

TESTS = """
from stepfunction import StepFunction
from stepfunction.testing import assert_path, dry_run, mock_steps

def bad(value):
    return 1 / 0

def flow(**options):
    return StepFunction("W").add_step("A", bad, **options).set_start_step("A")

def test_execute():
    flow().execute(1)

def test_thread():
    flow(executor="thread").execute(1)

def test_path():
    with mock_steps(flow(), {"A": 1}):
        pass
    assert_path(dry_run(flow(), {"A": 1}), ["B"])

def test_mock():
    mock_steps(flow(), {"B": 1})
"""


def test_pytest_hides_the_frames_of_this_library(tmp_path):
    (tmp_path / "test_it.py").write_text(TESTS)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "test_it.py"],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert "4 failed" in done.stdout
    files = re.findall(r"^(\S+\.py):\d+: ", done.stdout, re.M)
    assert files.count("test_it.py") == 6
    assert not [file for file in files if "stepfunction" in file]
