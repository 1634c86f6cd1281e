"""Synchronous workflows as graphs of named steps, in plain Python.

>>> from stepfunction import StepFunction
>>> workflow = StepFunction("Sum").add_step("Add", sum).set_start_step("Add")
>>> workflow.execute([1, 2, 3]).output
6
"""

import logging
from typing import TYPE_CHECKING, Any

from stepfunction.core.context import Context
from stepfunction.core.errors import (
    DefinitionError,
    DrawingError,
    ExecutionCancelledError,
    ExecutionTimeoutError,
    HeartbeatTimeoutError,
    NoBranchMatchedError,
    ParallelStepExecutionError,
    RemoteError,
    RemoteTraceback,
    StepExecutionError,
    StepFunctionError,
    StepLimitError,
    StepTimeoutError,
    TransferError,
    WorkerCrashedError,
    WorkerKilledError,
    WorkerStartError,
)
from stepfunction.core.execution import (
    Attempt,
    Execution,
    Omitted,
    Outcome,
    Status,
    StepRecord,
)
from stepfunction.core.graph import Graph, Step
from stepfunction.core.results import TaskResults
from stepfunction.core.retry import RetryPolicy
from stepfunction.core.step_function import StepFunction

if TYPE_CHECKING:
    from stepfunction.core.lanes import ProcessLanes

__version__ = "0.1.0"

__all__ = [
    "Attempt",
    "Context",
    "DefinitionError",
    "DrawingError",
    "Execution",
    "ExecutionCancelledError",
    "ExecutionTimeoutError",
    "Graph",
    "HeartbeatTimeoutError",
    "NoBranchMatchedError",
    "Omitted",
    "Outcome",
    "ParallelStepExecutionError",
    "ProcessLanes",
    "RemoteError",
    "RemoteTraceback",
    "RetryPolicy",
    "Status",
    "Step",
    "StepExecutionError",
    "StepFunction",
    "StepFunctionError",
    "StepLimitError",
    "StepRecord",
    "StepTimeoutError",
    "TaskResults",
    "TransferError",
    "WorkerCrashedError",
    "WorkerKilledError",
    "WorkerStartError",
]

logging.getLogger("stepfunction").addHandler(logging.NullHandler())


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def __getattr__(name: str) -> Any:
    # Process pools are dear to import, so only those who ask pay for them.
    if name == "ProcessLanes":
        from stepfunction.core.lanes import ProcessLanes

        return ProcessLanes
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
