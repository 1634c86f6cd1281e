"""A trip that is booked step by step, and given up as a whole when one step fails.

Each booking says what undoes it. When the payment is declined, the bookings are
cancelled, the latest first, each given what its booking returned.
"""

from __future__ import annotations

from typing import Any

from stepfunction import (
    CompensationError,
    Context,
    Execution,
    StepExecutionError,
    StepFunction,
)

Trip = dict[str, Any]


class HotelError(Exception):
    pass


def book_flight(trip: Trip) -> Trip:
    return {**trip, "flight": f"flight to {trip['city']}"}


def book_hotel(trip: Trip) -> str:
    return f"hotel in {trip['city']}"


def book_car(trip: Trip) -> str:
    if trip["city"] == "Venice":
        raise LookupError("there are no cars in Venice")
    return f"car in {trip['city']}"


def pay(stay: dict[str, str], context: Context) -> str:
    trip = context["Book_Flight"]
    if trip["money"] < 500:
        raise ValueError(f"{trip['money']} is not enough")
    return f"paid for {', '.join(stay.values())}"


def cancel_flight(trip: Trip) -> str:
    return f"cancelled {trip['flight']}"


def cancel_hotel(hotel: str) -> str:
    if hotel == "hotel in Rome":
        raise HotelError("nobody answers in Rome")
    return f"cancelled {hotel}"


def cancel_car(car: str) -> str:
    return f"cancelled {car}"


book_trip = StepFunction("Book_Trip").set_start_step("Book_Flight")
book_trip.add_step(
    "Book_Flight", book_flight, next_step="Book_Stay", compensate=cancel_flight
)
book_trip.add_step(
    "Book_Stay",
    {"hotel": book_hotel, "car": book_car},
    parallel=True,
    executor="inline",  # one after the other, so that this prints the same each time
    tolerated_failures=0,
    next_step="Pay",
    compensate={"hotel": cancel_hotel, "car": cancel_car},
)
book_trip.add_step("Pay", pay)


def show(execution: Execution) -> None:
    print(f"{execution.input['city']}: {execution.status}, {execution.output!r}")
    for record in execution.compensations:
        print(f"  {record.task or record.step}: {record.error or record.output}")


def main() -> None:
    for city, money in (("Oslo", 900), ("Oslo", 80), ("Venice", 900), ("Rome", 80)):
        try:
            execution = book_trip.execute({"city": city, "money": money})
        except (StepExecutionError, CompensationError) as error:
            execution = error.execution
            if isinstance(error, CompensationError):
                print(f"Call them yourself: {error}")
        show(execution)


if __name__ == "__main__":
    main()
