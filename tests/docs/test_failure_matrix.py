from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from shared.failure_matrix import endings_table, errors_table, sayings_table

PAGE = Path(__file__).parents[2] / "docs" / "guides" / "failure.md"


@pytest.mark.parametrize("table", [sayings_table, endings_table, errors_table])
def test_the_tables_of_failures_are_what_happens(table: Callable[[], str]) -> None:
    assert table() in PAGE.read_text(encoding="utf-8")
