from __future__ import annotations

import json

import pytest

from stepfunction import UnstorableValueError
from stepfunction.core.transcript.storing import FragmentReader, Fragments


def stored(value, **options):
    """Give a value as it comes back, in a text that stands in a row."""
    fragments = Fragments()
    row = f"[0,{fragments.value(value)}]"
    apart = fragments.take_apart() or {}
    return FragmentReader(apart.__getitem__, **options).value(json.loads(row)[1])


@pytest.mark.parametrize("value", [None, 1, "a", [1, {"a": (2, {3})}], b"x" * 5_000])
def test_a_value_comes_back_as_it_was(value):
    assert stored(value) == value


def test_what_cannot_be_stored_is_refused_with_its_place():
    with pytest.raises(UnstorableValueError, match=r"\['a'\]\[1\] is a object"):
        stored({"a": [1, object()]})
