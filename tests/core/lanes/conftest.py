from __future__ import annotations

import pytest

from stepfunction import ProcessLanes


@pytest.fixture(scope="module")
def one_lane():
    with ProcessLanes(1) as lanes:
        yield lanes
