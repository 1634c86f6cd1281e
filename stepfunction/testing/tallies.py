"""Tallies: which call of a mock this is, over threads and processes."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from stepfunction.core.envelope.envelope import pack, unpack
from stepfunction.core.envelope.omitted import Omitted

_latest: dict[str, int] = {}  # folder to the latest number claimed by this process


class Tally:
    """Numbers the calls of a mock from 1 and keeps what each was given.

    Once it is sent to another process, each number is a file in a folder, which
    whoever makes it first has claimed, and which holds the input in the end.

    Args:
        what: What messages call the mock.
    """

    def __init__(self, what: str) -> None:
        self._what = what
        self._lock = threading.RLock()
        self._inputs: dict[int, Any] = {}
        self._number = 0
        self._folder: TemporaryDirectory[str] | None = None
        self._is_closed = False

    def note(self, value: Any) -> int:
        """Take note of a call and give its number. Any thread may."""
        with self._lock:
            self._number += 1
            if self._folder is not None:
                self._number = _claim(Path(self._folder.name), self._number)
            self._inputs[self._number] = value
            return self._number

    @property
    def count(self) -> int:
        """How many calls there were."""
        with self._lock:
            if self._folder is None:
                return self._number
            claimed = map(int, os.listdir(self._folder.name))
            return max(claimed, default=self._number)

    @property
    def inputs(self) -> list[Any]:
        """What each call was given."""
        with self._lock:
            numbers = range(1, self.count + 1)
            return [
                self._inputs[n] if n in self._inputs else self._read(n) for n in numbers
            ]

    def close(self) -> None:
        """Remove the folder, when what it has is known."""
        with self._lock:
            self._is_closed = True
            if self._folder is None:
                return
            self._inputs = dict(enumerate(self.inputs, 1))
            self._number = len(self._inputs)
            self._folder.cleanup()
            self._folder = None

    def _read(self, number: int) -> Any:
        assert self._folder is not None
        try:
            return unpack((Path(self._folder.name) / str(number)).read_bytes())
        except Exception:  # its process was killed meanwhile, or pickle has its reasons
            return Omitted("the input of a call in another process, which was lost")

    def __reduce__(self) -> Any:
        with self._lock:
            if self._is_closed:
                return TallyElsewhere, (self._what, None, self._number)
            if self._folder is None:
                self._folder = TemporaryDirectory(
                    prefix="stepfunction-mock-", ignore_cleanup_errors=True
                )
            return TallyElsewhere, (self._what, self._folder.name, self._number)


class TallyElsewhere:
    """A tally as another process has it.

    Args:
        what: What messages call the mock.
        folder: Where numbers are claimed; None once the block has ended.
        number: A number that is claimed already, and all before it.
    """

    def __init__(self, what: str, folder: str | None, number: int) -> None:
        self._what = what
        self._folder = folder
        self._number = number

    def note(self, value: Any) -> int:
        """Take note of a call and give its number.

        Raises:
            RuntimeError: If the mock is no longer in use.
        """
        if self._folder is None or not os.path.isdir(self._folder):
            raise RuntimeError(
                f"{self._what} was called in a process when its block had ended, or on "
                "another machine; wait in the block for what was started there, and "
                "execute it on this machine"
            )
        folder = Path(self._folder)
        begin = max(self._number, _latest.get(self._folder, 0)) + 1
        _latest[self._folder] = number = _claim(folder, begin)
        (folder / str(number)).write_bytes(pack(value))
        return number


def _claim(folder: Path, number: int) -> int:
    """Give the first number from one on that nobody else has, which is then ours."""
    while True:
        try:
            (folder / str(number)).touch(exist_ok=False)
            return number
        except FileExistsError:
            number += 1
