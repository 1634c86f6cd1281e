from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

SUITE = Path(__file__).with_name("test_every_executor.py")


@pytest.mark.cloudpickle  # which Dask cannot do without
@pytest.mark.timeout(180)
@pytest.mark.parametrize(
    "place, library", [("dask", "distributed"), ("parsl", "parsl")]
)
def test_the_suite_passes_in_a_process_of_its_own(pytestconfig, place, library):
    if find_spec(library) is None:
        pytest.skip(f"{library} is not installed")
    options = ["-q", "-p", "no:cacheprovider", "--log-level=WARNING"]
    run = subprocess.run(
        [sys.executable, "-m", "pytest", *options, str(SUITE)],
        cwd=pytestconfig.rootpath,
        env={**os.environ, "STEPFUNCTION_TEST_EXECUTOR": place},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=150,
    )
    assert run.returncode == 0, run.stdout
