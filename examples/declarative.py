"""Keep a workflow as JSON: written by a person, read, run, and written again."""

from __future__ import annotations

from stepfunction import DefinitionError, FunctionRegistry, StepFunction

CHECKOUT = """\
{
  "format": "stepfunction/1",
  "name": "Checkout",
  "start": "Price",
  "on_failure": "Apologise",
  "steps": {
    "Price": {
      "func": "price",
      "params": {"discount": 5},
      "branch": [{"if": "is_large", "step": "Review"}],
      "next_step": "Sell"
    },
    "Review": {"type": "pass", "result": "a clerk will call", "ends": "completed"},
    "Sell": {
      "type": "parallel",
      "func": {"payment": "charge", "parcel": {"workflow": "Parcel"}},
      "stop_on_failure": true,
      "retry": {"max_attempts": 5, "interval": 0.01, "retry_on": "ConnectionError"}
    },
    "Apologise": {"func": "apologise"}
  },
  "workflows": {
    "Parcel": {"start": "Pack", "steps": {"Pack": {"func": "pack"}}}
  }
}
"""

registry = FunctionRegistry()
prices = {"Emma": 12, "Persuasion": 9, "Atlas": 180}
calls: list[int] = []


@registry.register
def price(books: list[str], discount: int) -> int:
    return sum(prices[book] for book in books) - discount


@registry.register("charge")
def charge_the_card(amount: int) -> str:
    calls.append(amount)
    if len(calls) == 1:
        raise ConnectionError("the bank does not answer")
    return f"{amount} paid"


@registry.register
def pack(amount: int) -> str:
    return "packed"


@registry.register
def apologise(error: Exception) -> str:
    return f"sorry: {error!r}"


registry.register("is_large", lambda amount: amount > 100)


def main() -> None:
    checkout = StepFunction.from_json(CHECKOUT, registry)
    checkout.validate()
    for books in (["Emma", "Persuasion"], ["Atlas"], ["Ulysses"]):
        execution = checkout.execute(books)
        print(f"{execution.status}: {execution.output}")

    again = StepFunction.from_json(checkout.to_json(registry), registry)
    print("the same:", again.compile() == checkout.compile())

    try:
        StepFunction.from_json(CHECKOUT.replace("charge", "chargee"), registry)
    except DefinitionError as error:
        print(error)


if __name__ == "__main__":
    main()
