"""Which places test_every_executor.py is run on.

By default those that can share a process; with ``STEPFUNCTION_TEST_EXECUTOR=dask`` on
Dask alone.
"""

from __future__ import annotations

import os

import pytest

# These change the process that imports them: Dask how exceptions are pickled, Parsl
# what is logged. test_executors_apart.py runs the suite on each in one of its own.
APART = {"dask", "parsl"}


def pytest_collection_modifyitems(
    config: pytest.Config, items: list[pytest.Item]
) -> None:
    only = os.environ.get("STEPFUNCTION_TEST_EXECUTOR")
    left_out = [item for item in items if not _is_wanted(_place(item), only)]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in set(left_out)]


def _is_wanted(place: str | None, only: str | None) -> bool:
    if place is None:
        return True
    return place == only if only else place not in APART


def _place(item: pytest.Item) -> str | None:
    call = getattr(item, "callspec", None)
    return call.params.get("executor") if call and _is_of_the_suite(item) else None


def _is_of_the_suite(item: pytest.Item) -> bool:
    return item.path.name == "test_every_executor.py"
