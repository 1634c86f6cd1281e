"""Shortening: values written as far as somebody wants to see them.

A report shows the beginning of a value. To write all of a large one first would take
long, and to hide all of it too.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

from stepfunction.core.history.results import MapResults, TaskResults
from stepfunction.core.raised import is_a
from stepfunction.core.transcript import kinds
from stepfunction.core.transcript.parts import Path
from stepfunction.core.transcript.values import Redact, ValueWriter

_REST = {"$repr": "…"}


class ShorteningWriter(ValueWriter):
    """Writes the beginning of each value, and how much more there is.

    Results of parallel and map steps keep all their places, for these are counted.

    Args:
        redact: Gives what to write in the place of each value that is written.
        number: Gives the place of an exception in a table.
        most: About how many characters of each value to write.
    """

    def __init__(
        self,
        redact: Redact | None,
        number: Callable[[BaseException, str], int | None],
        most: int,
    ) -> None:
        super().__init__(redact, number)
        self._most = self._left = most

    def write(self, value: Any, at: Path = ()) -> Any:
        """Give what is to be written of a value that stands at a place."""
        if not self._open:
            self._left = self._most
        elif self._left <= 0 and not is_a(value, BaseException):
            return _REST
        return super().write(value, at)

    def _plain(self, value: Any, at: Path) -> Any:
        self._left -= _length(value)
        return super()._plain(value, at)

    def _of_kind(self, kind: kinds.Kind, value: Any, at: Path) -> Any:
        """Write what a value is made of, all of it: else it could not be made again."""
        if kind.name:
            if self._redact is None:
                return self.lost(value, at)
            # Its codec may not make a value of a part.
            return next(iter(super()._of_kind(kind, value, at).values()))[-1]
        left, self._left = self._left, self._most
        written = super()._of_kind(kind, value, at)
        self._left = left
        return written

    def container(self, value: Any, at: Path) -> Any:
        """Write the beginning of what has other values inside."""
        kind = type(value)
        if kind is TaskResults or kind is MapResults:
            return super().container(value, at)
        if issubclass(kind, dict):
            return self._dict(value, at)
        base: Any = next(
            it for it in (list, tuple, set, frozenset) if issubclass(kind, it)
        )
        items = [
            self.write(part, (*at, index))
            for index, part in enumerate(self._first(base.__iter__(value)))
        ]
        more = base.__len__(value) - len(items)
        if base is set or base is frozenset:
            items.sort(key=json.dumps)
            if more or len(set(map(json.dumps, items))) < len(items):
                base = list  # for a set has nothing twice
        if more:
            items.append({"$repr": f"… {more:,} more"})
        return items if base is list else {f"${base.__name__}": items}

    def _dict(self, value: Any, at: Path) -> Any:
        pairs = []
        for key, part in self._first(iter(list(dict.items(value)))):
            self._left -= _length(key)
            pairs.append((key, self.write(part, (*at, key))))
        more = dict.__len__(value) - len(pairs)
        if not more:
            return self.mapping(pairs, at)
        written = [[self._plain(key, at), it] for key, it in pairs]
        return {"$dict": [*written, [_REST, {"$repr": f"{more:,} more"}]]}

    def _first(self, parts: Iterator[Any]) -> Iterator[Any]:
        """Give parts while there is room for them."""
        while self._left > 0:
            part = list(islice(parts, 1))
            if not part:
                return
            yield part[0]


def _length(value: Any) -> int:
    """Give about how many characters a value takes, without what is inside it."""
    return 4 + (len(value) if type(value) is str else 2)
