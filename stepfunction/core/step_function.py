"""StepFunction: where a workflow is built, checked, run and drawn."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import count
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, Self, TypeAlias, TypeVar

from stepfunction.core.definition.actions import Fail, Pass, Wait, is_count
from stepfunction.core.definition.arguments import Calls, Leads, Many
from stepfunction.core.definition.catches import failure_problems, frozen_on_failure
from stepfunction.core.definition.doors import Workflow
from stepfunction.core.definition.drafts import Draft
from stepfunction.core.definition.freezing import freeze
from stepfunction.core.definition.graph import Definition, Graph, Step
from stepfunction.core.durations import in_seconds
from stepfunction.core.engine.start import (
    Stored,
    begin,
    carry_out,
    checked_arguments,
    conclude,
    finish,
    finish_apart,
    finish_beside,
    has_ended,
    id_problems,
    store_problems,
)
from stepfunction.core.errors import DefinitionError, Problem, about
from stepfunction.core.history.execution import Execution
from stepfunction.core.history.journal import NOTHING
from stepfunction.core.misspelling import did_you_mean_arguments
from stepfunction.core.outcomes import Status
from stepfunction.core.surroundings import checked_surroundings, using
from stepfunction.core.watching.events import Listener, checked_listeners
from stepfunction.core.wording import counted, plain_text
from stepfunction.core.workers.executors import ExecutorChoice
from stepfunction.core.workers.retry import RetryPolicy

if TYPE_CHECKING:
    from datetime import datetime, timedelta

    import tenacity

    from stepfunction.core.engine.run import Run
    from stepfunction.core.history.journal import Journal
    from stepfunction.core.store import Store

__tracebackhide__ = True  # pytest shows the test and what is called, not us

Seconds: TypeAlias = "float | timedelta"
Error = TypeVar("Error", bound=BaseException)
BranchChoice: TypeAlias = (
    Mapping[Any, str]
    | Sequence[tuple[Callable[[Any], object], str]]
    | Callable[[Any], str | None]
)


_NONE: tuple[Any, ...] = ()
# What arguments are called elsewhere.
_MEANT = {
    "args": "params",
    "catch": "on_failure",
    "concurrency": "max_workers",
    "depends_on": "inputs",
    "error_handler": "on_failure",
    "fallback": "on_failure",
    "kwargs": "params",
    "max_attempts": "retry=RetryPolicy(max_attempts=…)",
    "max_retries": "retry=RetryPolicy(max_attempts=…)",
    "next": "next_step",
    "on_error": "on_failure",
    "retries": "retry=RetryPolicy(max_attempts=…)",
    "then": "next_step",
    "tries": "retry=RetryPolicy(max_attempts=…)",
}


class _Input:
    """Stands for a pass step's own input."""

    def __repr__(self) -> str:
        return "<its input>"


_INPUT: Any = _Input()


