"""Refusals: why a value cannot be stored, as messages say it."""

from __future__ import annotations

import sys
from types import GeneratorType
from typing import Any

from stepfunction.core.history.execution import Execution
from stepfunction.core.transcript.parts import Path


def where(at: Path) -> str:
    """Say where in a value something stands."""
    if not at:
        return "it"
    keys = (
        f"{key!r:.60}" if type(key) in (str, int, bool) else f"a {type(key).__name__}"
        for key in at
    )
    return f"its part [{']['.join(keys)}]"


def what(value: Any) -> str:
    """Say of what class a value is that cannot be stored, and what to do about it."""
    kind = type(value)
    name = type.__repr__(kind)[8:-2]
    short = name.rpartition(".")[2]
    codec = f"register_codec({short}, encode, decode)"
    if kind is Execution:
        return "an Execution; give its output"
    if kind is GeneratorType:
        return "a generator; give list(…) of it"
    if name.startswith("numpy."):
        return f"a {name}; give its item(), or tolist()"
    family = _mro_of(kind)
    bases = [it for it in family if it in _BASES]
    enum = sys.modules.get("enum")
    if enum is not None and enum.Enum in family:
        codec = f"register_codec({short}, lambda it: it.name, {short}.__getitem__)"
    elif any("__dataclass_fields__" in vars(it) for it in family):
        codec = f"register_codec({short}, vars, lambda parts: {short}(**parts))"
    elif tuple in bases and any("_fields" in vars(it) for it in family):
        codec = f"register_codec({short}, tuple, {short}._make)"
    elif bases:
        base = bases[0].__name__
        return (
            f"a {name}, which would come back as a {base}; give {base}(…) of it, or "
            f"say how it is stored, once: {codec}"
        )
    return (
        f"a {name}, which cannot be stored as it is; give plain data (a dict, a list, "
        f"an id), or say how it is stored, once: {codec}"
    )


_mro_of = vars(type)["__mro__"].__get__
_BASES = (str, int, float, complex, bytes, list, tuple, dict, set, frozenset)
