from __future__ import annotations

import sys

import pytest
from shared.documents import DATA


@pytest.fixture
def shop(monkeypatch):
    monkeypatch.syspath_prepend(DATA)
    import shop_functions

    yield shop_functions
    del sys.modules["shop_functions"]
