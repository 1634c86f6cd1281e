"""Name the inputs: a step takes the outputs of earlier steps, whichever it needs."""

from __future__ import annotations

from stepfunction import DefinitionError, Execution, StepFunction

Order = dict[str, float]


def parse(text: str) -> Order:
    return {"amount": float(text)}


def fetch_rate(order: Order) -> float:
    """Stand in for a bank: the larger the amount, the better the rate."""
    return 1.1 if order["amount"] < 1000 else 1.05


def price(order: Order, rate: float) -> float:
    return round(order["amount"] * rate, 2)


def write_invoice(order: Order, total: float, currency: str) -> str:
    return f"{order['amount']:.2f} EUR are {total:.2f} {currency}"


exchange = StepFunction("Exchange")
exchange.add_step("Parse", parse, "Fetch_Rate")
exchange.add_step("Fetch_Rate", fetch_rate, "Price")
exchange.add_step(
    "Price", price, "Invoice", inputs={"order": "Parse", "rate": "Fetch_Rate"}
)
exchange.add_step(
    "Invoice",
    write_invoice,
    inputs={"order": "Parse", "total": "Price"},
    params={"currency": "USD"},
)
exchange.set_start_step("Parse")


def with_a_short_cut() -> StepFunction:
    """Give a workflow with a path that leads around a step whose output is taken."""
    workflow = StepFunction("Short_Cut")
    workflow.add_step("Parse", parse, "Fetch_Rate", on_failure="Price")
    workflow.add_step("Fetch_Rate", fetch_rate, "Price")
    workflow.add_step("Price", price, inputs={"order": "Parse", "rate": "Fetch_Rate"})
    return workflow.set_start_step("Parse")


def tell(execution: Execution) -> None:
    print(execution.output)
    for record in execution.history:
        print(f"  {record.step} was given {record.input!r}")


def main() -> None:
    tell(exchange.execute("20"))
    try:
        with_a_short_cut().validate()
    except DefinitionError as error:
        print(error)


if __name__ == "__main__":
    main()
