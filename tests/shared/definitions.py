"""What is wrong with a definition, and functions that show what they are given."""

from __future__ import annotations

import pytest

from stepfunction import DefinitionError


def problems_of(builder):
    with pytest.raises(DefinitionError) as caught:
        builder.validate()
    return list(caught.value.problems)


def everything(**named):
    return named
