"""Every exception of the library.

::

    StepFunctionError
    ├── DefinitionError (ValueError)          the workflow is not sound
    ├── StepExecutionError                    no step took a step's failure
    │   ├── ParallelStepExecutionError        tasks of a parallel step failed
    │   └── StepLimitError                    a loop ran past ``max_steps``
    ├── NoBranchMatchedError (LookupError)    a result leads to no step
    ├── FailStepError                         a fail step ended the workflow
    ├── CompensationError (ExceptionGroup)    what had succeeded was not undone
    ├── StepTimeoutError (TimeoutError)       an attempt took longer than it may
    │   └── HeartbeatTimeoutError             or gave no sign of life for too long
    ├── ExecutionTimeoutError (TimeoutError)  the whole execution took too long
    ├── ExecutionCancelledError               somebody cancelled the execution
    ├── WorkerStartError (RuntimeError)       no worker can be started here
    │   └── WorkerInitError (BrokenExecutor)  the initializer of lanes failed
    ├── WorkerCrashedError (BrokenExecutor)   a worker process died with its task
    │   └── WorkerKilledError                 it was killed because somebody asked
    ├── TransferError (TypeError)             a value cannot cross between processes
    ├── RemoteError                           an exception that could not come over
    ├── StoreError                            a store cannot keep or give something
    │   ├── ExecutionClaimedError             somebody else runs this execution
    │   └── ExecutionNotFoundError (LookupError)   nothing is stored of that id
    ├── ResumeError (ValueError)              what is stored cannot go on so
    ├── UnstorableValueError (TypeError)      a value cannot be stored as it is
    ├── TranscriptError (ValueError)          a text is no transcript of an execution
    └── DrawingError                          a picture cannot be made here

A step's own exception is never replaced: it is in the context, and the
``__cause__`` of the error that ``execute()`` raises.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Self

from stepfunction.core.raised import cause_of, is_a

try:
    from _pickle import PicklingError  # that of pickle, which is dear to import
except ImportError:
    from pickle import PicklingError

if TYPE_CHECKING:
    from stepfunction.core import losses
    from stepfunction.core.history.execution import Execution
    from stepfunction.core.outcomes import Outcome

    WorkerCrashedError = losses.WorkerCrashedError
    WorkerInitError = losses.WorkerInitError
    WorkerKilledError = losses.WorkerKilledError


class StepFunctionError(Exception):
    """The base of every error that this library raises.

    The first argument is the message. The others are facts, kept as attributes
    too; all of them are in ``args``, so that every error survives pickling.
    """

    def __str__(self) -> str:
        return str(self.args[0]) if self.args else ""

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self)!r})"


class _NoExecution:
    """Stands on the classes of errors whose ``execution`` is to be set on each."""

    def __get__(self, error: StepFunctionError | None, kind: type) -> Any:
        if error is None:
            return self
        raise AttributeError(
            f"this {kind.__name__} has no execution: what execute(), result() and "
            "raise_if_failed() raise has it; a copy of that from another process or a "
            "store, and an error of a step or a task, has none"
        )


_NO_EXECUTION: Any = _NoExecution()


def execution_of(error: BaseException) -> Execution | None:
    """Give the execution that an error of ours ended; None if it has none."""
    found: Execution | None = getattr(error, "execution", None)
    return found


def _without_execution(error: BaseException) -> Any:
    """Reduce an error whose execution stays where it ran.

    That may hold anything, this error included.
    """
    facts = {k: v for k, v in error.__dict__.items() if k != "execution"}
    return type(error), error.args, facts


class Problem(str):
    """One thing that is wrong with a definition: a sentence, and what it is about.

    Attributes:
        path: The argument that it is about, and where in it, as ``("func", "pay")``;
            empty where it is about no single one.
        text: What is wrong.
        hint: What to do about it, as the sentence goes on: ``"; give …"``.
    """

    path: tuple[str, ...]
    text: str
    hint: str

    def __new__(
        cls, argument: str | tuple[str, ...], text: str, hint: str = ""
    ) -> Self:
        made = super().__new__(cls, text + hint)
        made.path = (argument,) if isinstance(argument, str) else argument
        made.text = text
        made.hint = hint
        return made

    @property
    def argument(self) -> str:
        """The name of the argument that it is about; empty without one."""
        return self.path[0] if self.path else ""

    def within(self, what: str, *path: str) -> Problem:
        """Give the problem as that of a part of something, with another path to it."""
        return Problem(path or self.path, f"{what}: {self.text}", self.hint)

    def __getnewargs__(self) -> Any:
        return self.path, self.text, self.hint


def about(argument: str, problems: Iterable[str]) -> Iterator[Problem]:
    """Give problems as such of an argument, unless they know better."""
    for problem in problems:
        if isinstance(problem, Problem):
            yield problem
        else:
            yield Problem(argument, problem)


class DefinitionError(StepFunctionError, ValueError):
    """A workflow, or a part of it, is not sound.

    Attributes:
        problems: Everything that is wrong, one sentence each; a ``Problem`` where it
            is known which argument it is about.
    """

    def __init__(self, subject: str, problems: Sequence[str]) -> None:
        super().__init__(subject, tuple(problems))
        self.problems: tuple[str, ...] = tuple(problems)

    def __str__(self) -> str:
        if len(self.problems) == 1:
            return f"{self.args[0]}: {self.problems[0]}"
        listed = "\n".join(f"  - {problem}" for problem in self.problems)
        return f"{self.args[0]}: {len(self.problems)} problems\n{listed}"


class StepExecutionError(StepFunctionError):
    """A step failed, and no ``on_failure`` took the failure.

    The step's own exception is the ``__cause__``.

    Attributes:
        step: The name of the step that failed.
        execution: The execution that ended with it; where that has not ended yet, and
            in a copy from another process or a store, there is none to ask for.
    """

    execution: Execution = _NO_EXECUTION

    def __init__(self, message: str, step: str) -> None:
        super().__init__(message, step)
        self.step = step

    __reduce__ = _without_execution


class ParallelStepExecutionError(StepExecutionError):
    """More tasks of a parallel step, or items of a map step, failed than it tolerates.

    The first failure in time is the ``__cause__``.

    Attributes:
        step: The name of the step.
        outcomes: Task name, or index of the item, to ``Outcome``, for every one.
        results: The same to result, for those that succeeded.
        errors: The same to exception, for those that failed, as they failed.
    """

    def __init__(
        self,
        message: str,
        step: str,
        outcomes: Mapping[Any, Outcome],
        results: Mapping[Any, Any],
        errors: Mapping[Any, BaseException],
    ) -> None:
        super().__init__(message, step)
        self.args = (message, step, outcomes, results, errors)
        self.outcomes = outcomes
        self.results = results
        self.errors = errors


class NoBranchMatchedError(StepFunctionError, LookupError):
    """A step's result leads to no step, and there is no ``next_step``.

    Attributes:
        step: The name of the step.
        result: What it returned.
        known: The results (or, for a callable, the steps) that would have led on.
    """

    def __init__(
        self, message: str, step: str, result: Any, known: Sequence[Any]
    ) -> None:
        super().__init__(message, step, result, known)
        self.step = step
        self.result = result
        self.known = known


class FailStepError(StepFunctionError):
    """A fail step ended the execution, as AWS Step Functions' Fail state does.

    Attributes:
        error: The name of the error.
        cause: What a person should know of it; None for nothing.
    """

    def __init__(self, message: str, error: str, cause: str | None = None) -> None:
        super().__init__(message, error, cause)
        self.error = error
        self.cause = cause


class CompensationError(StepFunctionError, ExceptionGroup[Exception]):
    """Compensations of a failed execution, or of one nested in it, failed.

    It is a group of what they failed with, in the order in which they did; a note of
    each says which step or task it was to undo. The ``__cause__`` is the error that
    ``execute()`` would else have raised, or ``check=True``.

    Attributes:
        execution: The outermost execution; a copy from another process has none.
    """

    execution: Execution = _NO_EXECUTION

    def derive(self, exceptions: Sequence[Any], /) -> Any:
        """Give the error that holds a part of these exceptions, for ``except*``.

        Args:
            exceptions: The part.

        Returns:
            A CompensationError of the same execution.
        """
        derived = CompensationError(self.message, exceptions)
        if (execution := execution_of(self)) is not None:
            derived.execution = execution
        return derived

    __reduce__ = _without_execution


class StepLimitError(StepExecutionError):
    """An execution would have gone on past the ``max_steps`` of its workflow.

    Attributes:
        step: The step that it would have gone on with.
    """


class StepTimeoutError(StepFunctionError, TimeoutError):
    """An attempt took longer than its step's ``timeout``.

    Attributes:
        timeout: The limit that passed, in seconds.
    """

    def __init__(self, message: str, timeout: float) -> None:
        super().__init__(message, timeout)
        self.timeout = timeout


class HeartbeatTimeoutError(StepTimeoutError):
    """An attempt gave no sign of life for longer than its step's ``heartbeat``."""


