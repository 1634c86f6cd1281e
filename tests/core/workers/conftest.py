from __future__ import annotations

import pytest
from shared.hanging import reached, released


@pytest.fixture(autouse=True)
def _release():
    released.clear()
    yield
    released.set()


@pytest.fixture
def nothing_reached():
    reached.clear()
    yield
    assert reached == []
