"""Write a workflow by hand, as YAML, and check, draw and run it. Needs PyYAML."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from stepfunction import DefinitionError, FunctionRegistry, StepFunction

CHECKOUT = Path(__file__).with_name("checkout.yaml")

registry = FunctionRegistry()
prices = {"Emma": 12, "Persuasion": 9, "Atlas": 180}


@registry.register
def price(books: list[str], discount: int) -> int:
    return sum(prices[book] for book in books) - discount


@registry.register
def is_large(amount: int) -> bool:
    return amount > 100


@registry.register
def charge(amount: int) -> str:
    return f"{amount} paid"


@registry.register
def pack(inputs: dict[str, Any]) -> str:
    return f"packed for {inputs['amount']}"


@registry.register
def apologise(error: Exception) -> str:
    return f"sorry: {error!r}"


def main() -> None:
    text = CHECKOUT.read_text(encoding="utf-8")
    checkout = StepFunction.from_yaml(text, registry)
    for books in (["Emma", "Persuasion"], ["Atlas"], ["Ulysses"]):
        execution = checkout.execute(books)
        print(f"{execution.status}: {execution.output}")

    again = StepFunction.from_yaml(checkout.to_yaml(registry), registry)
    print("the same:", again.compile() == checkout.compile())

    for right, wrong in (("discount: 5", "discount: no"), ("func: pack", "func: pakc")):
        try:
            StepFunction.from_yaml(text.replace(right, wrong), registry)
        except DefinitionError as error:
            print(error)


if __name__ == "__main__":
    main()
