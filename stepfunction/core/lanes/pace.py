"""Pace: how many short calls are given to a worker before it needs them."""

from __future__ import annotations

# How many seconds of work that is at most, what comes to each call, and how many calls.
_LONGEST = 0.001
_PER_CALL = 0.00003
_MOST = 16
_FORGETTING = 0.5  # of how long one took, by the next


class Pace:
    """How long calls take, as far as is known.

    Attributes:
        ahead: How many to give before they are needed: none while nothing is known, and
            after one that took long.
    """

    __slots__ = ("ahead", "_seconds")

    def __init__(self) -> None:
        self.ahead = 0
        self._seconds = _LONGEST

    def learn(self, seconds: float) -> None:
        """Take note of how long a call took."""
        self._seconds = max(seconds, _FORGETTING * self._seconds)
        self.ahead = min(_MOST, int(_LONGEST / (self._seconds + _PER_CALL)))
