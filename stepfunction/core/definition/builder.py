"""The builder: how a workflow is defined, with a method for each kind of step."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, Self, TypeAlias, TypeVar

from stepfunction.core.definition.actions import Fail, Pass, Wait
from stepfunction.core.definition.arguments import Calls, Leads, Many
from stepfunction.core.definition.compiling import Compilable
from stepfunction.core.definition.drafts import Draft
from stepfunction.core.durations import in_seconds
from stepfunction.core.errors import DefinitionError, Problem
from stepfunction.core.misspelling import did_you_mean_arguments
from stepfunction.core.wording import did_you_mean, plain_text

if TYPE_CHECKING:
    from datetime import datetime, timedelta

    import tenacity

    from stepfunction.core.step_function import StepFunction
    from stepfunction.core.workers.executors import ExecutorChoice
    from stepfunction.core.workers.retry import RetryPolicy

__tracebackhide__ = True  # pytest shows the test and what is called, not us

Seconds: TypeAlias = "float | timedelta"
Error = TypeVar("Error", bound=BaseException)
BranchChoice: TypeAlias = (
    Mapping[Any, str]
    | Sequence[tuple[Callable[[Any], object], str]]
    | Callable[[Any], str | None]
)


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


class Builder(Compilable):
    """What steps are added to: the half of ``StepFunction`` that defines."""

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
        description: str | None = None,
    ) -> Self:
        """Add a step that calls a function, or several side by side.

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
            description: What it is for, for people: pictures show it where one points
                at the step, reports below its name.

        Returns:
            This builder, for the next call.

        Raises:
            DefinitionError: If the arguments are not sound, with every reason.
        """
        leads = Leads(next_step, on_failure, branch, branch_targets, ends)
        calls = Calls(params, inputs, executor, retry, timeout, heartbeat, compensate)
        output = "mapping" if parallel else None
        draft = Draft(self, name, leads, calls, output, description=description)
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
        description: str | None = None,
    ) -> Self:
        """Add a step that runs another workflow.

        It is given the step's input and gives its last output. If it ends FAILED the
        step has failed. Its own execution is ``execution.children[name]``.

        Args:
            name: The name of the step, unique in this workflow.
            sub_step_function: The workflow to run. Steps that are added to it later
                are seen by the next execution of this one.
            next_step: The step that follows; without one the workflow ends here. With
                ``branch`` it is the default.
            on_failure: The step that follows a failure and is given the exception; or
                exception class to step, of which the first match counts.
            branch: Result to the step that it leads to; or pairs of predicate of the
                output and step, of which the first that holds counts; or a callable of
                the output that gives a step's name, or None for ``next_step``.
            branch_targets: The names that a callable ``branch`` may give.
            executor: Where it runs: ``"inline"``, ``"thread"``, ``"process"``, or any
                ``concurrent.futures.Executor``; in the caller's thread by default.
            retry: How a failed run is made again, from its start.
            timeout: How many seconds an attempt may take; when they are over it stops
                before its next step.
            ends: What an execution that ends here is, ``"completed"`` or ``"failed"``.
                By default it has failed where only ``on_failure`` arrows lead here.
            inputs: Name to the earlier step whose output stands under it in the dict
                that the workflow is given, in the place of the output of the step
                before. Every path that leads here must go through these steps.
            compensate: What undoes the step, called with its output when the execution
                ends FAILED, after those of later steps; without it the steps of the
                workflow are undone, each by what undoes it.
            description: What it is for, for people, shown by pictures and reports.

        Returns:
            This builder, for the next call.

        Raises:
            DefinitionError: If the arguments are not sound, with every reason.
        """
        leads = Leads(next_step, on_failure, branch, branch_targets, ends)
        calls = Calls(None, inputs, executor, retry, timeout, None, compensate)
        draft = Draft(self, name, leads, calls, description=description)
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
        description: str | None = None,
    ) -> Self:
        """Add a step whose tasks run side by side.

        As AWS Step Functions' Parallel state: it fails when any task has failed and
        all have ended, unless it is told otherwise. The output is a mapping of task
        name to result, in the order of ``tasks``.

        Args:
            name: The name of the step, unique in this workflow.
            tasks: Task name to what it calls: a function, any other callable, or a
                StepFunction. Each is given the step's input.
            next_step: The step that follows; without one the workflow ends here. With
                ``branch`` it is the default.
            on_failure: The step that follows a failure and is given the exception; or
                exception class to step, of which the first match counts.
            branch: Pairs of predicate of the output and step, of which the first that
                holds counts; or a callable of the output that gives a step's name, or
                None for ``next_step``. The output is a mapping, so no mapping of
                results.
            stop_on_failure: Whether the first failure past the tolerated ones stops the
                other tasks: those that wait never begin, processes are killed, threads
                see ``context.cancelled`` and are waited for.
            tolerated_failures: How many tasks may fail without the step failing, or
                their share as ``"10%"``; by default none.
            params: Keyword arguments for every task.
            branch_targets: The names that a callable ``branch`` may give.
            executor: Where tasks run: ``"thread"`` (the default), ``"process"``,
                ``"inline"``, or any ``concurrent.futures.Executor``.
            max_workers: How many tasks run at once; by default at most 32 threads, a
                process for each usable CPU, and all on somebody else's executor.
            retry: How failed calls are made again; for each task by itself.
            timeout: How many seconds an attempt of a task may take. A process is then
                killed; a thread, or somebody else's executor, is no longer waited for
                and told through ``context.cancelled``; a nested workflow stops before
                its next step.
            heartbeat: How many seconds an attempt of a task may go on without calling
                ``context.heartbeat()``, on threads and processes of ours.
            ends: What an execution that ends here is, ``"completed"`` or ``"failed"``.
                By default it has failed where only ``on_failure`` arrows lead here.
            inputs: Parameter to the name of the earlier step whose output it takes, in
                the place of the output of the step before. Every path that leads here
                must go through these steps.
            compensate: What undoes the step, called with its output when the execution
                ends FAILED, after those of later steps; or task name to what undoes
                that. It is called once, in the caller's thread.
            description: What it is for, for people, shown by pictures and reports.

        Returns:
            This builder, for the next call.

        Raises:
            DefinitionError: If the arguments are not sound, with every reason.
        """
        leads = Leads(next_step, on_failure, branch, branch_targets, ends)
        calls = Calls(params, inputs, executor, retry, timeout, heartbeat, compensate)
        many = Many(stop_on_failure, max_workers, tolerated_failures)
        draft = Draft(self, name, leads, calls, "mapping", description=description)
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
        description: str | None = None,
    ) -> Self:
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
            next_step: The step that follows; without one the workflow ends here. With
                ``branch`` it is the default.
            on_failure: The step that follows a failure and is given the exception; or
                exception class to step, of which the first match counts.
            branch: Pairs of predicate of the output and step, of which the first that
                holds counts; or a callable of the output that gives a step's name, or
                None for ``next_step``. The output is a list, so no mapping of results.
            params: Keyword arguments for every call.
            branch_targets: The names that a callable ``branch`` may give.
            executor: Where items run: ``"thread"`` (the default), ``"process"``,
                ``"inline"``, or any ``concurrent.futures.Executor``.
            max_workers: How many batches run at once; by default at most 32 threads, a
                process for each usable CPU, and all on somebody else's executor.
            batch_size: How many items are sent together, which makes short calls
                cheap. The function still sees one item at a time.
            stop_on_failure: Whether the first failure past the tolerated ones stops the
                other items: those that wait never begin, processes are killed, threads
                see ``context.cancelled`` and are waited for.
            tolerated_failures: How many items may fail without the step failing, or
                their share as ``"10%"``; by default none.
            keep_results: False to give no list, but a dict of outcome to how many
                items had it.
            retry: How failed calls are made again, for each item by itself.
            timeout: How many seconds an attempt at the call for one item may take. A
                process is then killed; a thread, or somebody else's executor, is no
                longer waited for and told through ``context.cancelled``; a nested
                workflow stops before its next step.
            heartbeat: How many seconds an attempt at the call for one item may go on
                without calling ``context.heartbeat()``, on threads and processes of
                ours.
            ends: What an execution that ends here is, ``"completed"`` or ``"failed"``.
                By default it has failed where only ``on_failure`` arrows lead here.
            inputs: Parameter to the name of the earlier step whose output it takes, in
                the place of the output of the step before. Every path that leads here
                must go through these steps. ``items`` is then one of their names, or a
                callable of a dict of them.
            compensate: What undoes the call for one item, given what it returned.
            description: What it is for, for people, shown by pictures and reports.

        Returns:
            This builder, for the next call.

        Raises:
            DefinitionError: If the arguments are not sound, with every reason.
        """
        leads = Leads(next_step, on_failure, branch, branch_targets, ends)
        calls = Calls(params, inputs, executor, retry, timeout, heartbeat, compensate)
        many = Many(stop_on_failure, max_workers, tolerated_failures)
        draft = Draft(self, name, leads, calls, "list", description=description)
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
        description: str | None = None,
    ) -> Self:
        """Add a step that waits, and passes its input on.

        As AWS Step Functions' Wait state. Waiting ends at once when the execution is
        cancelled or has no time left.

        Args:
            name: The name of the step, unique in this workflow.
            seconds: How long to wait, as seconds or a ``timedelta``, or a callable of
                the input that says it.
            until: When to go on, a datetime with a time zone, or a callable of the
                input that gives one. What has passed is not waited for.
            next_step: The step that follows; without one the workflow ends here.
            on_failure: The step that follows where a callable raises, and is given the
                exception; or exception class to step, of which the first match counts.
            ends: What an execution that ends here is, ``"completed"`` or ``"failed"``.
                By default it has failed where only ``on_failure`` arrows lead here.
            description: What it is for, for people, shown by pictures and reports.

        Returns:
            This builder, for the next call.

        Raises:
            DefinitionError: If the arguments are not sound, with every reason.
        """
        leads = Leads(next_step, on_failure, None, None, ends)
        draft = Draft(self, name, leads, description=description)
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
        description: str | None = None,
    ) -> Self:
        """Add a step that gives a constant, or its input.

        As AWS Step Functions' Pass state; with a ``branch`` as its Choice state.

        Args:
            name: The name of the step, unique in this workflow.
            result: The constant, of which each execution is given a copy; left out,
                the step's input.
            next_step: The step that follows; without one the workflow ends here. With
                ``branch`` it is the default.
            on_failure: The step that follows where nothing matches the ``branch``, and
                is given the exception; or exception class to step, of which the first
                match counts.
            branch: Result to the step that it leads to; or pairs of predicate of the
                output and step, of which the first that holds counts; or a callable of
                the output that gives a step's name, or None for ``next_step``.
            branch_targets: The names that a callable ``branch`` may give.
            ends: What an execution that ends here is, ``"completed"`` or ``"failed"``.
                By default it has failed where only ``on_failure`` arrows lead here.
            description: What it is for, for people, shown by pictures and reports.

        Returns:
            This builder, for the next call.

        Raises:
            DefinitionError: If the arguments are not sound, with every reason.
        """
        leads = Leads(next_step, on_failure, branch, branch_targets, ends)
        draft = Draft(self, name, leads, description=description)
        action = Pass() if result is _INPUT else Pass(True, result)
        return self._add(draft.step(action.checked(draft.problems)))

    @did_you_mean_arguments(**_MEANT)
    def add_fail_step(
        self,
        name: str,
        error: str,
        cause: str | None = None,
        *,
        description: str | None = None,
    ) -> Self:
        """Add a step that ends the execution as FAILED.

        As AWS Step Functions' Fail state. No step takes this failure; ``execute()``
        returns the execution, whose ``error`` is a ``FailStepError``.

        Args:
            name: The name of the step, unique in this workflow.
            error: The name of the error.
            cause: What a person should know of it.
            description: What it is for, for people, shown by pictures and reports.

        Returns:
            This builder, for the next call.

        Raises:
            DefinitionError: If the arguments are not sound, with every reason.
        """
        draft = Draft(self, name, Leads(), description=description)
        return self._add(draft.step(Fail(error, cause).checked(draft.problems)))

    def replace_step(
        self,
        name: str,
        func: Callable[..., Any] | StepFunction | Mapping[str, Any],
    ) -> Self:
        """Let a step call something else; all else of it stays as it is.

        Its place in the workflow, its arrows, params, named inputs, retry, limits and
        compensation stay. To leave this workflow alone, ask its ``copy()``.

        Args:
            name: The name of the step.
            func: What it calls from now on: what a step of its kind is given when it is
                added, so a mapping of task name to callable for a parallel step. A
                step that waits, passes or fails becomes one that calls.

        Returns:
            This builder, for the next call.

        Raises:
            DefinitionError: If there is no step of this name, or it cannot call that,
                with every reason.
        """
        from stepfunction.core.definition.replacing import replaced  # seldom needed

        step = self._steps.get(name) if isinstance(name, str) else None
        if step is None:
            text = f"there is no step of the name {name!r}"
            problem = Problem("name", text, did_you_mean(name, self._steps))
            raise DefinitionError("replace_step", [problem])
        return self._add(replaced(self, step, func))

    def set_start_step(self, name: str) -> Self:
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