class ExecutionTimeoutError(StepFunctionError, TimeoutError):
    """The whole execution took longer than ``execute(timeout=…)`` allows.

    Attributes:
        execution: The execution.
    """

    execution: Execution = _NO_EXECUTION


class ExecutionCancelledError(StepFunctionError):
    """The execution was cancelled, or, in a task, the task was told to stop.

    Attributes:
        execution: The cancelled execution; in a task there is none to ask for.
    """

    execution: Execution = _NO_EXECUTION


class WorkerStartError(StepFunctionError, RuntimeError):
    """A worker, process or thread, cannot be started; the message says what to change.

    It is no failure of a step: none tolerates it, tries again or takes it, and
    ``execute()`` raises it as it is. What the system said is the ``__cause__``.

    Attributes:
        execution: The execution that ended with it; None until it has ended, or where
            it did not begin.
    """

    execution: Execution | None = None

    __reduce__ = _without_execution


class TransferError(StepFunctionError, TypeError, PicklingError):
    """A function, an input or a result cannot cross between processes."""


class RemoteError(StepFunctionError):
    """An exception of a worker process whose own class could not come over.

    Attributes:
        type_name: The qualified name of the exception's class.
        text: What ``str()`` of the exception was.
    """

    def __init__(self, message: str, type_name: str, text: str) -> None:
        super().__init__(message, type_name, text)
        self.type_name = type_name
        self.text = text


