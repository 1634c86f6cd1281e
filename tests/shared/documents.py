"""Documents, and the functions that they name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from stepfunction import DefinitionError, FunctionRegistry, StepFunction

DATA = str(Path(__file__).parents[1] / "data")
FORMAT = "stepfunction/1"


def charge(order: Any) -> Any:
    return order


def scale(value: Any, factor: Any = 1) -> Any:
    return value * factor


class Till:
    def open(self, order: Any) -> Any:
        return order

    def __call__(self, order: Any) -> Any:
        return order


REGISTRY = FunctionRegistry({"charge": charge, "scale": scale})


def one(**step: Any) -> dict[str, Any]:
    """Give a document of one step."""
    return {"format": FORMAT, "name": "W", "start": "A", "steps": {"A": step}}


def problems(document: Any, **options: Any) -> tuple[str, ...]:
    with pytest.raises(DefinitionError) as caught:
        StepFunction.from_dict(document, **{"registry": REGISTRY, **options})
    return caught.value.problems


def refusals(builder: StepFunction, registry: Any = REGISTRY) -> tuple[str, ...]:
    with pytest.raises(DefinitionError) as caught:
        builder.to_dict(registry)
    return caught.value.problems


def again(builder: StepFunction, registry: Any = REGISTRY) -> StepFunction:
    return StepFunction.from_json(builder.to_json(registry), registry)


CYCLE: list[Any] = []
CYCLE.append({"again": CYCLE})


DEEP: list[Any] = []
for _ in range(150):  # which a copy can be made of
    DEEP = [DEEP]
