"""Where the project of the Django tests is, and what there is to test it with."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

HERE = Path(__file__).parent
SETTINGS = "shop.settings"
has_postgres = bool(os.environ.get("SHOP_POSTGRES"))
needs_postgres = pytest.mark.skipif(
    not has_postgres, reason="run by .ci/postgres, which starts a server"
)
