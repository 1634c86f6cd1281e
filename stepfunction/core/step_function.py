"""StepFunction: where a workflow is built, checked, run and drawn.

This half runs it; ``definition.builder`` has the half that defines it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Never, TypeVar

from stepfunction.core.definition.builder import Builder
from stepfunction.core.durations import in_seconds
from stepfunction.core.engine.start import (
    Stored,
    begin,
    carry_out,
    checked_arguments,
    finish,
    finish_apart,
    finish_beside,
    id_problems,
    store_problems,
)
from stepfunction.core.errors import DefinitionError, Problem
from stepfunction.core.history.execution import Execution, conclude, journal_of
from stepfunction.core.history.journal import NOTHING
from stepfunction.core.misspelling import did_you_mean_arguments, unknown_argument
from stepfunction.core.outcomes import Status
from stepfunction.core.surroundings import checked_surroundings, using
from stepfunction.core.watching.events import Listener, checked_listeners
from stepfunction.core.wording import counted
from stepfunction.core.workers.executors import ExecutorChoice

if TYPE_CHECKING:
    from datetime import timedelta

    from stepfunction.core.definition.graph import Graph
    from stepfunction.core.engine.run import Run
    from stepfunction.core.history.journal import Journal
    from stepfunction.core.store import Store

__tracebackhide__ = True  # pytest shows the test and what is called, not us

Error = TypeVar("Error", bound=BaseException)

_NONE: tuple[Any, ...] = ()
# What arguments are called elsewhere, or what to write.
_MEANT = {
    "args": "initial_input",
    "callbacks": "listeners",
    "context": "initial_input",
    "data": "initial_input",
    "error_handler": "on_failure",
    "id": "execution_id",
    "input": "initial_input",
    "max_attempts": "add_step(…, retry=RetryPolicy(max_attempts=…))",
    "on_error": "on_failure",
    "payload": "initial_input",
    "raise_on_failure": "check",
    "retry": "add_step(…, retry=RetryPolicy(max_attempts=…))",
    "start": "set_start_step(…)",
    "start_at": "set_start_step(…)",
    "start_step": "set_start_step(…)",
    "steps": "add_step(…)",
    "value": "initial_input",
}


class StepFunction(Builder):
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
        description: What it is for, for people, shown by pictures and reports.

    Raises:
        DefinitionError: If the arguments are not sound, with every reason.

    >>> greet = StepFunction("Greet")
    >>> _ = greet.add_step("Ask", str.strip, next_step="Shout")
    >>> _ = greet.add_step("Shout", str.upper)
    >>> greet.set_start_step("Ask").execute(" hello ").output
    'HELLO'
    """

    @did_you_mean_arguments(**_MEANT)
    def __init__(
        self,
        name: str,
        *,
        max_steps: int | None = None,
        on_failure: str | Mapping[type[Error], str] | None = None,
        keep_history: int | None = None,
        listeners: Iterable[Listener] = _NONE,
        surroundings: Iterable[Any] = _NONE,
        store: Store | None = None,
        description: str | None = None,
    ) -> None:
        problems: list[str] = list(store_problems(store))
        self._surroundings = checked_surroundings(surroundings, problems)
        self._listeners = checked_listeners(listeners, problems)
        self._store = store
        self._latest: Execution | None = None
        given = (name, max_steps, on_failure, keep_history, description)
        super().__init__(*given, problems)

    def __repr__(self) -> str:
        return f"<StepFunction {self._name!r}: {counted(len(self._steps), 'step')}>"

    def __getstate__(self) -> dict[str, Any]:
        # A copy or a pickle is the definition; what ran is not part of it.
        return {**super().__getstate__(), "_latest": None}

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

    def execute(
        self,
        initial_input: Any = NOTHING,
        *,
        executor: ExecutorChoice | None = None,
        timeout: float | timedelta | None = None,
        check: bool = False,
        listeners: Iterable[Listener] = _NONE,
        surroundings: Iterable[Any] = _NONE,
        store: Store | None = None,
        execution_id: str | None = None,
        keep_locals: bool = False,
        **unknown: Never,
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
            keep_locals: Whether failures that a step takes, or that are tolerated, keep
                the local variables of the functions that they came through, for a
                debugger or a reporter of errors. What is raised does in any case.

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
        if unknown:
            raise unknown_argument(self, StepFunction.execute, unknown, _MEANT)
        execution, limit, own = self._made(
            initial_input,
            executor,
            timeout,
            listeners,
            surroundings,
            store,
            execution_id,
            keep_locals,
        )
        if own:
            with using(own):
                return finish(execution, limit, check)
        try:
            carry_out(execution, limit)
            return conclude(execution, check)
        finally:
            del execution

    @did_you_mean_arguments(**_MEANT)
    def start(
        self,
        initial_input: Any = NOTHING,
        *,
        executor: ExecutorChoice | None = None,
        timeout: float | timedelta | None = None,
        listeners: Iterable[Listener] = _NONE,
        surroundings: Iterable[Any] = _NONE,
        store: Store | None = None,
        execution_id: str | None = None,
        keep_locals: bool = False,
    ) -> Execution:
        """Begin to run the workflow in a thread of its own.

        The program does not wait for it: what still runs when the main thread ends is
        cancelled.

        Args:
            initial_input: The first step's input; without one a default that its
                function has stays as it is, and what requires an input is given None.
            executor: Where every step that has an executor runs in this execution,
                whatever it says itself: ``"inline"`` for tests and debuggers.
            timeout: How many seconds the execution may take, or a ``timedelta``; None
                for no limit. When they are over nothing more begins, processes are
                killed and threads are no longer waited for; a plain step is waited for
                to its end.
            listeners: Callables of one ``Event``, called by the workflow's thread with
                all that happens, after those of the workflow. What one raises is
                logged.
            surroundings: What tasks find around them in other threads and processes,
                and the workflow in its thread, within those of the workflow.
            store: Where the execution is kept; None for the workflow's store, if it has
                one.
            execution_id: The ``id`` under which it is kept there, up to 200 characters;
                None for one of its own. Where there is one of that ``id`` already that
                has died, it goes on from where it stood, and one that has ended is
                given back: nothing is done twice.
            keep_locals: Whether failures that a step takes, or that are tolerated, keep
                the local variables of the functions that they came through, for a
                debugger or a reporter of errors. What is raised does in any case.

        Returns:
            The execution while it runs; look at its ``status`` and ``history``,
            ``wait()`` for it, ``cancel()`` it, and ``raise_if_failed()`` in the end.

        Raises:
            DefinitionError: If the workflow is not sound; nothing has then begun.
        """
        facts = executor, timeout, listeners, surroundings, store, execution_id
        execution, limit, own = self._made(initial_input, *facts, keep_locals)
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
        listeners: Iterable[Listener] = _NONE,
        surroundings: Iterable[Any] = _NONE,
        shield: bool = False,
        store: Store | None = None,
        execution_id: str | None = None,
        keep_locals: bool = False,
        **unknown: Never,
    ) -> Execution:
        """Run the workflow to its end without blocking the event loop.

        The workflow runs in a thread of its own, with the caller's context variables;
        its ``async def`` steps run on the caller's event loop. Cancelling the awaiting
        task cancels the execution, and waits for its end for half a second at most: a
        step that does not heed it goes on in its thread. With ``shield`` the execution
        goes on to its end instead.

        Args:
            initial_input: The first step's input; without one a default that its
                function has stays as it is, and what requires an input is given None.
            executor: Where every step that has an executor runs in this execution,
                whatever it says itself: ``"inline"`` for tests and debuggers.
            timeout: How many seconds the execution may take, or a ``timedelta``; None
                for no limit. When they are over nothing more begins, processes are
                killed and threads are no longer waited for; a plain step is waited for
                to its end.
            check: Whether to raise also where a failure step took the failure.
            listeners: Callables of one ``Event``, called by the workflow's thread with
                all that happens, after those of the workflow. What one raises is
                logged.
            surroundings: What tasks find around them in other threads and processes,
                and the workflow in its thread, within those of the workflow.
            shield: Whether it goes on when the awaiting task is cancelled, as a web
                server does when the client goes away. The program does not wait for
                it, as after ``start()``.
            store: Where the execution is kept; None for the workflow's store, if it has
                one. Where the awaiting task is cancelled, what is stored can go on.
            execution_id: The ``id`` under which it is kept there, up to 200 characters;
                None for one of its own. Where there is one of that ``id`` already that
                has died, it goes on from where it stood, and one that has ended is
                given back, or raises what it raised: nothing is done twice.
            keep_locals: Whether failures that a step takes, or that are tolerated, keep
                the local variables of the functions that they came through, for a
                debugger or a reporter of errors. What is raised does in any case.

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
        if unknown:
            raise unknown_argument(self, StepFunction.aexecute, unknown, _MEANT)
        import asyncio

        loop = asyncio.get_running_loop()
        facts = executor, timeout, listeners, surroundings, store, execution_id
        if store is None and self._store is None:
            execution, limit, own = self._made(initial_input, *facts, keep_locals)
        else:  # which may have to wait for others
            made = asyncio.to_thread(self._made, initial_input, *facts, keep_locals)
            execution, limit, own = await made
        with using(own):
            return await finish_beside(loop, execution, limit, check, shield)

    @did_you_mean_arguments(**_MEANT)
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
        listeners: Iterable[Listener] = _NONE,
        keep_locals: bool = False,
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
            executor: Where every step that has an executor runs in this execution,
                whatever it says itself: ``"inline"`` for tests and debuggers.
            check: Whether to raise also where a failure step took the failure.
            listeners: Callables of one ``Event``, called by this thread with all that
                happens from now on, after those of the workflow; they are not told of
                what is recorded.
            keep_locals: Whether failures that a step takes, or that are tolerated, keep
                the local variables of the functions that they came through, for a
                debugger or a reporter of errors. What is raised does in any case.

        Returns:
            What happened, also before. It is COMPLETED, or FAILED where it ended on a
            failure step.

        Raises:
            ExecutionNotFoundError: If nothing is stored under this ``id``.
            ExecutionClaimedError: If another process or thread runs it.
            ResumeError: If it cannot go on so: its workflow has another shape, it has
                undone steps, or there is no failure for an ``answer``.
            StoreError: If the store fails. It stops before its next step, and can go
                on from there.
            CompensationError: If compensations failed; the others have run.
            StepExecutionError: If a step failed and no step took the failure, or,
                with ``check``, if the execution FAILED. Its ``__cause__`` is the
                step's exception, its ``execution`` what happened until then.
            ExecutionTimeoutError: If it took longer than ``timeout``.
            ExecutionCancelledError: If another thread cancelled the execution.
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

        told = (*self._listeners, *checked_arguments(executor, limit, listeners))
        self._latest = execution = begin(
            self.compile(), NOTHING, executor, told, stored
        )
        journal_of(execution).run.keeps_locals = keep_locals
        with using(self._surroundings):
            return finish(execution, limit, check)

    def _later(
        self,
        initial_input: Any = NOTHING,
        *,
        executor: ExecutorChoice | None = None,
        timeout: float | timedelta | None = None,
        check: bool = False,
        listeners: Iterable[Listener] = _NONE,
        surroundings: Iterable[Any] = _NONE,
        keep_locals: bool = False,
    ) -> tuple[Execution, Callable[[], Execution]]:
        """Give an execution that has not begun, and what runs it as ``execute``."""
        told = executor, timeout, listeners, surroundings, None, None, keep_locals
        execution, limit, own = self._made(initial_input, *told)

        def run() -> Execution:
            with using(own):
                return finish(execution, limit, check)

        return execution, run

    def _made(
        self,
        initial_input: Any,
        executor: ExecutorChoice | None,
        timeout: float | timedelta | None,
        listeners: Iterable[Listener],
        surroundings: Iterable[Any],
        store: Store | None,
        execution_id: str | None,
        keep_locals: bool = False,
    ) -> tuple[Execution, float | None, tuple[Any, ...]]:
        """Give an execution to run, its time limit, and what surrounds its tasks."""
        limit: float | None = None if timeout is None else in_seconds(timeout)
        own = self._surroundings if surroundings is _NONE else self._own(surroundings)
        stored = None
        if store is not None or self._store is not None or execution_id is not None:
            stored = self._stored(store, execution_id, limit)
        told = self._listeners
        if listeners is not _NONE or executor is not None or limit is not None:
            told = (*told, *checked_arguments(executor, limit, listeners))
        execution = begin(self.compile(), initial_input, executor, told, stored)
        self._latest = execution
        if keep_locals:
            journal_of(execution).run.keeps_locals = True
        return execution, limit, own

    def _own(self, surroundings: Iterable[Any]) -> tuple[Any, ...]:
        """Give what is to be around the tasks of an execution, besides all others."""
        problems: list[str] = []
        given = checked_surroundings(surroundings, problems)
        if problems:
            raise DefinitionError("execute", problems)
        return (*self._surroundings, *given)

    def _stored(
        self, store: Store | None, execution_id: str | None, timeout: float | None
    ) -> Stored:
        """Give what has a store keep an execution."""
        kept = self._store if store is None else store
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