class RemoteTraceback(Exception):
    """The traceback of a worker process, as text: the ``__cause__`` of its error."""

    def __str__(self) -> str:
        return f'\n"""\n{self.args[0]}"""' if self.args else ""


class StoreError(StepFunctionError):
    """A store cannot keep something, or give it back: its disk, its file, its damage.

    It is no failure of a step: none tolerates it, tries again or takes it. The
    execution stops before its next step, undoes nothing, and can be resumed. What the
    system said, or what the step had failed with, is the ``__cause__``.

    Attributes:
        execution: The execution that was stopped by it; None where none was running.
    """

    execution: Execution | None = None

    __reduce__ = _without_execution


class ExecutionClaimedError(StoreError):
    """Another process, or another thread of this one, runs the execution.

    Attributes:
        id: The ``id`` of the execution.
        host: The name of the machine on which it runs; None if that is not known.
        pid: The process that runs it; None if that is not known.
    """

    def __init__(
        self, message: str, id: str, host: str | None = None, pid: int | None = None
    ) -> None:
        super().__init__(message, id, host, pid)
        self.id = id
        self.host = host
        self.pid = pid


class ExecutionNotFoundError(StoreError, LookupError):
    """Nothing is stored of an execution of that ``id``.

    Attributes:
        id: The ``id``.
    """

    def __init__(self, message: str, id: str) -> None:
        super().__init__(message, id)
        self.id = id


class ResumeError(StepFunctionError, ValueError):
    """What is stored cannot go on so: its input, its workflow or an item is another.

    Nothing has been called, and what is stored stays as it is.

    Attributes:
        id: The ``id`` of the execution.
        differences: Each thing that is another than it was, as a sentence.
        execution: The execution that an item of another kept from going on; None where
            it did not begin to.
    """

    execution: Execution | None = None

    def __init__(
        self, message: str, id: str, differences: Sequence[str] = ()
    ) -> None:
        super().__init__(message, id, tuple(differences))
        self.id = id
        self.differences = tuple(differences)

    __reduce__ = _without_execution


class UnstorableValueError(StepFunctionError, TypeError):
    """A value cannot be stored as it is, and would not come back.

    Attributes:
        step: The name of the step that gave it; None of an execution's input.
        result: The value, which the step gave all the same.
    """

    def __init__(
        self, message: str, step: str | None = None, result: Any = None
    ) -> None:
        super().__init__(message, step, result)
        self.step = step
        self.result = result


class TranscriptError(StepFunctionError, ValueError):
    """A text is none that ``Execution.to_json()`` has written."""


class DrawingError(StepFunctionError):
    """A picture cannot be made here; the message says what to install."""


def causes(error: BaseException) -> Iterator[BaseException]:
    """Give the error itself, then what our own wrappers hide behind it."""
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = cause_of(cause) if is_a(cause, StepExecutionError) else None


def refusal_behind(error: BaseException | None) -> WorkerStartError | None:
    """Give the refusal to start a worker that is, or is behind, an error of ours."""
    if error is None or not is_a(error, StepFunctionError):
        return None
    return next((it for it in causes(error) if is_a(it, WorkerStartError)), None)


def stop_behind(error: BaseException) -> StoreError | ResumeError | None:
    """Give what keeps an execution from going on that is, or is behind, an error."""
    if not is_a(error, StepFunctionError):
        return None
    kinds: Any = (StoreError, ResumeError)
    found: Any = (it for it in causes(error) if is_a(it, kinds))
    return next(found, None)


def add_note(error: BaseException, note: str) -> None:
    """Add a note, also to an exception that is frozen, which refuses its own way."""
    # A note that cannot be kept must not hide what it is about.
    with suppress(Exception):
        notes = [*getattr(error, "__notes__", ()), note]
        BaseException.__setattr__(error, "__notes__", notes)


# They are errors of concurrent.futures too, and that is dear to import.
_LOSSES = ("WorkerCrashedError", "WorkerInitError", "WorkerKilledError")

if not TYPE_CHECKING:  # which would take any name for one of these

    def __getattr__(name: str) -> Any:
        if name not in _LOSSES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        home = importlib.import_module("stepfunction.core.losses")
        value = globals()[name] = getattr(home, name)
        return value
