"""Bank: what a real shop would call over the network."""

from itertools import count

_calls = count(1)


class CardError(Exception):
    """The card cannot be charged."""


def charge(card, amount):
    """Charge a card; every second call finds the line busy."""
    if card == "4000":
        raise CardError("the card was declined")
    if next(_calls) % 2:
        raise ConnectionError("the line to the bank is busy")
    return {"amount": amount}
