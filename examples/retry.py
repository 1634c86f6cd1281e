"""Try again: a service that fails now and then, and one that refuses for good."""

from __future__ import annotations

from stepfunction import Context, Execution, RetryPolicy, StepFunction


def fetch(city: str, context: Context) -> str:
    """Stand in for a weather service that does not answer the first two calls."""
    if city == "Atlantis":
        raise LookupError("there is no Atlantis")
    if context.attempt < 3:
        raise ConnectionError("the line is dead")
    return f"It rains in {city}."


def apologise(error: Exception) -> str:
    return f"No forecast: {error}."


# Pauses of 0.1, 0.2 and 0.4 seconds. Other errors would only happen again.
patient = RetryPolicy(
    max_attempts=4, interval=0.1, jitter=None, retry_on=ConnectionError
)
workflow = StepFunction("Weather")
workflow.add_step("Fetch", fetch, on_failure="Apologise", retry=patient)
workflow.add_step("Apologise", apologise)
workflow.set_start_step("Fetch")


def tell(execution: Execution) -> None:
    print(f"{execution.input}: {execution.status}, {execution.output!r}")
    for attempt in execution.history[0].attempts:
        print(f"  attempt {attempt.number}: {attempt.error or 'an answer'}")


def main() -> None:
    for city in ("Bergen", "Atlantis"):
        tell(workflow.execute(city))


if __name__ == "__main__":
    main()
