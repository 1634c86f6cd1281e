"""Be told of everything: print what happens while it happens, and count failures."""

from __future__ import annotations

from collections import Counter

from stepfunction import Event, RetryPolicy, StepFunction


def parse(order: str) -> str:
    return order.strip().lower()


def ship(order: str) -> str:
    return f"{order} is on its way"


def charge(order: str) -> None:
    raise ConnectionError("the bank does not answer")


def tell(event: Event) -> None:
    """Print an event, indented where its workflow is nested."""
    subject = event.task or event.step or event.workflow
    text = f"{'  ' * len(event.path)}{subject}: {event.kind}"
    if event.error is not None:
        text += f" ({event.error})"
    print(text)


class FailureCount:
    """Counts what failed, of all executions that it is told of."""

    def __init__(self) -> None:
        self.by_step: Counter[str] = Counter()

    def __call__(self, event: Event) -> None:
        if event.kind == "step_failed":
            self.by_step[f"{event.workflow}.{event.step}"] += 1


failures = FailureCount()

payment = StepFunction("Payment")
payment.add_step("Charge", charge, retry=RetryPolicy(max_attempts=2, interval=0))
payment.set_start_step("Charge")

# What the workflow is given here is told of each of its executions.
shop = StepFunction("Shop", listeners=[failures])
shop.add_step("Parse", parse, next_step="Sell")
shop.add_step("Sell", {"ship": ship, "pay": payment}, parallel=True, executor="inline")
shop.set_start_step("Parse")


def main() -> None:
    shop.execute(" Roadster ", listeners=[tell])  # and this of one execution
    shop.execute(" Flivver ")
    print("failures:", dict(failures.by_step))


if __name__ == "__main__":
    main()
