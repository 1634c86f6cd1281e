from __future__ import annotations

import multiprocessing
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

import pytest
from shared.undoing import Undone

from stepfunction import ProcessLanes


@pytest.fixture(scope="module")
def kept():
    forkserver = multiprocessing.get_context("forkserver")
    with (
        ProcessLanes(2) as lanes,
        ThreadPoolExecutor(4) as threads,
        ProcessPoolExecutor(2, mp_context=forkserver) as processes,
    ):
        yield {
            "ProcessLanes": lanes,
            "ThreadPoolExecutor": threads,
            "ProcessPoolExecutor": processes,
        }


@pytest.fixture
def undone():
    return Undone()
