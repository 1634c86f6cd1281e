"""Synchronous workflows as graphs of named steps, in plain Python.

>>> from stepfunction import StepFunction
>>> workflow = StepFunction("Sum").add_step("Add", sum).set_start_step("Add")
>>> workflow.execute([1, 2, 3]).output
6
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stepfunction.core.context import Context
    from stepfunction.core.definition.graph import Graph, Step
    from stepfunction.core.envelope.omitted import Omitted
    from stepfunction.core.errors import (
        CompensationError,
        DefinitionError,
        DrawingError,
        ExecutionCancelledError,
        ExecutionClaimedError,
        ExecutionNotFoundError,
        ExecutionTimeoutError,
        FailStepError,
        HeartbeatTimeoutError,
        NoBranchMatchedError,
        ParallelStepExecutionError,
        RemoteError,
        RemoteTraceback,
        ResumeError,
        StepExecutionError,
        StepFunctionError,
        StepLimitError,
        StepTimeoutError,
        StoreError,
        TranscriptError,
        TransferError,
        UnstorableValueError,
        WorkerCrashedError,
        WorkerInitError,
        WorkerKilledError,
        WorkerStartError,
    )
    from stepfunction.core.history.execution import Execution
    from stepfunction.core.history.records import Attempt, StepRecord
    from stepfunction.core.history.results import MapResults, TaskResults
    from stepfunction.core.lanes.lanes import ProcessLanes
    from stepfunction.core.outcomes import Outcome, Status
    from stepfunction.core.step_function import StepFunction
    from stepfunction.core.surroundings import Surroundings, register_surroundings
    from stepfunction.core.transcript.kinds import register_codec
    from stepfunction.core.watching.events import Event, Listener
    from stepfunction.core.workers.retry import RetryPolicy
    from stepfunction.declarative.registry import FunctionRegistry

__version__ = "0.4.0"

__all__ = [
    "Attempt",
    "CompensationError",
    "Context",
    "DefinitionError",
    "DrawingError",
    "Event",
    "Execution",
    "ExecutionCancelledError",
    "ExecutionClaimedError",
    "ExecutionNotFoundError",
    "ExecutionTimeoutError",
    "FailStepError",
    "FunctionRegistry",
    "Graph",
    "HeartbeatTimeoutError",
    "Listener",
    "MapResults",
    "NoBranchMatchedError",
    "Omitted",
    "Outcome",
    "ParallelStepExecutionError",
    "ProcessLanes",
    "RemoteError",
    "RemoteTraceback",
    "ResumeError",
    "RetryPolicy",
    "Status",
    "Step",
    "StepExecutionError",
    "StepFunction",
    "StepFunctionError",
    "StepLimitError",
    "StepRecord",
    "StepTimeoutError",
    "StoreError",
    "Surroundings",
    "TaskResults",
    "TranscriptError",
    "TransferError",
    "UnstorableValueError",
    "WorkerCrashedError",
    "WorkerInitError",
    "WorkerKilledError",
    "WorkerStartError",
    "register_codec",
    "register_surroundings",
]

# Where a name that is not an error lives. A worker process needs few of them, and
# process pools are dear to import, so each is loaded when somebody asks for it.
_HOMES = {
    "Attempt": "core.history.records",
    "Context": "core.context",
    "Event": "core.watching.events",
    "Execution": "core.history.execution",
    "FunctionRegistry": "declarative.registry",
    "Graph": "core.definition.graph",
    "Listener": "core.watching.events",
    "MapResults": "core.history.results",
    "Omitted": "core.envelope.omitted",
    "Outcome": "core.outcomes",
    "ProcessLanes": "core.lanes.lanes",
    "RetryPolicy": "core.workers.retry",
    "Status": "core.outcomes",
    "Step": "core.definition.graph",
    "StepFunction": "core.step_function",
    "StepRecord": "core.history.records",
    "Surroundings": "core.surroundings",
    "TaskResults": "core.history.results",
    "register_codec": "core.transcript.kinds",
    "register_surroundings": "core.surroundings",
}


if not TYPE_CHECKING:  # which would take any name for one of these

    def __dir__() -> list[str]:
        ours = {"Any", "TYPE_CHECKING", "importlib"}
        return sorted({*globals(), *__all__} - ours)

    def __getattr__(name: str) -> Any:
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        home = importlib.import_module(
            f"stepfunction.{_HOMES.get(name, 'core.errors')}"
        )
        if hasattr(home, "__path__"):  # no name lives in a package: it is another's
            from stepfunction.core.namesake import mixture

            raise ImportError(mixture())
        value = globals()[name] = getattr(home, name)
        return value