class StepFunction(Workflow):
    """A workflow: a graph of named steps, each a call given the last one's result.

    Add steps, name the first, and execute as often as you like, from as many threads
    as you like: what happens in a run is kept in the ``Execution`` that it returns.

    Args:
        name: What it is called in messages, records and pictures.
        max_steps: How many steps one run may take. Given, steps may lead back in a
            loop; without it a workflow is a graph without circles.
        on_failure: The failure step of all steps that have none of their own, but for
            itself and what follows it; or exception class to step, as in
            ``add_step``.
        keep_history: How many of its latest steps an execution remembers in its
            ``history``, for long loops; None for all. ``context`` has all steps.
        listeners: Callables of one ``Event``, called with all that happens in its
            executions. Where it is nested, those of the outer workflow are.
        surroundings: What its tasks find around them in the threads and processes
            where they run, as a tenant: see ``Surroundings``. Likewise those of the
            outer workflow where it is nested.
        store: Where its executions are kept, as ``stepfunction.stores.SQLiteStore``,
            so that they can go on after a crash; None for nowhere. Where it is nested,
            that of the outer workflow is.

    Raises:
        DefinitionError: If the arguments are not sound, with every reason.

    >>> greet = StepFunction("Greet")
    >>> _ = greet.add_step("Ask", str.strip, next_step="Shout")
    >>> _ = greet.add_step("Shout", str.upper)
    >>> greet.set_start_step("Ask").execute(" hello ").output
    'HELLO'
    """

    def __init__(
        self,
        name: str,
        *,
        max_steps: int | None = None,
        on_failure: str | Mapping[type[Error], str] | None = None,
        keep_history: int | None = None,
        listeners: Iterable[Listener] = (),
        surroundings: Iterable[Any] = _NONE,
        store: Store | None = None,
    ) -> None:
        problems: list[str] = list(store_problems(store))
        self._surroundings = checked_surroundings(surroundings, problems)
        self._listeners = checked_listeners(listeners, problems)
        if not isinstance(name, str) or not name:
            text = f"the name of a workflow is a text, not {name!r}"
            problems.append(Problem("name", text))
        for what, limit in (("max_steps", max_steps), ("keep_history", keep_history)):
            if limit is not None and not is_count(limit, 1):
                text = f"{what} is a whole number from 1, not {limit!r}"
                problems.append(Problem(what, text))
        if on_failure is not None:
            problems += about("on_failure", failure_problems(on_failure))
        if problems:
            raise DefinitionError("StepFunction", problems)
        self._name = plain_text(name)
        self._store = store
        self._max_steps = max_steps
        self._keep_history = keep_history
        self._on_failure = frozen_on_failure(on_failure)
        self._steps: dict[str, Step] = {}
        self._start: str | None = None
        self._compiled: _Compiled | None = None
        self._version = next(_versions)
        # What stands in for steps while they are tested: step name to what makes
        # another step of it.
        self._stand_ins: dict[object, Mapping[str, Callable[[Step], Step]]] = {}
        self._latest: Execution | None = None

    @property
    def name(self) -> str:
        """The name of the workflow."""
        return self._name

    @property
    def steps(self) -> Mapping[str, Step]:
        """Step name to step, in the order of the definition; read-only."""
        return MappingProxyType(self._steps)

    @property
    def status(self) -> Status:
        """Where the most recently started execution stands."""
        return Status.INITIALIZED if self._latest is None else self._latest.status

    @property
    def context(self) -> Mapping[str, Any]:
        """Step name to output or exception, of the most recently started execution."""
        return MappingProxyType({}) if self._latest is None else self._latest.context

    @property
    def last_result(self) -> Any:
        """What the latest step of the most recently started execution gave.

        That is its output, or the exception it failed with.
        """
        return None if self._latest is None else self._latest.last_result

    @did_you_mean_arguments(**_MEANT)
    def add_step(
        self,
        name: str,
        func: Callable[..., Any] | StepFunction | Mapping[str, Any],
        next_step: str | None = None,
        on_failure: str | Mapping[type[Error], str] | None = None,
        branch: BranchChoice | None = None,
        parallel: bool = False,
        stop_on_failure: bool = False,
        *,
        params: Mapping[str, Any] | None = None,
        branch_targets: Sequence[str] | None = None,
        executor: ExecutorChoice | None = None,
        max_workers: int | None = None,
        tolerated_failures: int | str | None = None,
        retry: RetryPolicy | tenacity.Retrying | None = None,
        timeout: float | timedelta | None = None,
        heartbeat: float | timedelta | None = None,
        ends: Literal["completed", "failed"] | None = None,
        inputs: Mapping[str, str] | None = None,
        compensate: Callable[..., Any] | Mapping[str, Any] | None = None,
    ) -> StepFunction:
        """Add a step.

        Args:
            name: Its name, unique in this workflow.
            func: What it calls: a function, any other callable, or a StepFunction.
                With ``parallel=True`` a mapping of task name to these.
            next_step: The step that follows; without one the workflow ends here.
                With ``branch`` it is the default.
            on_failure: The step that follows a failure and is given the exception; or
                exception class to step, of which the first match counts.
            branch: Result to the step that it leads to; or pairs of predicate of the
                output and step, of which the first that holds counts; or a callable
                of the output that gives a step's name, or None for ``next_step``.
            parallel: Whether ``func`` is tasks that run side by side. The output is
                then a mapping of task name to result, in the order of ``func``.
            stop_on_failure: Whether the first failure past the tolerated ones stops
                the other tasks: those that wait never begin, processes are killed,
                threads see ``context.cancelled`` and are waited for.
            params: Keyword arguments for the function, or for every task.
            branch_targets: The names that a callable ``branch`` may give.
            executor: Where it runs: ``"inline"``, ``"thread"`` (the default of a
                parallel step), ``"process"``, or any ``concurrent.futures.Executor``.
                A step that is not parallel runs in the caller's thread by default.
            max_workers: How many tasks run at once; by default at most 32 threads, a
                process for each usable CPU, and all on somebody else's executor.
            tolerated_failures: How many tasks may fail without the step failing, or
                their share as ``"10%"``. By default none where there is a
                ``stop_on_failure``, or an ``on_failure`` of the step or the workflow,
                else ``"100%"``.
            retry: How failed calls are made again; for each task by itself.
            timeout: How many seconds an attempt may take. A process is then killed; a
                thread, or somebody else's executor, is no longer waited for and told
                through ``context.cancelled``; a nested workflow stops before its next
                step. A plain step in the caller's thread cannot have one.
            heartbeat: How many seconds an attempt may go on without calling
                ``context.heartbeat()``, on threads and processes of ours.
            ends: What an execution that ends here is, ``"completed"`` or
                ``"failed"``. By default it has failed where only ``on_failure``
                arrows lead here.
            inputs: Parameter to the name of the earlier step whose output it takes, in
                the place of the output of the step before. Every path that leads here
                must go through these steps.
            compensate: What undoes the step, called with its output when the execution
                ends FAILED, after those of later steps; of a parallel step also task
                name to what undoes that. It is called once, in the caller's thread.

        Returns:
            This builder, for the next call.

        Raises:
            DefinitionError: If the arguments are not sound, with every reason.
        """
        leads = Leads(next_step, on_failure, branch, branch_targets, ends)
        calls = Calls(params, inputs, executor, retry, timeout, heartbeat, compensate)
        draft = Draft(self, name, leads, calls, "mapping" if parallel else None)
        if not parallel:
            given = stop_on_failure is not False
            if given or max_workers is not None or tolerated_failures is not None:
                many = Many(stop_on_failure, max_workers, tolerated_failures)
                many.refuse(draft.problems)
            return self._add(draft.step(draft.call(func)))
        if tolerated_failures is None and not stop_on_failure:
            if on_failure is None and self._on_failure is None:
                tolerated_failures = "100%"
        many = Many(stop_on_failure, max_workers, tolerated_failures)
        return self._add(draft.step(draft.fan_out(func, many)))

    @did_you_mean_arguments(**_MEANT)
    def add_sub_step_function(
        self,
        name: str,
        sub_step_function: StepFunction,
        next_step: str | None = None,
        on_failure: str | Mapping[type[Error], str] | None = None,
        branch: BranchChoice | None = None,
        *,
        branch_targets: Sequence[str] | None = None,
        executor: ExecutorChoice | None = None,
        retry: RetryPolicy | tenacity.Retrying | None = None,
        timeout: float | timedelta | None = None,
        ends: Literal["completed", "failed"] | None = None,
        inputs: Mapping[str, str] | None = None,
        compensate: Callable[..., Any] | None = None,
    ) -> StepFunction:
        """Add a step that runs another workflow.

        It is given the step's input and gives its last output. If it ends FAILED the
        step has failed. Its own execution is ``execution.children[name]``.

        Args:
            name: The name of the step, unique in this workflow.
            sub_step_function: The workflow to run. Steps that are added to it later
                are seen by the next execution of this one.
            next_step: As in ``add_step``.
            on_failure: As in ``add_step``.
            branch: As in ``add_step``.
            branch_targets: As in ``add_step``.
            executor: As in ``add_step``.
            retry: How a failed run is made again, from its start.
            timeout: How many seconds an attempt may take, as in ``add_step``.
            ends: As in ``add_step``.
            inputs: As in ``add_step``; the workflow is given a dict of them.
            compensate: As in ``add_step``; without it the steps of the workflow are
                undone, each by what undoes it.

        Returns:
            This builder, for the next call.

        Raises:
            DefinitionError: If the arguments are not sound, with every reason.
        """
        leads = Leads(next_step, on_failure, branch, branch_targets, ends)
        calls = Calls(None, inputs, executor, retry, timeout, None, compensate)
        draft = Draft(self, name, leads, calls)
        return self._add(draft.step(draft.workflow(sub_step_function)))

    @did_you_mean_arguments(**_MEANT)
    def add_parallel_step(
        self,
        name: str,
        tasks: Mapping[str, Callable[..., Any] | StepFunction],
        *,
        next_step: str | None = None,
        on_failure: str | Mapping[type[Error], str] | None = None,
        branch: BranchChoice | None = None,
        stop_on_failure: bool = False,
        tolerated_failures: int | str | None = None,
        params: Mapping[str, Any] | None = None,
        branch_targets: Sequence[str] | None = None,
        executor: ExecutorChoice | None = None,
        max_workers: int | None = None,
        retry: RetryPolicy | tenacity.Retrying | None = None,
        timeout: float | timedelta | None = None,
        heartbeat: float | timedelta | None = None,
        ends: Literal["completed", "failed"] | None = None,
        inputs: Mapping[str, str] | None = None,
        compensate: Callable[..., Any] | Mapping[str, Any] | None = None,
    ) -> StepFunction:
        """Add a step whose tasks run side by side.

        As AWS Step Functions' Parallel state: it fails when any task has failed and
        all have ended, unless it is told otherwise. The output is a mapping of task
        name to result, in the order of ``tasks``.

        Args:
            name: The name of the step, unique in this workflow.
            tasks: Task name to what it calls: a function, any other callable, or a
                StepFunction. Each is given the step's input.
            next_step: As in ``add_step``.
            on_failure: As in ``add_step``.
            branch: As in ``add_step``; the output is a mapping, so no mapping.
            stop_on_failure: As in ``add_step``.
            tolerated_failures: How many tasks may fail without the step failing, or
                their share as ``"10%"``; by default none.
            params: As in ``add_step``.
            branch_targets: As in ``add_step``.
            executor: As in ``add_step``, ``"thread"`` by default.
            max_workers: As in ``add_step``.
            retry: As in ``add_step``.
            timeout: As in ``add_step``.
            heartbeat: As in ``add_step``.
            ends: As in ``add_step``.
            inputs: As in ``add_step``.
            compensate: As in ``add_step``.

        Returns:
            This builder, for the next call.

        Raises:
            DefinitionError: If the arguments are not sound, with every reason.
        """
        leads = Leads(next_step, on_failure, branch, branch_targets, ends)
        calls = Calls(params, inputs, executor, retry, timeout, heartbeat, compensate)
        many = Many(stop_on_failure, max_workers, tolerated_failures)
        draft = Draft(self, name, leads, calls, "mapping")
        return self._add(draft.step(draft.fan_out(tasks, many)))

    @did_you_mean_arguments(**_MEANT)
    def add_map_step(
        self,
        name: str,
        func: Callable[..., Any] | StepFunction,
        items: Callable[[Any], Iterable[Any]] | str | int | None = None,
        *,
        next_step: str | None = None,
        on_failure: str | Mapping[type[Error], str] | None = None,
        branch: BranchChoice | None = None,
        params: Mapping[str, Any] | None = None,
        branch_targets: Sequence[str] | None = None,
        executor: ExecutorChoice | None = None,
        max_workers: int | None = None,
        batch_size: int = 1,
        stop_on_failure: bool = False,
        tolerated_failures: int | str | None = None,
        keep_results: bool = True,
        retry: RetryPolicy | tenacity.Retrying | None = None,
        timeout: float | timedelta | None = None,
        heartbeat: float | timedelta | None = None,
        ends: Literal["completed", "failed"] | None = None,
        inputs: Mapping[str, str] | None = None,
        compensate: Callable[..., Any] | None = None,
    ) -> StepFunction:
        """Add a step that makes the same call for each of many items.

        As AWS Step Functions' Map state. The items are taken as they are needed, so
        they may come from a generator that is longer than memory. The output has the
        results in the order of the items.

        Args:
            name: The name of the step, unique in this workflow.
            func: What is called with each item: a function, any other callable, or a
                StepFunction.
            items: Where the items are: a key of the step's input, or a callable of it
                that gives an iterable; by default they are the input.
            next_step: As in ``add_step``.
            on_failure: As in ``add_step``.
            branch: As in ``add_step``; the output is a list, so no mapping.
            params: Keyword arguments for every call.
            branch_targets: As in ``add_step``.
            executor: As in ``add_step``, ``"thread"`` by default.
            max_workers: How many batches run at once, as in ``add_step``.
            batch_size: How many items are sent together, which makes short calls
                cheap. The function still sees one item at a time.
            stop_on_failure: As in ``add_step``, for items.
            tolerated_failures: How many items may fail without the step failing, or
                their share as ``"10%"``; by default none.
            keep_results: False to give no list, but a dict of outcome to how many
                items had it.
            retry: How failed calls are made again, for each item by itself.
            timeout: How many seconds the call for one item may take.
            heartbeat: As in ``add_step``, for the call for one item.
            ends: As in ``add_step``.
            inputs: As in ``add_step``; ``items`` is then one of their names, or a
                callable of a dict of them.
            compensate: What undoes the call for one item, given what it returned.

        Returns:
            This builder, for the next call.

        Raises:
            DefinitionError: If the arguments are not sound, with every reason.
        """
        leads = Leads(next_step, on_failure, branch, branch_targets, ends)
        calls = Calls(params, inputs, executor, retry, timeout, heartbeat, compensate)
        many = Many(stop_on_failure, max_workers, tolerated_failures)
        draft = Draft(self, name, leads, calls, "list")
        action = draft.map_items(func, items, many, batch_size, keep_results)
        return self._add(draft.step(action))

    @did_you_mean_arguments(**_MEANT)
    def add_wait_step(
        self,
        name: str,
        *,
        seconds: Seconds | Callable[[Any], Seconds] | None = None,
        until: datetime | Callable[[Any], datetime] | None = None,
        next_step: str | None = None,
        on_failure: str | Mapping[type[Error], str] | None = None,
        ends: Literal["completed", "failed"] | None = None,
    ) -> StepFunction:
        """Add a step that waits, and passes its input on.

        As AWS Step Functions' Wait state. Waiting ends at once when the execution is
        cancelled or has no time left.

        Args:
            name: The name of the step, unique in this workflow.
            seconds: How long to wait, as seconds or a ``timedelta``, or a callable of
                the input that says it.
            until: When to go on, a datetime with a time zone, or a callable of the
                input that gives one. What has passed is not waited for.
            next_step: As in ``add_step``.
            on_failure: As in ``add_step``, for what a callable raises.
            ends: As in ``add_step``.

        Returns:
            This builder, for the next call.

        Raises:
            DefinitionError: If the arguments are not sound, with every reason.
        """
        draft = Draft(self, name, Leads(next_step, on_failure, None, None, ends))
        wait = Wait(in_seconds(seconds), until)
        return self._add(draft.step(wait.checked(draft.problems)))

    @did_you_mean_arguments(**_MEANT)
    def add_pass_step(
        self,
        name: str,
        result: Any = _INPUT,
        *,
        next_step: str | None = None,
        on_failure: str | Mapping[type[Error], str] | None = None,
        branch: BranchChoice | None = None,
        branch_targets: Sequence[str] | None = None,
        ends: Literal["completed", "failed"] | None = None,
    ) -> StepFunction:
        """Add a step that gives a constant, or its input.

        As AWS Step Functions' Pass state; with a ``branch`` as its Choice state.

        Args:
            name: The name of the step, unique in this workflow.
            result: The constant, of which each execution is given a copy; left out,
                the step's input.
            next_step: As in ``add_step``.
            on_failure: As in ``add_step``, for a branch that nothing matches.
            branch: As in ``add_step``.
            branch_targets: As in ``add_step``.
            ends: As in ``add_step``.

        Returns:
            This builder, for the next call.

        Raises:
            DefinitionError: If the arguments are not sound, with every reason.
        """
        leads = Leads(next_step, on_failure, branch, branch_targets, ends)
        draft = Draft(self, name, leads)
        action = Pass() if result is _INPUT else Pass(True, result)
        return self._add(draft.step(action.checked(draft.problems)))

    @did_you_mean_arguments(**_MEANT)
    def add_fail_step(
        self, name: str, error: str, cause: str | None = None
    ) -> StepFunction:
        """Add a step that ends the execution as FAILED.

        As AWS Step Functions' Fail state. No step takes this failure; ``execute()``
        returns the execution, whose ``error`` is a ``FailStepError``.

        Args:
            name: The name of the step, unique in this workflow.
            error: The name of the error.
            cause: What a person should know of it.

        Returns:
            This builder, for the next call.

        Raises:
            DefinitionError: If the arguments are not sound, with every reason.
        """
        draft = Draft(self, name, Leads())
        return self._add(draft.step(Fail(error, cause).checked(draft.problems)))

    def set_start_step(self, name: str) -> StepFunction:
        """Name the step that an execution begins with.

        Args:
            name: The name of a step, which may be added later.

        Returns:
            This builder, for the next call.

        Raises:
            DefinitionError: If the name is no text.
        """
        if not isinstance(name, str) or not name:
            text = f"the start step is the name of a step, not {name!r}"
            raise DefinitionError(f"workflow {self._name!r}", [Problem("start", text)])
        self._start = plain_text(name)
        self._edited()
        return self

    def validate(self) -> None:
        """Check the workflow.

        Raises:
            DefinitionError: If it is not sound; ``problems`` has all there are.
        """
        self.compile()

    def compile(self) -> Graph:
        """Check the workflow and freeze it into a graph.

        The graph shares nothing with this builder, and any number of threads may run
        it at once.

        Returns:
            The frozen graph: the same one until a step is added, here or in a nested
            workflow.

        Raises:
            DefinitionError: If it is not sound; ``problems`` has all there are.
        """
        try:
            return self._compilation()[0]
        except RecursionError:
            text = (
                f"{len(self.with_all_nested()):,} workflows are nested too deep in one "
                "another for this interpreter, whose limit sys.setrecursionlimit() sets"
            )
            problem = Problem((), text)
            raise DefinitionError(f"workflow {self._name!r}", [problem]) from None

    def definition(self) -> Definition:
        """Give what has been defined so far, which need not be sound."""
        return self._defined(MappingProxyType(dict(self._steps)))

    def _defined(self, steps: Mapping[str, Step]) -> Definition:
        return Definition(
            self._name,
            self._start,
            self._max_steps,
            self._keep_history,
            self._on_failure,
            steps,
        )

    def execute(
        self,
        initial_input: Any = NOTHING,
        *,
        executor: ExecutorChoice | None = None,
        timeout: float | timedelta | None = None,
        check: bool = False,
        listeners: Iterable[Listener] = (),
        surroundings: Iterable[Any] = _NONE,
        store: Store | None = None,
        execution_id: str | None = None,
    ) -> Execution:
        """Run the workflow to its end.

        Args:
            initial_input: The first step's input; without one a default that its
                function has stays as it is, and what requires an input is given None.
            executor: Where every step that has an executor runs in this execution,
                whatever it says itself: ``"inline"`` for tests and debuggers.
            timeout: How many seconds the execution may take, or a ``timedelta``, as
                wherever seconds are; None for no limit. When they are over nothing
                more begins, processes are killed and threads are no longer waited for;
                a plain step is waited for to its end.
            check: Whether to raise also where a failure step took the failure.
            listeners: Callables of one ``Event``, called by this thread with all that
                happens, after those of the workflow. What one raises is logged.
            surroundings: What tasks find around them in other threads and processes,
                within those of the workflow.
            store: Where the execution is kept; None for the workflow's store, if it
                has one.
            execution_id: The ``id`` under which it is kept there, up to 200
                characters; None for one of its own. Where there is one of that ``id``
                already that has died, it goes on from where it stood, and one that
                has ended is given back, or raises what it raised: nothing is done
                twice.

        Returns:
            What happened. It is COMPLETED, or FAILED where it ended on a failure
            step.

        Raises:
            DefinitionError: If the workflow is not sound; nothing has then run.
            ResumeError: If what is stored under ``execution_id`` had another input, or
                is of another workflow, or of another shape of it.
            ExecutionClaimedError: If another process or thread runs it.
            StoreError: If the store fails. It stops before its next step, and can go
                on from there.
            UnstorableValueError: If the input cannot be stored.
            CompensationError: If compensations failed; the others have run. It is
                raised whatever else there would be to raise, its ``__cause__``.
            StepExecutionError: If a step failed and no step took the failure, or,
                with ``check``, if the execution FAILED. Its ``__cause__`` is the
                step's exception, its ``execution`` what happened until then.
            ExecutionTimeoutError: If it took longer than ``timeout``.
            ExecutionCancelledError: If another thread cancelled the execution.
        """
        limit: float | None = None if timeout is None else in_seconds(timeout)
        own = self._surroundings
        if surroundings is not _NONE:
            own = self._with_own(surroundings)
        if store is None and execution_id is None and self._store is None:
            execution = self._begin(initial_input, executor, limit, listeners)
        else:
            stored = self._stored(store, execution_id, limit)
            execution = self._begin(initial_input, executor, limit, listeners, stored)
            if has_ended(execution):
                return conclude(execution, check)
        if own:
            with using(own):
                return finish(execution, limit, check)
        carry_out(execution, limit)
        return conclude(execution, check)

    def start(
        self,
        initial_input: Any = NOTHING,
        *,
        executor: ExecutorChoice | None = None,
        timeout: float | timedelta | None = None,
        listeners: Iterable[Listener] = (),
        surroundings: Iterable[Any] = _NONE,
        store: Store | None = None,
        execution_id: str | None = None,
    ) -> Execution:
        """Begin to run the workflow in a thread of its own.

        The program does not wait for it: what still runs when the main thread ends is
        cancelled.

        Args:
            initial_input: As in ``execute``.
            executor: As in ``execute``.
            timeout: As in ``execute``.
            listeners: As in ``execute``; they are called by the workflow's thread.
            surroundings: As in ``execute``; they are around the workflow's thread too.
            store: As in ``execute``.
            execution_id: As in ``execute``.

        Returns:
            The execution while it runs: look at its ``status`` and ``history``,
            ``wait()`` for it, ``cancel()`` it, and ``raise_if_failed()`` in the end.

        Raises:
            DefinitionError: If the workflow is not sound; nothing has then begun.
        """
        limit: float | None = in_seconds(timeout)
        own = self._surroundings
        if surroundings is not _NONE:
            own = self._with_own(surroundings)
        stored = self._stored(store, execution_id, limit)
        execution = self._begin(initial_input, executor, limit, listeners, stored)
        try:
            with using(own):
                finish_apart(execution, limit)
        except BaseException:
            execution.cancel()  # an interrupt would leave it to nobody
            raise
        return execution

    async def aexecute(
        self,
        initial_input: Any = NOTHING,
        *,
        executor: ExecutorChoice | None = None,
        timeout: float | timedelta | None = None,
        check: bool = False,
        listeners: Iterable[Listener] = (),
        surroundings: Iterable[Any] = _NONE,
        shield: bool = False,
        store: Store | None = None,
        execution_id: str | None = None,
    ) -> Execution:
        """Run the workflow to its end without blocking the event loop.

        The workflow runs in a thread of its own, with the caller's context variables;
        its ``async def`` steps run on the caller's event loop. Cancelling the awaiting
        task cancels the execution, and waits for its end for half a second at most: a
        step that does not heed it goes on in its thread. With ``shield`` the execution
        goes on to its end instead.

        Args:
            initial_input: As in ``execute``.
            executor: As in ``execute``.
            timeout: As in ``execute``.
            check: As in ``execute``.
            listeners: As in ``execute``; they are called by the workflow's thread.
            surroundings: As in ``execute``; they are around the workflow's thread too.
            shield: Whether it goes on when the awaiting task is cancelled, as a web
                server does when the client goes away. The program does not wait for
                it, as after ``start()``.
            store: As in ``execute``. Where the awaiting task is cancelled, what is
                stored can go on.
            execution_id: As in ``execute``.

        Returns:
            As ``execute``.

        Raises:
            StepFunctionError: As ``execute``.
        """
        import asyncio

        loop = asyncio.get_running_loop()
        limit: float | None = in_seconds(timeout)
        own = self._surroundings
        if surroundings is not _NONE:
            own = self._with_own(surroundings)
        stored = self._stored(store, execution_id, limit)
        told = (executor, limit, listeners, stored)
        if stored is None:
            execution = self._begin(initial_input, *told)
        else:  # which may have to wait for others
            execution = await asyncio.to_thread(self._begin, initial_input, *told)
        if stored is not None and has_ended(execution):
            return conclude(execution, check)
        with using(own):
            return await finish_beside(loop, execution, limit, check, shield)

    def copy(self) -> Self:
        """Give another builder of the same definition, listeners included.

        What is added to one is not seen by the other. Nested workflows are shared, as
        functions are; ``copy.deepcopy(workflow)`` copies those too.
        """
        from copy import copy  # dear

        return copy(self)

    def __repr__(self) -> str:
        return f"<StepFunction {self._name!r}: {counted(len(self._steps), 'step')}>"

    def __getstate__(self) -> dict[str, Any]:
        # A copy or a pickle is the definition; what ran is not part of it.
        steps = dict(self._steps)
        fresh: dict[str, Any] = {"_latest": None, "_compiled": None, "_stand_ins": {}}
        return {**self.__dict__, "_steps": steps, **fresh}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._edited()  # the number of another process may be given again in this one

    def _add(self, step: Step) -> StepFunction:
        self._steps[step.name] = step
        self._edited()
        return self

    def _edited(self) -> None:
        self._version = next(_versions)

    def _alter(
        self, changes: Mapping[str, Callable[[Step], Step]]
    ) -> Callable[[], None]:
        """Perform other steps in the place of some, until what is given is called."""
        key = object()
        self._stand_ins[key] = changes
        self._edited()

        def put_back() -> None:
            del self._stand_ins[key]
            self._edited()

        return put_back

    def _altered(self, changes: Mapping[str, Callable[[Step], Step]]) -> StepFunction:
        """Give a workflow like this one with other steps in the place of some."""
        other = self.copy()
        other._stand_ins = {**self._stand_ins, object(): changes}
        return other

    def _compilation(self) -> _Compiled:
        """Give the compiled workflow, made anew if any part of it has been edited."""
        # In one frame for each level of nesting, for there may be hundreds.
        if self._compiled is not None:
            _, builders, versions = self._compiled
            if versions == [builder._version for builder in builders]:
                return self._compiled
        seen = {self: self._version}  # each read before what it is about
        problems: list[str] = []
        graphs: dict[StepFunction, Graph] = {}
        steps = dict(self._steps)
        for changes in list(self._stand_ins.values()):
            for name, change in changes.items():
                for workflow in _nested(steps[name]):
                    seen |= {it: it._version for it in workflow.with_all_nested()}
                steps[name] = change(steps[name])
        for name, step in steps.items():
            if step.action.is_one_call:
                continue
            for workflow in _nested(step):
                try:
                    graphs[workflow], builders, versions = workflow._compilation()
                except DefinitionError as error:
                    where = f"step {name!r}: nested workflow {workflow.name!r}"
                    problems += (
                        text.within(where)
                        if isinstance(text, Problem)
                        else f"{where}: {text}"
                        for text in error.problems
                    )
                    graphs[workflow] = Graph(workflow.name, "", {})  # for the checks
                    continue
                for builder, version in zip(builders, versions):
                    seen.setdefault(builder, version)
            steps[name] = step.with_callees(
                lambda _, callee: graphs.get(callee.nested, callee)
            )
        graph = freeze(self._defined(steps), problems)
        self._compiled = graph, tuple(seen), list(seen.values())
        return self._compiled

    def _later(
        self,
        initial_input: Any = NOTHING,
        *,
        executor: ExecutorChoice | None = None,
        timeout: float | timedelta | None = None,
        check: bool = False,
        listeners: Iterable[Listener] = (),
        surroundings: Iterable[Any] = _NONE,
    ) -> tuple[Execution, Callable[[], Execution]]:
        """Give an execution that has not begun, and what runs it as ``execute``."""
        limit: float | None = in_seconds(timeout)
        own = self._surroundings
        if surroundings is not _NONE:
            own = self._with_own(surroundings)
        execution = self._begin(initial_input, executor, limit, listeners)

        def run() -> Execution:
            with using(own):
                return finish(execution, limit, check)

        return execution, run

    def resume(
        self,
        execution_id: str,
        *,
        store: Store | None = None,
        answer: Any = ...,
        start_at: str | None = None,
        timeout: float | timedelta | None = None,
        allow_changed: bool = False,
        executor: ExecutorChoice | None = None,
        check: bool = False,
        listeners: Iterable[Listener] = (),
    ) -> Execution:
        """Go on with a stored execution: one that has died, failed, or was stopped.

        One that has died goes on with the first step that is not recorded. One that is
        FAILED, CANCELLED or TIMED_OUT goes on from the step that failed, with fresh
        attempts and a fresh time limit, as by AWS Step Functions' redrive; of a
        parallel or map step only what had not succeeded is done, and a nested workflow
        goes on from its own failed step. What had followed the failure is set aside.
        One that is COMPLETED is given back. What was under way runs at least once more,
        what is recorded is not done again.

        Args:
            execution_id: The ``id`` of the execution.
            store: Where it is kept; None for the workflow's store.
            answer: Of one that is FAILED: the output of the step that failed, which is
                then not called again, as of what was done by hand.
            start_at: The step to go back to, the latest visit of it.
            timeout: How many seconds it may take from now on; None for what it had.
            allow_changed: Whether to go on where the workflow has another shape than
                it had, if its next step is still there, and where items are others.
            executor: As in ``execute``.
            check: As in ``execute``.
            listeners: As in ``execute``; they are not told of what is recorded.

        Returns:
            As ``execute``: what happened, also before.

        Raises:
            ExecutionNotFoundError: If nothing is stored under this ``id``.
            ExecutionClaimedError: If another process or thread runs it.
            ResumeError: If it cannot go on so: its workflow has another shape, it has
                undone steps, or there is no failure for an ``answer``.
            StepFunctionError: As ``execute``.
        """
        limit: float | None = in_seconds(timeout)
        kept = self._store if store is None else store
        if kept is None:
            problem = "there is no store; give store=, here or to the workflow"
            raise DefinitionError("resume", [problem])
        problems = [*store_problems(kept), *id_problems(execution_id)]
        if problems:
            raise DefinitionError("resume", problems)

        def stored(graph: Graph, _: Any, run: Run) -> Journal:
            from stepfunction.core.engine.stored import resume_stored  # dear

            by_hand = answer is not ..., answer
            wish = (*by_hand, start_at, limit, allow_changed)
            return resume_stored(graph, run, kept, execution_id, *wish)

        execution = self._begin(NOTHING, executor, limit, listeners, stored)
        if has_ended(execution):
            return conclude(execution, check)
        with using(self._surroundings):
            return finish(execution, limit, check)

    def _stored(
        self, store: Store | None, execution_id: str | None, timeout: float | None
    ) -> Stored | None:
        """Give what has a store keep an execution; None where there is none."""
        kept = self._store if store is None else store
        if kept is None and execution_id is None:
            return None
        problems = [*store_problems(store)]
        if execution_id is not None:
            problems += id_problems(execution_id)
        if kept is None:
            text = "execution_id is the id under which a store keeps the execution"
            problems.append(Problem("execution_id", text, "; give store= too"))
        if problems:
            raise DefinitionError("execute", problems)

        def stored(graph: Graph, value: Any, run: Run) -> Journal:
            from stepfunction.core.engine.stored import begin_stored  # dear

            assert kept is not None
            return begin_stored(graph, value, run, kept, execution_id, timeout)

        return stored

    def _with_own(self, surroundings: Iterable[Any]) -> tuple[Any, ...]:
        """Give what is to be around the tasks of an execution, besides all others."""
        problems: list[str] = []
        given = checked_surroundings(surroundings, problems)
        if problems:
            raise DefinitionError("execute", problems)
        return (*self._surroundings, *given)

    def _begin(
        self,
        initial_input: Any,
        executor: ExecutorChoice | None,
        timeout: float | None,
        listeners: Iterable[Listener],
        stored: Stored | None = None,
    ) -> Execution:
        told = (*self._listeners, *checked_arguments(executor, timeout, listeners))
        execution = begin(self.compile(), initial_input, executor, told, stored)
        self._latest = execution
        return execution

    def with_all_nested(self) -> set[StepFunction]:
        """Give this workflow and all that are nested in it, however deep."""
        found, waiting = {self}, [self]
        while waiting:
            for step in waiting.pop()._steps.values():
                new = set(_nested(step)) - found
                found |= new
                waiting += new
        return found


# What was compiled, of which builders, however deep, and the version of each then.
_Compiled: TypeAlias = tuple[Graph, tuple[StepFunction, ...], list[int]]
_versions = count()  # of all builders, so that none has the same twice


def _nested(step: Step) -> Iterator[StepFunction]:
    for _, callee in step.action.callees():
        if callee.nested is not None:
            yield callee.nested
