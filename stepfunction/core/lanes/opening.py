"""Opening: what each worker process does before its first call."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from multiprocessing import context as contexts
from typing import Any

from stepfunction.core.envelope.answers import unpack_part
from stepfunction.core.envelope.envelope import pack_once
from stepfunction.core.envelope.refusals import pack_call
from stepfunction.core.wording import label_of


class Opening:
    """An initializer and what it is given.

    It goes along when a process is started, and so may hold what only goes then: the
    locks and queues of multiprocessing.

    Args:
        function: The initializer.
        args: Its arguments.
    """

    def __init__(self, function: Callable[..., object], args: tuple[Any, ...]) -> None:
        self.label = f"the initializer {label_of(function)}"
        self._parts: Any = function, args
        self._packed = b""

    def __reduce__(self) -> Any:
        return _packed, (self.label, self._pack())

    def _pack(self) -> bytes:
        return pack_call(self.label, self._parts, pack_once)

    def rehearse(self) -> None:
        """Try whether it can be sent to a process that is started.

        Raises:
            TransferError: If it cannot be pickled.
        """
        before = contexts.get_spawning_popen()
        contexts.set_spawning_popen(_NoProcess())  # type: ignore[arg-type]
        try:
            self._pack()
        finally:
            contexts.set_spawning_popen(before)

    def prepare(self) -> Callable[[], None]:
        """Give its call, in the worker.

        Raises:
            TransferError: If it cannot be unpickled.
        """
        if self._packed:
            self._parts, self._packed = unpack_part(self.label, self._packed), b""
        function, args = self._parts
        return partial(_perform, function, args)


def _packed(label: str, data: bytes) -> Opening:
    opening = Opening.__new__(Opening)
    opening.label = label
    opening._packed = data
    return opening


def _perform(function: Callable[..., object], args: tuple[Any, ...]) -> None:
    try:
        function(*args)
    except BaseException:
        # Where those who use executors of concurrent.futures look for it.
        logger = logging.getLogger("concurrent.futures")
        logger.critical("Exception in initializer:", exc_info=True)
        raise


class _NoProcess:
    """Stands for the process that is being started, and shares nothing with it."""

    def duplicate_for_child(self, handle: int) -> int:
        return handle

    def DupFd(self, descriptor: int) -> int:
        return descriptor
