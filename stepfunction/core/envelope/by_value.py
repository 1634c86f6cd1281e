"""By value: functions and classes that cannot be imported, as cloudpickle sends them.

Used where plain pickle gave up; the extra ``cloudpickle`` installs it.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any

import cloudpickle


class ByValuePickler(cloudpickle.Pickler):  # type: ignore[misc]
    """Pickles what is not in an importable module by its code.

    Args:
        sink: Where to write.
        reduce: Asked first how a value is to be pickled, or gives NotImplemented.
        has_name: Tells what can be imported after all, where cloudpickle thinks not.
    """

    def __init__(
        self,
        sink: Any,
        reduce: Callable[[Any], Any],
        has_name: Callable[[Any], bool],
    ) -> None:
        super().__init__(sink, pickle.HIGHEST_PROTOCOL)
        self._reduce = reduce
        self._has_name = has_name

    def reducer_override(self, value: Any) -> Any:
        reduced = self._reduce(value)
        if reduced is NotImplemented and not self._has_name(value):
            return super().reducer_override(value)
        return reduced
