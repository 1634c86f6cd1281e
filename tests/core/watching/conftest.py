from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

import pytest


@pytest.fixture
def executor(request, lanes):
    if request.param == "process":
        yield lanes
    elif request.param == "threads of others":
        with ThreadPoolExecutor(2) as pool:
            yield pool
    elif request.param == "processes of others":
        with ProcessPoolExecutor(1) as pool:
            yield pool
    else:
        yield request.param
