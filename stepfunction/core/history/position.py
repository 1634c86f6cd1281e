"""Position: where a run stands between two steps, and what has failed on the way.

Plain tuples, for a run makes and takes apart some with every failure and every nested
workflow, and a named one takes three to eight times as long.
"""

from __future__ import annotations

from typing import Any, TypeAlias

from stepfunction.core.frozen import Frozen

# A step that failed, as it is remembered while that is handled: how the journal notes
# it, its input, when it began and ended, its error.
Failed: TypeAlias = tuple[Any, Any, float, float, BaseException]

# What a run has failed at that goes on with failure steps: the failure that led away
# from the main path, and the latest.
Failing: TypeAlias = tuple[Failed, Failed]

# All that a run needs to go on: the step that follows (None at the end), its input
# (what the one before gave, or failed with), and what has failed unless the main path
# was reached again.
Position: TypeAlias = tuple[str | None, Any, Failing | None]


class Blame(Frozen):
    """The step at which an execution failed.

    Attributes:
        step: The name of the step.
        error: What it failed with.
        names_step: Whether that is already the error of a parallel or nested step,
            which says so itself.
    """

    __slots__ = ()
    step: str
    error: Any
    names_step: bool
